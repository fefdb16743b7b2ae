// SPDX-License-Identifier: Apache-2.0
// Who may be missing from an answer, and who may not.
#include "bench/harness.hpp"

#include <places/launcher/runtime.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

namespace places::bench {
namespace {

/// Measures two contestants of which the second fails.
std::string told_when_one_fails(bool is_peer) {
    char name[] = "harness_test";
    char* argv[] = {name, nullptr};
    runtime home{1, argv};
    settings asked;
    asked.question = "test";
    asked.peers = "none";
    asked.quick = true;
    harness h{asked, tick_clock{}, home};
    report found{};
    contest c{0, figure::rate, {}};
    c.entries.push_back({"places", true, [&]() -> const report& {
                             found.per_second = 1;
                             return found;
                         }});
    c.entries.push_back(
        {"limit", false, []() -> const report& { throw std::runtime_error("is gone"); }});
    c.entries.back().is_peer = is_peer;
    try {
        h.measure(std::move(c));
    } catch (const std::runtime_error& e) {
        return e.what();
    }
    return {};
}

/// One whose every slice finds this.
contestant that_finds(std::string name, double per_second, std::uint64_t time) {
    auto found = std::make_shared<report>();
    found->per_second = per_second;
    if (time != 0) found->times.record(time);
    return {std::move(name), false, [found]() -> const report& { return *found; }};
}

TEST(bench_harness, the_faster_of_two_forms_has_the_lower_times_or_the_higher_rate) {
    for (const bool first_is_faster : {true, false}) {
        const auto quick = that_finds("limit", 1, 10);
        const auto slow = that_finds("limit", 2, 20);
        const auto timed = first_is_faster ? faster_of(quick, slow) : faster_of(slow, quick);
        EXPECT_EQ(timed.run().times.max(), 10u);
        const auto many = that_finds("limit", 2, 0);
        const auto few = that_finds("limit", 1, 0);
        const auto rated = first_is_faster ? faster_of(many, few) : faster_of(few, many);
        EXPECT_EQ(rated.run().per_second, 2);
    }
}

TEST(bench_harness, a_limit_that_fails_fails_the_run_without_peers_too) {
    EXPECT_EQ(told_when_one_fails(false), "limit fails: is gone");
}

TEST(bench_harness, a_peer_that_fails_leaves_the_others) {
    EXPECT_EQ(told_when_one_fails(true), "");
}

}  // namespace
}  // namespace places::bench
