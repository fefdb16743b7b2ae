// SPDX-License-Identifier: Apache-2.0
// An io_context for one test, and connections over loopback in it.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <chrono>
#include <utility>

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
        while (context.poll() > 0) {}
    }

    std::pair<boost::asio::ip::tcp::socket, boost::asio::ip::tcp::socket> connected_sockets() {
        using boost::asio::ip::tcp;
        tcp::acceptor acceptor{context, {boost::asio::ip::address_v4::loopback(), 0}};
        tcp::socket one{context};
        one.connect(acceptor.local_endpoint());
        return {std::move(one), acceptor.accept()};
    }

    boost::asio::io_context context{1};

  private:
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
        context.get_executor()};
};

}  // namespace places::net
