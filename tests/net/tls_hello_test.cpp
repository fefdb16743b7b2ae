// SPDX-License-Identifier: Apache-2.0
#include "net/tls_hello.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace places::net {
namespace {

hello_random random_of(std::size_t number) {
    hello_random random{};
    for (auto& each : random) {
        each = static_cast<std::byte>(number);
        number >>= 8;
    }
    return random;
}

// A record with one message of `message_bytes` and its header of 4, in a record of `record_bytes`.
std::vector<std::byte> hello(std::size_t record_bytes, std::size_t message_bytes) {
    std::vector<std::byte> bytes(5 + record_bytes);
    const auto put = [&](std::size_t at, std::size_t value) {
        bytes.at(at) = static_cast<std::byte>(value);
    };
    put(0, 0x16);
    put(1, 3);
    put(2, 1);
    put(3, record_bytes >> 8);
    put(4, record_bytes & 0xff);
    put(5, 1);
    put(7, message_bytes >> 8);
    put(8, message_bytes & 0xff);
    const auto random = random_of(0x01020304);
    std::copy(random.begin(), random.end(), bytes.begin() + 11);
    return bytes;
}

TEST(tls_hello, is_as_long_as_its_record_says) {
    const auto whole = hello(0x0123, 0x011f);
    EXPECT_EQ(first_record_bytes(whole), 5u + 0x0123);
    EXPECT_EQ(first_record_bytes(std::span{whole}.first(5)), 5u + 0x0123);
    EXPECT_EQ(first_record_bytes(std::span{whole}.first(4)), 5u);
    EXPECT_EQ(first_record_bytes({}), 5u);
}

TEST(tls_hello, has_random_bytes_where_its_record_holds_all_of_it) {
    const auto whole = hello(260, 256);
    EXPECT_EQ(random_of_hello(whole), random_of(0x01020304));
    EXPECT_EQ(random_of_hello(std::span{whole}.first(hello_start_bytes)), random_of(0x01020304));
    EXPECT_EQ(random_of_hello(std::span{whole}.first(hello_start_bytes - 1)), std::nullopt);
    EXPECT_EQ(random_of_hello(hello(259, 256)), std::nullopt)
        << "a part of it is in another record";
    auto other = whole;
    other[5] = std::byte{2};
    EXPECT_EQ(random_of_hello(other), std::nullopt) << "another message";
    other[5] = std::byte{1};
    other[6] = std::byte{1};
    EXPECT_EQ(random_of_hello(other), std::nullopt) << "a message of 16 MiB";
    other[6] = std::byte{0};
    other[0] = std::byte{0x17};
    EXPECT_EQ(random_of_hello(other), std::nullopt) << "another record";
}

TEST(tls_hello, is_seen_among_the_last_ones_only) {
    seen_hellos seen;
    for (std::size_t i = 0; i < seen_hellos::hellos_max; ++i) {
        EXPECT_FALSE(seen.has(random_of(i)));
        seen.add(random_of(i));
        seen.add(random_of(0));
    }
    EXPECT_TRUE(seen.has(random_of(0)));
    seen.add(random_of(seen_hellos::hellos_max));
    EXPECT_FALSE(seen.has(random_of(0)));
    EXPECT_TRUE(seen.has(random_of(1)));
    EXPECT_TRUE(seen.has(random_of(seen_hellos::hellos_max)));
}

}  // namespace
}  // namespace places::net
