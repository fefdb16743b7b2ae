// SPDX-License-Identifier: Apache-2.0
#include "launcher/ssh_key.hpp"

#include "launcher/known_hosts.hpp"
#include "launcher/text_parts.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

namespace places::launcher {
namespace {

constexpr std::size_t key_bytes_max = 64 * 1024;

/// Takes one length-prefixed string off `from`.
std::optional<std::string_view> take_string(std::string_view& from) {
    if (from.size() < 4) return std::nullopt;
    std::size_t size = 0;
    for (int i = 0; i < 4; ++i) size = size << 8 | static_cast<unsigned char>(from[i]);
    if (size > from.size() - 4) return std::nullopt;
    const auto taken = from.substr(4, size);
    from.remove_prefix(4 + size);
    return taken;
}

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
    if (const auto key = take_string(octets)) facts.kind = kind_of_key(*key);
}

}  // namespace

ssh_key_facts read_ssh_key(const std::string& path) {
    ssh_key_facts facts;
    std::ifstream in(path);
    struct stat status {};
    if (!in || ::stat(path.c_str(), &status) != 0) {
        facts.fault = std::strerror(errno);
        return facts;
    }
    if (status.st_uid == ::getuid() && (status.st_mode & 077) != 0) {
        facts.is_open = true;
        facts.fault = "others may read it; chmod 600 it";
        return facts;
    }
    std::string text(key_bytes_max, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    const auto begin = text.find("-----BEGIN ");
    if (begin == text.npos) {
        facts.fault = "it holds no private key";
        return facts;
    }
    const auto line_end = text.find('\n', begin);
    const auto first = text.substr(begin, line_end - begin);
    if (first.find("OPENSSH") != first.npos && line_end != text.npos) {
        std::string body;
        for (const char c : std::string_view(text).substr(line_end)) {
            if (c == '-') break;
            if (c != '\n' && c != '\r') body += c;
        }
        const auto octets = from_base64(body);
        read_openssh(octets, facts);
        return facts;
    }
    facts.is_locked = text.find("ENCRYPTED") != text.npos;
    if (first.find("RSA") != first.npos) facts.kind = "ssh-rsa";
    return facts;
}

}  // namespace places::launcher
