// SPDX-License-Identifier: Apache-2.0
// Whether this build has a sanitizer in it, and that for threads. The build system says so: g++ and
// clang 14 each tell it in a way the other does not know.
#pragma once

inline constexpr bool is_sanitized = PLACES_IS_SANITIZED;
inline constexpr bool is_thread_sanitized = PLACES_IS_THREAD_SANITIZED;
