// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <sys/types.h>

/// What the kernel has counted so far.
struct process_cost {
    double cpu_ns = 0;
    double wake_ups = 0;
};

/// Of all threads of these processes: what lies in /proc/<pid> itself is the first thread's.
template <class Pids>
process_cost cost_of(const Pids& processes) {
    process_cost all;
    for (const pid_t pid : processes) {
        const auto tasks = "/proc/" + std::to_string(pid) + "/task";
        for (const auto& task : std::filesystem::directory_iterator(tasks)) {
            double cpu_ns = 0;
            std::ifstream(task.path() / "schedstat") >> cpu_ns;
            all.cpu_ns += cpu_ns;
            std::ifstream file(task.path() / "status");
            for (std::string word; file >> word;) {
                double count = 0;
                if (word == "voluntary_ctxt_switches:" && file >> count) all.wake_ups += count;
            }
        }
    }
    return all;
}
