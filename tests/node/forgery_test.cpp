// SPDX-License-Identifier: Apache-2.0
// What no place and no node can make a bridge believe, pass on or give away, and what each attempt
// costs: a place its channel, a node its link. Here the other node is made by hand, on either side.
#include "core/channel_state.hpp"
#include "tests/node/heard.hpp"
#include "tests/node/peer.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/halt.hpp"
#include "tests/support/node_main.hpp"

#include <places/launcher/remote_node.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <utility>
#include <vector>

namespace places::net {
namespace {

/// Puts, on command, a record of the kind it is told between two of its own.
void forge(channel& to_creator) {
    const auto what = to_creator.get<std::int64_t>().value();
    (void)to_creator.put(std::string("before"));
    (void)to_creator.send(message{static_cast<message_kind>(what), 0, bytes(40)});
    (void)to_creator.put(std::string("after"));
    (void)to_creator.get();
}
const auto forge_entry = register_entry<forge>("forge");

/// Sends `count` records of many lengths, all of them octet 0xFF.
void send_many(channel& to_creator) {
    const auto count = to_creator.get<std::int64_t>().value();
    for (std::int64_t i = 0; i < count; ++i) {
        const auto size = static_cast<std::size_t>(1 + i * 37 % 2000);
        if (to_creator.put(bytes(size, std::byte{0xFF})) != status::ok) return;
    }
    (void)to_creator.get();
}
const auto send_many_entry = register_entry<send_many>("send-many");

/// Changes what a record is, again and again, after it has put it.
void flip(channel& to_creator) {
    auto& out = detail::state_of::get(to_creator)->end().out();
    const auto room = out.try_loan(8);
    auto* header =
        reinterpret_cast<shm::record_header*>(room.payload.data() - sizeof(shm::record_header));
    out.publish(0, 0, 8);
    while (to_creator.try_get<std::int64_t>().error() == errc::empty) {
        for (int i = 0; i < 1000; ++i) {
            header->kind.store(shm::packed);
            header->kind.store(0);
        }
    }
}
const auto flip_entry = register_entry<flip>("flip");

/// Says that it has read what no record ends at, before anything is sent either way.
void scribble(channel& to_creator) {
    auto& out = detail::state_of::get(to_creator)->end().out();
    auto* data = out.try_loan(8).payload.data() - sizeof(shm::record_header);
    reinterpret_cast<shm::half_header*>(data - shm::header_bytes)->released.store(1);
    (void)to_creator.put(std::string("done"));
    (void)to_creator.get();
}
const auto scribble_entry = register_entry<scribble>("scribble");

/// The same when something has come; it reads no more, so nothing but data brings the bridge to it.
void scribble_later(channel& to_creator) {
    auto& end = detail::state_of::get(to_creator)->end();
    auto* data = end.out().try_loan(8).payload.data() - sizeof(shm::record_header);
    (void)to_creator.peek();
    reinterpret_cast<shm::half_header*>(data - shm::header_bytes)->released.store(1);
    std::puts("done");
    while (end.in().peer_state() == status::ok) ::sched_yield();
}
const auto scribble_later_entry = register_entry<scribble_later>("scribble-later");

/// Asks the bridge of its node what only the root may ask. Returns: how it was answered.
std::string ask_as_place(const command& what) {
    try {
        auto c = ask_bridge(what);
        (void)detail::await_opened(c);
    } catch (const error& e) {
        return e.code().message() + ": " + e.what();
    }
    return "done";
}
void listen_as_place(channel& to_creator) {
    (void)to_creator.put(ask_as_place(listen_command{"127.0.0.1", 0, bytes(32), "mine"}));
}
void dial_as_place(channel& to_creator) {
    const auto port = to_creator.get<std::int64_t>().value();
    dial_command what{"127.0.0.1", static_cast<std::uint16_t>(port), bytes(32), "me", "it"};
    (void)to_creator.put(ask_as_place(what));
}

/// Uses what it is told is the token of a link of the root's, and what it may guess instead.
void use_link_as_place(channel& to_creator) {
    while (const auto stolen = to_creator.get<bytes>()) {
        std::vector<link_token> tokens{*stolen, bytes(32), bytes(1), bytes(8, std::byte{1})};
        for (std::uint64_t number = 1; number <= 8; ++number) {
            // As a link was once named: the bridge's number in the node, and one that rises.
            const auto id = number << 32 | 1;
            const auto* octets = reinterpret_cast<const std::byte*>(&id);
            tokens.emplace_back(octets, octets + sizeof id);
            const auto random = make_node_key();
            tokens.emplace_back(random.begin(), random.end());
        }
        std::int64_t denied = 0;
        for (const auto& token : tokens) {
            for (const command& what :
                 {command{start_command{token, control::registered_entry{"echo"}, "taken"}},
                  command{connect_command{token, "mine", {}}}}) {
                const auto said = ask_as_place(what);
                denied += said.find("only for the process that has made it") != said.npos;
            }
        }
        (void)to_creator.put(denied - static_cast<std::int64_t>(2 * tokens.size()));
    }
}

octets opened_then(peer& p, std::uint64_t channel, const char* entry) {
    EXPECT_TRUE(p.send(open_frame{channel, ring, start_entry{entry, ""}}));
    EXPECT_TRUE(p.next<opened_frame>());
    EXPECT_TRUE(p.send(credit_frame{channel, 0, ring}));
    return record_of(message::of(std::int64_t{0}));
}

/// The record of a raw number.
octets number(std::int64_t n) {
    const auto m = message::of(n);
    auto bytes = record_of(m);
    const auto type = m.type();
    std::memcpy(bytes.data() + 14, &type, sizeof type);
    return bytes;
}

bool is_alive(peer& p) { return p.send(ping_frame{77}) && p.next<pong_frame>() == pong_frame{77}; }

// -- a place that forges --

class forging_place : public bridge_test, public ::testing::WithParamInterface<message_kind> {};

TEST_P(forging_place, loses_its_channel_and_the_link_lives) {
    auto p = dial();
    (void)opened_then(p, 1, "forge");
    ASSERT_TRUE(p.send(data_frame{1, 0, number(static_cast<std::int64_t>(GetParam()))}));
    std::uint64_t end = 0;
    std::optional<close_frame> closed;
    // A close overtakes data: all that was sent before it has come when a ping is answered.
    while (!closed || end < closed->position) {
        const auto f = p.next_frame();
        ASSERT_TRUE(f) << "the link has ended";
        if (const auto* c = std::get_if<close_frame>(&*f)) closed = *c;
        if (const auto* data = std::get_if<data_frame>(&*f)) {
            end = data->position + data->records.size();
        }
    }
    EXPECT_EQ(closed->reason, errc::corrupt);
    EXPECT_EQ(end, shm::span_of(message::of(std::string("before")).bytes().size()));
    EXPECT_TRUE(is_alive(p));
    EXPECT_NE(
        heard("put a record of kind " + std::to_string(static_cast<std::uint16_t>(GetParam()))),
        "");
    ASSERT_TRUE(p.send(close_frame{1, shm::span_of(8), errc::closed}));
    expect_alive();
    EXPECT_TRUE(places_end());
}

INSTANTIATE_TEST_SUITE_P(of, forging_place,
                         ::testing::Values(message_kind::opened, message_kind::refused,
                                           message_kind{66}, message_kind{999}));

TEST_F(bridge_test, a_place_that_breaks_its_memory_loses_its_channel_and_the_log_says_where) {
    auto p = dial();
    (void)opened_then(p, 1, "scribble");
    const auto closed = p.next<close_frame>();
    ASSERT_TRUE(closed);
    EXPECT_EQ(closed->reason, errc::corrupt);
    EXPECT_NE(heard("the place has broken its memory, first at position 0"), "");
    EXPECT_TRUE(is_alive(p));
    ASSERT_TRUE(p.send(close_frame{1, 0, errc::closed}));
    expect_alive();
    EXPECT_TRUE(places_end());
}

TEST_F(bridge_test, data_for_a_place_that_breaks_its_memory_is_answered_with_the_end_of_it) {
    auto p = dial();
    (void)opened_then(p, 1, "scribble-later");
    const auto one = number(1);
    ASSERT_TRUE(p.send(data_frame{1, 0, one}));
    std::uint64_t sent = one.size();
    std::optional<close_frame> closed;
    // Until it has. Where it was quicker than the credit for the first record, that brings the
    // bridge to it.
    for (auto f = p.next_frame(); f && !std::holds_alternative<output_frame>(*f);
         f = p.next_frame()) {
        if (const auto* end = std::get_if<close_frame>(&*f)) closed = *end;
    }
    if (!closed) {
        ASSERT_TRUE(p.send(data_frame{1, sent, one}));
        sent += one.size();
        closed = p.next<close_frame>();
    }
    ASSERT_TRUE(closed);
    EXPECT_EQ(closed->reason, errc::corrupt);
    EXPECT_TRUE(is_alive(p));
    ASSERT_TRUE(p.send(close_frame{1, sent, errc::closed}));
    expect_alive();
    EXPECT_TRUE(places_end());
}

TEST_F(bridge_test, a_record_that_changes_while_it_is_sent_leaves_as_one_that_can_be) {
    auto p = dial();
    int left = 0;
    for (std::uint64_t channel = 1; channel < 400; channel += 2) {
        (void)opened_then(p, channel, "flip");
        while (true) {
            const auto f = p.next_frame();
            ASSERT_TRUE(f) << "the link has ended";
            if (const auto* data = std::get_if<data_frame>(&*f)) {
                ++left;
                std::uint32_t length;
                std::uint16_t what;
                std::uint16_t flags;
                std::memcpy(&length, data->records.data() + 8, sizeof length);
                std::memcpy(&what, data->records.data() + 12, sizeof what);
                std::memcpy(&flags, data->records.data() + 14, sizeof flags);
                ASSERT_TRUE(shm::is_sound(what, flags, length)) << what << ' ' << flags;
                break;
            }
            if (std::holds_alternative<close_frame>(*f)) break;
        }
        ASSERT_TRUE(p.send(close_frame{channel, 0, errc::closed}));
    }
    std::printf("%d of 200 left whole\n", left);
    EXPECT_TRUE(is_alive(p));
    expect_alive();
}

TEST_F(bridge_test, a_place_from_a_library_announces_itself_once) {
    auto p = dial();
    std::map<std::uint64_t, errc> closed;  // by channel; a close may overtake data, and the others
    const auto first_kind_of = [&](std::uint64_t channel, const char* symbol) {
        EXPECT_TRUE(p.send(open_frame{channel, ring, start_module{NODE_MODULE, symbol, ""}}));
        EXPECT_TRUE(p.next<opened_frame>());
        EXPECT_TRUE(p.send(credit_frame{channel, 0, ring}));
        while (const auto f = p.next_frame()) {
            if (const auto* c = std::get_if<close_frame>(&*f)) closed[c->channel] = c->reason;
            const auto* data = std::get_if<data_frame>(&*f);
            if (!data) continue;
            std::uint16_t what;
            std::memcpy(&what, data->records.data() + 12, sizeof what);
            return static_cast<message_kind>(what);
        }
        return message_kind::bytes;
    };
    EXPECT_EQ(first_kind_of(1, "module_greet"), message_kind::opened);
    EXPECT_EQ(first_kind_of(3, "no_such_symbol"), message_kind::refused);
    EXPECT_EQ(first_kind_of(5, "module_announces_again"), message_kind::opened);
    while (!closed.contains(5)) {
        const auto next = p.next<close_frame>();
        ASSERT_TRUE(next);
        closed[next->channel] = next->reason;
    }
    EXPECT_EQ(closed[5], errc::corrupt);
    EXPECT_TRUE(is_alive(p));
}

// -- a node that forges --

/// A node made by hand, dialed by the bridge of the test's node.
class forging_node : public bridge_test {
  protected:
    forging_node() {
        auto dialed = be_dialed(key_, "forger");
        events_ = std::move(dialed.events);
        node_.emplace(std::move(dialed.node));
        link_ = dialed.link;
    }

