// SPDX-License-Identifier: Apache-2.0
// The bridge: the one process of a node with sockets and keys. To the places it is an ordinary
// end of their channels; to other nodes it speaks frames.
#pragma once

#include "core/control.hpp"
#include "core/process.hpp"

#include <boost/describe/class.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace places::net {

// -- what a process asks with control::open_bridge; the new channel then carries the answer --
// All but a connect_command by name only the root may ask: whoever may dial or listen speaks for
// the whole node, and what a link allows is for the process that has dialed it. The nursery says
// who asks. A command goes through the nursery, whose memory every place inherits: so where its
// keys and tokens are empty, the last descriptor is a pipe with them, one after the other.

/// A key besides the launcher's, and what it allows.
struct allowed_key {
    bytes key;          ///< 32 octets
    std::string owner;  ///< the only name its holder may claim
    bool may_start = false;
    bool may_stop = false;
    bool may_list = false;
    bool may_connect = true;
};
BOOST_DESCRIBE_STRUCT(allowed_key, (), (key, owner, may_start, may_stop, may_list, may_connect))

/// Listens for other nodes. Answer: `opened` with a `listening`, or `refused`. The channel then
/// brings bridge_events and takes a `finish`; when it closes, the bridge ends.
struct listen_command {
    std::string address;  ///< as numbers, or "localhost"
    std::uint16_t port = 0;
    bytes key;  ///< 32 octets; whoever has it has every right, and is called launcher_name
    std::string node_name;
    bool insecure = false;  ///< plain TCP, on loopback only
    std::vector<allowed_key> others{};
    /// Shared objects that may be loaded for peers, as these name them.
    std::vector<std::string> modules{};
};
BOOST_DESCRIBE_STRUCT(listen_command, (),
                      (address, port, key, node_name, insecure, others, modules))

/// The longest that dialing may take; none that waits for longer means it.
inline constexpr std::chrono::milliseconds dial_deadline_max = std::chrono::hours{1};

/// Connects to a node. Descriptors: its standard output and standard error, whose lines go to our
/// standard error. Answer: `opened` with a `linked`, or `refused`. The channel then brings
/// bridge_events and takes an `end_node`; when it closes, so does the link.
struct dial_command {
    std::string host;
    std::uint16_t port = 0;
    bytes key;                        ///< 32 octets
    std::string own_name;             ///< the key's owner
    std::string label;                ///< how the node is called in our log
    std::int64_t deadline_ms = 5000;  ///< 1 .. dial_deadline_max
    bool insecure = false;            ///< plain TCP, to loopback only
    bool is_here = false;             ///< it runs on this host
    bool is_tunnelled = false;        ///< `host` and `port` are for us alone
    std::string advertised{};         ///< the host for other nodes; empty: `host`
};
BOOST_DESCRIBE_STRUCT(dial_command, (),
                      (host, port, key, own_name, label, deadline_ms, insecure, is_here,
                       is_tunnelled, advertised))

/// What names a link to whoever may use it: as many random bytes as a key has, told in `linked` to
/// the process that has dialed it. Good for that process only, and until the link ends.
using link_token = bytes;

/// Starts a place on the node behind the link; the channel becomes the one to it.
/// Answer: `opened` or `refused`.
struct start_command {
    link_token link;
    std::variant<control::registered_entry, control::library_entry> entry;
    std::string named;
};
BOOST_DESCRIBE_STRUCT(start_command, (), (link, entry, named))

/// Connects to a named place there. Answer: `opened` or `refused`.
struct connect_command {
    link_token link;  ///< empty, and none in a pipe: `node` says where
    std::string name;
    std::string node{};
};
BOOST_DESCRIBE_STRUCT(connect_command, (), (link, name, node))

using command = std::variant<listen_command, dial_command, start_command, connect_command>;

/// Keys and tokens, of 32 bytes each, that go another way than the command.
std::vector<bytes*> keys_of(command& c);

/// A channel to another node carries records that fit one frame: no larger rings than this.
inline constexpr std::size_t remote_ring_bytes_max = 128 * 1024;
/// That one link carries at a time; an `open` beyond is refused.
inline constexpr std::size_t channels_max = 1024;

// -- bodies of `opened` --

struct listening {
    std::uint16_t port = 0;
    std::string incarnation;  ///< 32 hexadecimal digits
};
BOOST_DESCRIBE_STRUCT(listening, (), (port, incarnation))

/// To a connect_command: the node that it names is this one, whose places connect without a bridge.
/// Not empty, as the `opened` of a channel is.
struct here_answer {
    bool is_here = true;
};
BOOST_DESCRIBE_STRUCT(here_answer, (), (is_here))

struct linked {
    link_token link;
    std::string incarnation;  ///< of the node there, as in listening
};
BOOST_DESCRIBE_STRUCT(linked, (), (link, incarnation))

// -- messages on a node's channel --

/// The link of a dial_command has ended.
struct node_lost {
    std::string reason;
    /// It was told to end with that, and has hung up, over TLS with a word.
    std::optional<std::int32_t> asked_to_end{};
};
BOOST_DESCRIBE_STRUCT(node_lost, (), (reason, asked_to_end))

/// The node that started ours asks it to end.
struct exit_asked {
    std::int32_t status = 0;
};
BOOST_DESCRIBE_STRUCT(exit_asked, (), (status))

/// To the channel that listens: so many that have our own key are linked to us now.
struct links_changed {
    std::uint64_t count = 0;
};
BOOST_DESCRIBE_STRUCT(links_changed, (), (count))

/// The node has refused our end_node.
struct exit_denied {
    std::int32_t code = 0;
    std::string text;
};
BOOST_DESCRIBE_STRUCT(exit_denied, (), (code, text))

using bridge_event = std::variant<node_lost, exit_asked, links_changed, exit_denied>;

struct end_node {
    std::int32_t status = 0;
};
BOOST_DESCRIBE_STRUCT(end_node, (), (status))

/// Every place has ended: forward what they printed, hang up in order, and end.
struct finish {};
BOOST_DESCRIBE_STRUCT(finish, (), ())

using bridge_request = std::variant<end_node, finish>;

/// Runs the bridge. Returns: its exit code, once it has been told to finish, or whoever
/// made it listen has gone.
/// Dying: killed here, both sides' channels end with peer_dead; local channels do not notice.
int bridge_main(detail::process& self);

}  // namespace places::net
