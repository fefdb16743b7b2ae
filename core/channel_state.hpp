// SPDX-License-Identifier: Apache-2.0
// One open end of a channel: whole messages, in as many records as they take. Not installed.
#pragma once

#include "core/caller.hpp"
#include "core/control.hpp"

#include <places/core/place.hpp>
#include <places/shm/endpoint.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

// Edges:
//   [memory]  has_peer_memory_  pump release -> owner acquire   the descriptor is in peer_memory_

namespace places::detail {

class process;

/// Whether a process can end so.
bool is_possible(const exit_status& how) noexcept;

/// One open end of a channel. Made by process; closing tells peer and nursery.
/// One thread at a time, but for what process::pump marks: the peer's death. In a forked process it
/// is not destroyed: that would shut the parent's end.
class channel_state {
  public:
    /// `mine`: the memory that this end writes, which nobody else has yet; sealed afterwards.
    /// Throws: as shm::endpoint.
    channel_state(process& self, const control::granted& grant, const unique_fd& mine,
                  unique_fd peer_doorbell);
    ~channel_state();
    channel_state(const channel_state&) = delete;
    channel_state& operator=(const channel_state&) = delete;

    shm::endpoint& end() noexcept { return end_; }
    process& self() noexcept { return self_; }
    std::uint64_t id() const noexcept { return end_.channel_id(); }
    /// Which of the channel's two ends this is, as in control::granted.
    std::uint8_t number() const noexcept { return number_; }
    /// What comes here ends when this place is asked to stop: what had been published then is still
    /// received, and at most as much more as the ring holds, then `closed`. Sending goes on.
    void end_with_stop() noexcept { ends_with_stop_ = true; }
    std::uint64_t peer_id() const noexcept { return peer_id_; }
    int peer_pid() const noexcept { return peer_pid_; }
    bool peer_is_bridge() const noexcept { return peer_is_bridge_; }

    // -- who may call; see caller.hpp --

    /// The first step of every call: of one thread at a time, in the process that holds the end.
    /// Throws: error{misuse}.
    void check_caller() {
        // relaxed: this thread's own words, but for a misuse, which has no order to keep.
        const auto here = origin_.load(std::memory_order_relaxed) ^ thread_token();
        // relaxed: as above
        if (user_.load(std::memory_order_relaxed) != here) admit(here);
    }
    /// Whether this process is forked from the one that holds the end: it leaves all as it is.
    bool is_forked() const noexcept {
        return origin_.load(std::memory_order_relaxed) == 0;  // relaxed: as in fork_mark
    }
    wait_mark& waits() noexcept { return waits_; }
    /// This thread waits here from now on, which the mark says already: a thread that has called
    /// just before is found by its next call.
    void claim() noexcept {
        // relaxed: as in check_caller()
        user_.store(origin_.load(std::memory_order_relaxed) ^ thread_token(),
                    std::memory_order_relaxed);
    }

    // -- receiving: whole messages, whatever they came in --

    /// The next message; it stays valid, and next, until release() or skip(). One over the limit
    /// is passed over by the call that says too_large.
    shm::peeked next_message(shm::deadline until);
    /// Whether next_message would say anything but empty. Takes in the parts that have come. Once
    /// true, it stays so until the message is taken: a sender that takes back what was seen here
    /// has broken the ring, and next_message says corrupt.
    bool has_message();
    /// Whether the last look stopped with parts still to be taken in, for which the sender calls
    /// nobody: look again instead of sleeping.
    bool was_cut_short() const noexcept { return was_cut_short_; }
    /// Writes to the node's log that next_message has passed over a message, as too_large.
    void log_passed_over() const;
    /// The message that next_message has shown, taken out.
    message take(const shm::record_view& shown);
    /// Gives back the message last shown, and all before it.
    void consume();
    /// Gives back what was skipped; where nothing was, the message last shown.
    void release();
    /// Steps over the message last shown without giving back its space.
    void skip();
    /// Copies the raw values of that type which come next and are there, and steps over them.
    /// Shape:   `into` holds a number of them, of `size` each.  Returns: how many.
    std::size_t take_run(std::uint16_t type, std::size_t size, std::span<std::byte> into);
    /// Whether what was shown lies in the ring, not in memory of this end.
    bool is_in_ring() const noexcept { return !incoming_.is_complete; }
    /// Gives back what was skipped; whoever waits looks again if a part was kept from it.
    void release_skipped();
    void give_back_shown() {
        if (!holds_skipped_) return;
        check_caller();
        release_skipped();
    }

    // -- sending --

    /// Returns: as channel::put.  Blocks: until `until`.
    status put(message_kind k, std::uint16_t type, std::span<const std::byte> payload,
               shm::deadline until);
    shm::loan loan(std::size_t bytes, shm::deadline until);
    /// Adds to the batch; publishes what it holds where that is much, or leaves no room.
    status add(message_kind k, std::uint16_t type, std::span<const std::byte> payload,
               shm::deadline until);

