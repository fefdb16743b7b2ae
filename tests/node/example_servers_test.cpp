// SPDX-License-Identifier: Apache-2.0
// What the servers of examples/02_named answer, on this node and on a second one.
#include "tests/node/local_node.hpp"
#include "examples/02_named/bank.hpp"
#include "examples/02_named/tuple.hpp"

#include <gtest/gtest.h>

#include <string>

using places::symbol;

namespace {

template <class Bank>
void expect_that_of_the_seed(Bank bank) {
    const symbol joe{"joe"};
    const auto text = [](const places::value& v) { return to_string(v); };
    EXPECT_EQ(text(bank.add(joe, 1)), "(invalid-account joe)");
    EXPECT_EQ(text(bank.remove(joe, 1)), "(invalid-account joe)");
    EXPECT_EQ(text(bank.new_account(joe)), "(created joe)");
    EXPECT_EQ(text(bank.new_account(joe)), "(already-exists)");
    EXPECT_EQ(text(bank.add(joe, 10)), "(ok 10)");
    EXPECT_EQ(text(bank.remove(joe, 11)), "(insufficient-funds 10)");
    EXPECT_EQ(text(bank.remove(joe, 10)), "(ok 0)");
    EXPECT_EQ(text(bank.add(symbol{"ann"}, 1)), "(invalid-account ann)");
}

template <class Tuple>
void expect_the_last_value_or_false(Tuple tuple) {
    EXPECT_EQ(tuple.get("x"), places::value(false));
    EXPECT_EQ(tuple.set("x", 1), places::value(1));
    EXPECT_EQ(tuple.set("x", symbol{"two"}), places::value(symbol{"two"}));
    EXPECT_EQ(tuple.get("x"), places::value(symbol{"two"}));
    EXPECT_EQ(tuple.get("X"), places::value(false));
}

TEST(bank, answers_as_in_the_seed_on_this_node) {
    expect_that_of_the_seed(places::spawn_server<bank_server>());
}

TEST(bank, answers_as_in_the_seed_on_a_second_node) {
    auto node = start_node();
    expect_that_of_the_seed(node.supervise_place<bank_server>());
}

TEST(tuple, has_the_last_value_or_false_on_this_node) {
    const auto owner = places::spawn_server<tuple_server>({.named = "tuple"});
    expect_the_last_value_or_false(places::connect_to_named_place<tuple_server>("tuple"));
}

TEST(tuple, has_the_last_value_or_false_on_a_second_node) {
    auto node = start_node();
    node.supervise_place<tuple_server>({.named = "tuple"});
    expect_the_last_value_or_false(node.connect_to_named_place<tuple_server>("tuple"));
}

}  // namespace
