// SPDX-License-Identifier: Apache-2.0
// A node in a control group of GROUP_MIB, into which in_memory_group.sh puts it: what it has no
// memory for is refused, and its processes live.  Exit status 0 if so.
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
constexpr std::size_t group_mib = GROUP_MIB;
constexpr std::size_t quota_mib = group_mib / 4;
constexpr std::size_t link_ring_kib = group_mib / 2;
constexpr std::size_t ring_mib = group_mib / 64;

std::string in_mib(std::size_t count) {
    return count % 1024 == 0 ? std::to_string(count / 1024) + " GiB"
                             : std::to_string(count) + " MiB";
}

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
    const auto text =
        refusal_of([] { (void)spawn({.ring_bytes = quota_mib * mib}, [](channel&) {}); });
    (void)creator.put(text);
}

}  // namespace

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    // More than there is, by the root.
    expect_words(refusal_of([] { (void)spawn({.ring_bytes = group_mib * mib}, [](channel&) {}); }),
                 {"rings of " + in_mib(group_mib), in_mib(2 * group_mib), in_mib(group_mib) + " (",
                  "memory.", "ring_bytes"});
    // More than its quota, by a place.
    auto greedy = spawn(asks_for_too_much);
    expect_words(greedy.get<std::string>().value(),
                 {"rings of " + in_mib(quota_mib), "one place may ask for " + in_mib(quota_mib),
                  "a quarter"});
    auto server = spawn({.named = "server"}, serve);
    // All that other nodes ask for, by their links, has one quota.
    {
        auto node = runtime.spawn_remote_node("localhost", {.listen_port = 0});
        auto there = node.supervise_place(serve_entry, {.named = "there"});
        std::vector<channel> links;
        std::string why = "no error";
        while (links.size() < 900 && why == "no error") {
            why = refusal_of([&] {
                links.push_back(node.connect_to_named_place("there", link_ring_kib * 1024));
            });
        }
        expect_words(why, {"rings of " + std::to_string(link_ring_kib) + " KiB", "the bridge",
                           in_mib(quota_mib), "a quarter"});
        links.clear();
    }
    // As much as there is, piece by piece: the last is refused, and all live.
    std::vector<channel> all;
    std::string text = "no error";
    while (all.size() < 100 && text == "no error") {
        text = refusal_of(
            [&] { all.push_back(places::connect_to_named_place("server", ring_mib * mib)); });
        if (text != "no error") break;
        expect(all.back().put(1) == places::status::ok && all.back().get<int>().value() == 1,
               "a connection answers");
    }
    expect(all.size() >= 10, "there was room for ten, not " + std::to_string(all.size()));
    expect_words(text,
                 {"rings of " + in_mib(ring_mib), "are left", "kept for the node's processes"});
    all.clear();
    // The memory is free once the server has let go of its ends too.
    std::vector<channel> again;
    while (again.empty()) {
        (void)refusal_of(
            [&] { again.push_back(places::connect_to_named_place("server", ring_mib * mib)); });
    }
    expect(again[0].put(2) == places::status::ok && again[0].get<int>().value() == 2,
           "what was closed is there again");
    server.kill();
    return failures == 0 ? 0 : 1;
}
