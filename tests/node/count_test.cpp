// SPDX-License-Identifier: Apache-2.0
// What channel::sent() says after a channel over a link has ended, whatever ended it, compared with
// what the place there has processed. The place tells the test that past the system, in a file that
// both map.
#include "tests/node/cutting_proxy.hpp"
#include "tests/node/local_node.hpp"
#include "tests/node/peer.hpp"
#include "tests/node/processes.hpp"
#include "tests/support/kill_process.hpp"
#include "tests/support/sanitized.hpp"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <vector>

namespace places {
namespace {

// -- the place there --

/// In the file that both map.
struct processed_messages {
    std::atomic<std::uint64_t> count;
    std::atomic<std::uint64_t> out_of_order;
    std::atomic<bool> has_seen_the_end;  ///< all that was in its ring is processed
    std::atomic<pid_t> pid;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// A file without a name, or another process's by its path, mapped.
class shared_file {
  public:
    shared_file() : fd_(::memfd_create("processed", MFD_CLOEXEC)) {
        if (!fd_ || ::ftruncate(fd_.get(), sizeof(processed_messages)) != 0) std::abort();
        map();
    }
    explicit shared_file(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC)) {
        map();
    }
    ~shared_file() { ::munmap(mapped_, sizeof(processed_messages)); }
    shared_file(const shared_file&) = delete;
    shared_file& operator=(const shared_file&) = delete;

    processed_messages* operator->() const noexcept { return mapped_; }
    std::string path() const {
        return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd_.get());
    }

  private:
    void map() {
        void* const at = ::mmap(nullptr, sizeof(processed_messages), PROT_READ | PROT_WRITE,
                                MAP_SHARED, fd_.get(), 0);
        if (at == MAP_FAILED) std::abort();
        mapped_ = static_cast<processed_messages*>(at);
    }

    unique_fd fd_;
    processed_messages* mapped_ = nullptr;
};

/// The number that a message of the test carries.
std::uint64_t number_in(const message& m) {
    std::uint64_t number = 0;
    if (m.kind() == message_kind::raw)
        return static_cast<std::uint64_t>(m.as<std::int64_t>().value());
    const auto octets = m.as<bytes>().value();
    std::memcpy(&number, octets.data(), sizeof number);
    return number;
}

/// Is told the file's path and how many messages to process, the path included: ends after them.
void process_messages(channel& to_creator) {
    const auto path = to_creator.get<std::string>();
    if (!path) return;
    const shared_file told{path->substr(path->find(' ') + 1)};
    const auto most = std::strtoull(path->c_str(), nullptr, 10);
    told->pid = ::getpid();
    std::uint64_t next = 1;
    ++told->count;
    while (next < most) {
        const auto m = to_creator.receive();
        if (!m) break;
        if (number_in(*m) != next++) ++told->out_of_order;
        ++told->count;
    }
    told->has_seen_the_end = true;
}
const auto process_entry = register_entry<process_messages>("process-messages");

constexpr std::uint64_t all_messages = ~std::uint64_t{0};

// -- the sender --

/// Puts messages of all sizes, alone and in batches, until the channel takes no more.
class sender {
  public:
    sender(remote_place& to, const shared_file& told, std::uint64_t seed, std::uint64_t most)
        : to_(to),
          random_(seed) {
        if (to_.put(std::to_string(most) + " " + told.path()) == status::ok) ++accepted_;
    }
    /// Returns: whether the channel takes more.
    bool put_some() {
        const auto dice = random_() % 100;
        if (dice < 15) return put_batch(1 + random_() % 300);
        if (dice < 75) return put(8 + random_() % 200);
        if (dice < 97) return put(8 + random_() % 6000);
        return put(20'000 + random_() % 20'000);  // several records
    }
    std::uint64_t accepted() const noexcept { return accepted_; }

