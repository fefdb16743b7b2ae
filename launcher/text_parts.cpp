// SPDX-License-Identifier: Apache-2.0
#include "launcher/text_parts.hpp"

#include <boost/algorithm/string/case_conv.hpp>
#include <boost/algorithm/string/replace.hpp>
#include <boost/algorithm/string/split.hpp>
#include <boost/endian/conversion.hpp>
#include <openssl/evp.h>

#include <algorithm>
#include <locale>

namespace places::launcher {

namespace {

bool is_blank(char c) noexcept { return c == ' ' || c == '\t' || c == '\r'; }

}  // namespace

std::vector<std::string> words_of(std::string_view line) {
    std::vector<std::string> words;
    boost::split(words, line, is_blank);
    std::erase(words, "");
    return words;
}

std::vector<std::string> quoted_words_of(std::string_view line) {
    std::vector<std::string> words;
    std::string word;
    char quote = '\0';
    bool any = false;
    for (std::size_t i = 0; i < line.size(); ++i) {
        const char c = line[i];
        const char next = i + 1 < line.size() ? line[i + 1] : '\0';
        if (quote == '\0' && is_blank(c)) {
            if (any) words.push_back(std::move(word));
            word.clear();
            any = false;
            continue;
        }
        any = true;
        if (c == '\\' &&
            (next == '\'' || next == '"' || next == '\\' || (quote == '\0' && next == ' '))) {
            word += next;
            ++i;
        } else if (quote == '\0' && (c == '"' || c == '\'')) {
            quote = c;
        } else if (c == quote) {
            quote = '\0';
        } else {
            word += c;
        }
    }
    if (any) words.push_back(std::move(word));
    return words;
}

bool matches_pattern(std::string_view pattern, std::string_view text) noexcept {
    std::size_t p = 0;
    std::size_t t = 0;
    std::size_t star = std::string_view::npos;
    std::size_t taken = 0;
    while (t < text.size()) {
        if (p < pattern.size() && pattern[p] == '*') {
            star = p++;
            taken = t;
        } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
            ++p;
            ++t;
        } else if (star != std::string_view::npos) {
            // The last star takes one octet more.
            p = star + 1;
            t = ++taken;
        } else {
            return false;
        }
    }
    while (p < pattern.size() && pattern[p] == '*') ++p;
    return p == pattern.size();
}

bool matches_any(std::span<const std::string> patterns, std::string_view text) noexcept {
    bool found = false;
    for (const std::string_view each : patterns) {
        const bool negated = each.starts_with('!');
        if (!matches_pattern(each.substr(negated ? 1 : 0), text)) continue;
        if (negated) return false;
        found = true;
    }
    return found;
}

std::string to_lower(std::string_view text) {
    return boost::to_lower_copy(std::string(text), std::locale::classic());
}

std::string to_base64(std::string_view octets) {
    std::string text((octets.size() + 2) / 3 * 4 + 1, '\0');
    const int size = ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                       reinterpret_cast<const unsigned char*>(octets.data()),
                                       static_cast<int>(octets.size()));
    text.resize(static_cast<std::size_t>(size));
    return text;
}

std::string from_base64(std::string_view text) {
    if (text.empty() || text.size() % 4 != 0) return {};
    std::string octets(text.size() / 4 * 3, '\0');
    const int size = ::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(octets.data()),
                                       reinterpret_cast<const unsigned char*>(text.data()),
                                       static_cast<int>(text.size()));
    if (size < 0) return {};
    const auto padding = text.size() - 1 - text.find_last_not_of('=');
    octets.resize(static_cast<std::size_t>(size) - std::min<std::size_t>(padding, 2));
    return octets;
}

std::optional<std::string_view> take_string(std::string_view& from) noexcept {
    if (from.size() < 4) return std::nullopt;
    const std::size_t size =
        boost::endian::load_big_u32(reinterpret_cast<const unsigned char*>(from.data()));
    if (size > from.size() - 4) return std::nullopt;
    const auto taken = from.substr(4, size);
    from.remove_prefix(4 + size);
    return taken;
}

std::string shell_word(std::string_view text) {
    std::string word(text);
    boost::replace_all(word, "'", "'\\''");
    word.insert(word.begin(), '\'');
    word += '\'';
    return word;
}

}  // namespace places::launcher
