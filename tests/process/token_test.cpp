// SPDX-License-Identifier: Apache-2.0
// More places than cores: a token goes round thirty-two of them, so that nearly every hop wakes one
// that sleeps and has to wait for a core. A hop that loses its wake-up is a test that hangs.
#include "tests/shm/pair.hpp"
#include "tests/support/node_main.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <sched.h>
#include <vector>

using places::channel;
using places::spawn;
using places::status;

namespace {

constexpr int members = 32;
constexpr int laps = places::shm::rounds_of(3'000, 100);

struct token {
    std::int64_t sent_ns = 0;
    std::int64_t hops = 0;
};

std::int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

void run_on(int cores) {
    cpu_set_t some;
    CPU_ZERO(&some);
    for (int i = 0; i < cores; ++i) CPU_SET(i, &some);
    if (::sched_setaffinity(0, sizeof some, &some) != 0) std::perror("sched_setaffinity");
}

/// Hands every token on to the place behind, the last one to the leader, and then tells how long
/// its hops took; whoever is told adds its own.
void member(channel& from, int behind, int cores) {
    run_on(cores);
    auto next = behind == 0 ? places::place{} : spawn(member, behind - 1, cores);
    auto last = behind == 0 ? places::connect_to_named_place("leader") : channel{};
    channel& to = behind == 0 ? last : next;
    std::vector<std::int64_t> times;
    for (int lap = 0; lap < laps; ++lap) {
        const auto t = from.get<token>();
        if (!t) return;
        const auto now = now_ns();
        times.push_back(now - t->sent_ns);
        if (to.put(token{now_ns(), t->hops + 1}) != status::ok) return;
    }
    if (behind > 0) {
        const auto others = next.get<std::vector<std::int64_t>>();
        if (!others) return;
        times.insert(times.end(), others->begin(), others->end());
    }
    (void)from.put(times);
    (void)from.get<int>();  // until the leader has heard all
}

/// Tells its creator of every hop; of none when the token is lost.
void leader(places::inbox& in, int cores) {
    run_on(cores);
    auto next = spawn(member, members - 2, cores);
    std::vector<std::int64_t> times;
    for (int lap = 0; lap < laps; ++lap) {
        if (next.put(token{now_ns(), std::int64_t{lap} * members}) != status::ok) return;
        const auto back = in.get();
        if (!back) return;
        const auto t = back->content.as<token>();
        if (!t || t->hops != std::int64_t{lap} * members + members - 1) return;
        times.push_back(now_ns() - t->sent_ns);
    }
    const auto others = next.get<std::vector<std::int64_t>>();
    if (!others) return;
    times.insert(times.end(), others->begin(), others->end());
    (void)in.creator().put(times);
}

class more_places_than_cores : public testing::TestWithParam<int> {};

TEST_P(more_places_than_cores, hand_a_token_on_and_none_is_thought_dead) {
    cpu_set_t all;
    ASSERT_EQ(::sched_getaffinity(0, sizeof all, &all), 0);
    if (!CPU_ISSET(0, &all) || CPU_COUNT(&all) < GetParam()) GTEST_SKIP() << "not so many cores";
    auto p = spawn({.named = "leader"}, leader, GetParam());
    auto times = p.get<std::vector<std::int64_t>>();
    ASSERT_TRUE(times) << times.error().message();
    EXPECT_EQ(times->size(), std::size_t{members} * laps);
    std::sort(times->begin(), times->end());
    const auto at = [&](std::size_t percent) {
        return static_cast<double>((*times)[(times->size() - 1) * percent / 100]) / 1e3;
    };
    std::printf("%zu hops on %d core(s): p50 %.0f us, p99 %.0f us, most %.0f us\n", times->size(),
                GetParam(), at(50), at(99), at(100));
    EXPECT_EQ(p.wait(), (places::exit_status{false, 0}));
}

INSTANTIATE_TEST_SUITE_P(places, more_places_than_cores, testing::Values(2, 1),
                         [](const auto& cores) {
                             return cores.param == 1 ? "one_core" : "two_cores";
                         });

}  // namespace
