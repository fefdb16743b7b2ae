// SPDX-License-Identifier: Apache-2.0 - What do a thousand connected clients cost a server?
//
// A named place answers whoever asks. One client active among many is compared with one that is
// alone; then all are active, each with one request under way, and none may wait much longer than
// the others.
#include "bench/bodies.hpp"
#include "bench/concurrent_clients.hpp"
#include "bench/process_pair.hpp"
#include "bench/questions/questions.hpp"
#include "bench/subjects.hpp"

#include <places/core/place.hpp>

#include <fmt/format.h>

#include <memory>

namespace places::bench {
namespace {

void answer_all(inbox& in, int core) {
    pin_to(core);
    while (auto next = in.get()) {
        if (next->from.send(next->content) == status::corrupt) return;
    }
}

constexpr std::size_t message_bytes = sizeof(request);

struct concurrent_clients {
    place server;
    std::vector<channel> clients;
};

std::shared_ptr<concurrent_clients> connected(const harness& h, const std::string& name,
                                              int count) {
    auto c = std::make_shared<concurrent_clients>();
    c->server = spawn({.named = name, .ring_bytes = ring_bytes_default}, &answer_all, h.far_core());
    for (int i = 0; i < count; ++i) {
        c->clients.push_back(connect_to_named_place(name, shm::ring_bytes_min));
    }
    // A connection is there for the server once it has answered.
    const request word{};
    for (auto& client : c->clients) {
        if (client.put(word) != status::ok || !client.get<request>()) {
            throw link_closed("the server does not answer");
        }
    }
    return c;
}

contestant one_active(const harness& h, const std::string& name, bool is_subject, int count) {
    auto both = connected(h, "fanin-" + name, count);
    const round_trips body{message_bytes, h.clock(), h.slice().count(), 0, h.far_core()};
    auto found = std::make_shared<report>();
    return {name, is_subject, [=]() -> const report& {
                *found = {};
                block_end<message_bytes> end{both->clients.back()};
                body.near(end, *found);
                return *found;
            }};
}

contestant all_active(const harness& h, int count) {
    auto both = connected(h, "fanin-all", count);
    auto found = std::make_shared<report>();
    const auto clock = h.clock();
    const auto until = clock.ticks(h.slice());
    return {"all_active", false, [=]() -> const report& {
                *found = {};
                ask_all(both->clients, clock, until, *found);
                return *found;
            }};
}

}  // namespace

void fanin(harness& h) {
    const auto count = h.asked().count ? h.asked().count : h.asked().quick ? 20 : 1000;
    pin_to(h.near_core());
    contest one{message_bytes, figure::time, {}};
    one.entries.push_back(one_active(h, "places", true, count));
    one.entries.push_back(one_active(h, "single", false, 1));
    h.measure(std::move(one));

    contest all{message_bytes, figure::time, {}};
    auto everybody = all_active(h, count);
    std::vector<double> longest;
    all.entries.push_back({everybody.name, false, [&]() -> const report& {
                               const auto& r = everybody.run();
                               longest.push_back(static_cast<double>(r.times.max()) /
                                                 static_cast<double>(r.times.at_percentile(50)));
                               return r;
                           }});
    h.measure(std::move(all));
    // The first slice was the warm-up.
    if (!longest.empty()) longest.erase(longest.begin());
    h.summarise("places", "median_wait", message_bytes, longest, {{"figure", "longest_wait"}});
}

}  // namespace places::bench
