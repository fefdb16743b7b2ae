// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/peer.hpp"

#include <algorithm>
#include <sstream>
#include <vector>

namespace places::bench {
namespace {

constexpr peer built[] = {
    {.name = "pipe", .make = make_pipe},
    {.name = "unix", .make = make_unix},
    {.name = "tcp", .make = make_tcp},
    {.name = "boost_mq", .make = make_boost_mq},
#ifdef PLACES_BENCH_ZEROMQ
    {.name = "zeromq", .make = make_zeromq, .has_threads = true},
#endif
#ifdef PLACES_BENCH_NNG
    {.name = "nng", .make = make_nng, .has_threads = true},
#endif
#ifdef PLACES_BENCH_ICEORYX
    {.name = "iceoryx", .make = make_iceoryx, .can_chain = false},
#endif
#ifdef PLACES_BENCH_MPI
    {.name = "mpi", .make = nullptr, .can_chain = false, .can_sleep = false, .launch = launch_mpi},
#endif
};

constexpr missing_peer absent[] = {
#ifndef PLACES_BENCH_ZEROMQ
    {"zeromq", "not built: libzmq3-dev was not there"},
#endif
#ifndef PLACES_BENCH_NNG
    {"nng", "not built: libnng-dev was not there"},
#endif
#ifndef PLACES_BENCH_ICEORYX
    {"iceoryx", "not built: libiceoryx-posh-dev and iceoryx were not there"},
#endif
#ifndef PLACES_BENCH_MPI
    {"mpi", "not built: libopenmpi-dev was not there"},
#endif
    {"", ""},
};

}  // namespace

std::span<const peer> peers() { return built; }
std::span<const missing_peer> missing_peers() {
    return std::span{absent}.first(std::size(absent) - 1);
}

std::string unknown_peers(const std::string& list) {
    if (list == "auto" || list == "none") return {};
    std::vector<std::string> known;
    for (const auto& p : peers()) known.emplace_back(p.name);
    for (const auto& m : missing_peers()) known.emplace_back(m.name);
    std::istringstream names(list);
    std::string unknown;
    std::size_t count = 0;
    for (std::string each; std::getline(names, each, ','); ++count) {
        if (std::find(known.begin(), known.end(), each) == known.end())
            unknown += " '" + each + "'";
    }
    if (count > 0 && unknown.empty()) return {};
    std::string why = "no peer is called" + (count > 0 ? unknown : " ''") + "; there are";
    for (const auto& name : known) why += " " + name;
    return why;
}

}  // namespace places::bench
