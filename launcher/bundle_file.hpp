// SPDX-License-Identifier: Apache-2.0
// What goes to another host, and whether it runs there. Not installed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace places::launcher {

/// One file that goes there.
struct bundle_file {
    std::string path;    ///< here
    std::string name;    ///< there
    std::string digest;  ///< of its content: SHA-256, in hexadecimal
    std::uint64_t bytes = 0;
};
/// What an error calls it: the path, or of a program whose file is gone the name, as the kernel's
/// path to it tells nobody anything.
const std::string& shown(const bundle_file& what) noexcept;

/// `on_read` is called in between: a large file takes its time.
/// Throws: error{load_failed} for a file that cannot be read, with the system's words.
bundle_file bundle_file_of(const std::string& path, const std::function<void()>& on_read = {});
/// How a file is called there: without what would need quoting.
std::string deployed_name(std::string_view path);
/// Whether a shared object of that name comes with the C library, or is its loader: what never
/// goes.
bool is_c_library(std::string_view name);
/// Where the shared objects lie that this program has loaded, by name.
std::map<std::string, std::string> loaded_libraries();
/// What changes with a file's content, for one that is too large to be read each time: device,
/// inode, size and times, that of the last change by anybody too, which nobody can set back where
/// the file system keeps it. Some show another as that, squashfs and sshfs: there a file that is
/// changed in place, or made anew under the same number, with size and time as before is taken for
/// the same. Of a file that was touched, and of a device that has got another number, it changes as
/// well.
std::string facts_of(const std::string& path);
/// In hexadecimal.
std::string sha256_of(std::string_view octets);

/// What this program runs on, and what a host says of itself.
struct platform {
    std::string machine;    ///< `uname -m`
    std::string c_library;  ///< `glibc 2.36`, `musl`
    std::string loader;     ///< of this program, if it names one, where that lies
};
platform this_platform();
/// The loader that a program names, by which the kernel starts it; empty: none, or it is no program
/// of our own word size.
std::string loader_needed(const std::string& path);
/// The shared objects that a program or shared object needs by their path, since they had no soname
/// when it was linked. A loader looks for such a one nowhere else.
std::vector<std::string> needed_by_path(const std::string& path);
/// The newest version of glibc that a program or shared object asks for, `2.34` say; empty: none,
/// or it is neither.
std::string glibc_needed(const std::string& path);
/// Why the host cannot run what runs here; empty: it can, as far as this tells.
std::string mismatch(const platform& here, const platform& there);
/// The same for one file and a host with the same C library, which may be an older one. Of a file
/// that needs a newer one than that here calls itself, only the host's loader can tell.
std::string mismatch(const bundle_file& what, const platform& there);
/// `glibc 2.36` or `musl` of what getconf or ldd print.
std::string c_library_in(std::string_view words);

/// What a loader says about a file, as ldd prints it.
struct loader_report {
    std::map<std::string, std::string> found;  ///< name to path
    std::vector<std::string> missing;          ///< names, those of too old a version included
    std::string c_library_too_old;             ///< the loader's line
};
loader_report parse_loader_report(std::string_view text);

}  // namespace places::launcher
