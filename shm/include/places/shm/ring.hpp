// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <places/shm/layout.hpp>
#include <places/shm/status.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

// One producer, one consumer, no lock. Records are published in band: the tag of a record is a mix
// of its position and a nonce, stored last, so one cache line moves per small message. Small
// messages of a batch lie in one record, a pack, and are taken out of it one by one.
//
// Edges (grep a name to see both ends):
//   [publish]   tag          producer -> consumer   the record's bytes are complete
//   [reclaim]   released     consumer -> producer   the consumer reads no byte below it
//   [taken]     taken | dropped  bridge -> producer  all that the bridge has handed to a link lies
//                            below `taken`; what it has dropped is counted before it is released
//   [doze]      tag | reader_park        a store and then a load on each side, in one total order:
//                            the producer sees the park word, or the sleeper sees the tag
//   [stall]     released | writer_park   the same for a producer that waits for room
//   [shut]      state        closer -> other end    all it published is visible; with [doze] and
//                            [stall]: the closer sees the park word, or the sleeper the state
//   [word]      word         teller -> other end    all before it is visible; with [doze] as [shut]
//   [limit]     message_bytes_max  the same         with [doze] as [shut], where it is announced
//   [bell]      bell         waker -> sleeper       the word has changed since the park
//   [death_report]  peer_gone    reporter -> role    all that the dead process wrote is visible
//
// Who died, and what the survivor sees:
//   producer before the tag store   the record does not exist; the space belongs to nobody else
//   producer after the tag store    the record is read, then `peer_dead` once the owner is told
//   consumer before release         the record counts as undelivered, a pack with all it holds
//   consumer after release          the record counts as delivered
//   bridge after [taken], before release   the record counts as unknown: it may be on another host

namespace places::shm {

/// One side's memory as the ring sees it.
struct half {
    half_header* header;
    std::byte* data;
};
struct peer_half {
    const half_header* header;
    const std::byte* data;
};

/// Records of at most so many bytes have their lines fetched ahead of them, each on its own; for
/// longer ones the processor does that by itself.
inline constexpr std::uint64_t small_span_bytes = 2 * line_bytes;

/// Has a line come over in order to be written.
inline void prefetch_to_write(const void* line) noexcept {
#if defined(__x86_64__)
    // Compilers use it only when told; a processor that is too old for it takes it for no
    // operation.
    asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(line)));
#else
    __builtin_prefetch(line, 1);
#endif
}

/// Wakes the process at the other end of a channel.
class waker {
  public:
    virtual void wake(std::uint32_t park_word) noexcept = 0;

  protected:
    ~waker() = default;
};

/// The report of a death reporter about the process at the other end: the first one stands.
inline void store_first(std::atomic<status>& gone, status why) noexcept {
    auto none = status::ok;
    // release [death_report]; relaxed on failure: the word that stands is not read here.
    gone.compare_exchange_strong(none, why, std::memory_order_release, std::memory_order_relaxed);
}

/// Says `why` this side publishes nothing more, unless it has said so before, and wakes the process
/// at the other end.  Blocks: never.
void shut_half(half mine, peer_half theirs, half_state why, waker& other) noexcept;
/// Stores this side's `word`, and wakes a reader at the other end.  Blocks: never.
void send_word(half mine, peer_half theirs, std::uint32_t word, waker& other) noexcept;

/// A record, or a message of a pack, as it lies in the ring; valid until it is released.
struct record_view {
    std::uint16_t kind = 0;
    std::uint16_t flags = 0;
    std::span<const std::byte> payload;
};

/// Room for one record, to be filled in place. Dropping it publishes nothing.
struct loan {
    status state = status::full;
    std::span<std::byte> payload;
};

struct peeked {
    status state = status::empty;
    record_view record;
};

/// Whole records lying one after the other, headers included; valid until released.
struct peeked_span {
    status state = status::empty;
    std::uint64_t position = 0;  ///< of the first record
    std::span<const std::byte> records;
    std::uint64_t count = 0;  ///< of records
};

