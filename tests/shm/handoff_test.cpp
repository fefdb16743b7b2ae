// SPDX-License-Identifier: Apache-2.0
// The hunt for a lost wake-up: two processes that sleep for every hand-off, with random delays
// between look, announcement, look and sleep. A wake-up that is lost is a test that hangs, which
// the watchdog of ctest ends; no sleep here has a time-out that could hide it.
// It shows what this machine's memory order does; the argument for weaker ones is shm/README.md's.
#include "tests/shm/traffic.hpp"
#include "tests/support/dawdler.hpp"

#include <optional>
#include <ostream>
#include <sched.h>

namespace places::shm {
namespace {

struct hunt {
    park_mode mode;
    bool apart;   // each side has a core of its own, so that they meet between park and sleep
    int records;  // hand-offs of them, to and fro
    int room;     // hand-offs of records and of room, one each for every record
};

/// Lets this process run on its `which`th core alone, where it has as many.
class own_core {
  public:
    explicit own_core(int which) {
        (void)::sched_getaffinity(0, sizeof before_, &before_);
        if (which >= CPU_COUNT(&before_)) return;
        int core = 0;
        for (int seen = -1; seen < which; ++core) seen += CPU_ISSET(core, &before_) ? 1 : 0;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(core - 1, &one);
        (void)::sched_setaffinity(0, sizeof one, &one);
    }
    ~own_core() { (void)::sched_setaffinity(0, sizeof before_, &before_); }
    own_core(const own_core&) = delete;
    own_core& operator=(const own_core&) = delete;

  private:
    cpu_set_t before_;
};

void PrintTo(const hunt& h, std::ostream* to) { *to << h.records + h.room << " hand-offs"; }

std::uint64_t sleeps = 0;  // of this process

class handoff : public testing::TestWithParam<hunt> {
  protected:
    std::uint64_t seed = test_seed();
    ready_set::ends to_first = ready_set::make();
    ready_set::ends to_second = ready_set::make();
    channel_memory memory;

    /// The peer's words, for a giver that aims at the moment between park and sleep.
    half_mapping first{memory.first, access::read_only};
    half_mapping second{memory.second, access::read_only};

