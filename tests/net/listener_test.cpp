// SPDX-License-Identifier: Apache-2.0
#include "net/listener.hpp"

#include "tests/net/event_loop.hpp"
#include "tests/support/attackers.hpp"

#include <boost/asio/read.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>

namespace places::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using namespace std::chrono_literals;

const node_key right_key = [] {
    node_key key;
    key.fill(std::byte{7});
    return key;
}();
const node_key wrong_key{};

std::string text_of(const tcp::endpoint& endpoint) {
    std::ostringstream text;
    text << endpoint;
    return text.str();
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != text.npos;
}

// On 127.0.0.1, with more connections waiting than the kernel answers: one more hears nothing.
class mute_server {
  public:
    explicit mute_server(asio::io_context& context) : acceptor_(context) {
        acceptor_.open(tcp::v4());
        acceptor_.bind({asio::ip::address_v4::loopback(), 0});
        acceptor_.listen(0);
        const auto there = acceptor_.local_endpoint();
        int got = 0;
        while (got == 0 && waiting_.size() < 100) {
            waiting_.emplace_back(context, tcp::v4());
            waiting_.back().native_non_blocking(true);
            got = ::connect(waiting_.back().native_handle(), there.data(),
                            static_cast<socklen_t>(there.size()));
        }
        EXPECT_TRUE(got < 0 && errno == EINPROGRESS);
    }
    std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

  private:
    tcp::acceptor acceptor_;
    std::vector<tcp::socket> waiting_;
};

// Over TLS and without.
class listening : public testing::TestWithParam<bool> {
  protected:
    ~listening() override {
        node.reset();
        for (auto& [one, peer] : accepted) one->close("the test is over");
        loop.run_ready();
    }

    listen_options options() {
        return {.address = "127.0.0.1",
                .port = 0,
                .insecure = !is_secure,
                .keys = {known_key{right_key, "client", all_rights}},
                .name = "node",
                .incarnation = make_incarnation_id(),
                .log = [this](std::string line) { lines.push_back(std::move(line)); },
                .on_link = [this](std::shared_ptr<link> one,
                                  peer_info peer) { accepted.emplace_back(one, peer); }};
    }
    void listen(listen_options with) { node.emplace(loop.context, std::move(with)); }
    void listen() { listen(options()); }

    dial_options to(std::uint16_t port, const node_key& key = right_key) {
        return {.host = "127.0.0.1",
                .port = port,
                .insecure = !is_secure,
                .key = key,
                .name = "client",
                .incarnation = make_incarnation_id()};
    }

    dial_result dialed(dial_options with) {
        std::optional<dial_result> outcome;
        dial(loop.context, std::move(with), [&](dial_result r) { outcome = std::move(r); });
        EXPECT_FALSE(outcome) << "from inside dial()";
        if (!loop.run_until([&] { return outcome.has_value(); })) {
            ADD_FAILURE() << "dial() never ended";
            std::abort();
        }
        return std::move(*outcome);
    }

    void expect_that_a_good_client_works() {
        const std::size_t before = accepted.size();
        const std::size_t lines_before = lines.size();
        auto r = dialed(to(node->port()));
        ASSERT_TRUE(r) << r.error().text;
        ASSERT_TRUE(loop.run_until([&] { return accepted.size() == before + 1; }));
        EXPECT_EQ(lines.size(), lines_before);
        EXPECT_EQ(accepted.back().second.name, "client");
    }

    // What a client says first, and would have to go on with.
    std::vector<std::byte> first_words() const {
        if (!is_secure) return encode(hello_frame{1, 1, "x", {}, {}, {}});
        std::vector<std::byte> record(5 + 512);  // a TLS record that holds the first of a handshake
        record[0] = std::byte{0x16};
        record[1] = std::byte{3};
        record[2] = std::byte{1};
        record[3] = std::byte{2};
        record[5] = std::byte{1};
        return record;
    }

    // A client that speaks bytes.
    tcp::socket raw(const char* from = "127.0.0.1") {
        tcp::socket socket{loop.context, tcp::v4()};
        socket.bind({asio::ip::make_address(from), 0});
        socket.connect({asio::ip::address_v4::loopback(), node->port()});
        return socket;
    }

    std::vector<std::byte> hello_with_a_key() { return loop.hello_of(right_key, "client"); }

