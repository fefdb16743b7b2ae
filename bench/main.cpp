// SPDX-License-Identifier: Apache-2.0
// places-bench QUESTION: how fast is it, beside what is possible and what others do?
#include "bench/harness.hpp"
#include "bench/peers/peer.hpp"
#include "bench/questions/questions.hpp"
#include "bench/refusal.hpp"

#include <places/launcher/runtime.hpp>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>

namespace {

using namespace places::bench;

/// What a question makes something of, besides --quick and --json.
enum use : unsigned {
    sizes = 1 << 0,
    times = 1 << 1,  // it has a distribution of them
    api = 1 << 2,
    peers_too = 1 << 3,
    blocking = 1 << 4,
    cores = 1 << 5,
    count = 1 << 6,
    seconds = 1 << 7,
    rounds = 1 << 8,
};

struct question {
    const char* name;
    void (*answer)(harness&);
    const char* text;
    unsigned uses;
};
constexpr question questions[] = {
    {"latency", latency, "How long does a message take there and back?",
     sizes | times | peers_too | blocking | rounds},
    {"throughput", throughput, "How many messages a second go one way?",
     sizes | api | peers_too | blocking | rounds},
    {"pipeline", pipeline, "How many go through a chain of processes on few cores?",
     sizes | peers_too | cores | count | rounds},
    {"token", token, "How often does a token go on in a ring of processes on few cores?",
     peers_too | cores | count | rounds},
    {"fanin", fanin, "What do a thousand connected clients cost a server?", times | count | rounds},
    {"idle", idle, "What do blocked places cost?", count | seconds},
    {"spawn", spawn_time, "How long until a new place answers, and what does a live one hold?",
     times | count | rounds},
    {"spawn_remote", spawn_remote, "How long until a node on another host is linked to?",
     times | rounds},
};

/// Why the question cannot be answered so, or nothing.
std::string why_not(const question& q, const settings& s, bool rounds_given) {
    const auto lacks = [&](unsigned what) { return (q.uses & what) == 0; };
    if (!s.sizes.empty() && lacks(sizes)) return "--size: its messages have one size or none";
    if (s.api != "copy" && lacks(api)) return "--api: it puts and gets";
    if (s.peers != "auto" && s.peers != "none" && lacks(peers_too)) {
        return "--peers: it compares with nobody else";
    }
    if (s.blocking && lacks(blocking)) return "--blocking: who sleeps in it is no choice";
    if (s.cores != 0 && lacks(cores)) return "--cores: its processes have a core each, or any";
    if (s.count != 0 && lacks(count)) return "--count: it takes two";
    if (s.count == 1 && !lacks(cores)) return "--count 1: a chain has two ends";
    if (rounds_given && lacks(rounds)) return "--rounds: it watches once, for --seconds";
    if (s.seconds != 0 && lacks(seconds)) return "--seconds: it watches nothing for a time";
    if (!s.hgrm.empty() && lacks(times)) return "--hgrm: it has no distribution of times";
    if (s.plot.empty() || !lacks(times)) return {};
    if (lacks(sizes)) return "--plot: it has neither times nor sizes to draw";
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
    const auto* rounds_option =
        app.add_option("--rounds", s.rounds, "Rounds in which all take turns")
            ->check(CLI::Range(1, 100000))
            ->capture_default_str();
    app.add_option("--peers", s.peers, "auto, none, or names between commas")
        ->check(unknown_peers)
        ->capture_default_str();
    app.add_option("--api", s.api, "copy: put and get; loan: in place; batch: 16 at a time")
        ->check(CLI::IsMember({"copy", "loan", "batch"}))
        ->capture_default_str();
    app.add_option("--cores", s.cores, "Cores for all processes (pipeline, token)")
        ->check(CLI::Range(1, 1024));
    // A node holds 4,095 places, its bridge included.
    app.add_option("--count", s.count,
                   "Stages, places or clients (pipeline, token, fanin, idle, spawn)")
        ->check(CLI::Range(1, 4000));
    app.add_option("--seconds", s.seconds, "How long to watch (idle)")->check(CLI::Range(1, 86400));
    app.add_flag("--blocking", s.blocking,
                 "The other side is asleep each time (latency); peers sleep (throughput)");
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
            if (const auto why = why_not(q, s, rounds_option->count() > 0); !why.empty()) {
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
