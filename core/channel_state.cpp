// SPDX-License-Identifier: Apache-2.0
#include "core/channel_state.hpp"

#include "core/process.hpp"
#include "core/text.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace places::detail {
namespace {

// Memory that a channel keeps for the next large message.
constexpr std::size_t kept_bytes_max = 1 << 20;

// No process has a message that is larger: x86-64 gives it 47 bits of addresses.
constexpr std::uint64_t address_space_bytes = std::uint64_t{1} << 47;

// How long the reason may take that the nursery has already.
constexpr std::chrono::seconds refusal_limit{1};

constexpr std::uint16_t number_of(message_kind k) noexcept { return static_cast<std::uint16_t>(k); }

// A bridge's word on a place of another node.
constexpr std::uint32_t has_exited = 0x100;
constexpr std::uint32_t was_signalled = 0x200;
constexpr std::uint32_t text_is_sent = 0x400;  // in a control::peer_ended, on its way or here
constexpr std::uint32_t value_bits = 0xff;

std::uint32_t word_of(const exit_status& how) noexcept {
    return (how.signalled ? was_signalled : has_exited) | static_cast<std::uint32_t>(how.value);
}

std::optional<exit_status> status_in(std::uint32_t word) noexcept {
    word &= ~text_is_sent;
    const exit_status how{(word & was_signalled) != 0, static_cast<int>(word & value_bits)};
    if (!is_possible(how) || word_of(how) != word) return std::nullopt;
    return how;
}

}  // namespace

bool is_possible(const exit_status& how) noexcept {
    constexpr int signal_max = 64;  // Linux has none beyond
    return how.signalled ? how.value >= 1 && how.value <= signal_max
                         : how.value >= 0 && how.value <= 255;
}

channel_state::channel_state(process& self, const control::granted& grant, const unique_fd& mine,
                             unique_fd peer_doorbell)
    : self_(self),
      origin_(self.origin().word()),
      peer_id_(grant.peer_id),
      peer_pid_(grant.peer_pid),
      number_(grant.end),
      peer_is_bridge_(grant.peer_is_bridge),
      peer_doorbell_(self.doorbell_of(grant.peer_id, std::move(peer_doorbell))),
      end_(mine) {
    end_.set_peer_doorbell(peer_doorbell_->get());
    self_.add(*this);
}

std::shared_ptr<process> channel_state::life_of(process& self) noexcept {
    return self.weak_from_this().lock();
}

channel_state::~channel_state() {
    if (park_observer_) std::exchange(park_observer_, {})(attention::gone);
    if (polls_) self_.end_polling();
    end_.shut(shm::half_state::closed);
    self_.remove(*this);
    self_.send(control::channel_closed{
        id(), number_, !is_shared_, is_shared_ ? std::string() : "its memory could not be shared"});
}

// -- the other end's memory --

void channel_state::peer_memory_came(unique_fd memory) {
    const std::lock_guard lock(mutex_);
    peer_memory_ = std::move(memory);
    peer_has_opened_ = true;
    // release [memory]
    has_peer_memory_.store(true, std::memory_order_release);
}

void channel_state::look_for_peer() {
    if (self_.is_notified()) self_.pump();
    attach_if_come();
}

void channel_state::attach_peer() {
    unique_fd memory;
    {
        const std::lock_guard lock(mutex_);
        memory = std::move(peer_memory_);
        // relaxed: under the lock, and set once.
        has_peer_memory_.store(false, std::memory_order_relaxed);
    }
    std::string why;
    try {
        if (memory) return end_.attach(memory);
        why = no_descriptor_for_channel;
    } catch (const std::exception& e) {
        why = e.what();
    }
    peer_hung_up(self_.name() + ": " + why, true);
    self_.send(control::channel_closed{id(), number_, true, why});
    // After that: the process at the other end sees the half shut, and waits for the reason.
    end_.shut(shm::half_state::refused);
}

