// SPDX-License-Identifier: Apache-2.0
// TLS 1.3 as links use it: an external pre-shared key with ephemeral key exchange, and nothing
// else. No certificates, no tickets, no early data, no older version. net/README.md says why.
#pragma once

#include "net/handshake.hpp"
#include "net/keys.hpp"

#include <boost/asio/ssl/context.hpp>
#include <boost/system/error_code.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace places::net {

/// What all connections of one listener, or one dial, share. Throws: boost::system::system_error.
std::shared_ptr<boost::asio::ssl::context> make_tls_context();

/// What one side of one connection brings to the TLS handshake, and what it has learnt from it.
/// OpenSSL keeps its address from attach() until the connection is freed.
/// Thread: the connection's.
class tls_side {
  public:
    /// `keys`: those that let a peer in. `on_claimed` is called once at most, when the hello is one
    /// that a holder of a key has made: OpenSSL has checked that. Its sender may have copied it, so
    /// it proves nothing yet. The handler must not throw.
    tls_side(std::shared_ptr<boost::asio::ssl::context> context,
             std::shared_ptr<const std::vector<known_key>> keys,
             std::function<void()> on_claimed = nullptr);
    /// Dials as `name`, with `key`.
    tls_side(std::shared_ptr<boost::asio::ssl::context> context, const node_key& key,
             std::string name);
    tls_side(const tls_side&) = delete;
    tls_side& operator=(const tls_side&) = delete;

    bool is_dialing() const noexcept { return is_dialing_; }
    boost::asio::ssl::context& context() const noexcept { return *context_; }
    /// Throws: error{start_failed} if the crypto library fails.
    void attach(SSL* connection);

    /// What the connection proves after its handshake: the key, on the accepting side with the
    /// name its holder has shown as owner; and 32 bytes that no other connection has.
    /// Returns: nothing when no key was used, which ends the connection.
    struct proved {
        known_key key;
        proof_bytes binding;
    };
    std::optional<proved> proof() const;
    /// Why the handshake failed with `ec`, and how to say so; `nothing_came`: not even a byte.
    failure explain(boost::system::error_code ec, bool nothing_came) const;

    // -- for OpenSSL's callbacks --

    /// Each costs a derivation or more for every key that is known, so only two are looked at.
    /// Returns: the session for that identity, to be freed; null for none.
    /// Throws:  error{protocol} for a third, which ends the handshake; {start_failed} if the crypto
    ///          library fails.
    SSL_SESSION* find_session(std::string_view identity);
    SSL_SESSION* own_session() const;
    const std::string& own_identity() const noexcept { return own_identity_; }
    /// The accepting side goes on after a hello, which it does only with a key.
    void on_answered() noexcept;

  private:
    std::shared_ptr<boost::asio::ssl::context> context_;
    const bool is_dialing_;
    std::shared_ptr<const std::vector<known_key>> keys_;  // of the dialing side, one
    std::string own_identity_;                            // of the dialing side
    SSL* connection_ = nullptr;
    std::size_t identities_ = 0;  // that the peer has shown
    std::string shown_;           // the last identity that the peer has shown, as text for people
    std::optional<known_key> used_;
    std::string shown_name_;  // with used_
    std::function<void()> on_claimed_;
};

}  // namespace places::net