  private:
    bool put(std::size_t size) {
        bytes octets(size);
        std::memcpy(octets.data(), &accepted_, sizeof accepted_);
        if (to_.put(octets) != status::ok) return false;
        ++accepted_;
        return true;
    }
    bool put_batch(std::size_t count) {
        std::vector<std::int64_t> numbers(count);
        for (std::size_t i = 0; i < count; ++i) {
            numbers[i] = static_cast<std::int64_t>(accepted_ + i);
        }
        const auto outcome = to_.put_batch(std::span<const std::int64_t>{numbers});
        accepted_ += outcome.count;
        return outcome.state == status::ok;
    }

    remote_place& to_;
    std::mt19937_64 random_;
    std::uint64_t accepted_ = 0;
};

/// Whether the place, which has begun, has processed all that it gets: it says so, or is gone.
bool is_over_there(const shared_file& told) {
    if (told->pid == 0) return true;
    const auto life = watch(told->pid);
    return ends(life) || told->has_seen_the_end;
}

struct totals {
    std::uint64_t delivered = 0;
    std::uint64_t undelivered = 0;
    std::uint64_t unknown = 0;
    std::uint64_t unknown_but_processed = 0;
    int seen_to_the_end = 0;
};

/// Sends to `place` until `end` has ended the channel, in another thread and in the middle of
/// things, and compares both accounts.
void run_round(remote_place& place, std::mt19937_64& random,
               const std::function<void(pid_t there)>& end, totals& all) {
    const shared_file told;
    sender out{place, told, random(), all_messages};
    const auto wanted = 1 + random() % 800;
    std::atomic<bool> has_stopped = false;
    std::thread ender{[&] {
        while (told->count < wanted && !has_stopped) ::sched_yield();
        end(told->pid);
    }};
    while (out.put_some()) {
    }
    has_stopped = true;
    ender.join();
    ASSERT_TRUE(is_over_there(told));
    const auto sent = place.sent();
    const std::uint64_t processed = told->count;
    EXPECT_EQ(sent.accepted, out.accepted());
    EXPECT_EQ(sent.accepted, sent.delivered + sent.undelivered + sent.unknown);
    EXPECT_LE(processed, sent.delivered + sent.unknown);
    EXPECT_EQ(told->out_of_order, 0U);
    if (told->has_seen_the_end) {
        EXPECT_LE(sent.delivered, processed);
        ++all.seen_to_the_end;
    }
    all.delivered += sent.delivered;
    all.undelivered += sent.undelivered;
    all.unknown += sent.unknown;
    all.unknown_but_processed += processed - std::min(processed, sent.delivered);
}

class counted : public ::testing::Test {
  protected:
    using clock_type = std::chrono::steady_clock;
    static constexpr int rounds(int all) { return is_sanitized ? all / 10 : all; }

    static remote_node start(const net::node_key& key) {
        node_options options{.listen_port = 0};
        options.key = {key.begin(), key.end()};
        return test_runtime().spawn_remote_node("localhost", options);
    }
    remote_node connect(std::uint16_t port) const {
        connect_options options;
        options.key = {key_.begin(), key_.end()};
        return test_runtime().connect_node("127.0.0.1:" + std::to_string(port), options);
    }
    void kill_bridges(bool is_ours) {
        const auto since = clock_type::now();
        for (int n = 0; n < rounds(100) && !HasFailure(); ++n) {
            SCOPED_TRACE("kill " + std::to_string(n));
            auto node = start(key_);
            auto place = node.supervise_place(process_entry);
            const auto bridge = bridge_of(is_ours ? ::getpid() : node.pid());
            ASSERT_NE(bridge, 0);
            run_round(
                place, random_, [&](pid_t) { kill_process(bridge); }, all_);
        }
        report("bridges killed", rounds(100), since);
        EXPECT_GT(all_.unknown, 0U);
    }
    void report(const char* what, int number, clock_type::time_point since) const {
        std::printf(
            "%d %s in %lld ms: delivered %llu, undelivered %llu, unknown %llu (%llu of them "
            "processed); %d places saw the end\n",
            number, what, ms_since(since), static_cast<unsigned long long>(all_.delivered),
            static_cast<unsigned long long>(all_.undelivered),
            static_cast<unsigned long long>(all_.unknown),
            static_cast<unsigned long long>(all_.unknown_but_processed), all_.seen_to_the_end);
    }

