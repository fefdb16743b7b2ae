// SPDX-License-Identifier: Apache-2.0 - How long until a new place answers, and what does it hold?
//
// The limit is a bare fork, exit and wait of this process.
#include "bench/questions/questions.hpp"

#include <places/core/place.hpp>
#include <places/shm/unique_fd.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <sys/wait.h>
#include <unistd.h>

namespace places::bench {
namespace {

void answer_once(channel& to_creator) {
    const auto word = to_creator.get<std::uint64_t>();
    if (word) (void)to_creator.put(*word);
}

void answer_until_closed(channel& to_creator) {
    while (auto word = to_creator.get<std::uint64_t>()) {
        if (to_creator.put(*word) != status::ok) return;
    }
}

void ask(place& p) {
    if (p.put(std::uint64_t{1}) != status::ok || !p.get<std::uint64_t>()) {
        throw link_closed("a new place does not answer");
    }
}

/// Runs `once`, which returns the ticks it took, for one slice.
template <class Once>
contestant timed(const harness& h, const char* name, bool is_subject, Once once) {
    auto found = std::make_shared<report>();
    const auto clock = h.clock();
    const auto until = clock.ticks(h.slice());
    return {name, is_subject, [=]() -> const report& {
                *found = {};
                std::uint64_t sum = 0;
                std::uint64_t count = 0;
                for (const auto begun = clock.now(); clock.now() - begun < until || count < 10;) {
                    const auto ticks = once(clock);
                    found->times.record(clock.ns(ticks));
                    sum += ticks;
                    ++count;
                }
                found->per_second =
                    static_cast<double>(count) * 1e9 / static_cast<double>(clock.ns(sum));
                return *found;
            }};
}

/// Proportional set size of a process.  Throws: when the kernel does not tell.
double pss_kib(int pid) {
    std::ifstream rollup("/proc/" + std::to_string(pid) + "/smaps_rollup");
    for (std::string word; rollup >> word;) {
        double kib;
        if (word == "Pss:" && rollup >> kib) return kib;
    }
    throw std::runtime_error("no Pss in smaps_rollup");
}

void weigh_live_places(harness& h) {
    const auto count = static_cast<std::size_t>(h.asked().count   ? h.asked().count
                                                : h.asked().quick ? 8
                                                                  : 1000);
    std::vector<place> places;
    for (std::size_t i = 0; i < count; ++i) {
        places.push_back(spawn(&answer_until_closed));
        ask(places.back());
        h.progress(static_cast<int>(i + 1), static_cast<int>(count), "live places");
    }
    h.progress(0, 0, {});
    std::vector<double> sizes;
    for (const auto& p : places) sizes.push_back(pss_kib(p.pid()));
    const auto largest = std::max_element(sizes.begin(), sizes.end()) - sizes.begin() + 1;
    std::sort(sizes.begin(), sizes.end());
    // All at once: a place's end is waited for by its handle.
    for (auto& p : places) p.close();
    h.print(
        {{"subject", "places"},
         {"live", count},
         {"pss_kib_median", std::llround(sizes[count / 2])},
         {"pss_kib_max", std::llround(sizes.back())},
         {"largest", largest}},
        fmt::format("\n{} live places: {:.0f} KiB of proportional set size each, {:.0f} at most "
                    "(the {}. place)",
                    count, sizes[count / 2], sizes.back(), largest));
    constexpr double allowed_kib = 400;
    for (auto& kib : sizes) kib /= allowed_kib;
    // Weighed once; the ratios are those of the places.
    h.summarise("places", "allowed_memory", 0, std::move(sizes), {{"live", count}}, 1);
}

}  // namespace

void spawn_time(harness& h) {
    contest c{0, figure::time, {}};
    c.entries.push_back(timed(h, "limit", false, [](const tick_clock& clock) {
        const auto begun = clock.now();
        const auto pid = ::fork();
        if (pid == 0) ::_exit(0);
        checked(pid, "fork");
        ::waitpid(static_cast<pid_t>(pid), nullptr, 0);
        return clock.now() - begun;
    }));
    c.entries.push_back(timed(h, "places", true, [](const tick_clock& clock) {
        const auto begun = clock.now();
        auto p = spawn(&answer_once);
        ask(p);
        const auto taken = clock.now() - begun;
        (void)p.wait();
        return taken;
    }));
    h.measure(std::move(c));
    weigh_live_places(h);
}

}  // namespace places::bench
