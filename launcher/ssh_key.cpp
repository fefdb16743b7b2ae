// SPDX-License-Identifier: Apache-2.0
#include "launcher/ssh_key.hpp"

#include "launcher/known_hosts.hpp"
#include "launcher/text_parts.hpp"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

namespace places::launcher {
namespace {

constexpr std::size_t key_bytes_max = 64 * 1024;

/// The body of a file `-----BEGIN OPENSSH PRIVATE KEY-----`.
/// Source: PROTOCOL.key of OpenSSH.
void read_openssh(std::string_view octets, ssh_key_facts& facts) {
    constexpr std::string_view magic{"openssh-key-v1\0", 15};
    if (!octets.starts_with(magic)) return;
    octets.remove_prefix(magic.size());
    const auto cipher = take_string(octets);
    const auto derivation = take_string(octets);
    const auto options = take_string(octets);
    if (!cipher || !derivation || !options || octets.size() < 4) return;
    octets.remove_prefix(4);  // how many keys: one
    facts.is_locked = *cipher != "none";
    if (const auto key = take_string(octets)) {
        facts.kind = kind_of_key(*key);
        facts.public_key = *key;
    }
}

/// Returns: nothing where the file cannot be read.
std::optional<std::string> content_of_key(const std::string& path) {
    std::ifstream in(path);
    if (!in) return std::nullopt;
    std::string text(key_bytes_max, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    return text;
}

/// Of a file with a line `ssh-ed25519 AAAA… comment`, the first that is one; empty: it is another.
/// Source: sshkey_try_load_public() in OpenSSH, which passes over what is no key, comments say.
std::string read_public(std::string_view text) {
    while (!text.empty() && !text.starts_with("-----BEGIN")) {
        const auto line = text.substr(0, text.find('\n'));
        const auto words = words_of(line);
        if (words.size() >= 2) {
            auto key = from_base64(words[1]);
            if (kind_of_key(key) == words[0]) return key;
        }
        text.remove_prefix(std::min(line.size() + 1, text.size()));
    }
    return {};
}

/// Of a PEM file whose first line does not tell; empty: the passphrase is wrong, or there is no
/// such kind.
std::string kind_of_pem(const std::string& text, const std::string& passphrase) {
    const std::unique_ptr<BIO, decltype(&::BIO_free)> from(
        ::BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &::BIO_free);
    const auto tell = +[](char* into, int size, int, void* secret) {
        const auto& words = *static_cast<const std::string*>(secret);
        if (words.size() > static_cast<std::size_t>(size)) return -1;
        std::memcpy(into, words.data(), words.size());
        return static_cast<int>(words.size());
    };
    const std::unique_ptr<EVP_PKEY, decltype(&::EVP_PKEY_free)> key(
        ::PEM_read_bio_PrivateKey(from.get(), nullptr, tell, const_cast<std::string*>(&passphrase)),
        &::EVP_PKEY_free);
    ::ERR_clear_error();
    switch (key ? ::EVP_PKEY_get_base_id(key.get()) : EVP_PKEY_NONE) {
        case EVP_PKEY_RSA: return "ssh-rsa";
        case EVP_PKEY_ED25519: return "ssh-ed25519";
        case EVP_PKEY_EC:
            return "ecdsa-sha2-nistp" + std::to_string(::EVP_PKEY_get_bits(key.get()));
        default: return {};
    }
}

/// Of a file `-----BEGIN … PRIVATE KEY-----`.
void read_private(const std::string& text, const std::string& passphrase, ssh_key_facts& facts) {
    const auto begin = text.find("-----BEGIN ");
    if (begin == text.npos) {
        facts.fault = "it holds no private key";
        return;
    }
    const auto line_end = text.find('\n', begin);
    const auto first = text.substr(begin, line_end - begin);
    if (first.find("OPENSSH") != first.npos && line_end != text.npos) {
        std::string body;
        for (const char c : std::string_view(text).substr(line_end)) {
            if (c == '-') break;
            if (c != '\n' && c != '\r') body += c;
        }
        read_openssh(from_base64(body), facts);
        return;
    }
    facts.is_locked = text.find("ENCRYPTED") != text.npos;
    facts.kind = first.find("RSA") != first.npos ? "ssh-rsa" : kind_of_pem(text, passphrase);
}

}  // namespace

ssh_key_facts read_ssh_key(const std::string& path, const std::string& passphrase) {
    ssh_key_facts facts;
    const auto text = content_of_key(path);
    struct stat status {};
    if (!text || ::stat(path.c_str(), &status) != 0) {
        facts.fault = std::strerror(errno);
        return facts;
    }
    facts.public_key = read_public(*text);
    if (!facts.public_key.empty()) {
        facts.fault = "it holds a public key: the agent has to have the private one";
        return facts;
    }
    if (status.st_uid == ::getuid() && (status.st_mode & 077) != 0) {
        facts.is_open = true;
        facts.fault = "others may read it; chmod 600 it";
        return facts;
    }
    read_private(*text, passphrase, facts);
    return facts;
}

std::string public_key_of(const std::string& path) {
    ssh_key_facts facts;
    const auto text = content_of_key(path);
    if (text) facts.public_key = read_public(*text);
    if (facts.public_key.empty()) {
        facts.public_key = read_public(content_of_key(path + ".pub").value_or(std::string()));
    }
    if (facts.public_key.empty() && text) read_private(*text, {}, facts);
    return facts.public_key;
}

}  // namespace places::launcher
