// SPDX-License-Identifier: Apache-2.0
// One end of a two-way channel between two processes.
#pragma once

#include <places/core/error.hpp>
#include <places/core/message.hpp>
#include <places/shm/ring.hpp>
#include <places/shm/status.hpp>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace places {

namespace detail {
class channel_state;
struct state_of;

/// Returns: true if the record is a raw value of that type and of that size.
inline bool is_raw_record(const shm::record_view& record, std::uint16_t type,
                          std::size_t size) noexcept {
    return record.kind == static_cast<std::uint16_t>(message_kind::raw) && record.flags == type &&
           record.payload.size() == size;
}
}  // namespace detail

/// How a place ended: `value` is its completion value 0..255, or the signal's number.
struct exit_status {
    bool signalled = false;
    int value = 0;
    /// what() of the exception that ended the place, printable and at most 4 KiB. It is "an unknown
    /// exception" if the exception was no std::exception. It is empty if no exception ended the
    /// place, and for a place on another node of an older version.
    std::string text{};
    /// Compares how the places ended. The texts are ignored.
    friend bool operator==(const exit_status& a, const exit_status& b) noexcept {
        return a.signalled == b.signalled && a.value == b.value;
    }
};
std::string to_string(const exit_status& how);
/// Prints "exit code 3", "exit code 1: no such file" or "signal 9 (Killed)", as to_string does.
std::ostream& operator<<(std::ostream& out, const exit_status& how);

/// What became of the messages of one direction; accepted == delivered + undelivered + unknown, at
/// any time. Which of the three a message is in is final once the channel has ended.
/// On another node, the place has received all that is delivered, perhaps some of what is unknown,
/// and nothing else. So what is undelivered can be sent again, and nothing is there twice.
struct delivery {
    std::uint64_t accepted = 0;     ///< put returned ok
    std::uint64_t delivered = 0;    ///< the receiver took it out; on another node: its ring has it
    std::uint64_t undelivered = 0;  ///< the receiver has not got it, and will not after the end
    /// The receiver may have got it. To another node: it may have left over a link, and that node
    /// has not acknowledged it; the loss of the link or of a bridge leaves it so. Between places of
    /// one node it is 0 while the channel is open. It stays 0 afterwards, unless the other end's
    /// ring could never be mapped here: this process or the nursery had no descriptor or memory for
    /// it, or the nursery was killed. Then all that this end has sent is unknown.
    std::uint64_t unknown = 0;
};
/// Prints "5 accepted, 3 delivered, 2 undelivered, 0 unknown".
std::ostream& operator<<(std::ostream& out, const delivery& d);

/// What became of a batch: the first `count` messages were taken, then came `state`.
struct batch_outcome {
    status state = status::ok;
    std::size_t count = 0;
};

/// A contiguous range of messages: a vector, an array or a span. A text is one message, not a batch
/// of its characters.
template <class Range>
concept message_range = std::ranges::contiguous_range<Range> && std::ranges::sized_range<Range> &&
    sendable_type<std::ranges::range_value_t<Range>> &&
    !std::convertible_to<const std::remove_cvref_t<Range>&, std::string_view>;

/// A message_range to receive into. It outlives the call, and its elements can be assigned.
template <class Range>
concept message_room = message_range<Range> && std::ranges::borrowed_range<Range> &&
    message_type<std::ranges::range_value_t<Range>> &&
    std::ranges::output_range<Range, std::ranges::range_value_t<Range>>;

/// Default size of each of a channel's two rings.
inline constexpr std::size_t ring_bytes_default = 64 * 1024;
/// Default of channel::message_bytes_max.
inline constexpr std::size_t max_message_bytes_default = 256 * 1024 * 1024;

/// A movable end of a channel: an ordered stream of messages each way, bounded by its ring.
/// Invariant: accepted messages are delivered in order, once, even when the sender has died.
/// Thread:  one at a time; another may go on with it later. A call throws error{misuse} while
///          another thread waits in a call of this end. Two threads that never meet in a wait are
///          not found: give each a channel of its own, or lock.
/// Process: the one that holds the end. In a process that the program has forked from it, each call
///          throws error{misuse}; close() and the destructor do nothing there, and the parent goes
///          on as before.
/// Dying:   a process killed inside put() leaves a message that is either whole or absent; killed
///          inside get() leaves it undelivered or delivered, as delivery() says.
class channel {
  public:
    using clock = std::chrono::steady_clock;

