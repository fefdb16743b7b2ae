// SPDX-License-Identifier: Apache-2.0
// This process as a member of its node: what channels, inboxes, routers and bridges wait with.
// Not installed.
#pragma once

#include "core/caller.hpp"
#include "core/channel_state.hpp"
#include "core/control.hpp"

#include <places/core/place.hpp>
#include <places/shm/ready_set.hpp>

#include <boost/intrusive/list.hpp>

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <poll.h>
#include <span>
#include <string>
#include <system_error>
#include <unordered_map>
#include <vector>

// Edges (the nursery's ends are in launcher/members.cpp):
//   [notice]  board word   nursery release -> place acquire   a packet waits in the control socket
//   [news]    news_        pump release -> wait acquire       what a packet has changed
//   [answer]  progress     pump <-> request, acq_rel          the answer is complete, or nobody
//   waits
//   [orphan]  orphan_word_ pump release -> wait acquire       the peer of every open end is dead

namespace places::detail {

/// What a wait is about: a record to read, or room to write, on one channel.
struct interest {
    channel_state* channel = nullptr;
    bool record = false;
    bool room = false;
    std::size_t room_bytes = 0;
};

/// Of one wait, and so of select().
inline constexpr std::size_t interests_max = 120;

/// Why an end of a channel is of no use to a process.
inline constexpr const char* no_descriptor_for_channel =
    "this process has no descriptor free for a new channel; raise RLIMIT_NOFILE (ulimit -n), or "
    "close channels";

/// Is told which channels wake this process, by what takes the wakeups.
class wakeup_listener : public boost::intrusive::list_base_hook<
                            boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
  public:
    virtual void on_wakeups(const shm::ready_set::wakeups& taken) = 0;

  protected:
    ~wakeup_listener() = default;
};

/// Waits in place of the thread; a router puts one here while a body of its runs.
class waiter {
  public:
    virtual bool wait(std::span<const interest> on, const std::function<bool()>& ready,
                      shm::deadline until) = 0;
    /// For a caller that parks channels itself. From now on, while the router runs, `by` receives
    /// the wakeups.
    /// Returns: whether it did not before: it may have missed some.
    virtual bool add_listener(wakeup_listener& by) = 0;
    /// Passes on the wakeups that are there.
    virtual void take_wakeups() = 0;
    /// This channel was unparked by other means than a wait: whoever waits on it here looks, and
    /// parks it again.
    virtual void look_at(const channel_state& c) = 0;
    /// The wait that this is in, if any, asks `ready` again. Thread: the router's.
    virtual void wake() = 0;
    /// Lets everything else that is due run first.
    /// Throws: what ends the body when the router ends meanwhile.
    virtual void pass() = 0;
    /// The router ends: a wait throws, or holds the thread in a destructor on the way out.
    virtual bool is_unwinding() const noexcept = 0;
    /// The same for descriptors; see poll_until.
    virtual void poll(std::span<pollfd> fds, shm::deadline until) = 0;

  protected:
    ~waiter() = default;
};

/// Owns the control socket, the ready set, the board and the table of open channels.
/// Exactly one per process, made by the runtime or by the child trampoline. What refers to it and
/// may outlive the runtime shares it: channel ends, lists of them, event loops. Thread: any, unless
/// said otherwise; handlers run on the thread that called pump().
class process : public std::enable_shared_from_this<process> {
  public:
    struct birth {
        unique_fd control;
        unique_fd wakeups;  ///< reading end of the ready set
        unique_fd board;  ///< descriptor of the board's memory
        std::uint32_t slot = 0;
        std::uint64_t place_id = 0;
        std::string name;  ///< as shown in the log
    };
    /// Throws: std::system_error; `b` has its control socket still, by which the nursery can be
    ///         told why.
    explicit process(birth&& b);
    ~process();
    process(const process&) = delete;
    process& operator=(const process&) = delete;

