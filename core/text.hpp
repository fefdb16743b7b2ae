// SPDX-License-Identifier: Apache-2.0
// Text that must fit what carries it (a record, a packet, a frame), and text of others, who may
// have written anything. Not installed.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
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

struct utf8_character {
    std::optional<char32_t> code;  // none of one byte that begins no character
    std::size_t bytes = 1;
};

/// What `text` begins with.
/// Shape:  not empty.
/// Throws: never.
utf8_character first_character(std::string_view text) noexcept;

/// Whether a terminal shows it and does nothing else: no control character, of C0 or C1 or for
/// lines, paragraphs or the direction of text.
bool is_shown(const utf8_character& c) noexcept;

/// `text` as one line for people: each character that is not shown becomes one '?', and so does
/// each byte that is no UTF-8. Cut before the character that does not end within `bytes_max` bytes.
std::string printable(std::string_view text, std::size_t bytes_max = 200);

/// The same for a text that may have several lines, whole: a line feed becomes the two characters
/// `\n`, so that no text makes a line of its own, and a tab stays.
std::string printable_text(std::string_view text);
/// And of at most `bytes_max` bytes, at least 3: what is longer is cut, and ends with "...".
std::string printable_text(std::string_view text, std::size_t bytes_max);

/// `text` without an unfinished UTF-8 character at its end.
std::string_view whole_characters(std::string_view text) noexcept;

}  // namespace places::detail
