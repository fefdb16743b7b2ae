// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/support/process_state.hpp"

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <sched.h>
#include <string>
#include <sys/types.h>
#include <system_error>

/// Stops the process. When SIGSTOP has been sent, its threads may still run for a while: one of
/// them has to take the signal first.
/// Blocks: until none of its threads runs any more.
/// Throws: std::system_error when there is no such process, or it has ended.
inline void halt(pid_t pid) {
    const auto folder = "/proc/" + std::to_string(pid);
    if (::kill(pid, SIGSTOP) != 0 || process_state(folder) == 'Z') {
        throw std::system_error(ESRCH, std::generic_category(), "stop " + std::to_string(pid));
    }
    const auto all_are_halted = [&] {
        for (const auto& each : std::filesystem::directory_iterator(folder + "/task")) {
            const char state = process_state(each.path());
            if (state != 'T' && state != '\0') return false;  // none: it has ended meanwhile
        }
        return true;
    };
    while (!all_are_halted()) {
        if (process_state(folder) == 'Z') {
            throw std::system_error(ESRCH, std::generic_category(), "stop " + std::to_string(pid));
        }
        ::sched_yield();
    }
}
