// SPDX-License-Identifier: Apache-2.0
// The hunt for a lost wake-up among those who wait for several channels: threads, sets, and bodies
// of a router, with random delays between their steps. Nobody looks before it has parked, so that
// every hand-off goes by way of that. A wake-up that is lost is a test that hangs, which the
// watchdog of ctest ends; no sleep here has a time-out that could hide it.
// tests/shm/handoff_test.cpp has the same of one channel alone.
#include "core/process.hpp"
#include "core/ready_list.hpp"
#include "tests/shm/pair.hpp"
#include "tests/support/dawdler.hpp"
#include "tests/support/node_main.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

using places::channel;
using places::place;
using places::spawn;
using places::status;
using places::detail::channel_state;
using places::detail::state_of;
using places::shm::no_deadline;
using places::shm::park_mode;

namespace {

constexpr std::size_t small_ring = 4096;
constexpr std::size_t large = 1000;  // four of them fill the ring
constexpr int hunted_count = 3;

/// Waits as every wait of a channel does, for a message or for room of a large one.
void await_parked(channel_state& c, bool for_room, dawdler& dawdle) {
    bool found = false;
    const auto ready = [&] {
        if (!found && (for_room ? c.end().out().is_parked() : c.end().in().is_parked())) {
            dawdle();
            found = for_room ? c.end().out().has_room(large) != status::full : c.has_message();
            dawdle();
        }
        return found;
    };
    const places::detail::interest on{
        .channel = &c, .record = !for_room, .room = for_room, .room_bytes = large};
    (void)c.self().wait({&on, 1}, ready, no_deadline, c.spin());
}

void respond(channel& c, std::uint64_t seed) {
    dawdler dawdle{seed};
    while (true) {
        await_parked(*state_of::get(c), false, dawdle);
        const auto n = c.get<std::uint64_t>();
        dawdle();
        if (!n || c.put(*n + 1) != status::ok) return;
    }
}

void swallow(channel& c, std::uint64_t seed) {
    dawdler dawdle{seed};
    std::uint64_t expected = 0;
    while (true) {
        await_parked(*state_of::get(c), false, dawdle);
        const auto got = c.get<std::vector<std::uint64_t>>();
        if (!got || got->front() != expected++) return;
        dawdle();
    }
}

/// One end of the hunt: asks and is answered, or fills the ring of one that swallows.
class prey {
  public:
    prey(bool fills, std::uint64_t seed)
        : fills_(fills),
          dawdle_(seed),
          there_(spawn({.ring_bytes = small_ring}, fills ? swallow : respond, ~seed)) {
        // What it was started with has left the ring.
        while (there_.sent().undelivered > 0) {
        }
        if (!fills) begin();
    }

    channel_state& end() { return *state_of::get(there_); }
    bool fills() const { return fills_; }
    dawdler& dawdle() { return dawdle_; }

    bool can_go_on() {
        return fills_ ? end().end().out().has_room(large) != status::full : end().has_message();
    }

    /// Takes the answer and asks again, or puts until there is no room.
    /// Returns: the number of hand-offs.
    std::uint64_t go_on() {
        if (!fills_) {
            const auto got = there_.get<std::uint64_t>();
            EXPECT_EQ(got.value(), ++count_);
            dawdle_();
            begin();
            return 1;
        }
        const auto before = count_;
        auto outcome = status::ok;
        while ((outcome = put_large()) == status::ok) ++count_;
        EXPECT_EQ(outcome, status::full);
        return count_ - before;
    }

  private:
    void begin() { ASSERT_EQ(there_.put(count_), status::ok); }
    status put_large() {
        return there_.try_put(std::vector<std::uint64_t>(large / sizeof count_, count_));
    }

    bool fills_;
    dawdler dawdle_;
    place there_;
    std::uint64_t count_ = 0;
};

/// Of a set, as channel_set and inbox have them.
struct member {
    prey* one;
    channel_state* state;
    bool is_hot = false;
    bool found = false;

    bool is_parked() const {
        return one->fills() ? state->end().out().is_parked() : state->end().in().is_parked();
    }
    bool is_ready() {
        if (!found && is_parked()) {
            one->dawdle()();
            found = one->can_go_on();
            one->dawdle()();
        }
        return found;
    }
    void park() {
        one->dawdle()();
        if (one->fills()) {
            state->end().out().park(park_mode::doorbell, large);
        } else {
            state->end().in().park(park_mode::doorbell);
        }
    }
    void unpark() {
        state->end().in().unpark();
        state->end().out().unpark();
    }
};

void hunt_in_a_set(std::vector<std::unique_ptr<prey>>& hunted, std::uint64_t count) {
    places::detail::ready_list<member> all{places::detail::process::current()};
    for (auto& one : hunted) all.add(std::make_shared<member>(member{one.get(), &one->end()}));
    for (std::uint64_t n = 0; n < count;) {
        all.pump();
        if (const auto m = all.next()) {
            m->found = false;
            n += m->one->go_on();
            ASSERT_FALSE(testing::Test::HasFailure());
        } else {
            hunted.front()->dawdle()();
            ASSERT_TRUE(all.wait(no_deadline, [] { return false; }));
        }
    }
}

void hunt_alone(prey& one, std::uint64_t count) {
    for (std::uint64_t n = 0; n < count;) {
        await_parked(one.end(), one.fills(), one.dawdle());
        n += one.go_on();
        ASSERT_FALSE(testing::Test::HasFailure());
    }
}

class wake_hunt : public testing::Test {
  protected:
    /// Some that answer and some that swallow.
    std::vector<std::unique_ptr<prey>> make_hunted() {
        std::vector<std::unique_ptr<prey>> all;
        for (int i = 0; i < hunted_count; ++i) {
            all.push_back(std::make_unique<prey>(i % 2 == 1, random_()));
        }
        return all;
    }
    std::uint64_t count(int all) const {
        return places::shm::test_scale() *
               static_cast<std::uint64_t>(places::shm::rounds_of(all, all / 20));
    }

  private:
    std::mt19937_64 random_{places::shm::test_seed()};
};

}  // namespace

TEST_F(wake_hunt, finds_no_lost_call_of_a_thread_that_waits_for_one) {
    auto hunted = make_hunted();
    for (auto& one : hunted) hunt_alone(*one, count(15'000));
}

TEST_F(wake_hunt, finds_no_lost_call_of_a_thread_that_waits_for_several) {
    auto hunted = make_hunted();
    hunt_in_a_set(hunted, count(100'000));
}

TEST_F(wake_hunt, finds_no_lost_call_of_bodies_of_a_router) {
    auto alone = make_hunted();
    auto together = make_hunted();
    places::router bodies;
    std::size_t running = 0;
    const auto begin = [&](std::function<void()> body) {
        ++running;
        bodies.post([&, body = std::move(body)] {
            body();
            if (--running == 0) bodies.stop();
        });
    };
    for (auto& one : alone) begin([&] { hunt_alone(*one, count(20'000)); });
    begin([&] { hunt_in_a_set(together, count(60'000)); });
    bodies.run();
}