    const net::node_key key_ = net::make_node_key();
    const std::uint64_t seed_ = [] {
        const char* const given = std::getenv("PLACES_TEST_SEED");
        const std::uint64_t seed =
            given ? std::strtoull(given, nullptr, 0) : std::uint64_t{std::random_device{}()};
        std::printf("PLACES_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
        std::fflush(stdout);
        return seed;
    }();
    std::mt19937_64 random_{seed_};
    totals all_;
};

TEST_F(counted, is_true_after_each_of_200_cut_links) {
    const auto since = clock_type::now();
    auto node = start(key_);
    cutting_proxy proxy{node.port(), ~std::size_t{0}};
    for (int n = 0; n < rounds(200) && !HasFailure(); ++n) {
        SCOPED_TRACE("cut " + std::to_string(n));
        auto there = connect(proxy.port());
        auto place = there.supervise_place(process_entry);
        run_round(
            place, random_, [&](pid_t) { proxy.cut(); }, all_);
    }
    report("cuts", rounds(200), since);
    EXPECT_GT(all_.unknown, 0U);
    EXPECT_EQ(all_.seen_to_the_end, rounds(200));
}

TEST_F(counted, is_true_after_each_of_100_kills_of_the_senders_bridge) {
    kill_bridges(true);
    EXPECT_EQ(all_.seen_to_the_end, rounds(100));
}

TEST_F(counted, is_true_after_each_of_100_kills_of_the_receivers_bridge) { kill_bridges(false); }

TEST_F(counted, is_true_after_the_place_there_has_ended) {
    auto node = start(key_);
    for (int n = 0; n < 10; ++n) {
        const shared_file told;
        const auto most = 1 + random_() % 1000;
        auto place = node.supervise_place(process_entry);
        sender out{place, told, random_(), most};
        while (out.put_some()) {
        }
        (void)place.wait();
        const auto sent = place.sent();
        EXPECT_EQ(told->count, most);
        EXPECT_EQ(sent.accepted, out.accepted());
        EXPECT_EQ(sent.accepted, sent.delivered + sent.undelivered);
        EXPECT_EQ(sent.unknown, 0U);
        EXPECT_GE(sent.delivered, most);
    }
}

TEST(kill_process, fails_where_there_is_none_instead_of_ending_the_tests_beside_it) {
    EXPECT_FATAL_FAILURE(kill_process(0), "there is no such process");
    EXPECT_FATAL_FAILURE(kill_process(-1), "there is no such process");
}

TEST_F(counted, is_true_after_the_place_there_was_killed) {
    auto node = start(key_);
    for (int n = 0; n < 20; ++n) {
        auto place = node.supervise_place(process_entry);
        run_round(
            place, random_, [](pid_t there) { kill_process(there); }, all_);
        EXPECT_EQ(place.wait(), (exit_status{true, SIGKILL}));
        EXPECT_EQ(place.sent().unknown, 0U);
    }
}

TEST_F(counted, is_true_after_the_node_there_has_ended_in_order) {
    for (int n = 0; n < 5; ++n) {
        auto node = start(key_);
        const shared_file told;
        auto place = node.supervise_place(process_entry);
        sender out{place, told, random_(), all_messages};
        for (auto left = random_() % 500; left > 0; --left) ASSERT_TRUE(out.put_some());
        node.send_exit();
        while (out.put_some()) {
        }
        EXPECT_TRUE(is_over_there(told));
        const auto sent = place.sent();
        EXPECT_EQ(sent.accepted, out.accepted());
        EXPECT_EQ(sent.accepted, sent.delivered + sent.undelivered + sent.unknown);
        EXPECT_EQ(sent.unknown, 0U);
        EXPECT_LE(told->count, sent.delivered);
    }
}

TEST_F(counted, is_true_after_this_end_has_closed) {
    auto node = start(key_);
    const shared_file told;
    auto place = node.supervise_place(process_entry);
    sender out{place, told, random_(), all_messages};
    for (int n = 0; n < 1000; ++n) ASSERT_TRUE(out.put_some());
    place.close();
    EXPECT_TRUE(is_over_there(told));
    EXPECT_TRUE(told->has_seen_the_end);
    // The node there has acknowledged it, and the acknowledgement may still be on its way.
    while (place.sent().unknown > 0) ::sched_yield();
    EXPECT_EQ(place.sent().delivered, out.accepted());
    EXPECT_EQ(told->count, out.accepted());
}

}  // namespace

// -- by hand: each answer that a node can give --

namespace net {
namespace {

class counted_by_hand : public bridge_test {
  protected:
    counted_by_hand() {
        auto dialed = be_dialed(key_, "there");
        events_ = std::move(dialed.events);
        node_.emplace(std::move(dialed.node));
        c_ = ask_bridge(connect_command{dialed.link, "x"});
        const auto open = node_->next<open_frame>();
        id_ = open ? open->channel : 0;
        EXPECT_TRUE(node_->send(opened_frame{id_, first_limit, 1}));
        (void)detail::await_opened(c_);
        for (int n = 0; n < 4; ++n) EXPECT_EQ(c_.put(std::int64_t{n}), status::ok);
        // Four records of a line each.
        for (std::uint64_t got = 0; got < 4 * shm::line_bytes;) {
            const auto some = node_->next<data_frame>();
            if (!some) break;
            got = some->position + some->records.size();
        }
    }
    void expect(std::uint64_t delivered, std::uint64_t undelivered, std::uint64_t unknown) {
        const auto is_there = [&] {
            const auto s = c_.sent();
            return s.delivered == delivered && s.undelivered == undelivered &&
                   s.unknown == unknown && s.accepted == delivered + undelivered + unknown;
        };
        const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{30};
        while (!is_there() && std::chrono::steady_clock::now() < until) ::sched_yield();
        const auto s = c_.sent();
        EXPECT_TRUE(is_there()) << s.accepted << " = " << s.delivered << " + " << s.undelivered
                                << " + " << s.unknown;
    }

