// SPDX-License-Identifier: Apache-2.0
// The parts of ssh_config(5) that people rely on. Not installed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace places::launcher {

/// `[user@]host[:port]`, with an IPv6 address in brackets where there is a port.
struct host_words {
    std::string host;
    std::string user{};      ///< empty: not said
    std::uint16_t port = 0;  ///< 0: not said
};
/// Throws: error{bad_argument} naming the text.
host_words parse_host(std::string_view text);

/// Whether this process would start a node there without SSH.
bool is_here(const std::string& host);

/// What the configuration says of one host. As in ssh, the first value found for a name counts.
struct ssh_settings {
    std::string host_name{};  ///< where to connect to
    std::string user{};
    std::uint16_t port = 0;
    std::vector<std::string> identity_files{};
    std::vector<std::string> known_hosts_files{};
    std::string ssh_folder{};  ///< ~/.ssh
    /// What to do about a host that is not known: only these two do anything but refuse.
    enum class checking { refuse, accept_new, off } strict = checking::refuse;
    bool identities_only = false;  ///< of the agent's keys only those that the files name
    bool files_first = false;      ///< before the other keys of the agent
    /// The first thing set that only the ssh command can do: ProxyJump, ProxyCommand,
    /// CertificateFile, RevokedHostKeys, GlobalKnownHostsFile, HostKeyAlias, IdentityAgent, an
    /// Include by tokens or variables, and what counts here within a Match block with criteria.
    std::string beyond_us{};
};

/// Reads what `file` says of `host`; without one, ~/.ssh/config and then /etc/ssh/ssh_config;
/// "none" reads nothing. Then fills in the defaults: user, port 22, key and known_hosts files under
/// `home`/.ssh. `said` goes before any file.
/// `IdentityFile none` and `UserKnownHostsFile none` are no file.
/// Throws: error{bad_argument} for a file that cannot be read, but not for those looked for
///         unasked, and for values that make no sense.
ssh_settings read_ssh_config(const host_words& given, const std::optional<std::string>& file,
                             const std::string& home, const std::string& local_user);

}  // namespace places::launcher
