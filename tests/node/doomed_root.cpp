// SPDX-License-Identifier: Apache-2.0
// A program that life_test and ssh_end_test start and kill: a root with a node, and a place on each
// side. Told to wait, it first reads a line. Prints one line: the node (or its remote launcher),
// its place, the local place, both bridges, the node's port. Told to exit, it then has the node do
// so with 3. Ends with the node's status.
//     doomed_root [wait|exit] [HOST CONFIG GRACE_MS attached|detached [SSH_COMMAND]]
#include "entries.hpp"
#include "processes.hpp"

#include <cstdlib>
#include <iostream>
#include <string>

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    const std::string told = argc > 1 ? argv[1] : "";
    if (told == "wait") std::cin.get();
    if (told == "wait" || told == "exit") {
        --argc;
        ++argv;
    }
    places::node_options options{.listen_port = 0};
    const bool is_far = argc >= 5;
    if (is_far) {
        options.ssh_config = argv[2];
        options.owner_grace = std::chrono::milliseconds{std::atoi(argv[3])};
        options.detach = std::string(argv[4]) == "detached";
        if (argc > 5) options.ssh_command = argv[5];
        if (options.detach) options.key = places::bytes(32, std::byte{7});
    }
    auto node = runtime.spawn_remote_node(is_far ? argv[1] : "localhost", options);
    auto remote = node.supervise_place<table_server>({.named = "table"});
    auto local = places::spawn_server<table_server>();
    std::cout << node.pid() << ' ' << remote.pid() << ' ' << local.pid() << ' '
              << bridge_of(::getpid()) << ' ' << bridge_of(node.pid()) << ' ' << node.port()
              << std::endl;
    if (told == "exit") node.send_exit(3);
    return node.wait().value;
}
