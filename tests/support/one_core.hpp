// SPDX-License-Identifier: Apache-2.0
// Who steps through another process stays on one core with it: there a step is two switches; on two
// it is two interrupts, which take many times that.
#pragma once

#include <sched.h>
#include <sys/types.h>

/// While it lives, this thread and what it forks run on the core it is on.
class one_core {
  public:
    one_core() {
        (void)::sched_getaffinity(0, sizeof before_, &before_);
        CPU_ZERO(&one_);
        CPU_SET(::sched_getcpu(), &one_);
        take(0);
    }
    ~one_core() { (void)::sched_setaffinity(0, sizeof before_, &before_); }
    one_core(const one_core&) = delete;
    one_core& operator=(const one_core&) = delete;

    /// One that somebody else has forked, a place.
    void take(pid_t pid) const { (void)::sched_setaffinity(pid, sizeof one_, &one_); }

  private:
    cpu_set_t before_;
    cpu_set_t one_;
};