    /// Makes an object without an end, as a channel that was moved from. Calls that return a status
    /// return `closed`; the others return nothing, 0 or false.
    channel() noexcept;
    explicit channel(std::unique_ptr<detail::channel_state> state) noexcept;
    channel(channel&&) noexcept;
    channel& operator=(channel&&) noexcept;
    ~channel();

    /// Sends `v` as one message.
    /// Shape:   any sendable_type; its encoding at most sendable_bytes_max(). A string literal
    ///          arrives as a std::string. What is over record_bytes_max() goes through the ring in
    ///          parts, and is copied once more.
    /// Returns: ok | too_large | closed | peer_dead | refused | corrupt.  Only ok sends anything.
    ///          refused: one of the two processes had no descriptor or memory for its end.
    /// Blocks:  while the ring is full; inside a router body suspends that body only.
    template <sendable_type T>
    status put(const T& v) {
        return put_until(v, clock::time_point::max());
    }
    /// As put. Returns: also full; too_large too for what the empty ring could not hold whole.
    /// Blocks:  never.
    template <sendable_type T>
    status try_put(const T& v) {
        return put_until(v, clock::time_point::min());
    }
    /// As put. Returns: also timeout.
    template <sendable_type T, class Rep, class Period>
    status put_for(const T& v, std::chrono::duration<Rep, Period> limit) {
        return put_until(v, after(limit));
    }

    /// The next message as a T, `value` when nothing else is asked for.
    /// Returns: the value | closed | peer_dead | refused | corrupt | wrong_type | too_large. A
    ///          message of another type stays where it is: get it as what it is, take it with
    ///          receive(), or pass over it with skip(). error().message() says what was expected
    ///          and what came, and value() throws that. too_large is a message over
    ///          message_bytes_max(): it is passed over, and the next call gets what follows.
    /// Blocks:  until there is one; inside a router body suspends that body only.
    template <message_type T = value>
    result<T> get() {
        return get_until<T>(clock::time_point::max());
    }
    /// As get. Returns: also empty.  Blocks: never.
    template <message_type T = value>
    result<T> try_get() {
        return get_until<T>(clock::time_point::min());
    }
    /// As get. Returns: also timeout.
    template <message_type T = value, class Rep, class Period>
    result<T> get_for(std::chrono::duration<Rep, Period> limit) {
        return get_until<T>(after(limit));
    }

    // For a type that cannot be sent or received, these overloads stop the build with advice.
    template <class T>
    status put(const T&) {
        return detail::not_sent<T>();
    }
    template <class T>
    status try_put(const T&) {
        return detail::not_sent<T>();
    }
    template <class T, class Rep, class Period>
    status put_for(const T&, std::chrono::duration<Rep, Period>) {
        return detail::not_sent<T>();
    }
    template <class T>
    requires(!message_type<T>) auto get() { return detail::not_received<T>(); }
    template <class T>
    requires(!message_type<T>) auto try_get() { return detail::not_received<T>(); }
    template <class T, class Rep, class Period>
    requires(!message_type<T>) auto get_for(std::chrono::duration<Rep, Period>) {
        return detail::not_received<T>();
    }

    /// Skips the next message of any type without decoding it.
    /// Returns: ok | closed | peer_dead | refused | corrupt.  Blocks: as get.
    status skip() { return skip_until(clock::time_point::max()); }
    /// As skip. Returns: also empty.  Blocks: never.
    status try_skip() { return skip_until(clock::time_point::min()); }
    /// As skip. Returns: also timeout.
    template <class Rep, class Period>
    status skip_for(std::chrono::duration<Rep, Period> limit) {
        return skip_until(after(limit));
    }

