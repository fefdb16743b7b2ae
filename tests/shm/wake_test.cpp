// SPDX-License-Identifier: Apache-2.0
#include <places/shm/wake.hpp>

#include <places/shm/sealed_memory.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <thread>
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

/// One that others have for so long each time it is given away, whoever else wants it on this
/// machine.
struct core {
    std::chrono::nanoseconds gone{};
    bool is_alone = false;
    std::chrono::nanoseconds give_away() const { return gone; }
    bool is_only_one() const { return is_alone; }
};

/// How often a spin looks that never succeeds.
int looks_of(spin_budget& spin, std::chrono::nanoseconds gone = {}, bool is_only_core = false) {
    int calls = 0;
    EXPECT_FALSE(spin.spin([&] { return ++calls < 0; }, core{gone, is_only_core}));
    return calls;
}
int brief_looks_of(spin_budget& spin) {
    int calls = 0;
    EXPECT_FALSE(spin.spin_briefly([&] { return ++calls < 0; }));
    return calls;
}

int sparse_looks_of(spin_budget& spin) {
    int calls = 0;
    EXPECT_FALSE(spin.spin_sparsely([&] { return ++calls < 0; }));
    return calls;
}

TEST(wake, a_sparse_spin_takes_few_looks_and_one_where_the_core_is_wanted) {
    spin_budget spin;
    EXPECT_EQ(1 << sparse_looks_of(spin), spin_budget::look_count);
    int calls = 0;
    EXPECT_TRUE(spin.spin_sparsely([&] { return ++calls == 2; }));
    EXPECT_EQ(calls, 2);
    (void)looks_of(spin, std::chrono::microseconds{50});
    EXPECT_EQ(sparse_looks_of(spin), 1);
}

TEST(wake, a_spin_that_fails_often_becomes_short) {
    // The most of many tries: in some the core was somebody else's. The first spins of one that
    // had it are some looks at rest and as long a time of looks as there ever is.
    constexpr int paused = spin_budget::look_count;
    int most_first = 0;
    int most_tenth = 0;
    for (int tries = 0; tries < 20 || most_first < paused + 20; ++tries) {
        spin_budget spin;
        for (int n = 1; n <= 10; ++n) {
            const int looks = looks_of(spin);
            if (n == 1) most_first = std::max(most_first, looks);
            if (n == 10) most_tenth = std::max(most_tenth, looks);
        }
        int calls = 0;
        EXPECT_TRUE(spin.spin([&] { return ++calls == 3; }));
        EXPECT_EQ(calls, 3);
    }
    std::printf("looks of the first spin %d, of the tenth %d\n", most_first, most_tenth);
    EXPECT_GT(most_first - paused, 2 * (most_tenth - paused));
}

TEST(wake, a_spin_that_has_succeeded_is_long_again) {
    constexpr int paused = spin_budget::look_count;
    int most = 0;
    for (int tries = 0; tries < 20 || most < paused + 20; ++tries) {
        spin_budget spin;
        for (int n = 0; n < 10; ++n) (void)looks_of(spin);
        int calls = 0;
        EXPECT_TRUE(spin.spin([&] { return ++calls == paused + 1; }, core{}));
        most = std::max(most, looks_of(spin));
    }
    EXPECT_GT(most, paused + 19);
}

TEST(wake, a_spin_that_fails_is_long_again_every_sixteenth_time) {
    constexpr int paused = spin_budget::look_count;
    int most_sixteenth = 0;
    int most_seventeenth = 0;
    for (int tries = 0; tries < 20 || most_seventeenth < paused + 20; ++tries) {
        spin_budget spin;
        for (int n = 1; n < 16; ++n) (void)looks_of(spin);
        most_sixteenth = std::max(most_sixteenth, looks_of(spin));
        most_seventeenth = std::max(most_seventeenth, looks_of(spin));
    }
    EXPECT_GT(most_seventeenth - paused, 2 * (most_sixteenth - paused));
}

