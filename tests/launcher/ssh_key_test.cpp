// SPDX-License-Identifier: Apache-2.0
#include "launcher/ssh_key.hpp"

#include "launcher/text_parts.hpp"
#include "tests/support/scratch.hpp"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <memory>

using places::launcher::public_key_of;
using places::launcher::read_ssh_key;
using places::launcher::to_base64;

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

/// A new key as `-----BEGIN PRIVATE KEY-----`, or with a passphrase as one that is encrypted.
std::string pkcs8(EVP_PKEY* made, const char* passphrase) {
    const std::unique_ptr<EVP_PKEY, decltype(&::EVP_PKEY_free)> key(made, &::EVP_PKEY_free);
    const std::unique_ptr<BIO, decltype(&::BIO_free)> to(::BIO_new(::BIO_s_mem()), &::BIO_free);
    EXPECT_EQ(::PEM_write_bio_PKCS8PrivateKey(to.get(), key.get(),
                                              passphrase ? ::EVP_aes_128_cbc() : nullptr,
                                              passphrase, passphrase ? 4 : 0, nullptr, nullptr),
              1);
    char* text = nullptr;
    const auto size = ::BIO_get_mem_data(to.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}
EVP_PKEY* rsa_key() { return ::EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", std::size_t{1024}); }

TEST(ssh_key, kind_is_told_for_pkcs_8_once_its_passphrase_is_there) {
    const scratch_folder folder;
    const auto kind_of = [&](EVP_PKEY* key) {
        return read_ssh_key(folder.put("k", pkcs8(key, nullptr))).kind;
    };
    EXPECT_EQ(kind_of(rsa_key()), "ssh-rsa");
    EXPECT_EQ(kind_of(::EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")), "ssh-ed25519");
    EXPECT_EQ(kind_of(::EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-384")), "ecdsa-sha2-nistp384");
    EXPECT_EQ(kind_of(::EVP_PKEY_Q_keygen(nullptr, nullptr, "X25519")), "");
    const auto locked = folder.put("locked", pkcs8(rsa_key(), "word"));
    EXPECT_TRUE(read_ssh_key(locked).is_locked);
    EXPECT_EQ(read_ssh_key(locked).kind, "");
    EXPECT_EQ(read_ssh_key(locked, "wrong").kind, "");
    EXPECT_EQ(read_ssh_key(locked, "word").kind, "ssh-rsa");
    EXPECT_EQ(read_ssh_key(folder.put("broken", "-----BEGIN PRIVATE KEY-----\nMIIB\n")).kind, "");
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

std::string length_prefixed(const std::string& text) {
    return std::string(3, '\0') + static_cast<char>(text.size()) + text;
}
const std::string public_half =
    length_prefixed("ssh-ed25519") + length_prefixed("thirty-two octets");
const std::string public_line = "ssh-ed25519 " + to_base64(public_half) + " joe@far\n";

TEST(ssh_key, tells_its_public_half_without_its_passphrase) {
    const scratch_folder folder;
    const auto locked = std::string("openssh-key-v1\0", 15) + length_prefixed("aes256-ctr") +
                        length_prefixed("bcrypt") + length_prefixed("") +
                        std::string("\0\0\0\1", 4) + length_prefixed(public_half) +
                        length_prefixed("who knows");
    const auto file =
        folder.put("private", "-----BEGIN OPENSSH PRIVATE KEY-----\n" + to_base64(locked) +
                                  "\n-----END OPENSSH PRIVATE KEY-----\n");
    EXPECT_TRUE(read_ssh_key(file).is_locked);
    EXPECT_EQ(public_key_of(file), public_half);
    EXPECT_EQ(public_key_of(folder.put("one.pub", public_line, 0644)), public_half);
    EXPECT_EQ(public_key_of(folder.path() + "/one"), public_half);
    EXPECT_EQ(public_key_of(folder.put("pem", pem_rsa)), "");
    EXPECT_EQ(public_key_of(folder.put("broken.pub", "ssh-rsa AAAA\n")), "");
    EXPECT_EQ(public_key_of(folder.path() + "/none"), "");
}

const std::string below_others = "# of joe\n\n  \t\nssh-ed25519 AAAA\n" + public_line;

TEST(ssh_key, public_half_is_told_below_comments_and_empty_lines) {
    const scratch_folder folder;
    EXPECT_EQ(public_key_of(folder.put("one.pub", below_others, 0644)), public_half);
    EXPECT_EQ(public_key_of(folder.path() + "/one"), public_half);
    EXPECT_EQ(public_key_of(folder.put("comments.pub", "# " + public_line, 0644)), "");
}

TEST(ssh_key, that_is_a_public_one_is_of_no_use_by_itself) {
    const scratch_folder folder;
    for (const auto& text : {public_line, below_others}) {
        const auto facts = read_ssh_key(folder.put("one.pub", text, 0644));
        EXPECT_FALSE(facts.is_open);
        EXPECT_NE(facts.fault.find("public"), std::string::npos) << facts.fault;
    }
}

}  // namespace