    /// The next message whatever its type.
    /// Returns: the message | timeout, or empty for an `until` that is the clock's min() | closed |
    ///          peer_dead | refused | corrupt | too_large, as get.
    /// Blocks:  until there is one, at most until `until`; inside a router body suspends that body
    ///          only.
    result<message> receive(clock::time_point until = clock::time_point::max());
    /// As receive. Returns: also empty.  Blocks: never.
    result<message> try_receive() { return receive(clock::time_point::min()); }
    /// As receive. Returns: also timeout.  Blocks: at most `limit`.
    template <class Rep, class Period>
    result<message> receive_for(std::chrono::duration<Rep, Period> limit) {
        return receive(after(limit));
    }
    /// Sends a complete message.
    /// Returns: as put; also timeout, or full for an `until` that is the clock's min().
    /// Throws:  error{bad_argument} for a kind that only channels make.
    /// Blocks:  as put, at most until `until`.
    status send(const message& m, clock::time_point until = clock::time_point::max());
    /// As send. Returns: as try_put.  Blocks: never.
    status try_send(const message& m) { return send(m, clock::time_point::min()); }
    /// As send. Returns: also timeout.  Blocks: at most `limit`.
    template <class Rep, class Period>
    status send_for(const message& m, std::chrono::duration<Rep, Period> limit) {
        return send(m, after(limit));
    }

    // -- batches: many messages for little more than the price of one --
    // Small ones of one type share a record, whose space comes back when the last of them has been
    // received: until then it is room that a put waits for, and if the receiver dies before that,
    // sent() has all of them as undelivered.

    /// Sends each of `all`, in order.
    /// Shape:   a span, vector, array or list of messages.
    /// Returns: how many were accepted, and ok or why not more.
    /// Throws:  what message::of throws; what comes before that message is sent.
    /// Blocks:  as put.  Dying: a number of first messages is sent.
    template <message_range Range>
    batch_outcome put_batch(const Range& all) {
        return put_batch_until(as_batch(all), clock::time_point::max());
    }
    template <sendable_type T>
    batch_outcome put_batch(std::initializer_list<T> all) {
        return put_batch_until(as_batch(all), clock::time_point::max());
    }
    /// As put_batch. Returns: also full.  Blocks: never.
    template <message_range Range>
    batch_outcome try_put_batch(const Range& all) {
        return put_batch_until(as_batch(all), clock::time_point::min());
    }
    template <sendable_type T>
    batch_outcome try_put_batch(std::initializer_list<T> all) {
        return put_batch_until(as_batch(all), clock::time_point::min());
    }
    /// As put_batch. Returns: also timeout.  Blocks: at most `limit`, for all of them together.
    template <message_range Range, class Rep, class Period>
    batch_outcome put_batch_for(const Range& all, std::chrono::duration<Rep, Period> limit) {
        return put_batch_until(as_batch(all), after(limit));
    }
    template <sendable_type T, class Rep, class Period>
    batch_outcome put_batch_for(std::initializer_list<T> all,
                                std::chrono::duration<Rep, Period> limit) {
        return put_batch_until(as_batch(all), after(limit));
    }
    /// Receives what is there, at most into.size() messages; the first that is of another type
    /// than the elements of `into`, and all after it, stay.
    /// Shape:   a span, or a vector or array that keeps its size.
    /// Returns: how many, at least 1 | closed | peer_dead | refused | corrupt | wrong_type |
    ///          too_large, as get; 0 where `into` has no element.
    /// Blocks:  until there is one.
    template <message_room Range>
    result<std::size_t> get_batch(Range&& into) {
        return get_batch_until(as_room(into), clock::time_point::max());
    }
    /// As get_batch. Returns: also empty.  Blocks: never.
    template <message_room Range>
    result<std::size_t> try_get_batch(Range&& into) {
        return get_batch_until(as_room(into), clock::time_point::min());
    }
    /// As get_batch. Returns: also timeout.  Blocks: at most `limit`, for the first.
    template <message_room Range, class Rep, class Period>
    result<std::size_t> get_batch_for(Range&& into, std::chrono::duration<Rep, Period> limit) {
        return get_batch_until(as_room(into), after(limit));
    }
    /// Room for one more message of exactly `size` bytes, aligned to 8, sent with publish_batch().
    /// Any other put before that drops the batch.
    /// Returns: the room | full | too_large | closed | peer_dead | refused | corrupt.
    /// Blocks:  never.
    result<std::span<std::byte>> add_loan(std::size_t size);
    /// Sends all that was added at once.  Dying: before the end of it = as if never called.
    void publish_batch();
    /// Shows the bytes of the messages that are there, at most into.size(), until release() or a
    /// call that receives. Until that release, a later message that came in several parts is not
    /// shown, and a peek for it waits.
    /// Returns: how many, at least 1 | closed | peer_dead | refused | corrupt | too_large, as
    ///          get; 0 where `into` has no element.
    /// Blocks:  until there is one.
    result<std::size_t> peek_batch(std::span<std::span<const std::byte>> into) {
        return peek_batch_until(into, clock::time_point::max());
    }
    /// As peek_batch. Returns: also empty.  Blocks: never.
    result<std::size_t> try_peek_batch(std::span<std::span<const std::byte>> into) {
        return peek_batch_until(into, clock::time_point::min());
    }
    /// As peek_batch. Returns: also timeout.  Blocks: at most `limit`, for the first.
    template <class Rep, class Period>
    result<std::size_t> peek_batch_for(std::span<std::span<const std::byte>> into,
                                       std::chrono::duration<Rep, Period> limit) {
        return peek_batch_until(into, after(limit));
    }

