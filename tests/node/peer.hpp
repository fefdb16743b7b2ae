// SPDX-License-Identifier: Apache-2.0
// A peer of a bridge, made by hand: it holds the key and speaks frames, also wrong ones.
#pragma once

#include "tests/node/entries.hpp"
#include "tests/node/processes.hpp"

#include "core/child.hpp"
#include "core/process.hpp"
#include "net/bridge.hpp"
#include "net/frame.hpp"
#include "net/handshake.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>

namespace places::net {

using octets = std::vector<std::byte>;
inline constexpr std::uint64_t ring = 64 * 1024;
/// What is made by hand is made without TLS: the frames are the same.
inline constexpr bool insecure = true;

/// A new channel to the bridge of this process's node, whose answer is still to be read.
inline channel ask_bridge(const command& what, std::size_t ring_bytes = ring_bytes_default) {
    auto& self = detail::process::current();
    auto answer = self.request(control::open_bridge{detail::encode_datum(what), ring_bytes}, {});
    return channel{
        self.open(std::get<control::granted>(answer.packet.body), std::move(answer.fds))};
}

/// A socket that listens, and its port.
inline std::pair<unique_fd, std::uint16_t> listen_by_hand() {
    unique_fd listening{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof where;
    EXPECT_EQ(::bind(listening.get(), reinterpret_cast<sockaddr*>(&where), size), 0);
    EXPECT_EQ(::listen(listening.get(), 1), 0);
    EXPECT_EQ(::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&where), &size), 0);
    return {std::move(listening), ntohs(where.sin_port)};
}
inline unique_fd accept_by_hand(const unique_fd& listening) {
    return unique_fd{::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC)};
}

/// One connection, handshake included; it reads only when asked to.
class peer {
  public:
    /// Dials.
    peer(std::uint16_t port, const node_key& key, std::string name = std::string(launcher_name))
        : name_(std::move(name)) {
        socket_ = unique_fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        sockaddr_in where{};
        where.sin_family = AF_INET;
        where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        where.sin_port = htons(port);
        EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&where), sizeof where), 0);
        const int at_once = 1;
        ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
        shake(handshake::role::dialing, key);
    }
    /// Has been dialed, by `owner`.
    peer(unique_fd accepted, const node_key& key, std::string name = "by hand",
         std::string owner = std::string(launcher_name))
        : name_(std::move(name)),
          owner_(std::move(owner)),
          socket_(std::move(accepted)) {
        shake(handshake::role::accepting, key);
    }

    bool is_welcome = false;

    /// Returns: false when the other side has hung up.
    bool send_bytes(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            pollfd room{socket_.get(), POLLOUT, 0};
            if (::poll(&room, 1, watchdog_ms) != 1) {
                ADD_FAILURE() << "the bridge neither reads nor hangs up";
                return false;
            }
            const auto sent =
                ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent < 0 && errno != EAGAIN) return false;
            if (sent > 0) bytes = bytes.subspan(static_cast<std::size_t>(sent));
        }
        return true;
    }
    bool send(const frame& f) { return send_bytes(encode(f)); }

    /// The next frame; its records are good until the next call. Nothing at the end.
    std::optional<frame> next_frame() {
        body_.resize(4);
        if (!read_all(body_)) return std::nullopt;
        std::uint32_t length;
        std::memcpy(&length, body_.data(), sizeof length);
        body_.resize(length);
        if (!read_all(body_)) return std::nullopt;
        auto f = decode(body_);
        EXPECT_TRUE(f.has_value());
        return f ? std::optional<frame>{std::move(*f)} : std::nullopt;
    }
    /// The next frame of this kind, whatever comes before it.
    template <class Frame>
    std::optional<Frame> next() {
        while (auto f = next_frame()) {
            if (auto* wanted = std::get_if<Frame>(&*f)) return *wanted;
        }
        return std::nullopt;
    }
    bool is_closed_by_bridge() {
        while (next_frame()) {
        }
        return !barked_;
    }
    void shut_writing() { ::shutdown(socket_.get(), SHUT_WR); }

  private:
    void shake(handshake::role side, const node_key& key) {
        handshake one{side, {{known_key{key, owner_, {}}}, name_, make_incarnation_id()}};
        auto step = one.start();
        while (true) {
            if (step.send) send(*step.send);
            if (!std::holds_alternative<handshake::pending>(step.then)) break;
            const auto f = next_frame();
            if (!f) return;
            step = one.feed(*f);
        }
        is_welcome = std::holds_alternative<peer_info>(step.then);
    }
    bool read_all(std::span<std::byte> into) {
        while (!into.empty()) {
            pollfd more{socket_.get(), POLLIN, 0};
            if (::poll(&more, 1, watchdog_ms) != 1) {
                ADD_FAILURE() << "the bridge is silent";
                barked_ = true;
                return false;
            }
            const auto got = ::recv(socket_.get(), into.data(), into.size(), 0);
            if (got <= 0) return false;
            into = into.subspan(static_cast<std::size_t>(got));
        }
        return true;
    }

    std::string name_;
    std::string owner_;  // of the key, where this side has been dialed
    unique_fd socket_;
    octets body_;
    bool barked_ = false;
};

