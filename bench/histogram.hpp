// SPDX-License-Identifier: Apache-2.0
// Counts of durations in log-linear buckets: any value to three significant digits.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace places::bench {

/// A histogram of nanoseconds. Plain data without pointers, so that a measuring process may fill
/// one in shared memory: all zeroes is the empty histogram.
/// Source: HdrHistogram, for the buckets, the way of its percentiles, and its text format.
class histogram {
  public:
    /// Larger values count as this one: a little over a minute.
    static constexpr std::uint64_t value_max = (std::uint64_t{1} << 36) - 1;

    void record(std::uint64_t value) noexcept {
        if (value > value_max) value = value_max;
        ++counts_[index_of(value)];
        ++total_;
        if (value > max_) max_ = value;
    }
    void add(const histogram& other) noexcept;
    void clear() noexcept;

    std::uint64_t total() const noexcept { return total_; }
    std::uint64_t max() const noexcept { return max_; }
    double mean() const noexcept;
    double deviation() const noexcept;
    /// The least value that `percent` of all values do not exceed, as exact as its bucket; 0 when
    /// empty.  Shape: 0..100.
    std::uint64_t at_percentile(double percent) const noexcept;

    /// A step of the distribution, at ever finer distances from the end.
    struct step {
        std::uint64_t value;  ///< the largest of its bucket
        double percentile;    ///< 0..1
        std::uint64_t count;
    };
    /// Shape: `ticks` steps until the distance to 100 % has halved; one at the last value; 100 %.
    std::vector<step> steps(int ticks = 5) const;

    /// The percentile distribution as HdrHistogram's tools print and read it, in microseconds.
    std::string to_hgrm() const;

  private:
    static constexpr int sub_bits = 11;  // 2048 > 2 * 10^3: three digits
    static constexpr std::uint64_t sub_count = std::uint64_t{1} << sub_bits;
    static constexpr int bucket_count = 36 - sub_bits + 1;

    static std::size_t index_of(std::uint64_t value) noexcept {
        const int bucket = 64 - sub_bits - __builtin_clzll(value | (sub_count - 1));
        const auto sub = value >> bucket;
        return static_cast<std::size_t>(bucket) * (sub_count / 2) + sub;
    }
    static std::uint64_t lowest_of(std::size_t index) noexcept;
    static std::uint64_t highest_of(std::size_t index) noexcept;
    static double middle_of(std::size_t index) noexcept;

    std::array<std::uint64_t, (bucket_count + 1) * sub_count / 2> counts_;
    std::uint64_t total_;
    std::uint64_t max_;
};

}  // namespace places::bench
