// SPDX-License-Identifier: Apache-2.0
#include <places/shm/endpoint.hpp>

#include <places/shm/assert.hpp>
#include <places/shm/ready_set.hpp>

#include <stdexcept>
#include <utility>

namespace places::shm {
namespace {

// Any nonce but 0: no record has the tag 0 then, which is all that a blank holds.
constexpr identity blank_identity{.magic = layout_magic,
                                  .major = layout_major,
                                  .minor = layout_minor,
                                  .header_bytes = header_bytes,
                                  .capacity_bytes = line_bytes,
                                  .nonce = 1,
                                  .channel_id = 0,
                                  .reserved = {}};
static_assert(tag_at(0, blank_identity.nonce) != 0);

constexpr std::uint32_t unknown_park = static_cast<std::uint32_t>(park_mode::unknown);
constexpr std::uint32_t park_epoch = 4;  // what the next park adds to a park word

half_mapping map_mine(const unique_fd& memory) {
    half_mapping mapping{memory, access::read_write};
    seal_against_writers(memory);
    return mapping;
}

half half_of(const half_mapping& m) { return {m.header(), m.data()}; }
peer_half peer_half_of(const half_mapping& m) { return {m.header(), m.data()}; }

}  // namespace

std::unique_ptr<endpoint::blank_half> endpoint::make_blank() {
    auto blank = std::make_unique<blank_half>();
    // relaxed: no other thread or process sees it.
    blank->header.reader_park.store(park_epoch | unknown_park, std::memory_order_relaxed);
    // relaxed: as above
    blank->header.writer_park.store(park_epoch | unknown_park, std::memory_order_relaxed);
    return blank;
}

peer_half endpoint::theirs() const noexcept {
    if (theirs_) return peer_half_of(*theirs_);
    return {&blank_->header, blank_->data.data()};
}

endpoint::endpoint(const unique_fd& mine)
    : mine_(map_mine(mine)),
      out_(half_of(mine_), theirs(), mine_.id(), *this),
      in_(half_of(mine_), theirs(), blank_identity, *this) {}

endpoint::endpoint(const unique_fd& mine, const unique_fd& theirs) : endpoint(mine) {
    attach(theirs);
}

void endpoint::attach(const unique_fd& theirs) {
    PLACES_ASSERT(!is_attached(), channel_id());
    half_mapping mapping{theirs, access::read_only};
    if (mapping.id().channel_id != mine_.id().channel_id) {
        throw std::runtime_error("shared memory refused: the two halves belong to two channels");
    }
    theirs_.emplace(std::move(mapping));
    their_header_ = theirs_->header();
    out_.attach(peer_half_of(*theirs_));
    in_.attach(peer_half_of(*theirs_), theirs_->id());
    blank_.reset();
}

endpoint::~endpoint() { shut(half_state::closed); }

void endpoint::shut(half_state why) noexcept {
    out_.drop_loan();
    shut_half(half_of(mine_), theirs(), why, *this);
}

void endpoint::send_word(std::uint32_t word) noexcept {
    shm::send_word(half_of(mine_), theirs(), word, *this);
}

std::uint32_t endpoint::received_word() const noexcept {
    // seq_cst [word] [doze]: after park(), the word is seen here or its teller has seen the park.
    return theirs().header->word.load(std::memory_order_seq_cst);
}

void endpoint::set_message_bytes_max(std::uint64_t limit) noexcept {
    // relaxed: one number that orders nothing; the receiver compares again.
    mine_.header()->message_bytes_max.store(limit, std::memory_order_relaxed);
}

void endpoint::announce_message_bytes_max(std::uint64_t limit) noexcept {
    // seq_cst [limit] [doze]: as the word.
    mine_.header()->message_bytes_max.store(limit, std::memory_order_seq_cst);
    // seq_cst [limit] [doze]: the peer either sees the limit or is seen here.
    const auto reader = theirs().header->reader_park.load(std::memory_order_seq_cst);
    if (reader != 0) wake(reader);
}

bool endpoint::is_shut() const noexcept {
    // relaxed: our own word.
    return mine_.header()->state.load(std::memory_order_relaxed) != 0;
}

void endpoint::peer_died() noexcept {
    out_.peer_died();
    in_.peer_died();
}

void endpoint::peer_refused() noexcept {
    out_.peer_refused();
    in_.peer_refused();
}

void endpoint::wake(std::uint32_t park_word) noexcept {
    const auto mode = static_cast<park_mode>(park_word & 3);
    if (mode != park_mode::futex && peer_doorbell_ >= 0) {
        ring_doorbell(peer_doorbell_, channel_id());
    }
    if (mode == park_mode::doorbell) return;
    if (mode == park_mode::unknown && blank_) {
        // As if the peer had parked again: the next publish calls it again.
        // relaxed: no other thread or process sees it.
        blank_->header.reader_park.store(park_word + park_epoch, std::memory_order_relaxed);
    }
    auto& bell = mine_.header()->bell;
    // release [bell]: the sleeper finds the word changed even if it has not gone to sleep yet.
    bell.fetch_add(1, std::memory_order_release);
    wake_all(bell);
}

watched_word endpoint::bell() const noexcept {
    const auto& bell = theirs().header->bell;
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
