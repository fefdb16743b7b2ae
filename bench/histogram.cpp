// SPDX-License-Identifier: Apache-2.0
#include "bench/histogram.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace places::bench {

void histogram::add(const histogram& other) noexcept {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    total_ += other.total_;
    max_ = std::max(max_, other.max_);
}

void histogram::clear() noexcept {
    counts_.fill(0);
    total_ = 0;
    max_ = 0;
}

std::uint64_t histogram::lowest_of(std::size_t index) noexcept {
    if (index < sub_count) return index;
    const auto bucket = index / (sub_count / 2) - 1;
    return (index - bucket * (sub_count / 2)) << bucket;
}

std::uint64_t histogram::highest_of(std::size_t index) noexcept { return lowest_of(index + 1) - 1; }

double histogram::middle_of(std::size_t index) noexcept {
    const auto low = lowest_of(index);
    return static_cast<double>(low + (lowest_of(index + 1) - low) / 2);
}

double histogram::mean() const noexcept {
    if (total_ == 0) return 0;
    double sum = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
        if (counts_[i] == 0) continue;
        sum += middle_of(i) * static_cast<double>(counts_[i]);
    }
    return sum / static_cast<double>(total_);
}

double histogram::deviation() const noexcept {
    if (total_ == 0) return 0;
    const auto around = mean();
    double sum = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
        if (counts_[i] == 0) continue;
        const auto off = middle_of(i) - around;
        sum += off * off * static_cast<double>(counts_[i]);
    }
    return std::sqrt(sum / static_cast<double>(total_));
}

std::uint64_t histogram::at_percentile(double percent) const noexcept {
    // A hair below, for 99.9 % of 2000 is 1998 and not the next one.
    const auto wanted = std::ceil(std::nextafter(percent, 0) / 100 * static_cast<double>(total_));
    const auto rank = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(wanted));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
        seen += counts_[i];
        if (seen >= rank) return std::min(highest_of(i), max_);
    }
    return max_;
}

std::vector<histogram::step> histogram::steps(int ticks) const {
    std::vector<step> found;
    double next = 0;  // percent
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size() && seen < total_; ++i) {
        if (counts_[i] == 0) continue;
        seen += counts_[i];
        const auto reached = 100 * static_cast<double>(seen) / static_cast<double>(total_);
        while (next <= reached) {
            found.push_back({highest_of(i), next / 100, seen});
            if (seen == total_) break;
            const auto halvings = std::floor(std::log2(100 / (100 - next))) + 1;
            next += 100 / (ticks * std::exp2(halvings));
        }
    }
    if (total_ != 0) found.push_back({highest_of(index_of(max_)), 1, total_});
    return found;
}

std::string histogram::to_hgrm() const {
    constexpr double scale = 1000;
    std::string text;
    const auto out = std::back_inserter(text);
    fmt::format_to(out, "{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount",
                   "1/(1-Percentile)");
    for (const auto& s : steps()) {
        fmt::format_to(out, "{:12.3f} {:2.12f} {:10d}", static_cast<double>(s.value) / scale,
                       s.percentile, s.count);
        if (s.percentile < 1) fmt::format_to(out, " {:14.2f}", 1 / (1 - s.percentile));
        text += '\n';
    }
    fmt::format_to(out, "#[Mean    = {:12.3f}, StdDeviation   = {:12.3f}]\n", mean() / scale,
                   deviation() / scale);
    fmt::format_to(out, "#[Max     = {:12.3f}, Total count    = {:12d}]\n",
                   static_cast<double>(highest_of(index_of(max_))) / scale, total_);
    fmt::format_to(out, "#[Buckets = {:12d}, SubBuckets     = {:12d}]\n", bucket_count, sub_count);
    return text;
}

}  // namespace places::bench
