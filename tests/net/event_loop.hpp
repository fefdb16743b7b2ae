// SPDX-License-Identifier: Apache-2.0
// An io_context for one test, and connections over loopback in it, with and without TLS.
#pragma once

#include "net/stream.hpp"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace places::net {

class event_loop {
  public:
    /// Runs handlers until `done()` says so.
    /// Returns: false if the watchdog barked first, which fails the test that asked.
    template <class Done>
    [[nodiscard]] bool run_until(Done done) {
        const auto watchdog = std::chrono::steady_clock::now() + std::chrono::seconds{60};
        while (!done())
            if (context.run_one_until(watchdog) == 0) return false;
        return true;
    }

    /// Runs everything that is ready now, for tests that claim that nothing more happens.
    void run_ready() {
        while (context.poll() > 0) {
        }
    }

    std::pair<boost::asio::ip::tcp::socket, boost::asio::ip::tcp::socket> connected_sockets() {
        using boost::asio::ip::tcp;
        tcp::acceptor acceptor{context, {boost::asio::ip::address_v4::loopback(), 0}};
        tcp::socket one{context};
        one.connect(acceptor.local_endpoint());
        return {std::move(one), acceptor.accept()};
    }

    /// Over TLS when `secure`, its handshake done.
    std::pair<stream, stream> connected_streams(bool secure) {
        auto sockets = connected_sockets();
        if (!secure) return {stream{std::move(sockets.first)}, stream{std::move(sockets.second)}};
        const auto tls = make_tls_context();
        const auto key = make_node_key();
        stream one{std::move(sockets.first), std::make_unique<tls_side>(tls, key, "one")};
        stream two{std::move(sockets.second),
                   std::make_unique<tls_side>(tls, std::make_shared<const std::vector<known_key>>(
                                                       1, known_key{key, "one", {}}))};
        int shaken = 0;
        const auto done = [&](boost::system::error_code ec) {
            EXPECT_FALSE(ec) << ec.message();
            ++shaken;
        };
        one.async_shake(done);
        two.async_shake(done);
        EXPECT_TRUE(run_until([&] { return shaken == 2; }));
        return {std::move(one), std::move(two)};
    }

    /// The TLS hello of a client that has `key` as `name`.
    std::vector<std::byte> hello_of(const node_key& key, const std::string& name) {
        auto [near, far] = connected_sockets();
        stream client{std::move(near), std::make_unique<tls_side>(make_tls_context(), key, name)};
        client.async_shake([](boost::system::error_code) {});
        std::vector<std::byte> hello(4096);
        std::size_t got = 0;
        far.async_read_some(boost::asio::buffer(hello),
                            [&got](boost::system::error_code, std::size_t bytes) { got = bytes; });
        EXPECT_TRUE(run_until([&got] { return got > 0; }));
        client.close();
        run_ready();
        hello.resize(got);
        return hello;
    }

    boost::asio::io_context context{1};

  private:
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
        context.get_executor()};
};

}  // namespace places::net
