// SPDX-License-Identifier: Apache-2.0
// How nodes on another host end when what holds them breaks, and what nobody may learn meanwhile.
#include "tests/node/by_command.hpp"
#include "tests/node/by_ssh.hpp"
#include "tests/node/entries.hpp"
#include "tests/node/heard.hpp"
#include "tests/node/processes.hpp"
#include "tests/support/content_of.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/line_from.hpp"
#include "tests/support/sanitized.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <netinet/in.h>
#include <optional>
#include <random>
#include <spawn.h>
#include <sstream>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace std::chrono_literals;

namespace {

using clock_type = std::chrono::steady_clock;

// What a round costs is mostly the start; so many are under way at once.
constexpr int rounds = is_sanitized ? 10 : 50;
constexpr int at_once = 10;

class ssh_end : public needs_sshd {
  protected:
    static std::vector<places::remote_node> start(int count, const places::node_options& options) {
        return test_runtime().spawn_nodes_join(
            std::vector<places::node_request>(static_cast<std::size_t>(count), {"far", options}));
    }
    static places::node_options options_for(const test_sshd& far,
                                            std::chrono::milliseconds grace = 100ms) {
        return {.listen_port = 0, .ssh_config = far.config(), .owner_grace = grace};
    }
    /// It ends when it is told to, or not at all.
    static places::node_options detached(const test_sshd& far, const char* command = "") {
        auto options = options_for(far, 1h);
        options.ssh_command = command;
        options.detach = true;
        options.key = places::bytes(32, std::byte{7});
        return options;
    }
};

/// doomed_root with a node on `far`.
struct doomed {
    pid_t root = 0;
    std::vector<places::unique_fd> lives;  ///< of all processes that it has told of
    pid_t place = 0;                       ///< on the remote host
    std::string port{};                    ///< of the node
};
struct doomed_start {
    pid_t root = 0;
    places::unique_fd out;
};
doomed_start begin_doomed(const test_sshd& far, const std::string& grace_ms,
                          const std::string& attachment, const std::string& ssh_command = "") {
    std::array<int, 2> ends;
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    doomed_start d{0, places::unique_fd{ends[0]}};
    const places::unique_fd writer{ends[1]};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, writer.get(), 1);
    std::vector<std::string> words{DOOMED_ROOT, "far",      far.config(),
                                   grace_ms,    attachment, ssh_command};
    std::vector<char*> argv;
    for (auto& each : words) argv.push_back(each.data());
    argv.push_back(nullptr);
    EXPECT_EQ(::posix_spawn(&d.root, DOOMED_ROOT, &actions, nullptr, argv.data(), environ), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    return d;
}
doomed finish_doomed(doomed_start d) {
    const auto line = line_from(d.out.get());
    std::istringstream in(line);
    doomed result;
    result.root = d.root;
    constexpr int processes = 5;
    for (int i = 0, pid = 0; i < processes && in >> pid; ++i) {
        if (pid == 0) continue;  // the far bridge is no child of the remote launcher's
        result.lives.push_back(watch(pid));
        if (i == 1) result.place = pid;
    }
    in >> result.port;
    EXPECT_GE(result.lives.size(), 4U) << line;
    return result;
}
void kill_root(const doomed& d) {
    ::kill(d.root, SIGKILL);
    ::waitpid(d.root, nullptr, 0);
}

TEST_F(ssh_end, of_a_killed_root_takes_its_attached_node_at_once) {
    const test_sshd far;
    kill_root(finish_doomed(begin_doomed(far, "3600000", "attached")));  // the copy is there now
    EXPECT_TRUE(far.is_left_alone());
    long long slowest = 0;
    for (int done = 0; done < rounds; done += at_once) {
        std::vector<doomed_start> begun;
        for (int i = 0; i < at_once; ++i) begun.push_back(begin_doomed(far, "3600000", "attached"));
        std::vector<doomed> roots;
        for (auto& each : begun) roots.push_back(finish_doomed(std::move(each)));
        const auto start = clock_type::now();
        for (const auto& each : roots) kill_root(each);
        for (const auto& each : roots) {
            for (const auto& life : each.lives) ASSERT_TRUE(ends(life));
        }
        ASSERT_TRUE(far.is_left_alone());
        slowest = std::max(slowest, ms_since(start));
    }
    std::printf("%d roots killed, %d at once: all gone after at most %lld ms\n", rounds, at_once,
                slowest);
}

TEST_F(ssh_end, of_a_root_that_is_killed_amid_a_start_takes_all_that_the_start_has_begun) {
    const test_sshd far;
    const auto reached = far.folder() + "/reached";
    const auto once = far.folder() + "/once";
    test_sshd::run({"mkfifo", reached});
    // Once, until its input ends.
    far.put_program("uname", "mkdir '" + once + "' || exit 1; echo >'" + reached + "'; exec cat");
    // As ssh with a jump host: another program of its own that hears of no end.
    far.put_program("jumping", "sleep 1000 </dev/null >/dev/null 2>&1 & echo >'" + reached +
                                   "'; exec sleep 1000");
    for (const std::string& command : {std::string(), std::string("ssh"), far.bin() + "/jumping"}) {
        SCOPED_TRACE(command);
        std::filesystem::remove(once);
        const auto begun = begin_doomed(far, "0", "attached", command);
        {
            std::ifstream in(reached);
            std::string line;
            std::getline(in, line);
        }
        std::vector<places::unique_fd> lives;
        for (const pid_t each : family_of(begun.root)) lives.push_back(watch(each));
        // Root, nursery and remote launcher, and what that has started.
        EXPECT_GE(lives.size(), command.empty() ? 3U : 4U);
        kill_root({begun.root, {}, 0});
        for (const auto& life : lives) EXPECT_TRUE(ends(life));
        EXPECT_TRUE(far.is_left_alone());
    }
}

TEST_F(ssh_end, of_the_ssh_connection_leaves_a_node_that_is_linked_to_and_the_link_s_takes_it) {
    const test_sshd far;
    long long slowest = 0;
    for (int done = 0; done < rounds; done += at_once) {
        auto nodes = start(at_once, options_for(far));
        std::vector<places::channel> places;
        for (auto& node : nodes) places.push_back(node.supervise_place(echo_entry));
        far.kill_sessions();
        // The remote launchers have noticed.
        for (auto& node : nodes) ASSERT_FALSE(node.wait().signalled);
        for (std::size_t i = 0; i < nodes.size(); ++i) {
            ASSERT_TRUE(nodes[i].is_up());
            ASSERT_EQ(echoed(places[i], "still here"), "still here");
            // Also for what is new.
            auto place = nodes[i].supervise_place(echo_entry);
            ASSERT_EQ(echoed(place, "and this"), "and this");
        }
        const auto start_of_end = clock_type::now();
        places.clear();
        nodes.clear();
        ASSERT_TRUE(far.is_left_alone());
        slowest = std::max(slowest, ms_since(start_of_end));
    }
    std::printf("%d connections cut, then links: gone after at most %lld ms, grace 100 ms\n",
                rounds, slowest);
}

TEST_F(ssh_end, of_a_killed_remote_launcher_is_as_that_of_its_connection) {
    const test_sshd far;
    for (int done = 0; done < rounds; done += at_once) {
        auto nodes = start(at_once, options_for(far));
        for (auto& node : nodes) ::kill(node.pid(), SIGKILL);
        for (auto& node : nodes) {
            ASSERT_EQ(node.wait(), (places::exit_status{true, SIGKILL}));
            auto place = node.supervise_place(echo_entry);
            ASSERT_EQ(echoed(place, "still here"), "still here");
        }
        nodes.clear();
        ASSERT_TRUE(far.is_left_alone());
    }
}

TEST_F(ssh_end, comes_ten_seconds_after_connection_and_link_unless_told_otherwise) {
    const test_sshd far;
    auto nodes = start(1, {.listen_port = 0, .ssh_config = far.config()});
    far.kill_sessions();
    (void)nodes.front().wait();
    const auto begun = clock_type::now();
    nodes.clear();
    EXPECT_TRUE(far.is_left_alone());
    std::printf("default grace: gone after %lld ms\n", ms_since(begun));
    EXPECT_GE(clock_type::now() - begun, 10s);
}

/// Stops nodes with doomed_root's key by the places command.
class ssh_end_by_command : public ssh_end {
  protected:
    void SetUp() override {
        if (!stopping_command::is_built()) GTEST_SKIP() << "built without PLACES_CLI";
        ssh_end::SetUp();
    }
    void stop(const std::string& port) const { command_.stop("127.0.0.1:" + port); }