TEST(wake, a_spin_looks_once_before_it_gives_the_core_to_those_who_take_turns) {
    using namespace std::chrono_literals;
    spin_budget spin;
    EXPECT_EQ(brief_looks_of(spin), spin_budget::look_count);
    (void)looks_of(spin, 30us);
    EXPECT_EQ(brief_looks_of(spin), 1);
    (void)looks_of(spin, 199us);
    EXPECT_EQ(brief_looks_of(spin), 1);
    // Nobody has taken it any more.
    (void)looks_of(spin);
    EXPECT_EQ(brief_looks_of(spin), spin_budget::look_count);
    // Somebody keeps it, and takes no turns.
    (void)looks_of(spin, 200us);
    EXPECT_EQ(brief_looks_of(spin), spin_budget::look_count);
}

TEST(wake, a_spin_beside_one_who_keeps_the_core_gives_it_to_nobody_for_64_times) {
    using namespace std::chrono_literals;
    constexpr int at_rest = spin_budget::look_count;
    spin_budget spin;
    for (int rounds = 0; rounds < 3; ++rounds) {
        EXPECT_EQ(looks_of(spin, 3ms), at_rest + 1);
        for (int n = 0; n < 64; ++n) EXPECT_EQ(looks_of(spin, 3ms), at_rest) << n;
    }
    // Also when what was waited for has come meanwhile, and on the only core.
    int calls = 0;
    EXPECT_TRUE(spin.spin([&] { return ++calls > at_rest; }, core{3ms}));
    EXPECT_EQ(looks_of(spin, 3ms), at_rest);
    // Some that take turns may have it for less together.
    spin_budget among;
    (void)looks_of(among, 999us);
    EXPECT_GT(looks_of(among, 999us), at_rest + 1);
    spin_budget alone;
    EXPECT_EQ(looks_of(alone, 3ms, true), at_rest + 1);
    EXPECT_EQ(looks_of(alone, 3ms, true), 1);
}

TEST(wake, a_spin_among_those_who_take_turns_looks_at_rest_after_every_sixteenth_failure) {
    using namespace std::chrono_literals;
    spin_budget spin;
    for (int n = 1; n < 16; ++n) {
        (void)looks_of(spin, 30us);
        EXPECT_EQ(brief_looks_of(spin), 1) << n;
    }
    (void)looks_of(spin, 30us);
    EXPECT_EQ(brief_looks_of(spin), spin_budget::look_count);
}

TEST(wake, a_spin_on_the_only_core_sleeps_when_others_have_had_it) {
    using namespace std::chrono_literals;
    for (const auto gone : {30us, 300us, 999us}) {
        spin_budget spin;
        EXPECT_EQ(looks_of(spin, gone, true), spin_budget::look_count + 1);
        for (int n = 1; n < 15; ++n) EXPECT_EQ(looks_of(spin, gone, true), 2) << n;
        // Who has been waited for may have come meanwhile.
        EXPECT_EQ(brief_looks_of(spin), 1);
        int calls = 0;
        EXPECT_TRUE(spin.spin([&] { return ++calls == 2; }, core{gone, true}));
        // The sixteenth: they may be on another core.
        EXPECT_EQ(brief_looks_of(spin), spin_budget::look_count);
        EXPECT_EQ(looks_of(spin, gone, true), spin_budget::look_count + 1);
        EXPECT_EQ(brief_looks_of(spin), 1);
        // Nobody wants it any more.
        (void)looks_of(spin, 0us, true);
        EXPECT_EQ(brief_looks_of(spin), spin_budget::look_count);
    }
}

TEST(wake, a_spin_that_others_have_held_up_does_not_become_short) {
    using namespace std::chrono_literals;
    constexpr int paused = spin_budget::look_count;
    int most = 0;
    for (int tries = 0; tries < 20 || most < paused + 20; ++tries) {
        spin_budget spin;
        for (int n = 0; n < 10; ++n) (void)looks_of(spin, 150us);
        most = std::max(most, looks_of(spin));
    }
    EXPECT_GT(most, paused + 19);
}

}  // namespace
}  // namespace places::shm
