// SPDX-License-Identifier: Apache-2.0
#include <places/shm/ring.hpp>

#include <places/shm/assert.hpp>

#include <algorithm>
#include <iterator>
#include <new>
#include <utility>

namespace places::shm {
namespace {

// Larger messages gain little by sharing a record; and the space of a pack comes back all at once.
constexpr std::size_t packed_message_bytes_max = 512;
constexpr std::size_t pack_bytes_max = 4096 - sizeof(record_header);
static_assert(pack_bytes_max / sizeof(pack_item) <= 0xffff, "flags count a pack's messages");

/// Park words carry an epoch, so that each sleep is answered once and never twice.
std::uint32_t park_word(std::uint32_t epoch, park_mode mode) noexcept {
    return (epoch << 2) | static_cast<std::uint32_t>(mode);
}

/// A field of a foreign header, which need not be aligned.
template <class Field>
Field read_field(const std::byte* header, std::size_t offset) noexcept {
    Field value;
    std::memcpy(&value, header + offset, sizeof value);
    return value;
}

}  // namespace

void shut_half(half mine, peer_half theirs, half_state why, waker& other) noexcept {
    auto& state = mine.header->state;
    // relaxed: our own word.
    if (state.load(std::memory_order_relaxed) != 0) return;
    // seq_cst [shut] [doze] [stall]: all we published is visible first, and the look at the park
    // words cannot move before it.
    state.store(static_cast<std::uint32_t>(why), std::memory_order_seq_cst);
    // seq_cst [shut] [doze]: the peer either sees the state or is seen here.
    const auto reader = theirs.header->reader_park.load(std::memory_order_seq_cst);
    // seq_cst [shut] [stall]: the same.
    const auto writer = theirs.header->writer_park.load(std::memory_order_seq_cst);
    if (reader != 0) other.wake(reader);
    if (writer != 0) other.wake(writer);
}

void send_word(half mine, peer_half theirs, std::uint32_t word, waker& other) noexcept {
    // seq_cst [word] [doze]: as the state above.
    mine.header->word.store(word, std::memory_order_seq_cst);
    // seq_cst [word] [doze]: the peer either sees the word or is seen here.
    const auto reader = theirs.header->reader_park.load(std::memory_order_seq_cst);
    if (reader != 0) other.wake(reader);
}

producer::producer(half mine, peer_half theirs, const identity& mine_id, waker& other)
    : mine_(mine),
      theirs_(theirs),
      other_(other),
      capacity_(mine_id.capacity_bytes),
      nonce_(mine_id.nonce) {
    batch_spans_.reserve(spans_kept);
}

void producer::fail(std::uint64_t at) noexcept {
    if (!std::exchange(corrupt_, true)) corrupt_at_ = at;
    shut_half(mine_, theirs_, half_state::corrupt, other_);
}

std::uint64_t producer::limit() noexcept {
    refresh_released();
    return released_cache_ + capacity_;
}

/// Publishes the records of the batch, all but their tags written. The first tag is the one that
/// the consumer waits for, so it is stored last: the consumer sees none of them before all.
void producer::publish_batched() noexcept {
    // The caller has asked for the room: beyond it lies what the consumer has not read yet.
    PLACES_ASSERT(head_ + batch_span_ <= released_cache_ + capacity_, batch_span_);
    auto at = head_ + batch_spans_.front();
    for (std::size_t i = 1; i < batch_spans_.size(); ++i) {
        // release [publish]: as the first tag below.
        header_at(at)->tag.store(tag_at(at, nonce_), std::memory_order_release);
        at += batch_spans_[i];
    }
    batch_spans_.clear();
    publish_first(std::exchange(batch_span_, 0), std::exchange(batch_count_, 0));
    wake_reader();
}

/// Memory for the spans of `count` more records.  Returns: false without it.
bool producer::reserve_spans(std::size_t count) noexcept {
    const auto wanted = batch_spans_.size() + count;
    if (wanted <= batch_spans_.capacity()) return true;
    try {
        batch_spans_.reserve(std::max(wanted, 2 * batch_spans_.capacity()));
    } catch (const std::bad_alloc&) {
        return false;
    }
    return true;
}

/// One more record of the batch, whose span has been reserved.
void producer::add_span(std::uint64_t span_bytes, std::uint64_t messages) noexcept {
    batch_spans_.push_back(span_bytes);
    batch_span_ += span_bytes;
    batch_count_ += messages;
}

/// Asks for the lines up to there, as far as there is room, in order to write them.
void producer::fetch_to(std::uint64_t position) noexcept {
    const auto end = std::min(position, released_cache_ + capacity_);
    for (fetched_ = std::max(fetched_, head_); fetched_ < end; fetched_ += line_bytes) {
        prefetch_to_write(header_at(fetched_));
    }
}

loan producer::try_add_loan(std::uint16_t kind, std::uint16_t flags, std::size_t bytes) noexcept {
    if (bytes > record_bytes_max()) return {status::too_large, {}};
    if (const auto open = check_open(); open != status::ok) return {open, {}};
    const auto span = item_span_of(bytes);
    const bool is_small =
        bytes <= packed_message_bytes_max && (kind & (continues | packed | aside)) == 0;
    if (is_small && pack_count_ != 0 && kind == pack_kind_ && flags == pack_flags_ &&
        pack_bytes_ + span <= std::min(pack_bytes_max, record_bytes_max())) {
        const auto room = room_for(batch_span_ + span_of(pack_bytes_ + span));
        return room == status::ok ? add_item(bytes) : loan{room, {}};
    }
    // Of the pack that is closed below, and of what comes after it.
    if (!reserve_spans(2)) return {status::full, {}};
    const auto before = batched_bytes();
    // Whoever waits for room asks for that of a record: where a pack needs more, it is one.
    if (is_small && room_for(before + span_of(sizeof(pack_header) + span)) == status::ok) {
        close_pack();
        pack_kind_ = kind;
        pack_flags_ = flags;
        pack_bytes_ = sizeof(pack_header);
        return add_item(bytes);
    }
    if (const auto room = room_for(before + span_of(bytes)); room != status::ok) return {room, {}};
    close_pack();
    loaned_span_ = 0;
    write_header(head_ + batch_span_, kind, flags, bytes);
    auto* const payload = payload_at(head_ + batch_span_);
    add_span(span_of(bytes), messages_in(kind, flags));
    return {status::ok, {payload, bytes}};
}

/// Room for a message in the pack that is filled, which there is in the ring.
loan producer::add_item(std::size_t bytes) noexcept {
    loaned_span_ = 0;
    const auto span = item_span_of(bytes);
    auto* const item = payload_at(head_ + batch_span_) + pack_bytes_;
    pack_bytes_ += span;
    item_bytes_ = bytes;
    ++pack_count_;
    fetch_to(head_ + batched_bytes() + own_ahead_bytes);
    // What lay here before is nobody's business: the end of a tag, it may be, on its way to another
    // host.
    std::memset(item + span - 8, 0, 8);
    auto* const header = reinterpret_cast<pack_item*>(item);
    // relaxed: ordered by the tag that follows.
    header->length.store(static_cast<std::uint32_t>(bytes), std::memory_order_relaxed);
    header->reserved = 0;
    return {status::ok, {item + sizeof(pack_item), bytes}};
}

/// What comes next goes behind it. A pack of one stays one: whoever it was lent to may still fill
/// it.
void producer::close_pack() noexcept {
    if (pack_count_ == 0) return;
    const auto at = head_ + batch_span_;
    write_header(at, pack_kind_ | packed, pack_count_, pack_bytes_);
    auto* const header = reinterpret_cast<pack_header*>(payload_at(at));
    // relaxed: ordered by the tag that follows.
    header->flags.store(pack_flags_, std::memory_order_relaxed);
    std::fill(std::begin(header->reserved), std::end(header->reserved), std::uint16_t{0});
    add_span(span_of(pack_bytes_), std::exchange(pack_count_, 0));
}

status producer::try_add(std::uint16_t kind, std::uint16_t flags,
                         std::span<const std::byte> payload) noexcept {
    const auto room = try_add_loan(kind, flags, payload.size());
    if (room.state != status::ok) return room.state;
    if (!payload.empty()) std::memcpy(room.payload.data(), payload.data(), payload.size());
    return status::ok;
}

void producer::publish_batch() noexcept {
    if (pack_count_ == 1) {
        // Alone it needs no pack.
        const auto at = head_ + batch_span_;
        constexpr auto before = sizeof(pack_header) + sizeof(pack_item);
        auto* const payload = payload_at(at);
        std::memmove(payload, payload + before, item_bytes_);
        write_header(at, pack_kind_, pack_flags_, item_bytes_);
        add_span(span_of(item_bytes_), std::exchange(pack_count_, 0));
    }
    close_pack();
    if (!batch_spans_.empty()) publish_batched();
}

status producer::try_put_span(std::span<const std::byte> records) noexcept {
    if (records.size() > capacity_) return status::corrupt;
    if (const auto open = check_open(); open != status::ok) return open;
    if (const auto room = room_for(records.size()); room != status::ok) return room;
    drop_loan();
    if (!reserve_spans(records.size() / line_bytes)) return status::too_large;
    // All but the tags first: what turns out to be wrong half-way has not been seen by anybody.
    const auto refuse = [this] {
        drop_loan();
        return status::corrupt;
    };
    for (std::uint64_t at = 0; at < records.size();) {
        const auto left = records.size() - at;
        if (left < sizeof(record_header)) return refuse();
        const auto* from = records.data() + at;
        const auto length = read_field<std::uint32_t>(from, offsetof(record_header, length));
        if (length > record_bytes_max() || span_of(length) > left) return refuse();
        std::memcpy(reinterpret_cast<std::byte*>(header_at(head_ + at)) + sizeof(record_header),
                    from + sizeof(record_header), length);
        const auto kind = read_field<std::uint16_t>(from, offsetof(record_header, kind));
        const auto flags = read_field<std::uint16_t>(from, offsetof(record_header, flags));
        if (!is_sound(kind, flags, length)) return refuse();
        write_header(head_ + at, kind, flags, length);
        add_span(span_of(length), messages_in(kind, flags));
        at += span_of(length);
    }
    if (!batch_spans_.empty()) publish_batched();
    return status::ok;
}

void producer::park(park_mode mode, std::size_t bytes) noexcept {
    // Exactly the room asked for: a consumer that frees no more than that and then waits for us
    // elsewhere must not leave us asleep.
    const auto end = head_ + span_of(bytes);
    const auto wake_at = end > capacity_ ? end - capacity_ : 0;
    // Two may sleep on one ring: neither may be left asleep for the other's larger record.
    wake_at_ = parked_ ? std::min(wake_at_, wake_at) : wake_at;
    // relaxed: ordered by the park word that follows.
    mine_.header->writer_wake_at.store(wake_at_, std::memory_order_relaxed);
    // seq_cst [stall]: announced before the last look at `released`.
    mine_.header->writer_park.store(park_word(++park_epoch_, mode), std::memory_order_seq_cst);
    parked_ = true;
}

void producer::unpark() noexcept {
    if (!parked_) return;
    parked_ = false;
    // relaxed: a consumer that still sees the old word rings once for nothing.
    mine_.header->writer_park.store(0, std::memory_order_relaxed);
}

account producer::count() noexcept {
    account result{.accepted = accepted_};
    refresh_released();
    // acquire [taken]: what it has released without delivering it. Its word is checked below: no
    // more can be dropped than was accepted.
    const auto word = theirs_.header->dropped.load(std::memory_order_acquire);
    const auto dropped = dropped_in(word);
    // Killed before it could release what it had counted, it leaves that in the ring.
    const auto dropped_to = dropped == 0 ? 0 : dropped_end(word, released_cache_);
    // acquire [taken]: whatever the bridge has handed to its link lies below it. Of a position
    // below `released` or beyond the head, only the part between them is asked for.
    const auto taken = theirs_.header->taken.load(std::memory_order_acquire);
    for (auto at = released_cache_; at < head_;) {
        const auto* header = header_at(at);
        // relaxed: our own stores.
        if (header->tag.load(std::memory_order_relaxed) == tag_at(at, nonce_)) {
            // relaxed: our own stores.
            const auto kind = header->kind.load(std::memory_order_relaxed);
            // relaxed: as above
            const auto flags = header->flags.load(std::memory_order_relaxed);
            if (at >= dropped_to) {
                (at < taken ? result.unknown : result.undelivered) += messages_in(kind, flags);
            }
            // relaxed: as above
            at += span_of(header->length.load(std::memory_order_relaxed));
        } else {
            // The consumer has stopped inside a record, which no honest one does.
            if (!corrupt_) ++result.undelivered;
            fail(at);
            at += line_bytes;
        }
    }
    result.unknown = std::min(result.unknown, result.accepted);
    const auto known = result.accepted - result.unknown;
    result.undelivered = std::min(result.undelivered, known);
    result.undelivered += std::min(dropped, known - result.undelivered);
    result.delivered = known - result.undelivered;
    return result;
}

consumer::consumer(half mine, peer_half theirs, const identity& their_id, waker& other) noexcept
    : mine_(mine),
      theirs_(theirs),
      other_(other),
      capacity_(their_id.capacity_bytes),
      nonce_(their_id.nonce) {}

status consumer::fail(std::uint64_t at) noexcept {
    if (!std::exchange(corrupt_, true)) corrupt_at_ = at;
    peeked_span_bytes_ = 0;
    pack_left_ = 0;
    shut_half(mine_, theirs_, half_state::corrupt, other_);
    return status::corrupt;
}

peeked_span consumer::try_peek_span(std::size_t bytes_max) noexcept {
    peeked_span result;
    result.position = read_;
    const auto* first = reinterpret_cast<const std::byte*>(header_at(read_));
    if (pack_left_ != 0 && pack_left_ != pack_count_) {
        result.state = corrupt_ ? status::corrupt : status::full;
        return result;
    }
    pack_left_ = 0;  // shown, but not begun
    peeked_span_bytes_ = 0;
    record_view next;
    while (true) {
        const auto state = peek_record(next);
        if (state != status::ok) {
            if (result.count == 0) result.state = state;
            break;
        }
        if (result.records.size() + peeked_span_bytes_ > bytes_max) {
            peeked_span_bytes_ = 0;
            if (result.count == 0) result.state = status::full;
            break;
        }
        result.state = status::ok;
        result.records = {first, result.records.size() + peeked_span_bytes_};
        ++result.count;
        skip();
    }
    return result;
}

void consumer::take_to(std::uint64_t position) noexcept {
    // release [taken]: before the records are handed on, so that a bridge killed at any instruction
    // has said so of all that may have left.
    mine_.header->taken.store(position, std::memory_order_release);
}

void consumer::release_to(std::uint64_t position) noexcept { give_back(position, false); }

void consumer::drop_to(std::uint64_t position) noexcept {
    PLACES_ASSERT(capacity_ < drop_reach_bytes, capacity_);
    give_back(position, true);
}

void consumer::give_back(std::uint64_t position, bool is_dropped) noexcept {
    if (position <= released_ || position > read_) return;
    auto at = released_;
    std::uint64_t count = 0;
    std::uint64_t messages = 0;
    for (; at < position; ++count) {
        // relaxed: ordered by the tag read when it was peeked; bounded again, for it may have
        // been scribbled over since.
        const auto length = header_at(at)->length.load(std::memory_order_relaxed);
        // relaxed: as above
        const auto kind = header_at(at)->kind.load(std::memory_order_relaxed);
        // relaxed: as above
        const auto flags = header_at(at)->flags.load(std::memory_order_relaxed);
        if (length > record_bytes_max() || at + span_of(length) > position) {
            (void)fail(at);
            return;
        }
        messages += messages_in(kind, flags);
        at += span_of(length);
    }
    if (count > unreleased_count_ || (count == unreleased_count_) != (position == read_) ||
        messages < given_ || messages - given_ > unreleased_messages_) {
        (void)fail(released_);  // other records than those stepped over
        return;
    }
    messages -= std::exchange(given_, 0);
    released_ = position;
    delivered_ += messages;
    unreleased_count_ -= count;
    unreleased_messages_ -= messages;
    if (is_dropped) {
        dropped_ += messages;
        // release [taken]: counted before it is released, and both are seen together.
        mine_.header->dropped.store(dropped_word(dropped_, position), std::memory_order_release);
    }
    // seq_cst [reclaim] [stall]: as in release_skipped().
    mine_.header->released.store(released_, std::memory_order_seq_cst);
    wake_writer();
}

void consumer::rewind() noexcept {
    read_ = released_;
    unreleased_count_ = unreleased_messages_ = 0;
    peeked_span_bytes_ = 0;
    pack_left_ = 0;
    delivered_ -= std::exchange(given_, 0);
}

void consumer::park(park_mode mode) noexcept {
    // seq_cst [doze]: announced before the last look at the tag.
    mine_.header->reader_park.store(park_word(++park_epoch_, mode), std::memory_order_seq_cst);
    parked_ = true;
}

void consumer::unpark() noexcept {
    if (!parked_) return;
    parked_ = false;
    // relaxed: a producer that still sees the old word rings once for nothing.
    mine_.header->reader_park.store(0, std::memory_order_relaxed);
}

account consumer::count() noexcept {
    account result{.accepted = delivered_, .delivered = delivered_, .undelivered = 0};
    record_view unused;
    const auto read = read_;
    const auto peeked_bytes = peeked_span_bytes_;
    const auto peeked_messages = peeked_messages_;
    read_ = released_;
    while (peek_record(unused) == status::ok) {
        result.undelivered += peeked_messages_;
        read_ += peeked_span_bytes_;
    }
    result.undelivered -= std::min(result.undelivered, given_);
    result.accepted += result.undelivered;
    read_ = read;
    peeked_span_bytes_ = corrupt_ ? 0 : peeked_bytes;
    peeked_messages_ = peeked_messages;
    return result;
}

}  // namespace places::shm
