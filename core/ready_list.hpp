// SPDX-License-Identifier: Apache-2.0
// Many channels, waited for by one thread at the cost of those that have something to do. Not
// installed.
#pragma once

#include "core/process.hpp"

#include <places/shm/unique_fd.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unordered_map>
#include <utility>
#include <vector>

namespace places::detail {

/// A member is hot (looked at in every turn) or cold (parked in doorbell mode, and called). Whoever
/// waits on a cold one by other means unparks it, and makes it hot again.
/// Shape of a Member: `state`, the channel; `is_hot`, ours; is_ready(), whether there is something
/// to do; park() and unpark() its role. One whose look was cut short stays hot.
/// Safety: one thread. A member's channel may go first: it is then a member no more.
template <class Member>
class ready_list final : private wakeup_listener {
  public:
    using pointer = std::shared_ptr<Member>;

    explicit ready_list(process& self) : self_(self) {}
    ~ready_list();
    ready_list(const ready_list&) = delete;
    ready_list& operator=(const ready_list&) = delete;

    process& self() noexcept { return self_; }
    bool is_empty() const noexcept { return all_.empty(); }
    std::size_t size() const noexcept { return all_.size(); }

    /// All members, in no order.
    std::vector<pointer> members() const {
        std::vector<pointer> all;
        for (const auto& [id, m] : all_) all.push_back(m);
        return all;
    }

    void add(pointer m);
    void remove(const channel_state& c);
    bool contains(const channel_state& c) const { return all_.contains(c.id()); }

    /// How many next() looks at in one turn.
    std::size_t turn_size() const noexcept { return hot_.size(); }
    /// The next hot member that has something to do, in turns. Once in a turn, but at most every
    /// wakeups_interval, a cold member whose wakeup has come gets hot: the hot members alone may
    /// be busy for ever.
    /// Returns: null when no hot member has something to do.  Throws: as wait().
    pointer next();

    /// Takes the packets that wait. The dead ring no doorbell: they are looked for here.
    void pump();
    /// Waits until next() may find somebody, a packet has come, or `news` is true.
    /// Returns: false when `until` has passed and none of these is so.
    /// Throws:  error{bad_argument} while somebody else waits for the wakeups of this process.
    /// Blocks:  until then; inside a router body suspends that body only.
    template <class News>
    bool wait(shm::deadline until, News&& news);

    /// Readable when wait() would return true. From now on only this list waits for the wakeups.
    /// Throws: std::system_error; error{bad_argument} as wait().
    int native_handle();

  private:
    using clock = std::chrono::steady_clock;
    static constexpr std::chrono::microseconds wakeups_interval{20};

    void warm(const pointer& m);
    void warm_all();
    void look_for_peers();
    /// Whether pump() would look at members.
    bool has_peer_news() const noexcept {
        return deaths_seen_ != self_.death_count() || memories_seen_ != self_.memory_count();
    }
    void on_wakeups(const shm::ready_set::wakeups& taken) override;
    void look_at_wakeups();
    bool any_hot_ready();
    bool cool(bool may_poll);
    template <class News>
    bool suspend(waiter& body, shm::deadline until, News&& news);
    bool sleep(shm::deadline until);
    std::array<pollfd, 3> poll_sources() const;
    void take_polled(const std::array<pollfd, 3>& fds);
    void unpark(Member& m);
    void wake_bodies();

    /// A body of a router that waits here, while it does.
    struct registered {
        registered(std::list<waiter*>& all, waiter& body)
            : all_(all),
              mine_(all.insert(all.end(), &body)) {}
        ~registered() { all_.erase(mine_); }
        registered(const registered&) = delete;
        registered& operator=(const registered&) = delete;

      private:
        std::list<waiter*>& all_;
        std::list<waiter*>::iterator mine_;
    };

