// SPDX-License-Identifier: Apache-2.0
// What a build that is not optimised says of itself: bench/refusal.cpp is compiled so for this
// test.
#include "bench/refusal.hpp"

#include <gtest/gtest.h>

namespace places::bench {
namespace {

TEST(bench_refusal, an_unoptimised_build_is_refused_as_unoptimised) {
    const auto why = why_refused();
    EXPECT_TRUE(why.starts_with("this build is unoptimised")) << why;
}

TEST(bench_refusal, a_sanitizer_is_found_among_the_flags) {
    EXPECT_EQ(sanitizer_among("-O3 -fsanitize=undefined -g"), "-fsanitize=undefined");
    EXPECT_EQ(sanitizer_among("-fsanitize=address,undefined"), "-fsanitize=address,undefined");
}

TEST(bench_refusal, flags_without_a_sanitizer_have_none) {
    EXPECT_EQ(sanitizer_among(""), "");
    EXPECT_EQ(sanitizer_among("-O3 -DNDEBUG -fno-sanitize=all -fsanitize-recover"), "");
}

}  // namespace
}  // namespace places::bench
