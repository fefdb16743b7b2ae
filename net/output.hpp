// SPDX-License-Identifier: Apache-2.0
// What a process prints, line by line.
#pragma once

#include <places/shm/unique_fd.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace places::net {

/// A line longer than this is cut into several.
inline constexpr std::size_t line_bytes_max = 16 * 1024;

/// Reads one pipe to its end and hands out its lines, without line feeds; the last one also when
/// it has none. Keeps itself alive until then.
/// Thread: the one that runs the io_context.
class output : public std::enable_shared_from_this<output> {
  public:
    struct handlers {
        std::function<void(std::string_view line)> on_line;
        std::function<void()> on_end;  ///< once, last
    };
    static void follow(boost::asio::io_context& io, unique_fd pipe, handlers h);

  private:
    output(boost::asio::io_context& io, unique_fd pipe, handlers h);
    void read_more();
    void take(std::string_view text);

    boost::asio::posix::stream_descriptor pipe_;
    handlers handlers_;
    std::array<char, 4096> buffer_;
    std::string line_;
};

/// Writes `[label] line` to our standard error as one unit.
void print_line(std::string_view label, std::string_view line) noexcept;

}  // namespace places::net