    /// Throws: error{bad_argument} before a runtime exists; error{misuse} in a process that the
    ///         program has forked from this one.
    static process& current();
    /// Null also in a forked process.
    static process* current_or_null() noexcept;
    /// Whether the program has forked this process from a member of a node: nothing that it has
    /// inherited is its own, so destructors leave all of it as it is.
    static bool is_in_fork() noexcept;
    const fork_mark& origin() const noexcept { return origin_; }

    std::uint64_t place_id() const noexcept { return place_id_; }
    const std::string& name() const noexcept { return name_; }

    /// Asks the nursery and waits for the answer.
    /// Throws: error with the nursery's code and words; error{node_down} when it has ended;
    ///         error{misuse} in a forked process, as all that asks, waits or pumps.
    /// Blocks: until answered; inside a router body suspends that body only.
    control::received request(control::body what, const std::vector<int>& fds = {});
    /// The same without waiting for the answer, which may be `failed`; `on_answer` runs in pump().
    /// Throws: error{node_down} when the nursery has ended; error{start_failed}, with the
    ///         kernel's words, when the kernel does not send it; error{too_large}.
    /// Blocks: while the control socket is full.
    std::uint64_t request_async(control::body what, const std::vector<int>& fds,
                                std::function<void(control::received)> on_answer);
    /// Tells the nursery something that has no answer; a dead nursery hears nothing.
    /// Blocks: while the control socket is full.  Throws: never.
    void send(control::body what) noexcept;

    /// The end described by a `granted` answer, or by an offer: makes the memory that it writes,
    /// and shares it. The memory of the other end is attached once it has come. Throws:
    /// error{start_failed}, std::system_error when this end's memory cannot be had here; the
    ///         process at the other end is then told.
    /// `on_shared`, if any, runs in pump() once the nursery has passed this end's memory on; where
    /// it could not, the channel has been refused by then.
    std::unique_ptr<channel_state> open(const control::granted& grant, std::vector<unique_fd> fds,
                                        std::function<void()> on_shared = {});

    /// Something that a wait may be about has changed, other than by a packet.
    void wake_waits() noexcept { report_news(); }

    /// Whether a packet may wait. One load; cheap enough for every put and get.
    bool is_notified() const noexcept {
        // acquire [notice]: the packet was sent before the word changed.
        // relaxed: seen_ is a hint; pump() looks again under the lock.
        return word().load(std::memory_order_acquire) != seen_.load(std::memory_order_relaxed) ||
               orphan_word_.load(std::memory_order_relaxed) == orphan_reported;
    }
    /// Takes every packet that waits and acts on it.
    /// Throws: what a handler of died throws; std::system_error when the kernel does not read the
    ///         socket, unless on_unread has a handler for it. A nursery that has ended is reported
    ///         by the requests.
    /// Dying: a place or bridge whose nursery has ended ends here, by SIGKILL, as in every call
    /// that
    ///        finds it so: the kernel would do it a moment later, and nobody is to hear of an end
    ///        in order meanwhile.
    void pump();
    bool is_orphan() const noexcept;
    /// Whether orphaned() has been called, or pump() has found the end of the nursery. Any thread.
    bool has_lost_nursery() const noexcept {
        // relaxed: only this one bit of news.
        return orphan_word_.load(std::memory_order_relaxed) != 0;
    }
    /// The nursery has ended, seen from outside. Wakes every wait.  Blocks: never.
    void orphaned() noexcept;

    int control_handle() const noexcept { return control_.get(); }
    /// The root's last word: the nursery ends the node, and nothing can be asked any more.
    /// Blocks: never.  Idempotent.
    void close_control() noexcept;
    /// The runtime ends, and its nursery has ended: current() does not know this any more, handlers
    /// run no more, and every channel end that is left says that its peer is dead.
    void retire() noexcept;
    shm::ready_set& wakeups() noexcept { return wakeups_; }

