// SPDX-License-Identifier: Apache-2.0
// Who was given the ends of which channel. Not installed.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace places::launcher {

/// Knows the two places of every channel, which of them still hold their end, and how much memory
/// they take. Touches no memory of a channel and sends nothing.
/// Invariant: a channel is forgotten with its last end. Until then, the place that holds one is to
///            hear of the other's death, even of a place that has closed its own end long ago.
class channel_table {
  public:
    struct ends {
        std::array<std::uint64_t, 2> places{};  ///< 0: started or connected to; 1: has asked for it
        std::array<bool, 2> held{true, true};
        std::array<bool, 2> shared{false, false};  ///< its memory has been made and passed on
        std::size_t ring_bytes = 0;
        std::uint64_t request = 0;                 ///< the asker's, by which it was asked for
        std::uint8_t payer = 1;                    ///< the end whose place it is charged to
        std::array<bool, 2> promised{true, true};  ///< its memory counts in bytes_to_come()
    };
    using end_number = std::uint8_t;  ///< 0 or 1, as in `places`
    using clock = std::chrono::steady_clock;

    /// So long may a place keep an end after the asker has closed the other: it may be busy.
    static constexpr std::chrono::seconds keep_time{10};
    /// For so long, memory that is to be made counts as taken: a place may never make it.
    static constexpr std::chrono::seconds promise_time{10};
    struct row {
        std::uint64_t channel = 0;
        ends of;
    };

    std::uint64_t next_id() noexcept { return next_id_++; }
    /// Both may be one place.
    void enter(std::uint64_t channel, std::uint64_t asked, std::uint64_t asker,
               std::size_t ring_bytes, std::uint64_t request, clock::time_point now = clock::now());
    /// The channel that `asker` was granted for that request, and holds.
    std::optional<std::uint64_t> find_asked(std::uint64_t asker, std::uint64_t request) const;
    /// Returns: null unless `place` holds that end of it.
    const ends* find_held(std::uint64_t channel, std::uint64_t place, end_number end) const;
    /// The memory that this end writes is there.  Shape: an end that find_held has found.
    void set_shared(std::uint64_t channel, end_number end);
    /// Those with a number above `after`, by number, at most `count_max`.
    std::vector<row> above(std::uint64_t after, std::size_t count_max) const;
    /// `place` holds that end no longer.
    /// Returns: the place that holds the other end, if `place` did hold this one and any does.
    std::optional<std::uint64_t> let_go(std::uint64_t channel, std::uint64_t place, end_number end,
                                        clock::time_point now = clock::now());
    /// `place` has ended, and all its ends with it.
    /// Returns: the places that hold an end of a channel with it.
    std::set<std::uint64_t> forget(std::uint64_t place, clock::time_point now = clock::now());

    /// Memory that a channel takes, both ends together.
    static std::uint64_t bytes_of(std::size_t ring_bytes) noexcept;
    /// Of all channels that `place` has asked for, and of those of which it has held the last end
    /// for keep_time or longer. The latter are not charged to their asker any more.
    std::uint64_t bytes_charged_to(std::uint64_t place, clock::time_point now = clock::now());
    /// Of all ends whose memory is still to be made, and of channels no older than promise_time.
    std::uint64_t bytes_to_come(clock::time_point now = clock::now());

  private:
    void charge_keepers(clock::time_point now);
    void settle(ends& of, end_number end) noexcept;
    void charge(std::uint64_t place, std::uint64_t bytes);
    void discharge(std::uint64_t place, std::uint64_t bytes);

    // No hash tables: when one grows it writes to all its nodes, and a place that is forked between
    // the growing of two holds the only copy of all those pages.
    std::map<std::uint64_t, ends> channels_;
    // Both ways, so that a death costs what the dead place's channels cost.
    std::map<std::uint64_t, std::set<std::uint64_t>> channels_of_;
    // By asker and request: the last channel that was asked for so.
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> asked_;
    std::map<std::uint64_t, std::uint64_t> charged_;  // bytes, by place
    struct noted {
        std::uint64_t channel = 0;
        clock::time_point since;
    };
    std::deque<noted> kept_;      // whose asker has let go first; the oldest first
    std::deque<noted> promises_;  // the oldest first
    std::uint64_t bytes_to_come_ = 0;
    std::uint64_t next_id_ = 1;
};

}  // namespace places::launcher
