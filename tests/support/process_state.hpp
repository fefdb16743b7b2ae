// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/support/content_of.hpp"

#include <string>

/// What a process does, or a thread, by its folder in /proc: R runs, S sleeps, T stopped, Z ended
/// and not reaped. Returns: 0 when there is none any more.
inline char process_state(const std::string& folder) {
    const auto all = content_of(folder + "/stat");
    const auto name_ends = all.rfind(") ");
    return name_ends == all.npos ? '\0' : all.at(name_ends + 2);
}
