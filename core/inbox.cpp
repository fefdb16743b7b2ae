// SPDX-License-Identifier: Apache-2.0
#include <places/core/inbox.hpp>

#include "core/process.hpp"

#include <places/core/place.hpp>

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <poll.h>
#include <sys/eventfd.h>
#include <unordered_map>
#include <utility>
#include <vector>

namespace places {
namespace detail {

/// One channel of the inbox. While an answer finds no room in it, nothing is read from it, and it
/// waits for that room instead: whoever does not read answers holds up nobody else.
struct connection {
    explicit connection(std::unique_ptr<channel_state> s) : state(s.get()), end(std::move(s)) {}
    channel_state* state;
    channel end;
    bool is_hot = false;
    std::optional<message> unsent;
    channel_state::outgoing sending;  // of it

    std::size_t wanted_bytes() const { return state->next_record_bytes(sending); }
    interest waits_for() const {
        if (!unsent) return {.channel = state, .record = true};
        return {.channel = state, .room = true, .room_bytes = wanted_bytes()};
    }
    bool is_ready() {
        if (!unsent) return state->has_message();
        return state->can_advance(sending);
    }
    void park() {
        if (unsent) {
            state->end().out().park(shm::park_mode::doorbell, wanted_bytes());
        } else {
            state->end().in().park(shm::park_mode::doorbell);
        }
    }
    bool is_parked() const {
        return unsent ? state->end().out().is_parked() : state->end().in().is_parked();
    }
    void unpark() {
        state->end().in().unpark();
        state->end().out().unpark();
    }
    /// Returns: ok | too_large | closed | peer_dead | corrupt.
    status send_or_keep(message m) {
        unsent = std::move(m);
        sending = {.what = unsent->what(), .type = unsent->type(), .payload = unsent->bytes()};
        const auto sent = state->advance(sending);
        if (sent == status::full) return status::ok;
        unsent.reset();
        return sent;
    }
    /// Returns: whether the next message may be read.
    bool send_unsent() {
        if (unsent && state->advance(sending) == status::full) return false;
        unsent.reset();
        return true;
    }
};

using connection_ptr = std::shared_ptr<connection>;

/// Invariant: inside get(), a connection is hot (in `hot`, not parked) or cold (parked in doorbell
/// mode). Between two calls the entry may have waited on creator(), which leaves it neither.
struct inbox_state {
    inbox_state(process& h, bool takes) : home(h), takes_connections(takes) {}

    process& home;
    bool takes_connections;
    // Another thread of this process may take the packet that get() sleeps for.
    unique_fd news = checked_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
    news_watch watch{home, [this] { (void)::eventfd_write(news.get(), 1); }};
    connection_ptr creator;
    bool creator_gone = false;
    std::unordered_map<std::uint64_t, connection_ptr> all;
    std::deque<connection_ptr> hot;
    shm::spin_budget spin;
    std::uint64_t deaths_seen = 0;

