// SPDX-License-Identifier: Apache-2.0
// A shared object that a node loads into a new place.
#include <places/places.hpp>

#include <cstdint>
#include <fcntl.h>
#include <poll.h>
#include <string>
#include <unistd.h>
#include <vector>

extern "C" void module_greet(places::inbox& in) {
    while (auto next = in.get()) {
        const auto text = next->content.as<std::string>();
        (void)next->from.put("module says " + (text ? *text : std::string("nothing")));
    }
}

/// There by name where the module was loaded before the place was.
inline const auto greet_entry = places::register_entry<module_greet>("module-greet");

/// Says how often it has been asked.
void module_counts(places::inbox& in) {
    int count = 0;
    while (auto next = in.get()) {
        (void)next->from.put("asked " + std::to_string(++count) + " times");
    }
}
inline const auto counts_entry = places::register_entry<module_counts>("module-counts");

/// Asked, it prints until nobody takes it for a while, and says how much that was.
void module_prints(places::inbox& in) {
    auto asked = in.get();
    while (asked && asked->content.kind() != places::message_kind::datum) asked = in.get();
    if (!asked) return;
    (void)::fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);
    const std::string line = std::string(1000, '.') + "\n";
    std::int64_t printed = 0;
    pollfd room{STDOUT_FILENO, POLLOUT, 0};
    while (::poll(&room, 1, 500) == 1) {
        const auto written = ::write(STDOUT_FILENO, line.data(), line.size());
        if (written > 0) printed += written;
    }
    (void)asked->from.put(printed);
    while (in.get()) {
    }
}
inline const auto prints_entry = places::register_entry<module_prints>("module-prints");

/// Connects to the place "greeter" many times, says so and stays.
void module_visits(places::inbox& in) {
    std::vector<places::channel> there;
    for (int i = 0; i < 70; ++i) there.push_back(places::connect_to_named_place("greeter", 16384));
    (void)in.creator().send(places::message::of(std::string("there")));
    while (in.get()) {
    }
}
inline const auto visits_entry = places::register_entry<module_visits>("module-visits");

/// It has been announced already when this runs.
extern "C" void module_announces_again(places::inbox& in) {
    (void)in.creator().send(places::message{places::message_kind::opened, 0, {}});
    while (in.get()) {
    }
}
