// SPDX-License-Identifier: Apache-2.0
// What three nodes cost that have nothing to do: processor time and wake-ups, as the kernel counts
// them. Not asked of a build with sanitizers, whose threads are not ours.
#include "tests/node/entries.hpp"
#include "tests/node/processes.hpp"
#include "tests/support/node_main.hpp"
#include "tests/support/process_cost.hpp"

#include <gtest/gtest.h>

#include <set>

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;
using places::status;

namespace {

void collect(pid_t pid, std::set<pid_t>& into) {
    if (!into.insert(pid).second) return;
    for (const pid_t child : children_of(pid)) collect(child, into);
}

void wait_for_the_end(places::channel& to_creator) { (void)to_creator.get(); }

TEST(idle, sixteen_places_and_two_links_take_half_a_percent_of_a_core_and_ten_wake_ups_a_second) {
    constexpr auto asleep = 60s;
    std::vector<places::place> all;
    for (int i = 0; i < 16; ++i) all.push_back(places::spawn(wait_for_the_end));
    auto one = test_runtime().spawn_remote_node("localhost", {.listen_port = 0});
    auto two = test_runtime().spawn_remote_node("localhost", {.listen_port = 0});
    auto far = one.supervise_place(echo_entry);
    auto farther = two.supervise_place(echo_entry);
    for (auto* p : {&far, &farther}) {
        ASSERT_EQ(p->put(std::string("hello")), status::ok);
        ASSERT_EQ(p->get<std::string>().value(), "hello");
    }
    std::set<pid_t> processes;
    for (const pid_t root : {::getpid(), one.pid(), two.pid()}) collect(root, processes);
    // Three roots, reapers, nurseries and bridges, the idle places and a place on each other node.
    ASSERT_GE(processes.size(), 3U * 4 + 16 + 2);

    // Until all have stopped to spin.
    ASSERT_EQ(places::select({&far, &farther}, 1s), std::nullopt);
    const auto begun = clock_type::now();
    const auto before = cost_of(processes);
    ASSERT_EQ(places::select({&far, &farther}, asleep), std::nullopt);
    const auto after = cost_of(processes);
    const std::chrono::duration<double> taken = clock_type::now() - begun;

    const auto percent = (after.cpu_ns - before.cpu_ns) / taken.count() / 1e7;
    const auto wake_ups = (after.wake_ups - before.wake_ups) / taken.count();
    std::printf("%zu processes, %.0f s: %.4f %% of one core, %.2f wake-ups a second\n",
                processes.size(), taken.count(), percent, wake_ups);
    EXPECT_LE(percent, 0.5);
    EXPECT_LE(wake_ups, 10);
    // It was idle, not dead.
    for (auto* p : {&far, &farther}) {
        ASSERT_EQ(p->put(std::string("hello")), status::ok);
        ASSERT_EQ(p->get<std::string>().value(), "hello");
    }
}

}  // namespace
