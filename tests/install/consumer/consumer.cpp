// SPDX-License-Identifier: Apache-2.0
// What a program of another project needs of the library: a place, a server on a second node (so
// frames, TLS and the bridge are linked), and a channel in an Asio event loop.
#include <places/net/async_channel.hpp>
#include <places/places.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <iostream>
#include <string>

struct counter {
    long add(long n) { return total_ += n; }

  private:
    long total_ = 0;
};
PLACES_NAMED_SERVER(counter, (rpc, add))

void shout(places::channel& to_creator) {
    while (auto word = to_creator.get<std::string>()) {
        if (to_creator.put(*word + "!") != places::status::ok) return;
    }
}

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    auto place = places::spawn(shout);
    if (place.put(std::string("hello")) != places::status::ok) return 1;
    boost::asio::io_context io;
    std::string answer;
    {
        places::async_channel channel{io, place};
        channel.async_get<std::string>(
            [&](boost::system::error_code, std::string word) { answer = std::move(word); });
        io.run();
    }
    boost::asio::steady_timer timer{io, std::chrono::milliseconds{1}};
    timer.async_wait([&](boost::system::error_code) { std::cout << answer << '\n'; });
    io.restart();
    io.run();
    auto node = runtime.spawn_remote_node("localhost", {.listen_port = 0});
    node.supervise_place<counter>({.named = "hits"});
    std::cout << node.connect_to_named_place<counter>("hits").add(42) << '\n';
    node.send_exit();
}
