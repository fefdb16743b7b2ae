// SPDX-License-Identifier: Apache-2.0
// Two nodes: this one, and one with a named and an anonymous server on localhost, or on any host
// with ssh publickey access:
//     02_named [[user@]host[:port] [ssh-config]]
#include "bank.hpp"
#include "tuple.hpp"

#include <places/places.hpp>

#include <iostream>

using namespace std::chrono_literals;

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    const char* host = argc > 1 ? argv[1] : "localhost";
    places::node_options options{.listen_port = 6344};
    if (argc > 2) options.ssh_config = argv[2];
    auto node = runtime.spawn_remote_node(host, options);
    node.supervise_place<tuple_server>({.named = "tuple-server"});
    auto bank = node.supervise_place<bank_server>();
    const places::symbol user0{"user0"};

    runtime.route(node,
        places::after(4s, [&] {
            std::cout << bank.new_account(user0) << '\n'
                      << bank.add(user0, 10) << '\n'
                      << bank.remove(user0, 5) << std::endl;
        }),
        places::after(2s, [&] {
            auto c = node.connect_to_named_place<tuple_server>("tuple-server");
            auto d = node.connect_to_named_place<tuple_server>("tuple-server");
            c.hello();
            d.hello();
            std::cout << c.set("user0", 100) << '\n'
                      << d.set("user2", 200) << '\n'
                      << c.get("user0") << '\n'
                      << d.get("user2") << '\n'
                      << d.get("user0") << '\n'
                      << c.get("user2") << std::endl;
        }),
        places::after(8s, [&] { node.send_exit(); }),
        places::after(10s, [&] { runtime.exit(0); }));
}
