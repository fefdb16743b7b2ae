// SPDX-License-Identifier: Apache-2.0
// The least that two processes can do: what everything else is measured against.
#pragma once

#include "bench/end.hpp"

#include <places/shm/layout.hpp>
#include <places/shm/wake.hpp>

#include <boost/interprocess/anonymous_shared_memory.hpp>
#include <boost/interprocess/mapped_region.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace places::bench {

/// A word on a page of its own in memory that both processes have.
struct alignas(4096) lone_word {
    std::atomic<std::uint32_t> word;
};

/// Two words, one written by each side.
class word_pair {
  public:
    explicit word_pair(const link_options&)
        : memory_(boost::interprocess::anonymous_shared_memory(2 * sizeof(lone_word))) {}
    std::atomic<std::uint32_t>& of(side which) const noexcept {
        return static_cast<lone_word*>(memory_.get_address())[which == side::near ? 0 : 1].word;
    }

  private:
    boost::interprocess::mapped_region memory_;
};

/// Which is faster depends on the machine: to look again at once, or to pause and take the line
/// away from its writer less often.
enum class look { at_once, after_pause };

template <look Again, class Ready>
void look_until(Ready&& ready) noexcept {
    if (Again == look::after_pause) {
        while (!shm::spin_budget::poll(ready)) {
        }
    } else {
        while (!ready()) {
        }
    }
}

/// The bare cache-line round trip: a number goes over on one line and comes back on another. No
/// payload.
template <look Again>
class line_end {
  public:
    line_end(const word_pair& words, side which)
        : mine_(words.of(which)),
          theirs_(words.of(which == side::near ? side::far : side::near)) {}

    void send(std::span<const std::byte>) noexcept {
        // release: as any message needs it.
        mine_.store(++sent_, std::memory_order_release);
    }
    void receive(std::span<std::byte>) noexcept {
        ++received_;
        look_until<Again>([this] { return theirs_.load(std::memory_order_acquire) == received_; });
    }

  private:
    std::atomic<std::uint32_t>& mine_;
    const std::atomic<std::uint32_t>& theirs_;
    std::uint32_t sent_ = 0;
    std::uint32_t received_ = 0;
};

/// The bare futex hand-off: who receives sleeps at once, unless it has looked for a while before or
/// is a near side that never sleeps; whom nobody has to wake is not woken. No payload.
enum class rest { both_at_once, both_after_looks, far_only };

template <rest Who>
class futex_end {
  public:
    futex_end(const word_pair& words, side which)
        : mine_(words.of(which)),
          theirs_(words.of(which == side::near ? side::far : side::near)),
          sleeps_(Who != rest::far_only || which == side::far),
          wakes_(Who != rest::far_only || which == side::near) {}

    void send(std::span<const std::byte>) noexcept {
        mine_.store(++sent_, std::memory_order_release);
        if (wakes_) shm::wake_all(mine_);
    }
    void receive(std::span<std::byte>) noexcept {
        const auto is_there = [this] {
            return theirs_.load(std::memory_order_acquire) != received_;
        };
        if (Who == rest::both_after_looks) (void)shm::spin_budget::poll(is_there);
        while (!is_there()) {
            // The wait for one word, a little cheaper than that for several.
            if (sleeps_) {
                ::syscall(SYS_futex, &theirs_, FUTEX_WAIT, received_, nullptr, nullptr, 0);
            }
        }
        ++received_;
    }

  private:
    std::atomic<std::uint32_t>& mine_;
    const std::atomic<std::uint32_t>& theirs_;
    bool sleeps_;
    bool wakes_;
    std::uint32_t sent_ = 0;
    std::uint32_t received_ = 0;
};

/// A shared buffer of slots for two_memcpy_end, as many as fit `room`, one way each. A slot is a
/// line with its flag, and then the payload on lines of its own.
class slot_buffers {
  public:
    explicit slot_buffers(const link_options& options)
        : stride_((options.size + 2 * shm::line_bytes - 1) & ~(shm::line_bytes - 1)),
          slots_(std::max<std::size_t>(2, options.room / stride_)),
          memory_(boost::interprocess::anonymous_shared_memory(2 * slots_ * stride_)) {
        std::memset(memory_.get_address(), 0, memory_.get_size());
    }
    struct slot {
        std::atomic<std::uint64_t>& is_full;
        std::byte* payload;
    };
    slot at(side from, std::uint64_t turn) const noexcept {
        const auto index = turn % slots_ + (from == side::near ? 0 : slots_);
        auto* line = static_cast<std::byte*>(memory_.get_address()) + index * stride_;
        return {*reinterpret_cast<std::atomic<std::uint64_t>*>(line), line + shm::line_bytes};
    }

  private:
    std::size_t stride_;
    std::size_t slots_;
    boost::interprocess::mapped_region memory_;
};

/// memcpy in pieces, each well below the second-level cache.
/// Source: glibc 2.36 on AMD, which at the size of that cache changes from `rep movsb` to loads and
/// stores: between two cores a quarter as fast.
inline void copy_in_pieces(std::byte* to, const std::byte* from, std::size_t size) noexcept {
    constexpr std::size_t piece_bytes_max = 256 << 10;
    while (size > 0) {
        const auto piece = std::min(size, piece_bytes_max);
        std::memcpy(to, from, piece);
        to += piece;
        from += piece;
        size -= piece;
    }
}

/// Two memcpy through a shared buffer: one in, one out, and a flag in the slot.
template <look Again>
class two_memcpy_end : public one_by_one<two_memcpy_end<Again>> {
  public:
    two_memcpy_end(const slot_buffers& slots, side which) : slots_(slots), side_(which) {}

    void send(std::span<const std::byte> message) noexcept {
        auto room = loan(message.size());
        copy_in_pieces(room.data(), message.data(), message.size());
        publish(message.size());
    }
    void receive(std::span<std::byte> message) noexcept {
        const auto there = peek(message.size());
        copy_in_pieces(message.data(), there.data(), message.size());
        release();
    }
    std::span<std::byte> loan(std::size_t size) noexcept {
        const auto slot = slots_.at(side_, sent_);
        look_until<Again>([&] { return slot.is_full.load(std::memory_order_acquire) == 0; });
        return {slot.payload, size};
    }
    void publish(std::size_t) noexcept {
        slots_.at(side_, sent_++).is_full.store(1, std::memory_order_release);
    }
    std::span<const std::byte> peek(std::size_t size) noexcept {
        const auto other = side_ == side::near ? side::far : side::near;
        const auto slot = slots_.at(other, received_);
        look_until<Again>([&] { return slot.is_full.load(std::memory_order_acquire) == 1; });
        return {slot.payload, size};
    }
    void release() noexcept {
        const auto other = side_ == side::near ? side::far : side::near;
        slots_.at(other, received_++).is_full.store(0, std::memory_order_release);
    }

  private:
    const slot_buffers& slots_;
    side side_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
};

}  // namespace places::bench
