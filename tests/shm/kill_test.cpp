// SPDX-License-Identifier: Apache-2.0
// Processes killed at any moment of full traffic. What really happened is told by words that the
// killed process wrote outside of the ring, just before and just after each step.
#include "tests/shm/traffic.hpp"

#include <optional>
#include <sched.h>

namespace places::shm {
namespace {

struct truth {
    std::atomic<std::uint64_t> begun;
    std::atomic<std::uint64_t> done;
};

struct witness {
    unique_fd memory = create_memory(sizeof(truth), "witness");
    boost::interprocess::mapped_region region = map_memory(memory, access::read_write);
    truth& said() { return *static_cast<truth*>(region.get_address()); }
};

class moment {
  public:
    explicit moment(std::mt19937_64& random)
        : when_(std::chrono::steady_clock::now() + std::chrono::microseconds{random() % 4000}) {}
    bool has_come() const { return std::chrono::steady_clock::now() >= when_; }

  private:
    deadline when_;
};

/// `run` has one process killed and returns how many records have crossed.
template <class Run>
void in_rounds(int rounds, Run&& run) {
    std::mt19937_64 random{test_seed()};
    std::uint64_t records = 0;
    for (int round = 0; round < rounds; ++round) {
        records += run(random);
        ASSERT_FALSE(testing::Test::HasFailure()) << "round " << round;
    }
    std::printf("%llu records in %d rounds\n", static_cast<unsigned long long>(records), rounds);
}

TEST(kill, of_a_sender_tears_nothing_and_loses_nothing_published) {
    in_rounds(rounds_of(10'000, 200), [](std::mt19937_64& random) -> std::uint64_t {
        const auto round_seed = random();
        const channel_memory memory{ring_bytes_min << random() % 5};
        witness w;
        child killed{[&] {
            endpoint end{memory.first.duplicate(), reopen_read_only(memory.second)};
            std::vector<std::byte> payload;
            for (std::uint64_t n = 0;; ++n) {
                const auto plan = plan_of(round_seed, n, end.out().record_bytes_max());
                payload.resize(plan.size);
                fill(payload, plan);
                w.said().begun.store(n + 1);
                if (end.put(plan.kind, plan.flags, payload) != status::ok) return;
                w.said().done.store(n + 1);
            }
        }};
        endpoint end{memory.second.duplicate(), reopen_read_only(memory.first)};
        receiver r{end.in(), round_seed};
        // A time from here on, or many would be killed before they have sent anything.
        while (w.said().begun.load() == 0) ::sched_yield();
        for (const moment m{random}; !m.has_come();) (void)r.step();
        killed.kill();
        EXPECT_TRUE(was_killed_by(killed.wait(), SIGKILL));
        end.peer_died();

        const auto left = end.in().count();
        EXPECT_EQ(left.delivered, r.released());
        EXPECT_EQ(left.accepted, left.delivered + left.undelivered);
        while (r.step()) {
        }
        EXPECT_EQ(r.last(), status::peer_dead);
        EXPECT_EQ(r.next(), left.accepted);
        EXPECT_GE(r.next(), w.said().done.load());
        EXPECT_LE(r.next(), w.said().begun.load());
        return r.next();
    });
}

TEST(kill, of_a_receiver_leaves_accounts_that_equal_the_truth) {
    in_rounds(rounds_of(3'000, 200), [](std::mt19937_64& random) -> std::uint64_t {
        const auto round_seed = random();
        const channel_memory memory{ring_bytes_min << random() % 5};
        witness w;
        child killed{[&] {
            endpoint end{memory.second.duplicate(), reopen_read_only(memory.first)};
            std::uint64_t n = 0;
            std::uint64_t held = 0;
            while (true) {
                const auto r = held ? end.in().try_peek() : end.peek();
                if (r.state == status::ok) {
                    const auto plan = plan_of(round_seed, n, end.in().record_bytes_max());
                    if (!is_record(r.record, plan)) ::_exit(1);
                    ++n;
                    if (++held < 1 + round_seed % 4) {
                        end.in().skip();
                        continue;
                    }
                }
                held = 0;
                w.said().begun.store(n);
                end.in().release();
                w.said().done.store(n);
            }
        }};
        const half_mapping theirs{memory.second, access::read_only};
        endpoint end{memory.first.duplicate(), reopen_read_only(memory.second)};
        std::vector<std::uint64_t> ends;  // positions behind each accepted record
        std::vector<std::byte> payload;
        std::optional<moment> m;
        while (!m || !m->has_come()) {
            // As above: from when it has taken the first of them.
            if (!m && w.said().begun.load() > 0) m.emplace(random);
            const auto plan = plan_of(round_seed, ends.size(), end.out().record_bytes_max());
            payload.resize(plan.size);
            fill(payload, plan);
            if (end.out().try_put(plan.kind, plan.flags, payload) == status::ok) {
                ends.push_back(end.out().head());
            }
        }
        killed.kill();
        EXPECT_TRUE(was_killed_by(killed.wait(), SIGKILL));
        end.peer_died();

        EXPECT_EQ(end.put(0, 0, {}), status::peer_dead);
        const auto c = end.out().count();
        const auto released = theirs.header()->released.load();
        const auto truly = std::upper_bound(ends.begin(), ends.end(), released) - ends.begin();
        EXPECT_EQ(c.accepted, ends.size());
        EXPECT_EQ(c.delivered, static_cast<std::uint64_t>(truly));
        EXPECT_EQ(c.undelivered, ends.size() - static_cast<std::uint64_t>(truly));
        EXPECT_GE(c.delivered, w.said().done.load());
        EXPECT_LE(c.delivered, w.said().begun.load());
        return c.delivered;
    });
}

}  // namespace
}  // namespace places::shm
