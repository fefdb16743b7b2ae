// SPDX-License-Identifier: Apache-2.0
// Words of a text: read block by block, counted, printed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iomanip>
#include <iostream>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>

// With these two a std::string_view finds its word, and no std::string is made for it.
struct text_hash : std::hash<std::string_view> {
    using is_transparent = void;
};
using word_table = std::unordered_map<std::string, std::int64_t, text_hash, std::equal_to<>>;

// A word is a run of the letters a to z and A to Z.
inline bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

inline void count_words(std::string_view text, word_table& table) {
    for (auto at = text.begin();;) {
        const auto first = std::find_if(at, text.end(), is_letter);
        if (first == text.end()) return;
        at = std::find_if_not(first, text.end(), is_letter);
        const std::string_view word{&*first, static_cast<std::size_t>(at - first)};
        if (const auto known = table.find(word); known != table.end()) {
            ++known->second;
        } else {
            table.emplace(word, 1);
        }
    }
}

// Reads on behind the half word that the last block has ended with, and keeps the one that this
// block ends with. Returns: the size of the whole words.
inline std::size_t read_block(std::istream& text, std::string& half_word, std::span<char> block) {
    const auto old = half_word.copy(block.data(), block.size());
    text.read(block.data() + old, static_cast<std::streamsize>(block.size() - old));
    const auto* end = block.data() + old + text.gcount();
    const auto* cut = end;
    if (text) {  // the file goes on
        while (cut != block.data() && is_letter(cut[-1])) --cut;
        if (cut == block.data()) throw std::runtime_error("a word is longer than a block");
    }
    half_word.assign(cut, end);
    return static_cast<std::size_t>(cut - block.data());
}

// As `uniq -c` prints it.
inline void print(const std::map<std::string, std::int64_t>& totals) {
    for (const auto& [word, times] : totals) {
        std::cout << std::setw(7) << times << ' ' << word << '\n';
    }
    std::cout.flush();
}
