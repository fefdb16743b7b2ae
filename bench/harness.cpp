// SPDX-License-Identifier: Apache-2.0
#include "bench/harness.hpp"

#include "bench/build_info.hpp"
#include "bench/plot.hpp"

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sched.h>
#include <sstream>
#include <sys/utsname.h>
#include <system_error>
#include <unistd.h>

namespace places::bench {
namespace {

std::string cpu_name() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
        if (!line.starts_with("model name")) continue;
        const auto at = line.find(": ");
        if (at != std::string::npos) return line.substr(at + 2);
    }
    return "unknown";
}

std::string kernel_name() {
    utsname u{};
    if (::uname(&u) != 0) return "unknown";
    return std::string(u.sysname) + " " + u.release + " " + u.machine;
}

std::vector<int> usable_cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::vector<int> cores;
    if (::sched_getaffinity(0, sizeof set, &set) != 0) return cores;
    for (unsigned i = 0; i < CPU_SETSIZE; ++i) {
        if (CPU_ISSET(i, &set)) cores.push_back(static_cast<int>(i));
    }
    return cores;
}

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const auto half = values.size() / 2;
    return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// Median of the distances from the median.
double spread(const std::vector<double>& values) {
    const auto middle = median(values);
    std::vector<double> distances;
    for (const auto v : values) distances.push_back(std::abs(v - middle));
    return median(distances);
}

std::string micros(double ns) { return fmt::format("{:.3f}", ns / 1000); }

void write_file(const std::string& path, const std::string& content) {
    std::ofstream file(path);
    if (!(file << content << std::flush)) {
        throw std::system_error(errno, std::generic_category(), path);
    }
}

/// The first members of a line, and then `members`.
boost::json::object beginning_with(boost::json::object line, const boost::json::object& members) {
    line.insert(members.begin(), members.end());
    return line;
}

void print_line(const boost::json::object& line) {
    fmt::print("{}\n", boost::json::serialize(line));
}

}  // namespace

double rounded(fmt::format_string<double&> format, double value) {
    return std::strtod(fmt::format(format, value).c_str(), nullptr);
}

contestant faster_of(contestant one, contestant other) {
    auto both = one;
    both.run = [first = std::move(one.run), second = std::move(other.run)]() -> const report& {
        const auto& a = first();
        const auto& b = second();
        const bool is_first = a.times.total() != 0
                                  ? a.times.at_percentile(50) <= b.times.at_percentile(50)
                                  : a.per_second >= b.per_second;
        return is_first ? a : b;
    };
    return both;
}

harness::harness(settings s, const tick_clock& clock, runtime& root)
    : settings_(std::move(s)),
      clock_(clock),
      root_(root),
      cores_(usable_cores()),
      is_terminal_(::isatty(STDERR_FILENO) != 0) {
    if (settings_.quick) settings_.rounds = std::min(settings_.rounds, 2);
    print_machine();
}

std::chrono::nanoseconds harness::slice() const noexcept {
    using namespace std::chrono_literals;
    if (settings_.quick) return 2ms;
    return settings_.blocking ? 80ms : 25ms;
}

std::vector<std::size_t> harness::sizes_or(std::vector<std::size_t> usual) const {
    return settings_.sizes.empty() ? std::move(usual) : settings_.sizes;
}

bool harness::wants_peer(const std::string& name) const {
    if (settings_.peers == "auto") return true;
    std::istringstream names(settings_.peers);
    for (std::string each; std::getline(names, each, ',');) {
        if (each == name) return true;
    }
    return false;
}

void harness::print_machine() const {
    const auto cpu = cpu_name();
    const auto kernel = kernel_name();
    if (settings_.json) {
        print_line({{"machine",
                     {{"cpu", cpu},
                      {"cores", cores_.size()},
                      {"kernel", kernel},
                      {"compiler", PLACES_BENCH_COMPILER},
                      {"flags", PLACES_BENCH_FLAGS},
                      {"commit", PLACES_BENCH_COMMIT},
                      {"clock", clock_.name()}}}});
    } else {
        fmt::print(
            "# cpu       {}, {} cores\n# kernel    {}\n# compiler  {}\n# flags     {}\n"
            "# commit    {}\n# clock     {}\n",
            cpu, cores_.size(), kernel, PLACES_BENCH_COMPILER, PLACES_BENCH_FLAGS,
            PLACES_BENCH_COMMIT, clock_.name());
        if (cores_.size() < 2) fmt::print("# one core: nothing is pinned, and who spins waits\n");
    }
    std::fflush(stdout);
}

void harness::miss(const std::string& name, const std::string& why) {
    if (!wants_peer(name) || !missing_.emplace(name, why).second) return;
    if (settings_.json) {
        print_line({{"question", settings_.question}, {"peer", name}, {"missing", why}});
    } else {
        fmt::print("# without {}: {}\n", name, why);
    }
    std::fflush(stdout);
}

