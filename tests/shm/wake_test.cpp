// SPDX-License-Identifier: Apache-2.0
#include <places/shm/wake.hpp>

#include "tests/shm/pair.hpp"

#include <places/shm/sealed_memory.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>
#include <sched.h>
#include <stdexcept>
#include <thread>
#include <unistd.h>
#include <vector>

namespace places::shm {
namespace {

using std::chrono::steady_clock;

TEST(wake, a_word_that_differs_ends_the_sleep_at_once) {
    const std::atomic<std::uint32_t> one{1};
    const std::atomic<std::uint32_t> two{2};
    const watched_word words[] = {{&one, 1}, {&two, 1}};
    EXPECT_TRUE(sleep_until_changed(words, no_deadline));
    // Even if its time is over.
    EXPECT_TRUE(sleep_until_changed(words, steady_clock::now() - std::chrono::hours{1}));
}

TEST(wake, a_time_gone_by_is_a_time_out) {
    const std::atomic<std::uint32_t> word{1};
    const watched_word words[] = {{&word, 1}};
    EXPECT_FALSE(sleep_until_changed(words, steady_clock::now()));
    EXPECT_FALSE(sleep_until_changed(words, deadline{}));
    EXPECT_FALSE(sleep_until_changed(words, deadline::min()));
    const auto soon = steady_clock::now() + std::chrono::milliseconds{2};
    while (sleep_until_changed(words, soon)) {
    }
    EXPECT_GE(steady_clock::now(), soon);
}

TEST(wake, refuses_no_words_and_too_many) {
    const std::atomic<std::uint32_t> word{1};
    const std::vector<watched_word> many(watched_words_max + 1, {&word, 1});
    EXPECT_THROW(sleep_until_changed(many, no_deadline), std::invalid_argument);
    EXPECT_THROW(sleep_until_changed({}, no_deadline), std::invalid_argument);
    EXPECT_FALSE(sleep_until_changed(std::span{many}.first(watched_words_max), deadline{}));
}

TEST(wake, reaches_a_sleeper_on_another_mapping_that_is_read_only) {
    const auto memory = create_memory(4096, "test");
    const auto writable = map_memory(memory, access::read_write);
    const auto readable = map_memory(memory, access::read_only);
    auto& word = *static_cast<std::atomic<std::uint32_t>*>(writable.get_address());
    const auto& watched = *static_cast<const std::atomic<std::uint32_t>*>(readable.get_address());
    std::thread sleeper{[&] {
        std::uint32_t seen = 0;
        while ((seen = watched.load()) < 1000) {
            const watched_word words[] = {{&watched, seen}};
            EXPECT_TRUE(sleep_until_changed(words, no_deadline));
        }
    }};
    for (int n = 0; n < 1000; ++n) {
        word.fetch_add(1);
        wake_all(word);
    }
    sleeper.join();
}

TEST(wake, a_spin_that_fails_often_becomes_short) {
    // The most of many tries: in some the core was somebody else's. The first spins of one that
    // had it are some looks at rest and as long a time of looks as there ever is.
    constexpr int paused = spin_budget::look_count;
    int most_first = 0;
    int least_tenth = std::numeric_limits<int>::max();
    for (int tries = 0; tries < 20 || most_first < paused + 20; ++tries) {
        spin_budget spin;
        int calls = 0;
        for (int n = 1; n <= 10; ++n) {
            calls = 0;
            EXPECT_FALSE(spin.spin([&] { return ++calls < 0; }));
            if (n == 1) most_first = std::max(most_first, calls);
        }
        least_tenth = std::min(least_tenth, calls);
        do {
            calls = 0;  // somebody else may have had the core
        } while (!spin.spin([&] { return ++calls == 3; }));
        EXPECT_EQ(calls, 3);
    }
    std::printf("looks of the first spin %d, of the tenth %d\n", most_first, least_tenth);
    EXPECT_GT(most_first - paused, 2 * (least_tenth - paused));
}

TEST(wake, a_spin_that_has_succeeded_is_long_again) {
    constexpr int paused = spin_budget::look_count;
    int most = 0;
    for (int tries = 0; tries < 20 || most < paused + 20; ++tries) {
        spin_budget spin;
        for (int n = 0; n < 10; ++n) EXPECT_FALSE(spin.spin([] { return false; }));
        int calls = 0;
        do {
            calls = 0;  // it looks as often unless somebody else has had the core
        } while (!spin.spin([&] { return ++calls == paused + 1; }));
        calls = 0;
        EXPECT_FALSE(spin.spin([&] { return ++calls < 0; }));
        most = std::max(most, calls);
    }
    EXPECT_GT(most, paused + 19);
}

TEST(wake, a_spin_that_fails_is_long_again_every_sixteenth_time) {
    constexpr int paused = spin_budget::look_count;
    int most = 0;
    for (int tries = 0; tries < 20 || most < paused + 20; ++tries) {
        spin_budget spin;
        int calls = 0;
        for (int n = 1; n <= 17; ++n) {
            calls = 0;
            EXPECT_FALSE(spin.spin([&] { return ++calls < 0; }));
        }
        most = std::max(most, calls);
    }
    EXPECT_GT(most, paused + 19);
}

/// On one core, as is whoever is forked meanwhile.
class one_core {
  public:
    one_core() {
        checked(::sched_getaffinity(0, sizeof before_, &before_), "sched_getaffinity");
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(::sched_getcpu(), &one);
        checked(::sched_setaffinity(0, sizeof one, &one), "sched_setaffinity");
    }
    ~one_core() { (void)::sched_setaffinity(0, sizeof before_, &before_); }
    one_core(const one_core&) = delete;
    one_core& operator=(const one_core&) = delete;

  private:
    cpu_set_t before_{};
};

/// How often a spin looks that never succeeds.
int looks_of(spin_budget& spin) {
    int calls = 0;
    EXPECT_FALSE(spin.spin([&] { return ++calls < 0; }));
    return calls;
}

TEST(wake, a_spin_does_not_look_at_rest_where_others_take_turns) {
    const one_core here;
    // Takes a turn of some 30 us whenever it is given one.
    const child other{[] {
        while (true) {
            const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds{30};
            while (std::chrono::steady_clock::now() < until) {
            }
            ::sched_yield();
        }
    }};
    // Until the scheduler has given it one.
    spin_budget spin;
    while (looks_of(spin) >= spin_budget::look_count) {
    }
}

TEST(wake, a_spin_looks_at_rest_again_as_soon_as_nobody_takes_its_turn) {
    spin_budget spin;
    {
        const one_core here;
        const child other{[] {
            while (true) ::sched_yield();
        }};
        for (int n = 0; n < 100; ++n) (void)looks_of(spin);
    }
    while (looks_of(spin) < spin_budget::look_count) {
    }
}

}  // namespace
}  // namespace places::shm
