// SPDX-License-Identifier: Apache-2.0
// Where what a machine lacks is no reason to leave a test out.
#pragma once

#include <cstdlib>

/// The environment says so: it has CI, which is to run all.
inline bool is_in_ci() {
    const char* const ci = std::getenv("CI");
    return ci && *ci;
}

/// How the failure begins; what is lacking follows.
inline constexpr const char* not_left_out = "not left out in CI: ";
