// SPDX-License-Identifier: Apache-2.0
// A node in a control group of 256 MiB, into which in_memory_group.sh puts it: what it has no
// memory for is refused, and its processes live.  Exit status 0 if so.
#include "tests/support/sanitized.hpp"

#include <places/places.hpp>

#include <cstdio>
#include <string>
#include <unistd.h>
#include <vector>

using places::channel;
using places::spawn;

namespace {

int failures = 0;

void expect(bool is_right, const std::string& what) {
    if (is_right) return;
    ++failures;
    std::fprintf(stderr, "not so: %s\n", what.c_str());
}

constexpr std::size_t mib = std::size_t{1} << 20;

/// The words of the error that `f` throws.
template <class F>
std::string refusal_of(F&& f) {
    try {
        f();
    } catch (const places::error& e) {
        return e.code() == places::errc::start_failed ? e.what()
                                                      : "another error: " + e.code().message();
    }
    return "no error";
}

void expect_words(const std::string& text, const std::vector<std::string>& words) {
    for (const auto& word : words) {
        expect(text.find(word) != text.npos, "\"" + text + "\" has \"" + word + "\"");
    }
}

void serve(places::inbox& in) {
    while (auto each = in.get()) {
        if (each->from.send(each->content) != places::status::ok) return;
    }
}

const auto serve_entry = places::register_entry<serve>("serve");

/// What one place may ask for is a quarter of the group's memory.
void asks_for_too_much(channel& creator) {
    const auto text = refusal_of([] { (void)spawn({.ring_bytes = 64 * mib}, [](channel&) {}); });
    (void)creator.put(text);
}

}  // namespace

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    // More than there is, by the root.
    expect_words(refusal_of([] { (void)spawn({.ring_bytes = 256 * mib}, [](channel&) {}); }),
                 {"rings of 256 MiB", "512 MiB", "256 MiB (", "memory.", "ring_bytes"});
    // More than its quota, by a place.
    auto greedy = spawn(asks_for_too_much);
    expect_words(greedy.get<std::string>().value(),
                 {"rings of 64 MiB", "one place may ask for 64 MiB", "a quarter"});
    auto server = spawn({.named = "server"}, serve);
    // All that other nodes ask for, by their links, has one quota. Not under a sanitizer: what that
    // keeps beside each process of the second node leaves no room for the quota in the group.
    if (!is_sanitized) {
        auto node = runtime.spawn_remote_node("localhost", {.listen_port = 0});
        auto there = node.supervise_place(serve_entry, {.named = "there"});
        std::vector<channel> links;
        std::string why = "no error";
        while (links.size() < 900 && why == "no error") {
            why =
                refusal_of([&] { links.push_back(node.connect_to_named_place("there", mib / 8)); });
        }
        expect_words(why, {"rings of 128 KiB", "the bridge", "64 MiB", "a quarter"});
        links.clear();
    }
    // As much as there is, piece by piece: the last is refused, and all live.
    std::vector<channel> all;
    std::string text = "no error";
    while (all.size() < 100 && text == "no error") {
        text =
            refusal_of([&] { all.push_back(places::connect_to_named_place("server", 4 * mib)); });
        if (text != "no error") break;
        expect(all.back().put(1) == places::status::ok && all.back().get<int>().value() == 1,
               "a connection answers");
    }
    expect(all.size() >= 10, "there was room for ten, not " + std::to_string(all.size()));
    expect_words(text, {"rings of 4 MiB", "are left", "kept for the node's processes"});
    all.clear();
    // The memory is free once the server has let go of its ends too.
    std::vector<channel> again;
    while (again.empty()) {
        (void)refusal_of(
            [&] { again.push_back(places::connect_to_named_place("server", 4 * mib)); });
    }
    expect(again[0].put(2) == places::status::ok && again[0].get<int>().value() == 2,
           "what was closed is there again");
    server.kill();
    return failures == 0 ? 0 : 1;
}
