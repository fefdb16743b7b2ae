// SPDX-License-Identifier: Apache-2.0
// What a test does on a machine that lacks something.
#pragma once

#include "tests/support/in_ci.hpp"

#include <gtest/gtest.h>

#include <string>

/// Leaves out a test whose machine has not what it needs; where the environment has CI, which is to
/// run all, fails it. To be returned: it ends only itself.
inline void lacks(const std::string& what) {
    if (is_in_ci()) FAIL() << not_left_out << what;
    GTEST_SKIP() << what;
}
