// SPDX-License-Identifier: Apache-2.0
#include "bench/clock.hpp"

#include <fstream>
#include <string>
#include <thread>

namespace places::bench {
namespace {

bool is_tsc_steady() {
    std::ifstream source("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    std::string name;
    return source >> name && name == "tsc";
}

}  // namespace

tick_clock::tick_clock() {
#if defined(__x86_64__)
    if (!is_tsc_steady()) return;
    using clock = std::chrono::steady_clock;
    is_counter_ = true;
    const auto begun = clock::now();
    const auto first = now();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const std::chrono::duration<double, std::nano> taken = clock::now() - begun;
    ns_per_tick_ = taken.count() / static_cast<double>(now() - first);
#endif
}

}  // namespace places::bench
