// SPDX-License-Identifier: Apache-2.0
// Another node, started by this process, and the places on it.
#pragma once

#include <places/core/channel.hpp>
#include <places/core/entry.hpp>
#include <places/core/place.hpp>
#include <places/core/server.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace places {

struct node_options {
    std::uint16_t listen_port = 6340;  ///< 0: the system chooses
    std::string name{};                ///< as shown in logs; empty: host:port
    /// For start and connection together; 1 ms to 1 hour, else spawn_remote_node throws
    /// error{bad_argument}.
    std::chrono::milliseconds deadline{5000};
};

struct supervise_options {
    std::string named{};  ///< registers the place on its node; empty: anonymous
    std::size_t ring_bytes = ring_bytes_default;  ///< of each direction; at most 128 KiB
};

/// The channel to a place on another node.
/// Destroying it closes the channel: an anonymous place then ends, a named one lives on until its
/// node does.
using remote_place = channel;

/// A node started by this process. Copies are handles to the same node, which ends when the last
/// of them is destroyed, or with this process.
/// Thread: that of the runtime.
class remote_node {
  public:
    struct state;
    explicit remote_node(std::shared_ptr<state> s) noexcept;

    /// host:port, or the name it was given.
    const std::string& name() const noexcept;
    std::uint16_t port() const noexcept;
    int pid() const noexcept;
    /// Whether its process runs and, as far as the router has heard, the link to it stands.
    bool is_up() const noexcept;

    /// Starts a place there.
    /// Throws: error: entry_not_found, name_taken, not_a_connection, load_failed (with the loader's
    ///         words), start_failed, node_down, bad_argument (a name over 4 KiB, ring_bytes), full
    ///         (1024 channels to that node are open).
    /// Blocks: until the node has answered; inside a router body suspends that body only.
    remote_place supervise_place(const registered& entry, const supervise_options& options = {});
    remote_place supervise_place(const library& entry, const supervise_options& options = {});
    /// Starts a server there.
    template <class S>
    client<S> supervise_place(const supervise_options& options = {}) {
        return client<S>{supervise_place(registered{server_definition<S>::name}, options)};
    }

    /// A new connection to the place of that name there.
    /// Throws: error: name_not_found naming place and node, node_down.
    /// Blocks: as supervise_place.
    channel connect_to_named_place(const std::string& place,
                                   std::size_t ring_bytes = ring_bytes_default);
    template <class S>
    client<S> connect_to_named_place(const std::string& place,
                                     std::size_t ring_bytes = ring_bytes_default) {
        return client<S>{connect_to_named_place(place, ring_bytes)};
    }

    /// Asks the node to end with `status` (0..255); its places are ended, what they printed is
    /// forwarded. To a node that is down already: nothing.
    /// Blocks: as put. Its end is an event of the router.
    void send_exit(int status = 0);
    /// How the node's process ended. Blocks: until it has; not for use in a router body.
    exit_status wait();
    /// Runs, while the router runs, once the node is down; `reason` is one line. Set it before.
    void on_down(std::function<void(const std::string& reason)> handler);

  private:
    friend class runtime;
    std::shared_ptr<state> state_;
};

}  // namespace places