    /// Runs `left` in this process and `right` in another, each with its end and its bed.
    template <class Left, class Right>
    void run(Left&& left, Right&& right) {
        child other{[&] {
            std::optional<own_core> core;
            if (GetParam().apart) core.emplace(1);
            ready_set calls{std::move(to_second.reader)};
            endpoint end{memory.second.duplicate(), reopen_read_only(memory.first)};
            end.set_peer_doorbell(to_first.doorbell.get());
            sleeps = 0;
            right(end, bedside{GetParam().mode, &calls});
        }};
        std::optional<own_core> core;
        if (GetParam().apart) core.emplace(0);
        sleeps = 0;
        {
            ready_set calls{std::move(to_first.reader)};
            endpoint end{memory.first.duplicate(), reopen_read_only(memory.second)};
            end.set_peer_doorbell(to_second.doorbell.get());
            left(end, bedside{GetParam().mode, &calls});
        }
        EXPECT_EQ(other.wait(), 0);
        std::printf("%llu sleeps on this side\n", static_cast<unsigned long long>(sleeps));
    }
};

void await_record(endpoint& end, const bedside& bed, dawdler& dawdle) {
    while (!end.in().is_ready()) {
        dawdle();
        const auto bell = end.bell();
        dawdle();
        end.in().park(bed.mode);
        dawdle();
        if (!end.in().is_ready()) {
            dawdle();
            ++sleeps;
            bed.lie_until(bell);
        }
        end.in().unpark();
    }
}

void put(endpoint& end, const bedside& bed, dawdler& dawdle, std::span<const std::byte> payload) {
    while (true) {
        const auto outcome = end.out().try_put(1, 0, payload);
        if (outcome == status::ok) return;
        ASSERT_EQ(outcome, status::full);
        const auto bell = end.bell();
        dawdle();
        end.out().park(bed.mode, payload.size());
        dawdle();
        if (end.out().has_room(payload.size()) == status::full) {
            dawdle();
            ++sleeps;
            bed.lie_until(bell);
        }
        end.out().unpark();
    }
}

TEST_P(handoff, of_records_to_and_fro_loses_no_wake_up) {
    const auto trips = test_scale() * static_cast<std::uint64_t>(GetParam().records) / 2;
    const auto take = [](endpoint& end, std::uint64_t expected) {
        const auto r = end.in().try_peek();
        ASSERT_EQ(r.state, status::ok);
        std::uint64_t n = 0;
        ASSERT_EQ(r.record.payload.size(), sizeof n);
        std::memcpy(&n, r.record.payload.data(), sizeof n);
        ASSERT_EQ(n, expected);
        end.in().release();
    };
    const auto give = [](endpoint& end, std::uint64_t n, const half_mapping& far, dawdler& dawdle) {
        // Between park and sleep, when both sides have a core; else the other needs this one.
        for (int looks = 0; n % 8 != 0 && far.header()->reader_park.load() == 0; ++looks) {
            if (looks > 2000) ::sched_yield();
        }
        dawdle();
        ASSERT_EQ(end.out().try_put(1, 0, std::as_bytes(std::span{&n, 1})), status::ok);
    };
    run(
        [&](endpoint& end, const bedside& bed) {
            dawdler dawdle{seed};
            for (std::uint64_t n = 0; n < trips; ++n) {
                give(end, n, second, dawdle);
                dawdle();
                await_record(end, bed, dawdle);
                take(end, n);
                ASSERT_FALSE(HasFatalFailure());
            }
        },
        [&](endpoint& end, const bedside& bed) {
            dawdler dawdle{~seed};
            for (std::uint64_t n = 0; n < trips; ++n) {
                await_record(end, bed, dawdle);
                take(end, n);
                give(end, n, first, dawdle);
                ASSERT_FALSE(HasFatalFailure());
            }
        });
}

// A small ring of large records: the writer sleeps for room, the reader for records.
TEST_P(handoff, of_room_loses_no_wake_up) {
    const auto count = test_scale() * static_cast<std::uint64_t>(GetParam().room) / 2;
    run(
        [&](endpoint& end, const bedside& bed) {
            dawdler dawdle{seed};
            std::mt19937_64 random{seed};
            const auto payload = bytes_of(end.out().record_bytes_max(), 1);
            for (std::uint64_t n = 0; n < count; ++n) {
                const auto size = random() % 4 ? payload.size() : random() % payload.size();
                put(end, bed, dawdle, std::span{payload}.first(size));
            }
        },
        [&](endpoint& end, const bedside& bed) {
            dawdler dawdle{~seed};
            for (std::uint64_t n = 0; n < count; ++n) {
                await_record(end, bed, dawdle);
                ASSERT_EQ(end.in().try_peek().state, status::ok) << n;
                dawdle();
                end.in().release();
            }
            await_record(end, bed, dawdle);
            EXPECT_EQ(end.in().try_peek().state, status::closed);
        });
}

// Ten million in all, or PLACES_TEST_SCALE times as many; most of them of room, where many go on
// without a switch of processes.
INSTANTIATE_TEST_SUITE_P(
    shm, handoff,
    testing::Values(
        hunt{park_mode::futex, true, rounds_of(300'000, 20'000), rounds_of(3'500'000, 50'000)},
        hunt{park_mode::doorbell, true, rounds_of(200'000, 20'000), rounds_of(1'500'000, 50'000)},
        hunt{park_mode::futex, false, rounds_of(300'000, 20'000), rounds_of(3'000'000, 50'000)},
        hunt{park_mode::doorbell, false, rounds_of(200'000, 20'000), rounds_of(1'000'000, 50'000)}),
    [](const auto& h) {
        return std::string(h.param.mode == park_mode::futex ? "futex" : "doorbell") +
               (h.param.apart ? "_apart" : "");
    });

}  // namespace
}  // namespace places::shm
