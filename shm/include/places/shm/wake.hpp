// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

// Sleeping and waking between processes. Never std::atomic::wait: libstdc++ uses private futexes.

namespace places::shm {

using deadline = std::chrono::steady_clock::time_point;
inline constexpr deadline no_deadline = deadline::max();

/// A word that ends a wait once it differs from `expected`. A read-only mapping will do.
struct watched_word {
    const std::atomic<std::uint32_t>* word;
    std::uint32_t expected;
};

inline constexpr std::size_t watched_words_max = 128;  // FUTEX_WAITV_MAX of Linux

/// Sleeps until one of `words` differs from its expected value and was woken, a signal arrives, or
/// `until` passes. May return early: the caller looks again.
/// Shape:   1..watched_words_max words.
/// Returns: false when `until` has passed. A word that differs comes first.
/// Throws:  std::system_error where the kernel has no futex_waitv (before Linux 5.16);
///          std::invalid_argument for the shape.
bool sleep_until_changed(std::span<const watched_word> words, deadline until);

/// Wakes every process that sleeps on `word`. Never blocks.
void wake_all(const std::atomic<std::uint32_t>& word) noexcept;

/// Says whether a short wait is likely to be short, from how the last ones went: looks some times
/// with a rest between, then gives the core away with sched_yield, up to a budget of at most 50 µs
/// that failures halve. Where others take turns on this core, it gives it away before it looks at
/// rest; where it may run on no other core, and somebody wants this one, once; where somebody kept
/// it, not at all the next 64 times. Each sixteenth that gives it away looks for long again. One
/// thread.
class spin_budget {
  public:
    /// Looks before the core is given away.
    static constexpr int look_count = 32;
    /// The one that this thread runs on.
    struct this_core {
        /// Returns: for how long it was gone.
        static std::chrono::nanoseconds give_away() noexcept;
        /// Whether this thread may run on no other.
        static bool is_only_one() noexcept;
    };

    /// Calls `ready` until it is true or the budget is spent. Returns whether it became true.
    template <class Ready>
    bool spin(Ready&& ready) {
        return spin(ready, this_core{});
    }
    /// The same on a core that `core` stands for.
    template <class Ready, class Core>
    bool spin(Ready&& ready, Core&& core);
    /// The same for so short a time that the core is not given away; once where it is wanted.
    template <class Ready>
    bool spin_briefly(Ready&& ready) {
        return is_core_shared_ ? ready() : poll(ready);
    }
    /// The same for what comes bit by bit, in as long a time with few looks, ever further apart:
    /// each takes the line from who writes it.
    template <class Ready>
    bool spin_sparsely(Ready&& ready);
    /// The same whoever wants the core.
    template <class Ready>
    static bool poll(Ready&& ready);

  private:
    using clock = std::chrono::steady_clock;
    static constexpr std::chrono::nanoseconds most{50'000};
    static constexpr std::chrono::nanoseconds least{2'000};
    // Two that wait for each other asleep would never learn how short their waits could be.
    static constexpr unsigned long_every = 16;
    // Whoever keeps the core for longer takes no turns: to give it away again would cost as much.
    static constexpr std::chrono::nanoseconds turns_most{200'000};
    // Nor does it end its turn before the kernel ends its time slice, while a sleeper that is
    // called may take it from them at once. Places that take turns have it for less.
    static constexpr std::chrono::nanoseconds hog_least{1'000'000};
    static constexpr unsigned hogged_most = 64;
    static void rest() noexcept;
    static void pause() noexcept;
    static int pauses_of_a_rest() noexcept;
    static std::chrono::nanoseconds longest_idle_yield() noexcept;

    // Each look takes the line away from whoever is about to write it, and that costs more than
    // to look later. Best on the machines tried is some half of what a line takes to come over.
    static constexpr std::chrono::nanoseconds rest_time{80};
    // As many as take that long here: found before main(), and until then 0, which is no rest.
    static const int pauses_;
    // A yield that nobody takes up is over in less.
    static const std::chrono::nanoseconds taken_up_;

    std::chrono::nanoseconds budget_ = most;
    unsigned failure_count_ = 0;
    unsigned alone_count_ = 0;   // yields taken up on the only core
    unsigned hogged_count_ = 0;  // spins to come that give the core to nobody
    bool is_core_shared_ = false;  // the core was given away last to who takes turns
};

// -- bodies --

template <class Ready>
bool spin_budget::poll(Ready&& ready) {
    for (int i = 0; i < look_count; ++i) {
        if (ready()) return true;
        rest();
    }
    return false;
}

template <class Ready>
bool spin_budget::spin_sparsely(Ready&& ready) {
    if (is_core_shared_) return ready();
    for (int rests = 1; rests < look_count; rests *= 2) {
        for (int i = 0; i < rests; ++i) rest();
        if (ready()) return true;
    }
    return false;
}

template <class Ready, class Core>
bool spin_budget::spin(Ready&& ready, Core&& core) {
    if (spin_briefly(ready)) return true;
    if (hogged_count_ > 0) {
        --hogged_count_;
        return false;
    }
    const auto start = clock::now();
    bool was_taken_up = false;
    do {
        // Not with the look, which may be a message's copy.
        const auto gone = core.give_away();
        const bool is_taken_up = gone >= taken_up_;
        const bool is_only_one = is_taken_up && core.is_only_one();
        // However long it was gone; now and then not, for who is waited for may have another core.
        is_core_shared_ =
            is_only_one ? ++alone_count_ % long_every != 0 : is_taken_up && gone < turns_most;
        was_taken_up = was_taken_up || is_taken_up;
        if (gone >= hog_least) hogged_count_ = hogged_most;
        if (ready()) {
            budget_ = most;
            return true;
        }
        // Whoever is waited for may need it, and each that waits here would take it again.
        if (is_only_one || hogged_count_ > 0) return false;
    } while (clock::now() - start < budget_);
    if (++failure_count_ % long_every == 0) {
        budget_ = most;
        is_core_shared_ = false;
    } else if (!was_taken_up) {
        budget_ = std::max(budget_ / 2, least);
    }
    return false;
}

inline void spin_budget::rest() noexcept {
    for (int i = pauses_; i > 0; --i) pause();
}

inline void spin_budget::pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace places::shm