    /// A connection that has sent `hello` and has an answer to it.
    tcp::socket answered(const std::vector<std::byte>& hello) {
        auto client = raw();
        asio::write(client, asio::buffer(hello));
        bool is_answered = false;
        client.async_wait(tcp::socket::wait_read,
                          [&](boost::system::error_code) { is_answered = true; });
        EXPECT_TRUE(loop.run_until([&] { return is_answered; }));
        return client;
    }

    void expect_one_line(const std::string& address, const std::string& cause) {
        ASSERT_TRUE(loop.run_until([&] { return !lines.empty(); }));
        loop.run_ready();
        ASSERT_EQ(lines.size(), 1u);
        EXPECT_TRUE(contains(lines[0], address)) << lines[0];
        EXPECT_TRUE(contains(lines[0], cause)) << lines[0];
        EXPECT_TRUE(accepted.empty());
        expect_that_a_good_client_works();
    }

    const bool is_secure = GetParam();
    event_loop loop;
    std::vector<std::string> lines;
    std::vector<std::pair<std::shared_ptr<link>, peer_info>> accepted;
    std::optional<listener> node;
};
std::string name_of(const testing::TestParamInfo<bool>& info) { return info.param ? "tls" : "tcp"; }
INSTANTIATE_TEST_SUITE_P(over, listening, testing::Bool(), name_of);

TEST_P(listening, and_dial_tell_each_side_who_the_other_is) {
    auto with = options();
    listen(with);
    auto client = to(node->port());
    auto r = dialed(client);
    ASSERT_TRUE(r) << r.error().text;
    ASSERT_TRUE(loop.run_until([&] { return accepted.size() == 1; }));
    EXPECT_EQ((*r)->peer().name, "node");
    EXPECT_EQ((*r)->peer().incarnation, with.incarnation);
    EXPECT_EQ((*r)->peer().address, "127.0.0.1:" + std::to_string(node->port()));
    EXPECT_EQ(accepted[0].second.name, "client");
    EXPECT_EQ(accepted[0].second.incarnation, client.incarnation);
    EXPECT_TRUE(lines.empty());
}

TEST_P(listening, frames_right_behind_the_welcome_are_not_lost) {
    auto with = options();
    with.on_link = [this](std::shared_ptr<link> one, peer_info peer) {
        one->start({});
        for (std::uint64_t i = 0; i < 100; ++i) one->send(ping_frame{i});
        accepted.emplace_back(std::move(one), std::move(peer));
    };
    listen(std::move(with));
    auto r = dialed(to(node->port()));
    ASSERT_TRUE(r);
    std::uint64_t pings = 0;
    bool closed = false;
    (*r)->start(
        {.on_frame = [&](frame&& f) { EXPECT_EQ(std::get<ping_frame>(f).sequence, pings++); },
         .on_closed = [&](auto, const std::string&) { closed = true; }});
    ASSERT_TRUE(loop.run_until([&] { return pings == 100; }));
    (*r)->close("done");
    ASSERT_TRUE(loop.run_until([&] { return closed; }));
}

TEST_P(listening, dial_by_the_name_localhost_works) {
    listen();
    auto with = to(node->port());
    with.host = "localhost";
    EXPECT_TRUE(dialed(with));
}

// -- who does not get in --

TEST_P(listening, noise_is_refused_with_one_line) {
    listen();
    auto socket = raw();
    const std::string length{"\x40\0\0\0", 4};  // a good length, and a body that is none
    asio::write(socket, asio::buffer(length + std::string(64, '\xEE')));
    expect_one_line(text_of(socket.local_endpoint()), "not the places protocol");
}

TEST_P(listening, http_request_is_refused_with_one_line) {
    listen();
    auto socket = raw();
    asio::write(socket, asio::buffer(std::string{"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"}));
    expect_one_line(text_of(socket.local_endpoint()), "not the places protocol");
}

TEST_P(listening, length_over_the_limit_is_refused_with_one_line) {
    listen();
    auto socket = raw();
    asio::write(socket, asio::buffer("\x00\x41\x00\x00\x00", 5));  // 16 KiB and 256 bytes
    expect_one_line(text_of(socket.local_endpoint()),
                    is_secure ? "not TLS" : "more bytes than a handshake has");
}

TEST_P(listening, client_that_hangs_up_at_once_is_reported_with_one_line) {
    listen();
    auto socket = raw();
    const auto address = text_of(socket.local_endpoint());
    socket.close();
    expect_one_line(address, "hung up without a word");
}

