// SPDX-License-Identifier: Apache-2.0
// A host reached by libssh2. Not installed.
#pragma once

#include "launcher/remote_host.hpp"
#include "launcher/ssh_config.hpp"

#include <functional>
#include <memory>
#include <string>

namespace places::launcher {

/// What the passphrase of `key_file` is; empty: nobody tells.
using ask_passphrase = std::function<std::string(const std::string& key_file)>;

/// Connects, checks the host's key against known_hosts, and logs in with the keys of the agent and
/// of the files. Every call of libssh2 is non-blocking, and waits with the clock.
/// Throws: error: host_unreachable, port_refused, host_key_unknown (with fingerprint and the line
///         to add), host_key_changed, auth_refused, key_unsupported, ssh_lost; each in the other
///         side's words, with one line of advice. launch_unwanted.
std::unique_ptr<remote_host> open_ssh(const ssh_settings& settings, stage_deadline& clock,
                                      const ask_passphrase& ask);

}  // namespace places::launcher
