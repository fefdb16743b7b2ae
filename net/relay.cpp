// SPDX-License-Identifier: Apache-2.0
#include "net/relay.hpp"

#include "core/child.hpp"

#include <algorithm>
#include <utility>

namespace places::net {
namespace {

shm::half_state state_for(errc reason) {
    switch (reason) {
        case errc::closed: return shm::half_state::closed;
        case errc::corrupt: return shm::half_state::corrupt;
        default: return shm::half_state::peer_dead;
    }
}

status put(shm::producer& out, const message& m) {
    return out.try_put(static_cast<std::uint16_t>(m.what()), m.type(), m.bytes());
}

}  // namespace

relay::relay(std::unique_ptr<detail::channel_state> local, std::uint64_t wire_id)
    : local_(std::move(local)),
      wire_id_(wire_id) {}

void relay::open(bool announce) {
    auto& out = local_->end().out();
    if (announce) (void)put(out, message{kind::opened, 0, {}});
    put_base_ = out.head();
    open_ = true;
}

void relay::refuse(errc code, const std::string& text) {
    (void)put(local_->end().out(), detail::make_refused(code, text));
    local_->end().shut(shm::half_state::closed);
    out_ended_ = in_ended_ = true;
}

relay::progress relay::send_some(link& to, std::function<void()> when_written) {
    if (!open_ || out_ended_) return progress::idle;
    auto& in = local_->end().in();
    in.unpark();
    const auto room = remote_limit_ - std::min(remote_limit_, sent_);
    const auto some = in.try_peek_span(std::min<std::uint64_t>(records_bytes_max, room));
    switch (some.state) {
        case status::ok:
            sent_ = some.position + some.records.size();
            to.send_data(wire_id_, some.position, some.records, std::move(when_written));
            return progress::sent;
        case status::full:  // not enough credit for the next record
            return progress::idle;
        case status::empty:
            in.park(shm::park_mode::doorbell);
            if (!in.is_ready()) return progress::idle;
            in.unpark();
            return progress::sent;
        default: break;
    }
    // Where the far side has closed, what the ring says now is only our own answer to that.
    const auto reason = in_ended_                         ? errc::closed
                        : some.state == status::closed    ? errc::closed
                        : some.state == status::peer_dead ? errc::peer_dead
                                                          : errc::corrupt;
    const auto how = local_->peer_status();
    if (reason == errc::closed && !in_ended_ && awaits_obituary && !how) {
        return std::exchange(said_closing_, true) ? progress::idle : progress::closing;
    }
    if (!in_ended_ && (how || reason == errc::peer_dead)) {
        place_died_frame news{local_->peer_id(), wire_id_, death_reason::unknown, 0};
        if (how) {
            news.reason = how->signalled ? death_reason::signalled : death_reason::exited;
            news.status = how->value;
        }
        to.send(news);
    }
    // It overtakes data that is still queued; the position says what to wait for.
    to.send(close_frame{wire_id_, sent_, reason});
    out_ended_ = true;
    return progress::ended;
}

bool relay::on_credit(const credit_frame& f) {
    auto& in = local_->end().in();
    if (!open_ || f.placed < in.released() || f.placed > sent_ || f.limit < remote_limit_ ||
        f.limit < f.placed || f.limit - f.placed > shm::ring_bytes_max) {
        return false;
    }
    in.release_to(f.placed);
    remote_limit_ = f.limit;
    return true;
}

bool relay::on_data(const data_frame& f) {
    if (!open_ || f.position != placed_) return false;
    if (closing_ && f.records.size() > closing_->position - placed_) return false;
    // Looked at before and after: a local process that goes, or breaks its own ring, is no fault
    // of the far side.
    if (is_read() && local_->end().out().try_put_span(f.records) != status::ok && is_read()) {
        return false;
    }
    placed_ += f.records.size();
    return true;
}

bool relay::is_read() {
    const auto state = local_->end().out().has_room(0);
    if (state == status::corrupt) local_->end().shut(shm::half_state::corrupt);
    if (state != status::ok && state != status::full) discards_ = true;
    return !discards_;
}

void relay::send_credit(link& to) {
    if (!open_ || in_ended_) return;
    auto& out = local_->end().out();
    out.unpark();
    const auto half = out.capacity_bytes() / 2;
    auto limit = is_read() ? out.limit() - put_base_ : placed_ + out.capacity_bytes();
    if (limit - placed_ < half) {
        // Little room: the reader calls us when there is half a ring.
        out.park(shm::park_mode::doorbell, half - sizeof(shm::record_header));
        limit = out.limit() - put_base_;
        if (limit - placed_ >= half) out.unpark();
    }
    if (placed_ == told_placed_ && limit == told_limit_) return;
    told_placed_ = placed_;
    told_limit_ = limit;
    to.send(credit_frame{wire_id_, placed_, limit});
}

void relay::on_died(const place_died_frame& f) {
    // An exit code or a signal's number is all that the local process can make something of.
    if (f.reason == death_reason::unknown || f.status < 0 || f.status > 255) return;
    died_ = exit_status{f.reason == death_reason::signalled, f.status};
}

bool relay::on_close(const close_frame& f) {
    if (!open_ || f.position < placed_ || (closing_ && closing_->position != f.position)) {
        return false;
    }
    closing_ = f;
    settle();
    return true;
}

void relay::settle() {
    if (!closing_ || in_ended_ || placed_ < closing_->position) return;
    auto& end = local_->end();
    if (died_) {
        const auto m = detail::make_died(*died_);
        if (put(end.out(), m) == status::full) {
            end.out().park(shm::park_mode::doorbell, m.bytes().size());
            if (end.out().has_room(m.bytes().size()) == status::full) return;
            return settle();
        }
    }
    end.shut(state_for(closing_->reason));
    in_ended_ = true;
}

void relay::lose(const std::string& why) {
    if (!open_ && !in_ended_) return refuse(errc::node_down, why);
    if (!in_ended_) local_->end().shut(shm::half_state::peer_dead);
    out_ended_ = in_ended_ = true;
}

}  // namespace places::net
