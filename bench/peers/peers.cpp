// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/peer.hpp"

#include <algorithm>
#include <sstream>
#include <vector>

namespace places::bench {
namespace {

constexpr peer built[] = {
    {"pipe", make_pipe},
    {"unix", make_unix},
    {"tcp", make_tcp},
    {"boost_mq", make_boost_mq},
#ifdef PLACES_BENCH_ZEROMQ
    {"zeromq", make_zeromq},
#endif
#ifdef PLACES_BENCH_NNG
    {"nng", make_nng},
#endif
#ifdef PLACES_BENCH_ICEORYX
    {"iceoryx", make_iceoryx, false},
#endif
#ifdef PLACES_BENCH_MPI
    {"mpi", nullptr, false, false, launch_mpi},
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
