// SPDX-License-Identifier: Apache-2.0
// What the nursery waits for. Not installed.
#pragma once

#include <places/shm/unique_fd.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <sys/epoll.h>

namespace places::launcher {

/// Owns the epoll set, not the descriptors in it. Level-triggered: what is left undone comes again.
class event_set {
  public:
    enum class source : std::uint64_t {
        control,   ///< a member's control socket
        life,      ///< a member's pidfd: it has ended
        children,  ///< a child of the nursery has ended, a member or not
        reaper,    ///< the reaper has ended, which only a kill of it does
    };
    struct event {
        std::uint64_t member_id = 0;
        source from = source::control;
        bool has_room = false;  ///< of a control socket that this was asked of
    };

    /// Throws: std::system_error.
    event_set();
    /// Throws: std::system_error.
    void add(int fd, source from, std::uint64_t member_id);
    /// Whether a control socket's room is news too. Nothing, for one that has been removed.
    void want_room(int control_socket, std::uint64_t member_id, bool wanted) noexcept;
    void remove(int fd) noexcept;

    /// Returns: what has happened, good until the next call; nothing after a signal or `limit`.
    /// Blocks:  until something has.
    std::span<const event> wait(std::optional<std::chrono::milliseconds> limit);

  private:
    // A turn's worth; what is beyond waits in the kernel.
    static constexpr std::size_t turn_max = 64;

    unique_fd epoll_;
    std::array<event, turn_max> turn_;
};

}  // namespace places::launcher
