// SPDX-License-Identifier: Apache-2.0
// Delays for those who hunt what only a rare order of steps shows.
#pragma once

#include <cstdint>
#include <random>

class dawdler {
  public:
    explicit dawdler(std::uint64_t seed) : random_(seed) {}
    void operator()() {
        const auto state = random_();
        // Often not at all, else about as long as a line takes to move, or some times that, or
        // long enough for the other side to come in between.
        const auto draw = state >> 8;
        auto turns = draw % 4 * 8;
        if (state % 8 == 0) turns = draw % 600;
        if (state % 8 > 4) turns = draw % 6000;
        for (; turns > 0; --turns) asm volatile("" ::: "memory");
    }

  private:
    std::mt19937_64 random_;
};
