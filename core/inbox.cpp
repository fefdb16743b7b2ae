// SPDX-License-Identifier: Apache-2.0
#include <places/core/inbox.hpp>

#include "core/ready_list.hpp"

#include <places/core/place.hpp>

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

namespace places {
namespace detail {

/// One channel of the inbox. While an answer finds no room in it, nothing is read from it, and it
/// waits for that room instead: whoever does not read answers holds up nobody else.
struct connection {
    explicit connection(std::unique_ptr<channel_state> s)
        : id(s->id()),
          state(s.get()),
          end(std::move(s)) {}
    std::uint64_t id;
    std::uint64_t number = 0;  // in order of arrival
    channel_state* state;
    channel end;
    bool is_hot = false;
    bool is_drained = false;  // this place was asked to stop, and all before that was received
    std::optional<message> unsent;
    channel_state::outgoing sending;  // of it

    std::size_t wanted_bytes() const { return state->next_record_bytes(sending); }
    bool is_ready() {
        state->attach_if_come();
        if (unsent) return state->can_advance(sending);
        return !is_drained && state->has_message();
    }
    void park() {
        if (unsent) {
            state->end().out().park(shm::park_mode::doorbell, wanted_bytes());
        } else {
            state->end().in().park(shm::park_mode::doorbell);
        }
    }
    void unpark() {
        state->end().in().unpark();
        state->end().out().unpark();
    }
    /// Returns: ok | too_large | closed | peer_dead | corrupt.
    status send_or_keep(message m) {
        unsent = std::move(m);
        sending = {.kind = unsent->kind(), .type = unsent->type(), .payload = unsent->bytes()};
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

struct inbox_state {
    inbox_state(process& h, bool takes) : self(h), takes_connections(takes), connections(h) {}

    process& self;
    bool takes_connections;
    std::shared_ptr<connection> creator;
    bool reads_creator = false;  // from the first get() on: until then it is the entry's alone
    ready_list<connection> connections;
    std::uint64_t added = 0;  // connections so far
    // What get_event() is still to tell. Nothing is kept before its first call, since there may
    // never be one; the connections that are there then have been opened.
    bool reports_events = false;
    std::deque<reply_end> unreported_opened;
    std::deque<inbox::ended> unreported_ended;

    /// Throws: error{bad_argument} while another reads from the creator's channel.
    void begin_to_read_creator() {
        if (reads_creator) return;
        if (creator->state->has_park_observer()) {
            throw error(errc::bad_argument,
                        "the channel to this place's creator is in a channel_set or an "
                        "async_channel, so its inbox cannot read it; end that first, or read the "
                        "channel without the inbox");
        }
        add(creator);
        reads_creator = true;
    }

    bool has_unsent() const {
        return std::ranges::any_of(connections.members(),
                                   [](const auto& c) { return c->unsent.has_value(); });
    }

    void add(const std::shared_ptr<connection>& c) {
        c->number = ++added;
        connections.add(c);
        if (reports_events) unreported_opened.push_back(reply_end{c, c->id});
    }

    void report_events() {
        if (std::exchange(reports_events, true)) return;
        auto all = connections.members();
        std::ranges::sort(all, {}, [](const auto& c) { return c->number; });
        for (const auto& c : all) unreported_opened.push_back(reply_end{c, c->id});
    }

    void drop(const std::shared_ptr<connection>& c, status why) {
        if (reports_events) unreported_ended.push_back({c->id, why, c->end.peer_status()});
        connections.remove(*c->state);
        // The creator's object stays: the entry may hold a reference to its channel.
        if (c != creator) c->end.close();
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

std::size_t detail::message_bytes_max(const reply_end& to) noexcept {
    const auto c = to.to_.lock();
    return c ? c->end.sendable_bytes_max() : 0;
}

bool reply_end::is_open() const {
    const auto to = to_.lock();
    if (!to || !to->end) return false;
    if (to->state->self().is_notified()) to->state->self().pump();
    const auto room = to->state->end().out().has_room(0);
    return room == status::ok || room == status::full;
}

inbox::inbox(detail::process& self, std::unique_ptr<detail::channel_state> creator,
             bool takes_connections)
    : state_(std::make_unique<detail::inbox_state>(self, takes_connections)) {
    creator->end_with_stop();
    state_->creator = std::make_shared<detail::connection>(std::move(creator));
}

inbox::~inbox() = default;

channel& inbox::creator() noexcept { return state_->creator->end; }

bool inbox::accept_offers() {
    auto& s = *state_;
    s.connections.pump();
    for (auto& offer : s.self.take_offers()) {
        const auto& grant = std::get<control::offered>(offer.packet.body).end;
        try {
            auto end = s.self.open(grant, std::move(offer.fds));
            end->end_with_stop();
            s.add(std::make_shared<detail::connection>(std::move(end)));
        } catch (const std::exception& e) {
            // The nursery tells the process that has connected; the other connections are served.
            log_to_parent(severity::error, std::string("a connection was lost: ") + e.what());
        }
    }
    return !s.self.is_orphan();
}

result<inbox::item> inbox::get(channel::clock::time_point until) {
    auto got = next(until, false);
    if (!got) return got.error();
    return std::get<item>(std::move(*got));
}

result<inbox::event> inbox::get_event(channel::clock::time_point until) {
    state_->creator->state->check_caller();
    state_->begin_to_read_creator();
    state_->report_events();
    return next(until, true);
}

result<inbox::event> inbox::next(channel::clock::time_point until, bool with_events) {
    auto& s = *state_;
    s.creator->state->check_caller();
    s.begin_to_read_creator();
    // Another body may have dropped the last of them.
    const auto is_over = [&s] { return s.connections.is_empty() && !s.takes_connections; };
    const auto has_unreported = [&] {
        return with_events && !(s.unreported_opened.empty() && s.unreported_ended.empty());
    };
    bool is_stopping = false;
    const auto has_news = [&] {
        return s.self.has_offers() || is_over() || has_unreported() ||
               s.self.is_stop_asked() != is_stopping;
    };
    s.creator->state->give_back_shown();
    while (true) {
        // Before the packets are taken and all connections looked at: `closed` needs a whole turn.
        is_stopping = s.self.is_stop_asked();
        if (!accept_offers()) return make_error_code(errc::node_down);
        // All that have been opened come before any message and any end, and so before their own.
        if (with_events && !s.unreported_opened.empty()) {
            event told{opened{std::move(s.unreported_opened.front())}};
            s.unreported_opened.pop_front();
            return told;
        }
        if (with_events && !s.unreported_ended.empty()) {
            const auto end = s.unreported_ended.front();
            s.unreported_ended.pop_front();
            return event{end};
        }
        bool has_more = false;  // of a connection that has had its turn
        for (auto turns = s.connections.turn_size(); turns > 0; --turns) {
            const auto c = s.connections.next();
            if (!c) break;
            if (!c->send_unsent()) continue;
            const auto next = c->state->next_message(shm::deadline::min());
            if (next.state == status::empty) {
                has_more = has_more || c->state->was_cut_short();
                continue;
            }
            if (next.state == status::too_large) {
                has_more = true;
                c->state->log_passed_over();
                continue;
            }
            if (next.state != status::ok) {
                // Asked to stop, this place may still answer there.
                c->is_drained = s.self.is_stop_asked();
                if (!c->is_drained) s.drop(c, next.state);
                continue;
            }
            return event{item{c->state->take(next.record), reply_end{c, c->id}}};
        }
        if (has_unreported()) continue;
        if (is_over()) return make_error_code(errc::closed);
        auto limit = until;
        if (is_stopping && !has_more) {
            const auto answers_until = s.self.stop_until();
            if (!s.has_unsent() || channel::clock::now() >= answers_until) {
                return make_error_code(errc::closed);
            }
            limit = std::min(until, answers_until);
        }
        if (!s.connections.wait(limit, has_news) && channel::clock::now() >= until) {
            return make_error_code(errc::timeout);
        }
    }
}

}  // namespace places