TEST_P(listening, client_that_hangs_up_in_the_middle_is_reported_with_one_line) {
    listen();
    auto socket = raw();
    const auto address = text_of(socket.local_endpoint());
    const auto hello = first_words();
    asio::write(socket, asio::buffer(hello, hello.size() / 2));
    socket.shutdown(tcp::socket::shutdown_send);
    expect_one_line(
        address, is_secure ? "hung up during the TLS handshake" : "hung up during the handshake");
}

TEST_P(listening, wrong_key_is_refused_with_one_line_and_the_client_learns_why) {
    listen();
    const auto r = dialed(to(node->port(), wrong_key));
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::bad_key);
    EXPECT_TRUE(contains(r.error().text, "127.0.0.1:" + std::to_string(node->port())));
    EXPECT_TRUE(contains(r.error().text, "the one that the node was started with?"));
    expect_one_line("127.0.0.1:", "does not hold the node's key");
}

TEST_P(listening, no_common_protocol_is_refused_with_both_ranges_at_both_ends) {
    auto with = options();
    with.protocols = {8, 9};
    listen(std::move(with));
    const auto r = dialed(to(node->port()));
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::wrong_version);
    ASSERT_TRUE(loop.run_until([&] { return !lines.empty(); }));
    const protocol_range own;
    const auto ours = std::to_string(own.min) + ".." + std::to_string(own.max);
    for (const std::string& text : {r.error().text, lines[0]}) {
        EXPECT_TRUE(contains(text, ours)) << text;
        EXPECT_TRUE(contains(text, "8..9")) << text;
    }
}

TEST_P(listening, hello_in_two_records_is_refused_before_there_is_any_tls) {
    if (!is_secure) return;
    const auto hello = hello_with_a_key();
    listen();
    auto client = raw();
    // The first record holds half of it.
    std::vector<std::byte> half(hello.begin(), hello.begin() + 5 + 100);
    half[3] = std::byte{0};
    half[4] = std::byte{100};
    asio::write(client, asio::buffer(half));
    expect_one_line(text_of(client.local_endpoint()), "does not hold all of a hello");
}

TEST_P(listening, hello_that_was_sent_before_is_refused_with_one_line) {
    if (!is_secure) return;
    const auto hello = hello_with_a_key();
    listen();
    const auto first = answered(hello);
    ASSERT_TRUE(lines.empty());
    auto copy = raw();
    asio::write(copy, asio::buffer(hello));
    expect_one_line(text_of(copy.local_endpoint()), "a copy of a TLS hello that was sent before");
}

TEST_P(listening, silent_client_is_dropped_at_the_deadline) {
    auto with = options();
    with.handshake_deadline = 200ms;
    listen(std::move(with));
    auto socket = raw();
    expect_one_line(text_of(socket.local_endpoint()), "within the deadline");
    // Its side sees the challenge and then the end.
    std::string seen;
    boost::system::error_code ec;
    asio::read(socket, asio::dynamic_buffer(seen), ec);
    EXPECT_TRUE(ec);
}

TEST_P(listening, client_that_drips_bytes_gains_no_time) {
    auto with = options();
    with.handshake_deadline = 200ms;
    listen(std::move(with));
    auto socket = raw();
    const auto hello = first_words();
    asio::steady_timer timer{loop.context};
    std::size_t sent = 0;
    std::function<void()> drip = [&] {
        timer.expires_after(10ms);
        timer.async_wait([&](boost::system::error_code ec) {
            if (ec || sent + 1 == hello.size()) return;
            boost::system::error_code ignored;
            asio::write(socket, asio::buffer(&hello[sent++], 1), ignored);
            drip();
        });
    };
    drip();
    expect_one_line(text_of(socket.local_endpoint()), "within the deadline");
    EXPECT_GT(sent, 0u);
    loop.run_ready();  // a wait that is over refers to what is here
}

