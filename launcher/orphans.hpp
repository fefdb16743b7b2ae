// SPDX-License-Identifier: Apache-2.0
// What dead places, or a dead nursery, have left running. Not installed.
#pragma once

#include <places/shm/unique_fd.hpp>

#include <functional>
#include <set>
#include <sys/types.h>

namespace places::launcher {

/// Ends and reaps the processes that a subreaper inherits: the nursery from dead places, the reaper
/// from a dead nursery.
/// Everything it needs is open from the start and SIGCHLD tells it when to look: it works as well
/// when the process has no descriptor left. A pidfd per orphan would not.
class orphans {
  public:
    /// `is_member` says whether a child of this process is none of these.
    /// Throws: std::system_error. Process: the subreaper; SIGCHLD is blocked in it from now on.
    explicit orphans(std::function<bool(pid_t)> is_member);

    /// Readable when a child, orphan or not, has ended: call reap() then.
    int native_handle() const noexcept { return signals_.get(); }
    /// Looks for orphans and kills them. Call it when a member has been reaped.
    void adopt();
    /// Reaps those that have ended, and adopts what they leave behind. Reaps also what a living
    /// place has left running, once that has ended.
    void reap();
    /// Whether none is known that has not been reaped.
    bool empty() const noexcept { return known_.empty(); }

  private:
    std::set<pid_t> children() const;

    std::function<bool(pid_t)> is_member_;
    unique_fd signals_;
    unique_fd children_;
    std::set<pid_t> known_;
};

}  // namespace places::launcher
