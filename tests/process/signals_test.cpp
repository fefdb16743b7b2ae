// SPDX-License-Identifier: Apache-2.0
// What signals do to a node: those of a terminal are for its root, the rest is as the root had it.
// The root leads a process group of its own, as a shell's job does.
#include "core/process.hpp"
#include "processes.hpp"

#include <places/places.hpp>

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <sched.h>
#include <string>

namespace {

std::atomic<int> handled = 0;
bool ignored_children_before_runtime = false;

void echo(places::channel& c) {
    while (auto m = c.get<int>()) {
        if (c.put(*m) != places::status::ok) return;
    }
}

/// It runs its entry: what it had of the nursery's signals is behind it.
places::place spawn_begun() {
    auto p = places::spawn(echo);
    EXPECT_EQ(p.put(1), places::status::ok);
    EXPECT_EQ(p.get<int>().value(), 1);
    return p;
}

/// The set of that name in /proc/PID/status, bit n - 1 for signal n.
unsigned long long signals_of(int pid, const std::string& set) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with(set + ":")) return std::stoull(line.substr(set.size() + 1), {}, 16);
    }
    ADD_FAILURE() << "no " << set;
    return 0;
}
unsigned long long bit(int signal) { return 1ULL << (signal - 1); }

}  // namespace

TEST(signals, of_a_terminal_reach_the_root_and_end_no_place) {
    auto p = spawn_begun();
    for (const int s : {SIGINT, SIGHUP, SIGQUIT}) {
        const int before = handled;
        ASSERT_EQ(::kill(0, s), 0);
        while (handled == before) ::sched_yield();
        ASSERT_EQ(p.put(s), places::status::ok) << s;
        EXPECT_EQ(p.get<int>(), s);
    }
    EXPECT_EQ(places::spawn([] { return 3; }).wait().value, 3);
}

TEST(signals, of_a_terminal_and_sigterm_are_ignored_by_the_bridge) {
    auto answer = places::detail::process::current().request(
        places::control::open_bridge{{}, places::ring_bytes_default});
    const auto grant = std::get<places::control::granted>(answer.packet.body);
    ASSERT_TRUE(grant.peer_is_bridge);
    // It runs, and refuses a channel that is for nothing.
    places::channel to_bridge{
        places::detail::process::current().open(grant, std::move(answer.fds))};
    (void)to_bridge.receive();
    const auto of_a_terminal = bit(SIGINT) | bit(SIGHUP) | bit(SIGQUIT);
    EXPECT_EQ(signals_of(grant.peer_pid, "SigIgn") & of_a_terminal, of_a_terminal);
    // And the one that a manager sends to all, for the root to end them in order.
    EXPECT_NE(signals_of(grant.peer_pid, "SigIgn") & bit(SIGTERM), 0U);
}

TEST(signals, sigterm_to_the_whole_group_ends_the_places_and_not_their_nursery) {
    const auto before = std::signal(SIGTERM, [](int) { ++handled; });
    auto p = spawn_begun();
    const int count = handled;
    ASSERT_EQ(::kill(0, SIGTERM), 0);
    while (handled == count) ::sched_yield();
    EXPECT_EQ(p.wait(), (places::exit_status{.signalled = true, .value = SIGTERM}));
    EXPECT_EQ(places::spawn([] { return 3; }).wait().value, 3);
    std::signal(SIGTERM, before);
}

TEST(signals, sigterm_ends_a_place_that_has_hardly_begun) {
    for (int i = 0; i < 100; ++i) {
        auto p = places::spawn(echo);
        ::kill(p.pid(), SIGTERM);
        ASSERT_EQ(p.wait(), (places::exit_status{.signalled = true, .value = SIGTERM}));
    }
}

TEST(signals, of_a_terminal_are_the_places_own_when_it_asks_for_them) {
    auto p = places::spawn([](places::channel& c) {
        static std::atomic<bool> was_told = false;
        std::signal(SIGINT, [](int) { was_told = true; });
        (void)c.put(1);
        while (!was_told) ::sched_yield();
        return 3;
    });
    ASSERT_EQ(p.get<int>().value(), 1);
    ::kill(p.pid(), SIGINT);
    EXPECT_EQ(p.wait().value, 3);
}

TEST(signals, a_place_ignores_a_broken_pipe_as_its_root_does) {
    auto p = places::spawn([] {
        std::array<int, 2> ends{};
        places::checked(::pipe2(ends.data(), O_CLOEXEC), "make a pipe");
        ::close(ends[0]);
        return ::write(ends[1], "x", 1) < 0 && errno == EPIPE ? 3 : 4;
    });
    EXPECT_EQ(p.wait(), (places::exit_status{.signalled = false, .value = 3}));
}

TEST(signals, a_place_blocks_what_its_root_did_and_nothing_more) {
    auto p = spawn_begun();
    EXPECT_EQ(signals_of(p.pid(), "SigBlk"), bit(SIGUSR1));
    p.kill();
}

TEST(signals, of_ended_children_are_ignored_neither_by_the_root_nor_by_a_place) {
    // As the program was started: then nobody could tell how anything has ended.
    EXPECT_TRUE(ignored_children_before_runtime);
    auto p = spawn_begun();
    for (const int pid : {p.pid(), static_cast<int>(::getpid())}) {
        EXPECT_EQ(signals_of(pid, "SigIgn") & bit(SIGCHLD), 0U);
    }
    p.kill();
    EXPECT_EQ(p.wait().value, SIGKILL);
}

int main(int argc, char** argv) {
    ::setpgid(0, 0);
    for (const int s : {SIGINT, SIGHUP, SIGQUIT}) std::signal(s, [](int) { ++handled; });
    for (const int s : {SIGPIPE, SIGCHLD}) std::signal(s, SIG_IGN);
    sigset_t blocked;
    ::sigemptyset(&blocked);
    ::sigaddset(&blocked, SIGUSR1);
    ::sigprocmask(SIG_BLOCK, &blocked, nullptr);
    ignored_children_before_runtime = signals_of(::getpid(), "SigIgn") & bit(SIGCHLD);
    places::runtime runtime{argc, argv};
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