TEST_P(listening, hundred_pending_connections_do_not_keep_a_good_client_out) {
    auto with = options();
    with.pending_max = 64;
    with.log_window = 300ms;
    listen(std::move(with));
    // Connections that the log accounts for, on a line each or together.
    const auto refused = [&] {
        std::size_t sum = 0;
        for (const auto& line : lines)
            sum += contains(line, " more refused; the last: ") ? std::stoul(line) : 1;
        return sum;
    };
    std::vector<tcp::socket> connections;
    for (int i = 0; i < 100; ++i) connections.push_back(raw());
    // 64 wait, 36 are turned away: ten with lines of their own and 26 in one, if within one window.
    ASSERT_TRUE(loop.run_until([&] { return refused() == 36; }));
    EXPECT_LT(lines.size(), 36u);
    EXPECT_TRUE(contains(lines[0], "64 handshakes are under way")) << lines[0];
    connections.clear();
    ASSERT_TRUE(loop.run_until([&] { return refused() == 100; }));
    EXPECT_LT(lines.size(), 72u);
    loop.run_ready();
    EXPECT_EQ(refused(), 100u);
    expect_that_a_good_client_works();
}

TEST_P(listening, with_as_many_handshakes_as_it_takes_ends_the_oldest_for_whoever_dials) {
    auto with = options();
    with.pending_max = 2;
    listen(std::move(with));
    std::vector<tcp::socket> connections;
    for (int i = 0; i < 2; ++i) {
        connections.push_back(raw());
        loop.run_ready();
    }
    const auto oldest = text_of(connections.front().local_endpoint());
    const auto r = dialed(to(node->port()));
    ASSERT_TRUE(r) << r.error().text;
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_TRUE(contains(lines[0], oldest)) << lines[0];
    EXPECT_TRUE(contains(lines[0], "2 handshakes are under way, and this one made room"))
        << lines[0];
    boost::system::error_code ec;
    std::string rest;
    asio::read(connections.front(), asio::dynamic_buffer(rest), ec);
    EXPECT_EQ(contains(rest, "made room for a newer one; try again"), !is_secure);
}

TEST_P(listening, keeps_a_handshake_that_has_proved_a_key_while_others_make_room) {
    if (!is_secure) return;  // there the proof of the key is the last that is waited for
    auto with = options();
    with.pending_max = 2;
    listen(std::move(with));
    stream client{raw(), std::make_unique<tls_side>(make_tls_context(), right_key, "client")};
    bool is_shaken = false;
    client.async_shake([&](boost::system::error_code ec) { is_shaken = !ec; });
    ASSERT_TRUE(loop.run_until([&] { return is_shaken; }));
    std::vector<tcp::socket> connections;
    for (int i = 0; i < 5; ++i) connections.push_back(raw());
    ASSERT_TRUE(loop.run_until([&] { return lines.size() == 4; }));
    loop.run_ready();
    std::array<std::byte, length_prefix_bytes> challenge{};
    std::optional<boost::system::error_code> read;
    asio::async_read(client, asio::buffer(challenge),
                     [&](boost::system::error_code ec, std::size_t) { read = ec; });
    ASSERT_TRUE(loop.run_until([&] { return read.has_value(); }));
    EXPECT_FALSE(*read) << read->message();
}

TEST_P(listening, keeps_a_handshake_with_a_hello_that_a_key_has_made_while_others_make_room) {
    if (!is_secure) return;
    const auto hello = hello_with_a_key();
    auto with = options();
    with.pending_max = 2;
    listen(std::move(with));
    const auto client = answered(hello);
    const auto address = text_of(client.local_endpoint());
    std::vector<tcp::socket> connections;
    for (int i = 0; i < 5; ++i) connections.push_back(raw());
    ASSERT_TRUE(loop.run_until([&] { return lines.size() == 4; }));
    for (const auto& line : lines) EXPECT_FALSE(contains(line, address)) << line;
}

TEST_P(listening, full_of_others_lets_a_known_address_in_ahead_of_those_that_wait) {
    if (!is_secure) return;  // there a handshake has 10 ms, so none waits for long
    auto with = options();
    with.pending_max = 4;
    listen(std::move(with));
    expect_that_a_good_client_works();
    // From an address that has not ended a handshake yet, each with a second to do so.
    const auto tls = make_tls_context();
    std::vector<std::unique_ptr<stream>> others;
    std::size_t shaken = 0;
    for (int i = 0; i < 5; ++i) {
        others.push_back(std::make_unique<stream>(
            raw("127.0.0.2"), std::make_unique<tls_side>(tls, right_key, "client")));
        others.back()->async_shake([&](boost::system::error_code ec) { shaken += !ec; });
        if (i == 3) {
            ASSERT_TRUE(loop.run_until([&] { return shaken == 4; }));
            loop.run_ready();
        }
    }
    expect_that_a_good_client_works();
    EXPECT_EQ(shaken, 4u) << "one that waits has gone ahead";
    others.front()->close();
    ASSERT_TRUE(loop.run_until([&] { return shaken == 5; }));
    for (const auto& each : others) each->close();
    loop.run_ready();
}