  private:
    stopping_command command_;
};

/// A test whose SetUp has skipped before that of needs_sshd.
struct skipped_early : needs_sshd {
    void TestBody() override {}
    using needs_sshd::TearDown;
};

TEST(needs_sshd_fixture, finds_nothing_amiss_after_a_test_that_skipped_in_its_set_up) {
    ASSERT_FALSE(children_of(::getpid()).empty());
    skipped_early{}.TearDown();
}

TEST_F(ssh_end_by_command, comes_to_a_detached_node_and_no_kill_before_it) {
    const test_sshd far;
    kill_root(finish_doomed(begin_doomed(far, "0", "attached")));  // the copy is there now
    EXPECT_TRUE(far.is_left_alone());
    for (int done = 0; done < rounds; done += at_once) {
        std::vector<doomed_start> begun;
        for (int i = 0; i < at_once; ++i) begun.push_back(begin_doomed(far, "0", "detached"));
        begun.push_back(begin_doomed(far, "0", "attached"));
        std::vector<doomed> roots;
        for (auto& each : begun) roots.push_back(finish_doomed(std::move(each)));
        for (const auto& each : roots) kill_root(each);
        for (const auto& life : roots.back().lives) ASSERT_TRUE(ends(life));
        roots.pop_back();
        for (const auto& each : roots) {
            // Its remote launcher and its root are gone as well; it has had as long as the other
            // one.
            ASSERT_TRUE(ends(each.lives[0]));
            ASSERT_EQ(::kill(each.place, 0), 0);
        }
        // Whole: each can be asked, and ends when it is told to, and its place with it.
        for (const auto& each : roots) {
            const auto life = watch(each.place);
            stop(each.port);
            ASSERT_TRUE(ends(life));
        }
        ASSERT_TRUE(far.is_left_alone());
    }
    std::printf("%d detached nodes stayed after kill -9 of their roots\n", rounds);
}

TEST_F(ssh_end_by_command, comes_to_a_detached_node_that_was_let_go_as_soon_as_it_was_there) {
    const test_sshd far;
    for (const char* command : {"", "ssh"}) {
        constexpr int count = is_sanitized ? 4 : 20;
        auto options = detached(far, command);
        options.owner_grace = 0ms;
        std::vector<std::string> ports;
        const auto begun = clock_type::now();
        for (int i = 0; i < count; ++i) {
            const auto port = test_runtime().spawn_remote_node("far", options).port();
            ports.push_back(std::to_string(port));
        }
        std::printf("%d nodes started and let go in %lld ms\n", count, ms_since(begun));
        for (const auto& each : ports) stop(each);
        EXPECT_TRUE(far.is_left_alone());
    }
}

TEST_F(ssh_end_by_command, comes_to_a_detached_node_and_no_end_of_its_connection_before_it) {
    const test_sshd far;
    for (const char* command : {"", "ssh"}) {
        auto options = detached(far, command);
        options.owner_grace = 0ms;
        auto nodes = start(at_once, options);
        std::vector<places::channel> places;
        std::vector<std::string> ports;
        for (auto& node : nodes) {
            places.push_back(node.supervise_place(echo_entry));
            ports.push_back(std::to_string(node.port()));
        }
        far.kill_sessions();
        // The remote launchers have noticed.
        for (auto& node : nodes) ASSERT_FALSE(node.wait().signalled);
        for (std::size_t i = 0; i < nodes.size(); ++i) {
            ASSERT_TRUE(nodes[i].is_up());
            ASSERT_EQ(echoed(places[i], "still here"), "still here");
        }
        // Nor does the link's end bring it.
        places.clear();
        nodes.clear();
        for (const auto& each : ports) stop(each);
        ASSERT_TRUE(far.is_left_alone());
    }
}

/// Of the processes that have `word` on their command line.
std::vector<places::unique_fd> lives_of_those_told(const std::string& word) {
    std::vector<places::unique_fd> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const auto number = entry.path().filename().string();
        if (number.find_first_not_of("0123456789") != number.npos) continue;
        if (content_of(entry.path() / "cmdline").find('\0' + word + '\0') == std::string::npos) {
            continue;
        }
        found.push_back(watch(std::stoi(number)));
    }
    return found;
}

