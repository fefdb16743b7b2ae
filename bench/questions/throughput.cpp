// SPDX-License-Identifier: Apache-2.0 - How many messages a second go one way?
//
// The limit is two memcpy through a shared buffer. With --api loan nobody who can help it copies:
// the sender writes every byte in place, the receiver reads a word of every line. With --api batch
// those that can send and take sixteen at a time. With --blocking peers sleep where they can spin.
#include "bench/limits.hpp"
#include "bench/pairs.hpp"
#include "bench/questions/questions.hpp"

namespace places::bench {

namespace {

api api_of(const std::string& name) {
    return name == "loan" ? api::loan : name == "batch" ? api::batch : api::copy;
}

}  // namespace

void throughput(harness& h) {
    // What small messages are to come near to, in bytes per second.
    constexpr std::size_t large = 1024;
    for (const auto size : h.sizes_or({64, 1024, 65536, 1 << 20})) {
        const auto body_of = [&](std::size_t bytes) {
            return stream{bytes, h.slice().count(), api_of(h.asked().api), h.far_core()};
        };
        const auto body = body_of(size);
        const link_options options{size, ring_bytes_for(size), !h.asked().blocking};
        contest c{size, figure::rate, {}};
        c.entries.push_back(faster_of(
            forked<two_memcpy_end<look::at_once>, slot_buffers>(h, "limit", body, options),
            forked<two_memcpy_end<look::after_pause>, slot_buffers>(h, "limit", body, options)));
        auto ring = forked<ring_end, ring_memory>(h, "ring", body, options);
        ring.is_subject = true;
        c.entries.push_back(std::move(ring));
        add_peers(h, c, body, options);
        c.entries.push_back(placed(h, "places", body, options));
        if (size < large) {
            // One at a time, as the figure has it: their size alone makes up for much.
            auto alone = body_of(large);
            alone.how = api::copy;
            auto other = placed(h, "places_1024", alone, options);
            other.is_subject = false;
            other.size = large;
            c.entries.push_back(std::move(other));
        }
        h.measure(std::move(c));
    }
}

}  // namespace places::bench