    /// Lends room in the ring for a message of `size` bytes, to be built in place.
    /// publish() sends its first `used` bytes; nothing is sent before. Only one loan exists at a
    /// time.
    /// Shape:   `size` at most record_bytes_max() and sendable_bytes_max(), whatever `used` is.
    /// Returns: the room | too_large | closed | peer_dead | refused | corrupt.
    /// Blocks:  while the ring is full.
    result<std::span<std::byte>> loan(std::size_t size) {
        return loan_until(size, clock::time_point::max());
    }
    /// As loan. Returns: also full.  Blocks: never.
    result<std::span<std::byte>> try_loan(std::size_t size) {
        return loan_until(size, clock::time_point::min());
    }
    /// As loan. Returns: also timeout.  Blocks: at most `limit`.
    template <class Rep, class Period>
    result<std::span<std::byte>> loan_for(std::size_t size,
                                          std::chrono::duration<Rep, Period> limit) {
        return loan_until(size, after(limit));
    }
    void publish(std::size_t used);
    /// Shows the bytes of the next message where they lie. They stay valid until release() or a
    /// call that receives. A faulty sender could still change them.
    /// Returns: the bytes | closed | peer_dead | refused | corrupt | too_large, as get.
    /// Blocks:  until there is one; inside a router body suspends that body only.
    result<std::span<const std::byte>> peek() { return peek_until(clock::time_point::max()); }
    /// As peek. Returns: also empty.  Blocks: never.
    result<std::span<const std::byte>> try_peek() { return peek_until(clock::time_point::min()); }
    /// As peek. Returns: also timeout.  Blocks: at most `limit`.
    template <class Rep, class Period>
    result<std::span<const std::byte>> peek_for(std::chrono::duration<Rep, Period> limit) {
        return peek_until(after(limit));
    }
    void release();

    /// Stops sending. The other end reads what was sent before, then gets `closed`. Idempotent.
    /// Blocks: never.
    void close() noexcept;
    bool is_open() const noexcept;
    explicit operator bool() const noexcept { return state_ != nullptr; }
    /// Once a call has answered `corrupt`: the position in the ring, in bytes since it was made, of
    /// the first record that is wrong, or up to which the other end had read when it claimed what
    /// cannot be. Nothing where it was the other end that found something wrong.
    std::optional<std::uint64_t> corrupt_at() const noexcept;

    /// Largest message that this end sends or takes, 256 MiB at first. The other end is told: what
    /// is over the limit of either end is too_large where it is put, and nothing of it is sent. A
    /// message that was on its way when the limit was lowered is too_large where it is received,
    /// passed over there, and counted as delivered. An end announces its limit at its first receive
    /// or its first set_message_bytes_max(). Before that its peer knows no limit. Between two nodes
    /// the limit arrives before every message that this end puts after it.
    std::size_t message_bytes_max() const noexcept;
    void set_message_bytes_max(std::size_t limit) noexcept;
    /// Largest message that put takes now: the smaller of both ends' limits, as far as the other
    /// end has announced its own. put compares the encoded size with this limit. The status carries
    /// no numbers; the exception that a stub throws names both.
    std::size_t sendable_bytes_max() const noexcept;
    /// Returns: the size of the largest message that is sent in one record, and of the largest
    ///          loan: a quarter of the ring.
    std::size_t record_bytes_max() const noexcept;
    /// Whether waits on this channel keep the core instead of sleeping: a message is then there
    /// about as fast as a cache line moves, and a core is taken all the time that a wait lasts. At
    /// most as many places of a node do this as it has cores (of its affinity and its control
    /// group); one counts once, however many channels. Off at first. In a router body it is off.
    /// The count is the node's: of two nodes on one host neither knows how many poll in the other.
    /// Returns: nothing | no_core: waits go on as before, and the node's log has a warning |
    ///          closed | node_down.
    /// Blocks:  until the nursery has answered; off: never.
    result<void> set_busy_poll(bool on);
    bool is_busy_polling() const noexcept;
    /// Returns: how the process at the other end ended; nothing until that is known.
    std::optional<exit_status> peer_status() const;
    /// Returns: after a call has returned `refused`, which process could not use its end of the
    ///          channel, and why; else empty. The error of a receiving or lending call contains
    ///          the text too.
    std::string refusal() const;
    /// Returns: what became of the messages of this end; exact once the other side has stopped.
    delivery sent() const;
    /// Returns: what this end has received, and what it has still to read.
    delivery received() const;

