// SPDX-License-Identifier: Apache-2.0
// Nodes that are started by SSH.
#include "tests/node/entries.hpp"
#include "tests/node/heard.hpp"
#include "tests/node/processes.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/node_main.hpp"
#include "tests/support/sshd.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>

using namespace std::chrono_literals;
using places::errc;

namespace {

class ssh : public ::testing::Test {
  protected:
    void SetUp() override {
        if (const auto why = test_sshd::why_not(); !why.empty()) GTEST_SKIP() << why;
    }
    /// The library, and what our sshd needs to be known.
    static places::node_options options_for(const test_sshd& far) {
        return {.listen_port = 0, .ssh_config = far.config()};
    }
};

std::string echoed(places::channel& c, const std::string& text) {
    if (c.put(text) != places::status::ok) return "not sent";
    const auto answer = c.get<std::string>();
    return answer ? *answer : answer.error().message();
}

TEST_F(ssh, starts_a_node_and_its_places_are_used_like_local_ones) {
    const test_sshd far;
    auto node = test_runtime().spawn_remote_node("far", options_for(far));
    EXPECT_EQ(node.name(), "far:" + std::to_string(node.port()));
    auto place = node.supervise_place(echo_entry);
    EXPECT_EQ(echoed(place, "hello"), "hello");
    node.supervise_place<table_server>({.named = "table"}).set("x", 7);
    auto table = node.connect_to_named_place<table_server>("table");
    EXPECT_EQ(table.get("x"), 7);
    table.say("said over there");
    EXPECT_FALSE(heard("[far:" + std::to_string(node.port()) + "/table] said over there").empty());
    node.send_exit(7);
    EXPECT_EQ(node.wait(), (places::exit_status{false, 7}));
}

}  // namespace
