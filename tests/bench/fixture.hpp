// SPDX-License-Identifier: Apache-2.0
// A harness for a test, and what it prints.
#pragma once

#include "bench/harness.hpp"

#include <places/launcher/runtime.hpp>

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace places::bench {

/// What is printed while this lives.
class captured {
  public:
    captured() { testing::internal::CaptureStdout(); }
    ~captured() {
        if (!is_taken_) testing::internal::GetCapturedStdout();
    }
    std::string take() {
        is_taken_ = true;
        return testing::internal::GetCapturedStdout();
    }

  private:
    bool is_taken_ = false;
};

/// A harness, which prints what machine this is, in a program that has no other runtime.
struct fixture {
    explicit fixture(settings s) : measuring(std::move(s), tick_clock{}, root) {}

    char name[13] = "harness_test";
    char* argv[2] = {name, nullptr};
    runtime root{1, argv};
    harness measuring;
};

inline settings asked(int rounds, bool json) {
    settings s;
    s.question = "test";
    s.peers = "none";
    s.rounds = rounds;
    s.json = json;
    return s;
}

}  // namespace places::bench
