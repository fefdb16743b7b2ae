// SPDX-License-Identifier: Apache-2.0
// This process as a member of its node: what channels, inboxes, routers and bridges wait with.
// Not installed.
#pragma once

#include "core/control.hpp"

#include <places/core/place.hpp>
#include <places/shm/endpoint.hpp>
#include <places/shm/ready_set.hpp>

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

// Edges (the nursery's ends are in launcher/residents.cpp):
//   [notice]  board word   nursery release -> place acquire   a packet waits in the control socket
//   [news]    news_        pump release -> wait acquire       what a packet has changed
//   [answer]  arrived      pump release -> request acquire    the answer is complete

namespace places::detail {

class process;

/// One open end of a channel. Made by process; closing tells peer and nursery.
/// One thread at a time, but for what process::pump marks: the peer's death.
class channel_state {
  public:
    channel_state(process& home, const control::granted& grant, std::vector<unique_fd> fds);
    ~channel_state();
    channel_state(const channel_state&) = delete;
    channel_state& operator=(const channel_state&) = delete;

    shm::endpoint& end() noexcept { return end_; }
    process& home() noexcept { return home_; }
    std::uint64_t id() const noexcept { return end_.channel_id(); }
    std::uint64_t peer_id() const noexcept { return peer_id_; }
    int peer_pid() const noexcept { return peer_pid_; }
    bool peer_is_bridge() const noexcept { return peer_is_bridge_; }

    // -- receiving: whole messages, whatever they came in --

    /// The next message; it stays valid, and next, until release() or skip().
    shm::peeked next_message(shm::deadline until);
    /// Whether next_message would say anything but empty. Takes in the parts that have come.
    bool has_message();
    /// The message that next_message has shown, taken out.
    message take(const shm::record_view& shown);
    /// Gives back the message last shown, and all before it.
    void consume();
    /// Gives back what was skipped; where nothing was, the message last shown.
    void release();
    /// Steps over the message last shown without giving back its space.
    void skip();
    /// Whether what was shown lies in the ring, not in memory of this end.
    bool is_in_ring() const noexcept { return !incoming_.is_complete; }
    /// Gives back what was skipped.
    void release_skipped();

    // -- sending --

    /// Returns: as channel::put.  Blocks: until `until`.
    status put(kind k, std::uint16_t type, std::span<const std::byte> payload, shm::deadline until);
    shm::loan loan(std::size_t bytes, shm::deadline until);
    /// Adds to the batch; publishes what it holds where that is much, or leaves no room.
    status add(kind k, std::uint16_t type, std::span<const std::byte> payload, shm::deadline until);

    /// A message on its way out in as many records as it takes; `payload` stays where it is.
    /// Dropped half-way, it was never sent.
    struct outgoing {
        kind what;
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

    std::size_t message_bytes_max() const noexcept { return message_bytes_max_; }
    void set_message_bytes_max(std::size_t limit) noexcept { message_bytes_max_ = limit; }
    shm::spin_budget& spin() noexcept { return spin_; }

    // -- waiting --

    /// Whether waits on this channel keep the core; see channel::set_busy_poll.
    bool polls() const noexcept { return polls_; }
    void set_polls(bool on);
    /// What whoever keeps this end parked hears of it.
    enum class attention {
        unparked,  ///< somebody else has waited on it, and it is parked no more
        gone,      ///< it ends now
    };
    /// One at a time; none at first, and none for an empty `heard`.
    void set_attendant(std::function<void(attention)> heard) { attendant_ = std::move(heard); }
    bool has_attendant() const noexcept { return attendant_ != nullptr; }
    void was_unparked() {
        if (attendant_) attendant_(attention::unparked);
    }

    bool is_last_user_of_doorbell() const noexcept { return peer_doorbell_.use_count() == 1; }

    /// How the place at the other end ended, once that is known. Any thread.
    std::optional<exit_status> peer_status() const;
    /// The process at the other end has ended. Of a bridge it says nothing about the place behind.
    void peer_died(exit_status how);
    /// The other end was never in use, and will not be.
    void peer_hung_up() noexcept { end_.peer_died(); }

  private:
    void bridge_reported(const shm::record_view& record);
    shm::peeked next_now();
    bool take_in(const shm::record_view& part);
    void drop_incoming();
    shm::peeked fail();
    status await_turn(shm::deadline until);
    status await_end_of_parts(shm::deadline until);
    status await_room(std::size_t bytes, shm::deadline until);
    status put_parts(outgoing m, shm::deadline until);

    process& home_;
    std::uint64_t peer_id_;
    int peer_pid_;
    bool peer_is_bridge_;
    std::shared_ptr<unique_fd> peer_doorbell_;
    shm::endpoint end_;
    shm::spin_budget spin_;
    mutable std::mutex mutex_;
    std::optional<exit_status> peer_status_;
    std::uint64_t last_selected_ = 0;
    bool polls_ = false;
    std::function<void(attention)> attendant_;
    friend struct state_of;

