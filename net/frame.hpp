// SPDX-License-Identifier: Apache-2.0
// Frames as plain C++ values, and their bytes. net/wire.capnp says what each means and what its
// receiver must check; this file only turns one into the other. Cap'n Proto stays in frame.cpp.
#pragma once

#include <places/core/error.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace places::net {

using nonce_bytes = std::array<std::byte, 32>;
using proof_bytes = std::array<std::byte, 32>;
/// Fresh for each start of a node: together with the name, who a peer is.
using incarnation_id = std::array<std::byte, 16>;

inline constexpr std::size_t length_prefix_bytes = 4;
inline constexpr std::size_t records_bytes_max = 64 * 1024;
inline constexpr std::size_t text_bytes_max = 32 * 1024;
inline constexpr std::size_t name_bytes_max = 4 * 1024;

/// What a length prefix may promise.
struct frame_limits {
    std::size_t frame_bytes_max;  // body, without the prefix
};
inline constexpr frame_limits handshake_limits{16 * 1024};
inline constexpr frame_limits session_limits{records_bytes_max + 1024};

struct challenge_frame {
    std::uint16_t protocol_min = 0;
    std::uint16_t protocol_max = 0;
    nonce_bytes nonce{};
    friend bool operator==(const challenge_frame&, const challenge_frame&) = default;
};

struct hello_frame {
    std::uint16_t protocol_min = 0;
    std::uint16_t protocol_max = 0;
    std::string node_name;
    incarnation_id incarnation{};
    nonce_bytes nonce{};
    proof_bytes proof{};
    friend bool operator==(const hello_frame&, const hello_frame&) = default;
};

struct welcome_frame {
    std::uint16_t protocol = 0;
    std::string node_name;
    incarnation_id incarnation{};
    proof_bytes proof{};
    friend bool operator==(const welcome_frame&, const welcome_frame&) = default;
};

struct reject_frame {
    errc code{};
    std::string text;
    std::uint16_t protocol_min = 0;
    std::uint16_t protocol_max = 0;
    friend bool operator==(const reject_frame&, const reject_frame&) = default;
};

/// Start a place from an entry that the node's executable has registered.
struct start_entry {
    std::string entry;
    std::string named;  // empty: anonymous
    friend bool operator==(const start_entry&, const start_entry&) = default;
};

/// Start a place from a symbol of a shared object on the node's disk.
struct start_module {
    std::string library;
    std::string symbol;
    std::string named;  // empty: anonymous
    friend bool operator==(const start_module&, const start_module&) = default;
};

/// Connect to the living place of that name.
struct connect_name {
    std::string name;
    friend bool operator==(const connect_name&, const connect_name&) = default;
};

struct open_frame {
    std::uint64_t channel = 0;
    std::uint64_t ring_bytes = 0;
    std::variant<start_entry, start_module, connect_name> target;
    friend bool operator==(const open_frame&, const open_frame&) = default;
};

struct opened_frame {
    std::uint64_t channel = 0;
    std::uint64_t limit = 0;  // absolute position
    std::uint64_t place = 0;
    friend bool operator==(const opened_frame&, const opened_frame&) = default;
};

struct refused_frame {
    std::uint64_t channel = 0;
    errc code{};
    std::string text;
    friend bool operator==(const refused_frame&, const refused_frame&) = default;
};

/// `records` belongs to somebody else: to the buffer that was decoded, or to the ring being sent.
struct data_frame {
    std::uint64_t channel = 0;
    std::uint64_t position = 0;  // absolute, of the first record
    std::span<const std::byte> records;
};
/// Compares what the records say, not where they are.
bool operator==(const data_frame& a, const data_frame& b) noexcept;

struct credit_frame {
    std::uint64_t channel = 0;
    std::uint64_t placed = 0;
    std::uint64_t limit = 0;
    std::uint64_t dropped = 0;            // the last so many bytes below `placed`
    std::uint64_t message_bytes_max = 0;  // that the process takes; 0: it has said none
    friend bool operator==(const credit_frame&, const credit_frame&) = default;
};

struct close_frame {
    std::uint64_t channel = 0;
    std::uint64_t position = 0;  // nothing comes after it
    errc reason = errc::closed;
    std::string text{};  // of refused: why
    friend bool operator==(const close_frame&, const close_frame&) = default;
};

enum class death_reason : std::uint8_t { exited, signalled, unknown };

struct place_died_frame {
    std::uint64_t place = 0;
    std::uint64_t channel = 0;  // 0: the place as a whole
    death_reason reason = death_reason::unknown;
    std::int32_t status = 0;
    std::string text{};  // of the exception that has ended it, if any
    friend bool operator==(const place_died_frame&, const place_died_frame&) = default;
};

struct log_frame {
    std::string place;
    std::uint8_t severity = 6;  // as syslog
    std::int64_t time_ns = 0;   // since 1970
    std::string text;
    friend bool operator==(const log_frame&, const log_frame&) = default;
};

struct output_frame {
    std::string place;
    std::uint8_t stream = 1;  // 1 stdout, 2 stderr
    std::string line;         // any bytes, without the line feed
    friend bool operator==(const output_frame&, const output_frame&) = default;
};

struct exit_frame {
    std::int32_t status = 0;
    friend bool operator==(const exit_frame&, const exit_frame&) = default;
};

struct ping_frame {
    std::uint64_t sequence = 0;
    friend bool operator==(const ping_frame&, const ping_frame&) = default;
};

