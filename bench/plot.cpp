// SPDX-License-Identifier: Apache-2.0
#include "bench/plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace places::bench {
namespace {

constexpr double width = 900;
constexpr double height = 520;
constexpr double left = 80;
constexpr double right = 160;
constexpr double top = 40;
constexpr double bottom = 60;

std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '<') {
            out += "&lt;";
        } else if (c == '&') {
            out += "&amp;";
        } else {
            out += c;
        }
    }
    return out;
}

/// A logarithmic axis from `low` to `high`, in pixels from `at_low` to `at_high`.
struct log_axis {
    double low;
    double high;
    double at_low;
    double at_high;
    double operator()(double v) const {
        const auto part = std::log(v / low) / std::log(high / low);
        return at_low + part * (at_high - at_low);
    }
};

struct mark {
    double at;
    std::string label;
};

std::string drawn(const std::string& title, const std::vector<plot_line>& lines,
                  const std::string& x_name, const std::string& y_name, const log_axis& x,
                  const log_axis& y, const std::vector<mark>& x_marks,
                  const std::vector<mark>& y_marks) {
    static constexpr const char* colours[] = {"#d62728", "#1f77b4", "#2ca02c", "#9467bd",
                                              "#ff7f0e", "#8c564b", "#e377c2", "#7f7f7f",
                                              "#bcbd22", "#17becf", "#000000"};
    std::string svg;
    const auto out = std::back_inserter(svg);
    fmt::format_to(out,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" "
                   "font-family=\"sans-serif\" font-size=\"12\">\n"
                   "<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n"
                   "<text x=\"{2}\" y=\"24\" font-size=\"15\">{3}</text>\n",
                   width, height, left, escaped(title));
    for (const auto& m : x_marks) {
        fmt::format_to(out,
                       "<path d=\"M{0:.1f} {1}V{2}\" stroke=\"#ddd\"/>"
                       "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>\n",
                       x(m.at), top, height - bottom, height - bottom + 18, m.label);
    }
    for (const auto& m : y_marks) {
        fmt::format_to(out,
                       "<path d=\"M{1} {0:.1f}H{2}\" stroke=\"#ddd\"/>"
                       "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5}</text>\n",
                       y(m.at), left, width - right, left - 6, y(m.at) + 4, m.label);
    }
    fmt::format_to(out,
                   "<text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"middle\">{}</text>\n"
                   "<text transform=\"translate(18 {:.0f}) rotate(-90)\" "
                   "text-anchor=\"middle\">{}</text>\n",
                   (left + width - right) / 2, height - 16, x_name, (top + height - bottom) / 2,
                   y_name);
    const auto label_step = std::min(16.0, (height - top) / static_cast<double>(lines.size() + 1));
    std::size_t turn = 0;
    for (const auto& line : lines) {
        const auto* colour = colours[turn % std::size(colours)];
        fmt::format_to(out, "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"",
                       colour);
        for (const auto& [px, py] : line.points) {
            fmt::format_to(out, "{:.1f},{:.1f} ", x(px), y(py));
        }
        const auto label_at = top + label_step * static_cast<double>(turn + 1);
        fmt::format_to(out, "\"/>\n<text x=\"{}\" y=\"{}\" fill=\"{}\">{}</text>\n",
                       width - right + 10, label_at, colour, escaped(line.name));
        ++turn;
    }
    svg += "</svg>\n";
    return svg;
}

struct span_of_values {
    double low = 1;
    double high = 10;
};

/// Whole powers of `base` around all the values that `value_of` takes from the points.
template <class ValueOf>
span_of_values around(const std::vector<plot_line>& lines, double base, ValueOf value_of) {
    double low = INFINITY;
    double high = 0;
    for (const auto& line : lines) {
        for (const auto& p : line.points) {
            low = std::min(low, value_of(p));
            high = std::max(high, value_of(p));
        }
    }
    if (high <= 0) return {};
    const auto power = [&](double v, auto rounded) {
        return std::pow(base, rounded(std::log(v) / std::log(base)));
    };
    span_of_values found{power(low, [](double v) { return std::floor(v); }),
                         power(high, [](double v) { return std::ceil(v); })};
    if (found.high <= found.low) found.high = found.low * base;
    return found;
}

std::vector<mark> powers(span_of_values s, double base, std::string (*label)(double)) {
    std::vector<mark> marks;
    for (double at = s.low; at <= s.high * 1.0001; at *= base) marks.push_back({at, label(at)});
    return marks;
}

double x_of(const std::pair<double, double>& p) { return p.first; }
double y_of(const std::pair<double, double>& p) { return p.second; }

std::string plain(double v) { return fmt::format("{:g}", v); }

std::string bytes_label(double v) {
    if (v >= 1 << 30) return fmt::format("{:g} GiB", v / (1 << 30));
    if (v >= 1 << 20) return fmt::format("{:g} MiB", v / (1 << 20));
    if (v >= 1 << 10) return fmt::format("{:g} KiB", v / (1 << 10));
    return fmt::format("{:g} B", v);
}

std::string percentile_label(double inverse) {
    return inverse <= 1 ? "0" : fmt::format("{:.10g}%", 100 - 100 / inverse);
}

}  // namespace

std::string latency_svg(const std::string& title, const std::vector<plot_line>& lines) {
    const auto xs = around(lines, 10, x_of);
    const auto ys = around(lines, 10, y_of);
    return drawn(title, lines, "percentile", "microseconds", {xs.low, xs.high, left, width - right},
                 {ys.low, ys.high, height - bottom, top}, powers(xs, 10, percentile_label),
                 powers(ys, 10, plain));
}

std::string rate_svg(const std::string& title, const std::vector<plot_line>& lines) {
    const auto xs = around(lines, 4, x_of);
    const auto ys = around(lines, 4, y_of);
    return drawn(title, lines, "message size", "bytes per second",
                 {xs.low, xs.high, left, width - right}, {ys.low, ys.high, height - bottom, top},
                 powers(xs, 4, bytes_label), powers(ys, 4, bytes_label));
}

}  // namespace places::bench
