// SPDX-License-Identifier: Apache-2.0
#include "launcher/bundle_file.hpp"

#include "launcher/text_parts.hpp"
#include "net/digest.hpp"

#include <places/core/error.hpp>
#include <places/shm/unique_fd.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <optional>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace places::launcher {
namespace {

constexpr std::size_t read_bytes = 256 * 1024;

/// A name that needs no quoting anywhere.
std::string plain_name(std::string_view name) {
    std::string plain;
    for (const char c : name) {
        const bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '+' || c == '-';
        plain += good ? c : '_';
    }
    if (plain.empty() || plain[0] == '.' || plain[0] == '-') plain.insert(plain.begin(), '_');
    return plain;
}

std::string base_name(std::string_view path) {
    return std::string(path.substr(path.rfind('/') + 1));  // npos + 1 is 0
}

}  // namespace

// -- what goes --

std::string sha256_of(std::string_view octets) {
    return net::to_hex(net::digest_of(net::hash::sha256, octets));
}

std::string deployed_name(std::string_view path) { return plain_name(base_name(path)); }

const std::string& shown(const bundle_file& what) noexcept {
    return what.path.starts_with("/proc/") ? what.name : what.path;
}

bundle_file bundle_file_of(const std::string& path, const std::function<void()>& on_read) {
    const unique_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    struct stat status {};
    const auto fail = [&](const char* why) {
        throw error(errc::load_failed, path + ": " + why + "; it was to be copied to another host");
    };
    if (!file || ::fstat(file.get(), &status) != 0) fail(std::strerror(errno));
    if (!S_ISREG(status.st_mode)) fail("not a file");
    bundle_file c{path, deployed_name(path), {}, 0};
    net::digest content(net::hash::sha256);
    std::vector<char> buffer(read_bytes);
    for (ssize_t got; (got = ::read(file.get(), buffer.data(), buffer.size())) != 0;) {
        if (got < 0) fail(std::strerror(errno));
        content.add({buffer.data(), static_cast<std::size_t>(got)});
        c.bytes += static_cast<std::uint64_t>(got);
        if (on_read) on_read();
    }
    c.digest = net::to_hex(content.finish());
    return c;
}

bool is_c_library(std::string_view name) {
    for (const std::string_view each : {"libc.so", "libm.so", "libdl.so", "librt.so", "libmvec.so",
                                        "libpthread.so", "libresolv.so", "libutil.so", "libnss_",
                                        "ld-linux", "ld-musl", "libc.musl", "linux-vdso"}) {
        if (name.starts_with(each)) return true;
    }
    return false;
}

std::map<std::string, std::string> loaded_libraries() {
    std::map<std::string, std::string> all;
    ::dl_iterate_phdr(
        [](dl_phdr_info* object, std::size_t, void* into) {
            const std::string path = object->dlpi_name;
            // Neither the program, which has no name, nor what the kernel maps, which has no file.
            if (path.find('/') != path.npos) {
                static_cast<decltype(all)*>(into)->emplace(base_name(path), path);
            }
            return 0;
        },
        &all);
    return all;
}

std::string facts_of(const std::string& path) {
    struct stat s {};
    if (::stat(path.c_str(), &s) != 0) return "none";
    std::string text;
    for (const long each :
         {static_cast<long>(s.st_dev), static_cast<long>(s.st_ino), static_cast<long>(s.st_size),
          s.st_mtim.tv_sec, s.st_mtim.tv_nsec, s.st_ctim.tv_sec, s.st_ctim.tv_nsec}) {
        text += std::to_string(each) + ' ';
    }
    return text;
}

// -- whether it runs there --