TEST_F(ssh_end, of_the_handle_leaves_a_detached_node_and_send_exit_takes_it) {
    const test_sshd far;
    for (const char* command : {"", "ssh"}) {
        auto options = detached(far, command);
        options.owner_grace = 0ms;
        for (const bool is_used : {true, false}) {
            auto attached = options;
            attached.detach = false;
            std::vector<places::unique_fd> here;
            {
                auto node = test_runtime().spawn_remote_node("far", options);
                here = lives_of_those_told(far.config());
                EXPECT_EQ(here.empty(), *command == '\0');
                // Of one that is dropped at once only that it has been there is known.
                if (is_used) {
                    auto place = node.supervise_place(echo_entry);
                    EXPECT_EQ(echoed(place, "hello"), "hello");
                }
                auto other = test_runtime().spawn_remote_node("far", attached);
                other.send_exit();
                (void)other.wait();
            }
            for (const auto& life : here) EXPECT_TRUE(ends(life)) << "the ssh command stays";
            const auto left = far.running();
            EXPECT_FALSE(left.empty());
            for (const pid_t each : left) ::kill(each, SIGKILL);
            EXPECT_TRUE(far.is_left_alone());
        }
        auto node = test_runtime().spawn_remote_node("far", options);
        node.send_exit(3);
        EXPECT_EQ(node.wait(), (places::exit_status{false, 3}));
        EXPECT_TRUE(far.is_left_alone());
    }
}