TEST_P(listening, good_client_gets_in_while_others_are_pending) {
    listen();
    std::vector<tcp::socket> connections;
    for (int i = 0; i < 60; ++i) connections.push_back(raw());
    expect_that_a_good_client_works();
}

// -- a thousand attackers --

// A process of attackers.
class attacking_process {
  public:
    attacking_process(std::uint16_t port, attack how, const std::vector<std::byte>& start) {
        std::array<int, 2> ends{};
        if (::pipe(ends.data()) != 0) std::abort();
        pid_ = ::fork();
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            attackers{port, how, start,
                      [&] {
                          if (::write(ends[1], "", 1) != 1) ::_exit(1);
                      }}
                .attack_for_ever();
        }
        ::close(ends[1]);
        char word = 0;
        EXPECT_EQ(::read(ends[0], &word, 1), 1) << "the attackers never were";
        ::close(ends[0]);
    }
    ~attacking_process() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    attacking_process(const attacking_process&) = delete;
    attacking_process& operator=(const attacking_process&) = delete;

  private:
    pid_t pid_ = 0;
};

class attacked : public listening {
  protected:
    void expect_that_peers_join_within_a_second(attack how) {
        expect_that_peers_join_within_a_second(how, first_words());
    }
    void expect_that_peers_join_within_a_second(attack how, const std::vector<std::byte>& start) {
        auto few = options();
        few.pending_max = 256;  // so that most of the attackers wait, and take the place of others
        listen(std::move(few));
        const attacking_process attackers{node->port(), how, start};
        for (int i = 0; i < 20; ++i) {
            auto with = to(node->port());
            with.deadline = 1s;
            const auto r = dialed(with);
            ASSERT_TRUE(r) << "peer " << i << ": " << r.error().text;
            (*r)->close("it has joined");
        }
        node.reset();
    }
};

INSTANTIATE_TEST_SUITE_P(over, attacked, testing::Bool(), name_of);

TEST_P(attacked, by_a_thousand_silent_connections_lets_each_peer_join_within_a_second) {
    expect_that_peers_join_within_a_second(attack::silence);
}

TEST_P(attacked, by_a_thousand_that_send_a_byte_a_second_lets_each_peer_join_within_a_second) {
    expect_that_peers_join_within_a_second(attack::trickle);
}

TEST_P(attacked, by_a_thousand_that_send_a_byte_each_20_ms_lets_each_peer_join_within_a_second) {
    expect_that_peers_join_within_a_second(attack::drip);
}

TEST_P(attacked, by_a_thousand_half_handshakes_lets_each_peer_join_within_a_second) {
    expect_that_peers_join_within_a_second(attack::half_open);
}

TEST_P(attacked, by_a_thousand_that_send_one_recorded_hello_lets_each_peer_join_within_a_second) {
    if (!is_secure) return;
    expect_that_peers_join_within_a_second(attack::whole, hello_with_a_key());
}

// -- the system refuses --

TEST_P(listening, without_a_name_is_called_after_its_address_and_port) {
    auto with = options();
    with.name.clear();
    listen(std::move(with));
    const auto name = "127.0.0.1:" + std::to_string(node->port());
    EXPECT_EQ(node->name(), name);
    auto r = dialed(to(node->port()));
    ASSERT_TRUE(r) << r.error().text;
    EXPECT_EQ((*r)->peer().name, name);
}

TEST_P(listening, on_a_port_that_is_taken_names_it) {
    listen();
    auto second = options();
    second.port = node->port();
    try {
        listener another{loop.context, second};
        FAIL();
    } catch (const error& e) {
        EXPECT_EQ(e.code(), errc::address_in_use);
        EXPECT_TRUE(
            contains(e.what(), "cannot listen on 127.0.0.1:" + std::to_string(node->port()) +
                                   ": Address already in use; "))
            << e.what();
    }
}