    /// The dead ring no doorbell.
    void warm_the_dead() {
        if (std::exchange(deaths_seen, home.death_count()) == home.death_count()) return;
        for (const auto& [id, c] : all) {
            if (c->is_ready()) warm(c);
        }
    }
    void warm(const connection_ptr& c) {
        if (std::exchange(c->is_hot, true)) return;
        c->unpark();
        hot.push_back(c);
    }
    void drop(const connection_ptr& c) {
        all.erase(c->state->id());
        if (c == creator) {
            creator_gone = true;  // the object stays: the entry may hold a reference to its channel
        } else {
            c->end.close();
        }
    }
    bool any_hot_ready() {
        for (const auto& c : hot) {
            if (c->is_ready()) return true;
        }
        return home.is_notified();
    }
    /// Parks every hot connection; those with news stay hot. Returns whether any does.
    bool cool() {
        std::deque<connection_ptr> still;
        for (const auto& c : hot) {
            c->park();
            if (c->is_ready()) {
                c->unpark();
                still.push_back(c);
            } else {
                c->is_hot = false;
            }
        }
        hot.swap(still);
        return !hot.empty();
    }
    /// Inside a router body: its router alone may take the calls of this process.
    bool suspend(suspender& body, shm::deadline until) {
        std::vector<interest> on;
        for (const auto& [id, c] : all) on.push_back(c->waits_for());
        const auto ready = [&] {
            return home.has_offers() || home.is_orphan() ||
                   std::any_of(all.begin(), all.end(),
                               [](const auto& each) { return each.second->is_ready(); });
        };
        const bool in_time = body.wait(on, ready, until);
        for (const auto& [id, c] : all) warm(c);
        return in_time;
    }
    /// Returns: false when `until` has passed.
    bool sleep(shm::deadline until) {
        if (auto* body = current_suspender()) return suspend(*body, until);
        const calls_claim claim{home, this};
        if (claim.may_have_missed()) {
            for (const auto& [id, c] : all) warm(c);
            return true;
        }
        std::array<pollfd, 3> fds{pollfd{home.calls().native_handle(), POLLIN, 0},
                                  pollfd{home.control_handle(), POLLIN, 0},
                                  pollfd{news.get(), POLLIN, 0}};
        timespec limit{};
        if (until != shm::no_deadline) {
            const auto now = std::chrono::steady_clock::now();
            if (until <= now) return false;
            const auto left = until - now;
            const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
            limit = {static_cast<time_t>(ns / 1'000'000'000),
                     static_cast<long>(ns % 1'000'000'000)};
        }
        (void)::ppoll(fds.data(), fds.size(), until == shm::no_deadline ? nullptr : &limit,
                      nullptr);
        const auto calls = home.calls().take();
        for (const auto id : calls.channel_ids) {
            if (const auto found = all.find(id); found != all.end()) warm(found->second);
        }
        if (calls.overflowed) {
            for (const auto& [id, c] : all) warm(c);
        }
        if (fds[1].revents) home.pump();
        if (fds[2].revents) {
            eventfd_t count;
            (void)::eventfd_read(news.get(), &count);
        }
        return true;
    }
};

}  // namespace detail

status reply_end::send(const message& m) {
    const auto to = to_.lock();
    return to ? to->end.send(m) : status::closed;
}

status detail::send_or_keep(const reply_end& to, message m) {
    const auto c = to.to_.lock();
    return c ? c->send_or_keep(std::move(m)) : status::closed;
}

inbox::inbox(detail::process& home, std::unique_ptr<detail::channel_state> creator,
             bool takes_connections)
    : state_(std::make_unique<detail::inbox_state>(home, takes_connections)) {
    state_->creator = std::make_shared<detail::connection>(std::move(creator));
    state_->all.emplace(state_->creator->state->id(), state_->creator);
    state_->warm(state_->creator);
}

inbox::~inbox() = default;

channel& inbox::creator() noexcept { return state_->creator->end; }

bool inbox::accept_offers() {
    auto& s = *state_;
    if (s.home.is_notified()) s.home.pump();
    s.warm_the_dead();
    for (auto& offer : s.home.take_offers()) {
        const auto& grant = std::get<control::offered>(offer.packet.body).end;
        try {
            auto c = std::make_shared<detail::connection>(s.home.open(grant, std::move(offer.fds)));
            s.all.emplace(c->state->id(), c);
            s.warm(c);
        } catch (const std::exception& e) {
            // Whoever has connected is told by the nursery; the others are served.
            log_to_parent(severity::error, std::string("a connection was lost: ") + e.what());
        }
    }
    return !s.home.is_orphan();
}

result<inbox::item> inbox::get(channel::clock::time_point until) {
    auto& s = *state_;
    while (true) {
        if (!accept_offers()) return make_error_code(errc::node_down);
        if (!s.creator_gone && !s.creator->is_parked()) s.warm(s.creator);
        for (auto turns = s.hot.size(); turns > 0; --turns) {
            auto c = std::move(s.hot.front());
            s.hot.pop_front();
            if (!c->send_unsent()) {
                s.hot.push_back(std::move(c));
                continue;
            }
            const auto next = c->state->next_message(shm::deadline::min());
            if (next.state == status::empty) {
                s.hot.push_back(std::move(c));
                continue;
            }
            if (next.state != status::ok) {
                s.drop(c);
                continue;
            }
            item result{c->state->take(next.record), reply_end{c, c->state->id()}};
            s.hot.push_back(std::move(c));
            return result;
        }
        if (s.all.empty() && !s.takes_connections) return make_error_code(errc::closed);
        // A router body gives the thread to the others instead.
        if (!s.hot.empty() && !detail::current_suspender() &&
            s.spin.spin([&] { return s.any_hot_ready(); })) {
            continue;
        }
        if (s.cool()) continue;
        // A packet taken in this turn, by reading a channel, is not in the socket any more.
        if (s.home.has_offers() || s.deaths_seen != s.home.death_count()) continue;
        if (!s.sleep(until)) return make_error_code(errc::timeout);
    }
}

}  // namespace places