/// In messages, what the positions say: accepted == delivered + undelivered + unknown, exactly. A
/// message of several records is where its last one is.
struct account {
    std::uint64_t accepted = 0;
    std::uint64_t delivered = 0;
    std::uint64_t undelivered = 0;
    std::uint64_t unknown = 0;  ///< may be on another host; 0 where no bridge is the consumer
    friend bool operator==(const account&, const account&) = default;
};

/// The sending role. Owns nothing; the memory outlives it. One thread of one process.
class producer {
  public:
    /// Throws: std::bad_alloc.
    producer(half mine, peer_half theirs, const identity& mine_id, waker& other);

    /// Largest payload of one record: a quarter of the ring.
    std::size_t record_bytes_max() const noexcept { return capacity_ / 4; }
    std::size_t capacity_bytes() const noexcept { return capacity_; }

    /// Copies `payload` into the ring as one record; the consumer sees all of it or none.
    /// Shape:   0..record_bytes_max() bytes, any alignment; a kind without the bit `packed`.
    /// Returns: ok | full | too_large | closed | peer_dead | corrupt.  Only ok has sent anything.
    /// Blocks:  never.  Allocates: never.  Throws: never.
    /// Thread:  one at a time.  Process: the one that holds the producer role.
    /// Dying:   killed inside = as if never called.
    status try_put(std::uint16_t kind, std::uint16_t flags,
                   std::span<const std::byte> payload) noexcept;

    /// Room for `bytes` in place. Whatever else is put before publish() takes the loan back.
    /// Returns: as try_put.
    loan try_loan(std::size_t bytes) noexcept;
    /// Publishes the first `bytes` of the loan; nothing when there is none.
    /// Dying:   before the tag is stored = as if never called.
    void publish(std::uint16_t kind, std::uint16_t flags, std::size_t bytes) noexcept;
    /// Takes back the loan, or the batch.
    void drop_loan() noexcept {
        loaned_span_ = 0;
        pack_count_ = 0;
        if (batch_spans_.empty()) return;
        batch_spans_.clear();
        batch_span_ = batch_count_ = 0;
    }

    /// Adds a message to the batch, which nobody sees before publish_batch(). A loan is taken back,
    /// and any other put drops the batch.
    /// Shape, Returns: as try_put. It is full also where this process has no memory for a longer
    ///          list of the batch's records; once the batch is published, the list is empty and
    ///          has room. What is not ok leaves the batch as it was.
    /// Allocates: that list, which stays for later batches.
    /// Dying:   as if none of the batch had been put.
    status try_add(std::uint16_t kind, std::uint16_t flags,
                   std::span<const std::byte> payload) noexcept;
    /// The same without the bytes, which are written in place before publish_batch(), aligned to 8.
    loan try_add_loan(std::uint16_t kind, std::uint16_t flags, std::size_t bytes) noexcept;
    /// Publishes the batch, all of it at once, for the price of one record.
    void publish_batch() noexcept;
    /// Of the ring, headers included.
    std::uint64_t batched_bytes() const noexcept {
        return batch_span_ + (pack_count_ == 0 ? 0 : span_of(pack_bytes_));
    }

    /// Takes whole records as another ring laid them (headers with foreign tags) and publishes
    /// each. Every header is read once and checked: the bytes may come from another machine, and
    /// may change meanwhile.
    /// Returns: ok: all are in | full | too_large (this process has no memory for the list of the
    ///          records) | closed | peer_dead | corrupt (a header is wrong, or the ring is): none
    ///          is.
    /// Allocates: as try_add.
    /// Dying:   as if none had been put.
    status try_put_span(std::span<const std::byte> records) noexcept;

    /// Whether a record of `bytes` fits now.
    /// Returns: ok | full | too_large | closed | peer_dead | corrupt.
    status has_room(std::size_t bytes) noexcept;
    /// A record that takes an eighth of the ring. Who finds the ring full and goes on as soon as a
    /// smaller one fits takes the consumer its line of [reclaim] for each.
    std::size_t ample_bytes() const noexcept { return capacity_ / 8 - sizeof(record_header); }