void channel_state::await_peer() {
    const auto ready = [this] { return is_attached() || end_.in().peer_state() != status::ok; };
    // It holds none of the interest's roles parked: what ends the wait is a packet.
    (void)self_.wait(
        {}, [&] { return take_up_peer(), ready(); }, shm::no_deadline, spin_);
    // Another thread may have taken its memory and its death between the two looks.
    take_up_peer();
}

void channel_state::peer_hung_up(const std::string& why, bool may_have_read) {
    {
        const std::lock_guard lock(mutex_);
        if (refusal_.empty()) refusal_ = printable_text(why);
        peer_has_opened_ |= may_have_read;
        peer_never_opened_ |= !peer_has_opened_;
    }
    end_.peer_refused();
}

std::string channel_state::refusal() const {
    const std::lock_guard lock(mutex_);
    return refusal_;
}

std::string channel_state::await_refusal() {
    if (end_.in().peer_state() == status::refused && refusal().empty()) {
        const auto is_known = [this] { return !refusal().empty(); };
        if (!self_.wait({}, is_known, deadline_after(refusal_limit), spin_)) {
            peer_hung_up("the process at the other end does not say why", true);
        }
    }
    return refusal();
}

std::string channel_state::why_not_begun() {
    // Where one of the two could not use its end, the place ends for that.
    const auto why = refusal();
    const auto how = process_status();
    return why.empty() && how ? "the new place ended before it had begun: " + to_string(*how)
                              : "the new place could not have its channel: " + why;
}

reason channel_state::reason_of(status s) {
    const auto code = make_error_code(s);
    if (s != status::refused) return code;
    const auto why = await_refusal();
    return why.empty() ? reason(code) : reason(code, code.message() + ": " + why);
}

/// For a caller that is not the one of the last call.
void channel_state::admit(std::uint64_t caller) {
    self_.origin().check();
    waits_.check(id());
    if (park_observer_) park_observer_(attention::another_thread);
    user_.store(caller, std::memory_order_relaxed);  // relaxed: as in check_caller()
}

// -- receiving --

/// Whether nothing more is received, as this place was asked to stop. All that the ring may have
/// held when it was asked lies before the position `stop_at_`.
bool channel_state::is_stopped() noexcept {
    // What was published before the other end's memory has come is received too.
    if (!ends_with_stop_ || !self_.is_stop_asked() || !is_attached()) return false;
    auto& in = end_.in();
    if (!stop_at_) stop_at_ = in.released() + in.capacity_bytes();
    return in.read() >= *stop_at_ && !incoming_.is_complete;
}

/// Before the first message is read, since the user may raise the limit until then.
void channel_state::announce_limit() noexcept {
    has_announced_limit_ = true;
    // 0 would say nothing.
    const auto limit = std::max<std::uint64_t>(message_bytes_max_, 1);
    // A bridge passes it on to the other node.
    if (peer_is_bridge_) return end_.announce_message_bytes_max(limit);
    end_.set_message_bytes_max(limit);
}

/// The next message if it is there, which `into` is with ok alone; takes in the parts of one that
/// is not yet whole, at most a ring of them: others wait for this thread. One over the limit is
/// too_large until it is stepped over.
status channel_state::next_now(shm::record_view& into) {
    if (is_stopped()) return status::closed;
    if (!has_announced_limit_) announce_limit();
    std::uint64_t taken = 0;
    was_cut_short_ = false;
    while (taken <= end_.in().capacity_bytes()) {
        if (incoming_.is_broken) return status::corrupt;
        if (incoming_.is_complete) {
            if (incoming_.is_over_limit) return status::too_large;
            into = {incoming_.kind, incoming_.type, incoming_.octets};
            return status::ok;
        }
        const auto state = end_.in().try_peek(into);
        if (state == status::empty) {
            if (seen_ == status::ok) return fail();
            if (seen_ != status::empty || !stop_at_) return seen_;
            stop_at_ = end_.in().read();
            return status::closed;
        }
        if (state != status::ok) {
            // Another thread may have taken both packets, of this memory and of the end.
            if (!is_attached()) {
                attach_if_come();
                if (is_attached()) continue;
            }
            drop_incoming();  // whoever has gone will not finish it
            return seen_ = state;
        }
        const auto what = into.kind;
        const bool is_part = (what & shm::continues) != 0 || what == number_of(message_kind::part);
        if (is_part && seen_ == status::ok) return fail();  // it was a whole message
        const bool is_over_limit = !is_part && into.payload.size() > message_bytes_max_;
        if ((is_part || is_over_limit) && holds_skipped_) {
            // Taking it in, or passing over it, would give back what the caller still looks at.
            withholds_part_ = true;
            return status::empty;
        }
        if (is_part) {
            taken += into.payload.size() + sizeof(shm::record_header);
            if (!take_in(into)) return fail();
            continue;
        }
        drop_incoming();  // nor will whoever sends another
        seen_ = state;
        return is_over_limit ? status::too_large : state;
    }
    was_cut_short_ = true;
    return status::empty;
}