TEST_P(listening, at_a_name_is_refused_since_looking_it_up_would_block) {
    for (const char* name : {"localhost.localdomain", "ip6-localhost", "", "127.0.0.1 "}) {
        auto with = options();
        with.address = name;
        try {
            listener one{loop.context, with};
            FAIL() << name;
        } catch (const error& e) {
            EXPECT_EQ(e.code(), errc::bad_argument);
            EXPECT_TRUE(contains(e.what(), "no address as numbers")) << e.what();
        }
    }
    auto with = options();
    with.address = "localhost";
    listen(with);
    EXPECT_TRUE(dialed(to(node->port())));
}

TEST_P(listening, insecure_anywhere_but_on_loopback_is_refused) {
    for (const char* address : {"0.0.0.0", "192.0.2.1", "::", ""}) {
        auto with = options();
        with.insecure = true;
        with.address = address;
        try {
            listener one{loop.context, with};
            FAIL() << address;
        } catch (const error& e) {
            EXPECT_EQ(e.code(), errc::bad_argument) << address;
        }
    }
    auto with = options();
    with.name = std::string(256, 'n');
    EXPECT_THROW((listener{loop.context, with}), error);
    with = options();
    with.keys.clear();
    EXPECT_THROW((listener{loop.context, with}), error);
}

TEST_P(listening, running_out_of_descriptors_is_logged_once_and_survived) {
    listen();
    std::vector<tcp::socket> connections;
    for (int i = 0; i < 2; ++i) connections.push_back(raw());  // wait in the kernel's queue
    const int spare = ::dup(0);
    ASSERT_GE(spare, 0);
    ::close(spare);
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    rlimit none = before;
    none.rlim_cur = static_cast<rlim_t>(spare);  // the lowest free number is over the limit
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);

    asio::steady_timer later{loop.context, 350ms};  // more than three attempts
    bool over = false;
    later.async_wait([&](boost::system::error_code) { over = true; });
    std::size_t steps = 0;
    const bool waited = loop.run_until([&] { return ++steps, over; });
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    ASSERT_TRUE(waited);
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_TRUE(contains(lines[0], "Too many open files")) << lines[0];
    EXPECT_LT(steps, 100u) << "it spins";
    expect_that_a_good_client_works();
}

TEST_P(listening, failure_in_on_link_is_logged_and_drops_that_link_only) {
    auto with = options();
    with.on_link = [this, first = true](std::shared_ptr<link> one, peer_info peer) mutable {
        if (std::exchange(first, false)) throw std::runtime_error{"no memory for a session"};
        accepted.emplace_back(std::move(one), std::move(peer));
    };
    listen(std::move(with));
    auto r = dialed(to(node->port()));
    ASSERT_TRUE(loop.run_until([&] { return !lines.empty(); }));
    EXPECT_TRUE(contains(lines[0], "no memory for a session")) << lines[0];
    expect_that_a_good_client_works();
}

// -- the end --

TEST_P(listening, that_ends_drops_unfinished_handshakes_and_calls_nobody) {
    listen();
    auto socket = raw();
    std::array<std::byte, 8> first;
    bool challenged = is_secure;  // there it waits for our first word instead
    if (!is_secure)
        asio::async_read(socket, asio::buffer(first), [&](auto, auto) { challenged = true; });
    ASSERT_TRUE(loop.run_until([&] { return challenged; }));
    loop.run_ready();
    node.reset();
    loop.run_ready();
    EXPECT_TRUE(lines.empty());
    std::string rest;
    boost::system::error_code ec;
    asio::read(socket, asio::dynamic_buffer(rest), ec);
    EXPECT_TRUE(ec) << "the connection is gone";
}

TEST_P(listening, may_end_from_inside_on_link_and_its_links_live_on) {
    auto with = options();
    with.on_link = [this](std::shared_ptr<link> one, peer_info peer) {
        accepted.emplace_back(std::move(one), std::move(peer));
        node->close();
    };
    listen(std::move(with));
    auto r = dialed(to(node->port()));
    ASSERT_TRUE(r);
    ASSERT_TRUE(loop.run_until([&] { return accepted.size() == 1; }));
    int pings = 0;
    accepted[0].first->start({.on_frame = [&](frame&&) { ++pings; }, .on_closed = {}});
    (*r)->start({});
    (*r)->send(ping_frame{1});
    ASSERT_TRUE(loop.run_until([&] { return pings == 1; }));
    (*r)->close("done");
    EXPECT_FALSE(dialed(to(node->port())));
}