TEST_F(ssh_end, comes_to_a_detached_node_from_whoever_connects_to_it_later) {
    const test_sshd far;
    for (const char* command : {"", "ssh"}) {
        const auto options = detached(far, command);
        std::string address = "127.0.0.1:";
        {
            auto node = test_runtime().spawn_remote_node("far", options);
            address += std::to_string(node.port());
            auto place = node.supervise_place<table_server>({.named = "table"});
            place.set("a", 1);
        }
        auto found = test_runtime().connect_node(address, {.key = options.key});
        EXPECT_EQ(found.connect_to_named_place<table_server>("table").get("a"), 1);
        found.send_exit(3);
        EXPECT_EQ(found.wait(), (places::exit_status{false, 3}));
        EXPECT_TRUE(far.is_left_alone());
    }
}

TEST_F(ssh_end, comes_to_a_detached_node_that_is_told_to_though_its_handle_goes_at_once) {
    const test_sshd far;
    for (int i = 0; i < rounds; i += at_once) {
        auto nodes = start(at_once, detached(far));
        for (auto& node : nodes) node.send_exit();
        nodes.clear();
        ASSERT_TRUE(far.is_left_alone());
    }
}

// -- before anybody has it a detached node is as any other --

/// Blocks: until it has ended, which the node's handle is still to hear.
void kill_remote_launcher(pid_t pid) {
    ::kill(pid, SIGKILL);
    siginfo_t how;
    (void)::waitid(P_PID, static_cast<id_t>(pid), &how, WEXITED | WNOWAIT);
}

