// SPDX-License-Identifier: Apache-2.0
#include "launcher/ssh_key.hpp"

#include "tests/support/scratch.hpp"

#include <gtest/gtest.h>

using places::launcher::read_ssh_key;

namespace {

constexpr const char* pem_rsa =
    "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n";

TEST(ssh_key, kind_is_told_for_a_pem_file) {
    const scratch_folder folder;
    const auto facts = read_ssh_key(folder.put("k", pem_rsa));
    EXPECT_TRUE(facts.is_rsa());
    EXPECT_FALSE(facts.is_locked);
    EXPECT_EQ(facts.fault, "");
}

TEST(ssh_key, that_is_encrypted_asks_for_a_passphrase) {
    const scratch_folder folder;
    const auto facts = read_ssh_key(folder.put(
        "k", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIB\n-----END RSA"));
    EXPECT_TRUE(facts.is_locked);
}

TEST(ssh_key, that_others_may_read_or_that_is_none_is_not_tried) {
    const scratch_folder folder;
    const auto open = read_ssh_key(folder.put("open", pem_rsa, 0644));
    EXPECT_TRUE(open.is_open);
    EXPECT_NE(open.fault.find("chmod 600"), std::string::npos);
    const auto none = read_ssh_key(folder.path() + "/none");
    EXPECT_FALSE(none.is_open);
    EXPECT_NE(none.fault, "");
    EXPECT_NE(read_ssh_key(folder.put("text", "hello")).fault, "");
    // Whatever is inside, nothing is followed beyond its end.
    const auto broken = folder.put("broken",
                                   "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA"
                                   "//////////8=\n-----END");
    EXPECT_EQ(read_ssh_key(broken).kind, "");
}

}  // namespace
