// SPDX-License-Identifier: Apache-2.0
#include "launcher/address.hpp"

#include "tests/support/error_of.hpp"

#include <gtest/gtest.h>

#include <string>

namespace places::launcher {
namespace {

TEST(address, is_a_host_and_perhaps_a_port) {
    const auto read = [](const char* text) {
        const auto to = parse_address(text);
        return to.host + " " + std::to_string(to.port);
    };
    EXPECT_EQ(read("host"), "host 6340");
    EXPECT_EQ(read("host:1"), "host 1");
    EXPECT_EQ(read("127.0.0.1:65535"), "127.0.0.1 65535");
    EXPECT_EQ(read("[::1]"), "::1 6340");
    EXPECT_EQ(read("[fe80::1%eth0]:0"), "fe80::1%eth0 0");
}

TEST(address, is_refused_naming_it_where_something_is_missing_or_left_over) {
    for (const std::string each :
         {"", ":1", "host:", "host:x", "host:1x", "host:-1", "host:65536", "::1", "[::1", "[]",
          "[::1]x6340", "[::1]/1", "[::1]:", "[::1] :1"}) {
        const auto text = text_of_error(errc::bad_argument, [&] { (void)parse_address(each); });
        EXPECT_NE(text.find("\"" + each + "\" is no address"), text.npos) << text;
    }
}

}  // namespace
}  // namespace places::launcher
