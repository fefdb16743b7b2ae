// SPDX-License-Identifier: Apache-2.0
#include "net/relay.hpp"

#include "core/child.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

namespace places::net {
namespace {

shm::half_state state_for(errc reason) {
    switch (reason) {
        case errc::closed: return shm::half_state::closed;
        case errc::corrupt: return shm::half_state::corrupt;
        case errc::refused: return shm::half_state::refused;
        default: return shm::half_state::peer_dead;
    }
}

status put(shm::producer& out, const message& m) {
    return out.try_put(static_cast<std::uint16_t>(m.kind()), m.type(), m.bytes());
}

// What is dropped for a place that reads no more is told in one word.
static_assert(control::bridge_ring_bytes_max < shm::drop_reach_bytes);

constexpr std::uint16_t users_kinds_end = 64;

// Where more waits to be sent, a place's end is told without the text of its exception.
constexpr std::size_t text_queue_bytes_max = 1024 * 1024;

/// What core believes of a bridge is for bridges to say, never for the processes behind them.
bool may_cross(std::uint16_t kind_and_bits, bool announces) {
    const auto what = static_cast<std::uint16_t>(kind_and_bits & ~(shm::continues | shm::packed));
    if (what < users_kinds_end) return true;
    if ((kind_and_bits & shm::packed) != 0) return false;
    if (what == static_cast<std::uint16_t>(message_kind::part)) return true;
    return announces && (what == static_cast<std::uint16_t>(message_kind::opened) ||
                         what == static_cast<std::uint16_t>(message_kind::refused));
}

/// Records as they are on the wire: the fields of a header, its tag left blank.
constexpr std::size_t length_at = offsetof(shm::record_header, length);
constexpr std::size_t kind_at = offsetof(shm::record_header, kind);
constexpr std::size_t flags_at = offsetof(shm::record_header, flags);

/// Whether `records` are whole, and of kinds that may cross. `announces`: so may the first.
bool may_all_cross(std::span<const std::byte> records, bool announces) {
    while (!records.empty()) {
        if (records.size() < sizeof(shm::record_header)) return false;
        std::uint32_t length;
        std::uint16_t what;
        std::memcpy(&length, records.data() + length_at, sizeof length);
        std::memcpy(&what, records.data() + kind_at, sizeof what);
        if (shm::span_of(length) > records.size() || !may_cross(what, announces)) return false;
        records = records.subspan(shm::span_of(length));
        announces = false;
    }
    return true;
}

}  // namespace

relay::relay(std::unique_ptr<detail::channel_state> local, std::uint64_t wire_id)
    : local_(std::move(local)),
      wire_id_(wire_id) {}

void relay::open(bool announce) {
    auto& out = local_->end().out();
    if (announce) (void)put(out, message{message_kind::opened, 0, {}});
    put_base_ = out.head();
    open_ = true;
}

void relay::refuse(errc code, const std::string& text) {
    auto& out = local_->end().out();
    (void)put(out, detail::make_refused(code, text, out.record_bytes_max()));
    local_->end().shut(shm::half_state::closed);
    out_ended_ = in_ended_ = true;
}

relay::progress relay::send_some(link& to) {
    if (!open_ || out_ended_) return progress::idle;
    if (is_given_up_) return end_sending(to, errc::corrupt);
    // It may have come while this channel was on its way to us, when no call found it.
    local_->attach_if_come();
    auto& in = local_->end().in();
    in.unpark();
    const auto room = remote_limit_ - std::min(remote_limit_, sent_);
    const auto some = in.try_peek_span(std::min<std::uint64_t>(records_bytes_max, room));
    // Ahead of every record that was put after it. Here, where the link's queue has room: a process
    // may change it as often as it likes.
    if (has_limit_news()) report_progress(to);
    switch (some.state) {
        case status::ok: send_span(to, some); return progress::sent;
        case status::full:  // not enough credit for the next record: none is ever taken in part
                            // here
            return progress::idle;
        case status::empty:
            in.park(shm::park_mode::doorbell);
            if (!in.is_ready() && !has_limit_news()) return progress::idle;
            in.unpark();
            return progress::sent;
        default: break;
    }
    // Where the peer node has closed, what the ring says now is only our own answer to that.
    return end_sending(to, in_ended_                         ? errc::closed
                           : some.state == status::closed    ? errc::closed
                           : some.state == status::peer_dead ? errc::peer_dead
                           : some.state == status::refused   ? errc::refused
                                                             : errc::corrupt);
}

/// Sends a copy: a tag would give away the ring's nonce, with which records are forged, and the
/// octets behind a payload are an older record's. Copied once and then checked, for whoever wrote
/// it may still be writing.
void relay::send_span(link& to, const shm::peeked_span& some) {
    std::vector<std::byte> copy(some.records.size());
    std::string wrong;
    std::size_t size = 0;
    while (size < copy.size()) {
        const auto* from = some.records.data() + size;
        const auto* header = reinterpret_cast<const shm::record_header*>(from);
        // relaxed: ordered by the tag, which was seen when the span was peeked.
        const auto length = header->length.load(std::memory_order_relaxed);
        const auto what = header->kind.load(std::memory_order_relaxed);    // relaxed: as above
        const auto flags = header->flags.load(std::memory_order_relaxed);  // relaxed: as above
        if (length > local_->end().in().record_bytes_max() ||
            shm::span_of(length) > copy.size() - size || !shm::is_sound(what, flags, length)) {
            wrong = "changed a record that it had put";
        } else if (!may_cross(what, local_place_announces && some.position + size == 0)) {
            wrong = "put a record of kind " + std::to_string(what);
        }
        if (!wrong.empty()) break;
        auto* into = copy.data() + size;
        std::memcpy(into + length_at, &length, sizeof length);
        std::memcpy(into + kind_at, &what, sizeof what);
        std::memcpy(into + flags_at, &flags, sizeof flags);
        std::memcpy(into + sizeof *header, from + sizeof *header, length);
        size += shm::span_of(length);
        unplaced_ends_.push_back(some.position + size);
    }
    copy.resize(size);
    sent_ = some.position + size;
    // Before any of it can leave. What the far place cannot get any more is not unknown.
    if (!far_reads_no_more_) local_->end().in().take_to(sent_);
    if (size > 0) to.send_data(wire_id_, some.position, std::move(copy));
    if (wrong.empty()) return;
    give_up_local("the place " + wrong);
}

/// Ends the local end as corrupt, and says so once.
void relay::give_up_local(const std::string& why) {
    local_->end().shut(shm::half_state::corrupt);
    if (std::exchange(is_given_up_, true)) return;
    if (!on_given_up) return;
    on_given_up("closed a channel of place " + std::to_string(local_->peer_id()) +
                " to another node: " + why);
}

void relay::give_up_corrupt() {
    const auto at = local_->corrupt_at();
    give_up_local(at ? "the place has broken its memory, first at position " + std::to_string(*at)
                     : std::string("the place says that what it was sent is broken"));
}

void relay::report_death(link& to) {
    if (!open_ || reported_death_ || out_ended_) return;
    const auto how = local_->peer_status();
    if (!how) return;
    reported_death_ = true;
    place_died_frame told{local_->peer_id(), wire_id_,
                          how->signalled ? death_reason::signalled : death_reason::exited,
                          how->value};
    // A place may have a thousand channels on this link, each with a text of its end.
    if (to.queued_bytes() < text_queue_bytes_max) told.text = how->text;
    to.send(std::move(told));
}

relay::progress relay::end_sending(link& to, errc reason) {
    const auto how = local_->peer_status();
    const bool may_yet_die = awaits_death_report && (!in_ended_ || local_was_started);
    if (reason == errc::closed && may_yet_die && !how) {
        return std::exchange(has_reported_closing_, true) ? progress::idle : progress::closing;
    }
    // A place tells the nursery why before it shuts its half.
    if (reason == errc::refused && awaits_death_report && local_->refusal().empty()) {
        return std::exchange(has_reported_closing_, true) ? progress::idle : progress::closing;
    }
    if (reason == errc::corrupt) give_up_corrupt();
    report_death(to);
    if (!in_ended_ && !reported_death_ && reason == errc::peer_dead) {
        to.send(place_died_frame{local_->peer_id(), wire_id_, death_reason::unknown, 0});
    }
    // It overtakes data that is still queued; the position says what to wait for.
    to.send(close_frame{wire_id_, sent_, reason,
                        reason == errc::refused ? local_->refusal() : std::string()});
    out_ended_ = true;
    return progress::ended;
}

bool relay::on_credit(const credit_frame& f) {
    if (!open_ || f.placed < acknowledged_ || f.placed > sent_ || f.limit < remote_limit_ ||
        f.limit < f.placed || f.limit - f.placed > shm::ring_bytes_max || f.dropped > f.placed) {
        return false;
    }
    auto& in = local_->end().in();
    const auto kept = f.placed - f.dropped;
    if (kept_ ? kept != *kept_ : kept < acknowledged_) return false;
    if (!kept_) {
        if (!acknowledge(kept)) return false;
        in.release_to(kept);
    }
    if (f.dropped > 0) {
        kept_ = kept;
        expect_no_more_reading();
        if (!acknowledge(f.placed)) return false;
        in.drop_to(f.placed);
    }
    remote_limit_ = f.limit;
    // Any number is good: a peer that allows nothing could as well read nothing.
    if (f.message_bytes_max != 0) local_->end().set_message_bytes_max(f.message_bytes_max);
    return true;
}

/// Returns: whether a record that was sent ends there, or `position` is no news.
bool relay::acknowledge(std::uint64_t position) {
    if (position == acknowledged_) return true;
    // By our own account of what was sent: the ring is the local process's to scribble over.
    const auto end = std::ranges::lower_bound(unplaced_ends_, position);
    if (end == unplaced_ends_.end() || *end != position) return false;
    unplaced_ends_.erase(unplaced_ends_.begin(), std::next(end));
    acknowledged_ = position;
    return true;
}

/// All that the far place has got is acknowledged: what else was sent is not unknown any more.
void relay::expect_no_more_reading() {
    if (std::exchange(far_reads_no_more_, true)) return;
    local_->end().in().take_to(acknowledged_);
}

bool relay::on_data(const data_frame& f) {
    if (!open_ || f.position != placed_) return false;
    if (closing_ && f.records.size() > closing_->position - placed_) return false;
    if (!may_all_cross(f.records, far_place_announces && placed_ == 0)) return false;
    // Looked at before and after: a local process that goes, or breaks its own ring, is no fault
    // of the peer node.
    if (is_read()) {
        const auto outcome = local_->end().out().try_put_span(f.records);
        if (outcome == status::too_large) give_up_local("no memory was left for its messages");
        if (outcome != status::ok && is_read()) return false;
    }
    placed_ += f.records.size();
    if (discards_) dropped_ += f.records.size();
    return true;
}

bool relay::is_read() {
    const auto state = local_->end().out().has_room(0);
    if (state == status::corrupt) give_up_corrupt();
    if (state != status::ok && state != status::full) discards_ = true;
    return !discards_;
}

void relay::send_credit(link& to) {
    if (!open_ || in_ended_) return;
    auto& out = local_->end().out();
    out.unpark();
    const auto half = out.capacity_bytes() / 2;
    // It is the look for room that finds how far it has read, or that it cannot have.
    const auto limit_now = [&] {
        const auto room = out.limit() - put_base_;
        return is_read() ? room : placed_ + out.capacity_bytes();
    };
    auto limit = limit_now();
    if (limit - placed_ < half) {
        // Little room: the reader calls us when there is half a ring.
        out.park(shm::park_mode::doorbell, half - sizeof(shm::record_header));
        limit = limit_now();
        if (limit - placed_ >= half) out.unpark();
    }
    if (placed_ == reported_placed_ && limit == reported_limit_) return;
    reported_limit_ = limit;
    report_progress(to);
}

void relay::report_progress(link& to) {
    reported_placed_ = placed_;
    // One read: the process may change it at any time.
    reported_message_max_ = local_->end().peer_message_bytes_max();
    to.send(credit_frame{wire_id_, placed_, reported_limit_, dropped_, reported_message_max_});
}

std::optional<exit_status> relay::on_died(const place_died_frame& f) {
    exit_status how{f.reason == death_reason::signalled, f.status};
    if (f.reason == death_reason::unknown || !detail::is_possible(how)) return std::nullopt;
    // Nobody dies twice, nor after the last word.
    if (!open_ || in_ended_ || std::exchange(received_death_, true)) return std::nullopt;
    // As here: an exception ends a place with 1.
    if (f.text.empty() || how != exit_status{.value = 1}) {
        local_->report_death(how);
        return std::nullopt;
    }
    how.text = f.text;
    return unreported_death_ = std::move(how);
}

void relay::on_text_sent(bool is_sent) {
    if (!unreported_death_) return;
    local_->report_death(*unreported_death_, is_sent);
    unreported_death_.reset();
    // The link may have been lost meanwhile.
    if (in_ended_) return local_->end().shut(shm::half_state::peer_dead);
    settle();
}

bool relay::on_close(const close_frame& f) {
    if (!open_ || f.position < placed_ || (closing_ && closing_->position != f.position)) {
        return false;
    }
    closing_ = f;
    expect_no_more_reading();
    settle();
    return true;
}

void relay::settle() {
    if (!closing_ || in_ended_ || unreported_death_ || placed_ < closing_->position) return;
    if (closing_->reason == errc::refused) report_refusal(closing_->text);
    local_->end().shut(state_for(closing_->reason));
    in_ended_ = true;
    if (on_far_end) std::exchange(on_far_end, {})();
}

/// The ring has no room for the reason: the nursery passes it on, which has the packet before the
/// ring says that there is one.
void relay::report_refusal(const std::string& why) {
    const std::string unknown = "the process on the other node could not use its end";
    local_->self().send(
        control::channel_closed{local_->id(), local_->number(), true, why.empty() ? unknown : why});
}

void relay::lose(const std::string& why) {
    if (!open_ && !in_ended_ && !was_asked_for) return refuse(errc::node_down, why);
    if (!in_ended_ && !unreported_death_) local_->end().shut(shm::half_state::peer_dead);
    out_ended_ = in_ended_ = true;
    if (on_far_end) std::exchange(on_far_end, {})();
}

}  // namespace places::net
