// SPDX-License-Identifier: Apache-2.0
// Why the kernel has refused to map memory. Not installed.
#pragma once

#include <cstddef>
#include <string>
#include <system_error>

namespace places::shm {

/// The error for a mapping of `size_bytes` that the kernel refused with `error_number`.
/// Its text names the mapping, the limit that this process has reached (vm.max_map_count,
/// RLIMIT_AS or RLIMIT_MEMLOCK) with the figures, and what to do. A process that has reached none
/// of them gets the size and the kernel's words.
/// Shape:   `what` completes "<what> <n> bytes of shared memory", for example "map".
std::system_error map_refusal(int error_number, const char* what, std::size_t size_bytes);

}  // namespace places::shm