    /// Whether this place has been asked to end in order. Any thread.
    bool is_stop_asked() const noexcept {
        // relaxed: only this one bit; the wait that it ends is ended by [news].
        return stop_until_.load(std::memory_order_relaxed) != 0;
    }
    /// Until when a place that was asked to end may wait for room for its last answers: half of the
    /// grace, which leaves the other half to its entry.
    shm::deadline stop_until() const noexcept {
        // relaxed: as above
        return shm::deadline{shm::deadline::duration{stop_until_.load(std::memory_order_relaxed)}};
    }

    /// Connections offered to this place, in order of arrival.
    std::deque<control::received> take_offers();
    bool has_offers() const;
    /// Grows with every peer that dies: whoever holds parked ends looks at them again.
    std::uint64_t death_count() const noexcept {
        // relaxed: the deaths themselves are read from the ends.
        return death_count_.load(std::memory_order_relaxed);
    }
    /// Grows with every peer's memory that comes for an open channel. A thread that waits on many
    /// channels looks at those without that memory again.
    std::uint64_t memory_count() const noexcept {
        // relaxed: a change that is not seen here is seen after the news that follow it.
        return memory_count_.load(std::memory_order_relaxed);
    }
    /// What `handler` throws is printed on standard error.
    void on_log(std::function<void(const control::log_note&)> handler);
    void on_died(std::function<void(std::uint64_t, exit_status)> handler);
    /// Runs in pump() for an open channel whose other end's memory has come, or was refused.
    void on_peer_news(std::function<void(std::uint64_t channel_id)> handler);
    /// Runs in pump(), in place of its std::system_error, when the kernel does not read the socket.
    /// The packets are still there, and the next pump() looks for them.
    void on_unread(std::function<void(const std::system_error&)> handler);

    /// Waits until `ready`, or `until` has passed: returns false then. `ready` is called often.
    /// Shape:  at most interests_max.
    /// Blocks: after a short spin without CPU; inside a router body suspends that body only.
    bool wait(std::span<const interest> on, const std::function<bool()>& ready, shm::deadline until,
              shm::spin_budget& spin);

    /// For channel_state alone: one channel more, or less, that polls. Each asks the nursery for a
    /// core until this process has one.
    /// Throws: error{no_core}, node_down.
    void begin_polling();
    void end_polling() noexcept;

    /// For channel_state alone: the table of open ends, to which packets are addressed.
    /// Blocks: never.
    void add(channel_state& c);
    void remove(channel_state& c) noexcept;
    /// The one doorbell of that peer this process keeps; `offered` when it has none yet.
    std::shared_ptr<unique_fd> doorbell_of(std::uint64_t peer_id, unique_fd offered);

  private:
    /// One end of a channel: both may be in one process, as a place may connect to its own name.
    struct end_key {
        std::uint64_t channel_id;
        std::uint8_t end;
        friend bool operator==(const end_key&, const end_key&) = default;
    };
    struct end_hash {
        std::size_t operator()(const end_key& k) const noexcept {
            return std::hash<std::uint64_t>{}(k.channel_id * 2 + k.end);
        }
    };
    /// What has come for an end that was granted and is not open yet.
    struct early_news {
        std::optional<unique_fd> memory;
        std::optional<std::string> refusal;
        std::optional<exit_status> ended;  ///< the place behind a bridge
        bool may_have_read = false;         ///< as in control::hung_up
    };

    bool take_packet();
    void report_news() noexcept;
    void act_on(control::received r);
    void take_news(control::received& r);
    void report_peer_news(std::uint64_t channel_id);
    void share(channel_state& end, const unique_fd& memory, std::function<void()> on_shared);
    void give_up(const control::granted& grant, const std::string& why) noexcept;
    using request_table = std::unordered_map<std::uint64_t, std::function<void(control::received)>>;
    void fail_requests(request_table unanswered);
    void lose_nursery() noexcept;
    void end_with_nursery() const noexcept;
    void give_core_back() noexcept;
    const std::atomic<std::uint32_t>& word() const noexcept { return *word_; }

