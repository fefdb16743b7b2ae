// SPDX-License-Identifier: Apache-2.0
// Those that we are compared with, one file each; which of them are built, packages decide.
#pragma once

#include "bench/end.hpp"
#include "bench/report.hpp"

#include <functional>
#include <memory>
#include <span>
#include <string>

namespace places::bench {

/// A body of bench/bodies.hpp as it goes to another program.
struct packed_body {
    char kind;
    std::span<const std::byte> bytes;
};

struct peer {
    const char* name;
    /// Throws: when it cannot be used here.
    std::unique_ptr<link> (*make)(const link_options& options);
    /// Whether a process may hold ends of several links.
    bool can_chain = true;
    /// Whether it waits without taking the core when told to.
    bool can_sleep = true;
    /// Whether threads of its own do the work, which a caller that spins may keep from the core:
    /// where others spin, the fastest of several forms counts.
    bool has_threads = false;
    /// For one whose processes only its own launcher can start, instead of `make`.
    std::function<const report&()> (*launch)(const packed_body& body, int near_core) = nullptr;
};
/// Those that are built in.
std::span<const peer> peers();

struct missing_peer {
    const char* name;
    const char* why;
};
std::span<const missing_peer> missing_peers();
/// Why --peers LIST is refused, or nothing: names of none, built in or missing.
std::string unknown_peers(const std::string& list);

std::unique_ptr<link> make_pipe(const link_options& options);
std::unique_ptr<link> make_unix(const link_options& options);
std::unique_ptr<link> make_tcp(const link_options& options);
std::unique_ptr<link> make_boost_mq(const link_options& options);
std::unique_ptr<link> make_zeromq(const link_options& options);
std::unique_ptr<link> make_nng(const link_options& options);
std::unique_ptr<link> make_iceoryx(const link_options& options);
std::function<const report&()> launch_mpi(const packed_body& body, int near_core);

}  // namespace places::bench
