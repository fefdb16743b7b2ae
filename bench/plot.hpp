// SPDX-License-Identifier: Apache-2.0
// Drawings of an answer, as SVG.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace places::bench {

struct plot_line {
    std::string name;
    std::vector<std::pair<double, double>> points;  ///< x ascending, as they stand on the axes
};

/// Latency over percentile: x is 1 / (1 - percentile) on a logarithmic axis that is labelled with
/// percentiles, y is microseconds on a logarithmic one.
/// Source: the axis, from HdrHistogram's plotter.
std::string latency_svg(const std::string& title, const std::vector<plot_line>& lines);

/// Bytes per second over message size, both logarithmic.
std::string rate_svg(const std::string& title, const std::vector<plot_line>& lines);

}  // namespace places::bench
