// SPDX-License-Identifier: Apache-2.0
// How links come to be: a listener waits for them, or dial() makes one. Either way a link exists
// only after the other side has proved the node's key. Under TLS; on loopback also without, if both
// sides say so.
#pragma once

#include "net/handshake.hpp"
#include "net/link.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/system/result.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace places::net {

/// Whether `host` is "localhost" or an address of loopback, also one of IPv4 within IPv6.
bool is_loopback(const std::string& host);

struct listen_options {
    std::string address = "127.0.0.1";  // as numbers, or "localhost"
    std::uint16_t port = 0;             // 0: the system chooses
    bool insecure = false;              // plain TCP, on loopback only
    std::vector<known_key> keys{};
    std::string name;  // of this node; empty: address:port
    incarnation_id incarnation{};
    std::function<void(std::string)> log;  // one line, without line feed; must not throw
    /// The link is not started yet: queue and start() it. Not called after close(). What it throws
    /// is logged.
    std::function<void(std::shared_ptr<link>, peer_info)> on_link;

    protocol_range protocols{};
    std::chrono::milliseconds handshake_deadline{5000};
    // Handshakes at a time. They take at most a quarter of this process's descriptors, or 64; see
    // listener for one more.
    std::size_t pending_max = 1024;
    std::size_t refusals_logged_max = 10;  // per log_window; the rest share a line at its end
    std::chrono::milliseconds log_window{1000};
};

/// Accepts connections on one address and turns those that prove the key into links. Every other
/// connection is closed, with one log line that names its address and the cause.
/// At most `pending_max` handshakes are under way. When one more connection comes, the listener
/// ends one: the oldest that has not shown a key, of the address with the most handshakes (IPv6: of
/// the /64). A handshake has at least 10 ms since its last step. It has 250 ms after a TLS hello
/// made with a key, and 1 s after the proof that its sender holds that key; those are ended last.
/// Until one is old enough, the new connection waits. A quarter more is reserved for addresses from
/// which a key was proved before; connections from these go ahead of others that wait. Running out
/// of descriptors pauses accepting for 100 ms at a time; it never ends the listener.
/// The handlers in its options must not own it.
/// Thread:  the one thread that runs the io_context.
class listener {
  public:
    /// Throws: places::error{bad_argument} for an address that is none, or not loopback and
    ///         insecure, for no keys and for a name that no peer accepts; {address_in_use} or
    ///         {node_unreachable} when the system refuses; {start_failed} when the crypto library
    ///         does.
    /// Blocks: never.
    listener(boost::asio::io_context& context, listen_options options);
    listener(const listener&) = delete;
    listener& operator=(const listener&) = delete;
    ~listener();

    /// The port it listens on, also after close().
    std::uint16_t port() const noexcept;
    /// What this node calls itself.
    const std::string& name() const noexcept;

    /// Stops listening and drops unfinished handshakes; links already handed out live on.
    /// Idempotent.
    void close();

  private:
    class state;
    std::shared_ptr<state> state_;
};

struct dial_options {
    std::string host;  // name or address
    std::uint16_t port = 0;
    bool insecure = false;  // plain TCP, to loopback only
    node_key key{};
    std::string name;  // of this node
    incarnation_id incarnation{};

    std::string expected_name{};  // the node there must be called so; empty: any
    rights granted{};             // what the node there may ask of this one
    protocol_range protocols{};
    // For all of it; each of a name's addresses, its handshake included, has its share of what
    // those before it have left.
    std::chrono::milliseconds deadline{5000};
};

/// A link that is not started yet, or why there is none: node_unreachable (nobody there, hung up,
/// or too late), bad_key, wrong_version, protocol, bad_argument, or what the node's reject said
/// (full: it has more handshakes under way than it takes). The text names host, port and cause,
/// for each of a name's addresses that was tried: the next one is where nobody answers at the last.
/// After a node has hung up before the end of the handshake, or has said full, dial() tries again,
/// after a pause of 5 ms that grows to 250 ms, until the deadline; the text says how often.
/// value() throws places::error.
using dial_result = boost::system::result<std::shared_ptr<link>, failure>;

/// Connects to a node and shakes hands. `done` is called once, never from inside dial(); not at all
/// if the io_context ends first. It must not throw.
/// Blocks:  never. A name that is neither an address nor "localhost" is looked up on a thread of
///          Asio's, which may keep the io_context running past the deadline. There is one such
///          thread: while a name server is silent about one name, other names wait behind it, and
///          may run out of their time; addresses do not.
/// Returns: what ends the attempt: `done` is not called then. It does nothing after the end.
/// Throws:  std::bad_alloc.
/// Thread:  the one that runs the io_context; also for what it returns.
std::function<void()> dial(boost::asio::io_context& context, dial_options options,
                           std::function<void(dial_result)> done);

}  // namespace places::net
