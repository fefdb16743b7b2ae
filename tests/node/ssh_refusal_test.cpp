// SPDX-License-Identifier: Apache-2.0
// What goes wrong on the way to another host: each has its code, the other side's words and advice,
// takes no longer than its deadline, and leaves nothing.
#include "net/handshake.hpp"
#include "tests/node/by_ssh.hpp"
#include "tests/node/cutting_proxy.hpp"
#include "tests/node/entries.hpp"
#include "tests/node/heard.hpp"
#include "tests/node/newer_object.hpp"
#include "tests/node/processes.hpp"
#include "tests/support/content_of.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/missing.hpp"

#include <gtest/gtest.h>

#include <libssh2.h>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gnu/libc-version.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using places::errc;

namespace {

class ssh_refusal : public both_ways {
  protected:
    /// Whether RSA keys are no trouble: the command and libssh2 1.11 sign, and check signatures, as
    /// current servers do. Then a node of `far` is up.
    static bool can_do_rsa(const test_sshd& far) {
        if (uses_library() && ::libssh2_version(0x010b00) == nullptr) return false;
        EXPECT_TRUE(test_runtime().spawn_remote_node("far", options_for(far)).is_up());
        return true;
    }
    /// The text of the error, which has the code, names the host, and leaves nothing.
    static std::string refused(const test_sshd& far, errc code, const places::node_options& options,
                               const std::string& host = "far") {
        const auto before = children_of(::getpid());
        const auto begun = std::chrono::steady_clock::now();
        auto text =
            text_of_error(code, [&] { (void)test_runtime().spawn_remote_node(host, options); });
        std::printf("%lld ms: %s\n", ms_since(begun), text.c_str());
        EXPECT_NE(text.find("node " + host), text.npos);
        EXPECT_EQ(children_of(::getpid()), before);
        EXPECT_TRUE(far.is_left_alone());
        EXPECT_TRUE(has_no_copy(far)) << "a copy under way is left";
        return text;
    }
    static std::string refused(const test_sshd& far, errc code) {
        return refused(far, code, options_for(far));
    }
    /// Whole files and lines that start them may stay, for the next start. What begins with a dot
    /// is of a copy under way, itself and its lock, and goes with the guard that made it.
    static bool has_no_copy(const test_sshd& far) {
        if (!std::filesystem::exists(far.cache())) return true;
        for (const auto& each : std::filesystem::directory_iterator(far.cache())) {
            if (each.path().filename().string().starts_with(".")) return false;
        }
        return true;
    }
    /// With one more line of configuration, for these options alone.
    static places::node_options options_with(const test_sshd& far, const std::string& line) {
        auto options = options_for(far);
        options.ssh_config = far.folder() + "/config with a line";
        std::filesystem::copy_file(far.config(), *options.ssh_config,
                                   std::filesystem::copy_options::overwrite_existing);
        std::ofstream(*options.ssh_config, std::ios::app) << "    " << line << "\n";
        return options;
    }
    static void edit_config(const test_sshd& far, const std::string& line) {
        std::ifstream in(far.config());
        const std::string all(std::istreambuf_iterator<char>(in), {});
        test_sshd::write_file(far.config(), all + "    " + line + "\n");
    }
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

std::string public_key(const std::string& file) {
    std::ifstream in(file);
    std::string kind;
    std::string key;
    in >> kind >> key;
    return kind + " " + key;
}

/// A TCP port on loopback where something of ours listens, or is bound and does not.
struct port {
    places::unique_fd socket;
    std::uint16_t number = 0;
    std::string host() const { return "127.0.0.1:" + std::to_string(number); }
};
port make_port(bool listens) {
    port p{places::unique_fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)}, 0};
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof where;
    EXPECT_EQ(::bind(p.socket.get(), reinterpret_cast<sockaddr*>(&where), size), 0);
    EXPECT_EQ(::getsockname(p.socket.get(), reinterpret_cast<sockaddr*>(&where), &size), 0);
    if (listens) {
        EXPECT_EQ(::listen(p.socket.get(), 16), 0);
    }
    p.number = ntohs(where.sin_port);
    return p;
}

// -- the host --

TEST_P(ssh_refusal, of_an_unknown_host_key_tells_its_fingerprint_and_the_line_to_add) {
    const test_sshd far;
    test_sshd::write_file(far.known_hosts(), "");
    const auto text = refused(far, errc::host_key_unknown);
    EXPECT_TRUE(has(text, "ssh-ed25519 key SHA256:")) << text;
    const auto line =
        "[127.0.0.1]:" + std::to_string(far.port()) + " " + public_key(far.folder() + "/host.pub");
    ASSERT_TRUE(has(text, line)) << text;
    // Taken at its word, it works.
    test_sshd::write_file(far.known_hosts(), line + "\n");
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options_for(far)).is_up());
}

TEST_P(ssh_refusal, of_an_unknown_host_key_by_an_older_command_tells_how_to_look_at_it) {
    if (uses_library()) return;
    const test_sshd far;
    const auto known = far.folder() + "/known here";
    test_sshd::write_file(known, "");
    far.put_program("old-ssh", "case $* in *KnownHostsCommand*) exit 255;; esac; exec ssh \"$@\"");
    auto options = options_for(far);
    options.ssh_command = far.bin() + "/old-ssh";
    options.known_hosts_files = {known};
    const auto text = refused(far, errc::host_key_unknown, options);
    const std::string advice = "connect once by hand to look at the fingerprint and accept it: ";
    const auto at = text.find(advice);
    ASSERT_NE(at, text.npos) << text;
    // Done as it says, by who says yes, it works.
    test_sshd::run({"sh", "-c",
                    text.substr(at + advice.size()) + " -o StrictHostKeyChecking=accept-new true"});
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
}

TEST_P(ssh_refusal, of_a_changed_host_key_names_the_line_that_has_another) {
    const test_sshd far;
    test_sshd::write_file(far.known_hosts(), "# first\n[127.0.0.1]:" + std::to_string(far.port()) +
                                                 " " + public_key(far.user_key() + ".pub") + "\n");
    const auto text = refused(far, errc::host_key_changed);
    if (uses_library()) {
        EXPECT_TRUE(has(text, far.known_hosts() + ":2")) << text;
    }
    // Not even where unknown hosts are welcome.
    for (const char* checking : {"accept-new", "no", "off"}) {
        SCOPED_TRACE(checking);
        const auto options = options_with(far, std::string("StrictHostKeyChecking ") + checking);
        (void)refused(far, errc::host_key_changed, options);
    }
}