    /// Announces that this process is about to sleep until a record of `bytes` fits; look once
    /// more with has_room before sleeping. Parked already, for less: woken as soon as that fits.
    /// [stall]
    void park(park_mode mode, std::size_t bytes) noexcept;
    void unpark() noexcept;
    bool is_parked() const noexcept { return parked_; }

    /// Position after the last published record.
    std::uint64_t head() const noexcept { return head_; }
    /// Absolute position up to which the ring has room now.
    std::uint64_t limit() noexcept;
    std::uint64_t accepted() const noexcept { return accepted_; }
    /// Walks the unreleased records: those below the consumer's `taken` are unknown, the others
    /// undelivered, and so is what it has dropped. The sum is exact at any time, the parts are once
    /// the consumer has stopped or died. A record that a broken consumer has released in part
    /// counts as undelivered.
    account count() noexcept;
    /// Where this role has found the ring corrupt: the position up to which the consumer had given
    /// space back when it said what cannot be, or of the record inside which it has stopped. The
    /// first such, for good.
    std::optional<std::uint64_t> corrupt_at() const noexcept {
        return corrupt_ ? std::optional{corrupt_at_} : std::nullopt;
    }

    /// The consumer's process has ended, or could not use its end; put reports it from now on. The
    /// first such word stands. Any thread.
    void peer_died() noexcept { store_first(peer_gone_, status::peer_dead); }
    void peer_refused() noexcept { store_first(peer_gone_, status::refused); }

    /// The other side's memory has come; until then `theirs` was a blank.
    void attach(peer_half theirs) noexcept { theirs_ = theirs; }

  private:
    status check_open() noexcept;
    void fail(std::uint64_t at) noexcept;
    status room_for(std::uint64_t span_bytes) noexcept;
    void refresh_released() noexcept;
    void write_header(std::uint64_t at, std::uint16_t kind, std::uint16_t flags,
                      std::size_t bytes) noexcept;
    void publish_first(std::uint64_t span_bytes, std::uint64_t messages) noexcept;
    void publish_batched() noexcept;
    bool reserve_spans(std::size_t count) noexcept;
    void add_span(std::uint64_t span_bytes, std::uint64_t messages) noexcept;
    void wake_reader() noexcept;
    loan add_item(std::size_t bytes) noexcept;
    void close_pack() noexcept;
    void fetch_to(std::uint64_t position) noexcept;
    void own(std::uint64_t position, std::uint64_t span_bytes) noexcept;
    record_header* header_at(std::uint64_t position) noexcept;
    std::byte* payload_at(std::uint64_t position) noexcept {
        return reinterpret_cast<std::byte*>(header_at(position)) + sizeof(record_header);
    }

    half mine_;
    peer_half theirs_;
    waker& other_;
    const std::uint64_t capacity_;
    const std::uint64_t nonce_;
    std::uint64_t head_ = 0;
    std::uint64_t released_cache_ = 0;
    std::uint64_t accepted_ = 0;
    std::size_t loaned_ = 0;         // payload bytes of the loan
    std::uint64_t loaned_span_ = 0;  // 0 when there is no loan
    std::uint64_t batch_span_ = 0;   // of its records but for the pack that is still filled
    // So many records can be listed without more memory.
    static constexpr std::size_t spans_kept = 64;
    // Span of each of those records. The memory may be read by the other side, so no number that
    // this side needs is read back from it.
    std::vector<std::uint64_t> batch_spans_;
    std::uint64_t batch_count_ = 0;  // messages in those
    std::uint64_t pack_bytes_ = 0;   // of payload, of the pack that is still filled
    std::uint64_t item_bytes_ = 0;   // of the message added to it last
    std::uint16_t pack_count_ = 0;   // 0 when there is none
    std::uint16_t pack_kind_ = 0;
    std::uint16_t pack_flags_ = 0;
    // How far ahead of what is written its lines are taken from the consumer, who is done with
    // them: they come over side by side, not one by one when each tag is stored.
    static constexpr std::uint64_t own_ahead_bytes = 16 * line_bytes;
    std::uint64_t fetched_ = 0;  // of a batch: end of the lines that were asked for
    std::uint64_t wake_at_ = 0;  // of the park that lasts
    std::uint32_t rung_ = 0;     // the park word that was answered last
    std::uint32_t park_epoch_ = 0;
    bool parked_ = false;
    std::atomic<status> peer_gone_ = status::ok;
    bool corrupt_ = false;
    std::uint64_t corrupt_at_ = 0;
};

