// SPDX-License-Identifier: Apache-2.0
// What a producer leaves that is killed after any one instruction of a put. It runs under ptrace,
// in the library as it is built for use, step by step; a kill between two steps would leave the
// memory as it is then, so after each of them the survivor looks at it as one who knows that the
// producer is dead. Once in each case the producer is really killed, somewhere on its way.
// Not shown: the order in which another core would see the stores (shm/README.md has that).
#include "tests/shm/traffic.hpp"
#include "tests/support/one_core.hpp"
#include "tests/support/process_state.hpp"

#include <sched.h>
#include <sys/ptrace.h>

namespace places::shm {
namespace {

struct planned {
    record_plan plan;
    std::vector<std::byte> payload;
};

constexpr std::uint64_t seed = 4711;  // only of the content

/// The record of `size` that is number `n` of its ring.
planned sized(std::uint64_t n, std::size_t size) {
    planned p{plan_of(seed, n, 0), std::vector<std::byte>(size)};
    p.plan.size = size;
    fill(p.payload, p.plan);
    return p;
}

/// What the stepped process does. Whole: all of its records are seen or none; else they are the
/// parts of one message.
struct action {
    const char* name;
    std::vector<std::size_t> sizes;
    bool is_whole;
    void (*run)(endpoint& end, std::span<const planned> records);
    bool sleeps = false;  // until the consumer gives back what it has not
};

/// Where the ring stands when the action begins.
struct stand {
    std::size_t capacity_bytes = ring_bytes_min;
    std::size_t head = 0;          // bytes behind the beginning of the data area
    std::size_t unreleased = 0;    // bytes that the consumer has not given back
    bool consumer_sleeps = false;  // or says so: the put has somebody to wake
};

/// A channel brought to `at`, both of its ends in this process, for a child to take over one.
class stage {
  public:
    explicit stage(const stand& at) : memory_(at.capacity_bytes) {
        // A whole lap before it, so that what is written over is not zero.
        const auto head = at.capacity_bytes + at.head;
        while (producer_.out().head() < head) {
            const auto [plan, payload] = sized(laid_++, 40);
            EXPECT_EQ(producer_.out().try_put(plan.kind, plan.flags, payload), status::ok);
            if (producer_.out().head() > head - at.unreleased) continue;
            EXPECT_EQ(in().try_peek().state, status::ok);
            in().release();
            ++given_back_;
        }
        if (at.consumer_sleeps) in().park(park_mode::futex);
        consumer_.peer_died();  // what only the survivor knows
    }

    endpoint& writer() { return producer_; }
    consumer& in() { return consumer_.in(); }
    std::uint64_t laid() const { return laid_; }

    void give_back_one() {
        EXPECT_EQ(in().try_peek().state, status::ok);
        in().release();
        ++given_back_;
    }

    /// What the survivor finds: all that was laid before, whole, and then records of `added`.
    /// Returns: how many of those. Changes nothing.
    std::size_t look(std::span<const planned> added) {
        for (auto n = given_back_; n < laid_; ++n) {
            const auto r = in().try_peek();
            EXPECT_TRUE(r.state == status::ok && is_record(r.record, sized(n, 40).plan)) << n;
            in().skip();
        }
        std::size_t seen = 0;
        for (; seen < added.size(); ++seen) {
            const auto r = in().try_peek();
            if (r.state != status::ok) break;
            EXPECT_TRUE(is_record(r.record, added[seen].plan)) << "torn: record " << seen;
            in().skip();
        }
        EXPECT_EQ(in().try_peek().state, status::peer_dead);
        in().rewind();
        return seen;
    }

  private:
    channel_memory memory_;
    endpoint producer_{memory_.first.duplicate(), reopen_read_only(memory_.second)};
    endpoint consumer_{memory_.second.duplicate(), reopen_read_only(memory_.first)};
    std::uint64_t laid_ = 0;
    std::uint64_t given_back_ = 0;
};

/// A word that the stepped process writes behind its action.
class finish_line {
  public:
    std::atomic<std::uint32_t>& crossed() {
        return *static_cast<std::atomic<std::uint32_t>*>(region_.get_address());
    }

