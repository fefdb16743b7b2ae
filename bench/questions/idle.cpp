// SPDX-License-Identifier: Apache-2.0 - What do blocked places cost?
//
// Places that wait for a message, with the nursery and this process: CPU time and wake-ups over a
// minute, once. The summary compares with what is allowed: 0.5 % of one core and ten wake-ups a
// second.
#include "bench/questions/questions.hpp"

#include "tests/support/process_cost.hpp"

#include <places/core/place.hpp>

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <unistd.h>

namespace places::bench {
namespace {

void wait_for_the_end(channel& to_creator) { (void)to_creator.get(); }

/// This process and all that it has started: the nursery, and through it the places.
void collect(int pid, std::vector<int>& into) {
    into.push_back(pid);
    const auto tasks = "/proc/" + std::to_string(pid) + "/task";
    for (const auto& task : std::filesystem::directory_iterator(tasks)) {
        std::ifstream children(task.path() / "children");
        for (int child; children >> child;) collect(child, into);
    }
}

}  // namespace

void idle(harness& h) {
    const auto count = h.asked().count ? h.asked().count : 16;
    const auto seconds = h.asked().seconds ? h.asked().seconds : h.asked().quick ? 1 : 60;
    std::vector<place> places;
    for (int i = 0; i < count; ++i) places.push_back(spawn(&wait_for_the_end));
    // Until they have spun and sleep.
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    std::vector<int> all;
    collect(::getpid(), all);
    const auto before = cost_of(all);
    const auto begun = std::chrono::steady_clock::now();
    // On a terminal in steps, for the bar: each is a wake-up, of this process.
    const int steps = ::isatty(STDERR_FILENO) ? seconds : 1;
    for (int step = 0; step < steps; ++step) {
        h.progress(step, steps, "watching");
        std::this_thread::sleep_for(std::chrono::seconds(seconds) / steps);
    }
    h.progress(0, 0, {});
    const auto after = cost_of(all);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun;
    const auto percent = (after.cpu_ns - before.cpu_ns) / taken.count() / 1e7;
    // Out of the sleeps that the measurement is: this process's own.
    const auto wake_ups = (after.wake_ups - before.wake_ups - steps) / taken.count();
    for (auto& p : places) p.close();

    h.print({{"subject", "places"},
             {"processes", all.size()},
             {"seconds", rounded("{:.1f}", taken.count())},
             {"cpu_percent", rounded("{:.4f}", percent)},
             {"wake_ups_per_second", rounded("{:.2f}", wake_ups)}},
            fmt::format("\n{} processes, {:.0f} s: {:.4f} % of one core, {:.2f} wake-ups a second",
                        all.size(), taken.count(), percent, wake_ups));
    constexpr double allowed_percent = 0.5;
    constexpr double allowed_wake_ups = 10;
    h.summarise("places", "limit", 0, {percent / allowed_percent});
    h.summarise("places", "allowed_wake_ups", 0, {wake_ups / allowed_wake_ups});
}

}  // namespace places::bench
