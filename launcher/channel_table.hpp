// SPDX-License-Identifier: Apache-2.0
// Who was given the ends of which channel. Not installed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace places::launcher {

/// Knows the two places of every channel and which of them still hold their end. Touches no memory
/// of a channel and tells nobody.
/// Invariant: a channel is forgotten with its last end. Until then, the place that holds one is to
///            hear of the other's death, even of a place that has closed its own end long ago.
class channel_table {
  public:
    struct ends {
        std::array<std::uint64_t, 2> places{};
        std::array<bool, 2> held{true, true};
        std::size_t ring_bytes = 0;
    };
    struct row {
        std::uint64_t channel = 0;
        ends of;
    };

    std::uint64_t next_id() noexcept { return next_id_++; }
    /// `a` and `b` may be one place.
    void enter(std::uint64_t channel, std::uint64_t a, std::uint64_t b, std::size_t ring_bytes);
    /// Those with a number above `after`, by number, at most `count_max`.
    std::vector<row> above(std::uint64_t after, std::size_t count_max) const;
    /// `place` holds its end no longer; of two ends, one of them.
    /// Returns: who holds the other one, if `place` did hold an end and somebody does.
    std::optional<std::uint64_t> let_go(std::uint64_t channel, std::uint64_t place);
    /// `place` has ended, and all its ends with it.
    /// Returns: who holds an end of a channel with it.
    std::set<std::uint64_t> forget(std::uint64_t place);

  private:
    // No hash tables: when one grows it writes to all its nodes, and a place that is forked between
    // the growing of two holds the only copy of all those pages.
    std::map<std::uint64_t, ends> channels_;
    // Both ways, so that a death costs what the dead place's channels cost.
    std::map<std::uint64_t, std::set<std::uint64_t>> channels_of_;
    std::uint64_t next_id_ = 1;
};

}  // namespace places::launcher
