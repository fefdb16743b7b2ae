// SPDX-License-Identifier: Apache-2.0
// Text from others, who may have written anything.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace places::net {

struct utf8_character {
    std::optional<char32_t> code;  // none of one byte that begins no character
    std::size_t bytes = 1;
};

/// What `text` begins with.
/// Shape:  not empty.
/// Throws: never.
utf8_character first_character(std::string_view text) noexcept;

}  // namespace places::net
