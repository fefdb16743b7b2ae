// SPDX-License-Identifier: Apache-2.0
#include "launcher/cores.hpp"

#include <algorithm>
#include <fstream>
#include <sched.h>
#include <string>

namespace places::launcher {
namespace {

std::size_t cores_of_affinity() noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return static_cast<std::size_t>(CPU_COUNT(&set));
}

/// Of the group that a container sees as its root.  Returns: 0 for no quota.
/// Source: cpu.max of version 2 (Documentation/admin-guide/cgroup-v2.rst), cpu.cfs_* of version 1.
std::size_t cores_of_quota(const std::string& groups) {
    long quota = 0;
    long period = 0;
    // "max 100000" where there is none: then nothing is read.
    if (std::ifstream both(groups + "/cpu.max"); !(both >> quota >> period)) {
        std::ifstream(groups + "/cpu/cpu.cfs_quota_us") >> quota;
        std::ifstream(groups + "/cpu/cpu.cfs_period_us") >> period;
    }
    if (quota <= 0 || period <= 0) return 0;
    return static_cast<std::size_t>(std::max(1L, quota / period));
}

}  // namespace

std::size_t usable_cores(const char* groups) noexcept {
    const auto cores = std::max<std::size_t>(1, cores_of_affinity());
    try {
        const auto given = cores_of_quota(groups);
        return given ? std::min(cores, given) : cores;
    } catch (const std::exception&) {
        return cores;  // out of memory: what it may use is known all the same
    }
}

}  // namespace places::launcher
