// SPDX-License-Identifier: Apache-2.0
#include "net/digest.hpp"

#include <gtest/gtest.h>

#include <string>

namespace places::net {
namespace {

std::string hex_digest(hash which, const std::string& bytes) {
    return to_hex(digest_of(which, bytes));
}

// The examples of FIPS 180-2, appendices A and B: one block, two blocks, and a million bytes.
const std::string two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
const std::string million(1'000'000, 'a');

TEST(digest, of_sha256_is_that_of_the_examples_in_fips_180) {
    EXPECT_EQ(hex_digest(hash::sha256, ""),
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(hex_digest(hash::sha256, "abc"),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(hex_digest(hash::sha256, two_blocks),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(hex_digest(hash::sha256, million),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(digest, of_sha1_is_that_of_the_examples_in_fips_180) {
    EXPECT_EQ(hex_digest(hash::sha1, ""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    EXPECT_EQ(hex_digest(hash::sha1, "abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    EXPECT_EQ(hex_digest(hash::sha1, two_blocks), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    EXPECT_EQ(hex_digest(hash::sha1, million), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

TEST(digest, does_not_depend_on_how_the_bytes_are_split) {
    digest d(hash::sha256);
    for (const char c : two_blocks) d.add({&c, 1});
    d.add({});
    EXPECT_EQ(d.finish(), digest_of(hash::sha256, two_blocks));
}

TEST(hmac, is_that_of_the_examples_in_rfc_2202_and_rfc_4231) {
    const std::string text = "what do ya want for nothing?";
    EXPECT_EQ(to_hex(hmac_of(hash::sha1, "Jefe", text)),
              "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    EXPECT_EQ(to_hex(hmac_of(hash::sha256, "Jefe", text)),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    // A key that is longer than a block is replaced by its digest.
    const std::string long_key(131, '\xaa');
    EXPECT_EQ(to_hex(hmac_of(hash::sha256, long_key,
                             "Test Using Larger Than Block-Size Key - Hash Key First")),
              "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(hmac, takes_an_empty_key_and_no_bytes) {
    EXPECT_EQ(to_hex(hmac_of(hash::sha256, {}, {})),
              "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST(to_hex, has_two_lowercase_digits_for_each_byte) {
    EXPECT_EQ(to_hex(std::string("\x00\x0f\xa0\xff", 4)), "000fa0ff");
    EXPECT_EQ(to_hex({}), "");
}

}  // namespace
}  // namespace places::net
