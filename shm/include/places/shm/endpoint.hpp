// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <places/shm/ring.hpp>
#include <places/shm/sealed_memory.hpp>
#include <places/shm/wake.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace places::shm {

/// A message out of the ring, in memory of its own.
struct record_copy {
    std::uint16_t kind = 0;
    std::uint16_t flags = 0;
    std::vector<std::byte> payload;
};

/// One end of a channel in this process: a producer on its own memory, a consumer on the peer's.
/// The peer makes its memory when it takes up its end, so that may come later: until attach(), this
/// end can publish, and has nothing to read.
/// Not movable: roles point into it. One thread of one process.
class endpoint final : private waker {
  public:
    /// Maps `mine` writable and seals it: from then on no other map can write it, so the
    /// descriptor may be given away.
    /// Throws: std::system_error; std::runtime_error when the memory is not what it must be.
    explicit endpoint(const unique_fd& mine);
    /// The same, and attaches `theirs`.
    endpoint(const unique_fd& mine, const unique_fd& theirs);
    ~endpoint();
    endpoint(const endpoint&) = delete;
    endpoint& operator=(const endpoint&) = delete;

    /// Maps the peer's memory read-only. Once. Look again for a record afterwards: what the peer
    /// published before has called nobody here.
    /// Throws: as the constructor; the end is then as before.
    /// Thread: the owner's, and never between bell() and the sleep that watches it.
    void attach(const unique_fd& theirs);
    bool is_attached() const noexcept { return blank_ == nullptr; }

    std::uint64_t channel_id() const noexcept { return mine_.id().channel_id; }
    producer& out() noexcept { return out_; }
    consumer& in() noexcept { return in_; }

    /// The descriptor that the peer's ready_set reads; borrowed, -1 for none.
    void set_peer_doorbell(int fd) noexcept { peer_doorbell_ = fd; }

    /// Publishes nothing more; the peer reads what is there, then sees `why`. Idempotent.
    /// Blocks: never.  Thread: the owner's.
    void shut(half_state why) noexcept;
    bool is_shut() const noexcept;
    /// Sends the other end one word, past all records; a later one replaces it. 0 is no word.
    /// Blocks: never.  Thread: the owner's.
    void send_word(std::uint32_t word) noexcept;
    /// The word that the other end has sent last. Whoever waits for it parks as a reader.
    std::uint32_t received_word() const noexcept;
    /// Sets the largest message that this end takes. 0 sets none. The caller gives it its meaning.
    /// Blocks: never.  Thread: the owner's.
    void set_message_bytes_max(std::uint64_t limit) noexcept;
    /// The same, and wakes the other end where it is parked as a reader.
    void announce_message_bytes_max(std::uint64_t limit) noexcept;
    /// What the other end has set last; 0 for nothing.
    std::uint64_t peer_message_bytes_max() const noexcept {
        // seq_cst [limit] [doze]: after park(), the limit is seen here or its announcer has seen
        // the park.
        return their_header_->message_bytes_max.load(std::memory_order_seq_cst);
    }
    /// What this end has found corrupt first, in the ring that it reads or else in the one that it
    /// writes; nothing where the other end has.
    std::optional<std::uint64_t> corrupt_at() const noexcept {
        return in_.corrupt_at() ? in_.corrupt_at() : out_.corrupt_at();
    }

    /// The peer's process has ended: both roles report it from now on. Any thread.
    void peer_died() noexcept;
    /// The peer's process lives, and could not use its end. Any thread.
    void peer_refused() noexcept;

    /// The word to watch while a role of this end is parked in futex mode. Read it before park.
    watched_word bell() const noexcept;

    /// Blocking forms over the two roles. Nothing but the ring ends them: a process that must hear
    /// of its peer's death watches bell() and the word of whoever tells it.
    /// Returns: as try_put and try_peek, and timeout.
    /// Blocks:  until done; after a short spin it takes no CPU.
    status put_for(std::uint16_t kind, std::uint16_t flags, std::span<const std::byte> payload,
                   deadline until);
    status put(std::uint16_t kind, std::uint16_t flags, std::span<const std::byte> payload) {
        return put_for(kind, flags, payload, no_deadline);
    }
    peeked peek_for(deadline until);
    peeked peek() { return peek_for(no_deadline); }

    // -- copies in and out --

    status try_put(std::uint16_t kind, std::uint16_t flags,
                   std::span<const std::byte> payload) noexcept {
        return out_.try_put(kind, flags, payload);
    }
    /// Copies the next message into `into`, whose memory it uses again, and gives its space back.
    /// Returns: as peek; what is not ok leaves `into` as it was.
    /// Throws:  std::bad_alloc; the message is then still there.
    /// Dying:   the message is undelivered, or delivered.
    status get_for(record_copy& into, deadline until) { return take(peek_for(until), into); }
    status get(record_copy& into) { return get_for(into, no_deadline); }
    /// Blocks: never.
    status try_get(record_copy& into) { return take(in_.try_peek(), into); }

    /// For a record of `bytes` for which the ring is full: looks as `spin` does until there is room
    /// for more than that. Returns: whether there is; not for a large one, which is not waited for.
    bool await_ample_room(std::size_t bytes, spin_budget& spin);

  private:
    void wake(std::uint32_t park_word) noexcept override;
    status take(const peeked& next, record_copy& into);
    bool wait_record(deadline until);
    bool wait_room(std::size_t bytes, deadline until);
    peer_half theirs() const noexcept;

    /// Stands for the peer's memory before it has come. Its park words say `unknown`: the peer may
    /// sleep in either way, so each publish calls it in both.
    struct blank_half {
        half_header header{};
        alignas(line_bytes) std::array<std::byte, line_bytes> data{};
    };
    static std::unique_ptr<blank_half> make_blank();

    half_mapping mine_;
    std::unique_ptr<blank_half> blank_ = make_blank();
    std::optional<half_mapping> theirs_;
    const half_header* their_header_ = theirs().header;  // of the blank, until attach()
    producer out_;
    consumer in_;
    spin_budget spin_;
    int peer_doorbell_ = -1;
};

}  // namespace places::shm
