// SPDX-License-Identifier: Apache-2.0
// What a place is given: the channel to its creator, and every connection made to its name.
#pragma once

#include <places/core/channel.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <variant>

namespace places {

namespace detail {
struct inbox_state;
struct connection;
class process;
}  // namespace detail

class reply_end;
namespace detail {
/// As reply_end::send, but what finds no room is kept and goes before the next message is read
/// from there; other connections are served meanwhile. At most one between two calls of get().
/// Returns: ok | too_large | closed | peer_dead | refused | corrupt.  Blocks: never.
status send_or_keep(const reply_end& to, message m);
/// Largest message that goes there; 0 once the connection has gone.
std::size_t message_bytes_max(const reply_end& to) noexcept;
}  // namespace detail

/// Where the answer to one message goes: the end it came from. Copyable; outlives the connection,
/// after which put answers `closed` or `peer_dead`.
/// Thread: the inbox's.
class reply_end {
  public:
    reply_end() noexcept = default;  ///< of no connection: is_open() is false, put answers `closed`

    /// Whether the connection is there and the process at its other end has neither closed it nor
    /// ended. What that process has sent before may still be unread.
    /// Blocks:  never.
    bool is_open() const;
    /// Returns: ok | too_large | closed | peer_dead | refused | corrupt, as channel::put.
    /// Blocks:  while the other end leaves no room; inside a router body suspends that body only.
    template <sendable_type T>
    status put(const T& v) {
        return send(message::of(v));
    }
    /// Of a type that does not travel the compiler says in one line what to do instead.
    template <class T>
    status put(const T&) {
        return detail::not_sent<T>();
    }
    /// The same for a message that is made already.
    status send(const message& m);
    /// Tells connections apart; unique on this node. 0 for no connection.
    std::uint64_t connection_id() const noexcept { return id_; }

  private:
    friend class inbox;
    friend struct detail::inbox_state;
    friend status detail::send_or_keep(const reply_end& to, message m);
    friend std::size_t detail::message_bytes_max(const reply_end& to) noexcept;
    reply_end(std::weak_ptr<detail::connection> to, std::uint64_t id) noexcept
        : to_(std::move(to)),
          id_(id) {}
    std::weak_ptr<detail::connection> to_;
    std::uint64_t id_ = 0;
};

/// All channels of one place, read in turn; thousands of them cost what the active ones cost.
/// Made by the library; a place's entry takes it as `places::inbox&`.
/// Thread: one.
class inbox {
  public:
    struct item {
        message content;
        reply_end from;
    };
    /// A connection has been made; so has the creator's channel at the start.
    struct opened {
        reply_end from;
    };
    /// A connection has ended, and all that was sent on it has been read.
    struct ended {
        std::uint64_t connection_id = 0;
        status why = status::closed;     ///< closed | peer_dead | refused | corrupt
        std::optional<exit_status> how;  ///< of the process at the other end, once it is known
    };
    using event = std::variant<opened, item, ended>;

    inbox(detail::process& home, std::unique_ptr<detail::channel_state> creator,
          bool takes_connections);
    ~inbox();
    inbox(const inbox&) = delete;
    inbox& operator=(const inbox&) = delete;

    /// The next message of any connection, and the end to answer it on. The connections have turns.
    /// A message over the limit of its channel is passed over, with a warning in the node's log.
    /// Returns: the pair | timeout | closed: no process can send here any more, or this place was
    ///          asked to stop (place::request_stop) and has received all that had come before |
    ///          node_down: the nursery has ended. A server that was asked to stop first waits for
    ///          callers that leave no room for their answers, at most half of the grace.
    /// Throws:  error{bad_argument} while a router runs in another thread of this process, and
    ///          while the creator's channel is in a channel_set or an async_channel.
    /// Blocks:  until then; inside a router body suspends that body only.
    result<item> get(channel::clock::time_point until = channel::clock::time_point::max());

    /// The next event: for each connection, the creator's channel included, `opened`, then its
    /// messages, then `ended`. `opened` and `ended` come once each, also when nothing was sent or
    /// the other end has gone before anything was read.
    /// get() takes messages alone, and leaves `opened` and `ended` to get_event(). Connections that
    /// get() opened or dropped before the first get_event() are not reported.
    /// Returns: the event | as get(). `closed` comes after the last `ended`; where this place was
    ///          asked to stop, its connections are still open, and have no `ended`.
    /// Throws, Blocks: as get().
    result<event> get_event(channel::clock::time_point until = channel::clock::time_point::max());

    /// The channel to the place that started this one. A message is taken by get() of either. From
    /// the first get() of the inbox on, the channel belongs to no channel_set or async_channel.
    channel& creator() noexcept;

  private:
    bool accept_offers();
    result<event> next(channel::clock::time_point until, bool with_events);
    std::unique_ptr<detail::inbox_state> state_;
};

}  // namespace places
