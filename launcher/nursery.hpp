// SPDX-License-Identifier: Apache-2.0
// The node's nursery: forks places, reaps them, names them, hands out ring memory. Not installed.
#pragma once

#include "core/control.hpp"
#include "core/process.hpp"
#include "launcher/reaper.hpp"

#include <sys/types.h>

namespace places::launcher {

struct nursery_start {
    unique_fd root_control;   ///< the nursery's end
    unique_fd root_doorbell;  ///< of the root's ready set
    unique_fd board;          ///< control::board_slot memory, written by the nursery alone
    pid_t root_pid = 0;
    nursery_parents parents;
    int (*bridge_main)(detail::process& self) = nullptr;
};

using control::root_place_id;
inline constexpr std::uint32_t root_slot = 0;

/// Serves the node until its root has ended, then ends every process of it, orphans included.
/// Single-threaded, no network, maps no ring: a forked child inherits nothing that it must not
/// have. Never returns. Its first packet to the root is control::done once it serves, or
/// control::failed with the reason before it ends.
/// Dying: the kernel ends every place of a killed nursery with it (PR_SET_PDEATHSIG), and the
///        reaper ends what these places have started. The root's requests report node_down.
[[noreturn]] void run_nursery(nursery_start start);

}  // namespace places::launcher
