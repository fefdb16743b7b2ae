// SPDX-License-Identifier: Apache-2.0
#include <places/shm/ready_set.hpp>

#include <array>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <unistd.h>

namespace places::shm {

ready_set::ends ready_set::make() {
    int fds[2];
    checked(::pipe2(fds, O_CLOEXEC | O_NONBLOCK), "make a doorbell");
    unique_fd reader{fds[0]};
    const unique_fd writer{fds[1]};
    // A doorbell that is open for reading too never raises SIGPIPE: the caller of a dead process
    // fills the queue and is told EAGAIN.
    char path[32];
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", writer.get());
    auto doorbell = checked_fd(::open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC),
                               "re-open a doorbell for both ways");
    return {std::move(reader), std::move(doorbell)};
}

ready_set::ready_set(unique_fd reader)
    : reader_(std::move(reader)),
      capacity_bytes_(static_cast<std::size_t>(
          checked(::fcntl(reader_.get(), F_GETPIPE_SZ), "size of a doorbell's queue"))) {}

ready_set::calls ready_set::take() {
    calls result;
    std::array<std::uint64_t, 512> buffer;
    std::size_t total = 0;
    while (true) {
        const auto got = ::read(reader_.get(), buffer.data(), sizeof buffer);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        const auto bytes = static_cast<std::size_t>(got);
        total += bytes;
        // Every caller writes whole ids at once; one that did not has garbled its neighbours'.
        if (bytes % sizeof(std::uint64_t) != 0) result.overflowed = true;
        result.channel_ids.insert(result.channel_ids.end(), buffer.begin(),
                                  buffer.begin() + static_cast<std::ptrdiff_t>(bytes / 8));
        // Stop at a whole queue: a flood must not keep us here.
        if (total >= capacity_bytes_) break;
    }
    // A caller that found the queue full left no id. Full is counted in pages, of which the first
    // may have been read in part: so half a queue is the least that can have been full.
    if (total >= capacity_bytes_ / 2) result.overflowed = true;
    return result;
}

void ring_doorbell(int doorbell_fd, std::uint64_t channel_id) noexcept {
    // EAGAIN: the queue is full, and its reader will look everywhere.
    while (::write(doorbell_fd, &channel_id, sizeof channel_id) < 0 && errno == EINTR) {
    }
}

}  // namespace places::shm