  private:
    unique_fd memory_ = create_memory(header_bytes, "finish");
    boost::interprocess::mapped_region region_ = map_memory(memory_, access::read_write);
};

constexpr int forbidden = 77;

class killed_after_each_instruction : public testing::Test {
  protected:
    /// Goes all the way, looking after each step, and a second time to a step at random.
    void step_through(const action& what, const stand& at) {
        const auto all = walk(what, at, ~std::size_t{0});
        if (HasFatalFailure() || IsSkipped()) return;
        (void)walk(what, at, 1 + random_() % all);
        steps_ += all;
        longest_ = std::max(longest_, all);
    }

    void TearDown() override {
        std::printf("%zu instructions, %zu on the longest way\n", steps_, longest_);
    }

  private:
    /// Lets `what` make `steps` steps, or all of its own, and kills it. Returns: the steps made.
    std::size_t walk(const action& what, const stand& at, std::size_t steps) {
        SCOPED_TRACE(testing::Message() << what.name << " of " << what.sizes.front() << " bytes, "
                                        << at.unreleased << " unreleased");
        stage s{at};
        std::vector<planned> records;
        for (const auto size : what.sizes) {
            records.push_back(sized(s.laid() + records.size(), size));
            const bool is_last = records.size() == what.sizes.size();
            if (!what.is_whole && !is_last) records.back().plan.kind |= continues;
        }
        finish_line line;
        child stepped{[&] {
            if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(forbidden);
            ::raise(SIGSTOP);
            what.run(s.writer(), records);
            line.crossed().store(1);
            for (;;) ::pause();
        }};
        std::size_t made = 0;
        std::size_t seen = 0;
        std::size_t sleeps = 0;
        const auto make_steps = [&] {
            if (!has_stopped(stepped)) {
                GTEST_SKIP() << "ptrace is not allowed here, so nobody can be stopped in a put";
            }
            for (; made < steps && line.crossed().load() == 0; ++made) {
                ASSERT_EQ(::ptrace(PTRACE_SINGLESTEP, stepped.pid(), nullptr, nullptr), 0);
                if (what.sleeps) sleeps += wake_from_sleep(stepped, s);
                ASSERT_TRUE(has_stopped(stepped));
                const auto now = s.look(records);
                ASSERT_GE(now, seen) << "seen, and then not any more";
                seen = now;
                ASSERT_TRUE(!what.is_whole || seen == 0 || seen == records.size()) << seen;
                ASSERT_FALSE(HasFailure()) << "after " << made + 1 << " instructions";
            }
        };
        make_steps();
        if (HasFatalFailure() || IsSkipped()) return 0;
        EXPECT_TRUE(line.crossed().load() == 0 || seen == records.size()) << "accepted, and lost";
        EXPECT_TRUE(!what.sleeps || line.crossed().load() == 0 || sleeps > 0) << "never full";
        stepped.kill();
        EXPECT_TRUE(was_killed_by(stepped.wait(), SIGKILL));
        EXPECT_EQ(s.look(records), seen);
        // Of a message in parts the last one counts.
        const auto messages = seen < records.size() ? 0 : what.is_whole ? seen : 1;
        EXPECT_EQ(s.in().count().accepted, s.laid() + messages);
        return made;
    }

    /// Lets the child end its step: where it sleeps in it, the consumer gives back a record, and
    /// another if that was not enough.
    /// Returns: how often it was found asleep.
    static std::size_t wake_from_sleep(const child& c, stage& s) {
        std::size_t found = 0;
        const auto folder = "/proc/" + std::to_string(c.pid());
        for (int looks = 0;; ++looks) {
            siginfo_t what{};
            constexpr int any = WEXITED | WSTOPPED | WNOWAIT | WNOHANG;
            (void)::waitid(P_PID, static_cast<id_t>(c.pid()), &what, any);
            if (what.si_pid != 0) return found;
            ::sched_yield();
            if (looks % 16 != 15) continue;
            if (process_state(folder) != 'S') continue;
            s.give_back_one();
            ++found;
        }
    }

