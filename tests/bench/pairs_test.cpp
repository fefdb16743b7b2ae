// SPDX-License-Identifier: Apache-2.0
// Where the sides of a pair run and how they wait, and what many clients hear of their server.
#include "bench/pairs.hpp"

#include "tests/bench/fixture.hpp"
#include "bench/concurrent_clients.hpp"

#include <places/core/place.hpp>

#include <boost/interprocess/anonymous_shared_memory.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <sched.h>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace places::bench {
namespace {

/// The cores that a thread may use.
struct usable {
    std::atomic<int> count;  // 0: it has not told yet
    std::atomic<int> first;
    void tell() {
        cpu_set_t set;
        CPU_ZERO(&set);
        (void)::sched_getaffinity(0, sizeof set, &set);
        int core = 0;
        while (core < CPU_SETSIZE && !CPU_ISSET(static_cast<unsigned>(core), &set)) ++core;
        first = core;
        count = CPU_COUNT(&set);
    }
};
/// Those of who calls an end and of the thread that the end has started.
struct usable_pair {
    struct {
        usable caller;
        usable own_thread;
    } near, far;
};
/// In memory that forked processes share.
usable_pair& told() {
    static const boost::interprocess::mapped_region page =
        boost::interprocess::anonymous_shared_memory(sizeof(usable_pair));
    return *static_cast<usable_pair*>(page.get_address());
}

class threaded_end final : public end {
  public:
    explicit threaded_end(usable& own) {
        std::thread([&own] { own.tell(); }).join();
    }
    void send(std::span<const std::byte>) override {}
    void receive(std::span<std::byte>) override {}
};

class threaded_link final : public link {
  public:
    std::unique_ptr<end> open(side which) override {
        return std::make_unique<threaded_end>(
            (which == side::near ? told().near : told().far).own_thread);
    }
};

struct telling {
    int far_core;
    std::size_t size = 64;

    template <class End>
    void near(End&, report&) const {
        told().near.caller.tell();
        while (told().far.caller.count == 0) std::this_thread::yield();
    }
    template <class End>
    [[noreturn]] void far(End& end) const {
        told().far.caller.tell();
        std::vector<std::byte> message(size);
        while (true) end.receive(message);
    }
};

void expect_own_cores(const harness& h, const usable& near, const usable& far) {
    EXPECT_EQ(near.count, 1);
    EXPECT_EQ(far.count, 1);
    EXPECT_EQ(near.first, h.near_core());
    EXPECT_EQ(far.first, h.far_core());
}

int usable_count() {
    usable mine{};
    mine.tell();
    return mine.count;
}

TEST(bench_pairs, limit_and_places_have_a_core_a_side) {
    const int all = usable_count();
    if (all < 2) GTEST_SKIP() << "one core";
    told();  // before the nursery is forked
    captured out;
    const fixture f{asked(1, true)};
    (void)out.take();
    const auto& h = f.measuring;
    const telling body{h.far_core()};
    new (&told()) usable_pair{};
    forked<ring_end, ring_memory>(h, "limit", body, {}).run();
    expect_own_cores(h, told().near.caller, told().far.caller);
    new (&told()) usable_pair{};
    placed(h, "places", body, {}).run();
    expect_own_cores(h, told().near.caller, told().far.caller);
}

TEST(bench_pairs, a_peer_has_a_core_a_side_with_its_threads_or_without_them_or_is_free) {
    const int all = usable_count();
    if (all < 2) GTEST_SKIP() << "one core";
    captured out;
    const fixture f{asked(1, true)};
    (void)out.take();
    const auto& h = f.measuring;
    const peer threaded{.name = "threaded",
                        .make = [](const link_options&) -> std::unique_ptr<link> {
                            return std::make_unique<threaded_link>();
                        }};
    const auto& near = told().near;
    const auto& far = told().far;
    for (const auto what : {pins::all, pins::caller, pins::none}) {
        new (&told()) usable_pair{};
        linked(h, threaded, telling{h.far_core()}, {}, what).run();
        if (what == pins::none) {
            EXPECT_EQ(near.caller.count, all);
            EXPECT_EQ(far.caller.count, all);
        } else {
            expect_own_cores(h, near.caller, far.caller);
        }
        if (what == pins::all) {
            expect_own_cores(h, near.own_thread, far.own_thread);
        } else {
            EXPECT_EQ(near.own_thread.count, all);
            EXPECT_EQ(far.own_thread.count, all);
        }
    }
}

TEST(bench_pairs, pinning_to_the_first_cores_leaves_as_many_as_were_asked_for) {
    const int all = usable_count();
    for (const int count : {0, 1, 2, all + 1}) {
        int found = 0;
        std::thread([&] {
            pin_to_first(count);
            found = usable_count();
        }).join();
        EXPECT_EQ(found, count == 0 ? all : std::min(all, count));
    }
}

TEST(bench_pairs, who_was_pinned_for_a_while_may_go_where_it_could_before) {
    usable mine{};
    mine.tell();
    const int all = mine.count;
    {
        const pinned here{mine.first};
        EXPECT_EQ(usable_count(), 1);
    }
    EXPECT_EQ(usable_count(), all);
}

TEST(bench_pairs, who_has_measured_a_place_may_go_where_it_could_before) {
    captured out;
    const fixture f{asked(1, true)};
    (void)out.take();
    const auto& h = f.measuring;
    const int all = usable_count();
    const round_trips body{64, h.clock(), 1, 0, h.far_core()};
    placed(h, "places", body, {}).run();
    EXPECT_EQ(usable_count(), all);
}

/// How the links of one peer were to wait, in any order: p spins, s sleeps.
std::string& ways_to_wait() {
    static std::string ways;
    return ways;
}

TEST(bench_pairs, who_has_threads_sleeps_too_where_others_spin) {
    captured out;
    const fixture f{asked(1, true)};
    (void)out.take();
    const auto ways_of = [&](bool has_threads, bool spins) {
        ways_to_wait().clear();
        const peer p{.name = "peer",
                     .make = [](const link_options& o) -> std::unique_ptr<link> {
                         ways_to_wait() += o.spins ? 'p' : 's';
                         return std::make_unique<threaded_link>();
                     },
                     .has_threads = has_threads};
        const round_trips body{64, f.measuring.clock(), 1, 0, f.measuring.far_core()};
        peer_pair(f.measuring, p, body, link_options{.spins = spins});
        std::sort(ways_to_wait().begin(), ways_to_wait().end());
        return ways_to_wait();
    };
    EXPECT_EQ(ways_of(false, true), "p");
    EXPECT_EQ(ways_of(false, false), "s");
    EXPECT_EQ(ways_of(true, true), "pss");
    EXPECT_EQ(ways_of(true, false), "s");
}

void take_three(inbox& in) {
    for (int i = 0; i < 3; ++i) (void)in.get();
}

TEST(bench_concurrent_clients, who_waits_for_a_server_that_has_ended_is_told) {
    captured out;
    const fixture f{asked(1, true)};
    (void)out.take();
    const auto server = spawn({.named = "brief"}, &take_three);
    std::vector<channel> clients;
    for (int i = 0; i < 3; ++i) clients.push_back(connect_to_named_place("brief"));
    const auto found = std::make_unique<report>();
    EXPECT_THROW(ask_all(clients, f.measuring.clock(), 0, *found), link_closed);
    EXPECT_EQ(found->times.total(), 0u);
}

}  // namespace
}  // namespace places::bench
