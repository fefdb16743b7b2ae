// SPDX-License-Identifier: Apache-2.0
// A set of channels to wait for together, with a descriptor that any event loop can poll.
#pragma once

#include <places/core/channel.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace places {

/// A set of channels to wait for together. The cost of a wait depends on the number of active
/// channels; the cost of select() depends on the number of all channels. The set owns no channel. A
/// channel that ends leaves the set.
/// Thread: one, the thread of its channels.
class channel_set {
  public:
    /// Throws: std::system_error; error{bad_argument} before a runtime exists.
    channel_set();
    ~channel_set();
    channel_set(channel_set&&) noexcept;
    channel_set& operator=(channel_set&&) noexcept;

    /// Adds `c`. wait() returns `key`, which the caller chooses, for example an index. A channel in
    /// the set may be moved and used like any other channel.
    /// Throws: error{bad_argument} for a channel without an end, for a channel in a set, and for a
    ///         channel that an async_channel or an inbox reads. An inbox reads its
    ///         creator's channel from its first get() on.
    void add(const channel& c, std::uint64_t key);
    /// Removes `c`. Does nothing if `c` is not in the set.
    void remove(const channel& c);
    std::size_t size() const noexcept;

    /// Waits until a channel has a message or is down. Such channels take turns. A key is returned
    /// again until the message is received or the channel is removed.
    /// Returns: the key of such a channel; nothing when `limit` has passed.
    /// Throws:  error{bad_argument} for an empty set, or while a router, an inbox or another set
    ///          waits in this process.
    /// Blocks:  until there is one, at most `limit`; inside a router body suspends that body only.
    std::optional<std::uint64_t> wait(
        std::chrono::nanoseconds limit = std::chrono::nanoseconds::max());
    /// As wait(), for what is there now. Blocks: never.
    std::optional<std::uint64_t> try_wait() { return wait(std::chrono::nanoseconds::zero()); }

    /// A descriptor for poll, epoll and the like, level-triggered: readable when try_wait() may
    /// have an answer. Call try_wait() until it has none, then wait for the descriptor; it may be
    /// readable for nothing. The set's own; from now on nobody else waits in this process.
    /// Throws: std::system_error; error{bad_argument} while somebody else waits.
    int native_handle();

  private:
    struct state;
    std::unique_ptr<state> state_;
};

/// As all.wait(): select() for any number of channels.
inline std::optional<std::uint64_t> select(
    channel_set& all, std::chrono::nanoseconds limit = std::chrono::nanoseconds::max()) {
    return all.wait(limit);
}

}  // namespace places