TEST_P(ssh_refusal, of_a_changed_host_key_by_a_command_that_would_go_on_names_its_option) {
    if (uses_library()) return;
    const test_sshd far;
    auto options = options_for(far);
    options.ssh_command = "ssh -o StrictHostKeyChecking=no";
    const auto text = refused(far, errc::bad_argument, options);
    EXPECT_TRUE(has(text, "StrictHostKeyChecking") && has(text, "accept-new")) << text;
    // One that does not say what is in force is told to take known hosts alone.
    far.put_program("untold", "case $* in *-G*) exit 1;; esac; exec ssh \"$@\"");
    options = options_with(far, "StrictHostKeyChecking no");
    options.ssh_command = far.bin() + "/untold";
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
    test_sshd::write_file(far.known_hosts(), "");
    (void)refused(far, errc::host_key_unknown, options);
}

TEST_P(ssh_refusal, of_a_changed_host_key_does_not_wait_for_the_command_to_find_another_setting) {
    if (uses_library()) return;
    const test_sshd far;
    test_sshd::write_file(far.known_hosts(), "[127.0.0.1]:" + std::to_string(far.port()) + " " +
                                                 public_key(far.user_key() + ".pub") + "\n");
    // What asks for the configuration sees another one than what logs in.
    edit_config(far,
                "Match exec \"! grep -qzx -e -G /proc/$PPID/cmdline\"\n"
                "    StrictHostKeyChecking no");
    (void)refused(far, errc::host_key_changed);
}

TEST_P(ssh_refusal, of_a_changed_host_key_does_not_spare_this_host) {
    if (uses_library()) return;
    const test_sshd far;
    test_sshd::write_file(far.known_hosts(), "[127.0.0.1]:" + std::to_string(far.port()) + " " +
                                                 public_key(far.user_key() + ".pub") + "\n");
    edit_config(far, "NoHostAuthenticationForLocalhost yes");
    (void)refused(far, errc::host_key_changed);
}

TEST_P(ssh_refusal, by_a_command_that_is_set_to_say_nothing_has_the_same_code) {
    if (uses_library()) return;
    for (const char* level : {"QUIET", "FATAL"}) {
        SCOPED_TRACE(level);
        const test_sshd far;
        edit_config(far, std::string("Host *\n    LogLevel ") + level);
        const auto known = "[127.0.0.1]:" + std::to_string(far.port()) + " ";
        test_sshd::write_file(far.known_hosts(), "");
        EXPECT_TRUE(has(refused(far, errc::host_key_unknown), "add this line: " + known));
        test_sshd::write_file(far.known_hosts(), known + public_key(far.user_key() + ".pub"));
        EXPECT_FALSE(has(refused(far, errc::host_key_changed), "add this line"));
        test_sshd::write_file(far.known_hosts(), known + public_key(far.folder() + "/host.pub"));
        std::filesystem::rename(far.user_key(), far.folder() + "/elsewhere");
        (void)refused(far, errc::auth_refused);
        const auto silent = make_port(false);
        (void)refused(far, errc::port_refused, options_for(far), silent.host());
    }
}

TEST_P(ssh_refusal, of_another_kind_of_key_for_a_known_host_whatever_is_set) {
    if (!uses_library()) return;
    const test_sshd far;
    test_sshd::run({"ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", far.folder() + "/other"});
    test_sshd::write_file(far.known_hosts(), "[127.0.0.1]:" + std::to_string(far.port()) + " " +
                                                 public_key(far.folder() + "/other.pub") + "\n");
    edit_config(far, "StrictHostKeyChecking no");
    EXPECT_TRUE(has(refused(far, errc::host_key_changed), far.known_hosts() + ":1"));
}

TEST_P(ssh_refusal, of_a_host_known_by_an_rsa_key_alone_does_not_say_that_it_has_changed) {
    const scratch_folder keys;
    const auto other = keys.path() + "/other";
    test_sshd::run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other});
    const test_sshd far({.lines = {"HostKey " + other}, .host_key_type = "rsa"});
    if (can_do_rsa(far)) return;
    edit_config(far, "StrictHostKeyChecking accept-new");
    const auto text = refused(far, errc::host_key_unknown);
    EXPECT_TRUE(has(text, "ssh-ed25519 key SHA256:") && has(text, public_key(other + ".pub")))
        << text;
    EXPECT_TRUE(has(text, "ssh-rsa") && has(text, far.known_hosts() + ":1")) << text;
    EXPECT_TRUE(has(text, ".ssh_command")) << text;
    EXPECT_FALSE(has(text, "in between")) << text;
}

TEST_P(ssh_refusal, of_a_host_that_has_an_rsa_key_alone_names_the_command) {
    const test_sshd far({.host_key_type = "rsa"});
    if (can_do_rsa(far)) return;
    const auto text = refused(far, errc::ssh_lost);
    EXPECT_TRUE(has(text, "no method in common") && has(text, ".ssh_command")) << text;
}

TEST_P(ssh_refusal, does_not_happen_to_an_unknown_host_where_new_ones_are_accepted) {
    const test_sshd far;
    test_sshd::write_file(far.known_hosts(), "");
    edit_config(far, "StrictHostKeyChecking accept-new");
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options_for(far)).is_up());
    std::ifstream in(far.known_hosts());
    const std::string all(std::istreambuf_iterator<char>(in), {});
    EXPECT_FALSE(all.empty());
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options_for(far)).is_up());
}

TEST_P(ssh_refusal, does_not_happen_to_a_command_whose_own_words_end_the_options_of_another) {
    if (uses_library()) return;
    const test_sshd far;
    test_sshd::write_file(far.known_hosts(), "");
    auto options = options_with(far, "StrictHostKeyChecking accept-new");
    options.ssh_command = "env -- ssh";
    options.tunnel = true;
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
}

TEST_P(ssh_refusal, does_not_happen_to_a_command_that_starts_what_keeps_its_streams) {
    if (uses_library()) return;
    const test_sshd far;
    const auto helpers = far.folder() + "/helpers";
    far.put_program("helped", "sleep 1000 & echo $! >>'" + helpers + "'; exec ssh \"$@\"");
    auto options = options_for(far);
    options.ssh_command = far.bin() + "/helped";
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
    std::ifstream all(helpers);
    for (pid_t each = 0; all >> each;) ::kill(each, SIGKILL);
}

