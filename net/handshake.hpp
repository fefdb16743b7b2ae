// SPDX-License-Identifier: Apache-2.0
// Who is there? Both sides of a new connection prove that they hold the node's key and agree on a
// protocol. No socket here: frames in, frames out; listener.cpp moves them.
#pragma once

#include "net/frame.hpp"

#include <boost/assert/source_location.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace places::net {

/// Shared by a node and whoever may connect to it; travels by pipe, never here.
using node_key = std::array<std::byte, 32>;

/// Fresh random ones. Throws places::error{start_failed} when the system has no randomness.
node_key make_node_key();
incarnation_id make_incarnation_id();
nonce_bytes make_nonce();

struct protocol_range {
    std::uint16_t min = 1;
    std::uint16_t max = 1;
};

/// The other side of a connection, after it has proved the key.
struct peer_info {
    std::string name;
    incarnation_id incarnation{};
    std::uint16_t protocol = 0;
    std::string address;  // "127.0.0.1:6344", for people; empty before there is a socket
};

/// Why there is no connection. `text` is one printable line, also where it quotes the peer.
struct failure {
    errc code;
    std::string text;
};
/// Lets result<T, failure>::value() throw places::error.
[[noreturn]] void throw_exception_from_error(const failure& f, const boost::source_location&);

/// One side of one handshake, as a state machine; used up when its outcome is no longer `pending`.
/// Thread:  one at a time.
class handshake {
  public:
    enum class role { accepting, dialing };

    struct config {
        node_key key;
        std::string name;            // what this node calls itself, 1..255 printable bytes
        incarnation_id incarnation;  // of this node
        protocol_range protocols{};
        std::string expected_name{};  // dialing: the peer must be called so; empty: any
    };

    struct pending {};
    using outcome = std::variant<pending, peer_info, failure>;

    /// Send `send` first if it is there, then act on `then`: also a failure may have a last word.
    struct step {
        std::optional<frame> send;
        outcome then;
    };

    /// Throws: places::error{bad_argument} for a name or range that no peer would accept,
    ///         {start_failed} without randomness.
    handshake(role side, config settings);

    /// What to do first: the accepting side speaks, the dialing side waits.
    step start();

    /// What to do about a frame from the other side.
    /// Shape:   any frame; one that is out of turn is a failure.
    /// Throws:  std::bad_alloc, places::error{start_failed} if the crypto library fails.
    step feed(const frame& f);

    /// The last word to a peer whose bytes are not even a frame, and what to report.
    step breach(errc code, std::string_view what) const;

  private:
    enum class waiting_for { start, challenge, hello, welcome, nothing };

    step on_challenge(const challenge_frame& f);
    step on_hello(const hello_frame& f);
    step on_welcome(const welcome_frame& f);
    step refuse(errc code, std::string text);  // with a reject frame
    step fail(errc code, std::string text);    // without a word
    proof_bytes prove(role prover) const;

    role side_;
    config settings_;
    waiting_for waiting_ = waiting_for::start;
    // Everything the proofs cover, as far as it is known.
    protocol_range accepting_range_{}, dialing_range_{};
    nonce_bytes accepting_nonce_{}, dialing_nonce_{};
    std::string accepting_name_, dialing_name_;
    incarnation_id accepting_incarnation_{}, dialing_incarnation_{};
    std::uint16_t protocol_ = 0;
};

/// Whether a node may be called so: 1..255 bytes without control characters.
bool is_node_name(std::string_view name) noexcept;

/// `text` as one line for a log: control bytes become '?', cut after 200 bytes.
std::string printable(std::string_view text);

}  // namespace places::net