  protected:
    friend struct detail::state_of;
    /// Never, when the clock does not count that far.
    template <class Rep, class Period>
    static clock::time_point after(std::chrono::duration<Rep, Period> limit) {
        const auto now = clock::now();
        // In floating point: the limit itself may be more than the clock's unit can hold.
        if (std::chrono::duration<double>(limit) >= clock::time_point::max() - now) {
            return clock::time_point::max();
        }
        return now + std::chrono::ceil<clock::duration>(limit);
    }
    template <sendable_type T>
    status put_until(const T& v, clock::time_point until);
    template <message_type T>
    result<T> get_until(clock::time_point until);
    status put_bytes(message_kind k, std::uint16_t type, std::span<const std::byte> payload,
                     clock::time_point until);
    /// The next message, to be received: what was shown before is given back.
    shm::peeked next(clock::time_point until);
    shm::peeked look(clock::time_point until);
    result<std::span<const std::byte>> peek_until(clock::time_point until);
    result<std::size_t> peek_batch_until(std::span<std::span<const std::byte>> into,
                                         clock::time_point until);
    result<std::span<std::byte>> loan_until(std::size_t size, clock::time_point until);
    template <class Range>
    static auto as_batch(const Range& all) {
        return std::span<const std::ranges::range_value_t<const Range>>{all};
    }
    template <class Range>
    static auto as_room(Range& into) {
        return std::span<std::ranges::range_value_t<Range>>{into};
    }
    template <sendable_type T>
    batch_outcome put_batch_until(std::span<const T> all, clock::time_point until);
    template <message_type T>
    result<std::size_t> get_batch_until(std::span<T> into, clock::time_point until);
    template <message_type T>
    static result<T> decoded(const shm::record_view& record);
    status add_bytes(message_kind k, std::uint16_t type, std::span<const std::byte> payload,
                     clock::time_point until);
    batch_outcome add_run(std::uint16_t type, std::size_t size, std::span<const std::byte> values,
                          clock::time_point until);
    std::size_t take_run(std::uint16_t type, std::size_t size, std::span<std::byte> into);
    reason reason_of(status s);
    void drop() noexcept;
    void check_caller();
    void publish_added() noexcept;
    status skip_until(clock::time_point until);
    void consume();
    void step_over();
    void release_skipped();

    std::unique_ptr<detail::channel_state> state_;
};

/// Waits until one of `channels` has a message or is down, and tells which: the next call that
/// receives from it returns at once, whatever the other end does. Takes turns when several are
/// ready.
/// Shape:   any number but 0, each with an end. It costs what it is given: where they are many,
///          select over a channel_set, which costs what is active.
/// Returns: the index, or nothing when `limit` has passed.
/// Throws:  error{bad_argument} for the shape, and beyond 120 as channel_set does.
/// Blocks:  until then; inside a router body suspends that body only.
std::optional<std::size_t> select(std::span<channel* const> channels,
                                  std::chrono::nanoseconds limit = std::chrono::nanoseconds::max());
std::optional<std::size_t> select(std::initializer_list<channel*> channels,
                                  std::chrono::nanoseconds limit = std::chrono::nanoseconds::max());

// -- bodies --

