// SPDX-License-Identifier: Apache-2.0
// Places that misuse what they are given on purpose: descriptors, requests, memory. The node goes
// on, and serves the others. A test that finds a process asleep for good fails by its watchdog.
#include "core/control.hpp"
#include "core/process.hpp"
#include "tests/support/lingering_socket.hpp"
#include "tests/support/node_main.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <unistd.h>
#include <vector>

namespace control = places::control;
using places::channel;
using places::errc;
using places::spawn;
using places::status;

namespace {

int control_socket() { return places::detail::process::current().control_handle(); }

void echo(channel& c) {
    while (auto m = c.get<int>()) {
        if (c.put(*m) != status::ok) return;
    }
}

void expect_serving() {
    auto p = spawn(echo);
    ASSERT_EQ(p.put(5), status::ok);
    EXPECT_EQ(p.get<int>().value(), 5);
    p.kill();
}

/// Fills whatever takes bytes of what this place was given, and has it block from then on.
void fill_and_make_blocking(channel& to_creator) {
    ::signal(SIGPIPE, SIG_IGN);
    std::vector<int> all;
    for (const auto& each : std::filesystem::directory_iterator{"/proc/self/fd"}) {
        all.push_back(std::stoi(each.path().filename()));
    }
    for (const int fd : all) {
        if (fd <= STDERR_FILENO || fd == control_socket()) continue;
        ::fcntl(fd, F_SETFL, O_NONBLOCK);
        const std::uint64_t id = 1;
        for (int n = 0; n < 100'000 && ::write(fd, &id, sizeof id) > 0; ++n) {
        }
        ::fcntl(fd, F_SETFL, 0);
    }
    (void)to_creator.put(1);
    never_ends();
}

/// Sends the nursery the only reference to a socket whose close() waits for an hour: with noise, or
/// with a request; alone, or as one of more descriptors than a packet has.
void send_lingering_socket(channel& to_creator, bool is_noise, int count) {
    lingering_socket blocks;
    const auto request = places::detail::encode_datum(control::packet{0, control::withdraw{1}});
    std::string bytes(100, '\xff');
    if (!is_noise) bytes.assign(reinterpret_cast<const char*>(request.data()), request.size());
    std::vector<int> fds(static_cast<std::size_t>(count), STDOUT_FILENO);
    fds.back() = blocks.sender.get();
    (void)to_creator.put(blocks.peer.get());
    (void)send_with_fds(control_socket(), bytes, fds);
    blocks.sender.reset();
    never_ends();
}

/// Asks for a channel to the bridge, and sends a descriptor along. Returns: how it was answered.
void send_descriptor_to_bridge(channel& to_creator) {
    lingering_socket blocks;
    try {
        (void)places::detail::process::current().request(
            control::open_bridge{{}, places::ring_bytes_default}, {blocks.sender.get()});
        (void)to_creator.put(std::string("granted"));
    } catch (const places::error& e) {
        (void)to_creator.put(e.code().message() + ": " + e.what());
    }
}

}  // namespace

TEST(hostile, place_that_fills_the_doorbell_of_its_creator_stops_nobody) {
    auto p = spawn(fill_and_make_blocking);
    ASSERT_EQ(p.get<int>().value(), 1);
    // The nursery rings the root for the memory of each new place.
    expect_serving();
    p.kill();
}

TEST(hostile, descriptor_that_blocks_in_close_does_not_stop_the_nursery) {
    for (const bool is_noise : {false, true}) {
        for (const int count : {1, 100}) {
            SCOPED_TRACE(count);
            auto p = spawn(send_lingering_socket, is_noise, count);
            ASSERT_TRUE(p.get<int>());
            // The place stays alive, as otherwise the connection would end, unless the nursery has
            // ended it for what it has sent.
            expect_serving();
            p.kill();
        }
    }
}

TEST(hostile, descriptors_reach_the_bridge_from_no_process_but_the_root) {
    auto p = spawn(send_descriptor_to_bridge);
    EXPECT_NE(p.get<std::string>().value().find("from the root of the node alone"),
              std::string::npos);
    expect_serving();
}

TEST(hostile, place_that_is_the_first_to_use_the_bridge_cannot_end_it) {
    auto p = spawn([](channel& to_creator) {
        auto& self = places::detail::process::current();
        const auto answer = self.request(control::open_bridge{{}, places::ring_bytes_default});
        const auto bridge = std::get<control::granted>(answer.packet.body).peer_id;
        std::int64_t refused = 0;
        for (const control::body& what :
             {control::body{control::kill{bridge}}, control::body{control::request_stop{bridge}}}) {
            try {
                (void)self.request(what);
            } catch (const places::error& e) {
                if (e.code() == errc::bad_argument) ++refused;
            }
        }
        (void)to_creator.put(refused);
    });
    EXPECT_EQ(p.get<std::int64_t>().value(), 2);
    EXPECT_EQ(p.wait(), places::exit_status{});
}