/// The receiving role. Owns nothing; the memory outlives it. One thread of one process.
class consumer {
  public:
    consumer(half mine, peer_half theirs, const identity& their_id, waker& other) noexcept;

    std::size_t record_bytes_max() const noexcept { return capacity_ / 4; }
    std::size_t capacity_bytes() const noexcept { return capacity_; }

    /// The next unread message, left where it is; release() gives it back.
    /// Returns: ok | empty | closed | peer_dead | corrupt.
    /// Blocks:  never.  Allocates: never.  Throws: never.
    /// Dying:   the record counts as undelivered.
    peeked try_peek() noexcept {
        peeked next;
        next.state = try_peek(next.record);
        if (next.state != status::ok) next.record = {};
        return next;
    }
    /// The same, the view where the caller has it: to hand it on by value costs a third of a get.
    /// Shape:   `into` means nothing but with ok.
    status try_peek(record_view& into) noexcept;
    /// Steps over the message last peeked without giving its space back yet.
    void skip() noexcept;
    /// Gives back the space of every record stepped over; that of a pack with its last message.
    void release_skipped() noexcept;
    /// The same, and of the one last peeked.
    void release() noexcept {
        skip();
        release_skipped();
    }

    /// The run of complete records from the read cursor on, at most `bytes_max` of them, stepped
    /// over but not released. A corrupt record ends the run and is reported by the next call.
    /// Returns: as try_peek | full: there is a record, and it alone is more than `bytes_max`, or
    ///          some of its messages have been stepped over one by one.
    peeked_span try_peek_span(std::size_t bytes_max) noexcept;
    /// Gives back the space below `position`, the end of a record that was stepped over. Any
    /// position outside of released()..read() is ignored; one inside a record closes the ring as
    /// corrupt.
    void release_to(std::uint64_t position) noexcept;
    /// For a bridge: from now on the records below `position` may be on another host, and those
    /// from there on are not. Call it before they are handed to the link. A lower position takes
    /// back what is known not to have arrived. [taken]
    void take_to(std::uint64_t position) noexcept;
    /// As release_to, for a bridge: the place on the other host has not got these records, and will
    /// not. The producer counts them as undelivered. After a drop_to, release() and release_to()
    /// must not be called any more.
    /// Shape:   a ring of less than drop_reach_bytes.
    void drop_to(std::uint64_t position) noexcept;
    /// Sets the read cursor back to the first unreleased record: of a pack, all is undelivered
    /// again.
    void rewind() noexcept;

    /// Whether try_peek would say anything but empty.
    bool is_ready() noexcept;
    /// Why the other end publishes nothing more, whatever is still unread; ok while it may.
    status peer_state() const noexcept;
    /// Whether a record is at the cursor: all that is_ready() looks at while nothing else happens.
    bool has_record() noexcept {
        // A full ring of unreleased records: what lies at the cursor is the oldest of them.
        if (read_ - released_ >= capacity_) return false;
        // seq_cst [publish] [doze]: with the tag, all of the record is here.
        return header_at(read_)->tag.load(std::memory_order_seq_cst) == tag_at(read_, nonce_);
    }

