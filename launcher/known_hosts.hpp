// SPDX-License-Identifier: Apache-2.0
// The keys of hosts that somebody has vouched for. Not installed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace places::launcher {

/// What known_hosts files say of one host and port.
/// A key without a port counts for any port of the host of which no key of any kind is known, and
/// where it is revoked for every port; the rest is of the lines for this port alone.
/// Not of libssh2: that one knows neither patterns nor @revoked, and takes a key without a port
/// even where another is known of the port.
/// Source: check_host_key() in OpenSSH, which takes such a key without a word, and refuses one that
/// is revoked without a port at port 22 alone.
class known_hosts {
  public:
    enum class verdict {
        known,
        unknown,  ///< there is no key of this kind for the host
        changed,  ///< there is another key of this kind
        revoked,
    };

    /// Reads the files' lines for `host`; a file that is not there has none.
    known_hosts(const std::vector<std::string>& files, std::string_view host, std::uint16_t port);

    /// `key`: as it goes over the wire, its kind first.
    verdict check(std::string_view key) const;
    /// Kinds of the keys there are, in order and once each: a host should show one of these.
    std::vector<std::string> kinds() const;
    /// The first line that has a key of this kind for the host, or of any kind where there is none:
    /// `file:line`.
    std::string where(std::string_view kind) const;

  private:
    struct entry {
        std::string kind;
        std::string key;
        bool revoked = false;
        std::string where;
    };
    void read(const std::string& file, std::string_view host, std::string_view name);

    std::vector<entry> entries_;
    std::vector<entry> portless_;  ///< of the host, where its port is not 22
};

/// As known_hosts files call it: `host`, or `[host]:port` where the port is not 22.
std::string known_hosts_name(std::string_view host, std::uint16_t port);
/// The line that makes the key known.
std::string known_hosts_line(std::string_view host, std::uint16_t port, std::string_view key);
/// Adds the line to the file, which is made if need be, as a line of its own; so is the folder that
/// it is in where that is `ssh_folder`, for its owner alone.
/// Throws: std::system_error naming the file.
/// Source: ssh makes ~/.ssh and no other folder.
void add_known_host(const std::string& file, const std::string& line,
                    const std::string& ssh_folder);
/// `SHA256:…`, as other programs show it.
std::string fingerprint_of(std::string_view key);
/// `ssh-ed25519`, say; empty for what is no key.
std::string kind_of_key(std::string_view key);

}  // namespace places::launcher
