// SPDX-License-Identifier: Apache-2.0
// What each key allows its holder, and what a list says. Peers are made by hand.
#include "tests/node/heard.hpp"
#include "tests/node/peer.hpp"
#include "tests/support/node_main.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace places::net {
namespace {

/// One key for each set of rights, the owner of which is called after it.
struct holder {
    node_key key = make_node_key();
    rights allowed;
    std::string name() const { return "holder of: " + to_string(allowed); }
};
const std::vector<holder>& holders() {
    static const std::vector<holder> all = [] {
        std::vector<holder> made;
        for (const bool start : {false, true})
            for (const bool stop : {false, true})
                for (const bool list : {false, true})
                    for (const bool connect : {false, true})
                        made.push_back({make_node_key(), {start, stop, list, connect}});
        return made;
    }();
    return all;
}
std::vector<allowed_key> keys() {
    std::vector<allowed_key> made;
    for (const auto& h : holders()) {
        made.push_back({{h.key.begin(), h.key.end()},
                        h.name(),
                        h.allowed.start,
                        h.allowed.stop,
                        h.allowed.list,
                        h.allowed.connect});
    }
    return made;
}

class rights_test : public bridge_test {
  protected:
    rights_test() : bridge_test(keys()), launcher_(port_, key_) {
        EXPECT_TRUE(launcher_.send(open_frame{1, ring, start_entry{"echo", known_}}));
        EXPECT_TRUE(launcher_.next<opened_frame>());
    }
    /// Whether the open is granted; a refusal has to be for lack of rights.
    bool opens(peer& p, decltype(open_frame::target) target) {
        next_ += 2;
        EXPECT_TRUE(p.send(open_frame{next_, ring, std::move(target)}));
        while (auto f = p.next_frame()) {
            if (std::holds_alternative<opened_frame>(*f)) return true;
            if (const auto* r = std::get_if<refused_frame>(&*f)) {
                EXPECT_EQ(r->code, errc::permission_denied) << r->text;
                return false;
            }
        }
        ADD_FAILURE() << "the bridge has hung up";
        return false;
    }

    /// So many denied connections, sent in one piece so that they come in one second.
    void ask_at_once(peer& p, const std::string& name, int count) {
        octets all;
        for (int i = 0; i < count; ++i) {
            next_ += 2;
            const auto each = encode(open_frame{next_, ring, connect_name{name}});
            all.insert(all.end(), each.begin(), each.end());
        }
        EXPECT_TRUE(p.send_bytes(all));
        for (int i = 0; i < count; ++i) EXPECT_TRUE(p.next<refused_frame>());
    }

