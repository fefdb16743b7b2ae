// SPDX-License-Identifier: Apache-2.0
// places-bench QUESTION: how fast is it, beside what is possible and what others do?
#include "bench/harness.hpp"
#include "bench/peers/peer.hpp"
#include "bench/questions/questions.hpp"

#include <places/launcher/runtime.hpp>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>

namespace {

using namespace places::bench;

struct question {
    const char* name;
    void (*answer)(harness&);
    const char* text;
    bool takes_sizes = false;
    bool has_times = false;
};
constexpr question questions[] = {
    {"latency", latency, "How long does a message take there and back?", true, true},
    {"throughput", throughput, "How many messages a second go one way?", true},
    {"pipeline", pipeline, "How many go through a chain of processes on few cores?", true},
    {"token", token, "How often does a token go on in a ring of processes on few cores?"},
    {"fanin", fanin, "What do a thousand connected clients cost a server?", false, true},
    {"idle", idle, "What do blocked places cost?"},
    {"spawn", spawn_time, "How long until a new place answers, and what does a live one hold?",
     false, true},
    {"spawn_remote", spawn_remote, "How long until a node on another host is linked to?", false,
     true},
};

/// Why the question cannot be answered so, or nothing.
std::string why_not(const question& q, const settings& s) {
    if (!s.sizes.empty() && !q.takes_sizes) return "--size: its messages have one size or none";
    if (!s.hgrm.empty() && !q.has_times) return "--hgrm: it has no distribution of times";
    if (s.plot.empty() || q.has_times) return {};
    if (!q.takes_sizes) return "--plot: it has neither times nor sizes to draw";
    // throughput has several of its own.
    const bool has_many = s.sizes.empty() ? q.answer == throughput : s.sizes.size() > 1;
    return has_many ? "" : "--plot: a rate is drawn by size; give --size several";
}

}  // namespace

int main(int argc, char** argv) {
    if (const auto why = why_refused(); !why.empty()) {
        std::fprintf(stderr, "places-bench refuses to measure: %s.\nBuild the release preset.\n",
                     why.c_str());
        return 2;
    }
    places::runtime runtime{argc, argv};
    CLI::App app{"Measures places beside the limit of the machine and beside peers."};
    settings s;
    app.require_subcommand(1);
    app.fallthrough();
    app.add_option("--size", s.sizes, "Bytes of a message; several draw a curve")
        ->delimiter(',')
        ->check(CLI::Range(8, 64 << 20));
    app.add_option("--rounds", s.rounds, "Rounds in which all take turns")
        ->check(CLI::Range(1, 100000))
        ->capture_default_str();
    app.add_option("--peers", s.peers, "auto, none, or names between commas")
        ->check(unknown_peers)
        ->capture_default_str();
    app.add_option("--api", s.api, "copy: put and get; loan: in place; batch: 16 at a time")
        ->check(CLI::IsMember({"copy", "loan", "batch"}))
        ->capture_default_str();
    app.add_option("--cores", s.cores, "Cores for all processes (pipeline, token)");
    app.add_option("--count", s.count, "Stages, places or clients (all but latency, throughput)");
    app.add_option("--seconds", s.seconds, "How long to watch (idle)");
    app.add_flag("--blocking", s.blocking, "The other side is asleep each time (latency)");
    app.add_flag("--quick", s.quick, "Two tiny rounds: shows that it works, not how fast");
    app.add_flag("--json", s.json, "One object per line, the summary last");
    app.add_option("--plot", s.plot, "Draw the latencies, or the rate by size, as SVG into here");
    app.add_option("--hgrm", s.hgrm,
                   "Write HdrHistogram's text format into <this>.<who>.<size>.hgrm");
    for (const auto& q : questions) app.add_subcommand(q.name, q.text);
    CLI11_PARSE(app, argc, argv);

    try {
        s.question = app.get_subcommands().front()->get_name();
        for (const auto& q : questions) {
            if (s.question != q.name) continue;
            if (const auto why = why_not(q, s); !why.empty()) {
                std::fprintf(stderr, "places-bench: %s cannot take %s.\n", q.name, why.c_str());
                return 2;
            }
        }
        const tick_clock clock;
        harness h{s, clock, runtime};
        for (const auto& q : questions) {
            if (s.question == q.name) q.answer(h);
        }
        return h.finish();
    } catch (const std::exception& e) {
        std::fprintf(stderr, "places-bench: %s\n", e.what());
        return 1;
    }
}
