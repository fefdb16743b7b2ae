// SPDX-License-Identifier: Apache-2.0
// What is measured: a channel between two places, and the bare ring under it.
#pragma once

#include "bench/end.hpp"

#include <places/core/channel.hpp>
#include <places/shm/endpoint.hpp>
#include <places/shm/sealed_memory.hpp>

#include <bit>
#include <cstring>
#include <optional>

namespace places::bench {

/// The ring that takes several messages of `size`: one is at most a quarter of its ring.
inline std::size_t ring_bytes_for(std::size_t size) {
    return std::bit_ceil(std::max(ring_bytes_default, 4 * size));
}

/// The memories of a ring each way, made before the fork.
class ring_memory {
  public:
    explicit ring_memory(const link_options& options)
        : near_(shm::create_half(1, options.room)),
          far_(shm::create_half(1, options.room)) {}
    const unique_fd& of(side which) const noexcept { return which == side::near ? near_ : far_; }

  private:
    unique_fd near_;
    unique_fd far_;
};

/// An end of a ring, without a place around it.
class ring_end {
  public:
    void send_batch(std::span<const std::byte> all, std::size_t size) {
        auto& out = end_.out();
        while (!all.empty()) {
            const auto added = out.try_add(0, 0, all.first(size));
            if (added == status::ok) {
                all = all.subspan(size);
            } else if (added == status::full) {
                out.publish_batch();
            } else {
                throw link_closed("ring: cannot add");
            }
        }
        out.publish_batch();
    }
    std::size_t receive_batch(std::span<std::byte> into, std::size_t size) {
        std::size_t count = 0;
        for (auto next = end_.peek(); next.state == status::ok; next = end_.in().try_peek()) {
            std::memcpy(&into[count * size], next.record.payload.data(), size);
            end_.in().skip();
            if (++count * size == into.size()) break;
        }
        end_.in().release_skipped();
        return count;
    }

    ring_end(const ring_memory& memory, side which)
        : end_(memory.of(which).duplicate(),
               shm::reopen_read_only(memory.of(which == side::near ? side::far : side::near))) {}

    void send(std::span<const std::byte> message) {
        if (end_.put(0, 0, message) != status::ok) throw link_closed("ring: cannot put");
    }
    void receive(std::span<std::byte> message) {
        const auto there = peek(message.size());
        std::memcpy(message.data(), there.data(), std::min(message.size(), there.size()));
        release();
    }
    std::span<std::byte> loan(std::size_t size) {
        while (true) {
            const auto room = end_.out().try_loan(size);
            if (room.state == status::ok) return room.payload;
            if (room.state != status::full) throw link_closed("ring: cannot loan");
        }
    }
    void publish(std::size_t size) { end_.out().publish(0, 0, size); }
    std::span<const std::byte> peek(std::size_t) {
        const auto next = end_.peek();
        if (next.state != status::ok) throw link_closed("ring: cannot peek");
        return next.record.payload;
    }
    void release() { end_.in().release(); }

  private:
    shm::endpoint end_;
};

/// A value of N bytes, as a user's plain struct travels.
template <std::size_t N>
struct block {
    std::byte bytes[N];
};

/// What a channel end shares, whatever is put into it.
class channel_end {
  public:
    explicit channel_end(channel& c) noexcept : channel_(c) {}
    std::span<std::byte> loan(std::size_t size) {
        auto room = channel_.loan(size);
        if (!room) throw link_closed("channel: " + room.error().message());
        return *room;
    }
    void publish(std::size_t size) { channel_.publish(size); }
    std::span<const std::byte> peek(std::size_t) {
        auto there = channel_.peek();
        if (!there) throw link_closed("channel: " + there.error().message());
        return *there;
    }
    void release() { channel_.release(); }

  protected:
    channel& channel_;
};

/// put and get of a plain struct.
template <std::size_t N>
class block_end : public channel_end {
  public:
    using channel_end::channel_end;
    void send(std::span<const std::byte> message) {
        // The user's value exists already: a block is nothing but bytes.
        const auto& b = *reinterpret_cast<const block<N>*>(message.data());
        if (const auto s = channel_.put(b); s != status::ok) throw link_closed(to_string(s));
    }
    void receive(std::span<std::byte> message) {
        const auto b = channel_.get<block<N>>();
        if (!b) throw link_closed(b.error().message());
        std::memcpy(message.data(), &*b, N);
    }
    void send_batch(std::span<const std::byte> all, std::size_t) {
        const std::span blocks{reinterpret_cast<const block<N>*>(all.data()), all.size() / N};
        const auto done = channel_.put_batch(blocks);
        if (done.state != status::ok) throw link_closed(to_string(done.state));
    }
    std::size_t receive_batch(std::span<std::byte> into, std::size_t) {
        const std::span blocks{reinterpret_cast<block<N>*>(into.data()), into.size() / N};
        const auto count = channel_.get_batch(blocks);
        if (!count) throw link_closed(count.error().message());
        return *count;
    }
};

/// send and receive of a message of bytes, for sizes that are no plain struct's.
class bytes_end : public channel_end, public one_by_one<bytes_end> {
  public:
    using channel_end::channel_end;
    void send(std::span<const std::byte> content) {
        // The user's message exists already: here only its first word is new.
        if (message_.size() != content.size()) message_.assign(content.begin(), content.end());
        std::memcpy(message_.data(), content.data(), sizeof(std::uint64_t));
        message m{message_kind::bytes, 0, std::move(message_)};
        const auto s = channel_.send(m);
        message_ = std::move(m).bytes();
        if (s != status::ok) throw link_closed(to_string(s));
    }
    void receive(std::span<std::byte> content) {
        const auto m = channel_.receive();
        if (!m) throw link_closed(m.error().message());
        std::memcpy(content.data(), m->bytes().data(), sizeof(std::uint64_t));
    }

  private:
    std::vector<std::byte> message_;
};

/// Calls `f` with the end that a user would choose for messages of `size` bytes.
template <class F>
decltype(auto) with_channel_end(channel& c, std::size_t size, F&& f) {
    switch (size) {
        case 8: return f(block_end<8>{c});
        case 32: return f(block_end<32>{c});
        case 48: return f(block_end<48>{c});
        case 64: return f(block_end<64>{c});
        case 1024: return f(block_end<1024>{c});
        default: return f(bytes_end{c});
    }
}

}  // namespace places::bench
