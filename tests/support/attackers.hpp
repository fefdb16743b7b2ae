// SPDX-License-Identifier: Apache-2.0
// A thousand connections that prove no key: each one that is ended comes again.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <sys/resource.h>
#include <vector>

/// `drip`: a byte every 20 ms, and the second after 5 ms already, so that each listener that looks
/// finds more than the last time.
/// `whole`: all of the first words, and nothing more.
enum class attack { silence, trickle, drip, half_open, whole };
inline constexpr std::size_t attackers_count = 1000;

class attackers {
  public:
    /// `start`: of what a peer says first; `on_ready`: as many as that have been connected.
    attackers(std::uint16_t port, attack how, std::vector<std::byte> start,
              std::function<void()> on_ready)
        : to_(boost::asio::ip::address_v4::loopback(), port),
          how_(how),
          start_(std::move(start)),
          on_ready_(std::move(on_ready)) {}

    [[noreturn]] void attack_for_ever() {
        rlimit files{};
        ::getrlimit(RLIMIT_NOFILE, &files);
        files.rlim_cur = files.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &files);
        for (std::size_t i = 0; i < attackers_count; ++i) {
            all_.push_back(std::make_unique<one>(io_));
            come(*all_.back());
        }
        while (true) io_.run();
    }

  private:
    using error_code = boost::system::error_code;

    struct one {
        explicit one(boost::asio::io_context& io) : socket(io), timer(io) {}
        boost::asio::ip::tcp::socket socket;
        boost::asio::steady_timer timer;
        std::size_t sent = 0;
        std::array<char, 512> read{};
    };

    void come(one& o) {
        error_code ignored;
        o.socket.close(ignored);
        o.socket = boost::asio::ip::tcp::socket{io_};
        o.sent = 0;
        o.socket.async_connect(to_, [this, &o](error_code ec) {
            if (ec) return come(o);
            if (++connected_ == attackers_count) on_ready_();
            if (how_ == attack::trickle || how_ == attack::drip) trickle(o);
            if (how_ == attack::half_open || how_ == attack::whole) {
                const auto bytes = how_ == attack::whole ? start_.size() : start_.size() / 2;
                error_code lost;
                o.socket.write_some(boost::asio::buffer(start_, bytes), lost);
            }
            stay(o);
        });
    }
    void stay(one& o) {
        o.socket.async_read_some(boost::asio::buffer(o.read),
                                 [this, &o](error_code ec, std::size_t) {
                                     if (!ec) return stay(o);
                                     o.timer.cancel();
                                     come(o);
                                 });
    }
    void trickle(one& o) {
        error_code lost;
        if (o.sent + 1 < start_.size())
            o.socket.write_some(boost::asio::buffer(&start_[o.sent++], 1), lost);
        const std::chrono::milliseconds gap{how_ == attack::trickle ? 1000 : o.sent == 1 ? 5 : 20};
        o.timer.expires_after(gap);
        o.timer.async_wait([this, &o](error_code ec) {
            if (!ec) trickle(o);
        });
    }

    boost::asio::io_context io_{1};
    const boost::asio::ip::tcp::endpoint to_;
    const attack how_;
    const std::vector<std::byte> start_;
    std::function<void()> on_ready_;
    std::size_t connected_ = 0;
    std::vector<std::unique_ptr<one>> all_;
};