struct pong_frame {
    std::uint64_t sequence = 0;
    friend bool operator==(const pong_frame&, const pong_frame&) = default;
};

/// The node's places, channels and links are asked for.
struct list_ask_frame {
    friend bool operator==(const list_ask_frame&, const list_ask_frame&) = default;
};

/// A part of the answer.
struct list_answer_frame {
    struct place {
        std::uint64_t number = 0;
        std::int32_t pid = 0;
        std::string name;
        std::string entry;
        std::uint64_t age_ms = 0;
        std::string state;
        friend bool operator==(const place&, const place&) = default;
    };
    struct channel {
        std::uint64_t link = 0;
        std::uint64_t number = 0;
        std::uint64_t place = 0;
        std::uint64_t sent = 0;
        std::uint64_t acknowledged = 0;
        std::uint64_t placed = 0;
        friend bool operator==(const channel&, const channel&) = default;
    };
    struct link {
        std::uint64_t number = 0;
        std::string peer;
        std::string address;
        std::uint64_t age_ms = 0;
        std::string rights;  // words for people
        bool is_secure = false;
        friend bool operator==(const link&, const link&) = default;
    };
    struct local {
        std::uint64_t number = 0;
        std::uint64_t first = 0;
        std::uint64_t second = 0;
        bool is_held_by_first = false;
        bool is_held_by_second = false;
        std::uint64_t ring_bytes = 0;
        friend bool operator==(const local&, const local&) = default;
    };
    errc code{};  // none: the lists count
    std::string text;
    bool is_last = true;
    std::vector<place> places;
    std::vector<channel> channels;
    std::vector<link> links;
    std::vector<local> locals{};
    friend bool operator==(const list_answer_frame&, const list_answer_frame&) = default;
};
/// Rows of one list_answer, all lists together; more would not fit where each text is as long as
/// it may be.
inline constexpr std::size_t listed_rows_max = 64;
inline constexpr std::size_t listed_text_bytes_max = 255;

/// Answers an exit that the peer may not ask for.
struct exit_refused_frame {
    errc code{};
    std::string text;
    friend bool operator==(const exit_refused_frame&, const exit_refused_frame&) = default;
};

/// Where is the node of that name? For whoever has started both.
struct introduce_frame {
    std::string node;
    friend bool operator==(const introduce_frame&, const introduce_frame&) = default;
};

/// The answer.
struct introduction_frame {
    std::string node;  // as asked
    errc code{};       // none: all that follows the text counts
    std::string text{};
    std::string asker{};  // what the asking node is called there, and dials as
    std::string host{};   // empty: it is the asking node itself
    std::uint16_t port = 0;
    std::array<std::byte, 32> key{};  // for the asking node alone
    bool insecure = false;
    friend bool operator==(const introduction_frame&, const introduction_frame&) = default;
};

using frame = std::variant<challenge_frame, hello_frame, welcome_frame, reject_frame, open_frame,
                           opened_frame, refused_frame, data_frame, credit_frame, close_frame,
                           place_died_frame, log_frame, output_frame, exit_frame, ping_frame,
                           pong_frame, list_ask_frame, list_answer_frame, exit_refused_frame,
                           introduce_frame, introduction_frame>;

/// The code by which another process is told of `e`: one of ours; start_failed for any other, such
/// as the system's.
errc code_of(const error& e) noexcept;

/// Whether a name, symbol or path can travel: at most name_bytes_max bytes, none of them NUL.
bool can_travel(std::string_view name) noexcept;

/// The bytes of `f` as they go on the wire, length prefix first.
/// Shape:   a text or line over text_bytes_max is cut, since it is for people; nothing else is.
/// Throws:  places::error{too_large} for a name, path or symbol over name_bytes_max or records over
///          records_bytes_max; std::bad_alloc.
/// Thread:  any.
std::vector<std::byte> encode(const frame& f);

/// Reads one body, without its length prefix; trusts nothing in it.
/// Shape:   any bytes, any alignment. A data frame's records are a span of `body`, not a copy.
/// Returns: the frame | protocol (not a frame of this version) | too_large (a part over its bound).
/// Throws:  std::bad_alloc, for at most the size of `body`.
/// Thread:  any, while nobody writes to `body`.
result<frame> decode(std::span<const std::byte> body);

/// Checks a length prefix before anything is allocated or awaited for it.
/// Returns: bytes of the body that follows | protocol (no frame has it) | too_large.
/// Throws:  never.
result<std::size_t> decode_length(std::span<const std::byte, length_prefix_bytes> prefix,
                                  frame_limits limits) noexcept;

/// Everything of a data frame that precedes the bytes of its records.
struct data_prefix {
    std::array<std::byte, length_prefix_bytes + 6 * 8> bytes;
    std::size_t padding_bytes;  // zeros that follow the records; 0 for whole ring records
};

/// Lets a data frame be written from where its records lie: prefix, records, padding are byte for
/// byte what encode() gives.
/// Throws:  places::error{too_large} if record_bytes > records_bytes_max.
/// Thread:  any.
/// Source:  Cap'n Proto encoding, "Lists": the records' length is in the one pointer before them,
///          and they are the last object of the message; that pointer is patched in a real one.
data_prefix encode_data_prefix(std::uint64_t channel, std::uint64_t position,
                               std::size_t record_bytes);

}  // namespace places::net