TEST_P(ssh_refusal, of_a_command_that_does_not_say_what_it_has_in_force_gives_its_words) {
    if (uses_library()) return;
    const test_sshd far;
    far.put_program("asking", "echo what now >&2; exec sleep 1000");
    auto options = options_for(far);
    options.ssh_command = far.bin() + "/asking";
    options.stage_deadline = 500ms;
    const auto text = refused(far, errc::ssh_lost, options);
    EXPECT_TRUE(has(text, "500 ms while asking what") && has(text, "what now")) << text;
}

TEST_P(ssh_refusal, does_not_happen_to_an_unknown_host_where_nobody_looks_at_its_key) {
    const test_sshd far;
    test_sshd::write_file(far.known_hosts(), "");
    edit_config(far, "StrictHostKeyChecking no");
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options_for(far)).is_up());
    // The command adds it, the library does not.
    EXPECT_EQ(std::filesystem::file_size(far.known_hosts()) == 0, uses_library());
}

TEST_P(ssh_refusal, of_an_unknown_host_where_no_file_is_to_know_it_whatever_is_set) {
    for (const char* checking : {"accept-new", "no"}) {
        SCOPED_TRACE(checking);
        const test_sshd far;
        test_sshd::run(
            {"sed", "-i", "s,UserKnownHostsFile .*,UserKnownHostsFile none,", far.config()});
        edit_config(far, std::string("StrictHostKeyChecking ") + checking);
        const auto text = refused(far, errc::host_key_unknown);
        EXPECT_TRUE(has(text, public_key(far.folder() + "/host.pub"))) << text;
    }
}

TEST_P(ssh_refusal, does_not_happen_to_a_host_whose_key_is_known_without_a_port) {
    const test_sshd far;
    test_sshd::write_file(far.known_hosts(),
                          "127.0.0.1 " + public_key(far.folder() + "/host.pub") + "\n");
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options_for(far)).is_up());
    test_sshd::write_file(far.known_hosts(),
                          "127.0.0.1 " + public_key(far.user_key() + ".pub") + "\n");
    (void)refused(far, errc::host_key_unknown);
}

TEST_P(ssh_refusal, of_a_key_without_a_port_where_one_of_another_kind_is_known_of_the_port) {
    const test_sshd far;
    test_sshd::run({"ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", far.folder() + "/other"});
    test_sshd::write_file(far.known_hosts(), "127.0.0.1 " + public_key(far.folder() + "/host.pub") +
                                                 "\n[127.0.0.1]:" + std::to_string(far.port()) +
                                                 " " + public_key(far.folder() + "/other.pub") +
                                                 "\n");
    (void)refused(far, errc::host_key_changed);
}

TEST_P(ssh_refusal, of_a_port_where_nobody_listens) {
    const test_sshd far;
    const auto silent = make_port(false);
    (void)refused(far, errc::port_refused, options_for(far), silent.host());
}

/// Another text in a file of this host's, for this process and whatever it starts.
class covered_file {
  public:
    covered_file(const test_sshd& far, const std::string& path, const std::string& text)
        : path_(path) {
        const auto by = far.folder() + "/" + std::filesystem::path(path).filename().string();
        test_sshd::write_file(by, text);
        covers_ = ::unshare(CLONE_NEWNS) == 0 &&
                  ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                  ::mount(by.c_str(), path_.c_str(), nullptr, MS_BIND, nullptr) == 0;
    }
    ~covered_file() {
        if (covers_) ::umount2(path_.c_str(), MNT_DETACH);
    }
    covered_file(const covered_file&) = delete;
    covered_file& operator=(const covered_file&) = delete;
    bool covers() const noexcept { return covers_; }

  private:
    std::string path_;
    bool covers_ = false;
};

// A group of hosts: TCP knows no way there, whatever the routes; it is tried after the other.
constexpr const char* one_without_a_route = "127.0.0.1 two.test\n224.0.0.1 two.test\n";

TEST_P(ssh_refusal, of_a_port_by_one_address_counts_whatever_the_others_of_the_host_lead_to) {
    const test_sshd far;
    const covered_file hosts(far, "/etc/hosts", one_without_a_route);
    if (!hosts.covers()) return lacks("no mount namespace here");
    const auto silent = make_port(false);
    const auto host = "two.test:" + std::to_string(silent.number);
    const auto text = refused(far, errc::port_refused, options_for(far), host);
    EXPECT_TRUE(has(text, "two.test") && has(text, "127.0.0.1")) << text;
}

TEST_P(ssh_refusal, of_a_host_that_no_name_server_knows) {
    const test_sshd far;
    const auto text =
        refused(far, errc::host_unreachable, options_for(far), "no-such-host.invalid:2222");
    EXPECT_TRUE(has(text, "no-such-host.invalid:2222")) << text;
}

TEST_P(ssh_refusal, of_an_address_that_no_route_leads_to) {
    const test_sshd far;
    // A group of hosts: TCP knows no way there.
    const auto text = refused(far, errc::host_unreachable, options_for(far), "224.0.0.1");
    EXPECT_TRUE(has(text, "unreachable") && has(text, "224.0.0.1")) << text;
    if (uses_library()) {
        EXPECT_TRUE(has(text, "224.0.0.1:22")) << text;
    }
}

/// Has the address 127.0.0.1 for whatever name it is asked for; another that says nothing is asked
/// first. Its thread ends with it.
class name_servers {
  public:
    static constexpr const char* configuration = "nameserver 127.53.0.1\nnameserver 127.53.0.2\n";
    name_servers() {
        bind(silent_, 1);
        bind(answering_, 2);
        if (are_there_) thread_ = std::thread([this] { answer(); });
    }
    ~name_servers() {
        ::eventfd_write(end_.get(), 1);
        if (thread_.joinable()) thread_.join();
    }
    name_servers(const name_servers&) = delete;
    name_servers& operator=(const name_servers&) = delete;
    bool are_there() const noexcept { return are_there_; }

