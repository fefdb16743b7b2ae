// SPDX-License-Identifier: Apache-2.0
#include "tests/shm/pair.hpp"

#include <fcntl.h>
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
    std::size_t queue_ids() const {
        return static_cast<std::size_t>(::fcntl(set.native_handle(), F_GETPIPE_SZ)) / 8;
    }
};

TEST_F(ready_sets, hands_over_the_ids_in_order) {
    EXPECT_FALSE(is_readable(set));
    EXPECT_TRUE(set.take().channel_ids.empty());
    for (std::uint64_t id : {5, 1, 5}) ring(id);
    EXPECT_TRUE(is_readable(set));
    const auto calls = set.take();
    EXPECT_EQ(calls.channel_ids, (std::vector<std::uint64_t>{5, 1, 5}));
    EXPECT_FALSE(calls.overflowed);
    EXPECT_FALSE(is_readable(set));
}

TEST_F(ready_sets, overflow_makes_the_owner_look_everywhere_once) {
    for (std::size_t n = 0; n < queue_ids() + 10; ++n) ring(n);
    const auto calls = set.take();
    EXPECT_TRUE(calls.overflowed);
    EXPECT_EQ(calls.channel_ids.size(), queue_ids());
    ring(77);
    const auto after = set.take();
    EXPECT_EQ(after.channel_ids, std::vector<std::uint64_t>{77});
    EXPECT_FALSE(after.overflowed);
}

TEST_F(ready_sets, a_queue_refilled_while_it_is_read_still_overflows) {
    for (std::size_t n = 0; n < queue_ids(); ++n) ring(n);
    std::array<std::uint64_t, 3> some;  // as an owner would that reads in other portions
    ASSERT_EQ(::read(set.native_handle(), some.data(), sizeof some), 24);
    for (int n = 0; n < 10; ++n) ring(9);  // no room: full is counted in pages
    const auto calls = set.take();
    EXPECT_LT(calls.channel_ids.size(), queue_ids());
    EXPECT_TRUE(calls.overflowed);
}

TEST_F(ready_sets, half_an_id_makes_the_owner_look_everywhere) {
    ring(1);
    ASSERT_EQ(::write(ends.doorbell.get(), "abc", 3), 3);
    ring(2);
    EXPECT_TRUE(set.take().overflowed);
    ring(3);
    const auto calls = set.take();
    EXPECT_EQ(calls.channel_ids, std::vector<std::uint64_t>{3});
    EXPECT_FALSE(calls.overflowed);
}

TEST_F(ready_sets, a_flood_does_not_keep_the_owner) {
    std::atomic<bool> stop = false;
    std::thread flood{[&] {
        while (!stop.load()) ring(1);
    }};
    std::size_t most = 0;
    for (int n = 0; n < 50; ++n) most = std::max(most, set.take().channel_ids.size());
    stop.store(true);
    flood.join();
    EXPECT_LE(most, queue_ids() + 512);
}

TEST_F(ready_sets, a_dead_owner_s_doorbell_rings_for_nobody) {
    ready_set{std::move(set)};  // the last reading end; a SIGPIPE would end the test
    for (int n = 0; n < 100'000; ++n) ring(1);
    pollfd fd{ends.doorbell.get(), POLLOUT, 0};
    EXPECT_EQ(::poll(&fd, 1, 0), 0);
}

}  // namespace
}  // namespace places::shm
