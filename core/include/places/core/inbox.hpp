// SPDX-License-Identifier: Apache-2.0
// The inbox of a place: the channel to its creator, and every connection made to its name.
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
/// As reply_end::send, but a message that finds no room is kept. It is sent before the next
/// message is read from that connection; other connections are served meanwhile. Call it at most
/// once between two calls of get().
/// Returns: ok | too_large | closed | peer_dead | refused | corrupt.  Blocks: never.
status send_or_keep(const reply_end& to, message m);
/// Returns: the size of the largest message that `to` can send; 0 once the connection has gone.
std::size_t message_bytes_max(const reply_end& to) noexcept;
}  // namespace detail

/// Sends answers on the connection that a message came from. It can be copied. It may outlive the
/// connection: put then returns `closed` or `peer_dead`.
/// Thread: the inbox's.
class reply_end {
  public:
    reply_end() noexcept = default;  ///< no connection: is_open() is false, put returns `closed`

    /// Returns: true while the connection exists and the process at its other end has neither
    ///          closed it nor ended. Messages that it sent before may still be unread.
    /// Blocks:  never.
    bool is_open() const;
    /// Returns: ok | too_large | closed | peer_dead | refused | corrupt, as channel::put.
    /// Blocks:  while the other end leaves no room; inside a router body suspends that body only.
    template <sendable_type T>
    status put(const T& v) {
        return send(message::of(v));
    }
    /// For a type that cannot be sent, this overload stops the build with a line of advice.
    template <class T>
    status put(const T&) {
        return detail::not_sent<T>();
    }
    /// As put, for a complete message.
    status send(const message& m);
    /// Returns: the number of the connection, unique on this node; 0 for no connection.
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

/// All channels of one place. The inbox reads them in turn. The cost of reading depends on the
/// number of active channels, not on the number of all. The library makes the inbox, and the entry
/// of a place takes it as `places::inbox&`.
/// Thread: one.
class inbox {
  public:
    struct item {
        message content;
        reply_end from;
    };
    /// A connection has been made. The creator's channel counts as one, made at the start.
    struct opened {
        reply_end from;
    };
    /// A connection has ended, and every message that was sent on it has been read.
    struct ended {
        std::uint64_t connection_id = 0;
        status why = status::closed;     ///< closed | peer_dead | refused | corrupt
        std::optional<exit_status> how;  ///< of the process at the other end, once it is known
    };
    using event = std::variant<opened, item, ended>;

    inbox(detail::process& self, std::unique_ptr<detail::channel_state> creator,
          bool takes_connections);
    ~inbox();
    inbox(const inbox&) = delete;
    inbox& operator=(const inbox&) = delete;

    /// Receives the next message of any connection, with the end to answer it on. Connections take
    /// turns. A message over the limit of its channel is skipped, with a warning in the node's log.
    /// Returns: the pair | timeout | closed: no process can send here any more, or this place was
    ///          asked to stop (place::request_stop) and has received all that had come before |
    ///          node_down: the nursery has ended. A server that was asked to stop first waits for
    ///          callers that leave no room for their answers, at most half of the grace.
    /// Throws:  error{bad_argument} while a router runs in another thread of this process, and
    ///          while the creator's channel is in a channel_set or an async_channel.
    /// Blocks:  until one of these; inside a router body suspends that body only.
    result<item> get(channel::clock::time_point until = channel::clock::time_point::max());

    /// Receives the next event. Each connection, the creator's channel included, reports `opened`,
    /// then its messages, then `ended`. `opened` and `ended` come once each, even when nothing was
    /// sent or when the other end had gone before anything was read.
    /// get() takes only messages, and leaves `opened` and `ended` to get_event(). Connections that
    /// get() opened or dropped before the first get_event() are not reported.
    /// Returns: the event | as get(). `closed` comes after the last `ended`. When this place was
    ///          asked to stop, its connections are still open and report no `ended`.
    /// Throws, Blocks: as get().
    result<event> get_event(channel::clock::time_point until = channel::clock::time_point::max());

    /// Returns: the channel to the place that started this one. Both get() of the inbox and get()
    ///          of the channel receive its messages; each message goes to one of them. After the
    ///          first get() of the inbox, it must not be in a channel_set or an async_channel.
    channel& creator() noexcept;

  private:
    bool accept_offers();
    result<event> next(channel::clock::time_point until, bool with_events);
    std::unique_ptr<detail::inbox_state> state_;
};

}  // namespace places
