// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <string>
#include <sys/types.h>
#include <system_error>

/// Stops the process. When SIGSTOP has been sent, its threads may still run for a while: one of
/// them has to take the signal first.
/// Blocks: until none of its threads runs any more.  Throws: std::system_error when there is no
/// such process.
inline void halt(pid_t pid) {
    if (::kill(pid, SIGSTOP) != 0) {
        throw std::system_error(errno, std::generic_category(), "stop " + std::to_string(pid));
    }
    const auto is_halted = [](const std::filesystem::path& thread) {
        std::ifstream in(thread / "stat");
        std::string text;
        std::getline(in, text);  // nothing when it ends meanwhile
        const auto name_ends = text.rfind(") ");
        return name_ends == text.npos || text[name_ends + 2] == 'T';
    };
    const auto all_are_halted = [&] {
        for (const auto& each :
             std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
            if (!is_halted(each.path())) return false;
        }
        return true;
    };
    while (!all_are_halted()) ::sched_yield();
}
