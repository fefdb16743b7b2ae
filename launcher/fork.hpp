// SPDX-License-Identifier: Apache-2.0
// fork(), and what a new process of the node starts with. Not installed.
#pragma once

#include "core/process.hpp"

#include <csignal>
#include <functional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace places::launcher {

/// The nursery's side of a new process.
struct newborn {
    pid_t pid = 0;
    unique_fd control;
    unique_fd doorbell;  ///< of its ready set
    unique_fd pidfd;
};

/// What the new process is to have and to do.
struct birth_plan {
    std::uint64_t id = 0;
    std::uint32_t slot = 0;
    std::string shown_name;
    std::vector<unique_fd> streams;  ///< none, or standard output and standard error
    std::vector<int> kept;           ///< open besides streams, control socket, ready set and board
    bool ignores_sigterm = false;    ///< for what is to live while the root ends the node in order
    /// Runs in the new process, and ends it.
    std::function<void(detail::process::birth)> run;
};

/// Closes every descriptor of this process that is not in `kept`.
/// Throws: std::system_error where the kernel has no close_range() and no /proc/self/fd for it.
void close_all_but(std::vector<int> kept);

/// Forks the processes of the node. A child has no descriptor but those of its plan, and no map of
/// the nursery's. A terminal's signals (SIGINT, SIGHUP, SIGQUIT) it ignores, as they are for the
/// root, with which everybody ends; it may ask for them. A program that it executes inherits that.
/// All other signals, but for a plan that ignores SIGTERM, and the mask, are as the root had them
/// when it made its runtime. A SIGTERM to
/// all of the process group ends no nursery: the root may handle it, and then needs one.
/// Dying: a child ends with the nursery, by the kernel's hand (PR_SET_PDEATHSIG).
class forker {
  public:
    /// Throws: std::system_error. Process: the nursery, whose own signals are set up here.
    explicit forker(unique_fd board);

    /// Throws: std::system_error; then there is no such process.
    newborn fork(birth_plan plan);

  private:
    [[noreturn]] void become(birth_plan& plan, pid_t nursery, unique_fd control,
                             unique_fd wakeups) noexcept;

    unique_fd board_;
    unique_fd null_;  // for standard input
    struct sigaction root_pipe_ {};
    struct sigaction root_child_ {};
    sigset_t root_mask_{};
};

}  // namespace places::launcher
