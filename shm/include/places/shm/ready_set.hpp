// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <places/shm/unique_fd.hpp>

#include <cstdint>
#include <vector>

namespace places::shm {

/// Where the ends parked in doorbell mode are called: one descriptor per process, however many
/// channels. The queue of channel ids lies in the kernel, so a process that scribbles over the
/// memory it may write cannot lose another's call. When it has overflowed, every channel may be
/// ready and the owner looks at all of them.
/// Invariant: each park is answered by at most one id, so an honest queue stays short.
class ready_set {
  public:
    struct ends {
        unique_fd reader;    ///< for the owner
        unique_fd doorbell;  ///< for the nursery, which hands duplicates to peers
    };
    /// Throws: std::system_error.
    static ends make();

    explicit ready_set(unique_fd reader);

    /// Readable when somebody has called; level-triggered.
    int native_handle() const noexcept { return reader_.get(); }

    struct calls {
        std::vector<std::uint64_t> channel_ids;
        bool overflowed = false;
    };
    /// Takes all calls that are there. Ids may repeat and may be of channels gone by now.
    /// Blocks: never.
    calls take();

  private:
    unique_fd reader_;
    std::size_t capacity_bytes_;
};

/// Puts `channel_id` into the ready_set behind `doorbell_fd`. A full queue needs no second call:
/// the owner then looks everywhere. Works, to no effect, when the owner is dead.
/// Blocks: never.
void ring_doorbell(int doorbell_fd, std::uint64_t channel_id) noexcept;

}  // namespace places::shm