    /// The same, for a poll: where the last record took several lines, the next one's second is
    /// asked for with its first, so that the two cross over side by side.
    bool has_come() noexcept {
        if (last_span_bytes_ > line_bytes) {
            const auto* header = reinterpret_cast<const std::byte*>(header_at(read_));
            __builtin_prefetch(header + line_bytes);
        }
        return has_record();
    }

    /// Announces that this process is about to sleep until there is a record; look once more with
    /// is_ready before sleeping. [doze]
    void park(park_mode mode) noexcept;
    void unpark() noexcept;
    bool is_parked() const noexcept { return parked_; }

    std::uint64_t read() const noexcept { return read_; }
    std::uint64_t released() const noexcept { return released_; }
    std::uint64_t delivered() const noexcept { return delivered_; }
    /// What the dead producer left: delivered by release, the rest still to be read.
    account count() noexcept;
    /// Position of the first record that this role has found corrupt, for good.
    std::optional<std::uint64_t> corrupt_at() const noexcept {
        return corrupt_ ? std::optional{corrupt_at_} : std::nullopt;
    }

    /// The same for the producer's process; what it published is still read first. Any thread.
    void peer_died() noexcept { store_first(peer_gone_, status::peer_dead); }
    void peer_refused() noexcept { store_first(peer_gone_, status::refused); }

    /// The other side's memory has come; until then `theirs` was a blank, and nothing was read.
    void attach(peer_half theirs, const identity& their_id) noexcept {
        theirs_ = theirs;
        capacity_ = their_id.capacity_bytes;
        nonce_ = their_id.nonce;
    }

  private:
    status why_empty() noexcept;
    status fail(std::uint64_t at) noexcept;
    void give_back(std::uint64_t position, bool is_dropped) noexcept;
    void wake_writer() noexcept;
    status peek_record(record_view& into) noexcept;
    status open_pack(record_view& record) noexcept;
    status peek_item(record_view& into) noexcept;
    const record_header* header_at(std::uint64_t position) const noexcept {
        return reinterpret_cast<const record_header*>(theirs_.data + (position & (capacity_ - 1)));
    }

    half mine_;
    peer_half theirs_;
    waker& other_;
    std::uint64_t capacity_;
    std::uint64_t nonce_;
    std::uint64_t read_ = 0;
    std::uint64_t released_ = 0;
    std::uint64_t delivered_ = 0;
    std::uint64_t dropped_ = 0;              // of these
    std::uint64_t unreleased_count_ = 0;     // records
    std::uint64_t unreleased_messages_ = 0;  // that these end, and those of the pack at read_
    std::uint64_t peeked_span_bytes_ = 0;    // of what was last peeked; 0 when nothing
    std::uint64_t peeked_messages_ = 0;      // that it ends
    std::uint64_t last_span_bytes_ = 0;      // of the last record there was
    std::uint64_t run_ = 0;  // records, but for packs, stepped over since there was none
    static constexpr std::uint64_t behind_count = 16;        // from then on it is behind
    static constexpr std::uint64_t fetched_ahead_count = 8;  // and fetches as many ahead
    // The pack at the read cursor, once its first message has been peeked: its header, read once.
    const std::byte* pack_ = nullptr;
    std::uint64_t pack_bytes_ = 0;
    std::uint64_t pack_at_ = 0;    // of the next message
    std::uint16_t pack_left_ = 0;  // messages not stepped over; 0 when no pack has been begun
    std::uint16_t pack_count_ = 0;
    std::uint16_t pack_kind_ = 0;
    std::uint16_t pack_flags_ = 0;
    std::uint64_t given_ = 0;  // messages of the pack at released_ that count as delivered
    std::uint32_t rung_ = 0;
    std::uint32_t park_epoch_ = 0;
    bool parked_ = false;
    std::atomic<status> peer_gone_ = status::ok;
    bool corrupt_ = false;
    std::uint64_t corrupt_at_ = 0;
};

// -- bodies: what every message goes through --

/// How far ahead of the message that is read the lines of a pack are asked for.
inline constexpr std::uint64_t pack_ahead_bytes = 20 * line_bytes;

