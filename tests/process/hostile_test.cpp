// SPDX-License-Identifier: Apache-2.0
// Places that misuse what they are given on purpose: descriptors, requests, memory. The node goes
// on, and serves the others. A test that finds a process asleep for good fails by its watchdog.
#include "core/process.hpp"
#include "tests/support/node_main.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <unistd.h>
#include <vector>

using places::channel;
using places::spawn;
using places::status;

namespace {

int control_socket() { return places::detail::process::current().control_handle(); }

void echo(channel& c) {
    while (auto m = c.get<int>()) {
        if (c.put(*m) != status::ok) return;
    }
}

void expect_serving() {
    auto p = spawn(echo);
    ASSERT_EQ(p.put(5), status::ok);
    EXPECT_EQ(p.get<int>().value(), 5);
    p.kill();
}

/// Fills whatever takes bytes of what this place was given, and has it block from then on.
void fill_and_make_blocking(channel& to_creator) {
    ::signal(SIGPIPE, SIG_IGN);
    std::vector<int> all;
    for (const auto& each : std::filesystem::directory_iterator{"/proc/self/fd"}) {
        all.push_back(std::stoi(each.path().filename()));
    }
    for (const int fd : all) {
        if (fd <= STDERR_FILENO || fd == control_socket()) continue;
        ::fcntl(fd, F_SETFL, O_NONBLOCK);
        const std::uint64_t id = 1;
        for (int n = 0; n < 100'000 && ::write(fd, &id, sizeof id) > 0; ++n) {
        }
        ::fcntl(fd, F_SETFL, 0);
    }
    (void)to_creator.put(1);
    never_ends();
}

}  // namespace

TEST(hostile, place_that_fills_the_doorbell_of_its_creator_stops_nobody) {
    auto p = spawn(fill_and_make_blocking);
    ASSERT_EQ(p.get<int>().value(), 1);
    // The nursery rings the root for the memory of each new place.
    expect_serving();
    p.kill();
}