namespace {

constexpr const char* build_there = "; build it there, and name it: .program";

/// 2.36 as numbers that compare.
std::pair<int, int> version_of(std::string_view text) {
    std::pair<int, int> version{0, 0};
    const char* end = text.data() + text.size();
    const auto [rest, ec] = std::from_chars(text.data(), end, version.first);
    if (ec == std::errc{} && rest < end && *rest == '.') {
        (void)std::from_chars(rest + 1, end, version.second);
    }
    return version;
}

// Not by libelf: it saves no code here, and every user would have to install it and zlib.

/// Octets of a file; empty where it has not so many.
std::string part_of(int file, std::uint64_t at, std::uint64_t size) {
    struct stat status {};
    if (::fstat(file, &status) != 0) return {};
    const auto all = static_cast<std::uint64_t>(status.st_size);
    if (at > all || size > all - at) return {};
    std::string octets(size, '\0');
    const auto got = ::pread(file, octets.data(), size, static_cast<off_t>(at));
    return got == static_cast<ssize_t>(size) ? octets : std::string();
}

template <class Struct>
std::optional<Struct> struct_at(std::string_view octets, std::size_t at) {
    if (at > octets.size() || octets.size() - at < sizeof(Struct)) return std::nullopt;
    Struct s;
    std::memcpy(&s, octets.data() + at, sizeof s);
    return s;
}

std::optional<ElfW(Ehdr)> header_of(int file) {
    const auto header = struct_at<ElfW(Ehdr)>(part_of(file, 0, sizeof(ElfW(Ehdr))), 0);
    constexpr auto own_class = sizeof(void*) == 8 ? ELFCLASS64 : ELFCLASS32;
    if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_ident[EI_CLASS] != own_class) {
        return std::nullopt;
    }
    return header;
}

/// What a header says lies there; empty where it does not, or its entries are none of these.
template <class Entry>
std::vector<Entry> table_of(int file, std::uint64_t at, std::size_t count,
                            std::size_t entry_bytes) {
    if (entry_bytes != sizeof(Entry)) return {};
    const auto octets = part_of(file, at, std::uint64_t{count} * sizeof(Entry));
    std::vector<Entry> entries;
    while (const auto next = struct_at<Entry>(octets, entries.size() * sizeof(Entry))) {
        entries.push_back(*next);
    }
    return entries;
}

/// One of the texts of a string table; empty beyond its end.
std::string_view text_at(std::string_view strings, std::size_t at) {
    strings.remove_prefix(std::min(at, strings.size()));
    return strings.substr(0, strings.find('\0'));
}

/// The newest GLIBC_x.y among the versions that a shared object or program needs.
/// Source: "Symbol Versioning", Linux Standard Base; <elf.h>; glibc's NEWS for 2.36.
std::string newest_needed(std::string_view needs, std::string_view strings) {
    constexpr std::string_view prefix = "GLIBC_";
    // The loader's word that it can apply them, and since when it does.
    constexpr std::pair<std::string_view, std::string_view> packed_relocations{"ABI_DT_RELR",
                                                                               "2.36"};
    std::string newest;
    std::optional<ElfW(Verneed)> file;
    for (std::size_t at = 0; (file = struct_at<ElfW(Verneed)>(needs, at)); at += file->vn_next) {
        auto aux_at = at + file->vn_aux;
        for (int i = 0; i < file->vn_cnt; ++i) {
            const auto aux = struct_at<ElfW(Vernaux)>(needs, aux_at);
            if (!aux) break;
            const auto name = text_at(strings, aux->vna_name);
            // A weak one the loader does without.
            if (name.starts_with(prefix) && !(aux->vna_flags & VER_FLG_WEAK)) {
                auto version = name.substr(prefix.size());
                if (version == packed_relocations.first) version = packed_relocations.second;
                if (version_of(version) > version_of(newest)) newest = version;
            }
            if (aux->vna_next == 0) break;
            aux_at += aux->vna_next;
        }
        if (file->vn_next == 0) break;
    }
    return newest;
}

}  // namespace

std::string loader_needed(const std::string& path) {
    const unique_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    const auto header = header_of(file.get());
    if (!header) return {};
    for (const auto& each :
         table_of<ElfW(Phdr)>(file.get(), header->e_phoff, header->e_phnum, header->e_phentsize)) {
        if (each.p_type != PT_INTERP) continue;
        const auto name = part_of(file.get(), each.p_offset, each.p_filesz);
        return name.substr(0, name.find('\0'));
    }
    return {};
}