    /// As add(), raw values of that type one after the other.
    /// Shape:   `values` holds a number of them, of `size` each.
    /// Returns: the first outcome that is not ok, and how many were taken before it.
    batch_outcome add_run(std::uint16_t type, std::size_t size, std::span<const std::byte> values,
                          shm::deadline until);

    /// A message on its way out in as many records as it takes; `payload` stays where it is.
    /// Dropped half-way, it was never sent.
    struct outgoing {
        message_kind kind;
        std::uint16_t type = 0;
        std::span<const std::byte> payload;
        std::size_t sent = 0;
        bool has_begun = false;
    };
    shm::loan add_loan(std::size_t bytes);
    /// Whether advance() would do or say anything but full.
    bool can_advance(const outgoing& m);
    /// Sends as much as there is room for.
    /// Returns: ok: all of it | full | too_large | closed | peer_dead | corrupt.  Blocks: never.
    status advance(outgoing& m);
    /// Lets others send when `m` is not to be finished.
    void give_up(const outgoing& m) noexcept;
    /// Room that advance() needs to go on.
    std::size_t next_record_bytes(const outgoing& m) noexcept;

    /// As channel::corrupt_at.
    std::optional<std::uint64_t> corrupt_at() const noexcept {
        return incoming_.is_broken ? std::optional{incoming_.broken_at} : end_.corrupt_at();
    }
    std::size_t message_bytes_max() const noexcept { return message_bytes_max_; }
    void set_message_bytes_max(std::size_t limit) noexcept {
        message_bytes_max_ = limit;
        announce_limit();
    }
    /// Largest message that may be sent, by what both ends have said.
    std::size_t sendable_bytes_max() const noexcept {
        const auto theirs = end_.peer_message_bytes_max();
        return theirs == 0 || theirs > message_bytes_max_ ? message_bytes_max_
                                                          : static_cast<std::size_t>(theirs);
    }
    shm::spin_budget& spin() noexcept { return spin_; }

    // -- waiting --

    /// Whether waits on this channel keep the core; see channel::set_busy_poll.
    bool polls() const noexcept { return polls_; }
    void set_polls(bool on);
    /// What whoever keeps this end parked hears of it.
    enum class attention {
        unparked,        ///< somebody else has waited on it, and it is parked no more
        gone,            ///< it ends now
        another_thread,  ///< not the one that called last calls now
    };
    /// One at a time; none at first, and none for an empty `heard`. Of another_thread it throws
    /// error{misuse} while it waits itself.
    void set_park_observer(std::function<void(attention)> heard) {
        park_observer_ = std::move(heard);
    }
    bool has_park_observer() const noexcept { return park_observer_ != nullptr; }
    void was_unparked() {
        if (park_observer_) park_observer_(attention::unparked);
    }

    bool is_last_user_of_doorbell() const noexcept { return peer_doorbell_.use_count() == 1; }

    /// How the place at the other end ended, once that is known. Any thread.
    std::optional<exit_status> peer_status() const;
    /// The bridge at the other end has told how the place behind it has ended, and the packet with
    /// the text is still to come. It comes, or the bridge's death does. Any thread.
    bool awaits_text() const;
    /// For bridges: how the place of another node has ended for which they hold this end. The text
    /// of `how` does not count, as the ring's word has no room for it.
    /// `is_text_sent`: the nursery has a control::peer_ended with it for the process at the other
    /// end, which waits for that packet before it answers peer_status().
    void report_death(const exit_status& how, bool is_text_sent = false) noexcept;
    /// The packet: how the place behind the bridge at the other end has ended. Any thread.
    void place_behind_ended(const exit_status& how);
    /// The process at the other end has ended. Of a bridge it says nothing about the place behind.
    /// The nursery passes on the memory of a process before it tells of its end: a process whose
    /// memory has not come had not opened its end.
    /// `is_reported`: by the nursery. Else that has ended, and may have kept the peer's memory to
    /// itself.
    void peer_died(const exit_status& how, bool is_reported = true);
    /// How the process at the other end ended, once that is known; of a bridge too. Any thread.
    std::optional<exit_status> process_status() const;
    /// The channel is refused: the process at the other end lives, and could not use its end.
    void peer_hung_up(const std::string& why, bool may_have_read);
    /// As channel::sent.
    shm::account sent();
    /// Once the channel is refused: which process could not use its end, and why. Empty before
    /// that, and as long as only the ring says so. Any thread.
    std::string refusal() const;
    /// The same where the ring alone says so: the process at the other end has told the nursery
    /// why before it has shut its half.
    /// Blocks: until the nursery's packet is here, a second at most. Inside a router body suspends
    ///         that body only.
    std::string await_refusal();
    /// Of the channel to a new place that was never attached: what its creator is told.
    std::string why_not_begun();
    /// What a call that answers `s` says of it; of `refused` with the refusal.
    reason reason_of(status s);

