// SPDX-License-Identifier: Apache-2.0
#include "net/handshake.hpp"

#include "net/digest.hpp"

#include <boost/endian/buffers.hpp>
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace places::net {
namespace {

template <class Bytes>
Bytes random_bytes() {
    Bytes bytes;
    auto* to = reinterpret_cast<unsigned char*>(bytes.data());
    if (RAND_bytes(to, static_cast<int>(bytes.size())) != 1)
        throw error{errc::start_failed, "the system gives no random bytes; no key can be made"};
    return bytes;
}

std::string no_node_name(std::string_view name) { return printable(name) + " " + node_name_rule; }

bool is_range(protocol_range range) noexcept { return range.min <= range.max; }

std::string to_string(protocol_range range) {
    return std::to_string(range.min) + ".." + std::to_string(range.max);
}

// The highest version that both speak.
std::optional<std::uint16_t> common_protocol(protocol_range a, protocol_range b) noexcept {
    const std::uint16_t highest = std::min(a.max, b.max);
    if (highest < std::max(a.min, b.min)) return std::nullopt;
    return highest;
}

std::string no_common_protocol(protocol_range ours, protocol_range theirs) {
    return "no common protocol: this side speaks " + to_string(ours) + ", the other " +
           to_string(theirs) + "; update the older of the two";
}

// The bytes a proof covers. Each field goes after its length, so that no two lists of fields give
// the same bytes.
class transcript {
  public:
    void add(std::span<const std::byte> field) {
        const boost::endian::little_uint32_buf_t size{static_cast<std::uint32_t>(field.size())};
        append(std::as_bytes(std::span{&size, 1}));
        append(field);
    }
    void add(std::string_view field) { add(std::as_bytes(std::span{field})); }
    void add(std::uint16_t number) {
        const boost::endian::little_uint16_buf_t bytes{number};
        add(std::as_bytes(std::span{&bytes, 1}));
    }

    proof_bytes hmac(const node_key& key) const {
        const auto made =
            hmac_of(hash::sha256, {reinterpret_cast<const char*>(key.data()), key.size()}, bytes_);
        proof_bytes proof;
        std::ranges::copy(std::as_bytes(std::span{made}).first<proof.size()>(), proof.begin());
        return proof;
    }

  private:
    void append(std::span<const std::byte> bytes) {
        bytes_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }

    std::string bytes_;
};

bool same_proof(const proof_bytes& a, const proof_bytes& b) noexcept {
    return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

incarnation_id make_incarnation_id() { return random_bytes<incarnation_id>(); }
nonce_bytes make_nonce() { return random_bytes<nonce_bytes>(); }

void throw_exception_from_error(const failure& f, const boost::source_location&) {
    throw error{f.code, f.text};
}

handshake::handshake(role own_role, config settings)
    : handshake(own_role, std::make_shared<const config>(std::move(settings))) {}

handshake::handshake(role own_role, std::shared_ptr<const config> settings)
    : role_(own_role),
      settings_(std::move(settings)) {
    if (!is_node_name(settings_->name))
        throw error{errc::bad_argument, no_node_name(settings_->name)};
    if (settings_->keys.empty()) throw error{errc::bad_argument, "no key to shake hands with"};
    if (!is_range(settings_->protocols))
        throw error{errc::bad_argument,
                    "protocol range " + to_string(settings_->protocols) + " is empty"};
    if (role_ == role::accepting) {
        accepting_range_ = settings_->protocols;
        accepting_nonce_ = make_nonce();
        accepting_name_ = settings_->name;
        accepting_incarnation_ = settings_->incarnation;
    } else {
        dialing_range_ = settings_->protocols;
        dialing_nonce_ = make_nonce();
        dialing_name_ = settings_->name;
        dialing_incarnation_ = settings_->incarnation;
    }
}

void handshake::secure(known_key key, const proof_bytes& binding) {
    key_ = std::move(key);
    binding_ = binding;
    is_secure_ = true;
}

std::span<const known_key> handshake::keys() const noexcept {
    if (key_) return {&*key_, 1};
    return settings_->keys;
}

handshake::step handshake::start() {
    if (role_ == role::dialing) {
        waiting_ = waiting_for::challenge;
        if (is_secure_) return {};
        return {ping_frame{0}, pending{}};
    }
    waiting_ = waiting_for::hello;
    return {challenge_frame{accepting_range_.min, accepting_range_.max, accepting_nonce_},
            pending{}};
}

handshake::step handshake::feed(const frame& f) {
    if (const auto* r = std::get_if<reject_frame>(&f); r && waiting_ != waiting_for::nothing)
        return fail(r->code == errc{} ? errc::protocol : r->code,
                    "rejected by the other side: " + printable(r->text));
    if (const auto* c = std::get_if<challenge_frame>(&f); c && waiting_ == waiting_for::challenge)
        return on_challenge(*c);
    if (const auto* h = std::get_if<hello_frame>(&f); h && waiting_ == waiting_for::hello)
        return on_hello(*h);
    if (const auto* w = std::get_if<welcome_frame>(&f); w && waiting_ == waiting_for::welcome)
        return on_welcome(*w);
    const bool is_first_word = std::holds_alternative<ping_frame>(f) && !is_secure_ &&
                               waiting_ == waiting_for::hello &&
                               !std::exchange(has_received_word_, true);
    if (is_first_word) return {std::nullopt, pending{}};
    return refuse(errc::protocol, "a frame out of turn during the handshake");
}

handshake::step handshake::breach(errc code, std::string_view what) const {
    return {
        reject_frame{code, std::string{what}, settings_->protocols.min, settings_->protocols.max},
        failure{code, std::string{what}}};
}

handshake::step handshake::on_challenge(const challenge_frame& f) {
    accepting_range_ = {f.protocol_min, f.protocol_max};
    accepting_nonce_ = f.nonce;
    if (!is_range(accepting_range_))
        return refuse(errc::protocol, "an empty protocol range " + to_string(accepting_range_));
    if (!common_protocol(dialing_range_, accepting_range_))
        return refuse(errc::wrong_version, no_common_protocol(dialing_range_, accepting_range_));
    waiting_ = waiting_for::welcome;
    return {hello_frame{dialing_range_.min, dialing_range_.max, dialing_name_, dialing_incarnation_,
                        dialing_nonce_, prove(role::dialing, keys().front().key)},
            pending{}};
}

handshake::step handshake::on_hello(const hello_frame& f) {
    dialing_range_ = {f.protocol_min, f.protocol_max};
    if (!is_range(dialing_range_))
        return refuse(errc::protocol, "an empty protocol range " + to_string(dialing_range_));
    const auto protocol = common_protocol(accepting_range_, dialing_range_);
    if (!protocol)
        return refuse(errc::wrong_version, no_common_protocol(accepting_range_, dialing_range_));
    if (!is_node_name(f.node_name)) return refuse(errc::protocol, no_node_name(f.node_name));
    dialing_name_ = f.node_name;
    dialing_incarnation_ = f.incarnation;
    dialing_nonce_ = f.nonce;
    const auto held = find_key(keys(), dialing_name_, [&](const node_key& key) {
        return same_proof(prove(role::dialing, key), f.proof);
    });
    if (!held) return refuse(errc::bad_key, wrong_key_text());
    if (!is_owned_by(*held, dialing_name_))
        return refuse(errc::bad_key,
                      "the key it has is not that of '" + printable(dialing_name_) + "'");
    protocol_ = *protocol;
    waiting_ = waiting_for::nothing;
    peer_info peer{dialing_name_, dialing_incarnation_, protocol_, {}};
    peer.rights = held->rights;
    peer.key = held->kind;
    return {welcome_frame{protocol_, accepting_name_, accepting_incarnation_,
                          prove(role::accepting, held->key)},
            std::move(peer)};
}

handshake::step handshake::on_welcome(const welcome_frame& f) {
    if (!is_node_name(f.node_name)) return fail(errc::protocol, no_node_name(f.node_name));
    protocol_ = f.protocol;
    accepting_name_ = f.node_name;
    accepting_incarnation_ = f.incarnation;
    if (!same_proof(prove(role::accepting, keys().front().key), f.proof))
        return fail(errc::bad_key, wrong_key_text());
    // After the proof: whoever is wrong here holds the key and is worth a precise word.
    if (protocol_ != common_protocol(dialing_range_, accepting_range_))
        return fail(errc::protocol, "the other side chose protocol " + std::to_string(protocol_) +
                                        " out of " + to_string(accepting_range_) + " and " +
                                        to_string(dialing_range_));
    if (!settings_->expected_name.empty() && accepting_name_ != settings_->expected_name)
        return fail(errc::protocol, "the node there is called '" + printable(accepting_name_) +
                                        "', not '" + printable(settings_->expected_name) + "'");
    waiting_ = waiting_for::nothing;
    peer_info peer{accepting_name_, accepting_incarnation_, protocol_, {}};
    peer.rights = settings_->granted;
    return {std::nullopt, std::move(peer)};
}

handshake::step handshake::refuse(errc code, std::string text) {
    waiting_ = waiting_for::nothing;
    return breach(code, text);
}

handshake::step handshake::fail(errc code, std::string text) {
    waiting_ = waiting_for::nothing;
    return {std::nullopt, failure{code, std::move(text)}};
}

// The fields and their order are wire.capnp's.
proof_bytes handshake::prove(role prover, const node_key& key) const {
    transcript t;
    t.add(prover == role::dialing ? std::string_view{"dialing"} : std::string_view{"accepting"});
    t.add(std::string_view{"places/1"});
    t.add(accepting_range_.min);
    t.add(accepting_range_.max);
    t.add(dialing_range_.min);
    t.add(dialing_range_.max);
    t.add(accepting_nonce_);
    t.add(dialing_nonce_);
    t.add(dialing_name_);
    t.add(dialing_incarnation_);
    t.add(binding_);
    if (prover == role::accepting) {
        t.add(protocol_);
        t.add(accepting_name_);
        t.add(accepting_incarnation_);
    }
    return t.hmac(key);
}

}  // namespace places::net
