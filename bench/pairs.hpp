// SPDX-License-Identifier: Apache-2.0
// Contestants of two processes, from a body and something to talk through.
#pragma once

#include "bench/bodies.hpp"
#include "bench/harness.hpp"
#include "bench/peers/peer.hpp"
#include "bench/process_pair.hpp"
#include "bench/subjects.hpp"

#include <places/core/place.hpp>

#include <memory>

namespace places::bench {

/// Over memory that both have: `Memory` is made before the fork, an `End` in each process.
template <class End, class Memory, class Body>
contestant forked(const harness& h, std::string name, const Body& body, const link_options& o) {
    auto memory = std::make_shared<Memory>(o);
    const auto core = h.near_core();
    auto both = std::make_shared<process_pair>(
        [memory, body, core]() -> slice_body {
            pin_to(core);
            auto end = std::make_shared<End>(*memory, side::near);
            return [end, body](report& r) { body.near(*end, r); };
        },
        std::vector<std::function<void()>>{[memory, body] {
            pin_to(body.far_core);
            End end{*memory, side::far};
            body.far(end);
        }});
    return {std::move(name), false, [both]() -> const report& { return both->run(); }};
}

/// What runs on the core of its side: the process with the threads that its end starts; the one
/// that calls, while those run where they can; nothing.
enum class pins { all, caller, none };

/// Over a peer's link.
template <class Body>
contestant linked(const harness& h, const peer& p, const Body& body, const link_options& o,
                  pins what = pins::all) {
    const auto core = h.near_core();
    const std::shared_ptr<link> between = p.make(o);
    auto both = std::make_shared<process_pair>(
        [between, body, core, what]() -> slice_body {
            if (what == pins::all) pin_to(core);
            const std::shared_ptr<end> e = between->open(side::near);
            if (what == pins::caller) pin_to(core);
            return [e, body](report& r) { body.near(*e, r); };
        },
        std::vector<std::function<void()>>{[between, body, what] {
            if (what == pins::all) pin_to(body.far_core);
            const auto e = between->open(side::far);
            if (what == pins::caller) pin_to(body.far_core);
            body.far(*e);
        }});
    // The link outlives the processes: it may hold what both need, such as a daemon.
    return {p.name, false, [between, both]() -> const report& { return both->run(); }};
}

template <class Body>
contestant peer_pair(const harness& h, const peer& p, const Body& body, const link_options& o) {
    if (p.launch) {
        const packed_body packed{Body::kind, std::as_bytes(std::span{&body, 1})};
        return {p.name, false, p.launch(packed, h.near_core())};
    }
    if (!p.has_threads || !o.spins) return linked(h, p, body, o);
    auto asleep = o;
    asleep.spins = false;
    // Who spins takes the core from threads that share it, and who sleeps may like them near.
    return faster_of(
        linked(h, p, body, o, pins::caller),
        faster_of(linked(h, p, body, asleep, pins::all), linked(h, p, body, asleep, pins::none)));
}

/// The peer process as a place's entry.
template <class Body>
void far_place(channel& to_creator, Body body) {
    pin_to(body.far_core);
    try {
        with_channel_end(to_creator, body.size, [&](auto end) { body.far(end); });
    } catch (const link_closed&) {
        // The contest is over.
    }
}

/// Over the channel between this process and a place.
template <class Body>
contestant placed(const harness& h, std::string name, const Body& body, const link_options& o) {
    auto other =
        std::make_shared<place>(spawn({.named = {}, .ring_bytes = o.room}, &far_place<Body>, body));
    auto found = std::make_shared<report>();
    const auto core = h.near_core();
    return {std::move(name), true, [other, found, body, core]() -> const report& {
                const pinned here{core};
                *found = {};
                with_channel_end(*other, body.size, [&](auto end) { body.near(end, *found); });
                return *found;
            }};
}

/// All peers that there are and that were asked for; those that cannot are listed.
template <class Body>
void add_peers(harness& h, contest& c, const Body& body, const link_options& o) {
    for (const auto& p : peers()) {
        if (!h.wants_peer(p.name)) continue;
        if (!o.spins && !p.can_sleep) {
            h.miss(p.name, "cannot sleep: it always polls");
            continue;
        }
        h.try_add(c, p.name, [&] { return peer_pair(h, p, body, o); });
    }
    for (const auto& m : missing_peers()) h.miss(m.name, m.why);
}

}  // namespace places::bench