    /// A channel that the node has agreed to; the last to be opened.
    channel start(const decltype(start_command::entry)& entry) {
        auto c = ask_bridge(start_command{link_, entry, ""});
        const auto open = node_->next<open_frame>();
        EXPECT_TRUE(open);
        wire_id_ = open ? open->channel : 0;
        EXPECT_TRUE(node_->send(opened_frame{wire_id_, ring, 1}));
        return c;
    }
    channel start_by_name() { return start(control::registered_entry{"x"}); }
    channel start_library() { return start(control::library_entry{"/x.so", "x"}); }
    /// Whether the link has ended, for breaking the protocol.
    bool is_hung_up_on() {
        const auto event = events_.get<bridge_event>();
        const auto* lost = event ? std::get_if<node_lost>(&*event) : nullptr;
        return lost && lost->reason.find("broke the protocol") != std::string::npos;
    }

    channel events_;
    std::optional<peer> node_;
    link_token link_;
    std::uint64_t wire_id_ = 0;
};

TEST_F(forging_node, is_not_reached_over_the_link_of_the_root_by_another_place) {
    auto thief = spawn(use_link_as_place);
    ASSERT_EQ(thief.put(link_), status::ok);
    EXPECT_EQ(thief.get<std::int64_t>().value(), 0) << "less than all of its attempts is denied";
    EXPECT_NE(heard("refused a link to another node to place "), "");
    // The node has been asked for nothing but this.
    auto c = start_by_name();
    EXPECT_EQ(wire_id_, 1U);
    EXPECT_EQ(detail::await_opened(c).kind(), message_kind::opened);

    // The same where the bridge is another one.
    ::kill(pid_, SIGKILL);
    while (events_.get<bridge_event>()) {
    }
    auto again = be_dialed(key_, "again");
    for (const auto& token : {link_, again.link}) {
        ASSERT_EQ(thief.put(token), status::ok);
        EXPECT_EQ(thief.get<std::int64_t>().value(), 0);
    }
    auto stale = ask_bridge(start_command{link_, control::registered_entry{"x"}, ""});
    try {
        (void)detail::await_opened(stale);
        ADD_FAILURE() << "by the token of a link that has ended";
    } catch (const error& e) {
        EXPECT_EQ(e.code(), errc::node_down);
    }
    auto fresh = ask_bridge(start_command{again.link, control::registered_entry{"x"}, ""});
    const auto open = again.node.next<open_frame>();
    ASSERT_TRUE(open);
    EXPECT_EQ(open->channel, 1U);
    ASSERT_TRUE(again.node.send(opened_frame{open->channel, ring, 1}));
    EXPECT_EQ(detail::await_opened(fresh).kind(), message_kind::opened);
}

TEST_F(forging_node, cannot_announce_a_place_that_does_not_announce_itself) {
    auto c = start_by_name();
    ASSERT_TRUE(node_->send(data_frame{wire_id_, 0, record_of(message_kind::opened)}));
    EXPECT_TRUE(is_hung_up_on());
}

TEST_F(forging_node, cannot_refuse_more_ends_than_it_was_asked_for) {
    ASSERT_EQ(events_.put(bridge_request{end_node{3}}), status::ok);
    ASSERT_TRUE(node_->next<exit_frame>());
    const exit_refused_frame no{errc::permission_denied, "no"};
    ASSERT_TRUE(node_->send(no));
    const auto event = events_.get<bridge_event>();
    ASSERT_TRUE(event && std::holds_alternative<exit_denied>(*event));
    ASSERT_TRUE(node_->send(no));
    EXPECT_TRUE(is_hung_up_on());
}

TEST_F(forging_node, is_told_nothing_of_other_nodes_by_a_guest) {
    auto host = be_dialed(make_node_key(), "host", "by hand", "guest");
    ASSERT_TRUE(host.node.send(introduce_frame{"forger"}));
    EXPECT_TRUE(host.node.is_closed_by_bridge());
    const auto event = host.events.get<bridge_event>();
    const auto* lost = event ? std::get_if<node_lost>(&*event) : nullptr;
    ASSERT_TRUE(lost);
    EXPECT_NE(lost->reason.find("broke the protocol"), std::string::npos) << lost->reason;
    // Nor are others told of it.
    ASSERT_TRUE(node_->send(introduce_frame{"host"}));
    const auto answer = node_->next<introduction_frame>();
    EXPECT_TRUE(answer && answer->code == errc::name_not_found);
}

TEST_F(forging_node, opens_nothing_to_whoever_has_dialed_it) {
    const auto here = spawn_server<table_server>({.named = "mine"});
    auto host = be_dialed(make_node_key(), "host", "by hand", "guest");
    for (peer* each : {&*node_, &host.node}) {
        ASSERT_TRUE(each->send(open_frame{2, ring, connect_name{"mine"}}));
        const auto refused = each->next<refused_frame>();
        EXPECT_TRUE(refused && refused->code == errc::bad_argument);
    }
}

TEST_F(forging_node, cannot_hide_in_a_pack_what_it_may_not_say) {
    for (const message_kind hidden :
         {message_kind::opened, message_kind::refused, message_kind::part}) {
        SCOPED_TRACE(static_cast<int>(hidden));
        auto dialed = be_dialed(key_, "packer" + std::to_string(static_cast<int>(hidden)));
        auto c = ask_bridge(start_command{dialed.link, control::library_entry{"/x.so", "x"}, ""});
        const auto open = dialed.node.next<open_frame>();
        ASSERT_TRUE(open);
        ASSERT_TRUE(dialed.node.send(opened_frame{open->channel, ring, 1}));
        // One message without octets, all in order but for what it says.
        const auto what = static_cast<std::uint16_t>(hidden) | shm::packed;
        auto pack = record(std::string(16, '\0'), 0, static_cast<std::uint16_t>(what));
        const std::uint16_t count = 1;
        std::memcpy(pack.data() + 14, &count, sizeof count);
        ASSERT_TRUE(dialed.node.send(data_frame{open->channel, 0, pack}));
        const auto event = dialed.events.get<bridge_event>();
        ASSERT_TRUE(event);
        const auto* lost = std::get_if<node_lost>(&*event);
        ASSERT_TRUE(lost);
        EXPECT_NE(lost->reason.find("broke the protocol"), std::string::npos) << lost->reason;
    }
}

TEST_F(forging_node, announces_a_place_from_a_library_once) {
    auto c = start_library();
    const auto opened = record_of(message_kind::opened);
    ASSERT_TRUE(node_->send(data_frame{wire_id_, 0, opened}));
    EXPECT_EQ(detail::await_opened(c).kind(), message_kind::opened);
    ASSERT_TRUE(node_->send(ping_frame{1}));
    ASSERT_TRUE(node_->next<pong_frame>());
    ASSERT_TRUE(node_->send(data_frame{wire_id_, opened.size(), opened}));
    EXPECT_TRUE(is_hung_up_on());
}

// Not where the bridge listens too: there it takes the log.
TEST(dialed_node, brings_nothing_to_the_terminal_that_one_obeys) {
    auto dialed = be_dialed(make_node_key(), "forger");
    auto* const node = &dialed.node;
    const std::string hostile = "\x1B[2J\r\a\xC2\x9B\xE2\x80\xAE\xFF";
    ASSERT_TRUE(node->send(output_frame{"p" + hostile, 1, "printed" + hostile}));
    EXPECT_NE(heard("/p?[2J?????] printed?[2J?????"), "");
    ASSERT_TRUE(node->send(
        log_frame{"q" + hostile, 3, 1, "logged" + hostile + "\n2026-01-01T00:00:00.000Z error"}));
    const std::string logged = "/q?[2J?????: logged?[2J?????\\n2026-01-01T00:00:00.000Z error";
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (times_heard(logged) == 0 && std::chrono::steady_clock::now() < until)
        detail::process::current().pump();
    EXPECT_EQ(times_heard(logged), 1U);
    auto c = ask_bridge(start_command{dialed.link, control::registered_entry{"x"}, ""});
    const auto open = node->next<open_frame>();
    ASSERT_TRUE(open);
    ASSERT_TRUE(node->send(refused_frame{open->channel, errc::start_failed, "no" + hostile}));
    try {
        (void)detail::await_opened(c);
        ADD_FAILURE();
    } catch (const error& e) {
        EXPECT_STREQ(e.what(), "no?[2J?????");
    }
    EXPECT_EQ(times_heard("\x1B"), 0U);
}

TEST_F(forging_node, cannot_give_an_ended_place_a_status_that_is_none) {
    struct ending {
        death_reason reason;
        std::int32_t status;
        std::optional<exit_status> shown;
    };
    using enum death_reason;
    for (const auto& e :
         {ending{exited, 0, exit_status{false, 0}}, ending{exited, 255, exit_status{false, 255}},
          ending{exited, 256, {}}, ending{exited, -1, {}},
          ending{signalled, 1, exit_status{true, 1}}, ending{signalled, 64, exit_status{true, 64}},
          ending{signalled, 0, {}}, ending{signalled, 65, {}}, ending{signalled, 255, {}},
          ending{unknown, 1, {}}}) {
        SCOPED_TRACE(e.status);
        auto c = start_by_name();
        (void)detail::await_opened(c);
        ASSERT_TRUE(node_->send(place_died_frame{1, wire_id_, e.reason, e.status}));
        ASSERT_TRUE(node_->send(close_frame{wire_id_, 0, errc::peer_dead}));
        EXPECT_EQ(c.receive().error(), errc::peer_dead);
        const auto shown = c.peer_status();
        ASSERT_EQ(shown.has_value(), e.shown.has_value());
        if (!shown) continue;
        EXPECT_EQ(shown->signalled, e.shown->signalled);
        EXPECT_EQ(shown->value, e.shown->value);
    }
}

// What the nursery makes of the text of an exception over there, which any node may send.
TEST_F(forging_node, cannot_have_a_text_of_an_end_obeyed_by_a_terminal_or_without_bound) {
    using enum death_reason;
    const auto told = [this](death_reason reason, std::int32_t status, const std::string& text) {
        auto c = start_by_name();
        (void)detail::await_opened(c);
        EXPECT_TRUE(node_->send(place_died_frame{1, wire_id_, reason, status, text}));
        EXPECT_TRUE(node_->send(place_died_frame{1, wire_id_, exited, 1, "a second time"}));
        EXPECT_TRUE(node_->send(close_frame{wire_id_, 0, errc::peer_dead}));
        EXPECT_EQ(c.receive().error(), errc::peer_dead);
        return c.peer_status().value().text;
    };
    EXPECT_EQ(told(exited, 1, "\x1B[2Jone\ntwo\x9B"), "?[2Jone\\ntwo?");
    EXPECT_EQ(told(exited, 1, std::string(4096, 'x')), std::string(4096, 'x'));
    EXPECT_EQ(told(exited, 1, std::string(text_bytes_max, '\x07')), std::string(4093, '?') + "...");
    // Of no other end is a text believed.
    EXPECT_EQ(told(exited, 0, "zero"), "");
    EXPECT_EQ(told(exited, 2, "two"), "");
    EXPECT_EQ(told(signalled, 1, "a signal"), "");
}

TEST_F(forging_node, may_tell_the_text_of_an_end_before_the_channel_is_open_here) {
    auto& self = detail::process::current();
    const command what = start_command{link_, control::registered_entry{"x"}, ""};
    auto answer =
        self.request(control::open_bridge{detail::encode_datum(what), ring_bytes_default});
    const auto open = node_->next<open_frame>();
    ASSERT_TRUE(open);
    ASSERT_TRUE(node_->send(opened_frame{open->channel, ring, 1}));
    ASSERT_TRUE(
        node_->send(place_died_frame{1, open->channel, death_reason::exited, 1, "at once"}));
    ASSERT_TRUE(is_alive(*node_));  // the bridge has told the nursery
    // The nursery takes one packet of each process in turn, and the bridge sends a few.
    for (int turn = 0; turn < 20; ++turn) (void)self.request(control::list_places{});
    channel c{self.open(std::get<control::granted>(answer.packet.body), std::move(answer.fds))};
    ASSERT_TRUE(c.peer_status());
    EXPECT_EQ(c.peer_status()->text, "at once");
}

TEST_F(forging_node, is_not_asked_where_the_link_that_goes_with_a_command_does_not_come) {
    auto& self = detail::process::current();
    for (const std::size_t size : {std::size_t{0}, link_.size() / 2}) {
        SCOPED_TRACE(size);
        std::array<int, 2> ends{};
        ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
        const unique_fd reader{ends[0]};
        const unique_fd writer{ends[1]};
        ASSERT_EQ(::write(writer.get(), link_.data(), size), static_cast<ssize_t>(size));
        const command what = connect_command{{}, "x"};
        auto answer =
            self.request(control::open_bridge{detail::encode_datum(what), ring_bytes_default},
                         std::vector{reader.get()});
        channel c{self.open(std::get<control::granted>(answer.packet.body), std::move(answer.fds))};
        const auto text = text_of_error(errc::start_failed, [&] { (void)detail::await_opened(c); });
        EXPECT_NE(text.find("the keys that go with a command did not come"), text.npos) << text;
    }
}

TEST(dialing, ends_with_the_channel_that_has_asked_for_it) {
    const auto [listening, port] = listen_by_hand();
    dial_command dial{"127.0.0.1", port, bytes(32), "launcher", "by hand"};
    dial.deadline_ms = std::chrono::milliseconds{dial_deadline_max}.count();
    dial.insecure = true;
    auto asked = ask_bridge(dial);
    const auto dialed = accept_by_hand(listening);
    std::array<std::byte, 1024> word{};
    ASSERT_GT(::read(dialed.get(), word.data(), word.size()), 0);
    asked = {};
    pollfd end{dialed.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&end, 1, watchdog_ms), 1) << "the bridge goes on";
    EXPECT_LE(::read(dialed.get(), word.data(), word.size()), 0);
}

/// Asks the nursery, as a bridge does, to tell the process at the other end of a channel that the
/// place behind has ended. Returns how often it was not refused.
void tell_ends_as_place(channel& to_creator) {
    auto& self = detail::process::current();
    std::int64_t taken = 0;
    const auto last = to_creator.get<std::int64_t>().value();
    for (std::uint64_t id = 0; id <= static_cast<std::uint64_t>(last); ++id) {
        for (const std::uint8_t end : {0, 1, 2}) {
            try {
                (void)self.request(control::peer_ended{id, end, false, 1, "forged"});
                ++taken;
            } catch (const error& e) {
                taken += e.code() != errc::protocol;
            }
        }
    }
    (void)to_creator.put(taken);
    (void)to_creator.get();
}

TEST_F(forging_node, cannot_have_its_word_forged_by_a_place_that_is_no_bridge) {
    auto remote = start_by_name();
    (void)detail::await_opened(remote);
    auto thief = spawn(tell_ends_as_place);
    const auto last = static_cast<std::int64_t>(detail::state_of::get(thief)->id());
    ASSERT_GT(last, static_cast<std::int64_t>(detail::state_of::get(remote)->id()));
    ASSERT_EQ(thief.put(last), status::ok);
    EXPECT_EQ(thief.get<std::int64_t>().value(), 0);
    EXPECT_FALSE(remote.peer_status());
    EXPECT_FALSE(thief.peer_status());
    EXPECT_TRUE(is_alive(*node_));
}

// -- who dies between the text of an end and the end --

class forging_node_beside_a_halted_nursery : public forging_node {
  protected:
    /// Its place ends by an exception, the bridge has asked the nursery to pass that on, and the
    /// nursery does nothing. Others end before, so that the nursery has more packets to take than
    /// one.
    forging_node_beside_a_halted_nursery() {
        std::vector<std::uint64_t> ids;
        for (auto& each : others_) {
            each = start_by_name();
            (void)detail::await_opened(each);
            ids.push_back(wire_id_);
        }
        channel_ = start_by_name();
        (void)detail::await_opened(channel_);
        halt(nursery_);
        for (const auto id : ids) {
            EXPECT_TRUE(node_->send(place_died_frame{1, id, death_reason::exited, 1, "why"}));
        }
        EXPECT_TRUE(node_->send(place_died_frame{1, wire_id_, death_reason::exited, 1, "why"}));
        EXPECT_TRUE(node_->send(close_frame{wire_id_, 0, errc::peer_dead}));
        EXPECT_TRUE(is_alive(*node_));  // the bridge has read both
    }
    ~forging_node_beside_a_halted_nursery() override { ::kill(nursery_, SIGCONT); }

