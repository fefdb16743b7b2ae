// SPDX-License-Identifier: Apache-2.0
#include <places/core/channel.hpp>

#include "core/process.hpp"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <ostream>

namespace places {

std::string to_string(const exit_status& how) {
    const auto why = how.text.empty() ? std::string() : ": " + how.text;
    if (!how.signalled) return "exit code " + std::to_string(how.value) + why;
    const char* name = ::strsignal(how.value);
    return "signal " + std::to_string(how.value) + (name ? std::string(" (") + name + ")" : "") +
           why;
}

std::ostream& operator<<(std::ostream& out, const exit_status& how) {
    return out << to_string(how);
}

std::ostream& operator<<(std::ostream& out, const delivery& d) {
    // Not by the stream's own format: it may be set to hexadecimal.
    return out << std::to_string(d.accepted) << " accepted, " << std::to_string(d.delivered)
               << " delivered, " << std::to_string(d.undelivered) << " undelivered, "
               << std::to_string(d.unknown) << " unknown";
}

channel::channel() noexcept = default;
channel::channel(std::unique_ptr<detail::channel_state> state) noexcept
    : state_(std::move(state)) {}
channel::channel(channel&&) noexcept = default;
channel& channel::operator=(channel&& other) noexcept {
    if (this != &other) {
        drop();
        state_ = std::move(other.state_);
    }
    return *this;
}
channel::~channel() { drop(); }

void channel::check_caller() {
    if (state_) state_->check_caller();
}

/// In a forked process the end stays as it is: its parent's.
void channel::drop() noexcept {
    if (state_ && state_->is_forked()) {
        (void)state_.release();
    } else {
        state_.reset();
    }
}

status channel::put_bytes(message_kind k, std::uint16_t type, std::span<const std::byte> payload,
                          clock::time_point until) {
    if (!state_) return status::closed;
    return state_->put(k, type, payload, until);
}

shm::peeked channel::next(clock::time_point until) {
    if (state_) state_->give_back_shown();
    return look(until);
}

shm::peeked channel::look(clock::time_point until) {
    if (!state_) return {status::closed, {}};
    return state_->next_message(until);
}

status channel::send(const message& m, clock::time_point until) {
    const auto what = static_cast<std::uint16_t>(m.kind());
    const bool is_aside_word =
        m.kind() == message_kind::opened || m.kind() == message_kind::refused;
    if (m.kind() == message_kind::part || (what & (shm::continues | shm::packed)) != 0 ||
        ((what & shm::aside) != 0 && !is_aside_word)) {
        throw error(errc::bad_argument, "a message of kind " + std::to_string(what) +
                                            ", which only channels make: send the whole message");
    }
    return put_bytes(m.kind(), m.type(), m.bytes(), until);
}

result<message> channel::receive(clock::time_point until) {
    const auto next_one = next(until);
    if (next_one.state != status::ok) return reason_of(next_one.state);
    return state_->take(next_one.record);
}

result<std::span<std::byte>> channel::loan_until(std::size_t size, clock::time_point until) {
    if (!state_) return make_error_code(status::closed);
    const auto room = state_->loan(size, until);
    if (room.state != status::ok) return reason_of(room.state);
    return room.payload;
}

void channel::publish(std::size_t used) {
    check_caller();
    if (state_)
        state_->end().out().publish(static_cast<std::uint16_t>(message_kind::bytes), 0, used);
}

result<std::span<const std::byte>> channel::peek_until(clock::time_point until) {
    const auto next_one = look(until);
    if (next_one.state != status::ok) return reason_of(next_one.state);
    return next_one.record.payload;
}

void channel::release() {
    check_caller();
    if (state_) state_->release();
}

void channel::close() noexcept {
    if (state_ && !state_->is_forked()) state_->end().shut(shm::half_state::closed);
}

bool channel::is_open() const noexcept { return state_ && !state_->end().is_shut(); }

std::optional<std::uint64_t> channel::corrupt_at() const noexcept {
    return state_ ? state_->corrupt_at() : std::nullopt;
}

std::size_t channel::message_bytes_max() const noexcept {
    return state_ ? state_->message_bytes_max() : 0;
}

void channel::set_message_bytes_max(std::size_t limit) noexcept {
    if (state_) state_->set_message_bytes_max(limit);
}

std::size_t channel::sendable_bytes_max() const noexcept {
    return state_ ? state_->sendable_bytes_max() : 0;
}

std::size_t channel::record_bytes_max() const noexcept {
    return state_ ? state_->end().out().record_bytes_max() : 0;
}

status channel::add_bytes(message_kind k, std::uint16_t type, std::span<const std::byte> payload,
                          clock::time_point until) {
    return state_ ? state_->add(k, type, payload, until) : status::closed;
}

batch_outcome channel::add_run(std::uint16_t type, std::size_t size,
                               std::span<const std::byte> values, clock::time_point until) {
    if (!state_) return {status::closed, 0};
    return state_->add_run(type, size, values, until);
}

result<std::span<std::byte>> channel::add_loan(std::size_t size) {
    if (!state_) return make_error_code(status::closed);
    const auto room = state_->add_loan(size);
    if (room.state != status::ok) return reason_of(room.state);
    return room.payload;
}

void channel::publish_batch() {
    check_caller();
    publish_added();
}

void channel::publish_added() noexcept {
    if (state_) state_->end().out().publish_batch();
}

result<std::size_t> channel::peek_batch_until(std::span<std::span<const std::byte>> into,
                                              clock::time_point until) {
    std::size_t count = 0;
    while (count < into.size()) {
        const auto next_one = look(count == 0 ? until : clock::time_point::min());
        if (next_one.state != status::ok) {
            if (count == 0) return reason_of(next_one.state);
            break;
        }
        into[count++] = next_one.record.payload;
        // One that came in parts lies in our own memory, where the next such one will lie.
        if (!state_->is_in_ring()) break;
        step_over();
    }
    return count;
}

std::size_t channel::take_run(std::uint16_t type, std::size_t size, std::span<std::byte> into) {
    return state_->take_run(type, size, into);
}

void channel::consume() {
    if (state_) state_->consume();
}

void channel::step_over() {
    if (state_) state_->skip();
}

status channel::skip_until(clock::time_point until) {
    const auto next_one = next(until);
    if (next_one.state == status::ok) consume();
    // One over the limit has been passed over already.
    return next_one.state == status::too_large ? status::ok : next_one.state;
}

void channel::release_skipped() {
    if (state_) state_->release_skipped();
}

result<void> channel::set_busy_poll(bool on) {
    if (!state_) return make_error_code(status::closed);
    state_->check_caller();
    try {
        state_->set_polls(on);
        return {};
    } catch (const error& e) {
        return e.code();
    }
}

bool channel::is_busy_polling() const noexcept { return state_ && state_->polls(); }

reason channel::reason_of(status s) {
    return state_ ? state_->reason_of(s) : reason(make_error_code(s));
}

std::string channel::refusal() const {
    if (!state_) return {};
    state_->self().origin().check();
    if (state_->self().is_notified()) state_->self().pump();
    state_->take_up_peer();
    return state_->await_refusal();
}

std::optional<exit_status> channel::peer_status() const {
    if (!state_) return std::nullopt;
    state_->self().origin().check();
    if (state_->self().is_notified()) state_->self().pump();
    state_->take_up_peer();
    return state_->peer_status();
}

delivery channel::sent() const {
    if (!state_) return {};
    state_->check_caller();
    state_->take_up_peer();
    const auto a = state_->sent();
    return {a.accepted, a.delivered, a.undelivered, a.unknown};
}

delivery channel::received() const {
    if (!state_) return {};
    state_->check_caller();
    state_->take_up_peer();
    const auto a = state_->end().in().count();
    return {a.accepted, a.delivered, a.undelivered, 0};
}

}  // namespace places
