// SPDX-License-Identifier: Apache-2.0
// Text that must fit what carries it: a record, a packet, a frame. Not installed.
#pragma once

#include <cstddef>
#include <string_view>

namespace places::detail {

/// The longest beginning of `text` of at most `bytes_max`, without half a UTF-8 character.
inline std::string_view shortened(std::string_view text, std::size_t bytes_max) noexcept {
    if (text.size() <= bytes_max) return text;
    auto size = bytes_max;
    while (size > 0 && bytes_max - size < 4 &&
           (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) {
        --size;
    }
    return text.substr(0, size);
}

}  // namespace places::detail
