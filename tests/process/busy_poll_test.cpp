// SPDX-License-Identifier: Apache-2.0
// Waits that keep their core, and the nursery that grants no more of them than there are cores.
#include "tests/support/node_main.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sched.h>
#include <string>
#include <vector>

using places::channel;
using places::errc;
using places::spawn;
using places::status;

namespace {

std::size_t core_count() {
    cpu_set_t set;
    CPU_ZERO(&set);
    EXPECT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
    return static_cast<std::size_t>(CPU_COUNT(&set));
}

/// Asks for a core, tells whether it was given one, and gives it back when its creator says so.
void ask_for_a_core(channel& c) {
    const auto asked = c.set_busy_poll(true);
    if (c.put(asked.has_value() ? std::string() : asked.error().message()) != status::ok) return;
    while (c.get<int>()) {
        if (!c.set_busy_poll(false) || c.put(0) != status::ok) return;
    }
}

std::uint64_t voluntary_switches() {
    std::ifstream file("/proc/thread-self/status");
    for (std::string word; file >> word;) {
        std::uint64_t count = 0;
        if (word == "voluntary_ctxt_switches:" && file >> count) return count;
    }
    return 0;
}

}  // namespace

TEST(busy_poll, is_refused_beyond_the_cores_with_one_warning_each) {
    std::vector<std::string> warnings;
    test_runtime().on_log([&](const places::log_record& r) {
        if (r.severity == places::severity::warning) warnings.push_back(r.text);
    });
    const auto cores = core_count();
    std::vector<places::place> all;
    std::size_t granted = 0;
    for (std::size_t i = 0; i < cores + 2; ++i) {
        all.push_back(spawn(ask_for_a_core));
        const auto refusal = all.back().get<std::string>().value();
        if (refusal.empty()) ++granted;
    }
    EXPECT_EQ(granted, cores);
    await_nursery();
    ASSERT_EQ(warnings.size(), 2U);
    EXPECT_NE(warnings[0].find("busy polling is refused: " + std::to_string(cores) + " places"),
              std::string::npos)
        << warnings[0];
    // One that has given its core back, and one that has ended, make room for two.
    ASSERT_EQ(all[0].put(1), status::ok);
    ASSERT_TRUE(all[0].get<int>());
    all[1].kill();
    for (int i = 0; i < 2; ++i) {
        all.push_back(spawn(ask_for_a_core));
        EXPECT_EQ(all.back().get<std::string>().value(), "");
    }
    for (auto& p : all) p.kill();
    test_runtime().on_log([](const places::log_record&) {});
}

TEST(busy_poll, is_refused_to_each_of_several_that_ask_at_once) {
    std::vector<places::place> all;
    for (std::size_t i = 0; i < core_count(); ++i) {
        all.push_back(spawn(ask_for_a_core));
        ASSERT_EQ(all.back().get<std::string>().value(), "");
    }
    std::vector<places::result<void>> answers;
    const auto ask = [&](std::size_t which) {
        return places::after(std::chrono::seconds{0}, [&, which] {
            answers.push_back(all[which].set_busy_poll(true));
            if (answers.size() == 2) test_runtime().stop();
        });
    };
    test_runtime().route(ask(0), ask(1));
    for (const auto& answer : answers) EXPECT_EQ(answer.error(), errc::no_core);
    EXPECT_EQ(all[0].set_busy_poll(true).error(), errc::no_core);
    for (auto& p : all) p.kill();
    // None of them has kept what it was refused.
    for (auto& p : all) (void)p.wait();
    for (auto& p : all) EXPECT_TRUE(p.set_busy_poll(true)) << "beyond the first it costs no core";
}

TEST(busy_poll, asked_for_by_two_bodies_on_one_channel_ends_with_one_word) {
    auto one = spawn(never_ends);
    int answers = 0;
    const auto ask = [&] {
        return places::after(std::chrono::seconds{0}, [&] {
            EXPECT_TRUE(one.set_busy_poll(true));
            if (++answers == 2) test_runtime().stop();
        });
    };
    test_runtime().route(ask(), ask());
    EXPECT_TRUE(one.set_busy_poll(false));
    // All cores are free again.
    std::vector<places::place> all;
    for (std::size_t i = 0; i < core_count(); ++i) {
        all.push_back(spawn(ask_for_a_core));
        EXPECT_EQ(all.back().get<std::string>().value(), "");
    }
    for (auto& p : all) p.kill();
    one.kill();
}

TEST(busy_poll, counts_a_place_once_however_many_of_its_channels_poll) {
    auto one = spawn(never_ends);
    auto other = spawn(never_ends);
    ASSERT_TRUE(one.set_busy_poll(true));
    ASSERT_TRUE(one.set_busy_poll(true));
    ASSERT_TRUE(other.set_busy_poll(true));
    EXPECT_TRUE(one.is_busy_polling());
    std::vector<places::place> rest;
    for (std::size_t i = 1; i < core_count(); ++i) {
        rest.push_back(spawn(ask_for_a_core));
        EXPECT_EQ(rest.back().get<std::string>().value(), "");
    }
    ASSERT_TRUE(one.set_busy_poll(false));
    EXPECT_FALSE(one.is_busy_polling());
    auto too_many = spawn(ask_for_a_core);
    EXPECT_NE(too_many.get<std::string>().value(), "");
    for (auto* p : {&one, &other, &too_many}) p->kill();
    for (auto& p : rest) p.kill();
}

TEST(busy_poll, never_sleeps_while_it_waits) {
    auto p = spawn([](channel& c) {
        // Answers late: whoever waits as usual would sleep long before.
        while (auto turns = c.get<int>()) {
            for (int i = 0; i < *turns; ++i) ::sched_yield();
            if (c.put(0) != status::ok) return;
        }
    });
    ASSERT_TRUE(p.set_busy_poll(true));
    const auto before = voluntary_switches();
    for (int i = 0; i < 10; ++i) {
        ASSERT_EQ(p.put(20'000), status::ok);
        ASSERT_TRUE(p.get<int>());
    }
    EXPECT_EQ(voluntary_switches(), before);
    ASSERT_TRUE(p.set_busy_poll(false));
}

TEST(busy_poll, ends_when_the_other_side_dies) {
    auto p = spawn([](channel& c) { (void)c.get<int>(); });
    ASSERT_TRUE(p.set_busy_poll(true));
    ASSERT_EQ(p.put(1), status::ok);
    const auto end = p.get<int>();
    EXPECT_TRUE(end.error() == errc::closed || end.error() == errc::peer_dead);
}

TEST(busy_poll, of_an_inbox_serves_its_other_connections_too) {
    auto p = spawn({.named = "poller"}, [](places::inbox& in) {
        if (!in.creator().set_busy_poll(true)) return;
        while (auto next = in.get()) {
            if (next->from.send(next->content) != status::ok) return;
        }
    });
    auto other = places::connect_to_named_place("poller");
    for (int i = 0; i < 1000; ++i) {
        ASSERT_EQ(other.put(i), status::ok);
        ASSERT_EQ(other.get<int>().value(), i);
        ASSERT_EQ(p.put(i), status::ok);
        ASSERT_EQ(p.get<int>().value(), i);
    }
    p.kill();
}

TEST(busy_poll, of_a_channel_without_an_end_is_refused) {
    channel none;
    EXPECT_EQ(none.set_busy_poll(true).error(), errc::closed);
    EXPECT_FALSE(none.is_busy_polling());
}
