// SPDX-License-Identifier: Apache-2.0
// A program that orphaned_test starts: a root that kills its own nursery and prints what each of
// its handles says then, one line each. What it prints is the same each time.
#include "entries.hpp"
#include "processes.hpp"

#include <array>
#include <iostream>
#include <string>
#include <thread>

using places::status;

namespace {

void put_three(places::channel& c) {
    for (int i = 0; i < 3; ++i) (void)c.put(i);
}

void sleep_in_get(places::channel& c) {
    put_three(c);
    (void)c.get<int>();
}
void put_and_sleep(places::channel& c) {
    (void)c.put(1);
    (void)c.get<int>();
}
/// Returns as soon as a request fails.
void ask_for_ever(places::channel& c) {
    put_three(c);
    try {
        while (true) (void)places::spawn([] {}).wait();
    } catch (const places::error&) {
    }
}
void log_for_ever(places::channel& c) {
    put_three(c);
    while (c.put(std::string("more")) == status::ok) {
        places::log_to_parent(places::severity::debug, "nothing");
    }
}
void serve(places::inbox& in) {
    put_three(in.creator());
    while (in.get()) {
    }
}

std::string last_of(places::channel& c, int expected = 3) {
    int count = 0;
    while (true) {
        const auto next = c.receive();
        if (!next) {
            return (count < expected ? "lost messages, " : "") + next.error().message();
        }
        ++count;
    }
}

std::string shown(std::optional<places::exit_status> how) {
    return how ? to_string(*how) : "no status";
}

}  // namespace

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    runtime.on_log([](const places::log_record&) {});
    auto node = runtime.spawn_remote_node("localhost", {.listen_port = 0});
    bool went_down = false;
    node.on_down([&](const std::string&) { went_down = true; });
    auto remote = node.supervise_place(echo_entry);
    if (remote.put(std::string("hello")) != status::ok || !remote.get<std::string>()) return 2;
    std::array local{places::spawn(sleep_in_get), places::spawn(ask_for_ever),
                     places::spawn(log_for_ever), places::spawn({.named = "server"}, serve)};
    auto connection = places::connect_to_named_place("server");
    // All are at work.
    for (auto& each : local) {
        if (!each.peek()) return 3;
    }
    std::array<places::place, 8> waited;
    std::array<std::string, waited.size()> heard;
    std::array<std::thread, waited.size()> threads;
    for (auto& each : waited) each = places::spawn(put_and_sleep);
    for (auto& each : waited) {
        if (!each.get<int>()) return 4;
    }
    for (std::size_t i = 0; i < waited.size(); ++i) {
        threads[i] = std::thread([&, i] {
            try {
                heard[i] = to_string(waited[i].wait());
            } catch (const places::error& e) {
                heard[i] = e.what();
            }
        });
    }
    const pid_t nursery = nursery_of(::getpid());
    if (nursery == 0) return 4;
    ::kill(nursery, SIGKILL);
    for (auto& each : threads) each.join();

    for (const auto& each : heard) std::cout << "thread: " << each << '\n';
    std::cout << "remote: " << last_of(remote, 0) << '\n';
    for (auto& each : local) {
        std::cout << "local: " << last_of(each) << ", " << shown(each.peer_status()) << ", "
                  << shown(each.wait()) << '\n';
    }
    const auto none = connection.receive();
    std::cout << "connection: " << (none ? "a message" : none.error().message()) << ", "
              << shown(connection.peer_status()) << '\n';
    std::cout << "node: " << (node.is_up() ? "up" : "down") << '\n';
    for (int i = 0; i < 2; ++i) {
        try {
            const auto how = node.wait();
            std::cout << "wait: " << to_string(how) << '\n';
        } catch (const places::error& e) {
            std::cout << "wait: " << e.code().message() << '\n';
        }
    }
    std::cout << "on_down: " << (went_down ? "has run" : "has not run") << std::endl;
    return 0;
}