  private:
    void bind(places::unique_fd& socket, std::uint32_t last) {
        socket = places::unique_fd{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
        sockaddr_in where{};
        where.sin_family = AF_INET;
        where.sin_addr.s_addr = htonl(0x7f350000U + last);
        where.sin_port = htons(53);
        are_there_ = are_there_ &&
                     ::bind(socket.get(), reinterpret_cast<sockaddr*>(&where), sizeof where) == 0;
    }
    /// Source: RFC 1035, 4.1: a header of 12 octets, then the question, then answers.
    void answer() const {
        std::array<pollfd, 2> news{pollfd{end_.get(), POLLIN, 0},
                                   pollfd{answering_.get(), POLLIN, 0}};
        while (::poll(news.data(), news.size(), -1) > 0 && !news[0].revents) {
            std::string message(512, '\0');
            sockaddr_in who{};
            socklen_t size = sizeof who;
            const auto got = ::recvfrom(answering_.get(), message.data(), message.size(), 0,
                                        reinterpret_cast<sockaddr*>(&who), &size);
            if (got < 17) continue;
            message.resize(std::min(static_cast<std::size_t>(got), message.find('\0', 12) + 5));
            const bool wants_ipv4 = message[message.size() - 3] == 1;
            message[2] = '\x81';  // an answer, to a question that asks for recursion
            message[3] = '\x80';
            message.replace(6, 6, std::string(6, '\0'));
            if (wants_ipv4) {
                message[7] = 1;
                message += std::string("\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x7f\0\0\1", 16);
            }
            ::sendto(answering_.get(), message.data(), message.size(), 0,
                     reinterpret_cast<sockaddr*>(&who), size);
        }
    }

    bool are_there_ = true;
    places::unique_fd silent_;
    places::unique_fd answering_;
    places::unique_fd end_{::eventfd(0, EFD_CLOEXEC)};
    std::thread thread_;
};

TEST_P(ssh_refusal, of_a_name_that_is_told_late_ends_with_a_step_deadline_that_allows_for_it) {
    if (!uses_library()) return;
    const name_servers servers;
    if (!servers.are_there()) return lacks("port 53 is not to be had here");
    const test_sshd far;
    const covered_file resolving(far, "/etc/resolv.conf", name_servers::configuration);
    if (!resolving.covers()) return lacks("no mount namespace here");
    const auto host = "late.test:" + std::to_string(far.port());
    auto options = options_for(far);
    options.identity_files = {far.user_key()};
    options.known_hosts_files = {far.folder() + "/known late"};
    test_sshd::write_file(options.known_hosts_files[0],
                          "late.test " + public_key(far.folder() + "/host.pub") + "\n");
    // The second one is asked after five seconds.
    const auto text = refused(far, errc::host_unreachable, options, host);
    EXPECT_TRUE(has(text, "4000 ms while asking for the address of late.test")) << text;
    EXPECT_TRUE(has(text, "stage_deadline")) << text;
    options.stage_deadline = 11s;
    EXPECT_TRUE(test_runtime().spawn_remote_node(host, options).is_up());
}

/// A TCP port on loopback at which the kernel answers nobody: nobody accepts, and the queue is
/// full.
class mute_port {
  public:
    mute_port() {
        sockaddr_in where{};
        where.sin_family = AF_INET;
        where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        where.sin_port = htons(port_.number);
        EXPECT_EQ(::listen(port_.socket.get(), 0), 0);
        int got = 0;
        while (got == 0 && waiting_.size() < 100) {
            waiting_.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
            got =
                ::connect(waiting_.back().get(), reinterpret_cast<sockaddr*>(&where), sizeof where);
        }
        is_mute_ = got != 0 && errno == EINPROGRESS;
    }
    bool is_mute() const noexcept { return is_mute_; }
    std::uint16_t number() const noexcept { return port_.number; }
    std::string host() const { return port_.host(); }

  private:
    port port_ = make_port(true);
    std::vector<places::unique_fd> waiting_;
    bool is_mute_ = false;
};

TEST_P(ssh_refusal, of_a_host_that_does_not_answer_waits_for_less_than_a_whole_step) {
    if (!uses_library()) return;
    const test_sshd far;
    const mute_port mute;
    ASSERT_TRUE(mute.is_mute());
    const auto text = refused(far, errc::host_unreachable, options_for(far), mute.host());
    EXPECT_TRUE(has(text, "4000 ms while connecting to " + mute.host())) << text;
}

TEST_P(ssh_refusal, of_an_address_that_does_not_answer_counts_where_no_route_leads_to_the_last) {
    if (!uses_library()) return;
    const test_sshd far;
    const covered_file hosts(far, "/etc/hosts", one_without_a_route);
    if (!hosts.covers()) return lacks("no mount namespace here");
    const mute_port mute;
    ASSERT_TRUE(mute.is_mute());
    const auto host = "two.test:" + std::to_string(mute.number());
    const auto text = refused(far, errc::host_unreachable, options_for(far), host);
    EXPECT_TRUE(has(text, "(127.0.0.1): Connection timed out")) << text;
}

TEST_P(ssh_refusal, of_a_server_that_says_nothing_keeps_its_deadline) {
    const test_sshd far;
    const auto silent = make_port(true);
    auto options = options_for(far);
    options.stage_deadline = 300ms;
    const auto begun = std::chrono::steady_clock::now();
    const auto text = refused(far, errc::ssh_lost, options, silent.host());
    EXPECT_GE(std::chrono::steady_clock::now() - begun, 300ms);
    if (uses_library()) {
        EXPECT_TRUE(has(text, "300 ms")) << text;
    }
}

TEST_P(ssh_refusal, of_a_copy_that_stands_still_keeps_its_deadline) {
    const test_sshd far({.lines = {"Subsystem sftp quiet-sftp"}, .has_sftp = false});
    // It says that it speaks SFTP 3, and nothing more.
    far.put_program("quiet-sftp",
                    "printf '\\000\\000\\000\\005\\002\\000\\000\\000\\003'; exec cat >/dev/null");
    if (!uses_library()) return;
    auto options = options_for(far);
    options.stage_deadline = 1s;
    const auto text = refused(far, errc::ssh_lost, options);
    EXPECT_TRUE(has(text, "1000 ms") && has(text, "copying")) << text;
}

TEST_P(ssh_refusal, of_a_copy_whose_check_comes_to_no_end_keeps_a_deadline_by_its_size) {
    if (!uses_library()) return;
    const test_sshd far;
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options_for(far)).is_up());
    // The program is looked at, and the check of the module hangs.
    far.put_program("sha256sum", "mkdir '" + far.folder() +
                                     "/once' 2>/dev/null && exec /usr/bin/sha256sum \"$@\"; "
                                     "exec sleep 10");
    auto options = options_for(far);
    options.modules = {NODE_MODULE};
    options.stage_deadline = 2s;
    const auto text = refused(far, errc::ssh_lost, options);
    EXPECT_TRUE(has(text, "2000 ms while checking")) << text;
}

