// SPDX-License-Identifier: Apache-2.0
#include "tests/shm/pair.hpp"
#include "tests/support/lingering_socket.hpp"

#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/socket.h>
#include <thread>

namespace places::shm {
namespace {

bool is_readable(const ready_set& set) {
    pollfd fd{set.native_handle(), POLLIN, 0};
    return ::poll(&fd, 1, 0) == 1;
}

struct ready_sets : testing::Test {
    ready_set::ends ends = ready_set::make();
    ready_set set{std::move(ends.reader)};
    void ring(std::uint64_t id) { ring_doorbell(ends.doorbell.get(), id); }
    /// Returns: how many went into the queue.
    std::size_t fill() {
        std::size_t count = 0;
        for (const std::uint64_t id = 1;
             ::send(ends.doorbell.get(), &id, sizeof id, MSG_DONTWAIT) > 0; ++count) {
        }
        return count;
    }
};

TEST_F(ready_sets, hands_over_the_ids_in_order) {
    EXPECT_FALSE(is_readable(set));
    EXPECT_TRUE(set.take().channel_ids.empty());
    for (std::uint64_t id : {5, 1, 5}) ring(id);
    EXPECT_TRUE(is_readable(set));
    const auto taken = set.take();
    EXPECT_EQ(taken.channel_ids, (std::vector<std::uint64_t>{5, 1, 5}));
    EXPECT_FALSE(taken.overflowed);
    EXPECT_FALSE(is_readable(set));
}

TEST_F(ready_sets, overflow_makes_the_owner_look_everywhere_once) {
    const auto queue_ids = fill();
    ASSERT_GT(queue_ids, 100U);
    for (int n = 0; n < 10; ++n) ring(9);
    const auto taken = set.take();
    EXPECT_TRUE(taken.overflowed);
    EXPECT_EQ(taken.channel_ids.size(), queue_ids);
    ring(77);
    const auto after = set.take();
    EXPECT_EQ(after.channel_ids, std::vector<std::uint64_t>{77});
    EXPECT_FALSE(after.overflowed);
}

TEST_F(ready_sets, a_queue_refilled_while_it_is_read_still_overflows) {
    (void)fill();
    std::uint64_t some = 0;  // as an owner would that reads in other portions
    for (int n = 0; n < 3; ++n) ASSERT_EQ(::read(set.native_handle(), &some, sizeof some), 8);
    for (int n = 0; n < 10; ++n) ring(9);
    EXPECT_TRUE(set.take().overflowed);
}

TEST_F(ready_sets, what_is_no_id_makes_the_owner_look_everywhere_and_loses_no_other_call) {
    ring(1);
    ASSERT_EQ(::write(ends.doorbell.get(), "abc", 3), 3);
    ring(2);
    ASSERT_EQ(::write(ends.doorbell.get(), "abcde", 5), 5);
    const auto garbled = set.take();
    EXPECT_TRUE(garbled.overflowed);
    EXPECT_EQ(garbled.channel_ids, (std::vector<std::uint64_t>{1, 2}));
    ring(3);
    const auto taken = set.take();
    EXPECT_EQ(taken.channel_ids, std::vector<std::uint64_t>{3});
    EXPECT_FALSE(taken.overflowed);
}

TEST_F(ready_sets, one_large_message_that_fills_the_queue_makes_the_owner_look_everywhere) {
    std::string large(1 << 20, 'x');
    while (::send(ends.doorbell.get(), large.data(), large.size(), MSG_DONTWAIT) < 0) {
        ASSERT_TRUE(errno == EMSGSIZE || errno == ENOBUFS) << errno;
        large.resize(large.size() / 2);
    }
    ring(1);
    EXPECT_TRUE(set.take().overflowed);
}

TEST_F(ready_sets, a_flood_does_not_keep_the_owner) {
    const auto queue_ids = fill();
    (void)set.take();
    std::atomic<bool> stop = false;
    std::thread flood{[&] {
        while (!stop.load()) ring(1);
    }};
    std::size_t most = 0;
    for (int n = 0; n < 50; ++n) most = std::max(most, set.take().channel_ids.size());
    stop.store(true);
    flood.join();
    EXPECT_LE(most, 2 * queue_ids);
}

TEST_F(ready_sets, a_dead_owner_s_doorbell_rings_for_nobody) {
    ready_set{std::move(set)};  // the last reading end; a SIGPIPE would end the test
    for (int n = 0; n < 100'000; ++n) ring(1);
}

// All who have the doorbell share its flags.
TEST_F(ready_sets, a_doorbell_that_another_holder_has_made_blocking_blocks_nobody) {
    const auto of_another = ends.doorbell.duplicate();
    ::fcntl(of_another.get(), F_SETFL, O_NONBLOCK);
    const std::uint64_t id = 1;
    while (::write(of_another.get(), &id, sizeof id) > 0) {
    }
    ASSERT_EQ(::fcntl(of_another.get(), F_SETFL, 0), 0);
    ring(2);  // full: a test that sleeps here fails by its watchdog
    EXPECT_TRUE(set.take().overflowed);
}

TEST_F(ready_sets, the_holder_of_a_doorbell_cannot_read_the_wakeups_of_others) {
    ring(1);
    const auto& doorbell = ends.doorbell;
    ::fcntl(doorbell.get(), F_SETFL, O_NONBLOCK);
    const auto path = "/proc/self/fd/" + std::to_string(doorbell.get());
    const unique_fd again{::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC)};
    std::uint64_t stolen = 0;
    EXPECT_LT(::read(doorbell.get(), &stolen, sizeof stolen), 0);
    EXPECT_LT(::read(again.get(), &stolen, sizeof stolen), 0);
    EXPECT_EQ(set.take().channel_ids, std::vector<std::uint64_t>{1});
}

TEST_F(ready_sets, a_doorbell_that_another_holder_has_shut_makes_the_owner_look_everywhere) {
    ring(1);
    ASSERT_EQ(::shutdown(ends.doorbell.get(), SHUT_RDWR), 0);
    ring(2);
    EXPECT_EQ(set.take().channel_ids, std::vector<std::uint64_t>{1});
    EXPECT_TRUE(is_readable(set));
    EXPECT_TRUE(set.take().overflowed);
}

TEST_F(ready_sets, a_descriptor_that_comes_with_a_call_does_not_block_the_owner) {
    lingering_socket blocks;
    std::vector<int> fds(100, ends.doorbell.get());
    fds.back() = blocks.sender.get();
    ASSERT_EQ(send_with_fds(ends.doorbell.get(), std::string(8, '\1'), fds), 8);
    blocks.sender.reset();
    // A close() that waits for an hour fails by the watchdog.
    EXPECT_EQ(set.take().channel_ids, std::vector<std::uint64_t>{0x0101010101010101});
}

}  // namespace
}  // namespace places::shm