template <sendable_type T>
status channel::put_until(const T& v, clock::time_point until) {
    if constexpr (detail::is_raw_message<T>) {
        return put_bytes(message_kind::raw, detail::fingerprint<T>(),
                         std::as_bytes(std::span{&v, 1}), until);
    } else if constexpr (detail::is_octet_span<T> || std::is_same_v<T, std::vector<std::byte>>) {
        // From where they lie: what is too large is refused before anybody copies it.
        return put_bytes(message_kind::bytes, 0, v, until);
    } else {
        return send(message::of(v), until);
    }
}

template <message_type T>
result<T> channel::decoded(const shm::record_view& record) {
    // Not for bool: whatever octet came, as() makes one of it.
    if constexpr (detail::is_raw<T> && !std::is_same_v<T, bool>) {
        if (detail::is_raw_record(record, detail::fingerprint<T>(), sizeof(T))) {
            if constexpr (alignof(T) <= shm::payload_alignment) {
                // Copied once, to where the caller finds it.
                return result<T>(boost::system::in_place_value,
                                 *reinterpret_cast<const T*>(record.payload.data()));
            } else {
                T v;
                std::memcpy(&v, record.payload.data(), sizeof(T));
                return result<T>(boost::system::in_place_value, v);
            }
        }
    } else if constexpr (std::is_same_v<T, std::vector<std::byte>>) {
        if (record.kind == static_cast<std::uint16_t>(message_kind::bytes)) {
            return result<T>(boost::system::in_place_value, record.payload.begin(),
                             record.payload.end());
        }
    }
    // Copied first: what is decoded must not change under the decoder.
    return message{static_cast<message_kind>(record.kind),
                   record.flags,
                   {record.payload.begin(), record.payload.end()}}
        .template as<T>();
}

template <message_type T>
result<T> channel::get_until(clock::time_point until) {
    const auto next_one = next(until);
    // In place: a bool or an error code as T would be taken for the other alternative. And one
    // object, the caller's, whatever it holds: T may be large.
    auto v = next_one.state == status::ok
                 ? decoded<T>(next_one.record)
                 : result<T>(boost::system::in_place_error, reason_of(next_one.state));
    if (v.has_value()) consume();
    return v;
}

template <sendable_type T>
batch_outcome channel::put_batch_until(std::span<const T> all, clock::time_point until) {
    batch_outcome done;
    if (!state_) return {status::closed, 0};
    check_caller();
    // Also when one cannot be encoded: those before it have been counted as taken.
    const auto publish = [](channel* c) { c->publish_added(); };
    const std::unique_ptr<channel, decltype(publish)> guard{this, publish};
    if constexpr (detail::is_raw_message<T>) {
        done = add_run(detail::fingerprint<T>(), sizeof(T), std::as_bytes(all), until);
    } else {
        for (; done.count < all.size(); ++done.count) {
            const auto& v = all[done.count];
            if constexpr (detail::is_octet_span<T> || std::is_same_v<T, std::vector<std::byte>>) {
                done.state = add_bytes(message_kind::bytes, 0, v, until);
            } else {
                const auto m = message::of(v);
                done.state = add_bytes(m.kind(), m.type(), m.bytes(), until);
            }
            if (done.state != status::ok) break;
        }
    }
    return done;
}

template <message_type T>
result<std::size_t> channel::get_batch_until(std::span<T> into, clock::time_point until) {
    std::size_t count = 0;
    reason outcome = make_error_code(state_ ? status::ok : status::closed);
    check_caller();
    // Also when one cannot be moved: those before it have been received.
    const auto give_back = [](channel* c) { c->release_skipped(); };
    const std::unique_ptr<channel, decltype(give_back)> guard{this, give_back};
    while (count < into.size()) {
        const auto next_one = count == 0 ? next(until) : look(clock::time_point::min());
        if (next_one.state != status::ok) {
            outcome = reason_of(next_one.state);
            break;
        }
        auto v = decoded<T>(next_one.record);
        if (!v.has_value()) {
            outcome = v.error();
            break;
        }
        into[count++] = std::move(*v);
        step_over();
        // Those that follow are most often the same.
        if constexpr (detail::is_raw<T> && !std::is_same_v<T, bool>) {
            const auto more = into.subspan(count);
            count += take_run(detail::fingerprint<T>(), sizeof(T), std::as_writable_bytes(more));
        }
    }
    if (count == 0 && outcome) return outcome;
    return count;
}

}  // namespace places