    std::size_t message_bytes_max_ = max_message_bytes_default;
    bool holds_skipped_ = false;     // what was skipped may still be looked at
    bool is_sending_parts_ = false;  // of one body's message; those of another wait
    // The message whose parts are coming in; the last of them stays in the ring until release().
    struct {
        std::vector<std::byte> octets;
        std::uint16_t what = 0;
        std::uint16_t type = 0;
        std::uint64_t expected_bytes = 0;  // 0 when there is none
        bool is_complete = false;
        bool is_broken = false;
    } incoming_;
};

/// The state of a channel, for those who wait on several.
struct state_of {
    static channel_state* get(const channel& c) noexcept { return c.state_.get(); }
    /// Larger the later select() has picked this channel.
    static std::uint64_t& last_selected(channel_state& c) noexcept { return c.last_selected_; }
};

/// What a wait is about: a record to read, or room to write, on one channel.
struct interest {
    channel_state* channel = nullptr;
    bool record = false;
    bool room = false;
    std::size_t room_bytes = 0;
};

/// Of one wait, and so of select().
inline constexpr std::size_t interests_max = 120;

/// Waits in place of the thread; a router puts one here while a body of its runs.
class suspender {
  public:
    virtual bool wait(std::span<const interest> on, const std::function<bool()>& ready,
                      shm::deadline until) = 0;

  protected:
    ~suspender() = default;
};

/// Owns the control socket, the ready set, the board and the table of open channels.
/// Exactly one per process, made by the runtime or by the child trampoline.
/// Thread: any, unless said otherwise; handlers run on the thread that called pump().
class process {
  public:
    struct birth {
        unique_fd control;
        unique_fd calls;  ///< reading end of the ready set
        unique_fd board;  ///< descriptor of the board's memory
        std::uint32_t slot = 0;
        std::uint64_t place_id = 0;
        std::string name;  ///< as shown in the log
    };
    explicit process(birth b);
    ~process();
    process(const process&) = delete;
    process& operator=(const process&) = delete;

    /// Throws: error{bad_argument} before a runtime exists.
    static process& current();
    static process* current_or_null() noexcept;

    std::uint64_t place_id() const noexcept { return place_id_; }
    const std::string& name() const noexcept { return name_; }

    /// Asks the nursery and waits for the answer.
    /// Throws: error with the nursery's code and words; error{node_down} when it has ended.
    /// Blocks: until answered; inside a router body suspends that body only.
    control::received request(control::body what, const std::vector<int>& fds = {});
    /// The same without waiting for the answer, which may be `failed`; `on_answer` runs in pump().
    /// Throws: error{node_down} when the nursery has ended; error{too_large}.
    /// Blocks: while the control socket is full.
    void request_async(control::body what, const std::vector<int>& fds,
                       std::function<void(control::received)> on_answer);
    /// Tells the nursery something that has no answer; a dead nursery hears nothing.
    /// Blocks: while the control socket is full.  Throws: never.
    void tell(control::body what) noexcept;

    /// The end described by a `granted` answer, or by an offer.
    /// Throws: error{start_failed}, std::system_error when its memory cannot be had here; the other
    ///         side is then told.
    std::unique_ptr<channel_state> open(const control::granted& grant, std::vector<unique_fd> fds);

    /// Something that a wait may be about has changed, other than by a packet.
    void wake_waits() noexcept { tell_news(); }

    /// Whether a packet may wait. One load; cheap enough for every put and get.
    bool is_notified() const noexcept {
        // acquire [notice]: the packet was sent before the word changed.
        // relaxed: seen_ is a hint; pump() looks again under the lock.
        return word().load(std::memory_order_acquire) != seen_.load(std::memory_order_relaxed) ||
               orphan_word_.load(std::memory_order_relaxed) == orphan_told;
    }
    /// Takes every packet that waits and acts on it.
    /// Throws: what a handler of died throws. A nursery that has ended is reported by the requests.
    void pump();
    bool is_orphan() const noexcept;
    /// The nursery has ended, seen from outside. Wakes every wait.  Blocks: never.
    void orphaned() noexcept;

    int control_handle() const noexcept { return control_.get(); }
    /// The root's last word: the nursery ends the node, and nothing can be asked any more.
    /// Blocks: never.  Idempotent.
    void close_control() noexcept;
    shm::ready_set& calls() noexcept { return calls_; }

    /// Connections offered to this place, in order of arrival.
    std::deque<control::received> take_offers();
    bool has_offers() const;
    /// Grows with every peer that dies: whoever holds parked ends looks at them again.
    std::uint64_t death_count() const noexcept {
        // relaxed: the deaths themselves are read from the ends.
        return death_count_.load(std::memory_order_relaxed);
    }
    /// What `handler` throws is printed on standard error.
    void on_log(std::function<void(const control::log_note&)> handler);
    void on_died(std::function<void(std::uint64_t, exit_status)> handler);