    static constexpr std::uint64_t line = shm::line_bytes;
    static constexpr std::uint64_t first_limit = 20'000;
    channel events_;
    std::optional<peer> node_;
    channel c_;
    std::uint64_t id_ = 0;
};

TEST_F(counted_by_hand, what_is_not_acknowledged_is_unknown_also_after_the_link) {
    expect(0, 0, 4);
    ASSERT_TRUE(node_->send(credit_frame{id_, line, ring}));
    expect(1, 0, 3);
    node_.reset();
    EXPECT_EQ(c_.get<std::int64_t>().error(), errc::peer_dead);
    expect(1, 0, 3);
}

TEST_F(counted_by_hand, what_has_no_credit_has_not_left) {
    const bytes large(10'000);
    for (int n = 0; n < 3; ++n) ASSERT_EQ(c_.put(large), status::ok);
    // There is credit for one of them.
    expect(0, 2, 5);
    node_.reset();
    EXPECT_EQ(c_.get<std::int64_t>().error(), errc::peer_dead);
    expect(0, 2, 5);
}

TEST_F(counted_by_hand, what_is_not_acknowledged_before_a_close_is_undelivered) {
    ASSERT_TRUE(node_->send(credit_frame{id_, 2 * line, ring}));
    ASSERT_TRUE(node_->send(close_frame{id_, 0, errc::closed}));
    EXPECT_EQ(c_.get<std::int64_t>().error(), errc::closed);
    expect(2, 2, 0);
    node_.reset();
    expect(2, 2, 0);
}

TEST_F(counted_by_hand, what_the_node_says_it_has_dropped_is_undelivered) {
    ASSERT_TRUE(node_->send(credit_frame{id_, 3 * line, ring, line}));
    expect(2, 2, 0);
    ASSERT_EQ(c_.put(std::int64_t{4}), status::ok);
    expect(2, 3, 0);
    ASSERT_TRUE(node_->send(credit_frame{id_, 5 * line, ring, 3 * line}));
    expect(2, 3, 0);
    node_.reset();
    EXPECT_EQ(c_.get<std::int64_t>().error(), errc::peer_dead);
    expect(2, 3, 0);
}

TEST_F(counted_by_hand, a_credit_that_drops_what_cannot_be_costs_the_link) {
    const std::vector<std::vector<credit_frame>> breaches{
        {{0, 2 * line, ring, 3 * line}},                                      // more than placed
        {{0, 2 * line, ring, 32}},                                            // inside a record
        {{0, 3 * line, ring, 0}, {0, 4 * line, ring, 2 * line}},              // once placed
        {{0, 2 * line, ring, line}, {0, 4 * line, ring, line}},               // placed again
        {{0, 2 * line, ring, line}, {0, 4 * line, ring, 0}},                  // none dropped
        {{0, 2 * line, ring, line}, {0, 4 * line, ring, ~std::uint64_t{0}}},  // overflow
    };
    for (const auto& each : breaches) {
        auto dialed = be_dialed(key_, "there");
        auto c = ask_bridge(connect_command{dialed.link, "x"});
        const auto open = dialed.node.next<open_frame>();
        ASSERT_TRUE(open);
        ASSERT_TRUE(dialed.node.send(opened_frame{open->channel, ring, 1}));
        (void)detail::await_opened(c);
        for (int n = 0; n < 4; ++n) EXPECT_EQ(c.put(std::int64_t{n}), status::ok);
        for (std::uint64_t got = 0; got < 4 * line;) {
            const auto some = dialed.node.next<data_frame>();
            ASSERT_TRUE(some);
            got = some->position + some->records.size();
        }
        for (auto f : each) {
            f.channel = open->channel;
            (void)dialed.node.send(f);
        }
        EXPECT_TRUE(dialed.node.is_closed_by_bridge());
        const auto event = dialed.events.get<bridge_event>();
        const auto* lost = event ? std::get_if<node_lost>(&*event) : nullptr;
        ASSERT_TRUE(lost);
        EXPECT_NE(lost->reason.find("broke the protocol"), std::string::npos) << lost->reason;
    }
}

TEST_F(bridge_test, says_what_it_has_dropped_for_a_place_that_reads_no_more) {
    auto p = dial();
    ASSERT_TRUE(p.send(open_frame{1, ring, start_entry{"process-messages", ""}}));
    ASSERT_TRUE(p.next<opened_frame>());
    ASSERT_TRUE(p.send(credit_frame{1, 0, ring}));
    // No path: it ends at once.
    ASSERT_TRUE(p.send(data_frame{1, 0, record("x")}));
    const auto placed = p.next<credit_frame>();
    ASSERT_TRUE(placed);
    EXPECT_EQ(placed->dropped, 0U);
    ASSERT_TRUE(p.next<close_frame>());
    ASSERT_TRUE(p.send(data_frame{1, shm::line_bytes, record("y")}));
    ASSERT_TRUE(p.send(data_frame{1, 2 * shm::line_bytes, record("z")}));
    auto dropped = p.next<credit_frame>();
    while (dropped && dropped->placed < 3 * shm::line_bytes) dropped = p.next<credit_frame>();
    ASSERT_TRUE(dropped);
    EXPECT_EQ(dropped->placed, 3 * shm::line_bytes);
    EXPECT_EQ(dropped->dropped, 2 * shm::line_bytes);
}

}  // namespace
}  // namespace net
}  // namespace places
