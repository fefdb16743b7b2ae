// SPDX-License-Identifier: Apache-2.0
// What an inbox tells of its connections besides their messages.
#include "tests/support/node_main.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <map>
#include <sched.h>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using places::channel;
using places::connect_to_named_place;
using places::errc;
using places::inbox;
using places::reply_end;
using places::spawn;
using places::status;

namespace {

/// What happened, on which connection, and what came with it.
using line = std::tuple<std::string, std::uint64_t, std::string>;

line line_of(const inbox::event& e) {
    if (const auto* o = std::get_if<inbox::opened>(&e)) {
        return {"opened", o->from.connection_id(), ""};
    }
    if (const auto* m = std::get_if<inbox::item>(&e)) {
        return {"message", m->from.connection_id(), m->content.as<std::string>().value()};
    }
    const auto& end = std::get<inbox::ended>(e);
    auto text = std::string(to_string(end.why));
    if (end.how) text += ", " + to_string(*end.how);
    return {"ended", end.connection_id, text};
}

/// Tells the creator of all that happens on other connections, from its first message on.
void tell_creator(inbox& in) {
    std::uint64_t creator = 0;
    while (auto e = in.get_event()) {
        const auto l = line_of(*e);
        if (creator == 0) {
            creator = std::get<1>(l);
            if (l != line{"opened", creator, ""}) return;
        } else if (std::get<1>(l) != creator) {
            (void)in.creator().put(l);
        }
    }
}

struct killed_at_end {
    places::place it;
    ~killed_at_end() { it.kill(); }
};

/// Connects, says so, and stays until it is killed.
void connect_and_stay(channel& c, const std::string& name, const std::string& text) {
    auto there = connect_to_named_place(name, 4096);
    if (!text.empty()) (void)there.put(text);
    (void)c.put(true);
    never_ends();
}

}  // namespace

TEST(inbox, tells_when_a_connection_is_opened_and_closed_in_order) {
    killed_at_end server{spawn({.named = "watcher"}, tell_creator)};
    auto& heard = server.it;
    for (int round = 0; round < 20; ++round) {
        std::uint64_t id = 0;
        {
            auto c = connect_to_named_place("watcher", 4096);
            const auto opened = heard.get<line>().value();
            id = std::get<1>(opened);
            EXPECT_EQ(opened, (line{"opened", id, ""}));
            for (int i = 0; i < round; ++i) ASSERT_EQ(c.put(std::to_string(i)), status::ok);
        }
        for (int i = 0; i < round; ++i) {
            EXPECT_EQ(heard.get<line>().value(), (line{"message", id, std::to_string(i)}));
        }
        EXPECT_EQ(heard.get<line>().value(), (line{"ended", id, "closed"}));
    }
}

TEST(inbox, tells_how_the_process_at_the_other_end_was_killed) {
    killed_at_end server{spawn({.named = "watcher"}, tell_creator)};
    auto& heard = server.it;
    for (const std::string text : {"", "hello"}) {
        auto client = spawn(connect_and_stay, "watcher", text);
        ASSERT_TRUE(client.get<bool>().value());
        const auto id = std::get<1>(heard.get<line>().value());
        if (!text.empty()) {
            EXPECT_EQ(heard.get<line>().value(), (line{"message", id, text}));
        }
        client.kill();
        EXPECT_EQ(heard.get<line>().value(), (line{"ended", id, "peer_dead, signal 9 (Killed)"}));
    }
}

TEST(inbox, tells_all_of_connections_that_have_gone_before_anything_was_read) {
    killed_at_end server{spawn({.named = "late"}, [](inbox& in) {
        (void)in.creator().get<bool>();
        tell_creator(in);
    })};
    {
        auto silent = connect_to_named_place("late", 4096);
        auto spoke = connect_to_named_place("late", 4096);
        ASSERT_EQ(spoke.put("hello"), status::ok);
    }
    auto client = spawn(connect_and_stay, "late", std::string("killed"));
    ASSERT_TRUE(client.get<bool>().value());
    client.kill();
    ASSERT_EQ(server.it.put(true), status::ok);
    std::map<std::uint64_t, std::vector<std::string>> told;
    std::vector<std::uint64_t> order;
    for (int i = 0; i < 8; ++i) {
        const auto [what, id, text] = server.it.get<line>().value();
        if (what == "opened") order.push_back(id);
        told[id].push_back(what + ' ' + text);
    }
    ASSERT_EQ(order.size(), 3U);
    EXPECT_EQ(told[order[0]], (std::vector<std::string>{"opened ", "ended closed"}));
    EXPECT_EQ(told[order[1]],
              (std::vector<std::string>{"opened ", "message hello", "ended closed"}));
    EXPECT_EQ(told[order[2]], (std::vector<std::string>{"opened ", "message killed",
                                                        "ended peer_dead, signal 9 (Killed)"}));
}

