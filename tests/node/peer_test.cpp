// SPDX-License-Identifier: Apache-2.0
// The bridge as its peers see it: whoever holds the key may speak frames, also wrong ones. Here the
// test's own node listens, and the peer is made by hand.
#include "tests/node/peer.hpp"
#include "tests/node/heard.hpp"
#include "tests/support/halt.hpp"
#include "tests/support/node_main.hpp"
#include "tests/support/sanitized.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <random>
#include <sched.h>

namespace places::net {
namespace {

int seven(channel& to_creator) {
    (void)to_creator.get();
    return 7;
}
const auto seven_entry = register_entry<seven>("seven");

/// Prints until nobody takes it for a while, and says how much that was.
void printer(inbox& in) {
    auto asked = in.get();
    while (asked && asked->content.kind() != message_kind::datum) asked = in.get();
    if (!asked) return;
    (void)::fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);
    const std::string line = std::string(1000, '.') + "\n";
    std::int64_t printed = 0;
    pollfd room{STDOUT_FILENO, POLLOUT, 0};
    while (printed < 256 * 1024 * 1024 && ::poll(&room, 1, 500) == 1) {
        const auto written = ::write(STDOUT_FILENO, line.data(), line.size());
        if (written > 0) printed += written;
    }
    (void)asked->from.put(printed);
    while (in.get()) {
    }
}
const auto printer_entry = register_entry<printer>("printer");

TEST_F(bridge_test, a_peer_with_the_key_starts_a_place_and_talks_to_it) {
    expect_alive();
    EXPECT_TRUE(places_end());
}

TEST_F(bridge_test, a_peer_without_the_key_gets_a_reject_and_one_line_in_the_log) {
    peer p{port_, make_node_key()};
    EXPECT_FALSE(p.is_welcome);
    EXPECT_TRUE(p.is_closed_by_bridge());
    EXPECT_NE(heard("[bridge] refused a connection from 127.0.0.1:").find("key"),
              std::string::npos);
    expect_alive();
}

TEST_F(bridge_test, a_place_that_ends_says_how_before_its_channel_closes) {
    auto p = dial();
    ASSERT_TRUE(p.send(open_frame{1, ring, start_entry{"seven", ""}}));
    ASSERT_TRUE(p.next<opened_frame>());
    ASSERT_TRUE(p.send(credit_frame{1, 0, ring}));
    ASSERT_TRUE(p.send(data_frame{1, 0, record("go")}));
    const auto died = p.next<place_died_frame>();
    ASSERT_TRUE(died);
    EXPECT_EQ(died->channel, 1U);
    EXPECT_EQ(died->reason, death_reason::exited);
    EXPECT_EQ(died->status, 7);
    const auto closed = p.next<close_frame>();
    ASSERT_TRUE(closed);
    EXPECT_EQ(closed->position, 0U);
}

TEST_F(bridge_test, an_exit_is_passed_to_the_root) {
    auto p = dial();
    ASSERT_TRUE(p.send(exit_frame{3}));
    auto event = control_.get<bridge_event>();
    ASSERT_TRUE(event && std::holds_alternative<links_changed>(*event));
    event = control_.get<bridge_event>();
    ASSERT_TRUE(event && std::holds_alternative<exit_asked>(*event));
    EXPECT_EQ(std::get<exit_asked>(*event).status, 3);
}

TEST_F(bridge_test, a_node_hears_that_it_is_to_end_though_its_handle_goes_at_once) {
    auto dialed = be_dialed(make_node_key(), "told");
    halt(pid_);
    EXPECT_EQ(dialed.events.put(bridge_request{end_node{3}}), status::ok);
    dialed.events = {};
    ::kill(pid_, SIGCONT);
    const auto told = dialed.node.next<exit_frame>();
    ASSERT_TRUE(told);
    EXPECT_EQ(told->status, 3);
    EXPECT_TRUE(dialed.node.is_closed_by_bridge());
    expect_alive();
}

TEST_F(bridge_test, a_node_that_does_not_hang_up_when_it_is_to_end_is_hung_up_on) {
    auto dialed = be_dialed(make_node_key(), "silent");
    auto c = ask_bridge(connect_command{dialed.link, "there"});
    const auto open = dialed.node.next<open_frame>();
    ASSERT_TRUE(open);
    ASSERT_TRUE(dialed.node.send(opened_frame{open->channel, ring, 1}));
    (void)detail::await_opened(c);
    EXPECT_EQ(dialed.events.put(bridge_request{end_node{3}}), status::ok);
    dialed.events = {};
    EXPECT_EQ(c.get().error(), errc::peer_dead);
}

TEST_F(bridge_test, the_root_hears_how_many_links_stand) {
    const auto count = [&] {
        const auto event = control_.get<bridge_event>();
        const auto* links = event ? std::get_if<links_changed>(&*event) : nullptr;
        return links ? static_cast<int>(links->count) : -1;
    };
    {
        auto first = dial();
        EXPECT_EQ(count(), 1);
        {
            auto second = dial();
            EXPECT_EQ(count(), 2);
        }
        EXPECT_EQ(count(), 1);
    }
    EXPECT_EQ(count(), 0);
}

TEST_F(bridge_test, breaking_the_protocol_costs_the_link_and_nothing_else) {
    const auto one = record("x");
    using breach = std::function<void(peer&)>;
    const std::vector<std::pair<const char*, breach>> breaches{
        {"an even channel",
         [](peer& p) {
             p.send(open_frame{2, ring, start_entry{"echo", ""}});
         }},
        {"channel 0",
         [](peer& p) {
             p.send(open_frame{0, ring, start_entry{"echo", ""}});
         }},
        {"a channel twice",
         [](peer& p) {
             p.send(open_frame{1, ring, start_entry{"echo", ""}});
         }},
        {"twice at once",
         [](peer& p) {
             p.send(open_frame{5, ring, start_entry{"echo", ""}});
             p.send(open_frame{5, ring, start_entry{"echo", ""}});
         }},
        {"a lower number",
         [](peer& p) {
             p.send(open_frame{9, ring, start_entry{"echo", ""}});
             p.send(open_frame{7, ring, start_entry{"echo", ""}});
         }},
        {"a gap",
         [&](peer& p) {
             p.send(data_frame{1, 64, one});
         }},
        {"again",
         [&](peer& p) {
             p.send(data_frame{1, 0, one});
             p.send(data_frame{1, 0, one});
         }},
        {"a position at the end of numbers",
         [&](peer& p) {
             p.send(data_frame{1, ~std::uint64_t{63}, one});
         }},
        {"a length beyond the frame",
         [](peer& p) {
             p.send(data_frame{1, 0, record("x", 10'000)});
         }},
        {"a length beyond all",
         [](peer& p) {
             p.send(data_frame{1, 0, record("x", ~0U)});
         }},
        {"half a record",
         [&](peer& p) {
             p.send(data_frame{1, 0, std::span{one}.first(32)});
         }},
        {"a record over the ring's limit",
         [](peer& p) {
             p.send(data_frame{1, 0, record(std::string(ring / 4 + 1, 'x'))});
         }},
        {"credit for what was not sent",
         [](peer& p) {
             p.send(credit_frame{1, 64, 2 * ring});
         }},
        {"a falling limit",
         [](peer& p) {
             p.send(credit_frame{1, 0, ring - 64});
         }},
        {"a limit below what is placed",
         [](peer& p) {
             p.send(credit_frame{1, ~0ULL, 0});
         }},
        {"a limit beyond all rings",
         [](peer& p) {
             p.send(credit_frame{1, 0, ~0ULL});
         }},
        {"a close below what is placed",
         [&](peer& p) {
             p.send(data_frame{1, 0, one});
             p.send(close_frame{1, 0, errc::closed});
         }},
        {"two closes",
         [](peer& p) {
             p.send(close_frame{1, 128, errc::closed});
             p.send(close_frame{1, 192, errc::closed});
         }},
        {"data behind the close",
         [&](peer& p) {
             p.send(close_frame{1, 32, errc::closed});
             p.send(data_frame{1, 0, one});
         }},
        {"credit that has dropped more than was placed",
         [&](peer& p) {
             p.send(credit_frame{1, 0, ring, 64});
         }},
        {"credit inside a record",
         [](peer& p) {
             p.send(data_frame{1, 0, record(std::string(100, 'x'))});
             EXPECT_TRUE(p.next<data_frame>());
             p.send(credit_frame{1, 64, 2 * ring});
         }},
        {"a refusal behind an honest record",
         [&](peer& p) {
             auto both = one;
             const auto refused = record_of(message_kind::refused);
             both.insert(both.end(), refused.begin(), refused.end());
             p.send(data_frame{1, 0, both});
         }},
        {"a start, as a record",
         [](peer& p) {
             p.send(data_frame{1, 0, record_of(message_kind::opened)});
         }},
        {"a refusal, as a record",
         [](peer& p) {
             p.send(data_frame{1, 0, record_of(message_kind::refused)});
         }},
        {"a record of a kind that is still to come",
         [](peer& p) {
             p.send(data_frame{1, 0, record("x", 0, 0xFFFF)});
         }},
        {"our own answers",
         [](peer& p) {
             p.send(opened_frame{1, ring, 1});
         }},
        {"an answer to nothing",
         [](peer& p) {
             p.send(opened_frame{77, ring, 1});
         }},
        {"a refusal of what is open",
         [](peer& p) {
             p.send(refused_frame{1, errc::closed, "no"});
         }},
        {"a log",
         [](peer& p) {
             p.send(log_frame{"x", 6, 0, "text"});
         }},
        {"output",
         [](peer& p) {
             p.send(output_frame{"x", 1, "text"});
         }},
        {"a second handshake",
         [](peer& p) {
             p.send(challenge_frame{1, 1, make_nonce()});
         }},
        {"no frame", [](peer& p) { p.send_bytes(octets(64, std::byte{0x41})); }},
        {"a length of nothing", [](peer& p) { p.send_bytes(octets(4)); }},
    };
    for (const auto& [what, act] : breaches) {
        SCOPED_TRACE(what);
        auto p = dial_and_open();
        act(p);
        EXPECT_TRUE(p.is_closed_by_bridge());
        expect_alive();
    }
    EXPECT_TRUE(places_end());
}

TEST_F(bridge_test, data_beyond_the_ring_costs_the_link) {
    // Nobody reads: the place waits for credit to send the first record back.
    auto p = dial_and_open(0);
    const auto quarter = record(std::string(ring / 4 - 100, 'x'));
    std::uint64_t at = 0;
    while (at <= 4 * ring && p.send(data_frame{1, at, quarter})) at += quarter.size();
    EXPECT_TRUE(p.is_closed_by_bridge());
    expect_alive();
}

TEST_F(bridge_test, frames_of_channels_that_are_not_there_are_no_news) {
    auto p = dial_and_open();
    EXPECT_TRUE(p.send(data_frame{99, 0, record("x")}));
    EXPECT_TRUE(p.send(credit_frame{99, 0, ring}));
    EXPECT_TRUE(p.send(close_frame{99, 0, errc::closed}));
    EXPECT_TRUE(p.send(place_died_frame{1, 99, death_reason::exited, 0}));
    EXPECT_TRUE(p.send(refused_frame{99, errc::closed, "no"}));
    EXPECT_TRUE(p.send(pong_frame{99}));
    EXPECT_TRUE(p.send(ping_frame{5}));
    const auto pong = p.next<pong_frame>();
    ASSERT_TRUE(pong);
    EXPECT_EQ(pong->sequence, 5U);
    // A close said twice, and before the data it waits for.
    EXPECT_TRUE(p.send(close_frame{1, 64, errc::closed}));
    EXPECT_TRUE(p.send(close_frame{1, 64, errc::closed}));
    EXPECT_TRUE(p.send(ping_frame{6}));
    ASSERT_TRUE(p.next<pong_frame>());
    EXPECT_EQ(places_here(), places_before_ + 1);
    EXPECT_TRUE(p.send(data_frame{1, 0, record("last")}));
    EXPECT_TRUE(p.next<close_frame>());
    EXPECT_TRUE(places_end());
}

TEST_F(bridge_test, opening_is_bounded_and_refusals_cost_nothing) {
    auto p = dial();
    ASSERT_TRUE(p.send(open_frame{1, ring, start_entry{"echo", "hub"}}));
    ASSERT_TRUE(p.next<opened_frame>());
    const auto refusal_of = [&](const open_frame& f) {
        EXPECT_TRUE(p.send(f));
        const auto refused = p.next<refused_frame>();
        return refused ? refused->code : errc{};
    };
    EXPECT_EQ(refusal_of({3, ring, start_entry{"no such entry", ""}}), errc::entry_not_found);
    EXPECT_EQ(refusal_of({5, ring, connect_name{"nobody"}}), errc::name_not_found);
    EXPECT_EQ(refusal_of({7, ring, start_entry{"echo", "hub"}}), errc::name_taken);
    EXPECT_EQ(refusal_of({9, remote_ring_bytes_max + 1, connect_name{"hub"}}), errc::bad_argument);
    EXPECT_NE(refusal_of({11, 5000, connect_name{"hub"}}), errc{});
    EXPECT_NE(refusal_of({13, 0, connect_name{"hub"}}), errc{});
    std::uint64_t channel = 15;
    for (std::size_t i = 1; i < channels_max; ++i, channel += 2) {
        ASSERT_TRUE(p.send(open_frame{channel, 4096, connect_name{"hub"}}));
    }
    for (std::size_t i = 1; i < channels_max; ++i) ASSERT_TRUE(p.next<opened_frame>());
    EXPECT_EQ(refusal_of({channel, 4096, connect_name{"hub"}}), errc::full);
    // A place that is freed is free.
    ASSERT_TRUE(p.send(close_frame{channel - 2, 0, errc::closed}));
    ASSERT_TRUE(p.next<close_frame>());
    ASSERT_TRUE(p.send(open_frame{channel + 2, 4096, connect_name{"hub"}}));
    EXPECT_TRUE(p.next<opened_frame>());
}

TEST_F(bridge_test, places_asked_for_by_a_peer_that_has_gone_end) {
    // Under a sanitizer 200 places that begin at once keep a bridge from its handshake for seconds.
    for (int round = 0; round < (is_sanitized ? 3 : 10); ++round) {
        auto p = dial();
        for (std::uint64_t channel = 1; channel < 40; channel += 2) {
            ASSERT_TRUE(p.send(open_frame{channel, 4096, start_entry{"echo", ""}}));
        }
    }
    expect_alive();
    EXPECT_TRUE(places_end());
}

TEST_F(bridge_test, places_asked_for_by_a_peer_that_has_gone_are_killed_when_they_do_not_end) {
    {
        auto p = dial();
        for (std::uint64_t channel = 1; channel < 20; channel += 2) {
            ASSERT_TRUE(p.send(open_frame{channel, 4096, start_entry{"ignore-the-end", ""}}));
        }
        ASSERT_TRUE(p.next<opened_frame>());
    }
    expect_alive();
    EXPECT_TRUE(places_end());
}

TEST_F(bridge_test, places_started_for_a_peer_end_with_a_killed_bridge) {
    auto p = dial();
    ASSERT_TRUE(p.send(open_frame{1, ring, start_entry{"ignore-the-end", ""}}));
    ASSERT_TRUE(p.next<opened_frame>());
    ASSERT_TRUE(p.send(open_frame{3, ring, start_entry{"ignore-all-ends", "stays"}}));
    ASSERT_TRUE(p.next<opened_frame>());
    ::kill(pid_, SIGKILL);
    EXPECT_TRUE(p.is_closed_by_bridge());
    // Of the two places and the bridge, the named place stays.
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (places_here() >= places_before_ + 1 && std::chrono::steady_clock::now() < until)
        ::sched_yield();
    EXPECT_EQ(places_here(), places_before_);
}

TEST_F(bridge_test, a_peer_that_asks_and_never_reads_is_hung_up_on) {
    auto p = dial();
    octets many;
    for (int i = 0; i < 1000; ++i) {
        const auto one = encode(ping_frame{1});
        many.insert(many.end(), one.begin(), one.end());
    }
    std::size_t sent = 0;
    while (sent < 512 * 1024 * 1024 && p.send_bytes(many)) sent += many.size();
    EXPECT_LT(sent, 512U * 1024 * 1024);
    std::printf("hung up on after %zu MiB of pings\n", sent >> 20);
    expect_alive();
}

std::size_t resident_bytes(pid_t pid) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/statm");
    std::size_t size = 0;
    std::size_t resident = 0;
    in >> size >> resident;
    return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

TEST_F(bridge_test, output_that_nobody_takes_waits_in_its_pipe_and_not_in_the_bridge) {
    auto p = dial();
    ASSERT_TRUE(p.send(open_frame{1, ring, start_entry{"printer", "printer"}}));
    ASSERT_TRUE(p.next<opened_frame>());
    auto local = connect_to_named_place("printer");
    const auto before = resident_bytes(pid_);
    ASSERT_EQ(local.put(std::string("print")), status::ok);
    const auto printed = local.get<std::int64_t>().value();
    const auto grown = resident_bytes(pid_) - std::min(before, resident_bytes(pid_));
    std::printf("%lld KiB printed before it waited; the bridge has grown by %zu KiB\n",
                static_cast<long long>(printed >> 10), grown >> 10);
    EXPECT_LT(printed, 64 * 1024 * 1024);  // most of it lies in the kernel's socket buffers
    EXPECT_LT(grown, 16U * 1024 * 1024);
    // Nothing of it is lost.
    std::int64_t taken = 0;
    while (taken < printed) {
        const auto line = p.next<output_frame>();
        ASSERT_TRUE(line);
        taken += static_cast<std::int64_t>(line->line.size()) + 1;
    }
}

// What it does not prove: that a frame it did not make does no harm.
TEST_F(bridge_test, random_frames_and_bytes_never_end_it) {
    const auto seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    std::mt19937_64 random{seed};
    const auto pick = [&](std::initializer_list<std::uint64_t> of) {
        return *(of.begin() + random() % of.size());
    };
    const auto position = [&] {
        return pick({0, 0, 64, 128, 32, 1024, ring, 2 * ring, ~0ULL, ~63ULL, 1ULL << 63, random()});
    };
    const std::array<std::string, 6> names{"echo",      "fuzzed", "nobody", std::string(4096, 'n'),
                                           "new\nline", ""};
    const auto name = [&] { return names[random() % names.size()]; };
    const auto code = [&] { return static_cast<errc>(random() % 24); };
    std::uint64_t last_channel = 1;
    const auto make = [&]() -> frame {
        const auto channel = pick({1, 1, 1, 3, 5, 2, 0, ~0ULL, last_channel});
        switch (random() % 14) {
            case 0: return open_frame{last_channel += 2, 4096, connect_name{"fuzzed"}};
            case 1: return open_frame{last_channel += 2, position(), start_entry{name(), name()}};
            case 2: return open_frame{channel, ring, start_module{name(), name(), name()}};
            case 3: return opened_frame{channel, position(), random()};
            case 4: return refused_frame{channel, code(), name()};
            case 5:
            case 6: {
                static octets noise;
                noise = record(std::string(random() % 3000, 'x'));
                if (random() % 4 == 0) noise[8 + random() % 4] = static_cast<std::byte>(random());
                return data_frame{channel, position(), noise};
            }
            case 7:
            case 8:
                return credit_frame{channel, position(), position(), pick({0, 0, 64, position()})};
            case 9: return close_frame{channel, position(), code()};
            case 10:
                return place_died_frame{random(), channel, static_cast<death_reason>(random() % 3),
                                        static_cast<std::int32_t>(random()), name()};
            case 11: return log_frame{name(), static_cast<std::uint8_t>(random()), 0, name()};
            case 12: return ping_frame{random()};
            default: return output_frame{name(), 1, name()};
        }
    };
    auto keeper = dial();
    ASSERT_TRUE(keeper.send(open_frame{1, ring, start_entry{"echo", "fuzzed"}}));
    ASSERT_TRUE(keeper.next<opened_frame>());
    for (int link = 0; link < 150; ++link) {
        auto p = dial_and_open();
        last_channel = 1;
        for (int i = 0; i < 30; ++i) {
            auto bytes = encode(make());
            if (random() % 8 == 0) bytes[random() % bytes.size()] ^= std::byte{1} << random() % 8;
            if (random() % 64 == 0) bytes.resize(random() % bytes.size());
            if (!p.send_bytes(bytes)) break;
        }
        p.shut_writing();
        EXPECT_TRUE(p.is_closed_by_bridge());
    }
    expect_alive();
}

}  // namespace
}  // namespace places::net
