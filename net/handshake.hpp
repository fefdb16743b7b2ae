// SPDX-License-Identifier: Apache-2.0
// Who is there? Both sides of a new connection prove that they hold the node's key and agree on a
// protocol. No socket here: frames in, frames out; listener.cpp moves them.
#pragma once

#include "net/frame.hpp"
#include "net/keys.hpp"

#include <boost/assert/source_location.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace places::net {

/// Fresh random ones. Throws places::error{start_failed} when the system has no randomness.
incarnation_id make_incarnation_id();
nonce_bytes make_nonce();

struct protocol_range {
    std::uint16_t min = 4;
    std::uint16_t max = 4;
};

/// The other side of a connection, after it has proved the key.
struct peer_info {
    std::string name;
    incarnation_id incarnation{};
    std::uint16_t protocol = 0;
    std::string address;   // "127.0.0.1:6344", for people; empty before there is a socket
    net::rights rights{};  // of the other side here: its key's, or what whoever dialed has granted
    key_kind key = key_kind::granted;  // that has let it in; means nothing where we have dialed
    bool is_loopback = false;
    bool is_secure = false;  // under TLS
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
        std::vector<known_key> keys;  // accepting: any of them lets its owner in; dialing: one
        std::string name;             // what this node calls itself, see is_node_name()
        incarnation_id incarnation;   // of this node
        protocol_range protocols{};
        std::string expected_name{};  // dialing: the peer must be called so; empty: any
        rights granted{};             // dialing: what the peer may ask of us
    };

    struct pending {};
    using outcome = std::variant<pending, peer_info, failure>;

    /// Send `send` first if it is there, then act on `then`: also a failure may have a last word.
    struct step {
        std::optional<frame> send;
        outcome then;
    };

    /// Many handshakes may share `settings`.
    /// Throws: places::error{bad_argument} for a name or range that no peer would accept,
    ///         {start_failed} without randomness.
    handshake(role own_role, std::shared_ptr<const config> settings);
    handshake(role own_role, config settings);

    /// What TLS has found out, before start(): the key in use, its owner the only name that counts,
    /// and what only this connection has, so that no proof is of use on another.
    void secure(known_key key, const proof_bytes& binding);

    /// What to do first: the accepting side speaks and the dialing side waits. Without TLS that one
    /// says a word too, by which a node with TLS can tell at once that it is not meant.
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
    proof_bytes prove(role prover, const node_key& key) const;
    std::span<const known_key> keys() const noexcept;

    role role_;
    std::shared_ptr<const config> settings_;
    std::optional<known_key> key_;  // that TLS has found, instead of those of settings_
    waiting_for waiting_ = waiting_for::start;
    // Everything the proofs cover, as far as it is known.
    protocol_range accepting_range_{}, dialing_range_{};
    nonce_bytes accepting_nonce_{}, dialing_nonce_{};
    std::string accepting_name_, dialing_name_;
    incarnation_id accepting_incarnation_{}, dialing_incarnation_{};
    std::uint16_t protocol_ = 0;
    proof_bytes binding_{};  // zeros without TLS
    bool is_secure_ = false;
    bool has_received_word_ = false;  // that without TLS goes before the hello
};

}  // namespace places::net
