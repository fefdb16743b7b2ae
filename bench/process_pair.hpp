// SPDX-License-Identifier: Apache-2.0
// Two or more forked processes that measure on demand: how limit, ring and peers are run.
#pragma once

#include "bench/report.hpp"

#include <boost/interprocess/mapped_region.hpp>

#include <functional>
#include <sched.h>
#include <sys/types.h>
#include <vector>

namespace places::bench {

/// Measures one slice; runs in the near process, once per order.
using slice_body = std::function<void(report&)>;

/// Owns a near process, which measures, and any number of far ones, which answer it. Between two
/// slices the near one sleeps on its order and the far ones are stopped, so that one that spins
/// takes nothing from the other contestants.
/// Safety: to be made before this process has started a thread. Thread: one.
class process_pair {
  public:
    /// Each function runs in its own process: those of `far` first, in their order. `near` opens
    /// its end and returns what measures.
    /// Throws: std::runtime_error when a process has ended, or has not begun within 20 s.
    process_pair(std::function<slice_body()> near, std::vector<std::function<void()>> far);
    /// Kills and reaps them.
    ~process_pair();
    process_pair(const process_pair&) = delete;
    process_pair& operator=(const process_pair&) = delete;

    /// Blocks: until the slice is done.
    /// Throws: std::runtime_error when a process has ended or takes over 60 s.
    const report& run();

  private:
    void await_answer(int timeout_ms);
    void signal_far(int signal) noexcept;
    void end() noexcept;

    boost::interprocess::mapped_region page_;
    int control_ = -1;
    pid_t near_ = -1;
    std::vector<pid_t> far_;
};

/// The calling thread, and what it starts, runs on this core from now on; -1 leaves it where it is.
void pin_to(int core) noexcept;
/// The same for the first `count` cores of those it may use; 0: all of them.
void pin_to_first(int count) noexcept;

/// The same while it lives, for who starts contestants afterwards: they may run anywhere again.
class pinned {
  public:
    explicit pinned(int core) noexcept;
    ~pinned();
    pinned(const pinned&) = delete;
    pinned& operator=(const pinned&) = delete;

  private:
    cpu_set_t before_;
};

}  // namespace places::bench