inline status status_of(half_state state) noexcept {
    switch (state) {
        case half_state::open: return status::ok;
        case half_state::peer_dead: return status::peer_dead;
        case half_state::corrupt: return status::corrupt;
        case half_state::refused: return status::refused;
        case half_state::closed: break;
    }
    return status::closed;
}

inline record_header* producer::header_at(std::uint64_t position) noexcept {
    return reinterpret_cast<record_header*>(mine_.data + (position & (capacity_ - 1)));
}

inline status producer::check_open() noexcept {
    if (corrupt_) return status::corrupt;
    // relaxed: our own word.
    const auto own = mine_.header->state.load(std::memory_order_relaxed);
    if (own != 0) return status_of(static_cast<half_state>(own));
    // acquire [death_report]
    const auto gone = peer_gone_.load(std::memory_order_acquire);
    if (gone != status::ok) return gone;
    // seq_cst [shut] [stall]: after park(), the closer is seen here or has seen the park word.
    return status_of(
        static_cast<half_state>(theirs_.header->state.load(std::memory_order_seq_cst)));
}

inline void producer::refresh_released() noexcept {
    // seq_cst [reclaim] [stall]: every byte below this position may be overwritten.
    const auto released = theirs_.header->released.load(std::memory_order_seq_cst);
    if (released < released_cache_ || released > head_ || released % line_bytes != 0) {
        fail(released_cache_);  // the consumer moved backwards, past the head, or into a line
        return;
    }
    released_cache_ = released;
}

inline status producer::room_for(std::uint64_t span_bytes) noexcept {
    if (head_ + span_bytes - released_cache_ > capacity_) {
        refresh_released();
        if (corrupt_) return status::corrupt;
        if (head_ + span_bytes - released_cache_ > capacity_) return status::full;
    }
    return status::ok;
}

inline status producer::has_room(std::size_t bytes) noexcept {
    if (bytes > record_bytes_max()) return status::too_large;
    if (const auto open = check_open(); open != status::ok) return open;
    return room_for(span_of(bytes));
}

inline loan producer::try_loan(std::size_t bytes) noexcept {
    const auto room = has_room(bytes);
    if (room != status::ok) return {room, {}};
    drop_loan();
    loaned_ = bytes;
    loaned_span_ = span_of(bytes);
    return {status::ok, {mine_.data + (head_ & (capacity_ - 1)) + sizeof(record_header), bytes}};
}

inline void producer::write_header(std::uint64_t at, std::uint16_t kind, std::uint16_t flags,
                                   std::size_t bytes) noexcept {
    auto* header = header_at(at);
    // relaxed: length, kind, flags and payload are ordered by the tag that follows.
    header->length.store(static_cast<std::uint32_t>(bytes), std::memory_order_relaxed);
    header->kind.store(kind, std::memory_order_relaxed);    // relaxed: as above
    header->flags.store(flags, std::memory_order_relaxed);  // relaxed: as above
}

/// Asks for these lines in order to write them, unless there is no room there yet.
inline void producer::own(std::uint64_t position, std::uint64_t span_bytes) noexcept {
    if (position + span_bytes > released_cache_ + capacity_) return;
    const auto* at = reinterpret_cast<const std::byte*>(header_at(position));
    for (std::uint64_t line = 0; line < span_bytes; line += line_bytes) {
        prefetch_to_write(at + line);
    }
}

/// The tag that the consumer waits for; all else of the `span_bytes` is written.
inline void producer::publish_first(std::uint64_t span_bytes, std::uint64_t messages) noexcept {
    // seq_cst [publish] [doze]: all of the records is written before this can be seen, and the
    // look at the park word that follows cannot move before it.
    header_at(head_)->tag.store(tag_at(head_, nonce_), std::memory_order_seq_cst);
    head_ += span_bytes;
    accepted_ += messages;
    if (span_bytes <= small_span_bytes) own(head_ + own_ahead_bytes, span_bytes);
}