/// bin()/late is this program, which begins once something is written to a fifo.
/// Returns: that fifo's path.
std::string put_late_program(const test_sshd& far) {
    auto now = far.folder() + "/now";
    test_sshd::run({"mkfifo", now});
    far.put_program("late", "read -r _ <'" + now + "'; exec '" +
                                std::filesystem::read_symlink("/proc/self/exe").string() +
                                "' \"$@\"");
    return now;
}

TEST_F(ssh_end, comes_to_a_detached_node_of_several_that_are_not_all_started) {
    const test_sshd far;
    for (const char* command : {"", "ssh"}) {
        auto wrong = detached(far, command);
        wrong.program = "/no/such/program";
        EXPECT_THROW((void)test_runtime().spawn_nodes_join(
                         {{"far", detached(far, command)}, {"far", wrong}}),
                     places::nodes_error);
        EXPECT_TRUE(far.is_left_alone());
    }
}

TEST_F(ssh_end, comes_to_a_detached_node_that_nobody_takes) {
    const test_sshd far;
    for (const char* command : {"", "ssh"}) {
        {
            auto pending = test_runtime().spawn_remote_node_async("far", detached(far, command));
            while (!pending.is_ready()) {
            }
        }
        EXPECT_TRUE(far.is_left_alone());
    }
}

TEST_F(ssh_end, comes_to_a_detached_node_that_cannot_be_told_to_stay) {
    const test_sshd far;
    for (const char* command : {"", "ssh"}) {
        const auto before = children_of(::getpid());
        auto options = detached(far, command);
        options.owner_grace = 0ms;
        auto pending = test_runtime().spawn_remote_node_async("far", options);
        while (!pending.is_ready()) {
        }
        for (const int child : children_of(::getpid())) {
            if (std::ranges::find(before, child) != before.end()) continue;
            kill_remote_launcher(child);
        }
        const auto text = text_of_error(places::errc::ssh_lost, [&] { (void)pending.get(); });
        EXPECT_NE(text.find("told to stay"), text.npos) << text;
        EXPECT_TRUE(far.is_left_alone());
    }
}

TEST_F(ssh_end, comes_to_all_of_several_of_which_one_cannot_be_told_to_stay) {
    // It makes the first dial visible.
    if (const pid_t bridge = bridge_of(::getpid())) {
        const auto life = watch(bridge);
        ::kill(bridge, SIGKILL);
        ASSERT_TRUE(ends(life));
    }
    const test_sshd far;
    const auto now = put_late_program(far);
    auto late = detached(far);
    late.program = far.bin() + "/late";
    late.deadline = 1min;  // it waits for the other's whole start
    const std::vector<places::node_request> both{{"far", late}, {"far", detached(far, "ssh")}};
    const auto before = children_of(::getpid());
    std::string text;
    // The first one is told to stay before it turns out that the second one's remote launcher has
    // gone.
    const auto break_second = [&] {
        auto launchers = children_of(::getpid());
        std::erase_if(launchers, [&](pid_t each) { return std::ranges::count(before, each) > 0; });
        ASSERT_EQ(launchers.size(), 2U);
        // The one that has the command as its child.
        std::erase_if(launchers, [](pid_t each) { return children_of(each).empty(); });
        ASSERT_EQ(launchers.size(), 1U);
        kill_remote_launcher(launchers.front());
    };
    const auto start_both = [&] {
        text = text_of_error(places::errc::ssh_lost,
                             [&] { (void)test_runtime().spawn_nodes_join(both); });
        test_runtime().stop();
    };
    bool is_broken = false;
    test_runtime().route(places::after(0s, start_both), places::every(5ms, [&] {
                             if (is_broken || bridge_of(::getpid()) == 0) return;
                             is_broken = true;
                             break_second();
                             std::ofstream(now) << "\n";  // or the first would never go on
                         }));
    EXPECT_NE(text.find("told to stay"), text.npos) << text;
    EXPECT_TRUE(far.is_left_alone());
}

