// SPDX-License-Identifier: Apache-2.0
#include "core/text.hpp"

#include <boost/locale/utf.hpp>

#include <algorithm>

namespace places::detail {
namespace {

// Not for people to read: what a terminal obeys, a line ends at, or the order is turned round by.
// Source: the last are Bidi_Control of Unicode, UAX #9.
bool is_control(char32_t c) noexcept {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x61C || c == 0x200E || c == 0x200F ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

}  // namespace

utf8_character first_character(std::string_view text) noexcept {
    namespace utf = boost::locale::utf;
    const auto first = static_cast<unsigned char>(text.front());
    if (first < 0x80) return {first, 1};
    const auto* at = text.begin();
    const auto code = utf::utf_traits<char>::decode(at, text.end());
    if (!utf::is_valid_codepoint(code)) return {};
    return {code, static_cast<std::size_t>(at - text.begin())};
}

bool is_shown(const utf8_character& c) noexcept { return c.code && !is_control(*c.code); }

std::string printable(std::string_view text, std::size_t bytes_max) {
    std::string line;
    for (std::size_t at = 0; at < text.size();) {
        const auto next = first_character(text.substr(at));
        if (at + next.bytes > bytes_max) return line + "...";
        line += is_shown(next) ? text.substr(at, next.bytes) : "?";
        at += next.bytes;
    }
    return line;
}

std::string printable_text(std::string_view text) {
    return printable_text(text, std::string::npos);
}

std::string printable_text(std::string_view text, std::size_t bytes_max) {
    constexpr std::string_view cut = "...";
    std::string line;
    line.reserve(std::min(text.size(), bytes_max));
    for (std::size_t at = 0; at < text.size() && line.size() <= bytes_max;) {
        const auto next = first_character(text.substr(at));
        const auto part = text.substr(at, next.bytes);
        line += part == "\n" ? "\\n" : part == "\t" || is_shown(next) ? part : "?";
        at += next.bytes;
    }
    if (line.size() <= bytes_max) return line;
    return std::string(shortened(line, bytes_max - cut.size())).append(cut);
}

std::string_view whole_characters(std::string_view text) noexcept {
    namespace utf = boost::locale::utf;
    constexpr std::size_t character_bytes_max = 4;
    for (std::size_t tail = 1; tail < character_bytes_max && tail <= text.size(); ++tail) {
        const auto first = text.size() - tail;
        if (utf::utf_traits<char>::is_trail(text[first])) continue;
        const auto* at = text.begin() + first;
        const bool is_begun = utf::utf_traits<char>::is_lead(text[first]) &&
                              utf::utf_traits<char>::decode(at, text.end()) == utf::incomplete;
        return is_begun ? text.substr(0, first) : text;
    }
    return text;
}

}  // namespace places::detail
