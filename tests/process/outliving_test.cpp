// SPDX-License-Identifier: Apache-2.0
// What outlives its runtime: places, channels and all that waits for them. Each test makes runtimes
// of its own; what the globals hold is destroyed after main().
#include "tests/support/error_of.hpp"
#include "adder.hpp"

#include <places/net/async_channel.hpp>
#include <places/places.hpp>

#include <boost/asio/io_context.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using places::errc;
using places::spawn;
using places::status;

namespace {

int arguments_count = 0;
char** arguments = nullptr;

std::unique_ptr<places::runtime> make_runtime() {
    return std::make_unique<places::runtime>(arguments_count, arguments);
}

void put_and_wait(places::channel& c) {
    (void)c.put(5);
    (void)c.get<int>();
}
void serve(places::inbox& in) {
    while (auto next = in.get()) (void)next->from.send(next->content);
}
const auto serve_entry = places::register_entry<serve>("serve");

void expect_dead(places::channel& c) {
    EXPECT_EQ(c.put(1), status::peer_dead);
    EXPECT_EQ(c.get<std::string>().error(), errc::peer_dead);
    EXPECT_TRUE(c.peer_status());
}
/// A runtime that is made now works.
void expect_another_works() {
    const auto runtime = make_runtime();
    auto p = spawn([](int a) { return a; }, 3);
    EXPECT_EQ(p.wait().value, 3);
}

std::vector<places::place> global_places;
std::optional<places::client<adder>> global_client;
std::optional<places::channel_set> global_set;
std::optional<places::remote_place> global_remote_place;
std::optional<places::remote_node> global_node;

}  // namespace

TEST(outliving, places_of_a_vector_before_the_runtime_say_that_they_are_dead) {
    std::vector<places::place> all;
    {
        const auto runtime = make_runtime();
        for (int i = 0; i < 3; ++i) all.push_back(spawn(put_and_wait));
        all.push_back(spawn({.named = "server"}, serve));
        ASSERT_TRUE(all[0].peek());
    }
    EXPECT_EQ(all[0].get<int>(), 5);
    for (auto& each : all) {
        while (each.receive()) {
        }
        expect_dead(each);
        EXPECT_TRUE(each.is_dead());
        (void)each.wait();
        (void)each.request_stop();
        each.kill();
        each.close();
    }
    EXPECT_EQ(error_of([] { (void)spawn(put_and_wait); }).code(), errc::bad_argument);
    expect_another_works();
    all.clear();
    expect_another_works();
}

TEST(outliving, clients_sets_routers_and_event_loops_wait_for_the_dead_only) {
    std::optional<places::client<adder>> client;
    std::optional<places::channel_set> set;
    std::optional<places::router> router;
    boost::asio::io_context io;
    std::optional<places::async_channel> async;
    std::vector<places::place> all;
    {
        const auto runtime = make_runtime();
        auto server = places::spawn_server<adder>({.named = "adder"});
        all.push_back(std::move(server.link()));
        client.emplace(places::connect_to_named_place<adder>("adder"));
        EXPECT_EQ(client->add(3), 3);
        all.push_back(spawn(put_and_wait));
        all.push_back(spawn(put_and_wait));
        set.emplace();
        set->add(all[1], 1);
        ASSERT_EQ(set->wait(), 1U);
        router.emplace();
        async.emplace(io, all[2]);
    }
    EXPECT_EQ(error_of([&] { (void)client->add(1); }).code(), errc::peer_dead);
    EXPECT_EQ(set->wait(), 1U);
    int count = 0;
    async->async_receive([&](auto, auto) { ++count; });
    io.run();
    EXPECT_EQ(count, 1);
    async.reset();
    set.reset();
    router->post([&] {
        EXPECT_EQ(all[1].get<int>(), 5);
        EXPECT_EQ(all[1].get<int>().error(), errc::peer_dead);
    });
    router->run();
    router->add(places::after(0ms, [&] { router->stop(); }));
    router->run();

    const auto runtime = make_runtime();
    auto p = spawn(put_and_wait);
    io.restart();
    {
        const places::async_channel of_the_old{io, all[0]};
        EXPECT_EQ(error_of([&] {
                      const places::async_channel of_the_new{io, p};
                  }).code(),
                  errc::bad_argument);
    }
    all.clear();
    async.emplace(io, p);
    async->async_get<int>([&](auto, int got) { count += got; });
    io.run();
    EXPECT_EQ(count, 6);
    async.reset();
}

TEST(outliving, globals_may) {
    const auto runtime = make_runtime();
    global_places.push_back(spawn(put_and_wait));
    global_places.push_back(spawn({.named = "server"}, serve));
    static auto static_place = spawn(put_and_wait);
    static auto server = places::spawn_server<adder>({.named = "adder"});
    global_client.emplace(places::connect_to_named_place<adder>("adder"));
    global_set.emplace();
    global_set->add(static_place, 1);
    global_node.emplace(runtime->spawn_remote_node("localhost", {.listen_port = 0}));
    global_remote_place.emplace(global_node->supervise_place(serve_entry));
    EXPECT_EQ(global_remote_place->put(1), status::ok);
}

TEST(outliving, remote_places_and_nodes_say_that_they_are_down) {
    std::optional<places::remote_node> node;
    std::optional<places::remote_place> place;
    {
        const auto runtime = make_runtime();
        node.emplace(runtime->spawn_remote_node("localhost", {.listen_port = 0}));
        place.emplace(node->supervise_place(serve_entry));
        ASSERT_EQ(place->put(1), status::ok);
        ASSERT_EQ(place->get<int>(), 1);
    }
    EXPECT_FALSE(node->is_up());
    (void)node->wait();
    EXPECT_NE(place->put(1), status::ok);
    EXPECT_FALSE(place->get<int>());
    EXPECT_TRUE(error_of([&] { (void)node->connect_to_named_place("none"); }).code() ==
                errc::node_down);
    place.reset();
    node.reset();
    expect_another_works();
}

int main(int argc, char** argv) {
    arguments_count = argc;
    arguments = argv;
    (void)make_runtime();  // which does not return in a node
    ::testing::InitGoogleTest(&arguments_count, argv);
    return RUN_ALL_TESTS();
}
