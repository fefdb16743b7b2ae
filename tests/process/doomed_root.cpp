// SPDX-License-Identifier: Apache-2.0
// A program that nursery_test starts and that comes to an end in one of several ways:
//   doomed_root exit|return|abort|throw|wait|get|sent|spawn|exit_in_body|exit_outside|thread
// It starts places, prints a line with the ids of all processes it is responsible for, and waits
// for a line on its standard input before it does what its argument says. With `thread` it prints
// the error that it gets for a thread before its runtime, and exits with its code.
#include "tests/support/halt.hpp"
#include "processes.hpp"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

/// A place with a child process of its own.
void has_a_child(places::channel& c) {
    const int child = ::fork();
    if (child == 0) never_ends();
    (void)c.put(child);
    (void)c.get<int>();
}

void listen(places::channel& c) { (void)c.get<int>(); }

void serve(places::inbox& in) {
    while (in.get()) {
    }
}

}  // namespace

int end_with_a_thread(int argc, char** argv) {
    std::thread([] { ::pause(); }).detach();
    try {
        places::runtime runtime{argc, argv};
        return 0;
    } catch (const places::error& e) {
        std::cout << e.what() << std::endl;
        return e.code().value();
    }
}

int main(int argc, char** argv) {
    const std::string how = argc > 1 ? argv[1] : "";
    if (how == "thread") return end_with_a_thread(argc, argv);
    places::runtime runtime{argc, argv};
    std::vector<places::place> all;
    for (int i = 0; i < 3; ++i) all.push_back(places::spawn(listen));
    all.push_back(places::spawn({.named = "server"}, serve));
    auto parent = places::spawn(has_a_child);
    const int nursery = nursery_pid();
    places::channel unopened;
    if (how == "sent") {
        halt(all[3].pid());  // it does not take the connection up
        unopened = places::connect_to_named_place("server");
        for (int n = 0; n < 3; ++n) (void)unopened.put(n);
    }

    // In this order: the test picks the nursery by its place in the line.
    std::cout << nursery << ' ' << parent.get<int>().value() << ' ' << parent.pid();
    for (const auto& p : all) std::cout << ' ' << p.pid();
    std::cout << std::endl;
    std::string order;
    if (how == "get") return all[0].get<int>().error().value();
    if (how == "sent") {
        (void)unopened.get<int>();
        return static_cast<int>(unopened.sent().unknown);
    }
    if (how == "wait") return all[0].wait().value;
    if (how == "set" || how == "set_in_body") {
        using namespace std::chrono_literals;
        places::channel_set set;
        for (std::size_t i = 0; i < all.size(); ++i) set.add(all[i], i);
        int told = 0;
        const auto wait = [&] {
            (void)set.wait(1ms);  // all of them are asleep from then on
            told = all[set.wait().value()].get<int>().error().value();
        };
        if (how == "set") {
            wait();
        } else {
            runtime.route(places::after(0s, [&] {
                wait();
                runtime.stop();
            }));
        }
        return told;
    }
    if (how == "spawn") {
        try {
            while (true) (void)places::spawn([] {}).wait();
        } catch (const places::error& e) {
            return e.code().value();
        }
    }
    std::getline(std::cin, order);
    if (how == "exit_outside") runtime.exit(7);
    if (how == "exit_in_body") {
        using namespace std::chrono_literals;
        runtime.route(places::after(0s, [&] { runtime.exit(7); }));
        return 1;  // never: route() does not return
    }
    if (how == "abort") std::abort();
    if (how == "exit") ::_exit(3);
    if (how == "throw") throw std::runtime_error("on purpose");
    return 0;
}
