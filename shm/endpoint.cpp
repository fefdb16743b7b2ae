// SPDX-License-Identifier: Apache-2.0
#include <places/shm/endpoint.hpp>

#include <places/shm/ready_set.hpp>

#include <stdexcept>

namespace places::shm {
namespace {

half_mapping map_mine(unique_fd memory, endpoint::seal mode) {
    half_mapping mapping{memory, access::read_write};
    if (mode == endpoint::seal::sealed) seal_against_writers(memory);
    return mapping;
}

half_mapping map_theirs(unique_fd memory, const half_mapping& mine) {
    half_mapping mapping{memory, access::read_only};
    if (mapping.id().channel_id != mine.id().channel_id) {
        throw std::runtime_error("shared memory refused: the two halves belong to two channels");
    }
    return mapping;
}

half half_of(const half_mapping& m) { return {m.header(), m.data()}; }
peer_half peer_half_of(const half_mapping& m) { return {m.header(), m.data()}; }

}  // namespace

endpoint::endpoint(unique_fd mine, unique_fd theirs, seal mode)
    : mine_(map_mine(std::move(mine), mode)),
      theirs_(map_theirs(std::move(theirs), mine_)),
      out_(half_of(mine_), peer_half_of(theirs_), mine_.id(), *this),
      in_(half_of(mine_), peer_half_of(theirs_), theirs_.id(), *this) {}

endpoint::~endpoint() { shut(half_state::closed); }

void endpoint::shut(half_state why) noexcept {
    out_.drop_loan();
    shut_half(half_of(mine_), peer_half_of(theirs_), why, *this);
}

void endpoint::tell(std::uint32_t word) noexcept {
    tell_word(half_of(mine_), peer_half_of(theirs_), word, *this);
}

std::uint32_t endpoint::told() const noexcept {
    // seq_cst [word] [doze]: after park(), the word is seen here or its teller has seen the park.
    return theirs_.header()->word.load(std::memory_order_seq_cst);
}

bool endpoint::is_shut() const noexcept {
    // relaxed: our own word.
    return mine_.header()->state.load(std::memory_order_relaxed) != 0;
}

void endpoint::peer_died() noexcept {
    out_.peer_died();
    in_.peer_died();
}

void endpoint::wake(std::uint32_t park_word) noexcept {
    if ((park_word & 3) == static_cast<std::uint32_t>(park_mode::doorbell)) {
        if (peer_doorbell_ >= 0) ring_doorbell(peer_doorbell_, channel_id());
        return;
    }
    auto& bell = mine_.header()->bell;
    // release [bell]: the sleeper finds the word changed even if it has not gone to sleep yet.
    bell.fetch_add(1, std::memory_order_release);
    wake_all(bell);
}

watched_word endpoint::bell() const noexcept {
    const auto& bell = theirs_.header()->bell;
    // acquire [bell]: read before the park word is stored, so a wake that answers it changes it.
    return {&bell, bell.load(std::memory_order_acquire)};
}

bool endpoint::wait_record(deadline until) {
    if (spin_.spin([&] { return in_.is_ready(); })) return true;
    const auto seen = bell();
    in_.park(park_mode::futex);
    const bool in_time = in_.is_ready() || sleep_until_changed({&seen, 1}, until);
    in_.unpark();
    return in_time;
}

bool endpoint::await_ample_room(std::size_t bytes, spin_budget& spin) {
    const auto ample = out_.ample_bytes();
    return bytes < ample &&
           spin.spin_sparsely([&] { return out_.has_room(ample) != status::full; });
}

bool endpoint::wait_room(std::size_t bytes, deadline until) {
    const auto ready = [&] { return out_.has_room(bytes) != status::full; };
    if (await_ample_room(bytes, spin_) || spin_.spin(ready)) return true;
    const auto seen = bell();
    out_.park(park_mode::futex, bytes);
    const bool in_time = ready() || sleep_until_changed({&seen, 1}, until);
    out_.unpark();
    return in_time;
}

status endpoint::put_for(std::uint16_t kind, std::uint16_t flags,
                         std::span<const std::byte> payload, deadline until) {
    while (true) {
        const auto outcome = out_.try_put(kind, flags, payload);
        if (outcome != status::full) return outcome;
        if (!wait_room(payload.size(), until)) return status::timeout;
    }
}

status endpoint::take(const peeked& next, record_copy& into) {
    if (next.state != status::ok) return next.state;
    into.payload.assign(next.record.payload.begin(), next.record.payload.end());
    into.kind = next.record.kind;
    into.flags = next.record.flags;
    in_.release();
    return status::ok;
}

peeked endpoint::peek_for(deadline until) {
    peeked next;
    while (true) {
        next = in_.try_peek();
        if (next.state != status::empty) return next;
        // Most waits between two that are awake are this short: nothing but the tag is looked at.
        if (spin_.spin_briefly([this] { return in_.has_come(); })) continue;
        if (!wait_record(until)) {
            next.state = status::timeout;
            return next;
        }
    }
}

}  // namespace places::shm
