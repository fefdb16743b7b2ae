// SPDX-License-Identifier: Apache-2.0
// What to do about a broken invariant of our own. Never for what a peer or a user says.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace places::shm {

/// Prints one line and aborts.
[[noreturn]] inline void broken_invariant(const char* file, int line, const char* condition,
                                          long long value) noexcept {
    std::fprintf(stderr, "%s:%d: not %s (value %lld); this is a bug of places\n", file, line,
                 condition, value);
    std::abort();
}

}  // namespace places::shm

/// Aborts with `value` printed unless `condition` holds, in every build.
/// Shape:  `value`, evaluated only then, is whatever converts to long long.
#define PLACES_ASSERT(condition, value)                                    \
    (static_cast<bool>(condition)                                          \
         ? void()                                                          \
         : ::places::shm::broken_invariant(__FILE__, __LINE__, #condition, \
                                           static_cast<long long>(value)))
