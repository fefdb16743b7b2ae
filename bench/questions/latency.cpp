// SPDX-License-Identifier: Apache-2.0 - How long does a message take there and back?
//
// Both sides awake: against a bare cache-line round trip. With --blocking the peer is asleep
// each time: against a bare futex hand-off there and, whichever is faster, another one back or a
// cache line that the near side looks at.
#include "bench/limits.hpp"
#include "bench/pairs.hpp"
#include "bench/questions/questions.hpp"

namespace places::bench {

void latency(harness& h) {
    using namespace std::chrono_literals;
    const bool blocking = h.asked().blocking;
    // Longer than any of them spins before it sleeps.
    const auto pause = blocking ? 250us : 0us;
    for (const auto size : h.sizes_or({8, 48, 64, 1024, 65536})) {
        const round_trips body{size, h.clock(), h.slice().count(),
                               std::chrono::nanoseconds(pause).count(), h.far_core()};
        const link_options options{size, ring_bytes_for(size), !blocking};
        contest c{size, figure::time, {}};
        if (blocking) {
            c.entries.push_back(faster_of(
                forked<futex_end<rest::both_at_once>, word_pair>(h, "limit", body, options),
                forked<futex_end<rest::far_only>, word_pair>(h, "limit", body, options)));
        } else {
            c.entries.push_back(faster_of(
                forked<line_end<look::at_once>, word_pair>(h, "limit", body, options),
                forked<line_end<look::after_pause>, word_pair>(h, "limit", body, options)));
        }
        auto ring = forked<ring_end, ring_memory>(h, "ring", body, options);
        ring.is_subject = true;
        c.entries.push_back(std::move(ring));
        add_peers(h, c, body, options);
        c.entries.push_back(placed(h, "places", body, options));
        h.measure(std::move(c));
    }
}

}  // namespace places::bench
