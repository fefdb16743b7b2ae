// SPDX-License-Identifier: Apache-2.0
// Many clients of one server, each with one request under way.
#pragma once

#include "bench/clock.hpp"
#include "bench/end.hpp"
#include "bench/report.hpp"
#include "bench/subjects.hpp"

#include <places/core/channel.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace places::bench {

using request = block<64>;

/// Each of `clients` asks again as soon as it has its answer, until `ticks` are over and there were
/// three answers to each on the average; every wait is recorded.
/// Throws: link_closed when the server is gone.
inline void ask_all(std::span<channel> clients, const tick_clock& clock, std::uint64_t ticks,
                    report& found) {
    const request word{};
    std::vector<std::uint64_t> asked(clients.size());
    std::vector<bool> waits(clients.size(), true);
    const auto ask = [&](std::size_t i) {
        asked[i] = clock.now();
        if (const auto s = clients[i].put(word); s != status::ok) throw link_closed(to_string(s));
    };
    const auto begun = clock.now();
    for (std::size_t i = 0; i < clients.size(); ++i) ask(i);
    auto left = clients.size();
    std::uint64_t count = 0;
    while (left > 0) {
        for (std::size_t i = 0; i < clients.size(); ++i) {
            if (!waits[i]) continue;
            if (const auto answer = clients[i].try_get<request>(); !answer) {
                if (answer.error() == errc::empty) continue;
                throw link_closed(answer.error().message());
            }
            const auto now = clock.now();
            found.times.record(clock.ns(now - asked[i]));
            ++count;
            if (now - begun < ticks || count < 3 * clients.size()) {
                ask(i);
            } else {
                waits[i] = false;
                --left;
            }
        }
    }
    found.per_second =
        static_cast<double>(count) * 1e9 / static_cast<double>(clock.ns(clock.now() - begun));
}

}  // namespace places::bench
