// SPDX-License-Identifier: Apache-2.0
// What travels between two nodes: all of it, in order, once, and no more than there is room for.
#include "tests/node/entries.hpp"
#include "tests/node/heard.hpp"
#include "tests/node/processes.hpp"
#include "tests/support/node_main.hpp"
#include "tests/support/sanitized.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <sched.h>
#include <vector>

using namespace std::chrono_literals;
using places::bytes;
using places::status;

namespace {

using clock_type = std::chrono::steady_clock;

constexpr std::uint64_t records = is_sanitized ? 4'000 : 20'000;

/// Records that both sides can make: sizes and bytes follow from the seed.
class record_source {
  public:
    explicit record_source(std::uint64_t seed) : random_(seed) {}
    bytes next(std::size_t bytes_max) {
        bytes record(random_() % (bytes_max + 1));
        auto word = random_();
        for (std::size_t i = 0; i < record.size(); i += sizeof word) {
            word = word * 6364136223846793005U + 1442695040888963407U;
            std::memcpy(record.data() + i, &word, std::min(sizeof word, record.size() - i));
        }
        return record;
    }

  private:
    std::mt19937_64 random_;
};

/// Sends `count` records made of `seed` and takes as many made of `their_seed`, both at once: in
/// two bodies, for whoever waits for the one alone may wait for a peer that does the same.
/// Returns: what went wrong, or nothing.
std::string exchange(places::channel& c, std::uint64_t seed, std::uint64_t their_seed,
                     std::uint64_t count, std::size_t bytes_max) {
    places::router loop;
    std::string wrong;
    int under_way = 2;
    const auto end = [&](const std::string& why) {
        if (wrong.empty()) wrong = why;
        if (--under_way == 0 || !why.empty()) loop.stop();
    };
    loop.add(places::after(0s, [&] {
        record_source ours{seed};
        for (std::uint64_t sent = 0; sent < count; ++sent) {
            const auto outcome = c.put(ours.next(bytes_max));
            if (outcome == status::ok) continue;
            return end("put " + std::to_string(sent) + ": " + std::string(to_string(outcome)));
        }
        end({});
    }));
    loop.add(places::after(0s, [&] {
        record_source theirs{their_seed};
        for (std::uint64_t received = 0; received < count; ++received) {
            const auto got = c.get<bytes>();
            if (!got) return end("get " + std::to_string(received) + ": " + got.error().message());
            if (*got != theirs.next(bytes_max)) return end("record " + std::to_string(received));
        }
        end({});
    }));
    loop.run();
    return wrong;
}

struct exchange_order {
    std::uint64_t seed = 0;
    std::uint64_t count = 0;
    std::uint64_t bytes_max = 0;
};

void exchanging(places::channel& to_creator) {
    const auto order = to_creator.get<exchange_order>().value();
    const auto wrong =
        exchange(to_creator, order.seed + 1, order.seed, order.count, order.bytes_max);
    (void)to_creator.put(wrong);
    (void)to_creator.get();
}
const auto exchanging_entry = places::register_entry<exchanging>("exchanging");

void echo_batches(places::channel& to_creator) {
    std::vector<std::int64_t> some(50);
    while (const auto got = to_creator.get_batch(std::span{some})) {
        if (to_creator.put_batch(std::span<const std::int64_t>{some}.first(*got)).count != *got) {
            return;
        }
    }
}
const auto echo_batches_entry = places::register_entry<echo_batches>("echo-batches");

std::uint64_t fresh_seed() {
    const auto seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    return seed;
}

/// Reads nothing until it is told "read" by name, then all, and answers with what it got.
void lazy(places::inbox& in) {
    auto told = in.creator().get<std::string>();
    auto other = places::connect_to_named_place("hand-over");
    (void)other.put(std::string("?"));
    (void)other.get<std::string>();
    std::int64_t expected = 0;
    while (true) {
        const auto got = in.creator().get<std::vector<std::int64_t>>();
        if (!got || got->empty()) break;
        if (got->at(0) != expected) break;
        ++expected;
    }
    (void)in.creator().put(expected);
    (void)in.creator().get();
}
const auto lazy_entry = places::register_entry<lazy>("lazy");

/// Sends as fast as it can until nobody takes it.
void endless(places::channel& to_creator) {
    const bytes record(1000);
    while (to_creator.put(record) == status::ok) {
    }
}
const auto endless_entry = places::register_entry<endless>("endless");

void talkative(places::channel& to_creator) {
    const auto lines = to_creator.get<std::int64_t>().value();
    const std::string rest(200, '.');
    for (std::int64_t i = 0; i < lines; ++i) std::cout << "flood " << i << rest << '\n';
    std::cout.flush();
    (void)to_creator.put(true);
}
const auto talkative_entry = places::register_entry<talkative>("talkative");

places::remote_node start_node() {
    return test_runtime().spawn_remote_node("localhost", {.listen_port = 0});
}

TEST(traffic, many_records_each_way_at_once_arrive_whole_in_order_and_once) {
    auto node = start_node();
    auto place = node.supervise_place(exchanging_entry, {.ring_bytes = 64 * 1024});
    const auto max = place.record_bytes_max();
    ASSERT_EQ(max, 16U * 1024);
    const exchange_order order{fresh_seed(), records, max};
    ASSERT_EQ(place.put(order), status::ok);
    const auto start = clock_type::now();
    EXPECT_EQ(exchange(place, order.seed, order.seed + 1, order.count, max), "");
    EXPECT_EQ(place.get<std::string>().value(), "");
    std::printf("%llu records of 0..16 KiB each way: %lld ms\n",
                static_cast<unsigned long long>(order.count), ms_since(start));
}

TEST(traffic, small_messages_in_batches_cross_in_order_and_once) {
    auto node = start_node();
    auto place = node.supervise_place(echo_batches_entry, {.ring_bytes = 8 * 1024});
    constexpr std::int64_t count = 50'000;
    std::mt19937_64 random{fresh_seed()};
    places::router loop;
    loop.add(places::after(0s, [&] {
        std::vector<std::int64_t> some;
        for (std::int64_t next = 0; next < count;) {
            some.resize(std::min<std::size_t>(1 + random() % 100, count - next));
            std::iota(some.begin(), some.end(), next);
            ASSERT_EQ(place.put_batch(std::span<const std::int64_t>{some}).count, some.size());
            next += static_cast<std::int64_t>(some.size());
        }
    }));
    loop.add(places::after(0s, [&] {
        std::vector<std::int64_t> some(64);
        for (std::int64_t expected = 0; expected < count;) {
            const auto got = place.get_batch(std::span{some});
            ASSERT_TRUE(got) << got.error().message();
            for (std::size_t i = 0; i < *got; ++i) ASSERT_EQ(some[i], expected++);
        }
        loop.stop();
    }));
    loop.run();
    EXPECT_EQ(place.received().delivered, static_cast<std::uint64_t>(count));
}

TEST(traffic, the_smallest_and_the_largest_ring_carry_their_largest_record) {
    auto node = start_node();
    for (const std::size_t ring : {4U * 1024, 128U * 1024}) {
        auto place = node.supervise_place(exchanging_entry, {.ring_bytes = ring});
        const exchange_order order{fresh_seed(), 500, place.record_bytes_max()};
        ASSERT_EQ(place.put(order), status::ok);
        EXPECT_EQ(exchange(place, order.seed, order.seed + 1, order.count, order.bytes_max), "");
        EXPECT_EQ(place.get<std::string>().value(), "");
    }
}

TEST(traffic, several_channels_run_at_once_and_take_turns) {
    auto node = start_node();
    const auto seed = fresh_seed();
    std::vector<places::remote_place> open;
    int ended = 0;
    constexpr int channels = 6;
    for (int i = 0; i < channels; ++i) open.push_back(node.supervise_place(exchanging_entry));
    std::vector<std::string> wrong(channels, "not ended");
    for (std::size_t i = 0; i < channels; ++i) {
        test_runtime().add(places::after(0s, [&, i] {
            const exchange_order order{seed + 10 * i, records / 10, 16 * 1024};
            (void)open[i].put(order);
            // Here the two directions take turns: a body that waits lets the others run.
            record_source ours{order.seed};
            record_source theirs{order.seed + 1};
            wrong[i].clear();
            for (std::uint64_t r = 0; r < order.count && wrong[i].empty(); ++r) {
                if (open[i].put(ours.next(order.bytes_max)) != status::ok) wrong[i] = "put";
                if (open[i].get<bytes>().value() != theirs.next(order.bytes_max)) wrong[i] = "get";
            }
            if (++ended == channels) test_runtime().stop();
        }));
    }
    test_runtime().route(node);
    for (const auto& each : wrong) EXPECT_EQ(each, "");
}

TEST(traffic, a_reader_that_does_not_read_stops_the_writer_and_loses_nothing) {
    auto node = start_node();
    node.supervise_place(hand_over_entry, {.named = "hand-over"});
    auto other = node.connect_to_named_place("hand-over");
    auto place = node.supervise_place(lazy_entry);
    auto echoing = node.supervise_place(echo_entry);
    ASSERT_EQ(place.put(std::string("wait")), status::ok);
    std::vector<std::int64_t> record(500);
    std::int64_t sent = 0;
    auto outcome = status::ok;
    while (outcome == status::ok) {
        record[0] = sent;
        outcome = place.put_for(record, 300ms);
        if (outcome == status::ok) ++sent;
        ASSERT_LT(sent, 10'000) << "nothing stops the writer";
    }
    EXPECT_EQ(outcome, status::timeout);
    std::printf("stopped after %lld records of 4 kB\n", static_cast<long long>(sent));
    // Another channel on the same link does not notice.
    ASSERT_EQ(echoing.put(std::string("hello")), status::ok);
    EXPECT_EQ(echoing.get<std::string>().value(), "hello");

    ASSERT_EQ(other.put(std::string("read")), status::ok);
    for (int more = 0; more < 100; ++more) {
        record[0] = sent++;
        ASSERT_EQ(place.put(record), status::ok);
    }
    ASSERT_EQ(place.put(std::vector<std::int64_t>{}), status::ok);
    EXPECT_EQ(place.get<std::int64_t>().value(), sent);
}

TEST(traffic, a_message_over_the_limit_is_not_sent_and_the_channel_stays_good) {
    auto node = start_node();
    auto place = node.supervise_place(echo_entry);
    place.set_message_bytes_max(1'000'000);
    EXPECT_EQ(place.put(bytes(1'000'001)), status::too_large);
    for (const auto size : {place.record_bytes_max(), std::size_t{1'000'000}}) {
        const bytes largest(size, std::byte{7});
        ASSERT_EQ(place.put(largest), status::ok);
        EXPECT_EQ(place.get<bytes>().value(), largest);
    }
    EXPECT_EQ(place.try_get<bytes>().error(), places::errc::empty);
}

/// Sends its creator a message of each size that another connection asks for, and then answers.
void send_sizes(places::inbox& in) {
    while (auto each = in.get()) {
        for (const auto size : each->content.as<std::vector<std::int64_t>>().value()) {
            (void)in.creator().put(bytes(static_cast<std::size_t>(size)));
        }
        (void)each->from.put(true);
    }
}
const auto send_sizes_entry = places::register_entry<send_sizes>("send-sizes");

TEST(traffic, a_message_put_before_the_limit_was_lowered_is_passed_over_and_the_channel_is_good) {
    auto node = start_node();
    auto place = node.supervise_place(send_sizes_entry, {.named = "sizes"});
    auto other = node.connect_to_named_place("sizes");
    ASSERT_EQ(other.put(std::vector<std::int64_t>{1000, 20'000, 100}), status::ok);
    ASSERT_TRUE(other.get<bool>());
    place.set_message_bytes_max(100);
    EXPECT_EQ(place.get<bytes>().error(), places::errc::too_large);
    EXPECT_EQ(place.get<bytes>().error(), places::errc::too_large);
    EXPECT_EQ(place.get<bytes>().value(), bytes(100));
    ASSERT_EQ(other.put(std::vector<std::int64_t>{100}), status::ok);
    EXPECT_EQ(place.get<bytes>().value(), bytes(100));
}

/// Takes messages of 100 bytes, then of 1000, and of 100 again.
int change_limit(places::channel& c) {
    for (const std::size_t limit : {100, 1000, 100}) {
        c.set_message_bytes_max(limit);
        if (c.put(limit) != status::ok || c.get<bytes>().value().size() != limit) return 1;
    }
    return 0;
}
const auto change_limit_entry = places::register_entry<change_limit>("change-limit");

TEST(traffic, a_message_over_a_limit_of_the_other_node_is_too_large_where_it_is_put) {
    auto node = start_node();
    for (int round = 0; round < 20; ++round) {
        auto place = node.supervise_place(change_limit_entry);
        for (const std::size_t limit : {100, 1000, 100}) {
            ASSERT_EQ(place.get<std::size_t>().value(), limit);
            ASSERT_EQ(place.sendable_bytes_max(), limit);
            ASSERT_EQ(place.put(bytes(limit + 1)), status::too_large);
            ASSERT_EQ(place.put(bytes(limit)), status::ok);
        }
        ASSERT_EQ(place.wait(), places::exit_status{});
        ASSERT_EQ(place.sent().delivered, 3U);
    }
}

/// Answers each message with the largest size that it may send.
void tell_sendable(places::channel& c) {
    while (c.get<bool>()) (void)c.put(c.sendable_bytes_max());
}
const auto tell_sendable_entry = places::register_entry<tell_sendable>("tell-sendable");

TEST(traffic, a_limit_that_changes_on_and_on_holds_up_nothing_and_the_last_one_arrives) {
    auto node = start_node();
    auto echoing = node.supervise_place(echo_entry);
    auto place = node.supervise_place(tell_sendable_entry);
    for (int round = 0; round < 20'000; ++round) {
        const auto limit = static_cast<std::size_t>(1000 + round);
        place.set_message_bytes_max(limit);
        if (round % 1000 != 999) continue;
        ASSERT_EQ(echoing.put(std::int64_t{round}), status::ok);
        ASSERT_EQ(echoing.get<std::int64_t>().value(), round);
        ASSERT_EQ(place.put(true), status::ok);
        ASSERT_EQ(place.get<std::size_t>().value(), limit);
    }
}

TEST(traffic, a_channel_dropped_in_the_middle_of_a_stream_disturbs_no_other) {
    auto node = start_node();
    auto echoing = node.supervise_place(echo_entry);
    for (int i = 0; i < 50; ++i) {
        auto stream = node.supervise_place(endless_entry);
        for (int r = 0; r <= i; ++r) ASSERT_TRUE(stream.get<bytes>());
        stream = {};
        ASSERT_EQ(echoing.put(std::int64_t{i}), status::ok);
        ASSERT_EQ(echoing.get<std::int64_t>().value(), i);
    }
    // Their places have been told: none is left but the echo.
    const auto until = clock_type::now() + 30s;
    const auto places_there = [&] { return children_of(nursery_of(node.pid())).size(); };
    while (places_there() > 2 && clock_type::now() < until) ::sched_yield();
    EXPECT_EQ(places_there(), 2U);  // bridge and echo
}

TEST(traffic, a_flood_of_output_is_forwarded_whole_while_calls_go_on) {
    auto node = start_node();
    auto place = node.supervise_place(talkative_entry);
    auto echoing = node.supervise_place(echo_entry);
    constexpr std::int64_t lines = 30'000;
    ASSERT_EQ(place.put(lines), status::ok);
    for (int i = 0; i < 100; ++i) {
        ASSERT_EQ(echoing.put(std::int64_t{i}), status::ok);
        ASSERT_EQ(echoing.get<std::int64_t>().value(), i);
    }
    ASSERT_TRUE(place.get<bool>().value());
    EXPECT_NE(heard("flood " + std::to_string(lines - 1) + "."), "");
    EXPECT_EQ(times_heard("flood "), static_cast<std::size_t>(lines));
}

}  // namespace
