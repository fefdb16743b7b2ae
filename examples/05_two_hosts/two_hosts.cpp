// SPDX-License-Identifier: Apache-2.0
// A named server on one host, and a place on another host that uses it:
//     05_two_hosts [HOST HOST [SSH-CONFIG]]
// HOST is localhost, or [user@]host[:port] where ssh logs in with a key; both are localhost by
// default. This program is copied to each host once. The second host connects to a port of the
// first one, which the system chooses.
#include "notes.hpp"

#include <places/places.hpp>

#include <iostream>
#include <string>

// Runs on the second host. The link goes from there to the first host, and not through this one.
int write_note(places::channel& to_creator) {
    const auto text = to_creator.get<std::string>().value();
    auto board = places::connect_to_named_place<notice_board>("first", "board");
    board.add(text);
    return 0;
}
const auto writer_entry = places::register_entry<write_note>("write-note");

places::node_request request(const std::string& name, const std::string& host, const char* config) {
    places::node_options options{.listen_port = 0, .name = name};
    if (config && host != "localhost") options.ssh_config = config;
    return {host, options};
}

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    if (argc == 2 || argc > 4) {
        std::cerr << "05_two_hosts [HOST HOST [SSH-CONFIG]]\n";
        return 2;
    }
    const std::string first = argc > 2 ? argv[1] : "localhost";
    const std::string second = argc > 2 ? argv[2] : "localhost";
    const char* config = argc > 3 ? argv[3] : nullptr;

    // Both at the same time; where one cannot be started, this throws and none is left.
    auto nodes = runtime.spawn_nodes_join(
        {request("first", first, config), request("second", second, config)});
    nodes[0].supervise_place<notice_board>({.named = "board"});
    auto board = nodes[0].connect_to_named_place<notice_board>("board");
    board.add("from the root");

    auto writer = nodes[1].supervise_place(writer_entry);
    if (writer.put("from the second host") != places::status::ok) return 1;
    if (writer.wait() != places::exit_status{}) return 1;

    for (const auto& note : board.all()) std::cout << note << '\n';
    for (auto& node : nodes) node.send_exit();
    for (auto& node : nodes) node.wait();
}