// -- dial --

TEST_P(listening, not_at_all_makes_dial_name_host_port_and_cause) {
    listen();
    const auto port = node->port();
    node.reset();
    loop.run_ready();
    auto r = dialed(to(port));
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::node_unreachable);
    EXPECT_TRUE(contains(r.error().text, "127.0.0.1:" + std::to_string(port))) << r.error().text;
    EXPECT_TRUE(contains(r.error().text, "Connection refused")) << r.error().text;
    try {
        (void)std::move(r).value();
        FAIL();
    } catch (const error& e) {
        EXPECT_EQ(e.code(), errc::node_unreachable);
    }
}

TEST_P(listening, at_the_second_address_of_a_name_is_found_when_the_first_is_silent) {
    const mute_server first{loop.context};
    auto with = options();
    with.address = "::1";
    with.port = first.port();
    listen(std::move(with));
    auto both = to(first.port());
    both.host = "localhost";
    both.deadline = 1600ms;
    const auto r = dialed(both);
    ASSERT_TRUE(r) << r.error().text;
    EXPECT_EQ((*r)->peer().address, "[::1]:" + std::to_string(first.port()));
}

TEST_P(listening, at_the_second_address_of_a_name_is_found_when_the_first_says_nothing) {
    tcp::acceptor first{loop.context, {asio::ip::address_v4::loopback(), 0}};
    tcp::socket mute{loop.context};
    first.async_accept(mute, [](boost::system::error_code) {});
    const auto port = first.local_endpoint().port();
    auto with = options();
    with.address = "::1";
    with.port = port;
    listen(std::move(with));
    auto both = to(port);
    both.host = "localhost";
    both.deadline = 1600ms;
    const auto r = dialed(both);
    ASSERT_TRUE(r) << r.error().text;
    EXPECT_EQ((*r)->peer().address, "[::1]:" + std::to_string(port));
}

TEST_P(listening, at_a_second_address_is_not_looked_for_when_the_first_knows_another_key) {
    listen();
    auto both = to(node->port());
    both.host = "localhost";
    both.key = wrong_key;
    const auto r = dialed(both);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::bad_key);
    EXPECT_FALSE(contains(r.error().text, "[::1]")) << r.error().text;
}

TEST_P(listening, at_no_address_of_a_name_makes_dial_say_what_each_has_answered) {
    const mute_server first{loop.context};
    auto both = to(first.port());
    both.host = "localhost";
    both.deadline = 200ms;
    const auto r = dialed(both);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::node_unreachable);
    const auto port = std::to_string(first.port());
    EXPECT_EQ(r.error().text, "no link to localhost:" + port + ": 127.0.0.1:" + port +
                                  ": no answer in time, [::1]:" + port +
                                  ": Connection refused; is the node running?");
}

TEST_P(listening, insecure_elsewhere_than_on_loopback_is_not_dialed) {
    for (const char* host : {"192.0.2.1", "0.0.0.0", "2001:db8::1"}) {
        auto with = to(6344);
        with.insecure = true;
        with.host = host;
        const auto r = dialed(with);
        ASSERT_FALSE(r);
        EXPECT_EQ(r.error().code, errc::bad_argument);
        EXPECT_TRUE(contains(r.error().text, "loopback only")) << r.error().text;
    }
    auto nameless = to(6344);
    nameless.name = "";
    EXPECT_FALSE(dialed(nameless));
}

class other_server : public listening {
  protected:
    // Accepts once and says `text`.
    dial_result dialed_a_server_that_says(const std::string& text, bool hang_up) {
        tcp::acceptor acceptor{loop.context, {asio::ip::address_v4::loopback(), 0}};
        tcp::socket peer{loop.context};
        acceptor.async_accept(peer, [&](boost::system::error_code) {
            asio::write(peer, asio::buffer(text));
            if (hang_up) peer.close();
        });
        auto with = to(acceptor.local_endpoint().port());
        with.deadline = 200ms;
        return dialed(with);
    }
};

INSTANTIATE_TEST_SUITE_P(over, other_server, testing::Bool(), name_of);

TEST_P(other_server, that_says_nothing_is_given_up_at_the_deadline) {
    const auto r = dialed_a_server_that_says("", false);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::node_unreachable);
    EXPECT_TRUE(contains(r.error().text, "deadline; is it a node that listens there?"))
        << r.error().text;
}

