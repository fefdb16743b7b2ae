// SPDX-License-Identifier: Apache-2.0
// Time stamps for single round trips.
#pragma once

#include <chrono>
#include <cstdint>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace places::bench {

/// Reads the time stamp counter where the kernel keeps its own time by it, else steady_clock.
/// A plain value: made once, before processes are forked, and copied into them.
class tick_clock {
  public:
    /// Blocks: 20 ms, to compare the counter with steady_clock.
    tick_clock();

    /// rdtscp: not before the loads ahead of it are done, so a reply is here when it is stamped.
    std::uint64_t now() const noexcept {
#if defined(__x86_64__)
        if (is_counter_) {
            unsigned core;
            return __rdtscp(&core);
        }
#endif
        return static_cast<std::uint64_t>(
            std::chrono::steady_clock::now().time_since_epoch().count());
    }
    std::uint64_t ns(std::uint64_t ticks) const noexcept {
        return static_cast<std::uint64_t>(static_cast<double>(ticks) * ns_per_tick_);
    }
    std::uint64_t ticks(std::chrono::nanoseconds time) const noexcept {
        return static_cast<std::uint64_t>(static_cast<double>(time.count()) / ns_per_tick_);
    }
    const char* name() const noexcept { return is_counter_ ? "rdtscp" : "steady_clock"; }

  private:
    bool is_counter_ = false;
    double ns_per_tick_ = 1;
};

}  // namespace places::bench
