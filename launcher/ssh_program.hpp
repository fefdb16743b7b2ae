// SPDX-License-Identifier: Apache-2.0
// A host reached by the ssh command, for what libssh2 cannot do: jump hosts, certificates, RSA
// keys. Not installed.
#pragma once

#include "launcher/remote_host.hpp"
#include "launcher/spawned.hpp"

#include <memory>
#include <string>
#include <vector>

namespace places::launcher {

/// What the command is given besides what its own configuration says.
struct ssh_program_settings {
    std::string command;  ///< `ssh`, or with arguments of its own: `ssh -J jump`
    std::string host;
    std::string user{};
    std::uint16_t port = 0;
    std::string config{};
    std::vector<std::string> identity_files{};
    std::vector<std::string> known_hosts_files{};
    std::string host_key_checking{};  ///< StrictHostKeyChecking instead of the configuration's
};

/// Each stream is a process of its own, with a login of its own. Before these another one tells
/// what StrictHostKeyChecking is in force (`ssh -G`), and that is what all are told: instead of
/// `no`, by which a changed key is no more than a warning, accept-new, which adds unknown hosts
/// just as well; where nothing is told, yes.
/// Throws: error, of that one alone: bad_argument where the command does not take accept-new,
///         ssh_lost where it does not end. What else is wrong the first stream tells.
///         launch_unwanted. std::system_error: there is no such command.
std::unique_ptr<remote_host> open_ssh_program(ssh_program_settings settings, stage_deadline& clock);

/// The ssh command's arguments up to and without the remote command; `options` are further ones.
std::vector<std::string> ssh_arguments(const ssh_program_settings& settings, int deadline_s,
                                       const std::vector<std::string>& options = {});

/// A line of shell by which somebody connects to the same host, and has its key added where the
/// command looks for it.
std::string ssh_by_hand(const ssh_program_settings& settings);

/// How the command tells the key of a host: words for ssh_arguments(), after which it writes a line
/// to standard error for what it looks up in known_hosts. It replaces such an option of the user's,
/// so it is for asking alone.
/// Source: KnownHostsCommand in ssh_config(5); OpenSSH has it since 8.5.
std::vector<std::string> host_key_arguments();
/// The key in what the command has written then, and the line that makes it known: the end of an
/// error's text. Empty: it has told none.
std::string reported_host_key(std::string_view words);

/// Which error the command's last words stand for.
errc code_of_ssh_words(std::string_view words) noexcept;

}  // namespace places::launcher
