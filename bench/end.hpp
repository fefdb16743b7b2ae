// SPDX-License-Identifier: Apache-2.0
// One end of a two-way link, as the questions use it, and the link it belongs to.
//
// The bodies of the questions are templates over an end. The ends that are compared to a few
// nanoseconds are final classes of the same shape (bench/subjects.hpp); the peers, which take a
// system call or more, are called through this interface.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace places::bench {

/// The other side has gone; what ends the far body of a place.
struct link_closed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// What all contestants of one contest are given alike.
struct link_options {
    std::size_t size = 64;       ///< of every message, in bytes
    std::size_t room = 1 << 16;  ///< bytes on their way in one direction, where this can be chosen
    bool spins = true;           ///< wait by trying again; else sleep in the kernel
};

enum class side { near, far };

/// The batches of those that have none.
template <class End>
struct one_by_one {
    void send_batch(std::span<const std::byte> all, std::size_t size) {
        auto& self = static_cast<End&>(*this);
        for (; !all.empty(); all = all.subspan(size)) self.send(all.first(size));
    }
    std::size_t receive_batch(std::span<std::byte> into, std::size_t size) {
        static_cast<End&>(*this).receive(into.first(size));
        return 1;
    }
};

/// Every message has the same size, that of link_options.
/// Thread: one.
class end : public one_by_one<end> {
  public:
    end() = default;
    end(const end&) = delete;
    end& operator=(const end&) = delete;
    virtual ~end() = default;

    /// Copies `message` on its way, or out of it into `message`.
    /// Blocks: until there is room, or a message.  Throws: when the other side is gone.
    virtual void send(std::span<const std::byte> message) = 0;
    virtual void receive(std::span<std::byte> message) = 0;

    /// The same without a copy, for those that can; the others go through a buffer of their own.
    virtual std::span<std::byte> loan(std::size_t size) {
        buffer_.resize(size);
        return buffer_;
    }
    virtual void publish(std::size_t) { send(buffer_); }
    virtual std::span<const std::byte> peek(std::size_t size) {
        buffer_.resize(size);
        receive(buffer_);
        return buffer_;
    }
    virtual void release() {}

  private:
    std::vector<std::byte> buffer_;
};

/// Made before the two processes are forked; each then opens its side. The peer opens first.
class link {
  public:
    link() = default;
    link(const link&) = delete;
    link& operator=(const link&) = delete;
    virtual ~link() = default;
    /// Throws: when it cannot.
    virtual std::unique_ptr<end> open(side which) = 0;
};

}  // namespace places::bench