    /// Whether the child has stopped, rather than ended.
    static bool has_stopped(const child& c) {
        siginfo_t what{};
        constexpr int any = WEXITED | WSTOPPED | WNOWAIT;
        while (::waitid(P_PID, static_cast<id_t>(c.pid()), &what, any) < 0 && errno == EINTR) {
        }
        if (what.si_code == CLD_EXITED || what.si_code == CLD_KILLED) return false;
        return ::waitpid(c.pid(), nullptr, WUNTRACED) == c.pid();
    }

    one_core core_;
    std::mt19937_64 random_{test_seed()};
    std::size_t steps_ = 0;
    std::size_t longest_ = 0;
};

void put_one(endpoint& end, std::span<const planned> records) {
    const auto& [plan, payload] = records[0];
    (void)end.out().try_put(plan.kind, plan.flags, payload);
}

TEST_F(killed_after_each_instruction, a_put_is_whole_or_absent) {
    constexpr std::size_t sizes[] = {0,  1,  2,   7,   8,   15,  16,  31,  47,   48,
                                     49, 63, 112, 113, 200, 255, 511, 777, 1008, 1024};
    std::size_t turn = 0;
    for (const auto size : sizes) {
        const auto room = ring_bytes_min - span_of(size);
        for (const std::size_t unreleased :
             {std::size_t{0}, std::size_t{64}, room / 128 * 64, room - 64, room}) {
            // In the midst of the data area, and across its end.
            const std::size_t head = ++turn % 2 ? ring_bytes_min / 2 : ring_bytes_min - 64;
            step_through({"put", {size}, true, put_one},
                         {ring_bytes_min, head, unreleased, unreleased == 0});
            if (HasFailure() || IsSkipped()) return;
        }
    }
}

TEST_F(killed_after_each_instruction, a_put_is_whole_or_absent_in_the_midst_of_a_long_copy) {
    constexpr std::size_t capacity = 16 * ring_bytes_min;
    step_through({"put", {capacity / 4}, true, put_one}, {capacity, capacity - 64, 640, false});
}

// Through the spin, the park and the sleep, and what comes after the wake-up.
TEST_F(killed_after_each_instruction, a_put_that_waits_for_room_is_whole_or_absent) {
    const auto run = [](endpoint& end, std::span<const planned> records) {
        const auto& [plan, payload] = records[0];
        (void)end.put(plan.kind, plan.flags, payload);
    };
    for (const std::size_t size : {40, 200, 1024}) {
        step_through({"blocking put", {size}, true, run, true},
                     {ring_bytes_min, ring_bytes_min - 128, ring_bytes_min, false});
    }
}

TEST_F(killed_after_each_instruction, a_batch_is_whole_or_absent) {
    const auto run = [](endpoint& end, std::span<const planned> records) {
        for (const auto& [plan, payload] : records) {
            (void)end.out().try_add(plan.kind, plan.flags, payload);
        }
        end.out().publish_batch();
    };
    for (const bool consumer_sleeps : {false, true}) {
        step_through({"batch", {10, 100, 0, 300, 48}, true, run},
                     {ring_bytes_min, ring_bytes_min - 128, 0, consumer_sleeps});
    }
}

TEST_F(killed_after_each_instruction, a_span_of_another_ring_is_whole_or_absent) {
    const auto run = [](endpoint& end, std::span<const planned> records) {
        std::vector<std::byte> span;
        for (const auto& [plan, payload] : records) {
            lay_record(span, plan.kind, plan.flags, payload);
        }
        (void)end.out().try_put_span(span);
    };
    step_through({"span", {10, 100, 0, 300, 48}, true, run},
                 {ring_bytes_min, ring_bytes_min - 128, 640, false});
}

TEST_F(killed_after_each_instruction, a_message_in_parts_counts_once_its_last_part_is_there) {
    const auto run = [](endpoint& end, std::span<const planned> records) {
        for (const auto& [plan, payload] : records) {
            (void)end.out().try_put(plan.kind, plan.flags, payload);
        }
    };
    step_through({"parts", {1024, 700, 20}, false, run},
                 {ring_bytes_min, ring_bytes_min - 128, 640, false});
}

}  // namespace
}  // namespace places::shm
