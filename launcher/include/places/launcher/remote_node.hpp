// SPDX-License-Identifier: Apache-2.0
// Another node, started by this process or connected to, and the places on it; from any place, the
// places of all nodes of the same root.
#pragma once

#include <places/core/channel.hpp>
#include <places/core/entry.hpp>
#include <places/core/place.hpp>
#include <places/core/server.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace places {

struct node_options {
    std::uint16_t listen_port = 6340;  ///< 0: the system chooses
    std::string name{};                ///< for logs and other nodes; empty: host:port
    /// For start and connection together, once the program is on the host; 1 ms to 1 hour, else
    /// spawn_remote_node throws error{bad_argument}.
    std::chrono::milliseconds deadline{5000};

    // -- of the node --
    std::string working_directory{};
    std::vector<std::string> environment{};  ///< NAME=value, besides what is there
    /// Shared objects that it loads as it starts: places are started there from what they register,
    /// and from their symbols by the same path; there is nothing else that places are loaded from
    /// there. A relative path is from the current directory of this program, not the node's; of a
    /// node on this host, its loader looks for a name without a slash that is no file there. To
    /// another host they go with the program, and the file's name will do, which neither the
    /// program, a library nor another module may have; with .program, see there. Other programs
    /// call a module by its absolute path here, without `.` and `..`; on another host by the
    /// file's name.
    std::vector<std::string> modules{};
    /// One address as numbers. Empty: loopback here; on another host the one that the SSH
    /// connection came in at, or loopback for a tunnel.
    std::string listen_address{};
    /// The host that we and other nodes dial. Empty: listen_address where that is one address, not
    /// all of them; else, on another host, the address at which SSH has found it.
    std::string advertise{};
    bytes key{};  ///< 32 bytes, which no other node has; without it and key_file, one is made
    /// Instead of key: a file with a node's own key, as `places key` writes it. A file that others
    /// may read is refused with error{bad_key_file}.
    std::string key_file{};
    /// Plain TCP instead of TLS 1.3: on loopback only, else error{bad_argument}. For measurements,
    /// and for who looks at the bytes.
    bool insecure = false;