/// A node made by hand that the bridge of this process's node has dialed.
struct dialed_node {
    channel events;
    peer node;
    link_token link;
    std::uint16_t port = 0;
};
/// `label`: how its controller calls it. `claimed`: how it calls itself. `owner`: of the key.
inline dialed_node be_dialed(const node_key& key, const std::string& label,
                             const std::string& claimed = "by hand",
                             const std::string& owner = std::string(launcher_name)) {
    const auto [listening, port] = listen_by_hand();
    dial_command dial{"127.0.0.1", port, {key.begin(), key.end()}, owner, label, 5000, insecure};
    dial.is_here = true;
    auto events = ask_bridge(dial);
    peer node{accept_by_hand(listening), key, claimed, owner};
    EXPECT_TRUE(node.is_welcome);
    const auto opened = detail::await_opened(events);
    auto link = detail::decode_datum<linked>(opened.bytes())->link;
    return {std::move(events), std::move(node), std::move(link), port};
}

/// A record as it lies in a ring.
inline octets record(std::string_view text, std::uint32_t claimed_length = 0,
                     std::uint16_t kind = 0) {
    octets bytes(shm::span_of(text.size()));
    const auto length = claimed_length ? claimed_length : static_cast<std::uint32_t>(text.size());
    std::memcpy(bytes.data() + 8, &length, sizeof length);
    std::memcpy(bytes.data() + 12, &kind, sizeof kind);
    std::memcpy(bytes.data() + sizeof(shm::record_header), text.data(), text.size());
    return bytes;
}
inline octets record_of(places::message_kind what, std::string_view text = "") {
    return record(text, 0, static_cast<std::uint16_t>(what));
}
inline octets record_of(const message& m) {
    const auto body = m.bytes();
    return record_of(m.kind(), {reinterpret_cast<const char*>(body.data()), body.size()});
}

/// The test's own node listens, and is left as it was.
class bridge_test : public ::testing::Test {
  protected:
    /// `others`: keys besides key_. `modules`: that may be loaded.
    explicit bridge_test(const std::vector<allowed_key>& others = {},
                         const std::vector<std::string>& modules = {NODE_MODULE}) {
        control_ = ask_bridge(listen_command{
            "127.0.0.1", 0, {key_.begin(), key_.end()}, "tested", insecure, others, modules});
        const auto opened = detail::await_opened(control_);
        port_ = detail::decode_datum<listening>(opened.bytes())->port;
        pid_ = bridge_of(::getpid());
        places_before_ = places_here();
    }

    ~bridge_test() override {
        control_ = {};
        while (bridge_of(::getpid()) == pid_) ::sched_yield();
    }

    peer dial() {
        peer p{port_, key_};
        EXPECT_TRUE(p.is_welcome);
        return p;
    }
    /// A peer with an open channel 1 to an echoing place; `limit` is ours.
    peer dial_and_open(std::uint64_t limit = ring) {
        auto p = dial();
        EXPECT_TRUE(p.send(open_frame{1, ring, start_entry{"echo", ""}}));
        const auto opened = p.next<opened_frame>();
        EXPECT_TRUE(opened && opened->limit == ring);
        EXPECT_TRUE(p.send(credit_frame{1, 0, limit}));
        return p;
    }
    void expect_alive() {
        auto p = dial_and_open();
        const auto hello = record("hello");
        EXPECT_TRUE(p.send(data_frame{1, 0, hello}));
        const auto back = p.next<data_frame>();
        ASSERT_TRUE(back);
        ASSERT_EQ(back->records.size(), hello.size());
        EXPECT_EQ(std::memcmp(back->records.data() + 16, "hello", 5), 0);
        EXPECT_EQ(bridge_of(::getpid()), pid_);
    }
    std::size_t places_here() { return children_of(nursery_of(::getpid())).size(); }
    /// Whether those that the test started end before the watchdog barks.
    bool places_end() {
        const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{30};
        while (places_here() > places_before_ && std::chrono::steady_clock::now() < until) {
        }
        return places_here() <= places_before_;
    }

    const node_key key_ = make_node_key();
    channel control_;
    std::uint16_t port_ = 0;
    pid_t pid_ = 0;
    std::size_t places_before_ = 0;
};

}  // namespace places::net