inline void producer::wake_reader() noexcept {
    // seq_cst [doze]: the other half of the store above.
    const auto parked = theirs_.header->reader_park.load(std::memory_order_seq_cst);
    if (parked != 0 && parked != rung_) {
        rung_ = parked;
        other_.wake(parked);
    }
}

inline void producer::publish(std::uint16_t kind, std::uint16_t flags, std::size_t bytes) noexcept {
    if (loaned_span_ == 0) return;
    const auto length = std::min(bytes, loaned_);
    drop_loan();
    write_header(head_, kind, flags, length);
    publish_first(span_of(length), messages_in(kind, flags));
    wake_reader();
}

inline status producer::try_put(std::uint16_t kind, std::uint16_t flags,
                                std::span<const std::byte> payload) noexcept {
    const auto room = try_loan(payload.size());
    if (room.state != status::ok) return room.state;
    // The line that the consumer polls comes last, and is written in one go: it is fetched from us
    // as often as it is looked at.
    constexpr std::size_t first_line_bytes = line_bytes - sizeof(record_header);
    const auto first = payload.first(std::min(payload.size(), first_line_bytes));
    const auto rest = payload.subspan(first.size());
    if (!rest.empty()) std::memcpy(&room.payload[first.size()], rest.data(), rest.size());
    if (!first.empty()) std::memcpy(room.payload.data(), first.data(), first.size());
    publish(kind, flags, payload.size());
    return status::ok;
}

inline status consumer::why_empty() noexcept {
    if (corrupt_) return status::corrupt;
    // relaxed: our own word.
    const auto own = mine_.header->state.load(std::memory_order_relaxed);
    if (own != 0) return status_of(static_cast<half_state>(own));
    // seq_cst [shut] [doze]: what was published before it is visible to the look that follows;
    // after park(), the closer is seen here or has seen the park word.
    const auto state = theirs_.header->state.load(std::memory_order_seq_cst);
    auto reason = status_of(static_cast<half_state>(state));
    // acquire [death_report]: the look for a record that follows sees all the dead process
    // published.
    const auto gone = peer_gone_.load(std::memory_order_acquire);
    if (reason == status::ok || gone == status::refused) reason = gone;
    if (reason == status::ok) return status::empty;
    return has_record() ? status::ok : reason;
}

inline status consumer::peer_state() const noexcept {
    // seq_cst [shut] [doze]: after park(), the closer is seen here or has seen the park word.
    const auto state = theirs_.header->state.load(std::memory_order_seq_cst);
    // acquire [death_report]
    const auto gone = peer_gone_.load(std::memory_order_acquire);
    if (state == 0 || gone == status::refused) return gone;
    return status_of(static_cast<half_state>(state));
}

inline bool consumer::is_ready() noexcept {
    return corrupt_ || has_record() || why_empty() != status::empty;
}

/// The record at the read cursor, a pack as the one that it is.
inline status consumer::peek_record(record_view& into) noexcept {
    if (corrupt_) return status::corrupt;
    if (!has_record()) {
        run_ = 0;
        if (const auto reason = why_empty(); reason != status::ok) return reason;
    }
    const auto* header = header_at(read_);
    // relaxed: ordered by the tag; copied once, checked, and only the copy is used.
    const auto length = header->length.load(std::memory_order_relaxed);
    const auto kind = header->kind.load(std::memory_order_relaxed);    // relaxed: as above
    const auto flags = header->flags.load(std::memory_order_relaxed);  // relaxed: as above
    if (length > record_bytes_max() || read_ + span_of(length) - released_ > capacity_ ||
        !is_sound(kind, flags, length)) {
        return fail(read_);
    }
    peeked_span_bytes_ = last_span_bytes_ = span_of(length);
    peeked_messages_ = messages_in(kind, flags);
    // Who is far behind has later records come over while it works on this one; who has caught up
    // would take their lines from the writer. Longer ones the processor fetches by itself.
    if (run_ >= behind_count && peeked_span_bytes_ <= small_span_bytes) {
        const auto* later = reinterpret_cast<const std::byte*>(
            header_at(read_ + fetched_ahead_count * peeked_span_bytes_));
        __builtin_prefetch(later);
        __builtin_prefetch(later + line_bytes);
    }
    const auto* payload = reinterpret_cast<const std::byte*>(header) + sizeof(record_header);
    into.kind = kind;
    into.flags = flags;
    into.payload = {payload, length};
    return status::ok;
}

