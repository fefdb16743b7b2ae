// SPDX-License-Identifier: Apache-2.0
// The keys of a node: who holds one, what that allows, and what is made of it for TLS.
#pragma once

#include "core/text.hpp"
#include "net/frame.hpp"

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace places::net {

/// Shared by a node and whoever may connect to it; travels by pipe or file, a peer key in an
/// `introduction`.
using node_key = std::array<std::byte, 32>;

/// Fresh and random. Throws: places::error{start_failed} when the system has no randomness.
node_key make_node_key();

/// What the other side of a link may ask for.
struct rights {
    bool start = false;    ///< places, by registered entry or named module
    bool stop = false;     ///< the node
    bool list = false;     ///< places, channels and links
    bool connect = false;  ///< to places that have a name
    friend bool operator==(const rights&, const rights&) = default;
};
inline constexpr rights all_rights{true, true, true, true};
inline constexpr rights connect_only{false, false, false, true};

/// "start stop list connect", say; "-" for none.
std::string to_string(const rights& r);
/// The reverse, in any order. Returns: nothing for another word, or for none.
std::optional<rights> parse_rights(std::string_view words);

/// What a key is to the node that accepts it.
enum class key_kind {
    granted,   ///< to somebody, with the rights that go with it
    launcher,  ///< the node's own, which makes peer keys
    peer,      ///< made of the node's own for another node, see make_peer_key()
    guest,     ///< made of the node's own for somebody who is no node, see make_guest_key()
};

/// The owner of a node's own key: whoever has started the node, or commands it by hand, is called
/// so at the other end of the link.
inline constexpr std::string_view launcher_name = "launcher";

/// Whether any other key may be owned by that name: that of a node, but not launcher_name.
bool is_owner_name(std::string_view name) noexcept;
inline constexpr const char* owner_rule =
    "is no owner of a key: 1 to 255 bytes of UTF-8 without control characters, and not launcher, "
    "who owns "
    "each node's own";

/// A key that a listening node accepts.
struct known_key {
    node_key key{};
    std::string owner{};  ///< the only name its holder may claim; nobody's when empty
    net::rights rights = all_rights;
    key_kind kind = key_kind::granted;
};

/// The key with which the node called `name` may connect to the one whose own key is `key`. Whoever
/// has started both makes it and hands it out; the node there makes the same. It tells nothing
/// about `key` or the key for any other name. Throws: error{start_failed} if the crypto library
/// fails.
node_key make_peer_key(const node_key& key, std::string_view name);

/// The same for whoever connects from a program, and is no node that others could mistake it for.
node_key make_guest_key(const node_key& key, std::string_view name);

/// The first for which `is_it` holds, of `keys` and then of the peer and guest keys for `name` that
/// the launcher's among them make. Throws: as make_peer_key.
std::optional<known_key> find_key(std::span<const known_key> keys, std::string_view name,
                                  const std::function<bool(const node_key&)>& is_it);

/// Whether `key` may be used by a node called `name`.
bool is_owned_by(const known_key& key, std::string_view name) noexcept;

/// Tells keys apart in public: 16 hexadecimal digits that say nothing about the key itself.
/// Throws: error{start_failed} if the crypto library fails.
std::string key_id(const node_key& key);

/// What bad_key is to whoever has dialed: the cause, and what to do.
std::string wrong_key_text();

/// The secret that TLS runs on: HKDF-SHA256 of the key under a label of its own, so that the proofs
/// of the hello and TLS never use the same key.
/// Throws: as key_id.
/// Source: RFC 5869, by OpenSSL's EVP_KDF.
std::array<std::byte, 32> tls_secret(const node_key& key);

/// What a dialing side shows as its PSK identity: its name, a line feed, the key's id. The name has
/// no line feed, so one identity reads in one way only.
std::string psk_identity(std::string_view name, const node_key& key);
struct identity_parts {
    std::string name;
    std::string key_id;
};
/// Returns: nothing for what is no such identity.
std::optional<identity_parts> parse_identity(std::string_view identity);

inline constexpr const char* node_name_rule =
    "is no name for a node: 1 to 255 bytes of UTF-8 without control characters";
/// Whether a node may be called so: 1..255 bytes of UTF-8 without what printable() replaces.
bool is_node_name(std::string_view name) noexcept;

using detail::printable;

}  // namespace places::net