void channel_state::drop_incoming() {
    incoming_.expected_bytes = 0;
    incoming_.is_over_limit = false;
    // One large message is no reason to hold its memory.
    if (incoming_.octets.capacity() > kept_bytes_max) incoming_.octets = {};
}

/// Shape:   the first part begins with the whole message's size.
/// Returns: false when the parts make no message.
bool channel_state::take_in(const shm::record_view& part) {
    auto& in = incoming_;
    auto payload = part.payload;
    const bool ends = (part.kind & shm::continues) == 0;
    if ((part.kind & ~shm::continues) != number_of(message_kind::part)) {
        std::uint64_t whole = 0;
        if (payload.size() < sizeof whole) return false;
        std::memcpy(&whole, payload.data(), sizeof whole);
        payload = payload.subspan(sizeof whole);
        if (whole > address_space_bytes) return false;
        in.octets.clear();
        in.come_bytes = 0;
        in.is_over_limit = whole > message_bytes_max_;
        // Not all at once: a size is easily said.
        if (!in.is_over_limit) in.octets.reserve(std::min<std::uint64_t>(whole, kept_bytes_max));
        in.kind = part.kind & ~shm::continues;
        in.type = part.flags;
        in.expected_bytes = whole;
    } else if (in.expected_bytes == 0) {
        return false;
    }
    if (payload.size() > in.expected_bytes - in.come_bytes) return false;
    if (payload.empty() && !ends) return false;
    if (!in.is_over_limit) in.octets.insert(in.octets.end(), payload.begin(), payload.end());
    in.come_bytes += payload.size();
    if ((in.come_bytes == in.expected_bytes) != ends) return false;
    in.is_complete = ends;
    if (!ends) end_.in().release();
    return true;
}

status channel_state::fail() {
    incoming_.is_broken = true;
    incoming_.broken_at = end_.in().read();
    end_.shut(shm::half_state::corrupt);
    return status::corrupt;
}

bool channel_state::has_message() {
    if (incoming_.is_complete || incoming_.is_broken || seen_ != status::empty) return true;
    was_cut_short_ = false;
    const bool ends = ends_with_stop_ && self_.is_stop_asked();
    if (!end_.in().is_ready() && !ends) return false;
    shm::record_view unused;
    return next_now(unused) != status::empty;
}

shm::peeked channel_state::next_message(shm::deadline until) {
    check_caller();
    shm::peeked next;
    if (self_.is_notified()) self_.pump();
    take_up_peer();
    next.state = next_now(next.record);
    if (next.state == status::ok) return next;
    next.record = {};
    if (next.state == status::too_large) consume();
    if (next.state != status::empty || until == shm::deadline::min()) return next;
    return await_message(until);
}