std::vector<std::string> needed_by_path(const std::string& path) {
    const unique_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    const auto header = header_of(file.get());
    if (!header) return {};
    const auto sections =
        table_of<ElfW(Shdr)>(file.get(), header->e_shoff, header->e_shnum, header->e_shentsize);
    std::vector<std::string> paths;
    for (const auto& dynamic : sections) {
        if (dynamic.sh_type != SHT_DYNAMIC || dynamic.sh_link >= sections.size()) continue;
        const auto& table = sections[dynamic.sh_link];
        const auto strings = part_of(file.get(), table.sh_offset, table.sh_size);
        for (const auto& each :
             table_of<ElfW(Dyn)>(file.get(), dynamic.sh_offset, dynamic.sh_size / sizeof(ElfW(Dyn)),
                                 dynamic.sh_entsize)) {
            if (each.d_tag == DT_NULL) break;
            if (each.d_tag != DT_NEEDED) continue;
            const auto name = text_at(strings, each.d_un.d_val);
            if (name.find('/') != name.npos) paths.emplace_back(name);
        }
        break;
    }
    return paths;
}

platform this_platform() {
    utsname name{};
    (void)::uname(&name);
    return {name.machine, std::string("glibc ") + ::gnu_get_libc_version(),
            loader_needed("/proc/self/exe")};
}

std::string glibc_needed(const std::string& path) {
    const unique_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    const auto header = header_of(file.get());
    if (!header) return {};
    const auto sections =
        table_of<ElfW(Shdr)>(file.get(), header->e_shoff, header->e_shnum, header->e_shentsize);
    for (const auto& needs : sections) {
        if (needs.sh_type != SHT_GNU_verneed || needs.sh_link >= sections.size()) continue;
        const auto& strings = sections[needs.sh_link];
        return newest_needed(part_of(file.get(), needs.sh_offset, needs.sh_size),
                             part_of(file.get(), strings.sh_offset, strings.sh_size));
    }
    return {};
}

std::string c_library_in(std::string_view words) {
    if (words.find("musl") != words.npos) return "musl";
    if (const auto at = words.find("glibc "); at != words.npos) {
        const auto version = words.substr(at + 6);
        return "glibc " + std::string(version.substr(0, version.find_first_not_of("0123456789.")));
    }
    // ldd (Debian GLIBC 2.36-9) 2.36
    if (words.starts_with("ldd (")) {
        return "glibc " + std::string(words.substr(words.rfind(' ') + 1));
    }
    return std::string(words);
}

std::string mismatch(const platform& here, const platform& there) {
    const auto both = [](const std::string& what, const std::string& ours,
                         const std::string& theirs) {
        return "this program is for " + what + " " + ours + ", and the host has " +
               (theirs.empty() ? "none that it tells of" : theirs) + build_there;
    };
    if (here.machine != there.machine) return both("processor", here.machine, there.machine);
    const auto family = [](std::string_view library) {
        return library.substr(0, library.find(' '));
    };
    if (family(here.c_library) != family(there.c_library)) {
        return both("C library", here.c_library, there.c_library);
    }
    // A kernel may be wider than all that runs on it.
    if (here.loader != there.loader && !here.loader.empty()) {
        return "this program is started by " + here.loader + ", which the host has not" +
               build_there;
    }
    return {};
}

std::string mismatch(const bundle_file& what, const platform& there) {
    if (!there.c_library.starts_with("glibc ")) return {};
    const auto wanted = glibc_needed(what.path);
    // What runs here may need a symbol of a newer release that a distribution has taken over.
    if (version_of(wanted) > version_of(::gnu_get_libc_version())) return {};
    if (version_of(there.c_library.substr(6)) >= version_of(wanted)) return {};
    return shown(what) + " needs glibc " + wanted + " or later, and the host has " +
           there.c_library + build_there;
}

loader_report parse_loader_report(std::string_view text) {
    loader_report report;
    const auto add_missing = [&](std::string name) {
        auto& list = report.missing;
        if (std::ranges::find(list, name) == list.end()) list.push_back(std::move(name));
    };
    while (!text.empty()) {
        const auto end = text.find('\n');
        const auto line = text.substr(0, end);
        text.remove_prefix(end == text.npos ? text.size() : end + 1);
        const auto words = words_of(line);
        if (const auto at = line.find(": version `"); at != line.npos) {
            // prog: /lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by prog)
            const auto before = line.substr(0, at);
            const auto name = base_name(before.substr(before.rfind(' ') + 1));
            if (is_c_library(name)) {
                report.c_library_too_old = line;
            } else {
                add_missing(name);
            }
        } else if (words.size() >= 3 && words[1] == "=>") {
            if (words[2] == "not") {
                add_missing(words[0]);
            } else {
                report.found.emplace(words[0], words[2]);
            }
        }
    }
    return report;
}

}  // namespace places::launcher
