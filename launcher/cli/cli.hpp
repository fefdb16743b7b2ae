// SPDX-License-Identifier: Apache-2.0
// The `places` command: its subcommands, and how each ends. One file each.
#pragma once

#include "launcher/end_limit.hpp"

#include <places/core/error.hpp>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <functional>
#include <memory>
#include <string>

namespace places::cli {

/// Exit statuses; --help prints them.
enum exit_code : int {
    done = 0,
    failed = 1,
    usage = 2,  ///< the command line
    bad_key_file = 3,
    unreachable = 4,     ///< no node there, or none that answers
    key_refused = 5,     ///< the node and this side do not share the key
    denied = 6,          ///< the key does not allow it
    other_version = 7,   ///< there is no version of the protocol that both speak
    other_protocol = 8,  ///< no node listens there, or one side is insecure and the other is not
    broken = 9,          ///< the node's nursery has ended, or bridge after bridge
    cannot_listen = 10,  ///< the node's address is taken, not this host's, or not for this user
    given_up = launcher::given_up_status,  ///< the node's end has hung
};
inline constexpr const char* exit_codes_text =
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 unusable key file, 4 node not reachable,\n"
    "5 key refused by the node, 6 not allowed by the key, 7 node of another version,\n"
    "8 what is there does not speak as a node does, or not as --insecure says,\n"
    "9 the node has lost its nursery, or bridge after bridge, 10 it cannot listen there,\n"
    "11 it has hung while it was to end.";

/// A node cannot listen where it is told to.
struct listen_error : error {
    using error::error;
};

/// What runs after the command line has been read. Returns: the exit status. Throws: error.
using action = std::function<int(int argc, char** argv)>;

/// Each adds its subcommand to `app`, and sets `chosen` when that is given.
void add_node(CLI::App& app, action& chosen);
void add_ls(CLI::App& app, action& chosen);
void add_stop(CLI::App& app, action& chosen);
void add_key(CLI::App& app, action& chosen);

/// Where a node is and how to get in; options that several subcommands share.
struct target {
    std::string address;
    std::string key_file;
    bool insecure = false;
};
/// ADDR, --key-file and --insecure.
void add_target(CLI::App& command, target& to);

}  // namespace places::cli