/// Shape:   `record` becomes its first message.
inline status consumer::open_pack(record_view& record) noexcept {
    pack_ = record.payload.data();
    pack_bytes_ = record.payload.size();
    pack_at_ = sizeof(pack_header);
    pack_left_ = pack_count_ = record.flags;
    pack_kind_ = record.kind & static_cast<std::uint16_t>(~packed);
    // relaxed: ordered by the record's tag.
    pack_flags_ =
        reinterpret_cast<const pack_header*>(pack_)->flags.load(std::memory_order_relaxed);
    // Each message's place follows from the one before, but all of their lines are here to be
    // fetched side by side.
    const auto soon = std::min<std::uint64_t>(pack_bytes_, pack_ahead_bytes);
    for (std::uint64_t at = line_bytes; at < soon; at += line_bytes) __builtin_prefetch(pack_ + at);
    return peek_item(record);
}

inline status consumer::peek_item(record_view& into) noexcept {
    const auto left = pack_bytes_ - pack_at_;
    if (left < sizeof(pack_item)) return fail(read_);
    const auto* item = pack_ + pack_at_;
    if (left > pack_ahead_bytes) __builtin_prefetch(item + pack_ahead_bytes);
    // relaxed: ordered by the record's tag; copied once, checked, and only the copy is used.
    const auto length =
        reinterpret_cast<const pack_item*>(item)->length.load(std::memory_order_relaxed);
    // The last one ends where the pack does.
    if (item_span_of(length) > left || (pack_left_ == 1 && item_span_of(length) != left)) {
        return fail(read_);
    }
    peeked_span_bytes_ = item_span_of(length);
    peeked_messages_ = 1;
    into.kind = pack_kind_;
    into.flags = pack_flags_;
    into.payload = {item + sizeof(pack_item), length};
    return status::ok;
}

inline status consumer::try_peek(record_view& into) noexcept {
    if (pack_left_ != 0) return peek_item(into);
    const auto state = peek_record(into);
    if (state != status::ok || (into.kind & packed) == 0) return state;
    return open_pack(into);
}

inline void consumer::skip() noexcept {
    if (peeked_span_bytes_ == 0) return;
    unreleased_messages_ += peeked_messages_;
    const auto span = std::exchange(peeked_span_bytes_, 0);
    if (pack_left_ == 0) {
        read_ += span;
        ++unreleased_count_;
        ++run_;
        return;
    }
    pack_at_ += span;
    if (--pack_left_ != 0) return;
    read_ += span_of(pack_bytes_);
    ++unreleased_count_;
}

inline void consumer::release_skipped() noexcept {
    delivered_ += std::exchange(unreleased_messages_, 0);
    given_ = pack_left_ == 0 ? 0 : pack_count_ - pack_left_;
    if (released_ == read_) return;
    released_ = read_;
    unreleased_count_ = 0;
    // seq_cst [reclaim] [stall]: we read no byte below it any more; the look at the park word that
    // follows cannot move before it.
    mine_.header->released.store(released_, std::memory_order_seq_cst);
    wake_writer();
}

inline void consumer::wake_writer() noexcept {
    // seq_cst [stall]: the other half of the store above.
    const auto parked = theirs_.header->writer_park.load(std::memory_order_seq_cst);
    if (parked == 0 || parked == rung_) return;
    // relaxed: written before the park word that was just read.
    if (released_ < theirs_.header->writer_wake_at.load(std::memory_order_relaxed)) return;
    rung_ = parked;
    other_.wake(parked);
}

}  // namespace places::shm
