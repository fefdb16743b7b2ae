// SPDX-License-Identifier: Apache-2.0
// The root of a node: made on the first line of main.
#pragma once

#include <places/core/place.hpp>
#include <places/core/router.hpp>
#include <places/launcher/remote_node.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace places {

/// One line of the log, wherever in the federation it was written. Time and place are as the
/// nursery there knows them, the node as this root calls it. All text is printable: `\n` for a line
/// feed, '?' for any other control character and each byte that is no UTF-8.
struct log_record {
    places::severity severity = places::severity::info;
    std::chrono::system_clock::time_point time;
    std::string node;  ///< empty: this one
    std::string place;
    std::string text;
};

/// Makes this process the root of a node: forks its nursery, from which all places start. When
/// this process ends for any reason, everything of the node ends within a second.
/// In a process started as a node by another, the constructor does not return: it serves the node
/// and ends the process.
/// SIGCHLD that is ignored, as whoever started the program may have left it, gets its default back,
/// here and so in places: who ignores it is not told how a node has ended. A handler is left alone.
/// Exactly one at a time. Thread: the main one.
class runtime {
  public:
    /// Throws: error{bad_argument} when the process has a runtime or is a place, has more than one
    ///         thread already, or has two entries registered under one name; error{start_failed} or
    ///         std::system_error, naming the call that failed here or in the new processes, which
    ///         are gone then: a runtime that is made serves.
    /// Blocks: until the nursery serves.
    runtime(int argc, char** argv);
    /// Ends the nodes this process has started, and all local places. Places, channels and all that
    /// waits for them may outlive the runtime: put and get answer `peer_dead` then, after what had
    /// come before, wait() says how a place has ended, and calls that need the nursery throw
    /// node_down. Another runtime may follow.
    /// Blocks: until they are gone, two seconds at most for what does not end by itself.
    ~runtime();
    runtime(const runtime&) = delete;
    runtime& operator=(const runtime&) = delete;

    /// Starts this program as a node on `host` and connects to it.
    /// Shape:  "localhost" or "127.0.0.1": on this host; else [user@]host[:port], by SSH, where
    ///         host may be an alias of the SSH configuration; this program is copied there once.
    /// Throws: error: address_in_use, node_unreachable, bad_key, start_failed, naming host and
    ///         port, with what the node printed; and those of SSH (see errc), each with the cause
    ///         in the other side's words and one line of advice. Nothing is left behind then.
    /// Blocks: until the node is ready, at most options.deadline; with SSH, each stage before that
    ///         at most options.stage_deadline; inside a router body suspends that body only.
    remote_node spawn_remote_node(const std::string& host, const node_options& options = {});
    /// Begins the same and returns.
    /// Throws: error{bad_argument}; what goes wrong later, get() throws.
    pending_node spawn_remote_node_async(const std::string& host, const node_options& options = {});
    /// Starts all of them at the same time.
    /// Returns: the nodes, in the order of the requests.
    /// Throws:  nodes_error with every failure, once all that have been started are gone again.
    /// Blocks:  as spawn_remote_node.
    std::vector<remote_node> spawn_nodes_join(const std::vector<node_request>& requests);

    /// Connects to a node that runs already: by `places node`, detached, or another program's. It
    /// does not end with the handle, nor with this process.
    /// Shape:  HOST, HOST:PORT, [V6] or [V6]:PORT; port 6340 if none.
    /// Throws: error, naming host and port: bad_argument, bad_key_file; node_unreachable, bad_key,
    ///         wrong_version, protocol; full: it is busy with others;
    ///         start_failed: no descriptors,
    ///         or our bridge ended; node_down: our nursery did. What the key does not allow, the
    ///         calls of the node throw as permission_denied.
    /// Dying:  the end of this process or of its bridge ends the link, and with it the channels.
    /// Blocks: until the link stands, at most options.deadline; inside a router body suspends that
    ///         body only.
    remote_node connect_node(const std::string& address, const connect_options& options);

    /// The message router: watches the nodes and runs the events' bodies until exit() or stop().
    /// Throws: what a body throws.
    /// Blocks: until then.
    template <class... Items>
    void route(Items&&... items) {
        (add(std::forward<Items>(items)), ...);
        run();
    }
    /// One more event for the running router.
    void add(event e);
    void add(const remote_node& node);
    /// Ends route(); it returns.
    void stop();

    /// Ends nodes, places and this process, with `status`, or with 0 where that is not in 0..255.
    /// In a router body: after it has suspended or returned.
    void exit(int status);

    /// Where the log goes instead of standard error. Runs on the thread that waits in this library.
    void on_log(std::function<void(const log_record&)> handler);

  private:
    struct state;
    void run();
    std::unique_ptr<state> state_;
};

}  // namespace places
