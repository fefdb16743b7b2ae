// SPDX-License-Identifier: Apache-2.0
// How much memory this process may still take, and what limits it. Not installed.
#pragma once

#include <cstdint>
#include <string>

namespace places::launcher {

struct memory_limit {
    std::uint64_t limit_bytes = 0;  ///< of all that the limit covers
    std::uint64_t left_bytes = 0;   ///< of it
    std::string source;             ///< what sets the limit, for people
};

/// Where the kernel tells it.
struct memory_sources {
    std::string groups = "/sys/fs/cgroup";  ///< where the control groups are mounted
    std::string own_groups = "/proc/self/cgroup";
    std::string machine = "/proc/meminfo";
};

/// The limit that leaves least: of this process's control group, of a group above it, or of the
/// machine. File pages that the kernel can drop at once count as left.
/// Returns: all there can be, where the kernel tells nothing.
/// Blocks:  for a read of a few small files.
/// Source:  memory.max, memory.current and memory.stat of version 2
///          (Documentation/admin-guide/cgroup-v2.rst), memory.limit_in_bytes and
///          memory.usage_in_bytes of version 1.
memory_limit memory_left(const memory_sources& from = {});

/// "64 MiB", with one digit after the point where that says more.
std::string to_text_bytes(std::uint64_t bytes);

}  // namespace places::launcher
