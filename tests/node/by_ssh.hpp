// SPDX-License-Identifier: Apache-2.0
// What the tests of nodes on other hosts begin with.
#pragma once

#include "tests/node/processes.hpp"
#include "tests/support/missing.hpp"
#include "tests/support/node_main.hpp"
#include "tests/support/sshd.hpp"

#include <places/places.hpp>

#include <gtest/gtest.h>

#include <sys/types.h>
#include <unistd.h>
#include <vector>

/// Needs an sshd; says so where there can be none. This process has no other children after a test
/// than before it.
class needs_sshd : public ::testing::Test {
  protected:
    void SetUp() override {
        if (const auto why = test_sshd::why_not(); !why.empty()) return lacks(why);
    }
    void TearDown() override { EXPECT_EQ(children_of(::getpid()), children_); }

  private:
    // Since construction: TearDown runs also after a derived SetUp that skips before this one's.
    std::vector<pid_t> children_ = children_of(::getpid());
};

/// Each runs with the library, and with the ssh command whose name is the parameter.
class both_ways : public needs_sshd, public ::testing::WithParamInterface<const char*> {
  protected:
    static bool uses_library() { return *GetParam() == '\0'; }
    static places::node_options options_for(const test_sshd& far) {
        return {.listen_port = 0, .ssh_config = far.config(), .ssh_command = GetParam()};
    }
};
