// SPDX-License-Identifier: Apache-2.0
#include "bench/refusal.hpp"

#include "bench/build_info.hpp"

#include <sstream>

// Also where sanitizers came in by flags that the build does not know of.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PLACES_BENCH_IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer) || __has_feature(undefined_behavior_sanitizer)
#define PLACES_BENCH_IS_SANITIZED 1
#endif
#endif
#ifndef PLACES_BENCH_IS_SANITIZED
#define PLACES_BENCH_IS_SANITIZED 0
#endif

namespace places::bench {

std::string sanitizer_among(const std::string& flags) {
    std::istringstream each(flags);
    for (std::string flag; each >> flag;) {
        if (flag.starts_with("-fsanitize=")) return flag;
    }
    return {};
}

std::string why_refused() {
    const std::string sanitizers = PLACES_BENCH_SANITIZE;
    if (!sanitizers.empty()) return "this build has sanitizers: " + sanitizers;
    // g++ has no macro for UndefinedBehaviorSanitizer.
    const auto flag = sanitizer_among(PLACES_BENCH_FLAGS);
    if (!flag.empty()) return "this build has sanitizers: " + flag;
#if PLACES_BENCH_IS_SANITIZED
    return "this build has sanitizers: the compiler says so";
#elif !defined(__OPTIMIZE__) || !defined(NDEBUG)
    return "this build is unoptimised or has debug checks (" PLACES_BENCH_FLAGS ")";
#else
    return {};
#endif
}

}  // namespace places::bench
