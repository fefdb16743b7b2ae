// SPDX-License-Identifier: Apache-2.0
// What a private key's file tells. Not installed.
#pragma once

#include <string>

namespace places::launcher {

struct ssh_key_facts {
    std::string kind{};        ///< as on the wire, `ssh-ed25519` say; empty: not told
    std::string public_key{};  ///< as on the wire; empty: not told
    bool is_locked = false;    ///< a passphrase is needed
    std::string fault{};       ///< why it is of no use; empty: it can be tried
    bool is_open = false;      ///< the fault is that others may read it
    bool is_rsa() const noexcept { return kind == "ssh-rsa"; }
};

/// Without its passphrase a locked key tells its kind where OpenSSH has written it, or its first
/// line does.
/// Never throws for what a file holds, or that there is none.
ssh_key_facts read_ssh_key(const std::string& path, const std::string& passphrase = {});

/// The public half of that key, as on the wire: of the file where it holds that one, else of
/// `path`.pub, else of the private key. Empty: none of these tells it.
/// Never throws for what a file holds, or that there is none.
/// Source: the order of OpenSSH.
std::string public_key_of(const std::string& path);

}  // namespace places::launcher
