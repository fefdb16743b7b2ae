// SPDX-License-Identifier: Apache-2.0
// The program travels: what a node needs is copied once into the host's cache. Not installed.
#pragma once

#include "launcher/far_side.hpp"

#include <places/shm/unique_fd.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace places::launcher {

// The cache, $XDG_CACHE_HOME/places or ~/.cache/places, holds
//   <digest>/<name>      a file by its SHA-256; written beside, checked there, and renamed
//   <digest>/start.<h>   of a program with its modules: a line of shell that runs them on the host
//                        <h>, processor and name: several may share a home
//   .copy.??????/        a copy under way; its guard removes it when the connection ends
// Whatever is there is whole.

/// One file that goes there.
struct cargo {
    std::string path;    ///< here
    std::string name;    ///< there
    std::string digest;  ///< of its content: SHA-256, in hexadecimal
    std::uint64_t bytes = 0;
};

/// Throws: error{load_failed} for a file that cannot be read, with the system's words.
cargo cargo_of(const std::string& path);
/// How a file is called there: without what would need quoting.
std::string deployed_name(std::string_view path);
/// In hexadecimal.
std::string sha256_of(std::string_view octets);

/// What this program runs on, and what a host says of itself.
struct platform {
    std::string machine;    ///< `uname -m`
    std::string c_library;  ///< `glibc 2.36`, `musl`
};
platform this_platform();
/// The newest version of glibc that this program asks for, `2.34` say; empty: none.
std::string glibc_needed();
/// Why the host cannot run what runs here; empty: it can, as far as this tells.
std::string mismatch(const platform& here, const std::string& glibc_wanted, const platform& there);
/// `glibc 2.36` or `musl` of what getconf or ldd print.
std::string c_library_in(std::string_view words);

/// What a loader says about a file, as ldd prints it.
struct loader_report {
    std::map<std::string, std::string> found;  ///< name to path
    std::vector<std::string> missing;          ///< names, those of too old a version included
    std::string c_library_too_old;             ///< the loader's line
};
loader_report parse_loader_report(std::string_view text);

struct deployment {
    std::vector<std::string> modules;  ///< paths of shared objects that go with the program
    bool show_progress = false;
};

/// Runs this program on the far side as a node, after copying what is not there yet.
/// Returns: the node, which reads its orders next.
/// Throws: error: wrong_architecture naming both sides' processor or C library, no_space,
///         no_permission, load_failed for what neither side has, ssh_lost, and as far_side.
started_stream start_deployed(far_side& far, const deployment& what);
/// Makes the next start copy again what is not whole, after one by which nothing has run.
/// Throws: as far_side.
void forget_start(far_side& far, const deployment& what);
/// Runs a program that is on the host already. Throws: error{program_not_found}, as far_side.
started_stream start_installed(far_side& far, const std::string& program);

}  // namespace places::launcher