    process& self_;
    wait_mark waits_;
    // Another thread of this process may take the packet that wait() sleeps for.
    unique_fd news_ = checked_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
    news_watch watch_{self_, [this] { (void)::eventfd_write(news_.get(), 1); }};
    std::unordered_map<std::uint64_t, pointer> all_;
    std::deque<pointer> hot_;
    shm::spin_budget spin_;
    std::vector<pointer> unattached_;  // members whose peer's memory has not come
    std::uint64_t deaths_seen_ = 0;
    std::uint64_t memories_seen_ = 0;
    bool must_look_ = false;  // the last look at one of the hot was cut short
    std::size_t given_ = 0;   // by next(), since the wakeups were thought of
    clock::time_point wakeups_looked_at_{};
    std::optional<wakeup_claim> lasting_claim_;
    unique_fd epoll_;
    std::list<waiter*> suspended_;  // bodies of a router that wait here
};

// -- bodies --

template <class Member>
ready_list<Member>::~ready_list() {
    if (self_.origin().is_forked()) return;  // the parent's ends stay parked
    for (const auto& [id, m] : all_) {
        m->state->set_park_observer({});
        unpark(*m);
    }
}

/// Others may wait on that channel in bodies of the same router, asleep by the same park word.
template <class Member>
void ready_list<Member>::unpark(Member& m) {
    m.unpark();
    if (auto* body = current_waiter()) body->look_at(*m.state);
}

template <class Member>
void ready_list<Member>::wake_bodies() {
    for (auto* body : suspended_) body->wake();
}

template <class Member>
void ready_list<Member>::add(pointer m) {
    auto& c = *m->state;
    c.set_park_observer([this, weak = std::weak_ptr{m}](channel_state::attention what) {
        const auto one = weak.lock();
        if (!one) return;
        if (what == channel_state::attention::another_thread) {
            waits_.check(one->state->id());
            return warm(one);  // the next wait claims it for its own thread
        }
        if (what == channel_state::attention::unparked) return warm(one);
        std::erase(hot_, one);
        std::erase(unattached_, one);
        all_.erase(one->state->id());
        wake_bodies();
    });
    all_.emplace(c.id(), m);
    if (!c.is_attached()) unattached_.push_back(m);
    warm(m);
}

template <class Member>
void ready_list<Member>::remove(const channel_state& c) {
    const auto found = all_.find(c.id());
    if (found == all_.end()) return;
    const auto m = found->second;
    m->state->set_park_observer({});
    unpark(*m);
    std::erase(hot_, m);
    std::erase(unattached_, m);
    all_.erase(found);
    wake_bodies();
}

template <class Member>
typename ready_list<Member>::pointer ready_list<Member>::next() {
    if (++given_ > hot_.size() && hot_.size() < all_.size()) look_at_wakeups();
    for (auto turns = hot_.size(); turns > 0; --turns) {
        auto m = std::move(hot_.front());
        hot_.pop_front();
        hot_.push_back(m);
        if (m->is_ready()) return m;
    }
    return nullptr;
}

template <class Member>
void ready_list<Member>::pump() {
    self_.origin().check();
    if (self_.is_notified()) self_.pump();
    // Each count is read once: what comes after that is news of the next turn.
    const auto memories = self_.memory_count();
    const auto deaths = self_.death_count();
    if (std::exchange(memories_seen_, memories) != memories) look_for_peers();
    if (std::exchange(deaths_seen_, deaths) == deaths) return;
    for (const auto& [id, m] : all_) {
        if (m->is_ready()) warm(m);
    }
}

/// The packet with a member's memory may have been taken by another thread, after that peer's call.
template <class Member>
void ready_list<Member>::look_for_peers() {
    std::erase_if(unattached_, [this](const pointer& m) {
        m->state->attach_if_come();
        if (!m->state->is_attached()) return false;
        warm(m);
        return true;
    });
}

template <class Member>
void ready_list<Member>::warm(const pointer& m) {
    if (std::exchange(m->is_hot, true)) return;
    unpark(*m);
    hot_.push_back(m);
    wake_bodies();
}

template <class Member>
void ready_list<Member>::warm_all() {
    for (const auto& [id, m] : all_) warm(m);
}

template <class Member>
void ready_list<Member>::on_wakeups(const shm::ready_set::wakeups& taken) {
    for (const auto id : taken.channel_ids) {
        if (const auto found = all_.find(id); found != all_.end()) warm(found->second);
    }
    if (taken.overflowed) warm_all();
}

template <class Member>
void ready_list<Member>::look_at_wakeups() {
    given_ = 0;
    const auto now = clock::now();
    if (now - wakeups_looked_at_ < wakeups_interval) return;
    wakeups_looked_at_ = now;
    if (auto* body = current_waiter()) {
        return body->add_listener(*this) ? warm_all() : body->take_wakeups();
    }
    std::optional<wakeup_claim> claim;
    if (!lasting_claim_ && claim.emplace(self_, this).may_have_missed()) return warm_all();
    on_wakeups(self_.wakeups().take());
}

template <class Member>
bool ready_list<Member>::any_hot_ready() {
    for (const auto& m : hot_) {
        if (m->is_ready()) return true;
    }
    return self_.is_notified();
}

/// Parks every hot member but those with something to do, and, if they may, those that poll.
/// Returns: whether any has.
template <class Member>
bool ready_list<Member>::cool(bool may_poll) {
    std::deque<pointer> still;
    bool any_ready = false;
    must_look_ = false;
    for (const auto& m : hot_) {
        m->state->claim();
        m->park();
        const bool is_ready = m->is_ready();
        const bool was_cut_short = !is_ready && m->state->was_cut_short();
        any_ready = any_ready || is_ready;
        must_look_ = must_look_ || was_cut_short;
        if (is_ready || was_cut_short || (may_poll && m->state->polls())) {
            unpark(*m);
            still.push_back(m);
        } else {
            m->is_hot = false;
        }
    }
    hot_.swap(still);
    return any_ready;
}

template <class Member>
template <class News>
bool ready_list<Member>::wait(shm::deadline until, News&& news) {
    const wait_mark::scope here{waits_, "a wait of the set or inbox that has the channel"};
    auto* body = current_waiter();
    // A router body gives the thread to the others instead.
    const bool may_spin = !hot_.empty() && !body && until != shm::deadline::min();
    if (may_spin && spin_.spin([&] { return any_hot_ready(); })) return true;
    if (cool(!body)) return true;
    if (must_look_) {
        if (epoll_) (void)::eventfd_write(news_.get(), 1);  // the descriptor's owner looks again
        if (body) body->pass();
        return until == shm::no_deadline || clock::now() < until;
    }
    // A packet taken in this turn, by reading a channel, is not in the socket any more.
    if (news() || has_peer_news()) return true;
    return body ? suspend(*body, until, news) : sleep(until);
}

/// Inside a router body: its router alone may take the wakeups of this process, and passes them on.
template <class Member>
template <class News>
bool ready_list<Member>::suspend(waiter& body, shm::deadline until, News&& news) {
    if (body.add_listener(*this)) {
        warm_all();
        return true;
    }
    // What has been called may not be heard of yet, and no wait is too short to find it.
    body.take_wakeups();
    const auto ready = [&] {
        return !hot_.empty() || news() || self_.is_orphan() || has_peer_news();
    };
    if (body.is_unwinding() && !ready()) {
        // A destructor on the way out; the thread waits for all that could tell.
        auto fds = poll_sources();
        body.poll(fds, until);
        body.take_wakeups();
        take_polled(fds);
        return ready() || clock::now() < until;
    }
    const registered here{suspended_, body};
    return body.wait({}, ready, until);
}

template <class Member>
bool ready_list<Member>::sleep(shm::deadline until) {
    std::optional<wakeup_claim> claim;
    if (!lasting_claim_ && claim.emplace(self_, this).may_have_missed()) {
        warm_all();
        return true;
    }
    auto fds = poll_sources();
    timespec limit{};
    const bool has_limit = until != shm::no_deadline || !hot_.empty();  // who is hot still polls
    if (has_limit && hot_.empty()) {
        const auto now = clock::now();
        const auto left = until > now ? until - now : clock::duration::zero();
        const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
        limit = {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
    }
    const auto got = ::ppoll(fds.data(), fds.size(), has_limit ? &limit : nullptr, nullptr);
    on_wakeups(self_.wakeups().take());
    take_polled(fds);
    return got > 0 || until == shm::no_deadline || clock::now() < until;
}

/// What wakes a thread that waits here: a call, a packet, and a packet that another has taken.
template <class Member>
std::array<pollfd, 3> ready_list<Member>::poll_sources() const {
    return {pollfd{self_.wakeups().native_handle(), POLLIN, 0},
            pollfd{self_.control_handle(), POLLIN, 0}, pollfd{news_.get(), POLLIN, 0}};
}

/// All but the wakeups.
template <class Member>
void ready_list<Member>::take_polled(const std::array<pollfd, 3>& fds) {
    if (fds[1].revents) self_.pump();
    if (fds[2].revents) {
        eventfd_t count;
        (void)::eventfd_read(news_.get(), &count);
    }
}

template <class Member>
int ready_list<Member>::native_handle() {
    if (epoll_) return epoll_.get();
    lasting_claim_.emplace(self_, this);
    auto set = checked_fd(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    for (const int fd : {self_.wakeups().native_handle(), self_.control_handle(), news_.get()}) {
        epoll_event e{};
        e.events = EPOLLIN;
        e.data.fd = fd;
        checked(::epoll_ctl(set.get(), EPOLL_CTL_ADD, fd, &e), "epoll_ctl");
    }
    epoll_ = std::move(set);
    // Whatever was called while something else took the wakeups.
    warm_all();
    return epoll_.get();
}

}  // namespace places::detail
