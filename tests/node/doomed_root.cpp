// SPDX-License-Identifier: Apache-2.0
// A program that life_test starts and kills: a root with a node, and a place on each side. Prints
// one line: the node, its place, the local place, both bridges.
#include "entries.hpp"
#include "processes.hpp"

#include <iostream>

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    auto node = runtime.spawn_remote_node("localhost", {.listen_port = 0});
    auto remote = node.supervise_place<table_server>({.named = "table"});
    auto local = places::spawn_server<table_server>();
    std::cout << node.pid() << ' ' << remote.pid() << ' ' << local.pid() << ' '
              << bridge_of(::getpid()) << ' ' << bridge_of(node.pid()) << std::endl;
    (void)node.wait();
}
