// SPDX-License-Identifier: Apache-2.0
#include "net/link.hpp"

#include "tests/net/event_loop.hpp"

#include <boost/asio/error.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <stdexcept>

namespace places::net {
namespace {

using bytes = std::vector<std::byte>;

bytes noise(std::size_t size) {
    std::mt19937 random{3};
    bytes made(size);
    for (auto& b : made) b = static_cast<std::byte>(random());
    return made;
}

bytes part(std::span<const std::byte> of, std::size_t at, std::size_t size) {
    const auto some = of.subspan(at, size);
    return {some.begin(), some.end()};
}

peer_info peer_of(std::string name) { return {std::move(name), {}, 1, "test"}; }

// A link and what happened to it.
struct side {
    std::shared_ptr<link> end;
    std::vector<std::size_t> kinds{};  // index of each frame in `frame`
    std::vector<frame> control{};      // every frame but data
    bytes records{};                   // of all data frames, by position
    int closed = 0;
    boost::system::error_code code{};
    std::string why{};
    std::function<void(const frame&)> on_frame{};
    std::function<void()> on_written{};

    side(stream connection, std::string name)
        : end(std::make_shared<link>(std::move(connection), peer_of(std::move(name)))) {}

    void start() {
        end->start({.on_frame =
                        [this](frame&& f) {
                            EXPECT_EQ(closed, 0);
                            kinds.push_back(f.index());
                            if (on_frame) on_frame(f);
                            if (const auto* data = std::get_if<data_frame>(&f)) {
                                EXPECT_EQ(data->position, records.size());
                                std::ranges::copy(data->records, std::back_inserter(records));
                            } else {
                                control.push_back(std::move(f));
                            }
                        },
                    .on_written =
                        [this] {
                            if (on_written) on_written();
                        },
                    .on_closed =
                        [this](boost::system::error_code ec, std::string text) {
                            ++closed;
                            code = ec;
                            why = std::move(text);
                        }});
    }
};

// Over TLS and without: nothing that a link promises depends on it.
class links : public testing::TestWithParam<bool> {
  protected:
    // The io_context must not outlive what its last handlers refer to.
    ~links() override {
        a.end->close("the test is over");
        b.end->close("the test is over");
        loop.run_ready();
    }

    // Gives up b's link for a bare socket: what b then sends is not ours.
    boost::asio::ip::tcp::socket bare_peer() {
        auto fresh = loop.connected_sockets();
        a.end = std::make_shared<link>(stream{std::move(fresh.first)}, peer_of("bare"));
        return std::move(fresh.second);
    }

