// SPDX-License-Identifier: Apache-2.0
// Cuts a stream of bytes into lines. Not installed.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace places::net {

/// A line longer than this is cut into several, between two characters.
inline constexpr std::size_t line_bytes_max = 16 * 1024;

/// Cuts a stream of bytes into lines. It reads from no descriptor: its owner adds the bytes that it
/// has read, and then takes lines until there are no more.
/// A line that is longer than the limit comes in parts. Each part is within the limit and ends
/// between two UTF-8 characters. An owner that takes all lines after each add() therefore holds no
/// more than the limit and what it has added last.
/// Thread: one at a time.
class line_reader {
  public:
    /// Shape: `bytes_max` is 4 or more, so that each part has a whole character.
    explicit line_reader(std::size_t bytes_max) noexcept : bytes_max_(bytes_max) {}
    line_reader() noexcept = default;

    /// Adds the next bytes of the stream.
    void add(std::string_view bytes);
    /// Takes the next line, without its line feed, or the next part of a long line.
    /// Returns: nothing while no line is complete. The text is valid until add() or rest().
    std::optional<std::string_view> next() noexcept;
    /// Takes all that next() has not taken, line feeds included. At the end of the stream, and
    /// after all lines are taken, this is the last line, which has no line feed.
    std::string rest();

  private:
    std::size_t bytes_max_ = line_bytes_max;
    std::string text_;
    std::size_t taken_ = 0;     // the bytes before this are taken
    std::size_t searched_ = 0;  // there is no line feed between taken_ and this
};

}  // namespace places::net