TEST_P(ssh_refusal, of_a_jump_host_that_says_nothing_leaves_no_program_that_waits_for_it) {
    if (uses_library()) return;
    const test_sshd far;
    // As ssh with a jump host: another program of its own that hears of no end.
    const auto told = far.folder() + "/told";
    far.put_program("jumping",
                    "sleep 1000 </dev/null >/dev/null 2>&1 & "
                    "echo $! >" +
                        told + "; exec sleep 1000");
    auto options = options_for(far);
    options.ssh_command = far.bin() + "/jumping";
    options.stage_deadline = 500ms;
    (void)refused(far, errc::ssh_lost, options);
    pid_t waiting = 0;
    ASSERT_TRUE(std::ifstream(told) >> waiting);
    EXPECT_TRUE(ends(watch(waiting)));
}

// -- the key --

TEST_P(ssh_refusal, of_our_key_names_it_and_what_the_host_offers) {
    const test_sshd far;
    test_sshd::run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", far.folder() + "/other"});
    auto options = options_for(far);
    options.identity_files = {far.folder() + "/other"};
    edit_config(far, "IdentityFile none");
    std::filesystem::remove(far.user_key());
    const auto text = refused(far, errc::auth_refused, options);
    EXPECT_TRUE(has(text, "publickey")) << text;
    if (uses_library()) {
        EXPECT_TRUE(has(text, far.folder() + "/other")) << text;
    }
}

TEST_P(ssh_refusal, of_a_private_key_that_others_may_read_names_it_and_what_to_do) {
    const test_sshd far;
    ASSERT_EQ(::chmod(far.user_key().c_str(), 0644), 0);
    const auto text = refused(far, errc::bad_key_file);
    EXPECT_TRUE(has(text, far.user_key()) && has(text, "chmod 600")) << text;
}

/// Takes connections for a key agent's, and says nothing; whoever looks for one finds it meanwhile.
class silent_agent {
  public:
    explicit silent_agent(const test_sshd& far)
        : path_(far.folder() + "/agent"),
          socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un where{};
        where.sun_family = AF_UNIX;
        path_.copy(where.sun_path, sizeof where.sun_path - 1);
        EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&where), sizeof where), 0);
        EXPECT_EQ(::listen(socket_.get(), 16), 0);
        ::setenv("SSH_AUTH_SOCK", path_.c_str(), 1);
    }
    ~silent_agent() { ::unsetenv("SSH_AUTH_SOCK"); }
    silent_agent(const silent_agent&) = delete;
    silent_agent& operator=(const silent_agent&) = delete;
    const std::string& path() const noexcept { return path_; }

  private:
    std::string path_;
    places::unique_fd socket_;
};

TEST_P(ssh_refusal, by_a_key_agent_that_says_nothing_keeps_the_deadline_and_names_it) {
    if (!uses_library()) return;
    const test_sshd far;
    const silent_agent agent(far);
    auto options = options_for(far);
    options.stage_deadline = 2s;  // which connecting and agreeing on keys have to keep as well
    const auto begun = std::chrono::steady_clock::now();
    const auto text = refused(far, errc::auth_refused, options);
    EXPECT_GE(std::chrono::steady_clock::now() - begun, 2s);
    EXPECT_TRUE(has(text, "2000 ms") && has(text, agent.path())) << text;
    EXPECT_FALSE(has(text, "is the host up")) << text;
}

TEST_P(ssh_refusal, of_an_rsa_key_says_what_the_library_cannot_do_and_the_command_can) {
    const test_sshd far({.user_key_type = "rsa"});
    if (can_do_rsa(far)) return;
    for (const char* form : {"RFC4716", "PEM", "PKCS8"}) {
        SCOPED_TRACE(form);
        test_sshd::run(
            {"ssh-keygen", "-q", "-p", "-P", "", "-N", "", "-m", form, "-f", far.user_key()});
        const auto text = refused(far, errc::key_unsupported);
        EXPECT_TRUE(has(text, "RSA") && has(text, "ed25519") && has(text, "ssh_command")) << text;
    }
}

TEST_P(ssh_refusal, of_a_passphrase_for_the_command_which_asks_for_none_names_the_agent) {
    if (uses_library()) return;
    const test_sshd far;
    auto options = options_for(far);
    options.passphrase = [](const std::string&) { return "open sesame"; };
    const auto text = refused(far, errc::bad_argument, options);
    EXPECT_TRUE(has(text, ".passphrase") && has(text, "ssh-add")) << text;
    // Nor is there anybody to type it.
    test_sshd::run({"ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", far.user_key()});
    EXPECT_TRUE(has(refused(far, errc::auth_refused), "ssh-add"));
}

TEST_P(ssh_refusal, of_what_only_the_ssh_command_can_do_names_it) {
    const test_sshd far;
    edit_config(far, "ProxyCommand sh -c 'exec nc %h %p'");
    if (!uses_library()) return;
    const auto text = refused(far, errc::bad_argument);
    EXPECT_TRUE(has(text, "proxycommand") && has(text, "ssh_command")) << text;
}

// -- the program --

TEST_P(ssh_refusal, of_another_processor_or_c_library_names_both_and_copies_nothing) {
    const test_sshd far;
    far.put_program("uname", "echo aarch64");
    auto text = refused(far, errc::wrong_architecture);
    EXPECT_TRUE(has(text, "x86_64") && has(text, "aarch64")) << text;
    far.put_program("uname", "exec /bin/uname \"$@\"");
    far.put_program("getconf", "echo glibc 2.17");
    text = refused(far, errc::wrong_architecture);
    EXPECT_TRUE(has(text, "glibc 2.17") && has(text, "or later")) << text;
    far.put_program("getconf", "exit 1");
    far.put_program("ldd", "echo 'musl libc (x86_64)' >&2; exit 1");
    text = refused(far, errc::wrong_architecture);
    EXPECT_TRUE(has(text, "musl") && has(text, "glibc")) << text;
    EXPECT_FALSE(std::filesystem::exists(far.cache()));
}

TEST_P(ssh_refusal, of_a_host_without_the_program_s_loader_names_it_and_copies_nothing) {
    const test_sshd far;
    // In every command the loader's path is another one.
    far.put_program("sh",
                    "script=$(printf %s \"$2\" | /bin/sed 's,/ld-linux,/no-ld-linux,g'); "
                    "exec /bin/sh -c \"$script\"");
    const auto text = refused(far, errc::wrong_architecture);
    EXPECT_TRUE(has(text, "/ld-linux")) << text;
    EXPECT_FALSE(std::filesystem::exists(far.cache()));
}

TEST_P(ssh_refusal, does_not_happen_to_a_host_of_32_bits_that_has_the_program_s_loader) {
    const test_sshd far;
    far.put_program("getconf",
                    "case $1 in LONG_BIT) echo 32;; *) exec /usr/bin/getconf \"$@\";; esac");
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options_for(far)).is_up());
}

