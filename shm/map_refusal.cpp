// SPDX-License-Identifier: Apache-2.0
#include "shm/map_refusal.hpp"

#include <places/shm/unique_fd.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <fcntl.h>
#include <optional>
#include <sys/resource.h>
#include <unistd.h>

namespace places::shm {
namespace {

/// The kernel splits a mapping before it counts: the last free entries are of no use.
constexpr std::uint64_t split_mappings = 3;

/// Nothing here allocates: a process at its limit of mappings has little memory left.
template <class Taker>
bool read_file(const char* path, Taker take) {
    const unique_fd file{::open(path, O_RDONLY | O_CLOEXEC)};
    if (!file) return false;
    std::array<char, 16 * 1024> buffer;
    while (true) {
        const auto got = ::read(file.get(), buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return false;
        if (got == 0) return true;
        take(buffer.data(), buffer.data() + got);
    }
}

/// The first number in a file of the kernel's.
std::optional<std::uint64_t> number_in(const char* path) {
    std::optional<std::uint64_t> value;
    bool is_over = false;
    const auto take = [&](const char* at, const char* end) {
        for (; at != end && !is_over; ++at) {
            is_over = *at < '0' || *at > '9';
            if (!is_over) value = value.value_or(0) * 10 + static_cast<std::uint64_t>(*at - '0');
        }
    };
    if (!read_file(path, take)) return std::nullopt;
    return value;
}

std::optional<std::uint64_t> mapping_count() {
    std::uint64_t lines = 0;
    const auto take = [&](const char* at, const char* end) {
        lines += static_cast<std::uint64_t>(std::count(at, end, '\n'));
    };
    if (!read_file("/proc/self/maps", take)) return std::nullopt;
    return lines;
}

/// Returns: the limit that the mapping goes over and what to do, empty where there is none.
std::string reached_limit(int error_number, std::size_t size_bytes) {
    rlimit limit{};
    if (error_number == EAGAIN && ::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
        limit.rlim_cur != RLIM_INFINITY) {
        return "this process locks its memory and may lock " + std::to_string(limit.rlim_cur) +
               " bytes (RLIMIT_MEMLOCK); raise the limit (ulimit -l), or do not lock all memory";
    }
    if (error_number != ENOMEM) return {};
    const auto most = number_in("/proc/sys/vm/max_map_count");
    const auto held = mapping_count();
    if (most && held && *held + split_mappings >= *most) {
        return "this process has " + std::to_string(*held) + " mappings and the kernel allows it " +
               std::to_string(*most) +
               " (vm.max_map_count); a channel takes four. Raise the limit (sysctl "
               "vm.max_map_count=" +
               std::to_string(*most * 4) + "), or hold fewer channels in one process";
    }
    const auto pages = number_in("/proc/self/statm");
    if (pages && ::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        const auto used = *pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
        if (size_bytes > limit.rlim_cur || used > limit.rlim_cur - size_bytes) {
            return "this process uses " + std::to_string(used) +
                   " bytes of address space and may "
                   "use " +
                   std::to_string(limit.rlim_cur) +
                   " (RLIMIT_AS); raise the limit (ulimit -v), or use smaller rings";
        }
    }
    return {};
}

}  // namespace

std::system_error map_refusal(int error_number, const char* what, std::size_t size_bytes) {
    auto text = std::string(what) + " " + std::to_string(size_bytes) + " bytes of shared memory";
    const auto limit = reached_limit(error_number, size_bytes);
    if (!limit.empty()) text += ": " + limit;
    return {error_number, std::generic_category(), text};
}

}  // namespace places::shm
