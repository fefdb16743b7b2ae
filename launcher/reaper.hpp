// SPDX-License-Identifier: Apache-2.0
// The process between a root and its nursery. It ends what a killed nursery leaves behind. Not
// installed.
#pragma once

#include <places/shm/unique_fd.hpp>

#include <functional>
#include <sys/types.h>

namespace places::launcher {

/// The root's side of its reaper and its nursery.
struct node_processes {
    pid_t reaper_pid = 0;
    unique_fd reaper_pidfd;
    unique_fd nursery_pidfd;
};

/// The processes on which a nursery depends, as pidfds.
struct nursery_parents {
    unique_fd root;
    unique_fd reaper;
};

/// Forks the reaper, which forks the nursery. `run_nursery` runs in the nursery and ends it.
///
/// The reaper waits for the end of the nursery. Then it kills and reaps all processes that the
/// kernel gives to it (PR_SET_CHILD_SUBREAPER) until none is left, and exits. When the root ends,
/// the reaper wakes a stopped nursery (SIGCONT), which then ends the node. The reaper has one
/// thread, /dev/null as its standard streams, a session of its own, and blocks all signals.
/// Its exit status is the nursery's, or 128 and the signal that has ended the nursery.
/// Dying: a killed reaper ends neither nursery nor node; see the table in launcher/README.md.
/// Throws: std::system_error, error{start_failed}; then there is neither reaper nor nursery.
/// Process: the root, before it has a second thread.
node_processes start_reaper(const std::function<void(nursery_parents)>& run_nursery);

/// Blocks until the nursery has ended and the reaper has ended all that the nursery has left.
/// Throws: never.
void await_end(const node_processes& node) noexcept;

}  // namespace places::launcher