TEST_P(ssh_refusal, does_not_happen_to_a_host_that_allows_for_two_sessions_on_a_connection) {
    if (!uses_library()) return;
    for (const bool has_sftp : {true, false}) {
        SCOPED_TRACE(has_sftp);
        const test_sshd far({.lines = {"MaxSessions 2"}, .has_sftp = has_sftp});
        auto options = options_for(far);
        options.modules = {NODE_MODULE, LINKED_MODULE};
        options.tunnel = true;
        EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
    }
}

TEST_P(ssh_refusal, of_a_second_session_on_a_connection_says_so_and_names_the_command) {
    const test_sshd far({.lines = {"MaxSessions 1"}});
    if (uses_library()) {
        const auto text = refused(far, errc::ssh_lost);
        EXPECT_TRUE(has(text, "MaxSessions") && has(text, ".ssh_command")) << text;
        EXPECT_FALSE(has(text, "was lost")) << text;
    } else {
        EXPECT_TRUE(test_runtime().spawn_remote_node("far", options_for(far)).is_up());
    }
}

TEST_P(ssh_refusal, of_every_session_on_a_connection_does_not_speak_of_another) {
    if (!uses_library()) return;
    const test_sshd far({.lines = {"MaxSessions 0"}});
    const auto text = refused(far, errc::ssh_lost);
    EXPECT_TRUE(has(text, "no session") && has(text, "MaxSessions")) << text;
}

TEST_P(ssh_refusal, of_a_module_for_a_newer_c_library_gives_the_words_of_the_loader_there) {
    const test_sshd far;
    auto options = options_for(far);
    options.modules = {for_a_newer_c_library(NODE_MODULE, far.folder() + "/newer.so")};
    const auto text = refused(far, errc::wrong_architecture, options);
    EXPECT_TRUE(has(text, "/newer.so)") && has(text, "`GLIBC_9.")) << text;
    EXPECT_TRUE(has(text, std::string("C library, glibc ") + ::gnu_get_libc_version())) << text;
}

TEST_P(ssh_refusal, of_a_library_that_neither_side_has_names_it) {
    const test_sshd far;
    far.put_program("ldd", "echo '\tlibnowhere.so.1 => not found'");
    EXPECT_TRUE(has(refused(far, errc::load_failed), "libnowhere.so.1"));
}

TEST_P(ssh_refusal, of_a_module_that_needs_a_library_by_its_path_says_so_and_copies_nothing) {
    const test_sshd far;
    auto options = options_for(far);
    options.modules = {PATH_MODULE};
    // Where the host has it at that path, it is found.
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
    std::filesystem::remove_all(far.cache());
    const std::string known = NO_SONAME;
    const auto unknown = known.substr(0, known.size() - 3) + ".no";
    auto octets = content_of(PATH_MODULE);
    ASSERT_NE(octets.find(known), octets.npos);
    octets.replace(octets.find(known), known.size(), unknown);
    options.modules = {far.folder() + "/module.so"};
    test_sshd::write_file(options.modules[0], octets);
    const auto text = refused(far, errc::load_failed, options);
    EXPECT_TRUE(has(text, options.modules[0] + " needs " + unknown)) << text;
    EXPECT_TRUE(has(text, "soname")) << text;
    EXPECT_TRUE(std::filesystem::is_empty(far.cache()));
}

TEST_P(ssh_refusal, of_a_library_that_another_needs_by_its_path_says_so) {
    const test_sshd far;
    far.put_program("ldd", "echo '\t/nowhere/libnowhere.so => not found'");
    const auto text = refused(far, errc::load_failed);
    EXPECT_TRUE(has(text, "/nowhere/libnowhere.so") && has(text, "soname")) << text;
}

TEST_P(ssh_refusal, does_not_happen_to_a_library_that_only_this_side_has) {
    const test_sshd far;
    // Lacking until the folder that it is copied to is in the loader's path.
    far.put_program("ldd",
                    "case $LD_LIBRARY_PATH in '') echo '\tlibssh2.so.1 => not found';; esac");
    auto node = test_runtime().spawn_remote_node("far", options_for(far));
    auto facts = node.supervise_place<facts_server>();
    EXPECT_TRUE(has(facts.variable("LD_LIBRARY_PATH"), far.cache()));
    std::ifstream maps("/proc/" + std::to_string(facts.pid()) + "/maps");
    const std::string all(std::istreambuf_iterator<char>(maps), {});
    EXPECT_TRUE(has(all, "/libssh2.so.1\n"));
}

TEST_P(ssh_refusal, of_a_module_with_the_name_of_another_file_names_both) {
    const test_sshd far;
    const auto put = [&](const char* from, const std::string& name) {
        const auto path = far.folder() + "/" + name;
        std::filesystem::create_directory(std::filesystem::path(path).parent_path());
        std::filesystem::copy_file(from, path);
        return path;
    };
    const auto first = put(NODE_MODULE, "first/m.so");
    const auto second = put(LINKED_MODULE, "second/m.so");
    auto options = options_for(far);
    options.modules = {first, second};
    auto text = refused(far, errc::bad_argument, options);
    EXPECT_TRUE(has(text, first) && has(text, second)) << text;
    options.modules = {put(NODE_MODULE, "library/libssh2.so.1")};
    text = refused(far, errc::bad_argument, options);
    EXPECT_TRUE(has(text, options.modules[0]) && has(text, "/lib")) << text;
    const auto program = std::filesystem::read_symlink("/proc/self/exe").string();
    options.modules = {put(NODE_MODULE, "program/" + program.substr(program.rfind('/') + 1))};
    text = refused(far, errc::bad_argument, options);
    EXPECT_TRUE(has(text, options.modules[0]) && has(text, program)) << text;
    // One file by two paths is one module.
    options.modules = {first, far.folder() + "/second/../first/m.so"};
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
}

TEST_P(ssh_refusal, does_not_happen_here_to_modules_of_one_name_that_are_found_by_their_paths) {
    if (!uses_library()) return;
    const scratch_folder folder;
    const auto put = [&](const char* from, const std::string& name) {
        std::filesystem::create_directory(folder.path() + "/" + name);
        const auto path = folder.path() + "/" + name + "/m.so";
        std::filesystem::copy_file(from, path);
        return path;
    };
    const auto first = put(NODE_MODULE, "first");
    const auto second = put(LINKED_MODULE, "second");
    auto node = test_runtime().spawn_remote_node("localhost",
                                                 {.listen_port = 0, .modules = {first, second}});
    auto greets = node.supervise_place(places::library{first, "module_greet"});
    EXPECT_EQ(echoed(greets, "hello"), "module says hello");
    auto reads = node.supervise_place(places::library{second, "module_reads"});
    EXPECT_EQ(echoed(reads, "?"), "first");
}

