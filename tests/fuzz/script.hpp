// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets share: an input that is read as a script, and the way to say what is wrong.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace places::fuzz {

/// Ends the process, which a fuzzer reports with the input that led here.
inline void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "fuzz: broken: %s\n", what);
    std::abort();
}

/// Reads an input from front to back; zeroes follow its end.
class script {
  public:
    explicit script(std::span<const std::byte> bytes) noexcept : rest_(bytes) {}

    bool is_over() const noexcept { return rest_.empty(); }
    template <class Number>
    Number take() noexcept {
        Number value{};
        const auto bytes = take_bytes(sizeof value);
        if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
        return value;
    }
    /// At most `count` bytes.
    std::span<const std::byte> take_bytes(std::size_t count) noexcept {
        const auto bytes = rest_.first(std::min(count, rest_.size()));
        rest_ = rest_.subspan(bytes.size());
        return bytes;
    }

  private:
    std::span<const std::byte> rest_;
};

}  // namespace places::fuzz
