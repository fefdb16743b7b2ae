// SPDX-License-Identifier: Apache-2.0
// Many channels, waited for together; a descriptor that any event loop can poll.
#pragma once

#include <places/core/channel.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace places {

/// Channels waited for together: what a wait costs follows from how many of them are active, not
/// from how many there are, which is what select() costs. Owns no channel; one that ends leaves it.
/// Thread: one, that of its channels.
class channel_set {
  public:
    /// Throws: std::system_error; error{bad_argument} before a runtime exists.
    channel_set();
    ~channel_set();
    channel_set(channel_set&&) noexcept;
    channel_set& operator=(channel_set&&) noexcept;

    /// `key` is what wait() answers: the caller's own, an index for instance. A channel that is in
    /// the set may be moved, and may be used as any other.
    /// Throws: error{bad_argument} for a channel without an end, and for one that is in a set, or
    ///         that an async_channel or an inbox reads. An inbox reads its creator's channel from
    ///         its first get() on.
    void add(const channel& c, std::uint64_t key);
    /// Nothing, when it is not in the set.
    void remove(const channel& c);
    std::size_t size() const noexcept;

    /// The key of a channel that has a message or is down, in turns; it is named again until the
    /// message is taken, or the channel removed.
    /// Returns: nothing when `limit` has passed.
    /// Throws:  error{bad_argument} for an empty set, or while a router, an inbox or another set
    ///          waits in this process.
    /// Blocks:  until then; inside a router body suspends that body only.
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