    fork_mark origin_;
    unique_fd control_;
    shm::ready_set wakeups_;
    boost::interprocess::mapped_region board_;
    const std::atomic<std::uint32_t>* word_;  // ours in it
    std::uint64_t place_id_;
    std::string name_;

    std::atomic<std::uint32_t> seen_ = 0;  // of our board word
    // Of orphan_word_: 0 while the nursery lives, then these two in turn, the first of which may be
    // left out.
    static constexpr std::uint32_t orphan_reported = 1;  // a thread saw it end; pump() finds out
    static constexpr std::uint32_t orphan_known = 2;     // peers are marked dead, requests fail
    std::atomic<std::uint32_t> orphan_word_ = 0;
    // Changes with everything a wait may be about: packets acted on, the nursery's end. Watched in
    // every wait, for the thread that takes a packet may not be the one that waits for it.
    std::atomic<std::uint32_t> news_ = 0;

    std::atomic<std::uint64_t> death_count_ = 0;
    std::atomic<std::uint64_t> memory_count_ = 0;
    std::atomic<shm::deadline::rep> stop_until_ = 0;  // 0 before this place is asked to end

    std::mutex polling_mutex_;       // guards the two below, and telling the nursery of them
    std::size_t polling_count_ = 0;  // channels
    std::size_t polling_asked_ = 0;  // by those that have no answer yet

    mutable std::mutex mutex_;  // guards all below, and reading from the control socket
    std::uint64_t next_request_ = 1;
    request_table requests_;
    std::unordered_map<end_key, channel_state*, end_hash> channels_;
    std::unordered_map<end_key, early_news, end_hash> expected_;
    std::unordered_map<std::uint64_t, std::weak_ptr<unique_fd>> doorbells_;
    // The last peers to die, in that order, for grants on their way.
    std::unordered_map<std::uint64_t, exit_status> dead_;
    std::deque<std::uint64_t> dead_order_;
    std::deque<control::received> offers_;
    std::function<void(const control::log_note&)> on_log_;
    std::function<void(std::uint64_t, exit_status)> on_died_;
    std::function<void(std::uint64_t)> on_peer_news_;
    std::function<void(const std::system_error&)> on_unread_;

    friend class wakeup_claim;
    const void* wakeups_owner_ = nullptr;
    const void* last_wakeups_owner_ = nullptr;

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
    news_watch(process& self, std::function<void()> handler);
    ~news_watch();
    news_watch(const news_watch&) = delete;
    news_watch& operator=(const news_watch&) = delete;

  private:
    process& self_;
    std::shared_ptr<process> life_ = self_.weak_from_this().lock();
    std::list<std::function<void()>>::iterator position_;
};

/// The right to wait for the wakeups of this process, which one inbox, router or bridge has at a
/// time: the others would lose what it takes.
/// Throws: error{bad_argument} while another `owner` has it.
/// Thread: any.
class wakeup_claim {
  public:
    wakeup_claim(process& self, const void* owner);
    ~wakeup_claim();
    wakeup_claim(const wakeup_claim&) = delete;
    wakeup_claim& operator=(const wakeup_claim&) = delete;
    /// Somebody else had it since this owner did: any channel parked meanwhile may be ready.
    bool may_have_missed() const noexcept { return may_have_missed_; }

  private:
    process& self_;
    std::shared_ptr<process> life_ = self_.weak_from_this().lock();
    bool may_have_missed_ = false;
};

/// `limit` from now: at once for none, never where the clock does not count that far.
shm::deadline deadline_after(std::chrono::nanoseconds limit) noexcept;

/// The waiter of the router body that runs on this thread now; null outside of one.
waiter* current_waiter() noexcept;
void set_current_waiter(waiter* s) noexcept;

/// As ::poll, but until `until`, and no signal ends it.
/// Blocks: until then; inside a router body suspends that body only, and throws what ends the body
///         when the router ends meanwhile.
/// Throws: std::system_error.
void poll_until(std::span<pollfd> fds, shm::deadline until);

}  // namespace places::detail
