// SPDX-License-Identifier: Apache-2.0
#include "launcher/ssh_config.hpp"

#include "core/text.hpp"
#include "launcher/ssh_program.hpp"
#include "launcher/text_parts.hpp"
#include "net/digest.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/scratch.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <pwd.h>
#include <unistd.h>
#include <utility>

using places::errc;
using namespace places::launcher;
using checking = ssh_settings::checking;

namespace net = places::net;

namespace {

ssh_settings settings_of(const std::string& text, const host_words& said) {
    const scratch_folder folder;
    return read_ssh_config(said, folder.put("config", text), "/home/me", "me");
}
ssh_settings settings_of(const std::string& text, const std::string& host) {
    return settings_of(text, host_words{host});
}

TEST(host, is_taken_apart_into_user_name_and_port) {
    const auto whole = parse_host("joe@example.org:2222");
    EXPECT_EQ(whole.user, "joe");
    EXPECT_EQ(whole.host, "example.org");
    EXPECT_EQ(whole.port, 2222);
    EXPECT_EQ(parse_host("example.org").port, 0);
    EXPECT_EQ(parse_host("example.org").user, "");
    EXPECT_EQ(parse_host("fe80::1").host, "fe80::1");
    const auto bracketed = parse_host("a@b@[::1]:22");
    EXPECT_EQ(bracketed.user, "a@b");
    EXPECT_EQ(bracketed.host, "::1");
    EXPECT_EQ(bracketed.port, 22);
}

TEST(host, that_is_none_is_refused_naming_it) {
    for (const char* text : {"", "@host", "host:", "host:0", "host:65536", "host:x", "[::1",
                             "[::1]x", "-oProxyCommand=x", "a@-b", "two words", "line\nfeed"}) {
        const auto e = error_of([&] { (void)parse_host(text); });
        EXPECT_EQ(e.code(), errc::bad_argument) << text;
        EXPECT_NE(std::string(e.what()).find(places::detail::printable_text(text)),
                  std::string::npos)
            << e.what();
    }
}

TEST(ssh_config, without_a_word_about_the_host_gives_the_defaults) {
    const auto s = settings_of("Host other\n  Port 99\n", "example.org");
    EXPECT_EQ(s.host_name, "example.org");
    EXPECT_EQ(s.user, "me");
    EXPECT_EQ(s.port, 22);
    EXPECT_EQ(s.identity_files.front(), "/home/me/.ssh/id_ed25519");
    EXPECT_EQ(s.known_hosts_files.front(), "/home/me/.ssh/known_hosts");
    EXPECT_EQ(s.strict, checking::refuse);
    EXPECT_TRUE(s.beyond_us.empty());
}

TEST(ssh_config, gives_the_first_value_and_what_was_said_before_it) {
    const std::string text = "Host web*\n Port 1\n User first\nHost *\n Port=2\n User second\n";
    EXPECT_EQ(settings_of(text, "web1").port, 1);
    EXPECT_EQ(settings_of(text, "web1").user, "first");
    EXPECT_EQ(settings_of(text, "db").port, 2);
    const auto said = settings_of(text, host_words{"web1", "mine", 3});
    EXPECT_EQ(said.port, 3);
    EXPECT_EQ(said.user, "mine");
}

TEST(ssh_config, patterns_take_stars_question_marks_lists_and_exceptions) {
    const std::string text = "Host *.org !bad.org node-?\n Port 7\n";
    EXPECT_EQ(settings_of(text, "good.org").port, 7);
    EXPECT_EQ(settings_of(text, "node-1").port, 7);
    EXPECT_EQ(settings_of(text, "node-12").port, 22);
    EXPECT_EQ(settings_of(text, "bad.org").port, 22);
    EXPECT_EQ(settings_of(text, "org").port, 22);
}

TEST(ssh_config, an_alias_leads_to_its_host_with_tokens_and_home_written_out) {
    const auto s = settings_of(
        "# a comment\n\n  host far\n\tHostName = %h.example.org\n\tUser joe\n"
        "\tIdentityFile ~/keys/%r@%h\n\tIdentityFile \"/a b/%d%%\"\n"
        "\tUserKnownHostsFile ~/a /b%p\n\tStrictHostKeyChecking accept-new\n\tPort 5\n"
        "\tIdentitiesOnly yes # always\n",
        "far");
    EXPECT_EQ(s.host_name, "far.example.org");
    EXPECT_EQ(s.identity_files,
              (std::vector<std::string>{"/home/me/keys/joe@far.example.org", "/a b//home/me%"}));
    EXPECT_EQ(s.known_hosts_files, (std::vector<std::string>{"/home/me/a", "/b5"}));
    EXPECT_EQ(s.strict, checking::accept_new);
    EXPECT_TRUE(s.identities_only);
}

TEST(ssh_config, files_take_tokens_variables_and_the_homes_of_others) {
    std::array<char, 256> name{};
    ASSERT_EQ(::gethostname(name.data(), name.size() - 1), 0);
    const std::string local = name.data();
    const auto file_of = [](const std::string& text) {
        const auto s = settings_of("Host far\n HostName a.org\n Port 5\n User joe\n IdentityFile " +
                                       text + "\n UserKnownHostsFile " + text + "\n",
                                   "far");
        EXPECT_EQ(s.identity_files, s.known_hosts_files);
        return s.identity_files.front();
    };
    EXPECT_EQ(file_of("/%n/%k/%j/%i"), "/far/far//" + std::to_string(::getuid()));
    EXPECT_EQ(file_of("/%l/%L"), "/" + local + "/" + local.substr(0, local.find('.')));
    const auto way = net::to_hex(net::digest_of(net::hash::sha1, local + "a.org5joe"));
    EXPECT_EQ(file_of("/%C"), "/" + way);

    ::setenv("PLACES_TEST_FOLDER", "/a%d", 1);
    EXPECT_EQ(file_of("${PLACES_TEST_FOLDER}/${PLACES_TEST_FOLDER}x"), "/a%d//a%dx");
    ::unsetenv("PLACES_TEST_FOLDER");
    EXPECT_EQ(file_of("/$PLACES_TEST_FOLDER/{}"), "/$PLACES_TEST_FOLDER/{}");
    const auto* root = ::getpwnam("root");
    ASSERT_TRUE(root);
    EXPECT_EQ(file_of("~root/key"), std::string(root->pw_dir) + "/key");
}

TEST(ssh_config, a_token_variable_or_home_that_there_is_not_is_an_error_that_names_it) {
    for (const char* value : {"/%T", "/%", "/${PLACES_NOT_SET}", "/${", "~nobody-of-that-name/k"}) {
        for (const char* name : {"IdentityFile", "UserKnownHostsFile"}) {
            const auto e =
                error_of([&] { (void)settings_of(std::string(name) + " " + value + "\n", "a"); });
            EXPECT_EQ(e.code(), errc::bad_argument) << value;
            EXPECT_NE(std::string(e.what()).find(value), std::string::npos) << e.what();
            EXPECT_NE(std::string(e.what()).find(name), std::string::npos) << e.what();
        }
    }
    // A host's name has %h and %% alone.
    EXPECT_EQ(error_of([] { (void)settings_of("HostName %n.org\n", "a"); }).code(),
              errc::bad_argument);
    EXPECT_EQ(settings_of("HostName fe80::1%%${x}~\n", "a").host_name, "fe80::1%${x}~");
    // What is for other hosts is not looked at.
    EXPECT_EQ(settings_of("Host b\n IdentityFile /%T\n", "a").port, 22);
}

TEST(ssh_config, values_in_quotes_of_either_kind_hold_blanks_and_the_other_kind) {
    EXPECT_EQ(settings_of("IdentityFile '/a \"b\"'\n", "a").identity_files.front(), "/a \"b\"");
    EXPECT_EQ(settings_of("IdentityFile \"/it's\"\n", "a").identity_files.front(), "/it's");
    EXPECT_EQ(settings_of("IdentityFile /a\\ b\\c\\\"\n", "a").identity_files.front(), "/a b\\c\"");
    EXPECT_EQ(settings_of("UserKnownHostsFile '/a b' /c' 'd # it's\n", "a").known_hosts_files,
              (std::vector<std::string>{"/a b", "/c d"}));
    EXPECT_EQ(settings_of("Host 'a' b\n Port '5'\n", "a").port, 5);
}

TEST(ssh_config, no_identity_file_is_no_file_and_not_the_default_ones) {
    EXPECT_TRUE(settings_of("IdentityFile none\n", "a").identity_files.empty());
    EXPECT_EQ(settings_of("IdentityFile None\nIdentityFile /k\n", "a").identity_files,
              (std::vector<std::string>{"/k"}));
}

TEST(ssh_config, switches_take_each_word_that_ssh_takes) {
    const std::pair<const char*, checking> words[] = {
        {"yes", checking::refuse}, {"true", checking::refuse},
        {"ask", checking::refuse}, {"no", checking::off},
        {"false", checking::off},  {"off", checking::off},
        {"OFF", checking::off},    {"accept-new", checking::accept_new}};
    for (const auto& [word, meant] : words) {
        const auto text = "StrictHostKeyChecking " + std::string(word) + "\n";
        EXPECT_EQ(settings_of(text, "a").strict, meant) << word;
        // The first counts, whichever it is.
        EXPECT_EQ(settings_of(text + "StrictHostKeyChecking no\n", "a").strict, meant) << word;
    }
    EXPECT_TRUE(settings_of("IdentitiesOnly true\n", "a").identities_only);
    EXPECT_FALSE(settings_of("IdentitiesOnly no\nIdentitiesOnly yes\n", "a").identities_only);
    for (const char* name : {"StrictHostKeyChecking", "IdentitiesOnly"}) {
        const auto e = error_of([&] { (void)settings_of(std::string(name) + " perhaps\n", "a"); });
        EXPECT_EQ(e.code(), errc::bad_argument) << name;
        EXPECT_NE(std::string(e.what()).find(":1"), std::string::npos) << e.what();
        EXPECT_NE(std::string(e.what()).find("perhaps"), std::string::npos) << e.what();
    }
}

TEST(ssh_config, an_include_counts_for_the_hosts_of_its_block_and_is_found_beside_the_users_own) {
    const scratch_folder home;
    std::filesystem::create_directory(home.path() + "/.ssh");
    (void)home.put(".ssh/more", "Port 9\nHost b\n User included\n");
    const auto config = home.put("config", "Host a\n Include more\n User own\nHost *\n Port 8\n");
    const auto of = [&](const char* host) {
        return read_ssh_config({host}, config, home.path(), "me");
    };
    EXPECT_EQ(of("a").port, 9);
    // A Host line of the included file ends with it.
    EXPECT_EQ(of("a").user, "own");
    EXPECT_EQ(of("b").port, 8);
    EXPECT_EQ(of("b").user, "me");
}

TEST(ssh_config, what_only_the_ssh_command_can_do_is_named_with_its_line) {
    for (const std::string name :
         {"ProxyJump", "ProxyCommand", "CertificateFile", "RevokedHostKeys", "GlobalKnownHostsFile",
          "HostKeyAlias", "IdentityAgent"}) {
        const auto s = settings_of("Host a\n  " + name + " b\n", "a");
        EXPECT_NE(s.beyond_us.find(":2: " + to_lower(name) + " b"), s.beyond_us.npos)
            << s.beyond_us;
        EXPECT_TRUE(settings_of("Host a\n  " + name + " b\n", "c").beyond_us.empty());
    }
    EXPECT_TRUE(
        settings_of("Host a\n ProxyJump none\nHost *\n ProxyJump b\n", "a").beyond_us.empty());
}

TEST(ssh_config, an_include_that_versions_of_ssh_do_not_agree_on_is_for_the_command) {
    for (const std::string pattern : {"/%h.conf", "${HOME}/x"}) {
        const auto s = settings_of("Host a\n Include " + pattern + "\n", "a");
        EXPECT_NE(s.beyond_us.find(":2: include " + pattern), s.beyond_us.npos) << s.beyond_us;
        EXPECT_TRUE(settings_of("Host a\n Include " + pattern + "\n", "b").beyond_us.empty());
    }
}

TEST(ssh_config, other_files_are_included_and_match_blocks_are_not_guessed_at) {
    const scratch_folder folder;
    const auto inner = folder.put("inner.conf", "Host a\n  Port 9\n");
    const auto outer = folder.put("outer", "Match user joe\n  Port 8\nMatch all\n  Include " +
                                               folder.path() + "/*.conf\n  User u\n");
    const auto s = read_ssh_config({"a"}, outer, "/home/me", "me");
    EXPECT_EQ(s.port, 9);
    EXPECT_EQ(s.user, "u");
    EXPECT_NE(s.beyond_us.find("outer:2: port 8"), s.beyond_us.npos) << s.beyond_us;
    // What makes no difference to us may be in one, as in some systems' own configuration.
    EXPECT_TRUE(settings_of("Match final all\n  Ciphers x\n", "a").beyond_us.empty());
    EXPECT_TRUE(settings_of("UserKnownHostsFile none\n", "a").known_hosts_files.empty());
    const auto round = folder.put("round", "Include " + folder.path() + "/round\nUser u\n");
    EXPECT_EQ(read_ssh_config({"a"}, round, "/home/me", "me").user, "u");
}

TEST(ssh_config, a_file_that_was_asked_for_and_is_not_there_is_an_error_and_none_is_none) {
    EXPECT_EQ(
        error_of([] { (void)read_ssh_config({"a"}, "/no/such/file", "/home/me", "me"); }).code(),
        errc::bad_argument);
    EXPECT_EQ(read_ssh_config({"a"}, "none", "/home/me", "me").port, 22);
    EXPECT_EQ(error_of([] { (void)settings_of("Port 70000\n", "a"); }).code(), errc::bad_argument);
}

// -- the ssh command --

TEST(ssh_command, gets_what_was_said_and_asks_for_nothing) {
    const auto argv = ssh_arguments({"ssh -J jump", "far", "joe", 22, "/c", {"/k"}, {"/h"}}, 10);
    const auto has = [&](const std::vector<std::string>& words) {
        return std::search(argv.begin(), argv.end(), words.begin(), words.end()) != argv.end();
    };
    EXPECT_TRUE(has({"ssh", "-J", "jump", "-T", "-o", "BatchMode=yes"}));
    EXPECT_TRUE(has({"-F", "/c"}) && has({"-p", "22"}) && has({"-l", "joe"}) && has({"-i", "/k"}));
    EXPECT_TRUE(has({"-o", "UserKnownHostsFile=\"/h\""}));
    EXPECT_TRUE(has({"-o", "IdentitiesOnly=yes"}));
    for (const char* each :
         {"ControlPath=none", "ClearAllForwardings=yes", "RemoteCommand=none", "LogLevel=ERROR"}) {
        EXPECT_TRUE(has({"-o", each})) << each;
    }
    EXPECT_EQ(argv[argv.size() - 2], "--");
    EXPECT_EQ(argv.back(), "far");
}

TEST(ssh_command, is_taken_apart_as_ssh_takes_its_own_lines_apart) {
    const auto argv = ssh_arguments({"ssh -o 'ProxyCommand nc \"%h\" %p' -F \"/a b\"", "far"}, 10);
    EXPECT_EQ((std::vector<std::string>{argv.begin(), argv.begin() + 5}),
              (std::vector<std::string>{"ssh", "-o", "ProxyCommand nc \"%h\" %p", "-F", "/a b"}));
}

TEST(ssh_command, by_hand_is_a_line_of_shell_that_leads_to_the_same_host) {
    EXPECT_EQ(ssh_by_hand({"ssh", "far"}), "ssh far");
    EXPECT_EQ(ssh_by_hand({"ssh -J jump", "$far", "joe", 22, "/c d", {"/k"}, {"/h", "/it's"}}),
              "ssh -J jump -F '/c d' -p 22 -o 'UserKnownHostsFile=\"/h\" \"/it'\\''s\"' "
              "'joe@$far'");
}

TEST(ssh_command, tells_a_host_key_and_the_line_that_makes_it_known) {
    EXPECT_EQ(
        reported_host_key("places-host-key ORDER NONE h NONE NONE\nplaces-host-key HOSTNAME "
                          "SHA256:f [h]:2 ssh-ed25519 AAAA\r\nHost key verification failed.\n"),
        "; it shows the ssh-ed25519 key SHA256:f, which is in no known_hosts file; if the "
        "fingerprint is right, add this line: [h]:2 ssh-ed25519 AAAA");
    EXPECT_EQ(reported_host_key("Host key verification failed.\n"), "");
    EXPECT_EQ(reported_host_key("places-host-key HOSTNAME SHA256:f h\n"), "");
}

TEST(ssh_command, what_it_says_last_tells_which_error_it_was) {
    EXPECT_EQ(code_of_ssh_words("Host key verification failed."), errc::host_key_unknown);
    EXPECT_EQ(code_of_ssh_words("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @ Host key "
                                "verification failed."),
              errc::host_key_changed);
    EXPECT_EQ(code_of_ssh_words("a@b: Permission denied (publickey)."), errc::auth_refused);
    EXPECT_EQ(code_of_ssh_words("@ WARNING: UNPROTECTED PRIVATE KEY FILE! @ a@b: Permission "
                                "denied (publickey)."),
              errc::bad_key_file);
    EXPECT_EQ(code_of_ssh_words("ssh: connect to host a port 1: Connection refused"),
              errc::port_refused);
    EXPECT_EQ(code_of_ssh_words("ssh: Could not resolve hostname a: x"), errc::host_unreachable);
    EXPECT_EQ(code_of_ssh_words("something else"), errc::ssh_lost);
}

TEST(shell_word, stays_one_word_whatever_is_in_it) {
    EXPECT_EQ(shell_word("a b"), "'a b'");
    EXPECT_EQ(shell_word("it's"), "'it'\\''s'");
    EXPECT_EQ(shell_word(""), "''");
}

}  // namespace