    /// A place that the launcher has started; each test's has a name of its own.
    const std::string known_ = "known at " + std::to_string(port_);
    peer launcher_;
    std::uint64_t next_ = 1;
};

TEST_F(rights_test, each_key_allows_what_it_is_for_and_nothing_else) {
    for (const auto& h : holders()) {
        SCOPED_TRACE(h.name());
        peer p{port_, h.key, h.name()};
        ASSERT_TRUE(p.is_welcome);
        EXPECT_EQ(opens(p, start_entry{"echo", ""}), h.allowed.start);
        EXPECT_EQ(opens(p, start_module{NODE_MODULE, "module_greet", ""}), h.allowed.start);
        EXPECT_EQ(opens(p, connect_name{known_}), h.allowed.connect);

        ASSERT_TRUE(p.send(list_ask_frame{}));
        const auto list = p.next<list_answer_frame>();
        ASSERT_TRUE(list);
        EXPECT_EQ(list->code, h.allowed.list ? errc{} : errc::permission_denied);
        EXPECT_EQ(list->places.empty(), !h.allowed.list);

        ASSERT_TRUE(p.send(exit_frame{3}));
        if (h.allowed.stop) {
            auto event = control_.get<bridge_event>();
            while (event && std::holds_alternative<links_changed>(*event)) {
                event = control_.get<bridge_event>();
            }
            ASSERT_TRUE(event && std::holds_alternative<exit_asked>(*event));
        } else {
            const auto refused = p.next<exit_refused_frame>();
            ASSERT_TRUE(refused);
            EXPECT_EQ(refused->code, errc::permission_denied);
        }
        // Each denial is one line of the log, and nothing else is.
        const auto who = "denied: '" + h.name() + "' at 127.0.0.1:";
        std::size_t denials = 0;
        for (const auto& [is_allowed, what] : {std::pair{h.allowed.start, "start \"echo\""},
                                               {h.allowed.start, "start a place from "},
                                               {h.allowed.connect, "connect to \"known at "},
                                               {h.allowed.list, "list the node"},
                                               {h.allowed.stop, "stop the node"}}) {
            if (is_allowed) continue;
            ++denials;
            const auto line = heard(who, denials);
            EXPECT_NE(line.find(std::string{" may not "} + what), line.npos) << line;
            EXPECT_NE(line.find("(its key allows: " + to_string(h.allowed) + ")"), line.npos);
        }
        // Nothing of this has cost it the link.
        ASSERT_TRUE(p.send(ping_frame{7}));
        EXPECT_TRUE(p.next<pong_frame>());
        EXPECT_EQ(times_heard(who), denials);
    }
    expect_alive();
}

class with_one_module : public bridge_test {
  protected:
    with_one_module() : bridge_test({}, {NODE_MODULE}) {}
};

TEST_F(with_one_module, nothing_else_is_loaded_whatever_the_key_allows) {
    auto p = dial();
    std::uint64_t channel = 1;
    // The same file by another name, too.
    for (const std::string other : {"./other.so", "/proc/self/root" NODE_MODULE, ""}) {
        ASSERT_TRUE(p.send(open_frame{channel, ring, start_module{other, "module_greet", ""}}));
        const auto refused = p.next<refused_frame>();
        ASSERT_TRUE(refused);
        EXPECT_EQ(refused->code, errc::permission_denied) << refused->text;
        const auto line = heard("denied: 'launcher' at 127.0.0.1:", (channel + 1) / 2);
        EXPECT_NE(line.find(" may not load " + other + ": the node was not started with that"),
                  line.npos)
            << line;
        channel += 2;
    }
    ASSERT_TRUE(p.send(open_frame{channel, ring, start_module{NODE_MODULE, "module_greet", ""}}));
    EXPECT_TRUE(p.next<opened_frame>());
    expect_alive();
}

TEST_F(rights_test, a_denial_is_one_line_in_the_log_and_a_flood_of_them_is_not) {
    const auto& none = holders().front();
    const auto one = "denied: '" + none.name() + "' at 127.0.0.1:";
    const auto more = " more denied; the last: '" + none.name() + "' at 127.0.0.1:";
    std::size_t seconds = 0;
    {
        const auto begun = std::chrono::steady_clock::now();
        peer p{port_, none.key, none.name()};
        ask_at_once(p, "flooded", 100);
        const auto line = heard("may not connect to \"flooded\"", 10);
        EXPECT_NE(line.find(one), line.npos) << line;
        seconds = static_cast<std::size_t>((std::chrono::steady_clock::now() - begun) /
                                           std::chrono::seconds{1});
    }
    // The end of the link tells the rest: of 100 within a second 90, and ten less for each more.
    const auto rest = heard(more);
    if (seconds == 0) {
        EXPECT_NE(rest.find("90 more denied"), rest.npos) << rest;
    }
    EXPECT_LE(times_heard(one), 10 * (seconds + 1));
    expect_alive();
}

TEST_F(rights_test, a_denial_after_a_flood_of_them_is_logged_again) {
    const auto& none = holders().front();
    peer p{port_, none.key, none.name()};
    ask_at_once(p, "crowded", 100);
    // In the line that the first ones share perhaps, and then in one of its own.
    const std::string later = "may not connect to \"later\"";
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (times_heard(later) < 2 && std::chrono::steady_clock::now() < until) {
        EXPECT_FALSE(opens(p, connect_name{"later"}));
    }
    const auto line = heard(later, 2);
    EXPECT_NE(line.find("denied: '" + none.name() + "' at 127.0.0.1:"), line.npos) << line;
    EXPECT_GT(times_heard(" more denied; the last: '" + none.name()), 0U);
    expect_alive();
}

TEST_F(rights_test, a_key_does_not_let_in_another_than_its_owner) {
    const auto& one = holders().back();
    EXPECT_FALSE((peer{port_, one.key, "somebody else"}.is_welcome));
    (void)heard("the key it has is not that of 'somebody else'");
    expect_alive();
}

TEST_F(rights_test, a_list_tells_places_channels_and_links) {
    std::vector<list_answer_frame::place> places;
    std::vector<list_answer_frame::channel> channels;
    std::vector<list_answer_frame::link> links;
    // More than one packet of the nursery and one frame hold.
    for (std::uint64_t i = 0; i < 100; ++i) {
        ASSERT_TRUE(launcher_.send(
            open_frame{3 + 2 * i, ring, start_entry{"echo", "echo-" + std::to_string(i)}}));
        ASSERT_TRUE(launcher_.next<opened_frame>());
    }
    ASSERT_TRUE(launcher_.send(list_ask_frame{}));
    while (auto part = launcher_.next<list_answer_frame>()) {
        EXPECT_EQ(part->code, errc{});
        std::ranges::copy(part->places, std::back_inserter(places));
        std::ranges::copy(part->channels, std::back_inserter(channels));
        std::ranges::copy(part->links, std::back_inserter(links));
        if (part->is_last) break;
    }
    EXPECT_TRUE(std::ranges::is_sorted(places, {}, &list_answer_frame::place::number));
    for (int i = 0; i < 100; ++i) {
        const auto name = "echo-" + std::to_string(i);
        const auto place = std::ranges::find(places, name, &list_answer_frame::place::name);
        ASSERT_NE(place, places.end()) << name;
        EXPECT_EQ(place->entry, "echo");
        EXPECT_TRUE(watch(place->pid));
        EXPECT_TRUE(place->state == "sleeping" || place->state == "running") << place->state;
        EXPECT_EQ(std::ranges::count(channels, place->number, &list_answer_frame::channel::place),
                  1);
    }
    EXPECT_EQ(places.front().number, control::root_place_id);
    EXPECT_EQ(channels.size(), 101U);
    ASSERT_EQ(links.size(), 1U);
    EXPECT_EQ(links[0].peer, "launcher");
    EXPECT_EQ(links[0].rights, "start stop list connect");
    EXPECT_FALSE(links[0].is_secure);
    EXPECT_EQ(links[0].number, channels[0].link);
}

TEST_F(bridge_test, asking_for_a_second_list_before_the_first_has_come_costs_the_link) {
    auto p = dial();
    ASSERT_TRUE(p.send_bytes([] {
        auto two = encode(list_ask_frame{});
        const auto again = two;
        two.insert(two.end(), again.begin(), again.end());
        return two;
    }()));
    EXPECT_TRUE(p.is_closed_by_bridge());
    expect_alive();
}

}  // namespace
}  // namespace places::net
