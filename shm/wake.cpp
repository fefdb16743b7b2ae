// SPDX-License-Identifier: Apache-2.0
#include <places/shm/wake.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <ctime>
#include <linux/futex.h>
#include <sched.h>
#include <stdexcept>
#include <sys/syscall.h>
#include <system_error>
#include <unistd.h>

namespace places::shm {

bool sleep_until_changed(std::span<const watched_word> words, deadline until) {
    if (words.empty() || words.size() > watched_words_max) {
        throw std::invalid_argument("a sleep watches 1 to 128 words");
    }
    std::array<futex_waitv, watched_words_max> vector;
    std::size_t count = 0;
    for (const auto& w : words) {
        vector[count++] = {.val = w.expected,
                           .uaddr = reinterpret_cast<std::uintptr_t>(w.word),
                           .flags = FUTEX_32,
                           .__reserved = 0};
    }
    timespec limit{};
    if (until != no_deadline) {
        // steady_clock is CLOCK_MONOTONIC in libstdc++ and libc++ on Linux.
        // The kernel refuses a time before its clock began; that has passed, like any other.
        const auto since = std::max(until.time_since_epoch(), deadline::duration::zero());
        const auto whole = std::chrono::duration_cast<std::chrono::seconds>(since);
        limit.tv_sec = whole.count();
        limit.tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(since - whole).count();
    }
    const long woken = ::syscall(SYS_futex_waitv, vector.data(), count, 0,
                                 until == no_deadline ? nullptr : &limit, CLOCK_MONOTONIC);
    if (woken >= 0 || errno == EAGAIN || errno == EINTR) return true;
    if (errno == ETIMEDOUT) return false;
    throw std::system_error(
        errno, std::generic_category(),
        "futex_waitv (needs Linux 5.16 or newer and a container that allows it)");
}

void wake_all(const std::atomic<std::uint32_t>& word) noexcept {
    // No private flag: the sleeper has its own, read-only, mapping of this word.
    ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

std::chrono::nanoseconds spin_budget::this_core::give_away() noexcept {
    const auto start = clock::now();
    ::sched_yield();
    return clock::now() - start;
}

bool spin_budget::this_core::is_only_one() noexcept {
    cpu_set_t allowed;
    // Of more cores than the set has room for there is another.
    return ::sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) == 1;
}

/// `pause` takes 10 to 140 cycles, depending on the processor.
int spin_budget::pauses_of_a_rest() noexcept {
    constexpr int count = 200;  // enough for a clock that counts in steps of some ten ns
    auto least_taken = clock::duration::max();
    // The least of a few: in some the core was somebody else's.
    for (int tries = 0; tries < 4; ++tries) {
        const auto start = clock::now();
        for (int i = 0; i < count; ++i) pause();
        least_taken = std::min(least_taken, clock::now() - start);
    }
    const auto taken = std::max<std::int64_t>(least_taken / std::chrono::nanoseconds{1}, 1);
    // At most what a rest would be of the shortest there are, if the clock stands still.
    constexpr std::int64_t pauses_max = 32;
    return static_cast<int>(
        std::clamp<std::int64_t>(count * rest_time.count() / taken, 1, pauses_max));
}

/// Four times the least that one costs: an interrupt may come in between.
std::chrono::nanoseconds spin_budget::longest_idle_yield() noexcept {
    constexpr std::chrono::nanoseconds shortest{1'000};
    constexpr std::chrono::nanoseconds longest{20'000};
    auto least_taken = longest;
    for (int tries = 0; tries < 8; ++tries) {
        least_taken = std::min(least_taken, this_core::give_away());
    }
    return std::clamp(4 * least_taken, shortest, longest);
}

const int spin_budget::pauses_ = pauses_of_a_rest();
const std::chrono::nanoseconds spin_budget::taken_up_ = longest_idle_yield();

}  // namespace places::shm
