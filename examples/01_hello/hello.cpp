// SPDX-License-Identifier: Apache-2.0
// A node, a place on it, and one message each way.
#include <places/places.hpp>

#include <iostream>

using namespace std::chrono_literals;

void hello_world(places::channel& to_creator) {
    const auto greeting = to_creator.get<std::string>().value();
    std::cout << "hello-world received: " << greeting << '\n';
    if (to_creator.put(greeting + " World\n") != places::status::ok) return;
    std::cout << "hello-world sent: " << greeting << " World\n";
}
// Another node knows the entry by this name.
const auto hello_entry = places::register_entry<hello_world>("hello-world");

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    auto node = runtime.spawn_remote_node("localhost", {.listen_port = 6344});
    auto place = node.supervise_place(hello_entry);

    runtime.route(node,
        places::after(2s, [&] {
            if (place.put(std::string("Hello")) != places::status::ok) runtime.exit(1);
            std::cout << "message-router received: " << place.get<std::string>().value()
                      << std::endl;
        }),
        places::after(6s, [&] { runtime.exit(0); }));
}
