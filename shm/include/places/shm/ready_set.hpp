// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <places/shm/unique_fd.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace places::shm {

/// Where the ends parked in doorbell mode are called: one descriptor per process, however many
/// channels. The queue of channel ids lies in the kernel, so a process that scribbles over the
/// memory it may write cannot lose another's call. When it has overflowed, every channel may be
/// ready and the owner looks at all of them.
/// The queue is a pair of sockets: a peer sends into the doorbell and can read nothing from it.
/// Invariant: each park is answered by at most one id, so an honest queue stays short.
class ready_set {
  public:
    struct ends {
        unique_fd reader;    ///< for the owner
        unique_fd doorbell;  ///< for the nursery, which hands duplicates to peers
    };
    /// Throws: std::system_error.
    static ends make();

    /// Throws: std::system_error.
    explicit ready_set(unique_fd reader);
    ready_set(ready_set&&) noexcept;
    ready_set& operator=(ready_set&&) noexcept;
    ~ready_set();

    /// Readable when a peer has called; level-triggered.
    int native_handle() const noexcept { return reader_.get(); }

    struct wakeups {
        std::vector<std::uint64_t> channel_ids;
        bool overflowed = false;
    };
    /// Takes all wakeups that are there. Ids may repeat and may be of channels gone by now.
    /// Blocks: never.
    wakeups take();

  private:
    struct messages;

    unique_fd reader_;
    std::size_t overflow_wakeups_ = 0;    // taken at once, the queue may have been full
    std::size_t taken_wakeups_max_ = 0;   // at once
    std::unique_ptr<messages> messages_;  // on the heap: a router body runs on a small stack
};

/// Puts `channel_id` into the ready_set behind `doorbell_fd`. A full queue needs no second call:
/// the owner then looks everywhere. Works, to no effect, when the owner is dead.
/// Blocks: never, whatever flags another holder of the doorbell has set.
void ring_doorbell(int doorbell_fd, std::uint64_t channel_id) noexcept;

}  // namespace places::shm
