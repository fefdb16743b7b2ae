// SPDX-License-Identifier: Apache-2.0
// Starting a node, on this host or by a remote launcher on another, and being one. Not installed.
#pragma once

#include "core/process.hpp"
#include "net/bridge.hpp"

#include <places/launcher/remote_node.hpp>
#include <places/shm/unique_fd.hpp>

#include <boost/describe/class.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

namespace places::launcher {

/// The only argument of a process that is to be a node; all else comes on its standard input.
inline constexpr const char* node_argument = "--places-node";

/// Longer than any order is.
inline constexpr std::size_t order_bytes_max = 64 * 1024;

/// In the environment of a node that SSH has started, until it has read its first order.
inline constexpr const char* by_ssh_variable = "PLACES_BY_SSH";
/// To such a node, in place of an order's length: the order is yet to come. Each beat_interval one
/// does, however long the root takes.
inline constexpr std::uint32_t order_to_come = 0xffff'ffff;
/// Without an octet for so long nobody is there any more: no order, no owner.
inline constexpr std::chrono::milliseconds order_silence_max{10'000};

/// Whether a node listens on all addresses that is told to listen there.
bool is_any_address(const std::string& address) noexcept;

/// What a node is told first, before it forks its nursery, so that no place has the key in its
/// memory: u32 little-endian length, then this as a datum.
struct node_setting {
    std::string working_directory;         ///< empty: as it is
    std::vector<std::string> environment;  ///< NAME=value
    std::vector<std::string> modules;      ///< shared objects, loaded here and there for each place
    bool has_come_by_ssh = false;          ///< not told: seen
};
BOOST_DESCRIBE_STRUCT(node_setting, (), (working_directory, environment, modules))

/// And then, in the same form. The pipe stays open as long as the owner lives; see owner_watch.
struct node_order {
    std::string address;  ///< to listen on; empty: the one at which SSH_CONNECTION says we are
    std::uint16_t port = 0;
    bytes key;
    std::string name;  ///< empty: address:port
    std::string host;  ///< as whoever starts it calls this one
    bool insecure = false;
    bool is_remote = false;
    bool is_detached = false;
    bool is_tunnelled = false;
    std::int64_t grace_ms = 0;
};
BOOST_DESCRIBE_STRUCT(node_order, (),
                      (address, port, key, name, host, insecure, is_remote, is_detached,
                       is_tunnelled, grace_ms))

/// What a node answers, as one line of its standard output that starts with the marker. The program
/// may have begun a line that it has not ended: a line feed comes first.
inline constexpr std::string_view ready_marker = "places-node-ready ";
inline constexpr std::string_view failed_marker = "places-node-failed ";

/// Reads and obeys the first order: it changes this process.
/// Returns: it.
/// Throws: error{protocol} for what is no order, {bad_argument} for a directory that is not there,
///         {load_failed} as load_modules.
node_setting take_setting();

/// What they register as they are loaded is there in every place, if no nursery is yet.
/// Throws: error{load_failed} naming the module, with the loader's words.
void load_modules(std::span<const std::string> modules);

/// Says why there will be no node, as one marked line. Returns: the exit code.
int report_failure(errc code, const std::string& text);

/// Serves as a node until its owner asks it to end, or has ended. `end_places` ends all places
/// but the bridge, which still forwards what they have printed. Asked to, the node ends within
/// end_limit.
/// Returns: the exit code of the node.  Process: a fresh one, its nursery forked.
int serve_node(detail::process& self, const node_setting& setting,
               const std::function<void()>& end_places);

}  // namespace places::launcher

namespace places {

struct remote_node::state {
    std::string name;
    std::string host;
    std::uint16_t port = 0;
    bool is_started_here = true;  ///< else connected to, and there is no process of ours
    pid_t pid = 0;
    unique_fd pidfd;
    unique_fd life;              ///< the node's standard input; closing it ends the node
    bool has_remote_launcher = false;  ///< `pid` is its: the node runs on another host
    bool is_detached = false;
    std::map<std::string, std::string> modules;  ///< as we call them, and as it does
    channel bridge;                              ///< events of the link
    net::link_token link;
    bool up = true;
    std::string down_reason;
    std::optional<error> exit_refused;  ///< since the last send_exit()
    std::optional<exit_status> ended;
    bool is_cut_off = false;  ///< the nursery of this program has ended before it
    std::function<void(const std::string&)> on_down;

    ~state();
    /// Whoever asked for the node has it: detached, it stays from now on.
    /// Throws: error{ssh_lost} where nobody can tell it that.
    void let_stay();
    /// Closes link and life line: the node is about to end.
    void begin_end() noexcept;
    /// Closes link and life line, waits for the process, kills it after two seconds.
    void end() noexcept;
    void kill() noexcept;
    /// Returns: whether the process has ended. Blocks, Throws: as detail::poll_until.
    bool reap(shm::deadline until);
    /// The same for destructors: where a body cannot wait, the thread does.
    bool reap_surely(shm::deadline until) noexcept;
    /// One event from the bridge, or the end of the channel. Returns: whether there can be more.
    bool next_event();
    /// Whether our bridge, and so the link, can still be there.
    bool is_within_reach() const noexcept;
    /// Of one started here. Throws, Blocks: as remote_node::wait().
    void wait_for_process();
    /// Of one connected to. Throws, Blocks: as remote_node::wait().
    exit_status wait_for_link();
    void went_down(const std::string& reason);
};

namespace launcher {

/// Begins to start a node; settle() goes on with it.
/// Throws: error{bad_argument}, std::system_error.
std::shared_ptr<pending_node::state> begin_node(detail::process& self, const std::string& host,
                                                const node_options& options);
/// Throws, Blocks: as runtime::connect_node.
std::shared_ptr<remote_node::state> connect_node(detail::process& self, const std::string& address,
                                                 const connect_options& options);
/// Goes on with all of them until each is linked to or has failed; or, if it may not wait, as far
/// as they are.
void settle(std::span<const std::shared_ptr<pending_node::state>> nodes, bool may_wait = true);
bool is_settled(const pending_node::state& node) noexcept;
/// Of a settled one, once. Throws: why it has failed.
std::shared_ptr<remote_node::state> take_node(pending_node::state& node);

/// Opens a channel to this node's bridge for `what`. A key or token in it goes by a pipe, past the
/// nursery.
channel open_bridge(detail::process& self, net::command what, std::size_t ring_bytes,
                    std::vector<int> fds = {});
/// The answer of the bridge. Throws: error{protocol} when it is another.
template <class T>
T body_of(const message& m) {
    auto body = detail::decode_datum<T>(m.bytes());
    if (!body) throw error(errc::protocol, "the bridge answered something else");
    return std::move(*body);
}

}  // namespace launcher

}  // namespace places