shm::peeked channel_state::await_message(shm::deadline until) {
    const wait_mark::scope here{waits_, "a call that receives"};
    claim();
    shm::peeked next;
    while (true) {
        // Most waits between two that are awake are this short: nothing but the tag is looked at.
        // A sender of parts without end is there each time: the limit holds all the same.
        const auto has_come = [this] { return !withholds_part_ && end_.in().has_come(); };
        const bool is_short =
            !current_waiter() && spin_.spin_briefly(has_come) &&
            (until == shm::no_deadline || std::chrono::steady_clock::now() < until);
        const interest on{.channel = this, .record = true};
        if (!is_short && !self_.wait(
                             {&on, 1}, [this] { return has_message(); }, until, spin_)) {
            next.state = status::timeout;
            return next;
        }
        if (self_.is_notified()) self_.pump();
        take_up_peer();
        next.state = next_now(next.record);
        if (next.state == status::ok) return next;
        next.record = {};
        if (next.state == status::too_large) consume();
        if (next.state != status::empty) return next;
    }
}

void channel_state::log_passed_over() const {
    log_to_parent(severity::warning, "a message of over " + std::to_string(message_bytes_max_) +
                                         " bytes, the limit of its channel, was passed over");
}

message channel_state::take(const shm::record_view& shown) {
    std::vector<std::byte> octets;
    if (incoming_.is_complete) {
        octets = std::move(incoming_.octets);
    } else {
        octets.assign(shown.payload.begin(), shown.payload.end());
    }
    message m{static_cast<message_kind>(shown.kind), shown.flags, std::move(octets)};
    consume();
    return m;
}

void channel_state::consume() {
    skip();
    release_skipped();
}

void channel_state::release() {
    // What was looked at since is for whoever asks next.
    if (!holds_skipped_) skip();
    release_skipped();
}

void channel_state::skip() {
    end_.in().skip();
    forget_seen();
    holds_skipped_ = true;
    if (!incoming_.is_complete) return;
    incoming_.is_complete = false;
    drop_incoming();
}

std::size_t channel_state::take_run(std::uint16_t type, std::size_t size,
                                    std::span<std::byte> into) {
    if (incoming_.is_complete || incoming_.is_broken || incoming_.expected_bytes != 0) return 0;
    if (size > message_bytes_max_) return 0;
    auto& in = end_.in();
    std::size_t count = 0;
    for (; !into.empty(); ++count, into = into.subspan(size)) {
        const auto next = in.try_peek();
        if (next.state != status::ok || !is_raw_record(next.record, type, size)) break;
        std::memcpy(into.data(), next.record.payload.data(), size);
        in.skip();
    }
    if (count > 0) forget_seen();
    holds_skipped_ |= count > 0;
    return count;
}

void channel_state::release_skipped() {
    holds_skipped_ = false;
    end_.in().release_skipped();
    if (!std::exchange(withholds_part_, false)) return;
    // It came before they slept, or they looked when it was not to be had: nobody calls them.
    was_unparked();
    self_.wake_waits();
}

// -- sending --

void channel_state::set_polls(bool on) {
    if (on == polls_) return;
    if (!on) {
        self_.end_polling();
    } else {
        self_.begin_polling();
        if (polls_) self_.end_polling();  // another body has asked meanwhile
    }
    polls_ = on;
}

status channel_state::await_room(std::size_t bytes, shm::deadline until) {
    const wait_mark::scope here{waits_, "a call that sends"};
    claim();
    if (!current_waiter() && end_.await_ample_room(bytes, spin_)) return status::ok;
    const interest on{.channel = this, .room = true, .room_bytes = bytes};
    const auto ready = [&] { return end_.out().has_room(bytes) != status::full; };
    return self_.wait({&on, 1}, ready, until, spin_) ? status::ok : status::timeout;
}

/// Waits while another body's message goes out in parts.
inline status channel_state::await_turn(shm::deadline until) {
    if (self_.is_notified()) self_.pump();
    take_up_peer();
    return is_sending_parts_ ? await_end_of_parts(until) : status::ok;
}

status channel_state::await_end_of_parts(shm::deadline until) {
    if (until == shm::deadline::min()) return status::full;
    const wait_mark::scope here{waits_, "a call that sends"};
    claim();
    const auto ready = [this] { return !is_sending_parts_; };
    const bool in_time = self_.wait({}, ready, until, spin_);
    // Without a limit only the nursery's end cuts it short; the ring says what follows from that.
    return in_time || until == shm::no_deadline ? status::ok : status::timeout;
}