TEST_P(ssh_refusal, of_a_cache_that_may_not_be_written_gives_the_hosts_words) {
    // Nobody may make a folder there, not even root.
    const test_sshd far;
    test_sshd::write_file(far.home() + "/.bashrc", "export XDG_CACHE_HOME=/sys\n");
    const auto text = refused(far, errc::no_permission);
    EXPECT_TRUE(has(text, "/sys/places")) << text;
}

TEST_P(ssh_refusal, of_a_full_disk_gives_the_hosts_words_and_leaves_no_part) {
    const test_sshd far;
    const auto disk = far.folder() + "/disk";
    std::filesystem::create_directory(disk);
    if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=64k") != 0) {
        return lacks(std::string("the kernel gives us no small disk: ") + std::strerror(errno));
    }
    test_sshd::write_file(far.home() + "/.bashrc", "export XDG_CACHE_HOME=" + disk + "\n");
    const auto text = refused(far, errc::no_space);
    EXPECT_TRUE(has(text, "No space left on device")) << text;
    EXPECT_TRUE(std::filesystem::is_empty(disk + "/places"));
    EXPECT_EQ(::umount2(disk.c_str(), MNT_DETACH), 0);
}

TEST_P(ssh_refusal, of_a_cache_that_others_may_write_to_runs_nothing_of_it) {
    if (!uses_library()) return;
    const test_sshd far;
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options_for(far)).is_up());
    std::filesystem::permissions(far.cache(), std::filesystem::perms::all);
    EXPECT_TRUE(has(refused(far, errc::no_permission), far.cache()));
}

TEST_P(ssh_refusal, of_a_disk_that_runs_no_programs_says_so) {
    if (!uses_library()) return;
    const test_sshd far;
    const auto disk = far.folder() + "/disk";
    std::filesystem::create_directory(disk);
    if (::mount("tmpfs", disk.c_str(), "tmpfs", MS_NOEXEC, nullptr) != 0) {
        return lacks(std::string("the kernel gives us no disk: ") + std::strerror(errno));
    }
    test_sshd::write_file(far.home() + "/.bashrc", "export XDG_CACHE_HOME=" + disk + "\n");
    EXPECT_TRUE(has(refused(far, errc::no_permission), "noexec"));
    EXPECT_EQ(::umount2(disk.c_str(), MNT_DETACH), 0);
}

TEST_P(ssh_refusal, of_a_program_that_is_not_on_the_host_names_it) {
    const test_sshd far;
    auto options = options_for(far);
    options.program = "/no/such/program";
    EXPECT_TRUE(has(refused(far, errc::program_not_found, options), "/no/such/program"));
}

TEST_P(ssh_refusal, of_a_node_of_another_version_names_both) {
    const test_sshd far;
    far.put_program("old-places",
                    "echo places-node-ready port=1 incarnation=0 protocol=9 version=7.7 address=x\n"
                    "exec cat >/dev/null");
    auto options = options_for(far);
    options.program = far.bin() + "/old-places";
    const auto text = refused(far, errc::wrong_version, options);
    const places::net::protocol_range own;
    const auto ours = std::to_string(own.min) + " to " + std::to_string(own.max);
    EXPECT_TRUE(has(text, "protocol 9") && has(text, "7.7") && has(text, ours)) << text;
}

TEST_P(ssh_refusal, of_a_program_that_is_no_node_tells_what_it_printed) {
    const test_sshd far;
    auto options = options_for(far);
    options.program = "/bin/ls";
    const auto text = refused(far, errc::node_unreachable, options);
    EXPECT_TRUE(has(text, "unrecognized option")) << text;
    EXPECT_TRUE(has(text, "its main has to make a places::runtime")) << text;
    far.put_program("sleeper", "exec cat >/dev/null");
    options.program = far.bin() + "/sleeper";
    options.deadline = 300ms;
    EXPECT_TRUE(has(refused(far, errc::node_unreachable, options), "not ready in time"));
}

TEST_P(ssh_refusal, of_a_port_for_the_node_that_is_taken_names_it) {
    const test_sshd far;
    const auto taken = make_port(true);
    auto options = options_for(far);
    options.listen_port = taken.number;
    const auto text = refused(far, errc::address_in_use, options);
    EXPECT_TRUE(has(text, taken.host()) && has(text, "choose another port")) << text;
}

TEST_P(ssh_refusal, of_an_entry_that_the_program_does_not_register_names_it) {
    const test_sshd far;
    auto node = test_runtime().spawn_remote_node("far", options_for(far));
    const auto e = error_of([&] { (void)node.supervise_place(places::registered{"no-entry"}); });
    EXPECT_EQ(e.code(), errc::entry_not_found);
    EXPECT_TRUE(has(e.what(), "no-entry") && has(e.what(), node.name())) << e.what();
}

TEST_P(ssh_refusal, of_a_port_that_leads_to_no_node_names_the_tunnel) {
    const test_sshd far;
    auto options = options_for(far);
    options.advertise = "127.0.0.2";  // it listens on 127.0.0.1
    const auto text = refused(far, errc::node_unreachable, options);
    EXPECT_TRUE(has(text, "127.0.0.2:") && has(text, ".tunnel = true")) << text;
    options.tunnel = true;
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
}

// -- the connection --

/// A host on which a program stops and says so; then its connections are killed.
void lose_while(const test_sshd& far, const std::string& program,
                const places::node_options& options) {
    const auto fifo = far.folder() + "/reached";
    test_sshd::run({"mkfifo", fifo});
    const auto once = far.folder() + "/once";
    far.put_program(program, "mkdir '" + once + "' || exit 1; echo $$ >'" + fifo + "'; exec cat '" +
                                 far.folder() + "/never'");
    test_sshd::run({"mkfifo", far.folder() + "/never"});
    auto pending = test_runtime().spawn_remote_node_async("far", options);
    pid_t stopped = 0;
    ASSERT_TRUE(std::ifstream(fifo) >> stopped);
    far.kill_sessions();
    const auto e = error_of([&] { (void)pending.get(); });
    EXPECT_EQ(e.code(), errc::ssh_lost) << e.what();
    std::printf("%s\n", e.what());
    // What stands still on the remote host does so because of this test.
    ::kill(stopped, SIGKILL);
    EXPECT_TRUE(far.is_left_alone());
}

