// SPDX-License-Identifier: Apache-2.0
#include "launcher/known_hosts.hpp"

#include "launcher/text_parts.hpp"
#include "tests/support/scratch.hpp"

#include <gtest/gtest.h>

#include <filesystem>

using namespace places::launcher;
using verdict = known_hosts::verdict;

namespace {

std::string key_of(const std::string& kind, const std::string& body) {
    std::string key(3, '\0');
    key += static_cast<char>(kind.size());
    return key + kind + body;
}
const std::string one = key_of("ssh-ed25519", "one");
const std::string two = key_of("ssh-ed25519", "two");
const std::string rsa = key_of("ssh-rsa", "three");

verdict check(const std::string& text, const std::string& host, std::uint16_t port,
              const std::string& key) {
    const scratch_folder folder;
    return known_hosts({folder.put("known_hosts", text)}, host, port).check(key);
}
std::string line(const std::string& names, const std::string& key) {
    return names + " " + kind_of_key(key) + " " + to_base64(key) + " comment\n";
}

TEST(known_hosts, knows_the_key_of_its_host_and_port) {
    EXPECT_EQ(check(line("a", one), "a", 22, one), verdict::known);
    EXPECT_EQ(check(line("a", one), "A", 22, one), verdict::known);
    EXPECT_EQ(check(line("[a]:2222", one), "a", 2222, one), verdict::known);
    EXPECT_EQ(check(line("[a]:2222", one), "a", 22, one), verdict::unknown);
    EXPECT_EQ(check(line("b", one), "a", 22, one), verdict::unknown);
    EXPECT_EQ(check("", "a", 22, one), verdict::unknown);
}

TEST(known_hosts, knows_a_key_without_a_port_for_ports_of_which_none_is_known) {
    EXPECT_EQ(check(line("a", one), "a", 2222, one), verdict::known);
    EXPECT_EQ(check(line("a", one) + line("@revoked [a]:2222", two), "a", 2222, one),
              verdict::known);
    EXPECT_EQ(check(line("a", one) + line("[a]:2222", rsa), "a", 2222, one), verdict::unknown);
    // No more than that: neither does another one change, nor does it stand for the port's own.
    EXPECT_EQ(check(line("a", two), "a", 2222, one), verdict::unknown);
    EXPECT_EQ(check(line("a", one) + line("[a]:2222", two), "a", 2222, one), verdict::changed);
    EXPECT_EQ(check(line("a", one) + line("@revoked a", one), "a", 2222, one), verdict::revoked);
    EXPECT_EQ(check(line("[a]:2222", one) + line("@revoked a", one), "a", 2222, one),
              verdict::revoked);
    const scratch_folder folder;
    const known_hosts known({folder.put("k", line("a", one))}, "a", 2222);
    EXPECT_TRUE(known.kinds().empty());
    EXPECT_EQ(known.where("ssh-ed25519"), "");
}

TEST(known_hosts, another_key_of_the_same_kind_is_a_change_and_of_another_kind_is_unknown) {
    EXPECT_EQ(check(line("a", one), "a", 22, two), verdict::changed);
    EXPECT_EQ(check(line("a", rsa), "a", 22, one), verdict::unknown);
    EXPECT_EQ(check(line("a", two) + line("a", one), "a", 22, one), verdict::known);
    const scratch_folder folder;
    const auto file = folder.put("k", line("#", one) + line("a", rsa) + line("a", one));
    const known_hosts known({file}, "a", 22);
    EXPECT_EQ(known.kinds(), (std::vector<std::string>{"ssh-rsa", "ssh-ed25519"}));
    EXPECT_EQ(known.where("ssh-ed25519"), file + ":3");
}

TEST(known_hosts, takes_lists_patterns_exceptions_and_hashed_names) {
    EXPECT_EQ(check(line("b,*.org,!x.org", one), "a.org", 22, one), verdict::known);
    EXPECT_EQ(check(line("b,*.org,!x.org", one), "x.org", 22, one), verdict::unknown);
    // ssh-keygen -H made this of "localhost".
    const std::string hashed = "|1|lUu0CQkJPU2wP347XvUf1wf8Et4=|/pnF6TADs8qPE98qV8rmEUX2eBQ=";
    EXPECT_EQ(check(line(hashed, one), "localhost", 22, one), verdict::known);
    EXPECT_EQ(check(line(hashed, one), "elsewhere", 22, one), verdict::unknown);
}

TEST(known_hosts, a_revoked_key_is_refused_even_if_another_line_knows_it) {
    EXPECT_EQ(check(line("a", one) + line("@revoked *", one), "a", 22, one), verdict::revoked);
    EXPECT_EQ(check(line("a", one) + line("@revoked *", two), "a", 22, one), verdict::known);
    // A certificate's authority vouches for no key that it has not signed.
    EXPECT_EQ(check(line("@cert-authority *", one), "a", 22, one), verdict::unknown);
}

TEST(known_hosts, tells_the_line_of_the_kind_that_is_asked_for) {
    const scratch_folder folder;
    const auto file = folder.put("known_hosts", line("a", rsa) + line("b", one) + line("a", one));
    const known_hosts known({file}, "a", 22);
    EXPECT_EQ(known.where("ssh-ed25519"), file + ":3");
    EXPECT_EQ(known.where("ssh-rsa"), file + ":1");
    EXPECT_EQ(known.where("ecdsa-sha2-nistp256"), file + ":1");
}

TEST(known_hosts, are_added_as_lines_of_their_own_or_the_file_is_named) {
    const scratch_folder folder;
    const auto file = folder.put("known_hosts", "b ssh-rsa " + to_base64(rsa));  // no line feed
    add_known_host(file, known_hosts_line("a", 22, one), "/none");
    EXPECT_EQ(known_hosts({file}, "a", 22).check(one), verdict::known);
    EXPECT_EQ(known_hosts({file}, "b", 22).check(rsa), verdict::known);
    try {
        add_known_host("/no/such/file", "x", "/none");
        FAIL() << "there is no such folder";
    } catch (const std::system_error& e) {
        EXPECT_NE(std::string(e.what()).find("/no/such/file"), std::string::npos) << e.what();
    }
}

TEST(known_hosts, are_added_in_the_folder_of_ssh_that_is_made_for_them_and_for_nobody_else) {
    const scratch_folder home;
    const auto folder = home.path() + "/.ssh";
    add_known_host(folder + "/known_hosts", known_hosts_line("a", 22, one), folder);
    EXPECT_EQ(known_hosts({folder + "/known_hosts"}, "a", 22).check(one), verdict::known);
    EXPECT_EQ(std::filesystem::status(folder).permissions(), std::filesystem::perms::owner_all);
}

TEST(known_hosts, are_not_added_in_another_folder_that_is_not_there) {
    const scratch_folder home;
    const auto folder = home.path() + "/.ssh";
    for (const char* each : {"/.shh/known_hosts", "/no/such/known_hosts"}) {
        EXPECT_THROW(add_known_host(home.path() + each, "x", folder), std::system_error);
    }
    EXPECT_TRUE(std::filesystem::is_empty(home.path()));
}

TEST(known_hosts, quotes_in_a_line_are_octets_like_others) {
    EXPECT_EQ(check("a ssh-ed25519 " + to_base64(one) + " joe's \"key\n", "a", 22, one),
              verdict::known);
    EXPECT_EQ(check(line("\"a\"", one), "a", 22, one), verdict::unknown);
}

TEST(known_hosts, broken_lines_know_nothing) {
    for (const char* text : {"a", "a ssh-ed25519", "a ssh-ed25519 !!!", "|1| x y", "|1|a|b c d\n",
                             "# a ssh-ed25519 AAAA"}) {
        EXPECT_EQ(check(text, "a", 22, one), verdict::unknown) << text;
    }
}

TEST(known_hosts, tells_the_fingerprint_and_the_line_to_add) {
    EXPECT_EQ(known_hosts_line("a", 2222, one), "[a]:2222 ssh-ed25519 " + to_base64(one));
    EXPECT_EQ(known_hosts_line("a", 22, one), "a ssh-ed25519 " + to_base64(one));
    EXPECT_EQ(fingerprint_of(""), "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU");
    EXPECT_EQ(kind_of_key("\xff\xff\xff\xff"), "");
}

}  // namespace
