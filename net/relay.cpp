// SPDX-License-Identifier: Apache-2.0
#include "net/relay.hpp"

#include "core/child.hpp"

#include <algorithm>

namespace places::net {
namespace {

shm::half_state state_for(errc reason) {
    return reason == errc::closed ? shm::half_state::closed : shm::half_state::peer_dead;
}

bool put(shm::producer& out, const message& m) {
    return out.try_put(static_cast<std::uint16_t>(m.what()), m.type(), m.bytes()) == status::ok;
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
    const auto room = remote_limit_ - std::min(remote_limit_, in.read());
    const auto some = in.try_peek_span(std::min<std::uint64_t>(records_bytes_max, room));
    switch (some.state) {
        case status::ok:
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
    errc reason = errc::closed;
    if (some.state != status::closed) {
        reason = errc::peer_dead;
        place_died_frame news{local_->peer_id(), wire_id_, death_reason::unknown, 0};
        if (const auto how = local_->peer_status()) {
            news.reason = how->signalled ? death_reason::signalled : death_reason::exited;
            news.status = how->value;
        }
        to.send(news);
    }
    // It overtakes data that is still queued; the position says what to wait for.
    to.send(close_frame{wire_id_, in.read(), reason});
    out_ended_ = true;
    return progress::ended;
}

bool relay::on_credit(const credit_frame& f) {
    auto& in = local_->end().in();
    if (f.placed > in.read() || f.limit < remote_limit_ || f.limit < f.placed ||
        f.limit - f.placed > shm::ring_bytes_max) {
        return false;
    }
    in.release_to(f.placed);
    remote_limit_ = f.limit;
    return true;
}

bool relay::on_data(const data_frame& f) {
    auto& out = local_->end().out();
    if (in_ended_) return true;  // the local process is gone; nobody is left to read it
    if (!open_ || f.position != out.head() - put_base_) return false;
    const auto placed = out.try_put_span(f.records);
    return placed != status::full && placed != status::corrupt;
}

void relay::send_credit(link& to) {
    if (!open_ || in_ended_) return;
    auto& out = local_->end().out();
    out.unpark();
    const auto half = out.capacity_bytes() / 2;
    auto limit = out.limit() - put_base_;
    const auto placed = out.head() - put_base_;
    if (limit - placed < half) {
        // Little room: the reader calls us when there is half a ring.
        out.park(shm::park_mode::doorbell, half - sizeof(shm::record_header));
        limit = out.limit() - put_base_;
        if (limit - placed >= half) out.unpark();
    }
    if (placed == told_placed_ && limit == told_limit_) return;
    told_placed_ = placed;
    told_limit_ = limit;
    to.send(credit_frame{wire_id_, placed, limit});
}

void relay::on_close(const close_frame& f) {
    closing_ = f;
    settle();
}

void relay::settle() {
    if (!closing_ || in_ended_) return;
    auto& end = local_->end();
    if (open_ && end.out().head() - put_base_ < closing_->position) return;
    if (died_) {
        const auto m = detail::make_died(*died_);
        const auto outcome =
            end.out().try_put(static_cast<std::uint16_t>(m.what()), m.type(), m.bytes());
        if (outcome == status::full) {
            end.out().park(shm::park_mode::doorbell, m.bytes().size());
            if (end.out().has_room(m.bytes().size()) == status::full) return;
            return settle();
        }
    }
    end.shut(state_for(closing_->reason));
    in_ended_ = true;
}

void relay::lose() {
    if (!in_ended_) local_->end().shut(shm::half_state::peer_dead);
    out_ended_ = in_ended_ = true;
}

}  // namespace places::net
