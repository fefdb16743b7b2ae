// SPDX-License-Identifier: Apache-2.0
// What only the ssh command can do: nodes behind a jump host, and certificates.
#include "tests/node/by_ssh.hpp"
#include "tests/node/entries.hpp"
#include "tests/node/heard.hpp"
#include "tests/support/error_of.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

using places::errc;

namespace {

class ssh_command : public needs_sshd {
  protected:
    static places::remote_node start(const std::string& config, const char* command) {
        return test_runtime().spawn_remote_node(
            "far", {.listen_port = 0, .ssh_config = config, .ssh_command = command});
    }
    /// Of the library, which is told to leave it to the command.
    static void expect_refusal(const std::string& config, const char* what) {
        const auto text = text_of_error(errc::bad_argument, [&] { (void)start(config, ""); });
        EXPECT_NE(text.find(what), text.npos) << text;
        EXPECT_NE(text.find(".ssh_command"), text.npos) << text;
    }
    static std::string content(const std::string& path) {
        std::ifstream in(path);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    static void expect_use(places::remote_node& node) {
        auto place = node.supervise_place(echo_entry);
        EXPECT_EQ(echoed(place, "hello"), "hello");
    }
};

TEST_F(ssh_command, starts_a_node_behind_a_jump_host_and_a_tunnel_carries_the_link) {
    const test_sshd far;
    const test_sshd jump;
    auto text = content(far.config()) + "    ProxyJump jump\n" + content(jump.config());
    text.replace(text.rfind("Host far"), 8, "Host jump");
    const auto config = far.folder() + "/through_jump";
    test_sshd::write_file(config, text);
    expect_refusal(config, "proxyjump");
    {
        auto node = test_runtime().spawn_remote_node(
            "far", {.listen_port = 0, .ssh_config = config, .ssh_command = "ssh", .tunnel = true});
        expect_use(node);
        EXPECT_FALSE(jump.sessions().empty()) << "it went another way";
        EXPECT_FALSE(far.sessions().empty());
    }
    EXPECT_TRUE(far.is_left_alone());
    EXPECT_TRUE(jump.is_left_alone());
}

TEST_F(ssh_command, passes_on_the_hosts_noise_without_its_banner) {
    const scratch_folder texts;
    const auto banner = texts.path() + "/banner";
    test_sshd::write_file(banner, "whoever is not expected here\n");
    const test_sshd far({.lines = {"Banner " + banner}});
    test_sshd::write_file(far.home() + "/.bashrc", "echo noisy error >&2\n");
    auto node = start(far.config(), "ssh");
    expect_use(node);
    EXPECT_FALSE(heard("[far] noisy error").empty());
    EXPECT_EQ(times_heard("whoever is not expected"), 0U);
}

TEST_F(ssh_command, shows_a_certificate_and_believes_that_of_the_host) {
    const scratch_folder authority;
    const auto at = [&](const char* name) { return authority.path() + "/" + name; };
    for (const char* name : {"ca", "host", "other-ca"}) {
        test_sshd::run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at(name)});
    }
    test_sshd::run({"ssh-keygen", "-q", "-s", at("ca"), "-I", "host", "-h", "-n", "127.0.0.1",
                    at("host.pub")});
    const test_sshd far(
        {.lines = {"HostKey " + at("host"), "HostCertificate " + at("host-cert.pub"),
                   "TrustedUserCAKeys " + at("ca.pub"), "AuthorizedKeysFile none"},
         .host_key_type = "ecdsa"});
    const auto user = far.host().substr(0, far.host().find('@'));
    const auto sign = [&](const char* by) {
        test_sshd::run(
            {"ssh-keygen", "-q", "-s", at(by), "-I", "user", "-n", user, far.user_key() + ".pub"});
    };
    sign("ca");
    const auto known = far.folder() + "/authorities";
    test_sshd::write_file(known, "@cert-authority * " + content(at("ca.pub")));
    const auto config = far.folder() + "/with_certificate";
    const auto write_config = [&](const std::string& known_hosts) {
        test_sshd::write_file(config, "Host far\n CertificateFile " + far.user_key() +
                                          "-cert.pub\n UserKnownHostsFile " + known_hosts + "\n" +
                                          content(far.config()));
    };
    write_config(known);
    expect_refusal(config, "certificatefile");
    {
        auto node = start(config, "ssh");
        expect_use(node);
    }
    // Of an authority that the host does not trust, and of one that we do not.
    sign("other-ca");
    (void)text_of_error(errc::auth_refused, [&] { (void)start(config, "ssh"); });
    sign("ca");
    test_sshd::write_file(known, "@cert-authority * " + content(at("other-ca.pub")));
    (void)text_of_error(errc::host_key_unknown, [&] { (void)start(config, "ssh"); });
    EXPECT_TRUE(far.is_left_alone());
}

}  // namespace
