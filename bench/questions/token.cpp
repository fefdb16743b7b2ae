// SPDX-License-Identifier: Apache-2.0 - How often does a token go on in a ring of processes?
//
// Thirty-two on two cores, so that most of the time it goes to one that sleeps. The limit is a ring
// of as many bare futex hand-offs on the same cores; two_places is the hand-off between two that
// have a core each. With --cores 1 it has to move still.
#include "bench/chains.hpp"
#include "bench/limits.hpp"
#include "bench/pairs.hpp"
#include "bench/questions/questions.hpp"

#include <places/core/place.hpp>

namespace places::bench {
namespace {

using token_block = block<64>;
constexpr std::size_t token_bytes = sizeof(token_block);
constexpr const char* ring_name = "token-ring";

struct laps {
    int count;
    std::int64_t slice_ns;
};

/// Runs `lap` for a slice. Returns: hand-offs per second.
template <class Lap>
double handoffs(const laps& l, Lap&& lap) {
    using clock = std::chrono::steady_clock;
    lap();
    const auto begun = clock::now();
    const auto until = begun + std::chrono::nanoseconds{l.slice_ns};
    auto now = begun;
    std::int64_t done = 0;
    do {
        lap();
        ++done;
        now = clock::now();
    } while (now < until);
    const std::chrono::duration<double> taken = now - begun;
    return static_cast<double>(done * l.count) / taken.count();
}

/// Hands on to the place behind; the last one to the first.
void member(channel& from, int behind, int cores) {
    pin_to_first(cores);
    channel first;
    place next;
    if (behind == 0) {
        first = connect_to_named_place(ring_name);
    } else {
        next = spawn(&member, behind - 1, cores);
    }
    channel& to = behind == 0 ? first : next;
    while (auto token = from.get<token_block>()) {
        if (to.put(*token) != status::ok) return;
    }
}

/// The first of the ring: laps on its creator's order, then tells how often it was handed on.
void leader(inbox& in, laps l, int cores) {
    pin_to_first(cores);
    auto next = spawn(&member, l.count - 2, cores);
    const token_block token{};
    while (auto order = in.get()) {
        if (!order->content.as<std::uint64_t>()) continue;
        const auto rate = handoffs(l, [&] {
            if (next.put(token) != status::ok || !in.get()) throw link_closed("the ring is cut");
        });
        if (order->from.put(rate) != status::ok) return;
    }
}

contestant of_places(const laps& l, int cores) {
    auto first = std::make_shared<place>(
        spawn({.named = ring_name, .ring_bytes = ring_bytes_default}, &leader, l, cores));
    auto found = std::make_shared<report>();
    return {"places", true, [=]() -> const report& {
                *found = {};
                const auto sent = first->put(std::uint64_t{1});
                const auto rate = first->get<double>();
                if (sent != status::ok || !rate) throw link_closed("the ring does not answer");
                found->per_second = *rate;
                return *found;
            }};
}

template <rest Who>
contestant futex_ring(const chain& between, const link_options& o) {
    return chained({"limit", make_link_over<futex_end<Who>, word_pair>}, between, o);
}

}  // namespace

void token(harness& h) {
    const auto cores = h.asked().cores ? h.asked().cores : 2;
    const laps l{h.asked().count ? h.asked().count : 32, 4 * h.slice().count()};
    const link_options options{token_bytes, ring_bytes_default, false};
    contest c{0, figure::rate, {}};
    const chain between{.count = l.count,
                        .closed = true,
                        .cores = cores,
                        .near =
                            [l](end* next, end* last, report& r) {
                                std::vector<std::byte> message(token_bytes);
                                r.per_second = handoffs(l, [&] {
                                    next->send(message);
                                    last->receive(message);
                                });
                            },
                        .stage =
                            [](end& from, end* to) {
                                std::vector<std::byte> message(token_bytes);
                                while (true) {
                                    from.receive(message);
                                    to->send(message);
                                }
                            }};
    c.entries.push_back(faster_of(futex_ring<rest::both_at_once>(between, options),
                                  futex_ring<rest::both_after_looks>(between, options)));
    add_chains(h, c, between, options);
    c.entries.push_back(of_places(l, cores));
    const round_trips body{token_bytes, h.clock(), h.slice().count(), 0, h.far_core()};
    auto two = placed(h, "two_places", body, options);
    two.is_subject = false;
    two.run = [inner = two.run, found = std::make_shared<report>()]() -> const report& {
        // Each round trip is two hand-offs; the median leaves out what the machine did besides.
        const auto& r = inner();
        found->per_second = 2e9 / static_cast<double>(r.times.at_percentile(50));
        return *found;
    };
    c.entries.push_back(std::move(two));
    h.measure(std::move(c));
}

}  // namespace places::bench
