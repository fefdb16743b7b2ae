// SPDX-License-Identifier: Apache-2.0 - How many messages go through a chain of processes?
//
// Eight processes on two cores, the first and the last included, so there are always some that
// wait: they sleep, and peers do.
#include "bench/chains.hpp"
#include "bench/questions/questions.hpp"

#include <places/core/place.hpp>

#include <cstring>

namespace places::bench {
namespace {

constexpr std::uint64_t more = 1;
constexpr std::uint64_t last = 0;

struct flow {
    std::size_t size;
    std::int64_t slice_ns;

    /// The time counts until the last message has gone through.
    template <class End>
    void source(End& next, report& found) const {
        using clock = std::chrono::steady_clock;
        std::vector<std::byte> message(size);
        const auto begun = clock::now();
        const auto until = begun + std::chrono::nanoseconds{slice_ns};
        std::uint64_t count = 1;
        std::memcpy(message.data(), &more, sizeof more);
        do {
            for (int i = 0; i < 16; ++i) next.send(message);
            count += 16;
        } while (clock::now() < until);
        std::memcpy(message.data(), &last, sizeof last);
        next.send(message);
        next.receive(message);
        const std::chrono::duration<double> taken = clock::now() - begun;
        found.per_second = static_cast<double>(count) / taken.count();
    }
    /// Hands on what comes, and the answer to the last message back.
    template <class From, class To>
    [[noreturn]] void pass(From& from, To& to) const {
        std::vector<std::byte> message(size);
        while (true) {
            from.receive(message);
            to.send(message);
            if (!is_last(message)) continue;
            to.receive(message);
            from.send(message);
        }
    }
    template <class From>
    [[noreturn]] void sink(From& from) const {
        std::vector<std::byte> message(size);
        while (true) {
            from.receive(message);
            if (is_last(message)) from.send(message);
        }
    }

  private:
    static bool is_last(const std::vector<std::byte>& message) noexcept {
        std::uint64_t head;
        std::memcpy(&head, message.data(), sizeof head);
        return head == last;
    }
};

/// A place of the chain, which starts the one behind it.
void stage(channel& from, flow f, int behind, int cores) {
    pin_to_first(cores);
    try {
        with_channel_end(from, f.size, [&](auto end) {
            if (behind == 0) f.sink(end);
            auto next = spawn(&stage, f, behind - 1, cores);
            with_channel_end(next, f.size, [&](auto to) { f.pass(end, to); });
        });
    } catch (const link_closed&) {
        // The contest is over.
    }
}

contestant of_places(const flow& f, int count, int cores) {
    auto first = std::make_shared<place>(spawn(&stage, f, count - 2, cores));
    auto found = std::make_shared<report>();
    return {"places", true, [=]() -> const report& {
                *found = {};
                with_channel_end(*first, f.size, [&](auto end) { f.source(end, *found); });
                return *found;
            }};
}

}  // namespace

void pipeline(harness& h) {
    const auto count = h.asked().count ? h.asked().count : 8;
    const auto cores = h.asked().cores ? h.asked().cores : 2;
    for (const auto size : h.sizes_or({64})) {
        // Long enough for all to have had their turns on the cores, several times.
        const flow f{size, 4 * h.slice().count()};
        const link_options options{size, ring_bytes_for(size), false};
        contest c{size, figure::rate, {}};
        const chain between{.count = count,
                            .closed = false,
                            .cores = cores,
                            .near = [f](end* next, end*, report& r) { f.source(*next, r); },
                            .stage =
                                [f](end& from, end* to) {
                                    if (to) f.pass(from, *to);
                                    f.sink(from);
                                }};
        add_chains(h, c, between, options);
        pin_to_first(cores);
        c.entries.push_back(of_places(f, count, cores));
        h.measure(std::move(c));
    }
}

}  // namespace places::bench