void harness::try_add(contest& to, const std::string& name,
                      const std::function<contestant()>& make) {
    try {
        to.entries.push_back(make());
        to.entries.back().is_peer = true;
    } catch (const std::exception& e) {
        miss(name, e.what());
    }
}

void harness::progress(int round, int rounds, const std::string& name) const {
    if (!is_terminal_) return;
    if (rounds == 0) {
        fmt::print(stderr, "\r\033[K");
    } else {
        constexpr int cells = 30;
        const auto full = static_cast<std::size_t>(cells * round / rounds);
        fmt::print(stderr, "\r\033[K[{:<30}] {}/{} {}", std::string(full, '#'), round, rounds,
                   name);
    }
    std::fflush(stderr);
}

void harness::measure(contest c) {
    std::vector<result> results(c.entries.size());
    for (std::size_t i = 0; i < c.entries.size(); ++i) {
        auto& e = c.entries[i];
        results[i].name = e.name;
        results[i].is_subject = e.is_subject;
        results[i].size = e.size ? e.size : c.size;
    }
    // Returns whether the entry is still with us.
    const auto slice_of = [&](std::size_t i, bool recorded) {
        auto& e = c.entries[i];
        if (!e.run) return;
        try {
            const auto& r = e.run();
            if (!recorded) return;
            auto& into = results[i];
            into.rounds.push_back({static_cast<double>(r.times.at_percentile(50)),
                                   static_cast<double>(r.times.at_percentile(99)), r.per_second});
            into.times.add(r.times);
        } catch (const std::exception& failed) {
            if (!e.is_peer) throw std::runtime_error(e.name + " fails: " + failed.what());
            miss(e.name, failed.what());
            results[i].rounds.clear();
            e.run = nullptr;
        }
    };
    for (std::size_t i = 0; i < c.entries.size(); ++i) {
        progress(0, settings_.rounds, "warm-up " + c.entries[i].name);
        slice_of(i, false);
    }
    for (int round = 0; round < settings_.rounds; ++round) {
        for (std::size_t turn = 0; turn < c.entries.size(); ++turn) {
            const auto i = (turn + static_cast<std::size_t>(round)) % c.entries.size();
            progress(round, settings_.rounds, c.entries[i].name);
            slice_of(i, true);
        }
    }
    progress(0, 0, {});
    std::erase_if(results, [](const result& r) { return r.rounds.empty(); });
    print_results(c, results);
    compare(c, results);
    last_compared_ = c.compared;
    for (const auto& r : results) {
        std::vector<double> rates;
        for (const auto& s : r.rounds) rates.push_back(s.per_second * static_cast<double>(r.size));
        curves_.push_back({r.name, r.size, median(rates), r.times.steps(),
                           settings_.hgrm.empty() ? std::string{} : r.times.to_hgrm()});
    }
}

void harness::print_results(const contest& c, const std::vector<result>& results) const {
    if (!settings_.json) {
        const bool timed = c.compared == figure::time;
        fmt::print("\n{}{}  ({} rounds, {}{})\n{:<14}", settings_.question,
                   c.size ? fmt::format(" {} B", c.size) : "", settings_.rounds, settings_.api,
                   timed ? "; times in us" : "", "");
        // Wide enough for most; what is wider has a space before it.
        if (timed) fmt::print(" {:>9} {:>9} {:>9} {:>9}", "p50", "p99", "p99.9", "max");
        fmt::print(" {:>13} {:>9} {:>8}\n", "messages/s", "MB/s", "MAD");
    }
    for (const auto& r : results) {
        std::vector<double> rates;
        std::vector<double> figures;
        for (const auto& s : r.rounds) {
            rates.push_back(s.per_second);
            figures.push_back(c.compared == figure::time ? s.p50 : s.per_second);
        }
        const auto rate = median(rates);
        const auto at = [&](double p) { return static_cast<double>(r.times.at_percentile(p)); };
        const auto relative = median(figures) > 0 ? spread(figures) / median(figures) : 0;
        if (settings_.json) {
            boost::json::object line{{"question", settings_.question},
                                     {"size", r.size},
                                     {"contestant", r.name},
                                     {"api", settings_.api}};
            if (r.times.total() != 0) {
                line["p50_ns"] = r.times.at_percentile(50);
                line["p99_ns"] = r.times.at_percentile(99);
                line["p999_ns"] = r.times.at_percentile(99.9);
                line["max_ns"] = r.times.max();
            }
            line["per_second"] = rounded("{:.1f}", rate);
            line["bytes_per_second"] = std::llround(rate * static_cast<double>(r.size));
            line["median"] = rounded("{:.1f}", median(figures));
            line["mad"] = rounded("{:.1f}", spread(figures));
            line["rounds"] = r.rounds.size();
            print_line(line);
        } else {
            fmt::print("{:<14}", r.name);
            if (c.compared == figure::time) {
                fmt::print(" {:>9} {:>9} {:>9} {:>9}", micros(at(50)), micros(at(99)),
                           micros(at(99.9)), micros(static_cast<double>(r.times.max())));
            }
            fmt::print(
                " {:>13.0f} {:>9} {:>7.1f}%\n", rate,
                r.size ? fmt::format("{:.1f}", rate * static_cast<double>(r.size) / 1e6) : "-",
                relative * 100);
        }
    }
    std::fflush(stdout);
}

