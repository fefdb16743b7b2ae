// SPDX-License-Identifier: Apache-2.0
// Both ends as two processes have them: own memory writable, the other's read-only.
#include "tests/shm/traffic.hpp"
#include "tests/support/missing.hpp"
#include "tests/support/process_state.hpp"

#include <fcntl.h>
#include <fstream>
#include <sched.h>
#include <sys/mount.h>
#include <thread>

namespace places::shm {
namespace {

endpoint first_end(const channel_memory& m) {
    return {m.first.duplicate(), reopen_read_only(m.second)};
}
endpoint second_end(const channel_memory& m) {
    return {m.second.duplicate(), reopen_read_only(m.first)};
}

// -- traffic between two processes --

// The real mapping, aliases and all, and real wake-ups. No sanitizer sees across processes: that
// plain bytes are ordered is what traffic_test.cpp shows.
class two_processes : public testing::TestWithParam<park_mode> {};

TEST_P(two_processes, pass_everything_and_sleep_on_both_sides) {
    constexpr std::uint64_t count = 30'000;
    const auto seed = test_seed();
    auto to_sender = ready_set::make();
    auto to_receiver = ready_set::make();
    const channel_memory memory;
    child other{[&] {
        ready_set calls{std::move(to_receiver.reader)};
        auto end = second_end(memory);
        end.set_peer_doorbell(to_sender.doorbell.get());
        receive_blocking(end, {GetParam(), &calls}, seed, count);
    }};
    ready_set calls{std::move(to_sender.reader)};
    auto end = first_end(memory);
    end.set_peer_doorbell(to_receiver.doorbell.get());
    send_blocking(end, {GetParam(), &calls}, seed, count);
    EXPECT_EQ(other.wait(), 0);
    const auto c = end.out().count();
    EXPECT_EQ(c.accepted, count);
    EXPECT_EQ(c.delivered, count);
}

INSTANTIATE_TEST_SUITE_P(endpoint, two_processes,
                         testing::Values(park_mode::futex, park_mode::doorbell),
                         [](const auto& mode) {
                             return mode.param == park_mode::futex ? "futex" : "doorbell";
                         });

TEST(endpoint, blocking_put_and_peek_pass_everything) {
    constexpr std::uint64_t count = 30'000;
    const auto seed = test_seed();
    const channel_memory memory;
    child other{[&] {
        auto end = second_end(memory);
        for (std::uint64_t n = 0; n < count; ++n) {
            const auto r = end.peek();
            ASSERT_EQ(r.state, status::ok);
            ASSERT_TRUE(is_record(r.record, plan_of(seed, n, end.in().record_bytes_max()))) << n;
            end.in().release();
        }
        EXPECT_EQ(end.peek().state, status::closed);
    }};
    auto end = first_end(memory);
    std::vector<std::byte> payload;
    for (std::uint64_t n = 0; n < count; ++n) {
        const auto plan = plan_of(seed, n, end.out().record_bytes_max());
        payload.resize(plan.size);
        fill(payload, plan);
        ASSERT_EQ(end.put(plan.kind, plan.flags, payload), status::ok);
    }
    end.shut(half_state::closed);
    EXPECT_EQ(other.wait(), 0);
}

TEST(endpoint, blocking_forms_end_with_their_deadline) {
    const channel_memory memory;
    auto end = first_end(memory);
    const auto soon = std::chrono::steady_clock::now() + std::chrono::milliseconds{1};
    EXPECT_EQ(end.peek_for(soon).state, status::timeout);
    EXPECT_EQ(end.peek_for(deadline::min()).state, status::timeout);
    while (end.out().try_put(0, 0, {}) == status::ok) {
    }
    EXPECT_EQ(end.put_for(0, 0, {}, soon), status::timeout);
    EXPECT_EQ(end.put_for(0, 0, {}, deadline::min()), status::timeout);
    EXPECT_FALSE(end.out().is_parked());
    EXPECT_FALSE(end.in().is_parked());
}

TEST(endpoint, a_loan_ends_when_its_end_is_shut) {
    const channel_memory memory;
    auto end = first_end(memory);
    auto other = second_end(memory);
    ASSERT_EQ(end.out().try_loan(10).state, status::ok);
    end.shut(half_state::closed);
    EXPECT_EQ(other.in().try_peek().state, status::closed);
    end.out().publish(0, 0, 10);
    EXPECT_EQ(end.out().accepted(), 0U);
    EXPECT_EQ(other.in().try_peek().state, status::closed);
}

/// Waits in the child that `parked` says; then the other side surely sleeps or is about to.
void await_park(const std::atomic<std::uint32_t>& parked) {
    while (parked.load() == 0) ::sched_yield();
}

TEST(endpoint, a_close_wakes_whoever_sleeps_for_room_or_a_record) {
    for (const bool for_room : {true, false}) {
        for (int round = 0; round < 200; ++round) {
            const channel_memory memory;
            child closer{[&] {
                const half_mapping peer{memory.first, access::read_only};
                auto end = second_end(memory);
                await_park(for_room ? peer.header()->writer_park : peer.header()->reader_park);
            }};
            auto end = first_end(memory);
            if (for_room) {
                while (end.out().try_put(0, 0, {}) == status::ok) {
                }
                ASSERT_EQ(end.put(0, 0, {}), status::closed);
            } else {
                ASSERT_EQ(end.peek().state, status::closed);
            }
            ASSERT_EQ(closer.wait(), 0);
        }
    }
}

TEST(endpoint, a_peer_that_finds_corruption_wakes_the_blocked_writer) {
    const channel_memory memory;
    child reader{[&] {
        const half_mapping peer{memory.first, access::read_only};
        auto end = second_end(memory);
        await_park(peer.header()->writer_park);
        EXPECT_EQ(end.corrupt_at(), std::nullopt);
        EXPECT_EQ(end.in().try_peek().state, status::corrupt);
        EXPECT_EQ(end.corrupt_at(), 0U);
        for (;;) ::pause();  // alive, and never closing
    }};
    const half_mapping by_hand{memory.first, access::read_write};
    auto end = first_end(memory);
    while (end.out().try_put(0, 0, bytes_of(100, 1)) == status::ok) {
    }
    reinterpret_cast<record_header*>(by_hand.data())->length.store(~0U);
    EXPECT_EQ(end.put(0, 0, bytes_of(100, 1)), status::corrupt);
    reader.kill();
    EXPECT_TRUE(was_killed_by(reader.wait(), SIGKILL));
}

/// The state letter and the CPU time of a process.
std::pair<char, std::int64_t> look_at_process(pid_t pid) {
    const auto folder = "/proc/" + std::to_string(pid);
    const char state = process_state(folder);
    std::ifstream schedule(folder + "/schedstat");
    std::int64_t cpu_ns = -1;
    schedule >> cpu_ns;
    return {state, cpu_ns};
}

/// By the scheduler's own account, so that the load of the machine does not matter.
void expect_no_cpu_while_blocked(const child& c, const std::atomic<std::uint32_t>& park_word) {
    await_park(park_word);
    while (look_at_process(c.pid()).first != 'S') std::this_thread::yield();
    const auto before = look_at_process(c.pid()).second;
    ASSERT_GE(before, 0);
    // For as long as it takes another to spend 100 ms.
    const child busy{[] {
        while (true) (void)::getppid();
    }};
    while (look_at_process(busy.pid()).second < 100'000'000) std::this_thread::yield();
    EXPECT_EQ(look_at_process(c.pid()).second, before);
}

TEST(endpoint, a_put_on_a_full_ring_takes_no_cpu) {
    const channel_memory memory;
    child writer{[&] {
        auto end = first_end(memory);
        while (end.put(0, 0, bytes_of(100, 1)) == status::ok) {
        }
    }};
    const half_mapping its{memory.first, access::read_only};
    expect_no_cpu_while_blocked(writer, its.header()->writer_park);
}

TEST(endpoint, a_peek_of_an_empty_ring_takes_no_cpu) {
    const channel_memory memory;
    child reader{[&] {
        auto end = second_end(memory);
        (void)end.peek();
    }};
    const half_mapping its{memory.second, access::read_only};
    expect_no_cpu_while_blocked(reader, its.header()->reader_park);
}

// -- a word past all records --

TEST(endpoint, tells_one_word_that_overtakes_a_full_ring) {
    const channel_memory memory;
    auto end = first_end(memory);
    auto other = second_end(memory);
    EXPECT_EQ(other.received_word(), 0U);
    while (end.try_put(0, 0, bytes_of(100, 1)) == status::ok) {
    }
    end.send_word(7);
    EXPECT_EQ(other.received_word(), 7U);
    EXPECT_EQ(end.received_word(), 0U);
    end.send_word(8);
    end.shut(half_state::closed);
    EXPECT_EQ(other.received_word(), 8U);
    EXPECT_EQ(other.in().peer_state(), status::closed);
    EXPECT_EQ(other.in().try_peek().state, status::ok);
}

TEST(endpoint, says_how_large_a_message_it_takes) {
    const channel_memory memory;
    auto one = first_end(memory);
    auto other = second_end(memory);
    EXPECT_EQ(other.peer_message_bytes_max(), 0U);
    one.set_message_bytes_max(5000);
    EXPECT_EQ(other.peer_message_bytes_max(), 5000U);
    EXPECT_EQ(one.peer_message_bytes_max(), 0U);
    one.set_message_bytes_max(100);
    EXPECT_EQ(other.peer_message_bytes_max(), 100U);
}

TEST(endpoint, a_word_wakes_a_sleeping_reader) {
    const channel_memory memory;
    child reader{[&] {
        auto end = second_end(memory);
        while (true) {
            const auto seen = end.bell();
            end.in().park(park_mode::futex);
            if (end.received_word() != 0) break;
            ASSERT_TRUE(sleep_until_changed({&seen, 1}, no_deadline));
            end.in().unpark();
        }
        EXPECT_EQ(end.received_word(), 5U);
    }};
    const half_mapping its{memory.second, access::read_only};
    await_park(its.header()->reader_park);
    auto end = first_end(memory);
    end.send_word(5);
    EXPECT_EQ(reader.wait(), 0);
}

// -- copies --

TEST(endpoint, copies_messages_in_and_out) {
    const channel_memory memory;
    auto end = first_end(memory);
    auto other = second_end(memory);
    record_copy got{9, 9, bytes_of(3, 9)};
    EXPECT_EQ(other.try_get(got), status::empty);
    EXPECT_EQ(other.get_for(got, std::chrono::steady_clock::now()), status::timeout);
    EXPECT_EQ(text_of(got.payload), text_of(bytes_of(3, 9)));
    const auto largest = end.out().record_bytes_max();
    for (const auto size : {std::size_t{0}, std::size_t{5}, largest}) {
        ASSERT_EQ(end.try_put(1, 2, bytes_of(size, 4)), status::ok);
        ASSERT_EQ(size == 5 ? other.get(got) : other.try_get(got), status::ok);
        EXPECT_EQ(got.kind, 1);
        EXPECT_EQ(got.flags, 2);
        EXPECT_EQ(text_of(got.payload), text_of(bytes_of(size, 4)));
        EXPECT_EQ(end.out().count().undelivered, 0U);
    }
    EXPECT_EQ(end.try_put(1, 2, bytes_of(largest + 1, 4)), status::too_large);
    while (end.try_put(1, 2, {}) == status::ok) {
    }
    EXPECT_EQ(end.put_for(1, 2, {}, std::chrono::steady_clock::now()), status::timeout);
    end.shut(half_state::closed);
    while (other.try_get(got) == status::ok) {
    }
    EXPECT_EQ(other.get(got), status::closed);
}

TEST(endpoint, copies_what_another_process_puts) {
    const channel_memory memory;
    child writer{[&] {
        auto end = first_end(memory);
        for (int n = 0; n < 1000; ++n) ASSERT_EQ(end.put(1, 0, bytes_of(100, n)), status::ok);
    }};
    auto other = second_end(memory);
    record_copy got;
    for (int n = 0; n < 1000; ++n) {
        ASSERT_EQ(other.get(got), status::ok);
        ASSERT_EQ(text_of(got.payload), text_of(bytes_of(100, n)));
    }
    EXPECT_EQ(writer.wait(), 0);
}

// -- what a process may write --

TEST(endpoint, a_writer_through_the_read_only_mapping_dies_alone) {
    const channel_memory memory;
    auto end = first_end(memory);
    ASSERT_EQ(end.out().try_put(1, 0, as_bytes("mine")), status::ok);
    child scribbler{[&] {
        std::signal(SIGSEGV, SIG_DFL);  // a sanitizer would report it and exit
        auto other = second_end(memory);
        const auto r = other.in().try_peek();
        ASSERT_EQ(r.state, status::ok);
        *const_cast<volatile std::byte*>(r.record.payload.data()) = std::byte{0};
    }};
    EXPECT_TRUE(was_killed_by(scribbler.wait(), SIGSEGV));
    EXPECT_EQ(end.out().try_put(1, 0, as_bytes("more")), status::ok);
    end.peer_died();
    EXPECT_EQ(end.out().count().undelivered, 2U);
    EXPECT_EQ(end.peek().state, status::peer_dead);
}

/// In a mount namespace of its own: a tmpfs at `path`, then a channel of 16 MiB.
void use_channel_beside(const char* path, unsigned long flags, const char* options) {
    child elsewhere{[&] {
        const auto uid = std::to_string(::getuid());
        if (::unshare(CLONE_NEWNS) != 0) {
            if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ::_exit(77);
            std::ofstream{"/proc/self/uid_map"} << "0 " << uid << " 1";
        }
        if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
            ::mount("none", path, "tmpfs", flags, options) != 0) {
            ::_exit(77);
        }
        // Eight MiB have no room there.
        const unique_fd file{::open("/dev/shm/x", O_CREAT | O_RDWR, 0600)};
        EXPECT_TRUE(!file || ::posix_fallocate(file.get(), 0, 1 << 23) != 0);
        const channel_memory memory{std::size_t{1} << 23};
        auto end = first_end(memory);
        auto other = second_end(memory);
        const auto large = bytes_of(end.out().record_bytes_max(), 3);
        EXPECT_EQ(end.out().try_put(1, 0, large), status::ok);
        EXPECT_EQ(other.in().try_peek().record.payload.size(), large.size());
    }};
    const int how = elsewhere.wait();
    if (WIFEXITED(how) && WEXITSTATUS(how) == 77) return lacks("no mount namespace here");
    EXPECT_EQ(how, 0);
}

TEST(endpoint, a_dev_shm_of_one_mib_is_no_limit) { use_channel_beside("/dev/shm", 0, "size=1m"); }
TEST(endpoint, a_read_only_dev_shm_is_no_limit) {
    use_channel_beside("/dev/shm", MS_RDONLY, "size=1m");
}
TEST(endpoint, a_missing_dev_shm_is_no_limit) { use_channel_beside("/dev", 0, "size=1m"); }

TEST(endpoint, waits_for_ample_room_only_for_records_smaller_than_that) {
    const channel_memory memory;
    auto end = first_end(memory);
    auto other = second_end(memory);
    const auto small = bytes_of(40, 1);
    const auto ample = end.out().ample_bytes();
    spin_budget spin;
    while (end.out().try_put(1, 0, small) == status::ok) {
    }
    EXPECT_FALSE(end.await_ample_room(small.size(), spin));
    for (std::size_t freed = 0; freed < ring_bytes_min / 8; freed += line_bytes) {
        EXPECT_FALSE(end.await_ample_room(small.size(), spin)) << freed;
        ASSERT_EQ(other.in().try_peek().state, status::ok);
        other.in().release();
    }
    EXPECT_TRUE(end.await_ample_room(small.size(), spin));
    EXPECT_FALSE(end.await_ample_room(ample, spin)) << "it has to wait for room of its own size";
}

// -- death, step by step --

// Each named step of a put, done by hand up to one and then killed there.
TEST(endpoint, killed_before_publish_leaves_the_record_invisible) {
    enum step { nothing, half_a_payload, payload, length, kind, flags, tag, last_step };
    const auto text = std::string(100, 'x');
    for (const std::size_t before : {0, 1, 63}) {  // records before it; 63 fill all but one line
        for (int at = nothing; at < last_step; ++at) {
            const auto size = before == 63 ? std::size_t{48} : text.size();
            const channel_memory memory;
            child writer{[&] {
                const half_mapping mine{memory.first, access::read_write};
                {
                    auto* end =
                        new endpoint{memory.first.duplicate(), reopen_read_only(memory.second)};
                    for (std::size_t n = 0; n < before; ++n) {
                        ASSERT_EQ(end->out().try_put(1, 0, as_bytes("before")), status::ok);
                    }
                }  // never closed: it is about to die
                const auto position = before * line_bytes;
                auto* header = reinterpret_cast<record_header*>(mine.data() + position);
                auto* bytes = mine.data() + position + sizeof(record_header);
                if (at >= half_a_payload) std::memcpy(bytes, text.data(), size / 2);
                if (at >= payload) std::memcpy(bytes, text.data(), size);
                if (at >= length) header->length.store(static_cast<std::uint32_t>(size));
                if (at >= kind) header->kind.store(2);
                if (at >= flags) header->flags.store(3);
                if (at >= tag) header->tag.store(tag_at(position, mine.id().nonce));
                ::raise(SIGKILL);
            }};
            ASSERT_TRUE(was_killed_by(writer.wait(), SIGKILL));
            auto end = second_end(memory);
            for (std::size_t n = 0; n < before; ++n) {
                ASSERT_EQ(text_of(end.in().try_peek().record.payload), "before");
                end.in().release();
            }
            const auto r = end.in().try_peek();
            if (at == tag) {
                ASSERT_EQ(r.state, status::ok);
                EXPECT_EQ(text_of(r.record.payload), text.substr(0, size));
                end.in().release();
            } else {
                ASSERT_EQ(r.state, status::empty) << "step " << at;
            }
            end.peer_died();
            EXPECT_EQ(end.in().try_peek().state, status::peer_dead);
            EXPECT_EQ(end.in().count().delivered, before + (at == tag ? 1 : 0));
        }
    }
}

// The steps of a release: peek, read, store the position.
TEST(endpoint, killed_before_release_leaves_the_record_undelivered) {
    for (int steps = 0; steps < 3; ++steps) {
        const channel_memory memory;
        auto end = first_end(memory);
        for (int n = 0; n < 3; ++n) ASSERT_EQ(end.put(1, 0, as_bytes("text")), status::ok);
        child reader{[&] {
            auto other = second_end(memory);
            EXPECT_EQ(other.peek().state, status::ok);
            other.in().release();
            if (steps > 0) {
                EXPECT_EQ(text_of(other.peek().record.payload), "text");
            }
            if (steps > 1) other.in().release();
            ::raise(SIGKILL);
        }};
        ASSERT_TRUE(was_killed_by(reader.wait(), SIGKILL));
        end.peer_died();
        EXPECT_EQ(end.put(1, 0, {}), status::peer_dead);
        const auto c = end.out().count();
        EXPECT_EQ(c.accepted, 3U);
        EXPECT_EQ(c.delivered, steps > 1 ? 2U : 1U);
        EXPECT_EQ(c.undelivered, steps > 1 ? 1U : 2U);
    }
}

// Nothing in the ring ends this sleep: a reporter must, who is told by waitpid here.
TEST(endpoint, a_writer_blocked_on_a_dead_reader_is_told_by_a_reporter) {
    for (int round = 0; round < 50; ++round) {
        const channel_memory memory;
        child reader{[] {
            for (;;) ::pause();
        }};
        const half_mapping mine{memory.first, access::read_only};
        auto end = first_end(memory);
        std::atomic<std::uint32_t> news = 0;
        std::thread reporter{[&] {
            await_park(mine.header()->writer_park);
            reader.kill();
            EXPECT_TRUE(was_killed_by(reader.wait(), SIGKILL));
            end.peer_died();
            news.store(1);
            wake_all(news);
        }};
        std::uint64_t accepted = 0;
        auto outcome = status::ok;
        while (true) {
            outcome = end.out().try_put(1, 0, bytes_of(40, 1));
            if (outcome == status::ok)
                ++accepted;
            else if (outcome != status::full)
                break;
            if (outcome == status::ok) continue;
            const watched_word words[] = {end.bell(), {&news, 0}};
            end.out().park(park_mode::futex, 40);
            if (end.out().has_room(40) == status::full) sleep_until_changed(words, no_deadline);
            end.out().unpark();
        }
        reporter.join();
        EXPECT_EQ(outcome, status::peer_dead);
        const auto c = end.out().count();
        EXPECT_EQ(c.accepted, accepted);
        EXPECT_EQ(c.undelivered, accepted);
    }
}

// -- an end whose peer takes up its own later --

TEST(endpoint, has_nothing_to_read_and_may_publish_before_its_peer_has_come) {
    const channel_memory memory;
    endpoint early{memory.first};
    EXPECT_FALSE(early.is_attached());
    EXPECT_EQ(early.in().try_peek().state, status::empty);
    EXPECT_FALSE(early.in().is_ready());
    EXPECT_EQ(early.in().peer_state(), status::ok);
    EXPECT_EQ(early.received_word(), 0U);
    std::uint64_t put = 0;
    while (early.out().try_put(1, 0, as_bytes("first")) == status::ok) ++put;
    EXPECT_EQ(put, ring_bytes_min / line_bytes);
    EXPECT_EQ(early.out().count().undelivered, put);

    endpoint late{memory.second, memory.first};
    ASSERT_EQ(late.out().try_put(1, 0, as_bytes("answer")), status::ok);
    for (std::uint64_t n = 0; n < put; ++n) {
        ASSERT_EQ(late.in().try_peek().state, status::ok) << n;
        late.in().release();
    }
    early.attach(memory.second);
    EXPECT_EQ(early.out().count().delivered, put);
    EXPECT_EQ(early.out().try_put(1, 0, as_bytes("more")), status::ok);
    const auto answer = early.in().try_peek();
    ASSERT_EQ(answer.state, status::ok);
    EXPECT_EQ(text_of(answer.record.payload), "answer");
}

TEST(endpoint, shut_before_its_peer_has_come_is_found_shut) {
    const channel_memory memory;
    {
        endpoint early{memory.first};
        ASSERT_EQ(early.out().try_put(1, 0, as_bytes("last words")), status::ok);
    }
    endpoint late{memory.second, memory.first};
    ASSERT_EQ(late.in().try_peek().state, status::ok);
    late.in().release();
    EXPECT_EQ(late.in().try_peek().state, status::closed);
    EXPECT_EQ(late.out().try_put(1, 0, as_bytes("x")), status::closed);
}

TEST(endpoint, is_as_before_when_what_comes_is_no_memory_of_its_channel) {
    const channel_memory memory;
    const auto foreign = create_half(8, ring_bytes_min);
    endpoint early{memory.first};
    EXPECT_THROW(early.attach(foreign), std::runtime_error);
    EXPECT_FALSE(early.is_attached());
    early.attach(memory.second);
    EXPECT_TRUE(early.is_attached());
}

TEST(endpoint, tells_a_refused_peer_from_a_dead_one) {
    const channel_memory memory;
    endpoint early{memory.first};
    early.peer_refused();
    early.peer_died();  // later: the first word stands
    EXPECT_EQ(early.out().try_put(1, 0, as_bytes("x")), status::refused);
    EXPECT_EQ(early.in().try_peek().state, status::refused);
}

// Not attached, this end cannot see how its peer sleeps: each publish has to call it either way.
// The peer has parked before the first and parks again before each of the others.
TEST_P(two_processes, each_record_wakes_a_peer_whose_memory_has_not_come) {
    constexpr int records = 40;
    const channel_memory memory;
    auto wakeups = ready_set::make();
    child sleeper{[&] {
        endpoint end{memory.second, memory.first};
        ready_set own{std::move(wakeups.reader)};
        for (int got = 0; got < records;) {
            const auto bell = end.bell();
            end.in().park(GetParam());
            if (!end.in().is_ready()) {
                if (GetParam() == park_mode::futex) {
                    sleep_until_changed({&bell, 1}, no_deadline);
                } else {
                    pollfd news{own.native_handle(), POLLIN, 0};
                    ASSERT_EQ(::poll(&news, 1, -1), 1);
                    EXPECT_EQ(own.take().channel_ids.front(), end.channel_id());
                }
            }
            end.in().unpark();
            while (end.in().try_peek().state == status::ok) {
                end.in().release();
                ++got;
            }
        }
    }};
    const half_mapping its_memory{memory.second, access::read_only};
    {
        endpoint early{memory.first};
        early.set_peer_doorbell(wakeups.doorbell.get());
        for (int n = 0; n < records; ++n) {
            await_park(its_memory.header()->reader_park);
            ASSERT_EQ(early.out().try_put(1, 0, as_bytes("x")), status::ok);
            // Read, and so no longer counted as the same sleep.
            while (its_memory.header()->released.load() < early.out().head()) ::sched_yield();
        }
        EXPECT_FALSE(early.is_attached());
        EXPECT_EQ(sleeper.wait(), 0);
    }
}

}  // namespace
}  // namespace places::shm
