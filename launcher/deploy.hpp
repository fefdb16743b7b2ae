// SPDX-License-Identifier: Apache-2.0
// The program travels: what a node needs is copied once into the host's cache. Not installed.
#pragma once

#include "launcher/bundle_file.hpp"
#include "launcher/remote_host.hpp"

#include <map>
#include <string>
#include <vector>

namespace places::launcher {

// The cache, $XDG_CACHE_HOME/places or ~/.cache/places, holds
//   <digest>/<name>      a file by its SHA-256; written beside, checked there, and renamed
//   <digest>/start.<h>   of a program with its modules and what they need here: a line of shell
//                        that runs them on the host <h>, processor and name: several may share a
//                        home
//   .copy.<digest>.??????/  a copy under way; its guard removes it when the connection ends
//   .lock.<digest>       held by who copies, and removed: whoever finds it held waits while the
//                        copy grows or is checked, and copies what is not there then
// Whatever is there is whole.

/// What goes to one host for one start of this program.
struct bundle {
    bundle_file program;
    std::vector<bundle_file> modules;
    /// What these need here, name to path; what of it the host lacks goes as well.
    std::map<std::string, std::string> libraries;
    std::string directory;  ///< the node's, in which it loads modules; empty: that of the login
    /// What program and modules need by its path, which does not go: the path, from the login's
    /// directory, to one that needs it.
    std::map<std::string, std::string> paths;
    std::string set;  ///< names all of it in the cache, whatever turns out to be missing there
};

/// Reads this program and the shared objects that go with it. A stage or several of their own, in
/// which no host is waited for.
/// Throws: error: load_failed naming the file; bad_argument naming two that the host could not
///         tell apart.
bundle gather(const std::vector<std::string>& modules, const std::string& directory,
              stage_deadline& clock);
/// Runs this program on the remote host as a node, after copying what is not there yet.
/// Returns: the node, which reads its orders next.
/// Throws: error: wrong_architecture naming both sides' processor or C library, no_space,
///         no_permission, load_failed for what neither side has, or is needed by a path at which
///         the host lacks it, ssh_lost, and as remote_host.
started_stream start_deployed(remote_host& far, const bundle& what, bool show_progress);
/// Makes the next start copy again what is not whole, after one by which nothing has run.
/// Throws: as remote_host.
void forget_start(remote_host& far, const bundle& what);
/// Runs a program that is on the host already. Throws: error{program_not_found}, as remote_host.
started_stream start_installed(remote_host& far, const std::string& program);

}  // namespace places::launcher