shm::loan channel_state::loan(std::size_t bytes, shm::deadline until) {
    check_caller();
    if (bytes > sendable_bytes_max()) return {status::too_large, {}};
    while (true) {
        if (const auto turn = await_turn(until); turn != status::ok) return {turn, {}};
        const auto room = end_.out().try_loan(bytes);
        if (room.state != status::full || until == shm::deadline::min()) return room;
        if (await_room(bytes, until) != status::ok) return {status::timeout, {}};
    }
}

status channel_state::put(message_kind k, std::uint16_t type, std::span<const std::byte> payload,
                          shm::deadline until) {
    check_caller();
    if (payload.size() > sendable_bytes_max()) return status::too_large;
    auto& out = end_.out();
    if (payload.size() > out.record_bytes_max()) {
        return put_parts({.kind = k, .type = type, .payload = payload}, until);
    }
    while (true) {
        if (const auto turn = await_turn(until); turn != status::ok) return turn;
        const auto sent = out.try_put(number_of(k), type, payload);
        if (sent != status::full || until == shm::deadline::min()) return sent;
        if (await_room(payload.size(), until) != status::ok) return status::timeout;
    }
}

status channel_state::add(message_kind k, std::uint16_t type, std::span<const std::byte> payload,
                          shm::deadline until) {
    check_caller();
    auto& out = end_.out();
    if (payload.size() > std::min(out.record_bytes_max(), sendable_bytes_max())) {
        out.publish_batch();
        return put(k, type, payload, until);
    }
    while (true) {
        if (const auto turn = await_turn(until); turn != status::ok) return turn;
        const auto added = out.try_add(number_of(k), type, payload);
        // Early enough that the other side reads while we write.
        if (added == status::full || out.batched_bytes() >= out.capacity_bytes() / 8) {
            out.publish_batch();
        }
        if (added != status::full || until == shm::deadline::min()) return added;
        if (await_room(payload.size(), until) != status::ok) return status::timeout;
    }
}

batch_outcome channel_state::add_run(std::uint16_t type, std::size_t size,
                                     std::span<const std::byte> values, shm::deadline until) {
    batch_outcome done;
    for (; !values.empty(); values = values.subspan(size), ++done.count) {
        done.state = add(message_kind::raw, type, values.first(size), until);
        if (done.state != status::ok) break;
    }
    return done;
}

shm::loan channel_state::add_loan(std::size_t bytes) {
    check_caller();
    if (bytes > sendable_bytes_max()) return {status::too_large, {}};
    if (is_sending_parts_) return {status::full, {}};
    return end_.out().try_add_loan(0, 0, bytes);
}

bool channel_state::can_advance(const outgoing& m) {
    const bool is_next = m.has_begun || !is_sending_parts_;
    const auto room = end_.out().has_room(is_next ? next_record_bytes(m) : 0);
    return is_next ? room != status::full : room != status::full && room != status::ok;
}

std::size_t channel_state::next_record_bytes(const outgoing& m) noexcept {
    const auto most = end_.out().record_bytes_max();
    if (m.has_begun) return std::min(most, m.payload.size() - m.sent);
    return m.payload.size() <= most ? m.payload.size() : most;
}

status channel_state::advance(outgoing& m) {
    check_caller();
    auto& out = end_.out();
    // Once it has begun it is on its way, whatever the other end says of its limit meanwhile.
    if (!m.has_begun && m.payload.size() > sendable_bytes_max()) return status::too_large;
    const bool in_parts = m.payload.size() > out.record_bytes_max();
    if (!can_advance(m)) return status::full;
    while (true) {
        const auto room = out.try_loan(next_record_bytes(m));
        if (room.state != status::ok) {
            if (room.state != status::full) give_up(m);
            return room.state;
        }
        auto into = room.payload;
        const auto what = m.has_begun ? message_kind::part : m.kind;
        if (in_parts && !m.has_begun) {
            const std::uint64_t whole = m.payload.size();
            std::memcpy(into.data(), &whole, sizeof whole);
            into = into.subspan(sizeof whole);
        }
        const auto some = m.payload.subspan(m.sent, into.size());
        std::copy(some.begin(), some.end(), into.begin());
        m.sent += some.size();
        m.has_begun = true;
        const bool ends = m.sent == m.payload.size();
        const auto goes_on = ends ? std::uint16_t{0} : shm::continues;
        out.publish(number_of(what) | goes_on, m.type, room.payload.size());
        is_sending_parts_ = !ends;
        if (!ends) continue;
        if (in_parts) self_.wake_waits();
        return status::ok;
    }
}