    // -- the other end's memory, which comes later --

    /// Takes the descriptor to where take_up_peer() finds it. Any thread.
    void peer_memory_came(unique_fd memory);
    /// Attaches that memory once it has come. Where that fails, the channel is refused at both
    /// ends. Takes the packets that wait, of which it may be one. Throws: as process::pump(). Not
    /// between the look at a bell and the sleep that watches it.
    void take_up_peer() {
        if (!end_.is_attached()) look_for_peer();
    }
    /// The same, but takes no packets: for handlers that pump() itself may call.
    void attach_if_come() {
        // acquire [memory]: the descriptor is there.
        if (has_peer_memory_.load(std::memory_order_acquire)) attach_peer();
    }
    /// Returns once the other end's memory is attached, or will never come.
    /// Blocks: until then; inside a router body suspends that body only.
    void await_peer();
    bool is_attached() const noexcept { return end_.is_attached(); }
    /// The nursery has this end's memory: it is in use from now on.
    void was_shared() noexcept { is_shared_ = true; }

  private:
    static std::shared_ptr<process> life_of(process& self) noexcept;
    bool is_text_to_come() const;
    void look_for_peer();
    void attach_peer();
    void admit(std::uint64_t caller);
    void announce_limit() noexcept;
    status next_now(shm::record_view& into);
    bool is_stopped() noexcept;
    shm::peeked await_message(shm::deadline until);
    bool take_in(const shm::record_view& part);
    /// The message that was seen is taken: what comes next is another.
    void forget_seen() noexcept {
        if (seen_ == status::ok) seen_ = status::empty;
    }
    void drop_incoming();
    status fail();
    status await_turn(shm::deadline until);
    status await_end_of_parts(shm::deadline until);
    status await_room(std::size_t bytes, shm::deadline until);
    status put_parts(outgoing m, shm::deadline until);

    process& self_;
    // None in a place, where the process is never destroyed.
    std::shared_ptr<process> life_ = life_of(self_);
    const std::atomic<std::uint64_t>& origin_;  // of the process that holds this end
    std::atomic<std::uint64_t> user_ = 0;       // thread and process of the last call
    wait_mark waits_;
    std::uint64_t peer_id_;
    int peer_pid_;
    std::uint8_t number_;
    bool peer_is_bridge_;
    bool is_shared_ = false;
    std::atomic<bool> has_peer_memory_ = false;
    std::shared_ptr<unique_fd> peer_doorbell_;
    shm::endpoint end_;
    shm::spin_budget spin_;
    mutable std::mutex mutex_;
    std::optional<exit_status> peer_status_;
    // Of the process, where that is a bridge: no packet of it comes any more.
    std::optional<exit_status> bridge_status_;
    unique_fd peer_memory_;           // until it is attached
    bool peer_has_opened_ = false;    // its end, so it may read what is sent
    bool peer_never_opened_ = false;  // and never will
    std::string refusal_;
    std::uint64_t last_selected_ = 0;
    bool polls_ = false;
    std::function<void(attention)> park_observer_;
    friend struct state_of;

    std::size_t message_bytes_max_ = max_message_bytes_default;
    bool has_announced_limit_ = false;
    bool ends_with_stop_ = false;
    std::optional<std::uint64_t> stop_at_;  // position; from there on nothing is received
    bool holds_skipped_ = false;            // what was skipped may still be looked at
    bool withholds_part_ = false;  // there is one behind that, which is not taken in meanwhile
    bool was_cut_short_ = false;
    // What the last look said of the next message, until it is taken: ok, or why none comes. It
    // does not change any more, whatever the other end writes.
    status seen_ = status::empty;
    bool is_sending_parts_ = false;  // of one body's message; those of another wait
    // The message whose parts are coming in; the last of them stays in the ring until release().
    struct {
        std::vector<std::byte> octets;
        std::uint16_t kind = 0;
        std::uint16_t type = 0;
        std::uint64_t expected_bytes = 0;  // 0 when there is none
        std::uint64_t come_bytes = 0;      // of those
        bool is_over_limit = false;        // none of its octets is kept
        bool is_complete = false;
        bool is_broken = false;
        std::uint64_t broken_at = 0;
    } incoming_;
};

/// The state of a channel, for those who wait on several.
struct state_of {
    static channel_state* get(const channel& c) noexcept { return c.state_.get(); }
    /// Larger the later select() has picked this channel.
    static std::uint64_t& last_selected(channel_state& c) noexcept { return c.last_selected_; }
};

}  // namespace places::detail