TEST_P(ssh_refusal, of_a_connection_that_is_cut_anywhere_before_the_node_is_lost_and_nothing_else) {
    const test_sshd far;
    auto options = options_for(far);
    options.ssh_config = "/dev/null";
    options.identity_files = {far.user_key()};
    options.known_hosts_files = {far.folder() + "/known without a port"};
    test_sshd::write_file(options.known_hosts_files[0],
                          "127.0.0.1 " + public_key(far.folder() + "/host.pub") + "\n");
    options.program = "/no/such/program";
    const auto at_host = far.host().substr(0, far.host().rfind(':') + 1);
    constexpr std::size_t step = 89;
    constexpr std::size_t octets_max = 16 * 1024;  // of a login and a command
    int lost_count = 0;
    bool is_whole = false;
    for (std::size_t most = 0; !is_whole && most < octets_max; most += step) {
        SCOPED_TRACE(most);
        const cutting_proxy proxy(far.port(), most);
        const auto host = at_host + std::to_string(proxy.port());
        const auto e = error_of([&] { (void)test_runtime().spawn_remote_node(host, options); });
        is_whole = e.code() == errc::program_not_found;
        if (is_whole) continue;
        ++lost_count;
        EXPECT_EQ(e.code(), errc::ssh_lost) << e.what();
        if (uses_library()) {
            EXPECT_TRUE(has(e.what(), "was lost while")) << e.what();
        }
    }
    EXPECT_TRUE(is_whole) << "no connection has got as far as the program";
    EXPECT_GT(lost_count, 10);
    EXPECT_TRUE(far.is_left_alone());
}

TEST_P(ssh_refusal, of_a_connection_that_is_lost_before_the_copy) {
    const test_sshd far;
    lose_while(far, "uname", options_for(far));
    EXPECT_FALSE(std::filesystem::exists(far.cache()));
}

TEST_P(ssh_refusal, of_a_connection_that_is_lost_during_the_copy_leaves_no_part_of_it) {
    const test_sshd far;
    lose_while(far, "sha256sum", options_for(far));
    EXPECT_TRUE(has_no_copy(far));
}

/// Of the program, as far as it has got there.
std::uintmax_t size_of_copy(const test_sshd& far) {
    for (const auto& each : std::filesystem::recursive_directory_iterator(far.cache())) {
        const auto folder = each.path().parent_path().filename().string();
        if (folder.starts_with(".copy.")) return each.file_size();
    }
    return 0;
}

/// The connections are killed while octets come in that `program` hands on to `next`, some at a
/// time, once a part of them is in the copy.
void lose_amid_a_copy(const test_sshd& far, const std::string& program, const std::string& next,
                      const places::node_options& options) {
    const auto fifo = far.folder() + "/reached";
    test_sshd::run({"mkfifo", fifo});
    const auto some = "'" + far.folder() + "/some'";
    far.put_program(program,
                    "told=; while dd bs=16384 count=1 status=none >" + some + " && [ -s " + some +
                        " ]; do /bin/cat " + some + "; sleep 0.05; set -- '" + far.cache() +
                        "'/.copy.*/*; if [ -z \"$told\" ] && [ -s \"$1\" ]; then told=yes; "
                        "echo $$ >'" +
                        fifo + "'; fi; done | " + next);
    auto pending = test_runtime().spawn_remote_node_async("far", options);
    pid_t reached = 0;
    ASSERT_TRUE(std::ifstream(fifo) >> reached);
    const auto size = size_of_copy(far);
    EXPECT_GT(size, 0U);
    EXPECT_LT(size, std::filesystem::file_size("/proc/self/exe"));
    far.kill_sessions();
    const auto e = error_of([&] { (void)pending.get(); });
    EXPECT_EQ(e.code(), errc::ssh_lost) << e.what();
    std::printf("after %zu bytes: %s\n", static_cast<std::size_t>(size), e.what());
    EXPECT_TRUE(far.is_left_alone());
}

TEST_P(ssh_refusal, of_a_connection_that_is_lost_while_a_copy_moves_leaves_no_part_of_it) {
    if (!uses_library()) return;
    constexpr const char* server = "/usr/lib/openssh/sftp-server";
    if (!std::filesystem::exists(server)) return lacks(std::string("no sftp-server at ") + server);
    const test_sshd far({.lines = {"Subsystem sftp slow-sftp"}, .has_sftp = false});
    lose_amid_a_copy(far, "slow-sftp", server, options_for(far));
    EXPECT_TRUE(has_no_copy(far));
}

TEST_P(ssh_refusal, of_a_connection_that_is_lost_while_a_shell_copies_leaves_no_part_of_it) {
    const test_sshd far({.has_sftp = false});
    lose_amid_a_copy(far, "cat", "/bin/cat", options_for(far));
    EXPECT_TRUE(has_no_copy(far));
}

TEST_P(ssh_refusal, of_a_connection_that_is_lost_before_the_node_is_ready) {
    const test_sshd far;
    auto options = options_for(far);
    options.program = far.bin() + "/slow";
    lose_while(far, "slow", options);
}

TEST_P(ssh_refusal, of_some_of_twenty_at_once_does_not_hold_up_the_others) {
    const test_sshd far;
    const auto silent = make_port(true);
    auto options = options_for(far);
    options.program = "/no/such/program";
    options.stage_deadline = 60s;  // twenty logins share two cores
    std::vector<places::node_request> requests(20, {"far", options});
    for (std::size_t i = 0; i < requests.size(); i += 4) {
        requests[i].host = silent.host();
        requests[i].options.stage_deadline = 500ms;
    }
    try {
        (void)test_runtime().spawn_nodes_join(requests);
        FAIL() << "none of them can be started";
    } catch (const places::nodes_error& e) {
        ASSERT_EQ(e.failures().size(), requests.size());
        for (std::size_t i = 0; i < requests.size(); ++i) {
            EXPECT_EQ(e.failures()[i].cause.code(),
                      i % 4 == 0 ? errc::ssh_lost : errc::program_not_found)
                << e.failures()[i].cause.what();
        }
    }
    EXPECT_TRUE(far.is_left_alone());
}

INSTANTIATE_TEST_SUITE_P(by, ssh_refusal, ::testing::Values("", "ssh"), [](const auto& each) {
    return std::string(*each.param == '\0' ? "library" : "command");
});

}  // namespace
