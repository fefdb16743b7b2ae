// SPDX-License-Identifier: Apache-2.0
#include "net/keys.hpp"

#include "core/text.hpp"
#include "net/digest.hpp"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <memory>
#include <utility>

namespace places::net {
namespace {

constexpr std::size_t node_name_bytes_max = 255;
constexpr std::size_t key_id_bytes = 8;

[[noreturn]] void crypto_failed(const char* what) {
    throw error{errc::start_failed, std::string{what} + " failed in the crypto library"};
}

std::array<std::byte, 32> derive(const node_key& key, std::string_view label) {
    struct free_kdf {
        void operator()(EVP_KDF* k) const noexcept { EVP_KDF_free(k); }
        void operator()(EVP_KDF_CTX* c) const noexcept { EVP_KDF_CTX_free(c); }
    };
    const std::unique_ptr<EVP_KDF, free_kdf> hkdf{EVP_KDF_fetch(nullptr, "HKDF", nullptr)};
    if (!hkdf) crypto_failed("HKDF");
    const std::unique_ptr<EVP_KDF_CTX, free_kdf> context{EVP_KDF_CTX_new(hkdf.get())};
    if (!context) crypto_failed("HKDF");
    std::string digest = "SHA256";
    std::string info{label};
    node_key from = key;
    const std::array parameters{
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, from.data(), from.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info.data(), info.size()),
        OSSL_PARAM_construct_end()};
    std::array<std::byte, 32> derived{};
    const int done = EVP_KDF_derive(context.get(), reinterpret_cast<unsigned char*>(derived.data()),
                                    derived.size(), parameters.data());
    OPENSSL_cleanse(from.data(), from.size());
    if (done != 1) crypto_failed("HKDF-SHA256");
    return derived;
}

}  // namespace

node_key make_node_key() {
    node_key key;
    if (RAND_bytes(reinterpret_cast<unsigned char*>(key.data()), static_cast<int>(key.size())) != 1)
        throw error{errc::start_failed, "the system gives no random bytes; no key can be made"};
    return key;
}

std::string to_string(const rights& r) {
    std::string words;
    const auto add = [&](bool has, const char* word) {
        if (!has) return;
        if (!words.empty()) words += ' ';
        words += word;
    };
    add(r.start, "start");
    add(r.stop, "stop");
    add(r.list, "list");
    add(r.connect, "connect");
    return words.empty() ? "-" : words;
}

std::optional<rights> parse_rights(std::string_view words) {
    rights r;
    if (words == "-") return r;
    while (true) {
        const auto word = words.substr(0, words.find(' '));
        bool* const right = word == "start"     ? &r.start
                            : word == "stop"    ? &r.stop
                            : word == "list"    ? &r.list
                            : word == "connect" ? &r.connect
                                                : nullptr;
        if (!right) return std::nullopt;
        *right = true;
        if (word.size() == words.size()) return r;
        words.remove_prefix(word.size() + 1);
    }
}

bool is_owner_name(std::string_view name) noexcept {
    return is_node_name(name) && name != launcher_name;
}

bool is_owned_by(const known_key& key, std::string_view name) noexcept {
    return !key.owner.empty() && key.owner == name;
}

std::string key_id(const node_key& key) {
    const auto derived = derive(key, "places/1 key id");
    return to_hex({reinterpret_cast<const char*>(derived.data()), key_id_bytes});
}

node_key make_peer_key(const node_key& key, std::string_view name) {
    return derive(key, "places/1 peer " + std::string(name));
}

node_key make_guest_key(const node_key& key, std::string_view name) {
    return derive(key, "places/1 guest " + std::string(name));
}

std::optional<known_key> find_key(std::span<const known_key> keys, std::string_view name,
                                  const std::function<bool(const node_key&)>& is_it) {
    for (const auto& each : keys) {
        if (is_it(each.key)) return each;
    }
    if (!is_owner_name(name)) return std::nullopt;
    for (const auto& each : keys) {
        if (each.kind != key_kind::launcher) continue;
        const std::array made{std::pair{make_peer_key(each.key, name), key_kind::peer},
                              std::pair{make_guest_key(each.key, name), key_kind::guest}};
        for (const auto& [key, kind] : made) {
            if (is_it(key)) return known_key{key, std::string(name), connect_only, kind};
        }
    }
    return std::nullopt;
}

std::string wrong_key_text() {
    return make_error_code(errc::bad_key).message() +
           "; is ours, or its file, the one that the node was started with?";
}

std::array<std::byte, 32> tls_secret(const node_key& key) {
    return derive(key, "places/1 tls 1.3 psk");
}

std::string psk_identity(std::string_view name, const node_key& key) {
    return std::string{name} + "\n" + key_id(key);
}

std::optional<identity_parts> parse_identity(std::string_view identity) {
    const auto at = identity.find('\n');
    if (at == identity.npos) return std::nullopt;
    const auto name = identity.substr(0, at);
    const auto id = identity.substr(at + 1);
    if (!is_node_name(name) || id.size() != 2 * key_id_bytes ||
        id.find_first_not_of("0123456789abcdef") != id.npos)
        return std::nullopt;
    return identity_parts{std::string{name}, std::string{id}};
}

bool is_node_name(std::string_view name) noexcept {
    if (name.empty() || name.size() > node_name_bytes_max) return false;
    while (!name.empty()) {
        const auto next = detail::first_character(name);
        if (!detail::is_shown(next)) return false;
        name.remove_prefix(next.bytes);
    }
    return true;
}

}  // namespace places::net
