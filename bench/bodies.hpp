// SPDX-License-Identifier: Apache-2.0
// What the two processes of a pair do, whatever they talk through. Plain data: a body travels to a
// place as its argument, and to another program by its members.
#pragma once

#include "bench/clock.hpp"
#include "bench/report.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace places::bench {

/// How many times the near side does it unrecorded at the start of a slice: the far process has
/// been asleep or stopped.
inline constexpr int warm_up_count = 50;
/// A slice in which the other side hardly had its core is made longer, up to so many times.
inline constexpr int slices_max = 20;

/// Sends a message and waits for it to come back, one at a time; each round trip is stamped.
struct round_trips {
    static constexpr char kind = 'r';

    std::size_t size;
    tick_clock clock;
    std::int64_t slice_ns;
    std::int64_t pause_ns;  ///< before each, until the other side sleeps; 0: both stay awake
    int far_core;

    template <class End>
    void near(End& end, report& found) const {
        std::vector<std::byte> message(size, std::byte{1});
        const auto pause = clock.ticks(std::chrono::nanoseconds{pause_ns});
        const auto until = clock.ticks(std::chrono::nanoseconds{slice_ns});
        for (int i = 0; i < (pause_ns ? 3 : warm_up_count); ++i) {
            end.send(message);
            end.receive(message);
        }
        std::uint64_t count = 0;
        std::uint64_t sum = 0;
        const auto begun = clock.now();
        auto sent = begun;
        const std::uint64_t count_min = pause_ns ? 50 : 1000;
        while (sent - begun < until || count < 10 ||
               (count < count_min && sent - begun < slices_max * until)) {
            if (pause_ns) {
                for (const auto from = sent; sent - from < pause;) sent = clock.now();
            }
            sent = clock.now();
            end.send(message);
            end.receive(message);
            const auto back = clock.now();
            found.times.record(clock.ns(back - sent));
            sum += back - sent;
            ++count;
            sent = back;
        }
        const auto seconds = static_cast<double>(clock.ns(sum)) / 1e9;
        found.per_second = static_cast<double>(count) / seconds;
    }
    template <class End>
    [[noreturn]] void far(End& end) const {
        std::vector<std::byte> message(size);
        while (true) {
            end.receive(message);
            end.send(message);
        }
    }
};

/// Sends one message after the other; the last of a slice is answered. With loans the near side
/// writes every byte where it will be read, and the peer reads a word of every line; batches
/// are of sixteen.
/// The rate is the median over short windows of the sender: what is under way is far less than
/// goes through in a slice, and a window in which somebody else had the core does not count more
/// than its share of the messages.
enum class api { copy, loan, batch };

struct stream {
    static constexpr char kind = 's';

    std::size_t size;
    std::int64_t slice_ns;
    api how;
    int far_core;

    static constexpr std::uint64_t more = 1;
    static constexpr std::uint64_t last = 0;
    static constexpr std::chrono::microseconds window{200};
    static constexpr std::size_t windows_min = 40;
    static constexpr int batch_count = 16;

    template <class End>
    void near(End& end, report& found) const {
        using clock = std::chrono::steady_clock;
        std::vector<std::byte> message(size, std::byte{1});
        std::vector<std::byte> messages(batch_count * size, std::byte{1});
        for (std::size_t i = 0; i < batch_count; ++i) {
            std::memcpy(&messages[i * size], &more, sizeof more);
        }
        const auto send = [&](std::uint64_t head) {
            if (how == api::loan) {
                const auto room = end.loan(size);
                std::memset(room.data(), 1, size);
                std::memcpy(room.data(), &head, sizeof head);
                end.publish(size);
            } else {
                std::memcpy(message.data(), &head, sizeof head);
                end.send(message);
            }
        };
        const auto flush = [&] {
            send(last);
            end.receive(message);
        };
        for (int i = 0; i < warm_up_count; ++i) send(more);
        flush();
        const int batch = size < 4096 || how == api::batch ? batch_count : 1;
        std::vector<double> rates;
        auto begun = clock::now();
        auto now = begun;
        const auto until = begun + std::chrono::nanoseconds{slice_ns};
        const auto at_last = begun + slices_max * std::chrono::nanoseconds{slice_ns};
        std::uint64_t count = 0;
        do {
            if (how == api::batch) {
                end.send_batch(messages, size);
            } else {
                for (int i = 0; i < batch; ++i) send(more);
            }
            count += static_cast<std::uint64_t>(batch);
            now = clock::now();
            if (now - begun < window) continue;
            const std::chrono::duration<double> taken = now - begun;
            rates.push_back(static_cast<double>(count) / taken.count());
            begun = now;
            count = 0;
        } while (now < until || rates.empty() || (rates.size() < windows_min && now < at_last));
        flush();
        const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
        std::nth_element(rates.begin(), middle, rates.end());
        found.per_second = *middle;
    }
    template <class End>
    [[noreturn]] void far(End& end) const {
        std::vector<std::byte> message(size);
        std::vector<std::byte> messages(batch_count * size);
        while (true) {
            std::uint64_t head = more;
            if (how == api::batch) {
                for (auto left = end.receive_batch(messages, size); left > 0; --left) {
                    std::memcpy(&head, &messages[(left - 1) * size], sizeof head);
                    if (head == last) break;
                }
            } else if (how == api::loan) {
                const auto there = end.peek(size);
                head = touch(there);
                end.release();
            } else {
                end.receive(message);
                std::memcpy(&head, message.data(), sizeof head);
            }
            if (head == last) end.send(message);
        }
    }

  private:
    /// Returns: the first word.
    static std::uint64_t touch(std::span<const std::byte> bytes) noexcept {
        std::uint64_t head;
        std::memcpy(&head, bytes.data(), sizeof head);
        std::uint64_t sum = 0;
        for (std::size_t at = 0; at + sizeof head <= bytes.size(); at += 64) {
            std::uint64_t word;
            std::memcpy(&word, &bytes[at], sizeof word);
            sum += word;
        }
        asm volatile("" : : "r"(sum));
        return head;
    }
};

}  // namespace places::bench