    event_loop loop;
    std::pair<stream, stream> streams = loop.connected_streams(GetParam());
    side a{std::move(streams.first), "b"};
    side b{std::move(streams.second), "a"};
};
INSTANTIATE_TEST_SUITE_P(over, links, testing::Bool(),
                         [](const auto& which) { return which.param ? "tls" : "tcp"; });

TEST_P(links, carry_control_frames_in_order_both_ways) {
    a.start();
    b.start();
    for (std::uint64_t i = 0; i < 1000; ++i) {
        a.end->send(ping_frame{i});
        b.end->send(credit_frame{i, i, i});
    }
    ASSERT_TRUE(loop.run_until([&] { return a.kinds.size() == 1000 && b.kinds.size() == 1000; }));
    for (std::uint64_t i = 0; i < 1000; ++i) {
        ASSERT_TRUE(b.control[i] == frame{ping_frame{i}});
        ASSERT_TRUE(a.control[i] == frame(credit_frame{i, i, i}));
    }
    EXPECT_EQ(a.end->queued_bytes(), 0u);
}

TEST_P(links, carry_what_was_queued_before_start) {
    b.start();
    a.end->send(ping_frame{1});
    EXPECT_GT(a.end->queued_bytes(), 0u);
    a.start();
    ASSERT_TRUE(loop.run_until([&] { return b.control.size() == 1; }));
}

TEST_P(links, deliver_gathered_records_intact) {
    const bytes ring = noise(24 << 20);
    std::mt19937 random{5};
    a.start();
    b.start();
    for (std::size_t at = 0; at < ring.size();) {
        // Also sizes that need padding, though ring records never do.
        std::size_t size = random() % 3 ? 64 * (1 + random() % 1024) : 1 + random() % 4000;
        size = std::min(size, ring.size() - at);
        if (random() % 8 == 0)
            a.end->send(data_frame{5, at, std::span{ring}.subspan(at, size)});
        else
            a.end->send_data(5, at, part(ring, at, size));
        at += size;
    }
    EXPECT_GT(a.end->queued_bytes(), ring.size());
    ASSERT_TRUE(loop.run_until(
        [&] { return b.records.size() == ring.size() && a.end->queued_bytes() == 0; }));
    EXPECT_TRUE(b.records == ring);
}

TEST_P(links, control_overtakes_queued_data) {
    constexpr std::size_t spans = 512;
    const bytes records = noise(records_bytes_max);
    a.start();
    for (std::size_t i = 0; i < spans; ++i) a.end->send_data(5, i * records.size(), records);
    const auto each = a.end->queued_bytes() / spans;
    loop.run_ready();  // a write is under way and stuck: nobody reads
    const std::size_t written_before = spans - a.end->queued_bytes() / each;
    ASSERT_LT(written_before, spans / 2);
    a.end->send(ping_frame{1});
    b.start();
    ASSERT_TRUE(loop.run_until([&] { return b.kinds.size() == spans + 1; }));
    const std::size_t ping = frame{ping_frame{}}.index();
    const auto place = std::ranges::find(b.kinds, ping) - b.kinds.begin();
    EXPECT_GT(place, 0);
    // Behind what was written and the one write of at most 256 KiB, before all the rest.
    EXPECT_LE(place, static_cast<std::ptrdiff_t>(written_before) + 5);
}

TEST_P(links, may_queue_more_from_on_written) {
    const bytes records = noise(4096);
    std::size_t sent = 0;
    const auto next = [&] {
        if (sent == 200) return;
        a.end->send_data(5, sent++ * records.size(), records);
    };
    a.on_written = next;
    a.start();
    b.start();
    next();
    ASSERT_TRUE(loop.run_until([&] { return b.records.size() == 200 * records.size(); }));
}

TEST_P(links, close_is_reported_once_at_either_end_and_never_from_inside) {
    a.start();
    b.start();
    a.end->close("first reason");
    a.end->close("second reason");
    EXPECT_EQ(a.closed, 0);
    EXPECT_FALSE(a.end->is_open());
    a.end->send(ping_frame{1});
    a.end->send_data(1, 0, {});
    EXPECT_EQ(a.end->queued_bytes(), 0u);
    ASSERT_TRUE(loop.run_until([&] { return a.closed > 0 && b.closed > 0; }));
    loop.run_ready();
    EXPECT_EQ(a.closed, 1);
    EXPECT_EQ(b.closed, 1);
    EXPECT_FALSE(a.code);
    EXPECT_NE(a.why.find("first reason"), std::string::npos);
    EXPECT_NE(a.why.find("'b' at test"), std::string::npos) << a.why;
    // That it was no end in order only TLS tells.
    const boost::system::error_code truncated{boost::asio::ssl::error::stream_truncated};
    EXPECT_EQ(b.code, GetParam() ? truncated : boost::asio::error::eof);
    EXPECT_TRUE(b.control.empty());
}

TEST_P(links, closed_before_start_still_report) {
    a.end->close("early");
    a.start();
    ASSERT_TRUE(loop.run_until([&] { return a.closed > 0; }));
    EXPECT_FALSE(a.code);
}

TEST_P(links, close_in_on_frame_delivers_nothing_more) {
    a.start();
    for (std::uint64_t i = 0; i < 100; ++i) a.end->send(ping_frame{i});
    b.on_frame = [&](const frame&) { b.end->close("enough"); };
    b.start();
    ASSERT_TRUE(loop.run_until([&] { return a.closed > 0 && b.closed > 0; }));
    EXPECT_EQ(b.kinds.size(), 1u);
    EXPECT_EQ(b.closed, 1);
}

TEST_P(links, closed_under_a_write_hold_nothing_back_and_are_over) {
    const bytes ring = noise(16 << 20);
    a.start();
    for (std::size_t at = 0; at < ring.size(); at += records_bytes_max)
        a.end->send_data(5, at, part(ring, at, records_bytes_max));
    loop.run_ready();  // a write is under way and stuck: nobody reads
    ASSERT_GT(a.end->queued_bytes(), 0u);
    a.end->close("now");
    ASSERT_TRUE(loop.run_until([&] { return a.closed > 0; }));
    b.start();
    ASSERT_TRUE(loop.run_until([&] { return b.closed > 0; }));
    EXPECT_EQ(a.end->queued_bytes(), 0u);
}

TEST_P(links, finish_delivers_all_that_was_queued) {
    const bytes ring = noise(8 << 20);
    a.start();
    for (std::size_t at = 0; at < ring.size(); at += records_bytes_max)
        a.end->send_data(5, at, part(ring, at, records_bytes_max));
    a.end->send(exit_frame{3});
    a.end->finish("all said");
    a.end->send(ping_frame{1});
    b.start();
    // Unread bytes from the other side must not turn the end into a reset.
    for (std::uint64_t i = 0; i < 1000; ++i) b.end->send(ping_frame{i});
    ASSERT_TRUE(loop.run_until([&] { return a.closed > 0 && b.closed > 0; }));
    EXPECT_TRUE(b.records == ring);
    ASSERT_EQ(b.control.size(), 1u);
    EXPECT_TRUE(b.control[0] == frame{exit_frame{3}});
    EXPECT_FALSE(a.code) << a.why;
    EXPECT_NE(a.why.find("all said"), std::string::npos);
    EXPECT_EQ(b.code, boost::asio::error::eof);
}

TEST_P(links, exception_from_on_frame_ends_the_link_and_nothing_else) {
    a.start();
    a.end->send(ping_frame{1});
    b.on_frame = [](const frame&) { throw std::runtime_error{"no such channel"}; };
    b.start();
    ASSERT_TRUE(loop.run_until([&] { return b.closed > 0; }));
    EXPECT_NE(b.why.find("no such channel"), std::string::npos) << b.why;
}

TEST_P(links, frames_cut_at_every_byte_still_arrive) {
    auto peer = bare_peer();
    const bytes records = noise(128);
    bytes stream;
    for (const frame& f : {frame{ping_frame{1}}, frame(data_frame{5, 0, records}),
                           frame{log_frame{"p", 6, 1, "text"}}})
        std::ranges::copy(encode(f), std::back_inserter(stream));
    peer.set_option(boost::asio::ip::tcp::no_delay{true});
    a.start();
    for (const std::byte& one : stream) {
        boost::asio::write(peer, boost::asio::buffer(&one, 1));
        loop.run_ready();
    }
    ASSERT_TRUE(loop.run_until([&] { return a.kinds.size() == 3; }));
    EXPECT_TRUE(a.records == records);
    EXPECT_EQ(a.closed, 0);
}

TEST_P(links, end_at_bytes_that_break_the_protocol) {
    struct attack {
        const char* name;
        bytes sent;
        errc code;
    };
    bytes too_long{std::byte{0xF8}, std::byte{0xFF}, std::byte{0xFF}, std::byte{0xFF}};
    bytes odd{std::byte{17}, std::byte{0}, std::byte{0}, std::byte{0}};
    bytes empty(4);
    bytes garbage = noise(68);
    garbage[0] = std::byte{64};
    garbage[1] = garbage[2] = garbage[3] = std::byte{0};
    for (const attack& attack :
         {attack{"length over the limit", too_long, errc::too_large},
          attack{"length that is no multiple of 8", odd, errc::protocol},
          attack{"empty frame", empty, errc::protocol}, attack{"noise", garbage, errc::protocol},
          attack{"second hello", encode(hello_frame{1, 1, "x", {}, {}, {}}), errc::protocol},
          attack{"late reject", encode(reject_frame{errc::closed, "x", 1, 1}), errc::protocol}}) {
        SCOPED_TRACE(attack.name);
        auto peer = bare_peer();
        a.closed = 0;
        a.kinds.clear();
        a.start();
        bytes stream = encode(ping_frame{1});  // what is right before it is delivered
        std::ranges::copy(attack.sent, std::back_inserter(stream));
        boost::asio::write(peer, boost::asio::buffer(stream));
        ASSERT_TRUE(loop.run_until([&] { return a.closed > 0; }));
        loop.run_ready();
        EXPECT_EQ(a.closed, 1);
        EXPECT_EQ(a.code, attack.code);
        EXPECT_EQ(a.kinds.size(), 1u);
    }
}

TEST_P(links, reset_is_reported_with_what_the_kernel_said) {
    auto peer = bare_peer();
    a.start();
    peer.set_option(boost::asio::socket_base::linger{true, 0});
    peer.close();
    ASSERT_TRUE(loop.run_until([&] { return a.closed > 0; }));
    EXPECT_EQ(a.code, boost::asio::error::connection_reset);
}

TEST_P(links, finish_while_the_other_side_is_still_sending_loses_nothing_of_either) {
    const bytes ring = noise(4 << 20);
    a.start();
    b.start();
    for (std::size_t at = 0; at < ring.size(); at += records_bytes_max)
        b.end->send_data(5, at, part(ring, at, records_bytes_max));
    a.end->send(ping_frame{1});
    a.end->finish("all said");  // what b has sent comes behind our last word
    ASSERT_TRUE(loop.run_until([&] { return b.closed > 0; }));
    EXPECT_EQ(b.control.size(), 1u);
    ASSERT_TRUE(loop.run_until([&] { return a.closed > 0; }));
}

TEST_P(links, over_long_records_are_refused_and_leave_nothing_queued) {
    const bytes many(records_bytes_max + 64);
    EXPECT_THROW(a.end->send_data(5, 0, many), error);
    EXPECT_THROW(a.end->send(open_frame{1, 64, connect_name{std::string(5000, 'n')}}), error);
    EXPECT_EQ(a.end->queued_bytes(), 0u);
}

}  // namespace
}  // namespace places::net