    void expect_no_end() {
        EXPECT_EQ(channel_.try_get<int>().error(), errc::empty);
        EXPECT_FALSE(channel_.peer_status());
    }
    void expect_end_with_text() {
        EXPECT_EQ(channel_.receive().error(), errc::peer_dead);
        const auto how = channel_.peer_status();
        ASSERT_TRUE(how);
        EXPECT_EQ(*how, exit_status{.value = 1});
        EXPECT_EQ(how->text, "why");
        EXPECT_EQ(remote_place{std::move(channel_)}.wait().text, "why");
    }

    const pid_t nursery_ = nursery_of(::getpid());
    std::array<channel, 3> others_;
    channel channel_;
};

TEST_F(forging_node_beside_a_halted_nursery, the_end_comes_with_its_text) {
    expect_no_end();
    ::kill(nursery_, SIGCONT);
    expect_end_with_text();
    auto c = start_by_name();
    EXPECT_EQ(detail::await_opened(c).kind(), message_kind::opened);
}

TEST_F(forging_node_beside_a_halted_nursery, the_end_of_the_link_does_not_overtake_it) {
    node_.reset();
    const auto event = events_.get<bridge_event>();
    EXPECT_TRUE(event && std::holds_alternative<node_lost>(*event));
    expect_no_end();
    ::kill(nursery_, SIGCONT);
    expect_end_with_text();
}

TEST_F(forging_node_beside_a_halted_nursery, the_death_of_the_bridge_loses_nothing_of_it) {
    ::kill(pid_, SIGKILL);
    ::kill(nursery_, SIGCONT);
    expect_end_with_text();
}

TEST_F(forging_node_beside_a_halted_nursery, whoever_has_closed_the_channel_costs_nothing) {
    channel_ = {};
    ::kill(nursery_, SIGCONT);
    auto c = start_by_name();
    EXPECT_EQ(detail::await_opened(c).kind(), message_kind::opened);
}

// -- what records give away --

TEST_F(bridge_test, what_leaves_a_ring_holds_none_of_its_tags_and_no_old_octets) {
    auto p = dial();
    (void)opened_then(p, 1, "send-many");
    constexpr std::int64_t count = 500;  // several times the ring
    ASSERT_TRUE(p.send(data_frame{1, 0, number(count)}));
    const auto is_blank = [](std::span<const std::byte> some) {
        return std::ranges::all_of(some, [](std::byte b) { return b == std::byte{0}; });
    };
    std::uint64_t placed = 0;
    for (std::int64_t i = 0; i < count;) {
        const auto data = p.next<data_frame>();
        ASSERT_TRUE(data);
        for (auto rest = data->records; !rest.empty(); ++i) {
            std::uint32_t length;
            std::memcpy(&length, rest.data() + 8, sizeof length);
            const auto end = sizeof(shm::record_header) + length;
            const auto span = shm::span_of(length);
            ASSERT_LE(span, rest.size());
            ASSERT_TRUE(is_blank(rest.first(8))) << "the tag of record " << i;
            ASSERT_TRUE(is_blank(rest.first(span).subspan(end))) << "behind record " << i;
            rest = rest.subspan(span);
        }
        placed = data->position + data->records.size();
        ASSERT_TRUE(p.send(credit_frame{1, placed, placed + ring}));
    }
    EXPECT_GT(placed, 4 * ring);
}

// -- whom the bridge obeys --

TEST_F(bridge_test, a_place_that_is_not_the_root_can_neither_listen_nor_dial) {
    auto listening = spawn(listen_as_place);
    EXPECT_NE(listening.get<std::string>().value().find("only the root"), std::string::npos);
    auto dialing = spawn(dial_as_place);
    ASSERT_EQ(dialing.put(std::int64_t{port_}), status::ok);
    EXPECT_NE(dialing.get<std::string>().value().find("only the root"), std::string::npos);
    expect_alive();
}

TEST_F(bridge_test, a_deadline_that_is_none_is_refused_naming_it) {
    for (const std::int64_t ms :
         {std::int64_t{0}, std::int64_t{-1}, std::int64_t{3'600'001},
          std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min()}) {
        auto c = ask_bridge(
            dial_command{"127.0.0.1", port_, {key_.begin(), key_.end()}, "launcher", "itself", ms});
        try {
            (void)detail::await_opened(c);
            ADD_FAILURE() << "dialed within " << ms << " ms";
        } catch (const error& e) {
            EXPECT_EQ(e.code(), errc::bad_argument) << e.what();
            EXPECT_NE(std::string(e.what()).find(std::to_string(ms)), std::string::npos)
                << e.what();
        }
    }
    expect_alive();
}

// -- what a bridge cannot take --

std::size_t mapped_bytes(pid_t pid) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/statm");
    std::size_t pages = 0;
    in >> pages;
    return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// Asks for three channels at once, of which the bridge can take all but the second. What the other
/// end of that one sees is the nursery's to promise.
void expect_the_other_two(pid_t bridge, std::size_t large_ring, const node_key& key) {
    const listen_command what{"127.0.0.1", 0, {key.begin(), key.end()}, "again"};
    halt(bridge);
    auto first = ask_bridge(what);
    auto large = ask_bridge(what, large_ring);
    auto last = ask_bridge(what);
    ::kill(bridge, SIGCONT);
    for (auto* c : {&first, &last}) {
        const auto answer = c->receive();
        ASSERT_TRUE(answer) << answer.error().message();
        EXPECT_EQ(answer->kind(), message_kind::refused);  // since it listens already
    }
    EXPECT_NE(heard("[bridge] a channel could not be taken: "), "");
}

TEST_F(bridge_test, a_channel_that_it_cannot_map_costs_that_channel) {
    constexpr std::size_t large_ring = 16 * 1024 * 1024;
    const auto some = mapped_bytes(pid_) + large_ring;
    const rlimit little{some, RLIM_INFINITY};
    rlimit before{};
    ASSERT_EQ(::prlimit(pid_, RLIMIT_AS, &little, &before), 0);
    expect_the_other_two(pid_, large_ring, key_);
    ASSERT_EQ(::prlimit(pid_, RLIMIT_AS, &before, nullptr), 0);
    expect_alive();
}

}  // namespace
}  // namespace places::net
