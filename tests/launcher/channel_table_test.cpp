// SPDX-License-Identifier: Apache-2.0
#include "launcher/channel_table.hpp"

#include <gtest/gtest.h>

#include <chrono>

namespace places::launcher {
namespace {

constexpr std::uint64_t asked = 7;
constexpr std::uint64_t asker = 8;
constexpr std::size_t ring_bytes = 4096;
const auto of_one = channel_table::bytes_of(ring_bytes);
const auto begin = channel_table::clock::now();
const auto later = begin + std::chrono::seconds{11};

struct channel_tables : testing::Test {
    std::uint64_t enter(std::uint64_t request = 1) {
        const auto id = table.next_id();
        table.enter(id, asked, asker, ring_bytes, request);
        return id;
    }
    channel_table table;
};

TEST_F(channel_tables, charge_a_channel_to_its_asker) {
    (void)enter();
    (void)enter();
    EXPECT_EQ(table.bytes_charged_to(asker), 2 * of_one);
    EXPECT_EQ(table.bytes_charged_to(asked), 0U);
}

// A server that is busy for a while is charged nothing that its clients have asked for.
TEST_F(channel_tables, charge_what_its_asker_has_closed_to_the_place_that_keeps_its_end_for_long) {
    const auto id = enter();
    EXPECT_EQ(table.let_go(id, asker, 1, begin), asked);
    EXPECT_EQ(table.bytes_charged_to(asker, begin), of_one);
    EXPECT_EQ(table.bytes_charged_to(asked, begin), 0U);
    EXPECT_EQ(table.bytes_charged_to(asker, later), 0U);
    EXPECT_EQ(table.bytes_charged_to(asked, later), of_one);
    EXPECT_FALSE(table.let_go(id, asked, 0, later));
    EXPECT_EQ(table.bytes_charged_to(asked, later), 0U);
}

TEST_F(channel_tables, charge_nobody_for_a_channel_that_both_have_closed) {
    const auto id = enter();
    EXPECT_EQ(table.let_go(id, asker, 1, begin), asked);
    EXPECT_FALSE(table.let_go(id, asked, 0, begin));
    for (const auto& now : {begin, later}) {
        EXPECT_EQ(table.bytes_charged_to(asker, now), 0U);
        EXPECT_EQ(table.bytes_charged_to(asked, now), 0U);
    }
}

TEST_F(channel_tables, charge_its_asker_while_that_keeps_its_end) {
    const auto id = enter();
    EXPECT_EQ(table.let_go(id, asked, 0, begin), asker);
    EXPECT_EQ(table.bytes_charged_to(asker, later), of_one);
    EXPECT_EQ(table.bytes_charged_to(asked, later), 0U);
    EXPECT_FALSE(table.let_go(id, asker, 1, later));
    EXPECT_EQ(table.bytes_charged_to(asker, later), 0U);
}

TEST_F(channel_tables, charge_what_a_dead_asker_leaves_to_the_place_that_keeps_its_end_for_long) {
    (void)enter();
    EXPECT_EQ(table.forget(asker, begin), std::set<std::uint64_t>{asked});
    EXPECT_EQ(table.bytes_charged_to(asked, later), of_one);
    EXPECT_TRUE(table.forget(asked, later).empty());
    EXPECT_EQ(table.bytes_charged_to(asked, later), 0U);
    EXPECT_EQ(table.bytes_charged_to(asker, later), 0U);
}

TEST_F(channel_tables, charge_a_place_that_asks_for_itself_once) {
    const auto id = table.next_id();
    table.enter(id, asker, asker, ring_bytes, 1);
    EXPECT_EQ(table.let_go(id, asker, 1, begin), asker);
    EXPECT_EQ(table.bytes_charged_to(asker, begin), of_one);
    EXPECT_EQ(table.bytes_charged_to(asker, later), of_one);
    EXPECT_FALSE(table.let_go(id, asker, 0, later));
    EXPECT_EQ(table.bytes_charged_to(asker, later), 0U);
}

TEST_F(channel_tables, find_the_last_channel_of_a_request_while_its_asker_holds_it) {
    const auto first = enter(5);
    const auto last = enter(5);
    EXPECT_EQ(table.find_asked(asker, 5), last);
    EXPECT_FALSE(table.find_asked(asker, 6));
    EXPECT_FALSE(table.find_asked(asked, 5));
    (void)table.let_go(last, asker, 1);
    EXPECT_FALSE(table.find_asked(asker, 5));
    (void)table.forget(asked);
    (void)table.let_go(first, asker, 1);
    EXPECT_FALSE(table.find_asked(asker, 5));
}

TEST_F(channel_tables, count_memory_as_promised_until_it_is_made_or_the_promise_is_old) {
    const auto never_made = table.next_id();
    table.enter(never_made, asked, asker, ring_bytes, 1, begin);
    EXPECT_EQ(table.bytes_to_come(begin), of_one);
    table.set_shared(never_made, 1);
    EXPECT_EQ(table.bytes_to_come(begin), of_one / 2);
    table.enter(table.next_id(), asked, asker, ring_bytes, 2, later);
    EXPECT_EQ(table.bytes_to_come(later), of_one);
    // Made late, it is counted once.
    table.set_shared(never_made, 0);
    EXPECT_EQ(table.bytes_to_come(later), of_one);
    (void)table.forget(asked);
    (void)table.forget(asker);
    EXPECT_EQ(table.bytes_to_come(later), 0U);
}

}  // namespace
}  // namespace places::launcher
