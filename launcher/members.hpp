// SPDX-License-Identifier: Apache-2.0
// The processes of a node that hold a control socket, and the packets that wait for them. Not
// installed.
#pragma once

#include "core/control.hpp"
#include "launcher/channel_table.hpp"
#include "launcher/event_set.hpp"
#include "launcher/nursery.hpp"

#include <boost/interprocess/mapped_region.hpp>

#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <sys/types.h>
#include <vector>

namespace places::launcher {

/// The board's slots but the root's.
inline constexpr std::size_t beside_root_max = control::board_slots - 1;

/// Waits in the nursery while the control socket it is for is full.
struct queued_packet {
    control::packet content;
    std::vector<unique_fd> fds;
};

/// A process of the node that holds a control socket: the root, a place or the bridge.
struct member {
    std::uint64_t id = 0;
    pid_t pid = 0;
    std::uint32_t slot = 0;
    unique_fd control;
    unique_fd doorbell;
    unique_fd pidfd;
    std::string name;
    std::string entry;  ///< for people
    bool is_bridge = false;
    bool polls = false;  ///< keeps a core while it waits
    bool is_stop_asked = false;
    std::string exception_text;  ///< of the exception that ends it, as it says; bounded, printable
    std::uint64_t creator = 0;  ///< 0: none
    std::uint64_t birth_channel = 0;  ///< to its creator
    std::uint64_t connection_ring_bytes_max = control::connection_ring_bytes_default;
    std::chrono::steady_clock::time_point born = std::chrono::steady_clock::now();
    std::deque<queued_packet> outbox;
    std::uint64_t dropped_notes = 0;
};

/// A `failed` answer; too long a text is cut.
control::packet failure(std::uint64_t request, errc code, std::string text);

/// Owns the members, the board on which they see that a packet waits, and the table of their
/// channels. Reaps nobody; never blocks.
/// What is sent to somebody arrives in order, or is told to those it concerns: an answer that
/// cannot go becomes a `failed` one, and who shares a channel with somebody that cannot be given
/// its end hears `hung_up`. Only what is for the dead is lost; of them the nursery tells itself.
/// A packet without descriptors that the kernel has no memory for stays, with all behind it, and
/// is tried again: no other packet would tell of the death it tells of, say. One with descriptors
/// is given up at once, as the asker can ask again and would hold memory while it waits.
class members {
  public:
    /// `board` is sealed against other writers. Throws: std::system_error.
    members(const unique_fd& board, event_set& events);

    std::uint64_t next_id() noexcept { return next_id_++; }
    /// Throws: std::runtime_error when there is none.
    std::uint32_t unused_slot() const;
    /// Returns: good until it is removed.
    /// Throws:  std::system_error; then `r` has not been added.
    member& add(member r);
    /// Its pid has been reaped, or is the root's.
    void remove(std::uint64_t id);

    member* find(std::uint64_t id);
    member* find_named(const std::string& name);
    member* bridge();
    bool has_pid(pid_t pid) const;
    std::size_t count_places() const;
    std::size_t count_polling() const;
    /// Those with a number above `after`, by number, at most `count_max`.
    std::vector<const member*> above(std::uint64_t after, std::size_t count_max) const;
    channel_table& channels() noexcept { return channels_; }

    /// Kills everybody but the root; the bridge only if it is not kept.
    void kill_all(bool keep_bridge) noexcept;
    static void kill(const member& r) noexcept;

    /// Sends `p` when there is room for it. Loses it only as told above.
    void send(member& to, control::packet p, std::vector<unique_fd> fds = {});
    /// The same, but tells nobody when it cannot go at once.
    /// Returns: why it never will, and what to do about it.
    std::optional<std::string> try_send(member& to, control::packet p, std::vector<unique_fd> fds);
    /// There is room in its socket.
    void flush(member& to);
    /// `place` could not use that end of the channel: the holder of the other one is told why. A
    /// place whose creator does not get its channel is ended, since nobody would know of it.
    void hang_up(std::uint64_t channel, std::uint64_t place, std::uint8_t end,
                 const std::string& why);

    /// How long to wait until retry(), if somebody's packets wait for the kernel's memory.
    std::optional<std::chrono::milliseconds> retry_after() const noexcept;
    void retry();

  private:
    std::optional<std::string> try_send(member& to, queued_packet& next);
    void report_loss(member& to, const control::packet& p, const std::string& why);
    void announce(const member& to, const control::packet& sent);

    event_set& events_;
    boost::interprocess::mapped_region board_;
    // No hash tables, as in channel_table.
    std::map<std::uint64_t, member> all_;  // references into it stay good
    std::set<pid_t> pids_;
    channel_table channels_;
    std::vector<std::uint32_t> unused_slots_;
    std::set<std::uint64_t> starved_;  // whose next packet the kernel has no memory for
    std::uint64_t next_id_ = root_place_id + 1;
};

}  // namespace places::launcher