TEST_F(ssh_end, comes_to_a_detached_node_that_cannot_be_dialled) {
    const test_sshd far;
    for (const char* command : {"", "ssh"}) {
        auto options = detached(far, command);
        options.advertise = "127.0.0.2";  // where it does not listen
        EXPECT_EQ(error_of([&] { (void)test_runtime().spawn_remote_node("far", options); }).code(),
                  places::errc::node_unreachable);
        EXPECT_TRUE(far.is_left_alone());
    }
}

TEST_F(ssh_end, comes_to_a_node_that_is_ready_too_late) {
    const test_sshd far;
    const auto now = put_late_program(far);
    for (const char* command : {"", "ssh"}) {
        for (const bool is_detached : {false, true}) {
            auto options = detached(far, command);
            options.detach = is_detached;
            options.program = far.bin() + "/late";
            options.deadline = 100ms;
            const auto text = text_of_error(places::errc::node_unreachable, [&] {
                (void)test_runtime().spawn_remote_node("far", options);
            });
            EXPECT_NE(text.find("not ready in time"), text.npos) << text;
            EXPECT_FALSE(far.running().empty());
            std::ofstream(now) << "\n";
            EXPECT_TRUE(far.is_left_alone());
        }
    }
}

TEST_F(ssh_end, comes_to_no_detached_node_without_a_key_for_there_is_none) {
    auto options = places::node_options{.detach = true};
    const auto text = text_of_error(places::errc::bad_argument, [&] {
        (void)test_runtime().spawn_remote_node("far", options);
    });
    EXPECT_NE(text.find(".key"), text.npos) << text;
}

// -- the key --

TEST_F(ssh_end, nobody_but_root_and_bridge_of_the_two_nodes_ever_has_the_key) {
    const test_sshd far;
    // Not written here: the program is on both sides.
    std::string canary(32, ' ');
    std::random_device random;
    for (auto& c : canary) c = static_cast<char>('a' + random() % 26);
    auto options = options_for(far);
    for (const char c : canary) options.key.push_back(static_cast<std::byte>(c));
    for (const char* command : {"", "ssh"}) {
        options.ssh_command = command;
        auto node = test_runtime().spawn_remote_node("far", options);
        node.supervise_place<facts_server>({.named = "facts"});
        auto facts = node.connect_to_named_place<facts_server>("facts");
        for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
            const auto pid = entry.path().filename().string();
            if (pid.find_first_not_of("0123456789") != pid.npos) continue;
            for (const char* file : {"cmdline", "environ", "comm", "stat", "status"}) {
                EXPECT_EQ(content_of(entry.path() / file).find(canary), canary.npos)
                    << file << " of " << pid;
            }
        }
        if (is_sanitized) continue;  // it keeps what has been freed
        auto near_facts = places::spawn_server<facts_server>();
        std::vector<pid_t> others;
        for (const pid_t place :
             {static_cast<pid_t>(facts.pid()), static_cast<pid_t>(near_facts.pid())}) {
            others.push_back(place);
            others.push_back(facts_of(place).parent);
            ASSERT_EQ(facts_of(others.back()).name, "places-nursery");
        }
        for (const pid_t each : others) {
            const auto found = holds(each, canary);
            if (!found) GTEST_SKIP() << "ptrace is not allowed here, nor to read what others hold";
            EXPECT_FALSE(*found) << facts_of(each).name << " " << each;
        }
        // That the search finds what is there.
        EXPECT_TRUE(holds(facts.node_pid(), canary).value_or(true));
        EXPECT_TRUE(holds(bridge_of(::getpid()), canary).value_or(true));
        // The remote launcher has only passed it on.
        EXPECT_FALSE(holds(node.pid(), canary).value_or(false));
    }
    EXPECT_EQ(times_heard(canary), 0U);
    for (const auto& each : std::filesystem::recursive_directory_iterator(far.folder())) {
        if (!each.is_regular_file()) continue;
        EXPECT_EQ(content_of(each.path()).find(canary), canary.npos) << each.path();
    }
}

}  // namespace
