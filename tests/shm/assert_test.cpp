// SPDX-License-Identifier: Apache-2.0
#include <places/shm/assert.hpp>

#include <gtest/gtest.h>

#include <csignal>

TEST(assert_macro, lets_a_true_condition_pass_and_does_not_evaluate_the_value) {
    int evaluated = 0;
    PLACES_ASSERT(evaluated == 0, ++evaluated);
    EXPECT_EQ(evaluated, 0);
}

TEST(assert_macro, aborts_in_every_build_with_place_condition_and_value) {
    const int room = -3;
    EXPECT_EXIT(PLACES_ASSERT(room >= 0, room), testing::KilledBySignal(SIGABRT),
                "assert_test.cpp:[0-9]+: not room >= 0 .value -3.");
}
