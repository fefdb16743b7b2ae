// SPDX-License-Identifier: Apache-2.0
// The process that starts a node on another host, and is that node to whoever started it: what it
// reads goes to the node, what the node prints it prints, and it ends as the node ends. Not
// installed.
#pragma once

#include <boost/describe/class.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace places::launcher {

/// The only argument of a process that is to be a remote launcher; all else comes on its standard
/// input.
inline constexpr const char* remote_launcher_argument = "--places-ssh";

/// What a remote launcher is told: u32 little-endian length, then this as a datum. No secret is in
/// it: the node's key goes through, to the node's standard input, once the remote launcher has said
/// start_marker.
struct remote_launch_order {
    std::string host;  ///< as the user has written it
    std::string user;
    std::uint16_t port = 0;
    std::vector<std::string> identity_files;
    std::vector<std::string> known_hosts_files;
    bool has_config = false;
    std::string config;
    std::string ssh_command;
    std::int64_t stage_deadline_ms = 10'000;
    std::vector<std::string> modules;
    std::string working_directory;  ///< of the node
    std::string program;
    bool show_progress = false;
    bool tunnel = false;
    bool detach = false;
};
BOOST_DESCRIBE_STRUCT(remote_launch_order, (),
                      (host, user, port, identity_files, known_hosts_files, has_config, config,
                       ssh_command, stage_deadline_ms, modules, working_directory, program,
                       show_progress, tunnel, detach))

/// Serves until the node, the connection to it, or whoever started this process has ended; with the
/// last one the node ends too, unless it is detached and one octet, may_stay, has come after its
/// orders.
/// Returns: the exit code; where a signal has ended the node, the same one ends this process.
int serve_remote_launcher();

}  // namespace places::launcher
