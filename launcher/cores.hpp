// SPDX-License-Identifier: Apache-2.0
// How many processes can run at once. Not installed.
#pragma once

#include <cstddef>

namespace places::launcher {

/// Cores that this process may use: those of its affinity, or fewer where its control group is
/// given less time than that many have. At least 1.
/// `groups` is where the control groups are mounted.
/// Blocks: for a read of two small files.  Throws: never.
std::size_t usable_cores(const char* groups = "/sys/fs/cgroup") noexcept;

}  // namespace places::launcher
