// SPDX-License-Identifier: Apache-2.0
#include "core/caller.hpp"

#include <places/shm/unique_fd.hpp>

#include <new>
#include <sys/mman.h>

namespace places::detail {
namespace {

// No bit of an address, so that thread and process are compared in one word.
constexpr std::uint64_t not_forked = std::uint64_t{1} << 63;

std::size_t page_bytes() noexcept { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

}  // namespace

fork_mark::fork_mark() {
    // Private and anonymous, or the kernel wipes nothing.
    void* const page =
        ::mmap(nullptr, page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) checked(-1, "map the page that a fork wipes");
    word_ = new (page) std::atomic<std::uint64_t>{not_forked};
    try {
        checked(::madvise(page, page_bytes(), MADV_WIPEONFORK), "madvise(MADV_WIPEONFORK)");
    } catch (...) {
        ::munmap(page, page_bytes());
        throw;
    }
}

fork_mark::~fork_mark() { ::munmap(word_, page_bytes()); }

void fork_mark::throw_forked() {
    throw error(errc::misuse, "process " + std::to_string(::getpid()) +
                                  " was forked by the program itself: the channels, places and "
                                  "nodes of its parent are not its own. Start a place with "
                                  "places::spawn instead, or let the forked process call exec");
}

void wait_mark::check(std::uint64_t channel_id) const {
    // relaxed: as in enter().
    const auto by = token_.load(std::memory_order_relaxed);
    if (by == 0 || by == thread_token()) return;
    // relaxed: for the text alone, which may name the call before or the next one.
    const auto* const call = call_.load(std::memory_order_relaxed);
    const int waiting = thread_id_.load(std::memory_order_relaxed);  // relaxed: as above
    throw error(errc::misuse, "channel " + std::to_string(channel_id) +
                                  " is used by two threads at once: thread " +
                                  std::to_string(waiting) + " waits in " + call + " while thread " +
                                  std::to_string(own_thread_id()) +
                                  " calls. Give each thread a channel of its own, or let one "
                                  "thread at a time use it");
}

}  // namespace places::detail
