// SPDX-License-Identifier: Apache-2.0
// The ring's body in one process and in two threads; endpoint_test.cpp runs it in two processes.
#include "tests/shm/traffic.hpp"

#include <thread>

namespace places::shm {
namespace {

constexpr std::uint64_t record_count = 20'000;

// Says nothing of ordering: one thread sees its own stores in order.
TEST(traffic, arrives_whole_and_in_order_in_one_process) {
    const auto seed = test_seed();
    std::mt19937_64 random{seed};
    for (const std::size_t capacity : {ring_bytes_min, std::size_t{1} << 15}) {
        open_pair pair{capacity};
        sender s{pair.a.out(), seed, record_count};
        receiver r{pair.b.in(), seed};
        while (!s.is_done()) {
            for (auto n = random() % 20; n > 0 && !s.is_done() && s.step(); --n) {}
            for (auto n = random() % 20; n > 0 && r.step(); --n) {}
        }
        pair.a.shut(half_state::closed);
        while (r.step()) {}
        EXPECT_EQ(r.last(), status::closed);
        EXPECT_EQ(r.next(), record_count);
        EXPECT_GT(pair.a.out().head(), 20 * capacity);

        const auto sent = pair.a.out().count();
        EXPECT_EQ(sent.accepted, record_count);
        EXPECT_EQ(sent.delivered, record_count);
        EXPECT_EQ(sent.undelivered, 0U);
    }
}

// Under ThreadSanitizer: every plain byte is ordered by an edge. It does not prove that the second
// mapping of the data, at other addresses, is ordered alike, nor anything about memory orders
// weaker than those of this machine.
class two_threads : public testing::TestWithParam<park_mode> {};

TEST_P(two_threads, pass_everything_and_sleep_on_both_sides) {
    const auto seed = test_seed();
    auto to_sender = ready_set::make();
    auto to_receiver = ready_set::make();
    ready_set calls_of_sender{std::move(to_sender.reader)};
    ready_set calls_of_receiver{std::move(to_receiver.reader)};
    open_pair pair;
    pair.a.set_peer_doorbell(to_receiver.doorbell.get());
    pair.b.set_peer_doorbell(to_sender.doorbell.get());
    std::thread other{[&] {
        receive_blocking(pair.b, {GetParam(), &calls_of_receiver}, seed, record_count);
    }};
    send_blocking(pair.a, {GetParam(), &calls_of_sender}, seed, record_count);
    other.join();
    EXPECT_EQ(pair.a.out().count().delivered, record_count);
}

INSTANTIATE_TEST_SUITE_P(traffic, two_threads,
                         testing::Values(park_mode::futex, park_mode::doorbell),
                         [](const auto& mode) {
                             return mode.param == park_mode::futex ? "futex" : "doorbell";
                         });

}  // namespace
}  // namespace places::shm
