// SPDX-License-Identifier: Apache-2.0
// Which thread of which process calls, and what is said when it may not. Not installed.
#pragma once

#include <places/core/error.hpp>

#include <atomic>
#include <cstdint>
#include <string>
#include <sys/syscall.h>
#include <unistd.h>

// Who may call, and how a wrong call is found:
//   a channel is used by one thread at a time. Each call compares one number, of thread and
//   process, with that of the call before. Only where they differ it looks closer:
//     the process was forked by the program   error{misuse}: its parent's ends are not its own
//     another thread waits in a call, or in   error{misuse}: two threads use it at once
//     the loop of an async_channel
//     neither                                 the channel was handed over, as it may be
//   Two threads that take turns without ever meeting in a wait are not found.

namespace places::detail {

/// Not zero, and another for every thread that lives.
inline std::uint64_t thread_token() noexcept {
    static thread_local constinit char here = 0;
    return reinterpret_cast<std::uintptr_t>(&here);
}

/// One word on a page of its own, which the kernel zeroes in a process that is forked from here.
class fork_mark {
  public:
    /// Throws: std::system_error.
    fork_mark();
    ~fork_mark();
    fork_mark(const fork_mark&) = delete;
    fork_mark& operator=(const fork_mark&) = delete;

    const std::atomic<std::uint64_t>& word() const noexcept { return *word_; }
    bool is_forked() const noexcept {
        // relaxed: written once, before any other thread knows of it; then by fork() alone.
        return word_->load(std::memory_order_relaxed) == 0;
    }
    /// Throws: error{misuse}.
    void check() const {
        if (is_forked()) throw_forked();
    }

  private:
    [[noreturn]] static void throw_forked();
    std::atomic<std::uint64_t>* word_;
};

/// That a thread waits in a call: for other threads to see. Written by threads that use its owner
/// one at a time; read by one that should not.
class wait_mark {
  public:
    /// While it lives, this thread waits there. Bodies of one router wait side by side.
    class scope {
      public:
        scope(wait_mark& mark, const char* call) noexcept : mark_(mark) { mark_.enter(call); }
        ~scope() { mark_.leave(); }
        scope(const scope&) = delete;
        scope& operator=(const scope&) = delete;

      private:
        wait_mark& mark_;
    };

    void enter(const char* call) noexcept {
        // relaxed: a hint. Who misses it was not asleep here when the other called.
        call_.store(call, std::memory_order_relaxed);
        thread_id_.store(own_thread_id(), std::memory_order_relaxed);  // relaxed: as above
        token_.store(thread_token(), std::memory_order_relaxed);       // relaxed: as above
        ++count_;
    }
    void leave() noexcept {
        // relaxed: as in enter().
        if (--count_ == 0) token_.store(0, std::memory_order_relaxed);
    }
    /// Throws: error{misuse} naming that channel while another thread waits there.
    void check(std::uint64_t channel_id) const;

  private:
    static int own_thread_id() noexcept {
        static thread_local constinit int id = 0;
        if (id == 0) id = static_cast<int>(::syscall(SYS_gettid));
        return id;
    }

    std::atomic<std::uint64_t> token_ = 0;  // 0 while no thread waits
    std::atomic<int> thread_id_ = 0;
    std::atomic<const char*> call_ = nullptr;
    int count_ = 0;
};

}  // namespace places::detail