void channel_state::give_up(const outgoing& m) noexcept {
    if (!m.has_begun || m.sent == m.payload.size()) return;
    is_sending_parts_ = false;
    self_.wake_waits();
}

status channel_state::put_parts(outgoing m, shm::deadline until) {
    if (until == shm::deadline::min()) {
        // All at once or not at all, as whoever does not wait expects.
        auto& out = end_.out();
        const auto most = out.record_bytes_max();
        const auto octets = m.payload.size() + sizeof(std::uint64_t);
        const auto span = octets / most * shm::span_of(most) + shm::span_of(octets % most);
        if (m.payload.size() > sendable_bytes_max() || span > out.capacity_bytes()) {
            return status::too_large;
        }
        if (const auto open = out.has_room(0); open != status::ok) return open;
        if (out.limit() - out.head() < span) return status::full;
    }
    // Also when a router unwinds this body: what was begun is dropped, and others may send.
    const auto end = [this](outgoing* given_up) { give_up(*given_up); };
    const std::unique_ptr<outgoing, decltype(end)> guard{&m, end};
    while (true) {
        const auto sent = advance(m);
        if (sent != status::full) return sent;
        if (self_.is_notified()) self_.pump();  // who has died meanwhile, say: it may take long
        const bool is_next = m.has_begun || !is_sending_parts_;
        const auto waited = is_next ? await_room(next_record_bytes(m), until) : await_turn(until);
        if (waited != status::ok) return waited;
    }
}

shm::account channel_state::sent() {
    const auto result = end_.out().count();
    if (is_attached() || end_.in().peer_state() == status::ok) return result;
    // How far the peer has read stands in its memory, which will not come any more.
    const std::lock_guard lock(mutex_);
    if (peer_never_opened_) return result;
    return {.accepted = result.accepted, .unknown = result.accepted};
}

std::optional<exit_status> channel_state::peer_status() const {
    const std::lock_guard lock(mutex_);
    if (!peer_is_bridge_ || peer_status_) return peer_status_;
    if (is_text_to_come()) return std::nullopt;
    return status_in(end_.received_word());
}

bool channel_state::awaits_text() const {
    const std::lock_guard lock(mutex_);
    return peer_is_bridge_ && is_text_to_come();
}

/// Shape: mutex_ is held.
bool channel_state::is_text_to_come() const {
    return !peer_status_ && !bridge_status_ && (end_.received_word() & text_is_sent) != 0;
}

void channel_state::report_death(const exit_status& how, bool is_text_sent) noexcept {
    end_.send_word(word_of(how) | (is_text_sent ? text_is_sent : 0));
}

void channel_state::place_behind_ended(const exit_status& how) {
    const std::lock_guard lock(mutex_);
    if (peer_is_bridge_ && !peer_status_) peer_status_ = how;
}

std::optional<exit_status> channel_state::process_status() const {
    const std::lock_guard lock(mutex_);
    return peer_is_bridge_ ? bridge_status_ : peer_status_;
}

void channel_state::peer_died(const exit_status& how, bool is_reported) {
    {
        const std::lock_guard lock(mutex_);
        auto& known = peer_is_bridge_ ? bridge_status_ : peer_status_;
        // The first word stands: a nursery that ends later says nothing of the place.
        if (!known) known = how;
        // A nursery that was killed may have kept the peer's memory to itself.
        peer_never_opened_ |= !peer_has_opened_ && is_reported;
    }
    end_.peer_died();
}

}  // namespace places::detail
