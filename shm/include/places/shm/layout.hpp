// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

// Everything that is mapped by two processes. It is an ABI between binaries: a change of meaning
// raises layout_major, a new field in reserved space raises layout_minor.
//
// A channel is two memories, one per side. Each side writes its own and maps the other's read-only:
//
//   [ half_header, one page ][ data: the records this side sends ][ the same data mapped again ]

namespace places::shm {

inline constexpr std::size_t line_bytes = 64;
/// Words of different writers, or of different rhythm, stand this far apart: the adjacent-line
/// prefetcher of x86 moves lines in pairs.
inline constexpr std::size_t apart_bytes = 2 * line_bytes;
inline constexpr std::size_t header_bytes = 4096;
inline constexpr std::size_t ring_bytes_min = 4096;
inline constexpr std::size_t ring_bytes_max = std::size_t{1} << 32;
inline constexpr std::uint64_t layout_magic = 0x31'65'63'61'6c'70'00'00;  // "\0\0place1"
inline constexpr std::uint16_t layout_major = 5;
inline constexpr std::uint16_t layout_minor = 0;

/// Written once by the creator, before anyone maps; copied once at attach, never read again.
struct identity {
    std::uint64_t magic;
    std::uint16_t major;
    std::uint16_t minor;
    std::uint32_t header_bytes;
    std::uint64_t capacity_bytes;  ///< of the data area; a power of two
    std::uint64_t nonce;           ///< of the ring in this memory; see tag_at
    std::uint64_t channel_id;      ///< the same in both memories of a channel
    std::uint64_t reserved[3];
};

/// Bit of a record's kind: its message goes on in the next record. What is counted as accepted and
/// delivered is messages, so records without it.
inline constexpr std::uint16_t continues = 0x8000;
/// Bit of a record's kind: it is a pack, of as many messages as its flags say, all of the kind that
/// the other bits are. A pack neither continues nor is continued.
inline constexpr std::uint16_t packed = 0x4000;
/// Bit of a record's kind: no message, but a word of those who run the channel. It is not counted,
/// nor packed.
inline constexpr std::uint16_t aside = 0x2000;
/// How many messages such a record ends.
constexpr std::uint64_t messages_in(std::uint16_t kind, std::uint16_t flags) noexcept {
    return (kind & packed) != 0 ? flags : (kind & (continues | aside)) == 0;
}

/// One record. The tag is stored last, so it says "all of me is here".
struct record_header {
    std::atomic<std::uint64_t> tag;
    std::atomic<std::uint32_t> length;  ///< payload bytes that follow this header
    std::atomic<std::uint16_t> kind;    ///< 13 bits, `aside`, `packed` and `continues`
    std::atomic<std::uint16_t> flags;   ///< of a pack: how many messages
};

/// What the payload of a pack begins with; then come its messages, one after the other, each a
/// pack_item, its octets, and what fills up the last 8 of them.
struct pack_header {
    std::atomic<std::uint16_t> flags;  ///< of each of its messages
    std::uint16_t reserved[3];
};
struct pack_item {
    std::atomic<std::uint32_t> length;  ///< octets that follow
    std::uint32_t reserved;
};

/// What a side says of itself; park words are 0 when awake, else (epoch << 2 | park_mode).
struct half_header {
    identity id;
    /// Position up to which this side, as a consumer, has released the ring it receives.
    alignas(apart_bytes) std::atomic<std::uint64_t> released;
    /// A bridge's: records below this position may have left for another host. 0 where this side
    /// is no bridge.
    std::atomic<std::uint64_t> taken;
    /// A bridge's: how many messages it has released that the place there never got; see
    /// dropped_word.
    std::atomic<std::uint64_t> dropped;
    /// Read by the other side after every publish or release; written only to sleep.
    alignas(apart_bytes) std::atomic<std::uint32_t> reader_park;
    std::atomic<std::uint32_t> writer_park;
    std::atomic<std::uint64_t> writer_wake_at;  ///< wake the writer once `released` is here
    /// Bumped by this side to wake the other, which waits for it to change.
    alignas(apart_bytes) std::atomic<std::uint32_t> bell;
    /// One of half_state.
    alignas(apart_bytes) std::atomic<std::uint32_t> state;
    /// What this side tells the other past all records; 0: nothing. The meaning is the user's.
    std::atomic<std::uint32_t> word;
    /// Largest message that this side takes; 0: not said. A hint: who receives looks again.
    std::atomic<std::uint64_t> message_bytes_max;
};

/// `unknown` is in no memory that two processes share: before the other side's memory has come, it
/// stands for park words that cannot be read yet.
enum class park_mode : std::uint32_t { awake = 0, futex = 1, doorbell = 2, unknown = 3 };

enum class half_state : std::uint32_t {
    open = 0,
    closed = 1,     ///< this side publishes nothing more
    peer_dead = 2,  ///< a bridge speaking for a process that has ended
    corrupt = 3,    ///< this side found the other's memory broken and has stopped
    refused = 4,    ///< this process had no room for its end, or one that a bridge speaks for
};

/// The tag of the record at `position`. A record is there when the stored tag is this one, so old
/// bytes, payload and zeroes cannot pass for a record.
/// Source: the finaliser of splitmix64 (public domain), over position + nonce.
constexpr std::uint64_t tag_at(std::uint64_t position, std::uint64_t nonce) noexcept {
    std::uint64_t z = position + nonce;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/// What half_header::dropped holds: the number of messages in the upper 44 bits, and in the lower
/// 20 the line up to which they are counted. So one store says both, and a reader of `released`
/// sees whether it has followed yet.
inline constexpr unsigned dropped_line_bits = 20;
inline constexpr std::uint64_t dropped_line_mask = (1 << dropped_line_bits) - 1;
/// A ring whose consumer drops messages is smaller, so that no drop is as long.
inline constexpr std::uint64_t drop_reach_bytes = line_bytes << dropped_line_bits;
constexpr std::uint64_t dropped_word(std::uint64_t messages, std::uint64_t position) noexcept {
    return messages << dropped_line_bits | ((position / line_bytes) & dropped_line_mask);
}
constexpr std::uint64_t dropped_in(std::uint64_t word) noexcept {
    return word >> dropped_line_bits;
}
/// The position up to which `word` counts, seen from a `released` less than drop_reach_bytes
/// before it.
constexpr std::uint64_t dropped_end(std::uint64_t word, std::uint64_t released) noexcept {
    return released + ((word - released / line_bytes) & dropped_line_mask) * line_bytes;
}

/// Bytes of ring that a record of `payload_bytes` takes, header included.
constexpr std::uint64_t span_of(std::uint64_t payload_bytes) noexcept {
    return (payload_bytes + sizeof(record_header) + line_bytes - 1) &
           ~std::uint64_t{line_bytes - 1};
}

/// Of a message's octets, wherever it lies.
inline constexpr std::size_t payload_alignment = 8;

/// Bytes of a pack that a message of `payload_bytes` takes, its item included.
constexpr std::uint64_t item_span_of(std::uint64_t payload_bytes) noexcept {
    return (payload_bytes + sizeof(pack_item) + 7) & ~std::uint64_t{7};
}

/// Whether a record can have such a header. How long its messages are is checked as they are read.
constexpr bool is_sound(std::uint16_t kind, std::uint16_t flags, std::uint64_t length) noexcept {
    if ((kind & packed) == 0) return true;
    return (kind & (continues | aside)) == 0 && flags != 0 &&
           length >= sizeof(pack_header) + flags * sizeof(pack_item);
}

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(sizeof(pack_header) == 8 && std::is_standard_layout_v<pack_header>);
static_assert(sizeof(pack_item) == 8 && std::is_standard_layout_v<pack_item>);
static_assert(offsetof(pack_header, flags) == 0 && offsetof(pack_item, length) == 0);
static_assert(sizeof(identity) == line_bytes && std::is_standard_layout_v<identity>);
static_assert(sizeof(record_header) == 16 && std::is_standard_layout_v<record_header>);
static_assert(offsetof(half_header, released) == 128);
static_assert(offsetof(half_header, taken) == 136);
static_assert(offsetof(half_header, dropped) == 144);
static_assert(offsetof(half_header, reader_park) == 256);
static_assert(offsetof(half_header, writer_park) == 260);
static_assert(offsetof(half_header, writer_wake_at) == 264);
static_assert(offsetof(half_header, bell) == 384);
static_assert(offsetof(half_header, state) == 512);
static_assert(offsetof(half_header, word) == 516);
static_assert(offsetof(half_header, message_bytes_max) == 520);
static_assert(sizeof(half_header) <= header_bytes && std::is_standard_layout_v<half_header>);

}  // namespace places::shm