    // -- of another host; said of localhost, error{bad_argument} --
    /// Instead of the configuration's; with ssh_command, besides them.
    std::vector<std::string> identity_files{};
    std::vector<std::string> known_hosts_files{};  ///< instead of the configuration's
    /// Instead of ~/.ssh/config and /etc/ssh/ssh_config; "none": no file.
    std::optional<std::string> ssh_config{};
    /// Called with the file of a key that is locked; empty: not known. Runs in the call that
    /// starts the node. Not with ssh_command: there a locked key has to be in an agent.
    std::function<std::string(const std::string& key_file)> passphrase{};
    /// "ssh", say: logs in with that command instead of the library, for jump hosts, certificates
    /// and RSA keys. It reads the configuration itself, and asks for nothing.
    std::string ssh_command{};
    /// Each stage on the way takes at most this; of a copy, each pause in which nothing moves, and
    /// to check there what has come, one more and a second for each MiB. To find the host and
    /// connect takes at most 4 s of it, unless it is longer than by default or the ssh command does
    /// that: a second name server is asked after 5 s. 1 ms to 1 hour.
    std::chrono::milliseconds stage_deadline{10'000};
    /// Is on the host already, and runs there instead of a copy of this one; modules, if any, are
    /// then paths over there, relative ones from the node's directory, and all programs call them
    /// by these.
    std::string program{};
    bool tunnel = false;  ///< the link goes through SSH: no port of the host need be open
    /// Once the call has returned it, the node stays when SSH, links and this program are gone.
    /// Whoever knows its key ends it: it needs one that you give it, by key or key_file.
    bool detach = false;
    /// Otherwise it ends when SSH connection and links have been gone for so long; 0 to 1 hour.
    std::chrono::milliseconds owner_grace{10'000};
};

/// How to reach a node that runs already.
struct connect_options {
    /// As `places key` writes it: the node's own, or one that has an owner and fewer rights. A file
    /// that others may read is refused. With its own key the node is one of this root's: its places
    /// may connect to named ones of the other nodes.
    std::string key_file{};
    bytes key{};          ///< instead of a file: 32 octets
    std::string owner{};  ///< of `key`, where that is not the node's own
    /// For logs, and with its own key for other nodes; of those that meet at one node, also from
    /// several roots, each needs one of its own. Empty: host:port.
    std::string name{};
    std::chrono::milliseconds deadline{5000};  ///< for all of it; 1 ms to 1 hour
    bool insecure = false;                     ///< as node_options::insecure
};

struct supervise_options {
    std::string named{};  ///< registers the place on its node; empty: anonymous
    std::size_t ring_bytes = ring_bytes_default;  ///< of each direction; at most 128 KiB
};

/// A place on another node: its channel, and how it ends.
/// Destroying it, or close(), closes the channel: an anonymous place is killed if it has not ended
/// two seconds later, and so it is after the loss of the link. A named one lives on until its node
/// ends. Destroying waits for nothing.
/// A handle without a place, since it was made so or moved from, is a channel without an end, and
/// wait() and wait_for() throw error{bad_argument}.
/// Thread: one at a time.
class remote_place : public channel {
  public:
    remote_place() noexcept = default;  ///< no place
    explicit remote_place(channel c) noexcept : channel(std::move(c)) {}

    /// How the place ended, with the text of the exception that ended it, as of a local one; the
    /// same answer every time. What it has sent is still to be read, until get() says closed, and
    /// some of it may be on its way.
    /// Throws: error: node_down: the node, or the link to it, ended before that was known;
    ///         closed: one of the two closed the channel, and the place had not ended a second
    ///         later, after which nobody tells; corrupt: the channel was broken.
    /// Blocks: until it has ended; inside a router body suspends that body only.
    exit_status wait();
    /// Returns: nothing when `limit` has passed.  Throws: as wait.
    std::optional<exit_status> wait_for(std::chrono::nanoseconds limit);
    bool is_dead() const { return peer_status().has_value(); }
};

/// A node started by this process, or one that it has connected to. Copies are handles to the same
/// node. One that was started ends when the last of them is destroyed, or with this process; a
/// detached one only when it is asked to. That waits for the node's process, two seconds at most;
/// inside a router body it suspends that body only. Of one connected to the link ends, and it
/// stays. Thread: that of the runtime.
/// Of a handle that was moved from, name() is empty, port() and pid() are 0 and is_up() is false;
/// every other call throws error{bad_argument}.
class remote_node {
  public:
    struct state;
    explicit remote_node(std::shared_ptr<state> s) noexcept;

    /// host:port, or the name it was given: by it this root finds it, and unless we are its guest,
    /// the places of other nodes do.
    const std::string& name() const noexcept;
    std::uint16_t port() const noexcept;
    /// Of the process here: the node, or on another host what holds the connection to it; 0 for one
    /// connected to.
    int pid() const noexcept;
    /// Whether its process, if this program has started it on this host, runs, nursery and bridge
    /// of this program are there, and the link to it stands, as far as the router or a wait() has
    /// heard.
    bool is_up() const noexcept;

    /// Starts a place there.
    /// Throws: error: entry_not_found, name_taken, not_a_connection, permission_denied (a library
    ///         that is none of node_options::modules), load_failed (a symbol that it lacks, in the
    ///         loader's words), start_failed, node_down, bad_argument (a name over 4 KiB,
    ///         ring_bytes), full (1024 channels to that node are open).
    /// Blocks: until the node has answered; inside a router body suspends that body only.
    remote_place supervise_place(const registered& entry, const supervise_options& options = {});
    remote_place supervise_place(const library& entry, const supervise_options& options = {});
    /// Starts a server there.
    template <class S>
    client<S, remote_place> supervise_place(const supervise_options& options = {}) {
        return client<S, remote_place>{
            supervise_place(registered{server_definition<S>::name}, options)};
    }

    /// A new connection to the place of that name there.
    /// Throws: error: name_not_found naming place and node, node_down; permission_denied where our
    ///         key does not allow it.
    /// Blocks: as supervise_place.
    channel connect_to_named_place(const std::string& place,
                                   std::size_t ring_bytes = ring_bytes_default);
    template <class S>
    client<S> connect_to_named_place(const std::string& place,
                                     std::size_t ring_bytes = ring_bytes_default) {
        return client<S>{connect_to_named_place(place, ring_bytes)};
    }

    /// Asks the node to end with `status`, or with 0 where that is not in 0..255; its places are
    /// ended, what they printed is forwarded. To a node that is down already: nothing. It hears of
    /// this though the handle goes at once, but not where the runtime does: wait() first. Its end
    /// is an event of the router. Where our key does not allow that, a line on standard error says
    /// so, and wait() does. Blocks: as put.
    void send_exit(int status = 0);
    /// How the node's process ended; of one connected to, what our send_exit() asked for, once it
    /// has hung up in order (without TLS, at all); where several have asked it, it is the first
    /// that it has heard. 11: its end has taken longer than five seconds, and was given up.
    /// Throws: error: node_down: how it ended is not known, as this program ignores SIGCHLD, or
    ///         something else in it has waited for that process, or its nursery has ended first,
    ///         without whose bridge no node can be reached. Of one connected to: node_down:
    ///         the link has ended otherwise; permission_denied: it has refused our last
    ///         send_exit(), and is there.
    /// Blocks: until then; inside a router body suspends that body only.
    exit_status wait();
    /// Runs, while the router runs or in a wait() that finds it so, once the node is down; `reason`
    /// is one line. Set it before.
    void on_down(std::function<void(const std::string& reason)> handler);

  private:
    friend class runtime;
    state& held() const;
    std::shared_ptr<state> state_;
};

/// A new connection from this place to one on another node. `node` is a remote_node::name() of the
/// root that has started this node, or, in the root, of its own. Two nodes use one link, which the
/// first connection makes, and nothing of it goes through the root; but only the root can tell a
/// node where the other one is.
/// Throws:  error: name_not_found, naming place and node; name_taken: several nodes are called so;
///          node_unreachable: ours cannot reach the port of that one (loopback of another host,
///          a tunnel, nobody there), or the root is gone or silent; bad_key, protocol: another
///          answers at its port; node_down: the link ended meanwhile; start_failed: our bridge did;
///          bad_argument as supervise_place; full.
/// Blocks:  until the place has been reached: at most five seconds for the root's answer, and again
///          for the link; inside a router body suspends that body only.
channel connect_to_named_place(const std::string& node, const std::string& place,
                               std::size_t ring_bytes = ring_bytes_default);
template <class S>
client<S> connect_to_named_place(const std::string& node, const std::string& place,
                                 std::size_t ring_bytes = ring_bytes_default) {
    return client<S>{connect_to_named_place(node, place, ring_bytes)};
}

/// A node that is being started, at the same time as others. Destroyed before get(), it takes what
/// has been started with it.
/// Thread: that of the runtime, which outlives it.
class pending_node {
  public:
    struct state;
    explicit pending_node(std::shared_ptr<state> s) noexcept;
    pending_node(pending_node&&) noexcept = default;
    pending_node& operator=(pending_node&&) noexcept = default;

    /// Whether get() would return or throw at once.
    /// Blocks: never while the node starts; at the end of that, for the link's handshake.
    bool is_ready();
    /// Once. Throws, Blocks: as runtime::spawn_remote_node.
    remote_node get();

  private:
    friend class runtime;
    std::shared_ptr<state> state_;
    std::function<remote_node(std::shared_ptr<remote_node::state>)> enter_;
};

/// One of several nodes to start.
struct node_request {
    std::string host;
    node_options options{};
};

/// Of several nodes not all could be started, and now none is there. code() and what() are the
/// first failure's, with how many there were.
class nodes_error : public error {
  public:
    struct failure {
        std::string host;
        error cause;
    };
    explicit nodes_error(std::vector<failure> failures, std::size_t asked);
    const std::vector<failure>& failures() const noexcept { return failures_; }

  private:
    std::vector<failure> failures_;
};

}  // namespace places