    /// Waits until `ready`, or `until` has passed: returns false then. `ready` is called often.
    /// Shape:  at most interests_max.
    /// Blocks: after a short spin without CPU; inside a router body suspends that body only.
    bool wait(std::span<const interest> on, const std::function<bool()>& ready, shm::deadline until,
              shm::spin_budget& spin);

    /// For channel_state alone: one channel more, or less, that polls. The first asks the nursery
    /// for a core.
    /// Throws: error{no_core}, node_down.
    void begin_polling();
    void end_polling() noexcept;

    /// For channel_state alone: the table of open channels hears of deaths.  Blocks: never.
    void add(channel_state& c);
    void remove(channel_state& c) noexcept;
    /// The one doorbell of that peer this process keeps; `offered` when it has none yet.
    std::shared_ptr<unique_fd> doorbell_of(std::uint64_t peer_id, unique_fd offered);

  private:
    bool take_packet();
    void tell_news() noexcept;
    void act_on(control::received r);
    void fail_requests();
    const std::atomic<std::uint32_t>& word() const noexcept { return *word_; }

    unique_fd control_;
    shm::ready_set calls_;
    boost::interprocess::mapped_region board_;
    const std::atomic<std::uint32_t>* word_;  // ours in it
    std::uint64_t place_id_;
    std::string name_;

    std::atomic<std::uint32_t> seen_ = 0;         // of our board word
    // Of orphan_word_: 0 while the nursery lives, then these two in turn, the first of which may be
    // left out.
    static constexpr std::uint32_t orphan_told = 1;   // somebody saw it end; pump() will find out
    static constexpr std::uint32_t orphan_known = 2;  // requests have failed, peers are marked dead
    std::atomic<std::uint32_t> orphan_word_ = 0;
    // Changes with everything a wait may be about: packets acted on, the nursery's end. Watched in
    // every wait, for the thread that takes a packet may not be the one that waits for it.
    std::atomic<std::uint32_t> news_ = 0;

    std::atomic<std::uint64_t> death_count_ = 0;
    std::atomic<std::size_t> polling_count_ = 0;  // channels

    mutable std::mutex mutex_;  // guards all below, and reading from the control socket
    std::uint64_t next_request_ = 1;
    std::unordered_map<std::uint64_t, std::function<void(control::received)>> requests_;
    std::unordered_map<std::uint64_t, channel_state*> channels_;
    std::unordered_map<std::uint64_t, std::weak_ptr<unique_fd>> doorbells_;
    // The last peers to die, in that order, for grants on their way.
    std::unordered_map<std::uint64_t, exit_status> dead_;
    std::deque<std::uint64_t> dead_order_;
    std::deque<control::received> offers_;
    std::function<void(const control::log_note&)> on_log_;
    std::function<void(std::uint64_t, exit_status)> on_died_;

    std::unordered_set<std::uint64_t> hung_up_;  // of channels that are granted, not yet open

    friend class calls_claim;
    const void* calls_owner_ = nullptr;
    const void* last_calls_owner_ = nullptr;

    friend class news_watch;
    std::mutex watches_mutex_;  // held while the handlers run, so that a watch can end
    std::list<std::function<void()>> watches_;
};

/// While it lives, `handler` runs after every pump() that has acted on a packet, on that thread:
/// for those who wait by other means than process::wait().
/// Throws: the handler may not, nor call the process.
/// Thread: any; the destructor returns when the handler does not run and will not.
class news_watch {
  public:
    news_watch(process& home, std::function<void()> handler);
    ~news_watch();
    news_watch(const news_watch&) = delete;
    news_watch& operator=(const news_watch&) = delete;

  private:
    process& home_;
    std::list<std::function<void()>>::iterator place_;
};

/// The right to wait for the calls of this process, which one inbox, router or bridge has at a
/// time: the others would lose what it takes.
/// Throws: error{bad_argument} while another `owner` has it.
/// Thread: any.
class calls_claim {
  public:
    calls_claim(process& home, const void* owner);
    ~calls_claim();
    calls_claim(const calls_claim&) = delete;
    calls_claim& operator=(const calls_claim&) = delete;
    /// Somebody else had it since this owner did: any channel parked meanwhile may be ready.
    bool may_have_missed() const noexcept { return may_have_missed_; }

  private:
    process& home_;
    bool may_have_missed_ = false;
};

/// `limit` from now: at once for none, never where the clock does not count that far.
shm::deadline deadline_after(std::chrono::nanoseconds limit) noexcept;

/// The suspender of the router body that runs on this thread now; null outside of one.
suspender* current_suspender() noexcept;
void set_current_suspender(suspender* s) noexcept;

}  // namespace places::detail