void harness::compare(const contest& c, const std::vector<result>& results) {
    for (const auto& ours : results) {
        if (!ours.is_subject) continue;
        for (const auto& theirs : results) {
            if (theirs.is_subject) continue;
            std::vector<double> ratios;
            std::vector<double> tails;
            const auto weigh = [](const result& r) {
                return r.size ? static_cast<double>(r.size) : 1.0;
            };
            for (std::size_t i = 0; i < std::min(ours.rounds.size(), theirs.rounds.size()); ++i) {
                const auto& a = ours.rounds[i];
                const auto& b = theirs.rounds[i];
                if (c.compared == figure::time) {
                    ratios.push_back(a.p50 / b.p50);
                    tails.push_back(a.p99 / b.p99);
                } else {
                    ratios.push_back(a.per_second * weigh(ours) / (b.per_second * weigh(theirs)));
                }
            }
            if (tails.empty()) {
                summarise(ours.name, theirs.name, c.size, std::move(ratios));
                continue;
            }
            const auto by_round = median(tails);
            const auto of_all = static_cast<double>(ours.times.at_percentile(99)) /
                                static_cast<double>(theirs.times.at_percentile(99));
            summarise(ours.name, theirs.name, c.size, std::move(ratios),
                      {{"ratio_p99", rounded("{:.3f}", by_round)},
                       {"ratio_p99_all", rounded("{:.3f}", of_all)}});
            summary_text_.back() +=
                fmt::format("  p99 {:.3f}, of all rounds {:.3f}", by_round, of_all);
        }
    }
}

void harness::print(const boost::json::object& members, const std::string& text) {
    if (settings_.json) {
        print_line(beginning_with({{"question", settings_.question}}, members));
    } else {
        fmt::print("{}\n", text);
    }
    std::fflush(stdout);
}

void harness::summarise(const std::string& subject, const std::string& versus, std::size_t size,
                        std::vector<double> ratios, const boost::json::object& more_members,
                        std::size_t rounds) {
    if (ratios.empty()) return;
    const auto middle = median(ratios);
    const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
    auto line = beginning_with({{"question", settings_.question},
                                {"size", size},
                                {"subject", subject},
                                {"versus", versus},
                                {"ratio", rounded("{:.4g}", middle)},
                                {"ratio_min", rounded("{:.4g}", *low)},
                                {"ratio_max", rounded("{:.4g}", *high)},
                                {"rounds", rounds ? rounds : ratios.size()}},
                               more_members);
    line["api"] = settings_.api;
    summary_json_.push_back(std::move(line));
    summary_text_.push_back(fmt::format("{:<22} {:>8} {:>9.3f}  [{:.3f} .. {:.3f}]",
                                        subject + " / " + versus, size, middle, *low, *high));
}

int harness::finish() {
    if (settings_.json) {
        for (const auto& line : summary_json_) print_line(line);
    } else if (!summary_text_.empty()) {
        fmt::print("\n{:<22} {:>8} {:>9}  over the rounds\n", "ours / theirs", "size", "ratio");
        for (const auto& line : summary_text_) fmt::print("{}\n", line);
    }
    std::fflush(stdout);
    if (!settings_.hgrm.empty()) {
        // One file each: the format holds one distribution.
        for (const auto& c : curves_) {
            if (c.steps.empty()) continue;
            write_file(fmt::format("{}.{}.{}.hgrm", settings_.hgrm, c.name, c.size), c.hgrm);
        }
    }
    if (!settings_.plot.empty()) {
        std::vector<plot_line> lines;
        const bool by_size = last_compared_ == figure::rate;
        for (const auto& c : curves_) {
            if (by_size) {
                if (c.size == 0 || c.bytes_per_second <= 0) continue;
                auto found = std::find_if(lines.begin(), lines.end(),
                                          [&](const plot_line& l) { return l.name == c.name; });
                if (found == lines.end()) found = lines.insert(found, {c.name, {}});
                found->points.emplace_back(static_cast<double>(c.size), c.bytes_per_second);
                continue;
            }
            plot_line line{fmt::format("{} {} B", c.name, c.size), {}};
            for (const auto& s : c.steps) {
                if (s.percentile >= 1 || s.value == 0) continue;
                line.points.emplace_back(1 / (1 - s.percentile),
                                         static_cast<double>(s.value) / 1000);
            }
            if (!line.points.empty()) lines.push_back(std::move(line));
        }
        // Only at one size: no curve, such as places_1024.
        if (by_size) std::erase_if(lines, [](const plot_line& l) { return l.points.size() < 2; });
        const auto title = settings_.question + ", " + settings_.api;
        write_file(settings_.plot, by_size ? rate_svg(title, lines) : latency_svg(title, lines));
    }
    return 0;
}

}  // namespace places::bench