TEST(inbox, tells_of_its_creator_and_then_that_nobody_is_left) {
    auto p = spawn([](inbox& in) {
        const auto opened = in.get_event();
        if (!opened || !std::holds_alternative<inbox::opened>(*opened)) return 1;
        const auto from = std::get<inbox::opened>(*opened).from;
        if (!from.is_open() || reply_end{from}.put(true) != status::ok) return 2;
        const auto sent = in.get_event();
        if (!sent || !std::holds_alternative<inbox::item>(*sent)) return 3;
        const auto end = in.get_event();
        if (!end || !std::holds_alternative<inbox::ended>(*end)) return 4;
        const auto& ended = std::get<inbox::ended>(*end);
        if (ended.why != status::closed || ended.how) return 5;
        if (ended.connection_id != from.connection_id() || from.is_open()) return 6;
        if (in.get_event().error() != errc::closed || in.get().error() != errc::closed) return 7;
        return 100;
    });
    ASSERT_TRUE(p.get<bool>().value());
    ASSERT_EQ(p.put(1), status::ok);
    p.close();
    EXPECT_EQ(p.wait().value, 100);
}

TEST(inbox, leaves_to_get_event_what_get_passes_over) {
    killed_at_end server{spawn({.named = "mixed"}, [](inbox& in) {
        (void)in.get_event();  // the creator
        (void)in.creator().put(std::string("ready"));
        // Two connections have come, spoken and gone by the time the second message is here.
        std::vector<line> all;
        for (int i = 0; i < 2; ++i) {
            const auto got = in.get().value();
            all.emplace_back("got", got.from.connection_id(),
                             got.content.as<std::string>().value());
        }
        for (int i = 0; i < 4; ++i) all.push_back(line_of(in.get_event().value()));
        (void)in.creator().put(all);
        (void)in.creator().put(in.get_event(channel::clock::time_point::min()).error() ==
                               errc::timeout);
        (void)in.get();
    })};
    ASSERT_EQ(server.it.get<std::string>().value(), "ready");
    for (const auto* text : {"first", "second"}) {
        auto c = connect_to_named_place("mixed", 4096);
        ASSERT_EQ(c.put(text), status::ok);
    }
    const auto all = server.it.get<std::vector<line>>().value();
    ASSERT_EQ(all.size(), 6U);
    const auto first = std::get<1>(all[2]);
    const auto second = std::get<1>(all[3]);
    EXPECT_NE(first, second);
    EXPECT_EQ(all[0], (line{"got", first, "first"}));
    EXPECT_EQ(all[1], (line{"got", second, "second"}));
    EXPECT_EQ(all[2], (line{"opened", first, ""}));
    EXPECT_EQ(all[3], (line{"opened", second, ""}));
    EXPECT_EQ(all[4], (line{"ended", first, "closed"}));
    EXPECT_EQ(all[5], (line{"ended", second, "closed"}));
    EXPECT_TRUE(server.it.get<bool>().value());
}

TEST(inbox, tells_of_a_thousand_connections_once_each) {
    killed_at_end server{spawn({.named = "crowded"}, [](inbox& in) {
        // Of each connection: opened, then its one message if it sent any, then ended.
        std::map<std::uint64_t, std::string> told;
        std::size_t ended = 0;
        std::uint64_t creator = 0;
        while (auto e = in.get_event()) {
            const auto l = line_of(*e);
            const auto id = std::get<1>(l);
            if (creator == 0) creator = id;
            if (id == creator) continue;
            told[id] += std::get<0>(l)[0];
            if (std::get<0>(l) == "ended" && ++ended == 1000) break;
        }
        std::map<std::string, int> counts;
        for (const auto& [id, how] : told) ++counts[how];
        (void)in.creator().put(counts);
        (void)in.creator().get<int>();
    })};
    std::vector<channel> open;
    for (int i = 0; i < 1000; ++i) {
        auto c = connect_to_named_place("crowded", 4096);
        if (i % 4 == 0) {
            ASSERT_EQ(c.put("hello"), status::ok);
        }
        if (i % 2 == 0) open.push_back(std::move(c));
    }
    open.clear();
    const std::map<std::string, int> wanted{{"ome", 250}, {"oe", 750}};
    EXPECT_EQ((server.it.get<std::map<std::string, int>>().value()), wanted);
}

TEST(reply_end, of_no_connection_is_closed) {
    reply_end none;
    EXPECT_FALSE(none.is_open());
    EXPECT_EQ(none.put(1), status::closed);
    EXPECT_EQ(none.connection_id(), 0U);
}

TEST(reply_end, is_open_until_its_owner_has_gone) {
    killed_at_end server{spawn({.named = "lock"}, [](inbox& in) {
        const auto gone = [&](const reply_end& owner) {
            const bool was_open = owner.is_open();
            (void)in.creator().put(was_open);
            while (owner.is_open()) ::sched_yield();  // nothing is read meanwhile
            return owner;
        };
        for (const auto why : {status::peer_dead, status::closed}) {
            auto owner = gone(in.get().value().from);
            (void)in.creator().put(owner.put(1) == why);
            (void)in.get(channel::clock::time_point::min());
            (void)in.creator().put(!owner.is_open());
        }
        (void)in.get();
    })};
    auto client = spawn(connect_and_stay, "lock", std::string("mine"));
    ASSERT_TRUE(client.get<bool>().value());
    EXPECT_TRUE(server.it.get<bool>().value());
    client.kill();
    EXPECT_TRUE(server.it.get<bool>().value());
    EXPECT_TRUE(server.it.get<bool>().value());
    auto c = connect_to_named_place("lock", 4096);
    ASSERT_EQ(c.put("mine"), status::ok);
    EXPECT_TRUE(server.it.get<bool>().value());
    c = {};
    EXPECT_TRUE(server.it.get<bool>().value());
    EXPECT_TRUE(server.it.get<bool>().value());
}
