// SPDX-License-Identifier: Apache-2.0
// Places killed in full traffic, and what their creator is told and counts. What really happened is
// told by words that the killed place wrote outside of its channel.
#include "tests/shm/pair.hpp"
#include "tests/support/node_main.hpp"
#include "tests/support/one_core.hpp"
#include "tests/support/process_state.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <thread>
#include <vector>

using places::channel;
using places::errc;
using places::spawn;
using places::status;
using clock_type = std::chrono::steady_clock;

namespace {

constexpr std::size_t small_ring = 4096;

struct truth {
    std::atomic<std::uint64_t> begun;
    std::atomic<std::uint64_t> done;
    std::atomic<std::uint32_t> has_filled;  // the ring, of which the reader takes nothing more
};
/// Mapped before main() forks the nursery, so every place has it.
truth& said() {
    static auto* const page = static_cast<truth*>(
        ::mmap(nullptr, sizeof(truth), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    return *page;
}
const auto& said_before_main = said();

void spin_for(std::chrono::nanoseconds time) {
    const auto until = clock_type::now() + time;
    while (clock_type::now() < until) {
    }
}

/// Kills at a moment of its own, and knows when.
class killer {
  public:
    /// After `ready` and `delay`.
    template <class Ready>
    killer(int pid, std::chrono::nanoseconds delay, Ready&& ready)
        : thread_([this, pid, delay, ready] {
              while (!ready()) ::sched_yield();
              spin_for(delay);
              when_ = clock_type::now();
              EXPECT_EQ(::kill(pid, SIGKILL), 0);
          }) {}
    clock_type::time_point when() {
        if (thread_.joinable()) thread_.join();
        return when_;
    }

  private:
    clock_type::time_point when_;
    std::jthread thread_;
};

void report(const char* what, std::vector<std::chrono::nanoseconds> times) {
    std::sort(times.begin(), times.end());
    const auto at = [&](std::size_t percent) {
        return static_cast<double>(times[(times.size() - 1) * percent / 100].count()) / 1e3;
    };
    std::printf("%zu kills; %s: p50 %.0f us, p99 %.0f us, most %.0f us\n", times.size(), what,
                at(50), at(99), at(100));
}

/// Message number n: one record, or one of several parts in a small ring.
std::vector<std::byte> content_of(std::uint64_t n) {
    std::vector<std::byte> octets(n % 16 == 15 ? 3000 + n % 3000 : 8 + n % 100);
    for (std::size_t i = 0; i < octets.size(); ++i) octets[i] = static_cast<std::byte>(n * 31 + i);
    std::memcpy(octets.data(), &n, sizeof n);
    return octets;
}

void flood(channel& c) {
    for (std::uint64_t n = 0;; ++n) {
        const auto octets = content_of(n);
        said().begun.store(n + 1);
        if (c.put(octets) != status::ok) return;
        said().done.store(n + 1);
    }
}

void kill_floods(int rounds) {
    std::mt19937_64 random{places::shm::test_seed()};
    std::vector<std::chrono::nanoseconds> times;
    std::uint64_t messages = 0;
    for (int round = 0; round < rounds; ++round) {
        said().begun = said().done = 0;
        auto p = spawn({.ring_bytes = small_ring}, flood);
        const bool flows = random() % 8 != 0;  // else it may be killed before it has begun
        killer k{p.pid(), std::chrono::microseconds{random() % 500},
                 [=] { return !flows || said().done.load() > 0; }};
        std::uint64_t n = 0;
        auto next = p.get<std::vector<std::byte>>();
        for (; next; next = p.get<std::vector<std::byte>>()) {
            ASSERT_EQ(*next, content_of(n)) << "message " << n << " of round " << round;
            ++n;
        }
        const auto told = clock_type::now();
        times.push_back(told - k.when());
        ASSERT_EQ(next.error(), errc::peer_dead) << "round " << round;
        ASSERT_GE(n, said().done.load()) << "round " << round;
        ASSERT_LE(n, said().begun.load()) << "round " << round;
        ASSERT_EQ(p.received().delivered, n);
        ASSERT_EQ(p.received().undelivered, 0U);
        ASSERT_EQ(p.wait(), (places::exit_status{true, SIGKILL}));
        messages += n;
    }
    std::printf("%llu messages\n", static_cast<unsigned long long>(messages));
    report("the get ended after", std::move(times));
}

TEST(kill, of_a_place_that_floods_ends_the_blocked_get_of_its_creator) {
    kill_floods(places::shm::rounds_of(10'000, 200));
}

TEST(kill, of_a_place_that_floods_is_told_beside_four_processes_that_take_all_cpu) {
    const auto hog = [] {
        while (true) spin_for(std::chrono::seconds{1});
    };
    using places::shm::child;
    const std::array<child, 4> hogs{child{hog}, child{hog}, child{hog}, child{hog}};
    kill_floods(places::shm::rounds_of(300, 20));
}

/// Puts `before` small messages, and one of `size` once told to, which is what is stepped.
void put_when_told(channel& c, std::uint64_t size, std::uint64_t before) {
    const std::vector<std::byte> octets(size, std::byte{5});
    for (std::uint64_t n = 0; n < before; ++n) (void)c.put(n);
    said().begun.store(1);
    while (said().has_filled.load() == 0) ::sched_yield();
    if (c.put(octets) == status::ok) said().done.store(1);
    never_ends();
}

bool sleeps(int pid) { return process_state("/proc/" + std::to_string(pid)) == 'S'; }

/// Lets a place make `steps` instructions of a put in parts, or all, looking after each of them,
/// and kills it there. `before` small messages are in the ring when it begins.
/// Returns: the steps made; 0 where nobody may be stopped.
std::size_t kill_in_parts(std::uint64_t size, std::uint64_t before, std::size_t steps) {
    SCOPED_TRACE(testing::Message() << size << " bytes behind " << before << " messages");
    said().begun = said().done = 0;
    said().has_filled = 0;
    const one_core core;
    auto p = spawn({.ring_bytes = small_ring}, put_when_told, size, before);
    core.take(p.pid());
    while (said().begun.load() == 0) ::sched_yield();
    if (::ptrace(PTRACE_ATTACH, p.pid(), nullptr, nullptr) != 0) return 0;
    EXPECT_EQ(::waitpid(p.pid(), nullptr, __WALL), p.pid());
    said().has_filled.store(1);
    std::size_t made = 0;
    std::uint64_t seen = 0;
    std::uint64_t taken = 0;
    const std::vector<std::byte> octets(size, std::byte{5});
    /// Why nothing more was there.
    const auto take_one = [&](channel::clock::time_point until) -> boost::system::error_code {
        const auto got = p.receive(until);
        if (!got) return got.error();
        const bool is_right = taken < before ? got->as<std::uint64_t>().value() == taken
                                             : got->as<std::vector<std::byte>>().value() == octets;
        EXPECT_TRUE(is_right) << "message " << taken;
        ++taken;
        return boost::system::error_code{};
    };
    while (made < steps && said().done.load() == 0) {
        if (::ptrace(PTRACE_SINGLESTEP, p.pid(), nullptr, nullptr) != 0) break;
        for (int looks = 1; ::waitpid(p.pid(), nullptr, __WALL | WNOHANG) == 0; ++looks) {
            ::sched_yield();
            // For room.
            if (looks % 64 == 0 && sleeps(p.pid())) {
                (void)take_one(channel::clock::time_point::min());
            }
        }
        ++made;
        const auto now = p.received().accepted - before;
        EXPECT_TRUE(now == seen || (seen == 0 && now == 1)) << "after " << made;
        if (testing::Test::HasFailure()) break;
        seen = now;
    }
    const bool is_done = said().done.load() != 0;
    EXPECT_EQ(::kill(p.pid(), SIGKILL), 0);
    // Whoever traces a process is told of its end before its parent is.
    EXPECT_EQ(::waitpid(p.pid(), nullptr, __WALL), p.pid());
    auto end = take_one(channel::clock::time_point::max());
    while (!end) end = take_one(channel::clock::time_point::max());
    EXPECT_EQ(end, errc::peer_dead);
    EXPECT_EQ(taken, before + seen);
    EXPECT_TRUE(!is_done || seen == 1) << "accepted, and lost";
    EXPECT_EQ(p.received().accepted, before + seen);
    return made;
}

// Larger than a quarter of the ring, up to all of it and more, and the ring empty, filled in part,
// but for one record, and full. Smaller ones are in tests/shm/step_test.cpp.
TEST(kill, after_any_instruction_of_a_put_in_parts_leaves_the_message_whole_or_absent) {
    if (is_sanitized) GTEST_SKIP() << "a sanitizer's own instructions are not ours";
    std::mt19937_64 random{places::shm::test_seed()};
    constexpr std::uint64_t lines = small_ring / 64;
    std::size_t all = 0;
    for (const std::uint64_t size : {1025, 1500, 2048, 3071, 4032, 4096, 5000}) {
        for (const std::uint64_t before :
             {std::uint64_t{0}, lines / 4, lines / 2, lines - 1, lines}) {
            const auto steps = kill_in_parts(size, before, ~std::size_t{0});
            if (steps == 0) GTEST_SKIP() << "ptrace is not allowed here";
            all += steps;
            (void)kill_in_parts(size, before, 1 + random() % steps);
            if (HasFailure()) return;
        }
    }
    std::printf("%zu instructions\n", all);
}

/// Takes `count`, keeps `held` in its hand, and then takes nothing more.
void read_some(channel& c, std::uint64_t count, std::uint64_t held) {
    for (std::uint64_t n = 0; n < count; ++n) {
        said().begun.store(n + 1);
        if (!c.get<std::uint64_t>()) return;
        said().done.store(n + 1);
    }
    std::array<std::span<const std::byte>, small_ring / 64> shown;
    if (held > 0 && !c.peek_batch(std::span{shown}.first(held))) return;
    while (c.received().undelivered < small_ring / 64) ::sched_yield();
    said().has_filled.store(1);
    never_ends();
}

/// Slower than its creator, which therefore waits for room most of the time.
void read_slowly(channel& c) {
    for (std::uint64_t n = 1;; ++n) {
        said().begun.store(n);
        if (!c.get<std::uint64_t>()) return;
        said().done.store(n);
        spin_for(std::chrono::microseconds{2});
    }
}

TEST(kill, of_a_reader_ends_the_blocked_put_and_the_accounts_equal_the_true_cursors) {
    std::mt19937_64 random{places::shm::test_seed()};
    std::vector<std::chrono::nanoseconds> times;
    const int rounds = places::shm::rounds_of(3'000, 200);
    for (int round = 0; round < rounds; ++round) {
        said().begun = said().done = 0;
        said().has_filled = 0;
        const bool stops = random() % 4 != 0;
        const std::uint64_t count = random() % 200;
        auto p = stops ? spawn({.ring_bytes = small_ring}, read_some, count, random() % 64)
                       : spawn({.ring_bytes = small_ring}, read_slowly);
        const std::uint64_t arguments = stops ? 1 : 0;  // a message too
        killer k{p.pid(), std::chrono::microseconds{random() % (stops ? 100 : 1000)},
                 [=] { return !stops || said().has_filled.load() != 0; }};
        std::uint64_t accepted = 0;
        auto outcome = status::ok;
        while ((outcome = p.put(accepted)) == status::ok) ++accepted;
        const auto told = clock_type::now();
        times.push_back(told - k.when());
        ASSERT_EQ(outcome, status::peer_dead) << "round " << round;
        const auto sent = p.sent();
        ASSERT_EQ(sent.accepted, accepted + arguments) << "round " << round;
        ASSERT_EQ(sent.accepted, sent.delivered + sent.undelivered);
        ASSERT_EQ(sent.unknown, 0U);
        const auto delivered = sent.delivered - arguments;
        if (stops) {
            // What the reader held in its hand was not given back, so it counts as undelivered.
            ASSERT_EQ(delivered, count) << "round " << round;
            ASSERT_EQ(sent.undelivered, small_ring / 64) << "round " << round;
        }
        ASSERT_GE(delivered, said().done.load()) << "round " << round;
        ASSERT_LE(delivered, said().begun.load()) << "round " << round;
    }
    report("the put ended after", std::move(times));
}

}  // namespace