TEST_P(other_server, that_takes_no_connection_is_given_up_at_the_deadline) {
    const mute_server there{loop.context};
    auto with = to(there.port());
    with.deadline = 200ms;
    const auto r = dialed(with);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::node_unreachable);
    EXPECT_TRUE(contains(r.error().text, "is the port open in its firewall?")) << r.error().text;
}

TEST_P(other_server, that_hangs_up_is_unreachable) {
    const auto r = dialed_a_server_that_says("", true);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::node_unreachable);
    EXPECT_TRUE(contains(r.error().text, "hung up")) << r.error().text;
}

TEST_P(other_server, that_hangs_up_and_then_lets_in_is_reached_within_the_deadline) {
    const auto first = std::make_unique<tcp::acceptor>(
        loop.context, tcp::endpoint{asio::ip::address_v4::loopback(), 0});
    tcp::socket peer{loop.context};
    auto with = options();
    with.port = first->local_endpoint().port();
    int turned_away = 0;
    std::function<void()> turn_away = [&] {
        first->async_accept(peer, [&](boost::system::error_code ec) {
            if (ec) return;
            const auto word = encode(reject_frame{errc::full, "too many here", 4, 4});
            if (!is_secure) asio::write(peer, asio::buffer(word));
            peer.close();
            if (++turned_away < 3) return turn_away();
            first->close();
            listen(with);
        });
    };
    turn_away();
    const auto r = dialed(to(with.port));
    ASSERT_TRUE(r) << r.error().text;
    EXPECT_EQ(turned_away, 3);
}

TEST_P(other_server, that_is_full_until_the_deadline_is_named_with_its_word_and_the_attempts) {
    tcp::acceptor there{loop.context, {asio::ip::address_v4::loopback(), 0}};
    tcp::socket peer{loop.context};
    const auto word = encode(reject_frame{errc::full, "too many here", 4, 4});
    std::function<void()> turn_away = [&] {
        there.async_accept(peer, [&](boost::system::error_code ec) {
            if (ec) return;
            if (!is_secure) asio::write(peer, asio::buffer(word));
            peer.close();
            turn_away();
        });
    };
    turn_away();
    auto with = to(there.local_endpoint().port());
    with.deadline = 300ms;
    const auto r = dialed(with);
    there.close();
    loop.run_ready();
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, is_secure ? errc::node_unreachable : errc::full);
    EXPECT_TRUE(contains(r.error().text, is_secure ? "with more handshakes under way than it takes"
                                                   : "too many here"))
        << r.error().text;
    EXPECT_TRUE(contains(r.error().text, "; tried ")) << r.error().text;
}

TEST_P(other_server, that_is_dialed_for_nobody_any_more_is_left_alone) {
    tcp::acceptor there{loop.context, {asio::ip::address_v4::loopback(), 0}};
    std::vector<tcp::socket> silent;
    std::size_t accepted_count = 0;
    bool hangs_up = false;
    std::function<void()> accept = [&] {
        there.async_accept([&](boost::system::error_code ec, tcp::socket peer) {
            if (ec) return;
            ++accepted_count;
            if (!hangs_up) silent.push_back(std::move(peer));
            accept();
        });
    };
    accept();
    // Before it begins; while the other side says nothing; between two attempts.
    for (const std::size_t attempts : {0, 1, 2}) {
        SCOPED_TRACE(attempts);
        hangs_up = attempts == 2;
        accepted_count = 0;
        auto with = to(there.local_endpoint().port());
        with.deadline = 1h;
        auto token = std::make_shared<int>();
        const std::weak_ptr<int> is_held = token;
        const auto cancel = dial(loop.context, with, [token](const dial_result&) {
            ADD_FAILURE() << "it has an outcome";
        });
        token.reset();
        ASSERT_TRUE(loop.run_until([&] { return accepted_count >= attempts; }));
        EXPECT_FALSE(is_held.expired());
        cancel();
        EXPECT_TRUE(is_held.expired());
        cancel();
        loop.run_ready();
    }
    there.close();
    loop.run_ready();
}

TEST_P(other_server, that_speaks_another_protocol_is_told_apart) {
    const auto r = dialed_a_server_that_says("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", false);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::protocol);
    EXPECT_TRUE(contains(r.error().text, "not the places protocol")) << r.error().text;
}

}  // namespace
}  // namespace places::net
