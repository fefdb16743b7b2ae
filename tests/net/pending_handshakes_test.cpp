// SPDX-License-Identifier: Apache-2.0
// Which handshake makes room for another, with times that are made up.
#include "net/pending_handshakes.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace places::net {
namespace {

using namespace std::chrono_literals;
using time_point = pending_handshakes::time_point;

struct fake : pending_handshake {
    bool news = false;
    bool dropped = false;
    bool has_news() override { return news; }
    void make_room(const std::string&) override {}
    void drop() override { dropped = true; }
};

class pending : public testing::Test {
  protected:
    static constexpr std::size_t unknown_max = 8;  // so two are reserved

    static boost::asio::ip::address at(const char* text) {
        return origin_of(boost::asio::ip::make_address(text));
    }
    fake* add(const char* from) {
        auto one = std::make_shared<fake>();
        handles[one.get()] = all.add(one, at(from), now);
        kept.push_back(one);
        return one.get();
    }
    std::vector<fake*> add(std::size_t count, const char* from) {
        std::vector<fake*> added;
        for (std::size_t i = 0; i < count; ++i) added.push_back(add(from));
        return added;
    }
    void show(fake* one, key_proof shown) { all.advance(handles.at(one), shown, now); }
    void remove(fake* one) { all.remove(handles.at(one)); }
    pending_handshakes::obstacle obstacle_for(const char* from) {
        return all.find_obstacle(at(from), now);
    }
    /// Whether that one is in the way of one more, for so long.
    void expect_obstacle(fake* one, const char* from, std::chrono::milliseconds wait) {
        const auto found = obstacle_for(from);
        EXPECT_EQ(found.handshake, one);
        if (found.handshake) {
            EXPECT_EQ(found.ends_at - now, wait);
        }
    }

