// SPDX-License-Identifier: Apache-2.0
// Starting a node on this host, and being one. Not installed.
#pragma once

#include "core/process.hpp"

#include <places/launcher/remote_node.hpp>
#include <places/shm/unique_fd.hpp>

#include <boost/describe/class.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>

namespace places::launcher {

/// The only argument of a process that is to be a node; all else comes on its standard input.
inline constexpr const char* node_argument = "--places-node";

/// What a node is told: u32 little-endian length, then this as a datum. The pipe stays open as
/// long as the starter lives; its end ends the node.
struct node_order {
    std::string address;
    std::uint16_t port = 0;
    bytes key;
    std::string name;  ///< empty: address:port
};
BOOST_DESCRIBE_STRUCT(node_order, (), (address, port, key, name))

/// What a node answers, as one line of its standard output that starts with the marker.
inline constexpr std::string_view ready_marker = "places-node-ready ";
inline constexpr std::string_view failed_marker = "places-node-failed ";

/// Serves as a node until its starter asks it to end, or has ended. `end_places` ends all places
/// but the bridge, which still forwards what they have printed.
/// Returns: the exit code of the node.  Process: a fresh one, its nursery forked.
int serve_node(detail::process& home, const std::function<void()>& end_places);

}  // namespace places::launcher

namespace places {

struct remote_node::state {
    std::string name;
    std::string host;
    std::uint16_t port = 0;
    pid_t pid = 0;
    unique_fd pidfd;
    unique_fd life;  ///< the node's standard input; closing it ends the node
    channel bridge;  ///< events of the link
    std::uint64_t link_id = 0;
    bool up = true;
    std::optional<exit_status> ended;
    std::function<void(const std::string&)> on_down;

    ~state();
    /// Closes link and life line, waits for the process, kills it after two seconds.
    void end() noexcept;
    void kill() noexcept;
    bool reap(int wait_ms) noexcept;
    /// One event from the bridge, or the end of the channel. Returns: whether there can be more.
    bool next_event();
    void went_down(const std::string& reason);
};

namespace launcher {

/// Throws: as runtime::spawn_remote_node.
std::shared_ptr<remote_node::state> start_node(detail::process& home, const std::string& host,
                                               const node_options& options);

}  // namespace launcher

}  // namespace places
