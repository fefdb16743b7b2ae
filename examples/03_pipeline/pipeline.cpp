// SPDX-License-Identifier: Apache-2.0
// Counts the words of a text of any size:
//     03_pipeline FILE [COUNTERS]
//
//                     ┌── counter ──┐
//     FILE ── reader ─┼── counter ──┼─ merger ── standard output, as `sort | uniq -c` prints it
//                     └── counter ──┘
//
// Memory does not grow with the text: a reader that is ahead waits in loan() until a counter has
// room in its ring. COUNTERS is the number of cores by default; 0 counts in this process alone.
#include "words.hpp"

#include <places/places.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

constexpr std::size_t ring_bytes = 1 << 20;
constexpr std::size_t block_bytes = ring_bytes / 4;  // the largest loan

using word_count = std::pair<std::string, std::int64_t>;

void count_blocks(places::channel& text) {
    word_table table;
    while (const auto block = text.peek()) {  // the bytes lie in the ring: nothing is copied
        count_words({reinterpret_cast<const char*>(block->data()), block->size()}, table);
        text.release();  // the reader may write there again
    }
    auto merger = places::connect_to_named_place("merger");
    const std::vector<word_count> all(table.begin(), table.end());
    if (merger.put_batch(all).state != places::status::ok) throw std::runtime_error("no merger");
}

void read_text(places::channel&, std::string file, unsigned counter_count) {
    std::ifstream text(file, std::ios::binary);
    if (!text) throw std::runtime_error("cannot open " + file);
    std::vector<places::place> counters(counter_count);
    for (auto& each : counters) each = places::spawn({.ring_bytes = ring_bytes}, count_blocks);
    std::string half_word;
    for (std::size_t turn = 0; text; ++turn) {
        auto& next = counters[turn % counter_count];
        const auto room = next.loan(block_bytes).value();  // waits for the counter while it is full
        next.publish(
            read_block(text, half_word, {reinterpret_cast<char*>(room.data()), block_bytes}));
    }
    if (text.bad()) throw std::runtime_error("cannot read " + file);
    for (auto& each : counters) each.close();
    for (auto& each : counters) {
        const auto how = each.wait();
        if (how != places::exit_status{}) throw std::runtime_error("a counter: " + to_string(how));
    }
}

void merge_tables(places::inbox& in, unsigned counter_count) {
    std::map<std::string, std::int64_t> totals;
    while (counter_count > 0) {
        const auto event = in.get_event().value();
        if (const auto* sent = std::get_if<places::inbox::item>(&event)) {
            const auto [word, times] = sent->content.as<word_count>().value();
            totals[word] += times;
        } else if (const auto* end = std::get_if<places::inbox::ended>(&event)) {
            if (end->why != places::status::closed) throw std::runtime_error("a counter has died");
            --counter_count;
        }
    }
    print(totals);
}

// The same without places, to compare with.
void count_alone(const std::string& file) {
    std::ifstream text(file, std::ios::binary);
    if (!text) throw std::runtime_error("cannot open " + file);
    std::vector<char> block(block_bytes);
    std::string half_word;
    word_table table;
    while (text) count_words({block.data(), read_block(text, half_word, block)}, table);
    print({table.begin(), table.end()});
}

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    if (argc < 2) {
        std::cerr << "03_pipeline FILE [COUNTERS]\n";
        return 2;
    }
    const auto cores = std::max(1U, std::thread::hardware_concurrency());
    const auto counter_count = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : cores;
    if (counter_count == 0) {
        count_alone(argv[1]);
        return 0;
    }
    auto merger = places::spawn({.named = "merger"}, merge_tables, counter_count);
    auto reader = places::spawn(read_text, std::string(argv[1]), counter_count);
    // Each error is on standard error already. With a counter lost, no total would be right.
    if (reader.wait() != places::exit_status{}) return 1;
    return merger.wait() == places::exit_status{} ? 0 : 1;
}