    std::vector<std::shared_ptr<fake>> kept;  // looked at after they have been dropped
    pending_handshakes all{unknown_max};
    std::map<fake*, pending_handshakes::handle> handles;
    time_point now{1h};
};

TEST_F(pending, below_its_limit_is_in_nobody_s_way) {
    add(unknown_max - 1, "192.0.2.1");
    EXPECT_EQ(obstacle_for("192.0.2.1").handshake, nullptr);
    add("192.0.2.1");
    EXPECT_NE(obstacle_for("192.0.2.1").handshake, nullptr);
}

TEST_F(pending, that_is_oldest_goes_first_once_it_has_had_10_ms) {
    const auto first = add("192.0.2.1");
    now += 4ms;
    add(unknown_max - 1, "192.0.2.1");
    expect_obstacle(first, "192.0.2.2", 6ms);
    now += 6ms;
    expect_obstacle(first, "192.0.2.2", 0ms);
}

TEST_F(pending, of_the_address_with_most_handshakes_goes_before_older_ones) {
    add(3, "192.0.2.1");
    now += 1s;
    const auto most = add(5, "192.0.2.2");
    expect_obstacle(most.front(), "192.0.2.1", 10ms);
}

TEST_F(pending, of_one_ipv6_network_count_as_one_address) {
    add(3, "192.0.2.1");
    now += 1s;
    const auto first = add("2001:db8::1");
    for (const char* host : {"2001:db8::2", "2001:db8::1:2", "2001:db8::2:3", "2001:db8::7"})
        add(host);
    expect_obstacle(first, "192.0.2.9", 10ms);
    EXPECT_EQ(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    EXPECT_NE(at("2001:db8:0:1::1"), at("2001:db8::1"));
}

TEST_F(pending, that_has_shown_less_goes_before_one_that_has_shown_more) {
    const auto each = add(unknown_max, "192.0.2.1");
    for (std::size_t i = 0; i + 1 < each.size(); ++i) show(each[i], key_proof::claimed);
    now += 1h;
    expect_obstacle(each.back(), "192.0.2.1", -1h + 10ms);
    show(each.back(), key_proof::claimed);
    for (std::size_t i = 0; i + 1 < each.size(); ++i) show(each[i], key_proof::given);
    expect_obstacle(each.back(), "192.0.2.1", 250ms);
    show(each.back(), key_proof::given);
    expect_obstacle(each.front(), "192.0.2.1", 1s);
}

TEST_F(pending, time_counts_from_what_was_shown_last) {
    const auto each = add(unknown_max, "192.0.2.1");
    now += 990ms;
    for (const auto one : each) show(one, key_proof::claimed);
    expect_obstacle(each.front(), "192.0.2.1", 250ms);
    now += 249ms;
    show(each.front(), key_proof::given);
    expect_obstacle(each[1], "192.0.2.1", 1ms);
    for (const auto one : each) show(one, key_proof::given);
    expect_obstacle(each.front(), "192.0.2.1", 1s);
}

// A hello can be sent by somebody that has seen it: many such do not keep an address out that sends
// one.
TEST_F(pending, hello_of_the_address_with_most_goes_before_that_of_another) {
    const auto other = add("192.0.2.2");
    show(other, key_proof::claimed);
    now += 1s;
    const auto many = add(unknown_max - 1, "192.0.2.1");
    for (const auto one : many) show(one, key_proof::claimed);
    expect_obstacle(many.front(), "192.0.2.3", 250ms);
}

TEST_F(pending, with_news_has_its_time_anew_behind_the_others) {
    const auto each = add(unknown_max, "192.0.2.1");
    now += 1s;
    each.front()->news = true;
    expect_obstacle(each[1], "192.0.2.1", -990ms);
    for (const auto one : each) one->news = true;
    expect_obstacle(each.front(), "192.0.2.1", 10ms);
}

TEST_F(pending, from_unknown_addresses_leaves_the_reserve_to_known_ones) {
    all.remember(at("192.0.2.9"), now);
    const auto unknown = add(unknown_max, "192.0.2.1");
    EXPECT_EQ(obstacle_for("192.0.2.9").handshake, nullptr);
    const auto known = add(2, "192.0.2.9");
    now += 1s;
    // Now they are in each other's way, but an unknown one never ends a known one.
    expect_obstacle(unknown.front(), "192.0.2.9", -990ms);
    for (const auto one : unknown) show(one, key_proof::claimed);
    expect_obstacle(known.front(), "192.0.2.9", -990ms);
    expect_obstacle(unknown.front(), "192.0.2.1", 250ms);
}

TEST_F(pending, that_ends_leaves_its_room) {
    const auto each = add(unknown_max, "192.0.2.1");
    show(each[3], key_proof::claimed);
    show(each[4], key_proof::given);
    for (const int i : {3, 4, 0}) remove(each[static_cast<std::size_t>(i)]);
    EXPECT_EQ(all.size(), unknown_max - 3);
    EXPECT_EQ(obstacle_for("192.0.2.1").handshake, nullptr);
    add(3, "192.0.2.2");
    expect_obstacle(each[1], "192.0.2.2", 10ms);
    all.drop_all();
    EXPECT_TRUE(each[1]->dropped);
    EXPECT_EQ(all.size(), 0u);
    EXPECT_EQ(obstacle_for("192.0.2.1").handshake, nullptr);
}

TEST_F(pending, remembers_the_last_addresses_that_have_proved_a_key) {
    for (std::size_t i = 0; i <= pending_handshakes::known_max; ++i) {
        now += 1ms;
        all.remember(
            at(("10.0." + std::to_string(i / 256) + "." + std::to_string(i % 256)).c_str()), now);
        all.remember(at("192.0.2.1"), now);
    }
    EXPECT_TRUE(all.is_known(at("192.0.2.1")));
    EXPECT_TRUE(all.is_known(at("10.0.1.0")));
    EXPECT_FALSE(all.is_known(at("10.0.0.0")));
    EXPECT_FALSE(all.is_known(at("10.0.0.1")));
    EXPECT_TRUE(all.is_known(at("10.0.0.2")));
}

}  // namespace
}  // namespace places::net
