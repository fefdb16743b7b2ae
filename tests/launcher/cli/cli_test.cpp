// SPDX-License-Identifier: Apache-2.0
// The `places` command as anybody would run it.
#include "net/listener.hpp"
#include "tests/net/event_loop.hpp"
#include "tests/node/peer.hpp"
#include "tests/node/processes.hpp"
#include "tests/support/content_of.hpp"
#include "tests/support/halt.hpp"
#include "tests/support/kill_process.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/support/scratch.hpp"

#include <boost/asio/error.hpp>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <linux/capability.h>
#include <memory>
#include <optional>
#include <poll.h>
#include <regex>
#include <sched.h>
#include <set>
#include <spawn.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <utility>
#include <vector>

namespace places::net {
namespace {

/// A process of the command, both of its streams read together; unless its standard output goes to
/// the file `sink`, or for null is closed. It leads a process group of its own, as a shell's job
/// does.
class command {
  public:
    explicit command(std::vector<std::string> arguments,
                     const std::vector<std::string>& environment = {}, const char* sink = "") {
        int ends[2];
        EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        reader_ = unique_fd{ends[0]};
        const unique_fd writer{ends[1]};
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        if (!sink) {
            ::posix_spawn_file_actions_addclose(&actions, 1);
        } else if (*sink != '\0') {
            ::posix_spawn_file_actions_addopen(&actions, 1, sink, O_WRONLY, 0);
        } else {
            ::posix_spawn_file_actions_adddup2(&actions, writer.get(), 1);
        }
        ::posix_spawn_file_actions_adddup2(&actions, writer.get(), 2);
        arguments.insert(arguments.begin(), PLACES_COMMAND);
        std::vector<char*> argv;
        for (auto& a : arguments) argv.push_back(a.data());
        argv.push_back(nullptr);
        std::vector<std::string> variables = environment;
        std::vector<char*> env;
        for (auto& v : variables) env.push_back(v.data());
        env.push_back(nullptr);
        posix_spawnattr_t attributes;
        ::posix_spawnattr_init(&attributes);
        ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
        EXPECT_EQ(
            ::posix_spawn(&pid, PLACES_COMMAND, &actions, &attributes, argv.data(), env.data()), 0);
        ::posix_spawnattr_destroy(&attributes);
        ::posix_spawn_file_actions_destroy(&actions);
    }
    ~command() {
        if (pid > 0) {
            ::kill(pid, SIGKILL);
            (void)status();
        }
    }
    command(const command&) = delete;
    command& operator=(const command&) = delete;

    /// The output up to the first that `text` is found in so many times.
    std::string wait_for(const std::string& text, std::size_t times = 1) {
        while (count(text) < times && read_more()) {
        }
        return output_;
    }
    /// All of the output, once it has ended.
    std::string output() {
        while (read_more()) {
        }
        return output_;
    }
    int status() {
        int how = 0;
        (void)output();
        EXPECT_EQ(::waitpid(pid, &how, 0), pid);
        pid = 0;
        return WIFEXITED(how) ? WEXITSTATUS(how) : 256 + WTERMSIG(how);
    }

    /// Where its output comes.
    int reader() const noexcept { return reader_.get(); }

    pid_t pid = 0;

  private:
    std::size_t count(const std::string& text) const {
        std::size_t found = 0;
        for (auto at = output_.find(text); at != output_.npos; at = output_.find(text, at + 1)) {
            ++found;
        }
        return found;
    }
    bool read_more() {
        std::array<char, 4096> some;
        const auto got = ::read(reader_.get(), some.data(), some.size());
        if (got > 0) output_.append(some.data(), static_cast<std::size_t>(got));
        return got > 0;
    }
    unique_fd reader_;
    std::string output_;
};

class cli : public testing::Test {
  protected:
    cli() { EXPECT_EQ(command({"key", key}).status(), 0); }

    /// Waits until it listens.
    std::unique_ptr<command> node(std::vector<std::string> more = {},
                                  const std::vector<std::string>& environment = {}) {
        more.insert(more.begin(), {"node", "--listen", "127.0.0.1:0", "--key-file", key});
        auto one = std::make_unique<command>(more, environment);
        const auto line = one->wait_for("\n");
        std::smatch found;
        EXPECT_TRUE(std::regex_search(line, found, std::regex("listens on 127.0.0.1 port (\\d+)")))
            << line;
        if (found.size() == 2) address = "127.0.0.1:" + found[1].str();
        return one;
    }
    node_key key_in_file() const { return key_in_file(key); }
    static node_key key_in_file(const std::string& file) {
        const auto digits = content_of(file);
        node_key made;
        for (std::size_t i = 0; i < made.size(); ++i)
            made[i] = static_cast<std::byte>(std::stoi(digits.substr(2 * i, 2), nullptr, 16));
        return made;
    }
    std::uint16_t port() const {
        return static_cast<std::uint16_t>(std::stoi(address.substr(address.find(':') + 1)));
    }

    const scratch_folder scratch;
    const std::filesystem::path folder{scratch.path()};
    const std::filesystem::path key{folder / "node.key"};
    std::string address;
};

// -- keys --

TEST_F(cli, a_key_file_is_made_for_its_owner_alone_and_never_written_over) {
    struct stat facts {};
    ASSERT_EQ(::stat(key.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 07777, 0600U);
    const auto before = content_of(key);
    EXPECT_EQ(before.size(), 65U);
    command again({"key", key});
    EXPECT_EQ(again.output(), "places: key file " + key.string() + ": File exists\n");
    EXPECT_EQ(again.status(), 3);
    EXPECT_EQ(content_of(key), before);
}

TEST_F(cli, a_key_file_that_is_unfit_is_refused_saying_why) {
    const auto refused = [&](const std::filesystem::path& file) {
        for (const char* what : {"ls", "stop"}) {
            command one({what, "127.0.0.1:1", "--key-file", file});
            EXPECT_EQ(one.status(), 3) << one.output();
        }
        command node({"node", "--listen", "127.0.0.1:0", "--key-file", file});
        EXPECT_EQ(node.status(), 3);
        return node.output();
    };
    for (const mode_t mode : {0640, 0604, 0620, 0602}) {
        ::chmod(key.c_str(), mode);
        EXPECT_NE(refused(key).find("may be read or written by others"), std::string::npos);
    }
    ::chmod(key.c_str(), 0600);
    const std::string digits(64, 'a');
    for (const std::string& content :
         {std::string(), std::string(31, 'a'), std::string(33, 'x'), std::string(63, 'a'),
          std::string(66, 'a'), std::string(64, 'x'), digits + "\n\n", digits + "\nname guest\n",
          digits + "\nowner \n", digits + "\nowner launcher\n",
          digits + "\nowner guest\nallows all\n", digits + "\nowner guest\nallows list  stop\n",
          digits + "\nowner guest\nallows list\nmore\n",
          digits + "\nowner " + std::string(1000, 'n') + "\n",
          // Cut off: digits in the length of the octets.
          std::string(32, 'a'), std::string(31, 'a') + "\n"}) {
        std::ofstream(key, std::ios::trunc) << content;
        EXPECT_NE(refused(key).find("holds no key"), std::string::npos) << content;
    }
    EXPECT_NE(refused(folder / "missing").find("No such file"), std::string::npos);
    EXPECT_NE(refused(folder).find("no regular file"), std::string::npos);
}

TEST_F(cli, a_key_with_an_owner_allows_what_its_file_says) {
    const auto make = [&](const std::string& name, std::vector<std::string> more) {
        const auto file = (folder / name).string();
        more.insert(more.begin(), {"key", file, "--owner", name});
        command one(more);
        EXPECT_EQ(one.status(), 0) << one.output();
        return file;
    };
    const auto looks = make("looks", {"--allows", "list"});
    const auto rules = make("rules", {"--allows", "list,stop"});
    const auto guest = make("guest", {"--from", key});
    EXPECT_EQ(content_of(looks).substr(64), "\nowner looks\nallows list\n");
    EXPECT_EQ(content_of(guest).substr(64), "\nowner guest\nallows connect\n");
    auto running = node({"--allow", looks, "--allow", rules});
    const auto ask = [&](const char* what, const std::string& file) {
        command one({what, address, "--key-file", file});
        const auto status = one.status();
        return std::to_string(status) + " " + one.output();
    };
    EXPECT_TRUE(
        std::regex_search(ask("ls", looks), std::regex("^0 [^]*\n\\d+ +looks [^\n]+ list\n")));
    // The node is not told of it, and knows it.
    EXPECT_EQ(ask("ls", guest).substr(0, 2), "6 ");
    for (const auto& file : {looks, guest}) {
        const auto denied = ask("stop", file);
        EXPECT_TRUE(
            std::regex_search(denied, std::regex("^6 .*'(looks|guest)' at .* may not stop")))
            << denied;
    }
    EXPECT_EQ(ask("stop", rules), "0 ");
    EXPECT_EQ(running->status(), 0);
}

TEST_F(cli, a_key_is_not_made_or_taken_for_what_it_is_no_good_for) {
    const auto guest = (folder / "guest.key").string();
    ASSERT_EQ(command({"key", guest, "--owner", "guest", "--from", key}).status(), 0);
    const auto fails = [&](std::vector<std::string> words, int status, const std::string& text) {
        command one(words);
        EXPECT_EQ(one.status(), status);
        EXPECT_NE(one.output().find(text), std::string::npos) << one.output();
    };
    const auto made = (folder / "made.key").string();
    fails({"key", made, "--from", guest, "--owner", "b"}, 3, "is no node's own");
    fails({"key", made, "--owner", "launcher"}, 2, "is no owner");
    fails({"key", made, "--owner", "two\nlines"}, 2, "is no owner");
    fails({"key", made, "--owner", std::string(256, 'n')}, 2, "is no owner");
    fails({"key", made, "--owner", "b", "--allows", "all"}, 2, "--allows");
    fails({"key", made, "--allows", "list"}, 2, "--owner");
    fails({"key", made, "--from", key}, 2, "--owner");
    fails({"key", made, "--owner", "b", "--allows", "list", "--from", key}, 2, "excludes");
    EXPECT_FALSE(std::filesystem::exists(made));
    const auto runs = [&](std::vector<std::string> more, const std::string& text) {
        more.insert(more.begin(), {"node", "--listen", "127.0.0.1:0"});
        fails(more, 3, text);
    };
    runs({"--key-file", guest}, "is for guest, and not a node's own");
    runs({"--key-file", key, "--allow", key}, "is a node's own");
    const auto ops = (folder / "ops.key").string();
    const auto same = (folder / "same.key").string();
    ASSERT_EQ(command({"key", ops, "--owner", "ops"}).status(), 0);
    std::ofstream(same) << content_of(ops).substr(0, 65) << "owner others\n";
    std::filesystem::permissions(same, std::filesystem::perms::owner_read);
    fails({"node", "--listen", "127.0.0.1:0", "--key-file", key, "--allow", ops, "--allow", same},
          2, "the key of 'others' is that of 'ops' too");
    std::vector<std::string> many{"node", "--key-file", key};
    for (int i = 0; i < 101; ++i) many.insert(many.end(), {"--allow", guest});
    fails(many, 2, "at most 100");
    std::vector<std::string> longest{"node", "--key-file", key};
    for (int i = 0; i < 100; ++i) {
        const auto number = std::to_string(100 + i);
        const auto file = (folder / number).string();
        std::ofstream(file) << std::string(61, 'a') << number << "\nowner " << number
                            << std::string(252, 'n') << "\n";
        std::filesystem::permissions(file, std::filesystem::perms::owner_read);
        longest.insert(longest.end(), {"--allow", file});
    }
    fails(longest, 2, "owners of keys take ");
}

TEST_F(cli, the_key_is_in_no_command_line_environment_or_output) {
    const auto other = (folder / "other.key").string();
    ASSERT_EQ(command({"key", other, "--owner", "other"}).status(), 0);
    auto running = node({"--module", NODE_MODULE, "--insecure", "--allow", other});
    // A place too, with what it has inherited.
    peer controller{port(), key_in_file()};
    ASSERT_TRUE(controller.is_welcome);
    ASSERT_TRUE(
        controller.send(open_frame{1, ring, start_module{NODE_MODULE, "module_greet", ""}}));
    ASSERT_TRUE(controller.next<opened_frame>());
    std::array<std::string, 4> secrets;
    for (std::size_t i = 0; i < 2; ++i) {
        const auto made = key_in_file(i == 0 ? key.string() : other);
        secrets[2 * i] = content_of(i == 0 ? key.string() : other).substr(0, 64);
        secrets[2 * i + 1] = {reinterpret_cast<const char*>(made.data()), made.size()};
    }
    std::size_t looked_at = 0;
    const auto expect_absent = [&](pid_t pid) {
        for (const char* file : {"cmdline", "environ", "comm", "stat"}) {
            const auto text = content_of("/proc/" + std::to_string(pid) + "/" + file);
            for (const auto& each : secrets) EXPECT_EQ(text.find(each), text.npos) << file;
        }
        ++looked_at;
    };
    // Nor in the memory of any but root and bridge. A sanitizer keeps what has been freed.
    const auto expect_forgotten = [&](pid_t pid) {
        if (is_sanitized) return;
        for (const auto& each : secrets) {
            EXPECT_FALSE(holds(pid, each).value_or(false)) << facts_of(pid).name;
        }
    };
    expect_absent(running->pid);
    EXPECT_TRUE(holds(running->pid, secrets[1]).value_or(true));  // the search finds what is there
    for (const pid_t each : family_of(running->pid)) {
        if (each == running->pid) continue;
        expect_absent(each);
        if (facts_of(each).name != "places-bridge") expect_forgotten(each);
    }
    EXPECT_GE(looked_at, 5U);  // root, reaper, nursery, bridge, place
    command ls({"ls", address, "--key-file", key, "--insecure"});
    EXPECT_EQ(ls.status(), 0) << ls.output();
    ::kill(running->pid, SIGTERM);
    for (const auto& output : {ls.output(), running->output()}) {
        for (const auto& each : secrets) EXPECT_EQ(output.find(each), output.npos);
    }
}

// -- a node, and what is asked of it --

TEST_F(cli, ls_shows_places_channels_and_links) {
    auto running = node({"--module", NODE_MODULE, "--insecure", "--name", "by hand"});
    peer controller{port(), key_in_file()};
    ASSERT_TRUE(
        controller.send(open_frame{1, ring, start_module{NODE_MODULE, "module_greet", "greeter"}}));
    ASSERT_TRUE(controller.next<opened_frame>());
    ASSERT_TRUE(controller.send(open_frame{3, ring, start_entry{"module-greet", "registered"}}));
    ASSERT_TRUE(controller.next<opened_frame>());

    command ls({"ls", address, "--key-file", key, "--insecure"});
    EXPECT_EQ(ls.status(), 0);
    std::string text = std::regex_replace(ls.output(), std::regex("127\\.0\\.0\\.1:\\d+"), "A:P");
    text = std::regex_replace(text, std::regex(" +"), " ");
    text = std::regex_replace(text, std::regex("running|sleeping|waiting"), "S");
    text = std::regex_replace(text, std::regex("\\d+s"), "T");
    const std::regex whole(
        "PLACE PID NAME ENTRY STATE AGE\n"
        "1 \\d+ root - S T\n"
        "2 \\d+ places-bridge - S T\n"
        "3 \\d+ greeter module_greet of [^ ]+ S T\n"
        "4 \\d+ registered module-greet S T\n"
        "\n"
        "CHANNEL LINK PLACE SENT QUEUED RECEIVED\n"
        "1 (\\d+) 3 \\d+ \\d+ 0\n"
        "3 \\d+ 4 \\d+ \\d+ 0\n"
        "\n"
        "LOCAL PLACE PLACE RING STATE\n"
        "\n"
        "LINK PEER ADDRESS AGE TLS RIGHTS\n"
        "(\\d+ launcher A:P T no start stop list connect\n){2}");
    EXPECT_TRUE(std::regex_match(text, whole)) << ls.output();

    command json({"ls", address, "--key-file", key, "--insecure", "--json"});
    EXPECT_EQ(json.status(), 0);
    EXPECT_TRUE(std::regex_search(
        json.output(),
        std::regex("^\\{\"places\":\\[.*\"place\":3,\"pid\":\\d+,\"name\":\"greeter\","
                   "\"entry\":\"module_greet of .*\\],\"channels\":\\[\\{\"channel\":1,.*"
                   "\\],\"local_channels\":\\[\\],\"links\":\\[.*\"tls\":false.*\\]\\}\n$")))
        << json.output();
}

TEST_F(cli, ls_shows_the_channels_between_the_places_of_the_node) {
    auto running = node({"--module", NODE_MODULE, "--insecure"});
    peer controller{port(), key_in_file()};
    ASSERT_TRUE(controller.send(open_frame{1, ring, start_entry{"module-greet", "greeter"}}));
    ASSERT_TRUE(controller.next<opened_frame>());
    ASSERT_TRUE(controller.send(open_frame{3, ring, start_entry{"module-visits", "visitor"}}));
    ASSERT_TRUE(controller.next<opened_frame>());
    ASSERT_TRUE(controller.send(credit_frame{3, 0, ring}));
    ASSERT_TRUE(controller.next<data_frame>());

    const auto listed = [&](const std::vector<std::string>& more) {
        std::vector<std::string> words{"ls", address, "--key-file", key, "--insecure"};
        words.insert(words.end(), more.begin(), more.end());
        command ls(words);
        EXPECT_EQ(ls.status(), 0);
        return std::regex_replace(ls.output(), std::regex(" +"), " ");
    };
    EXPECT_TRUE(std::regex_search(listed({}), std::regex("\nLOCAL PLACE PLACE RING STATE\n"
                                                         "(\\d+ 3 4 16384 open\n){70}\n")))
        << listed({});
    EXPECT_TRUE(std::regex_search(
        listed({"--json"}), std::regex("\"local_channels\":\\[(\\{\"channel\":\\d+,\"places\":"
                                       "\\[3,4\\],\"ring_bytes\":16384,\"state\":\"open\"\\},?"
                                       "){70}\\]")))
        << listed({"--json"});

    std::smatch pid;
    const auto text = listed({});
    ASSERT_TRUE(std::regex_search(text, pid, std::regex("\n3 (\\d+) greeter ")));
    ::kill(std::stoi(pid[1].str()), SIGKILL);
    const std::regex left("\n\\d+ 3 4 16384 left by 3\n");
    while (!std::regex_search(listed({}), left)) {
    }
}

TEST_F(cli, ls_makes_json_of_names_that_are_no_text) {
    auto running = node({"--module", NODE_MODULE, "--insecure"});
    peer controller{port(), key_in_file()};
    const std::string bad = "\xEF\xBF\xBD";
    const std::pair<std::string, std::string> names[] = {
        {"caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"},
        {"a\xFF\"b", "a" + bad + "\\\"b"},
        {"cut \xE2\x82", "cut " + bad + bad},
        {"overlong \xC0\xAF", "overlong " + bad + bad},
        {"half \xED\xA0\x80", "half " + bad + bad + bad},
        {"beyond \xF4\x90\x80\x80", "beyond " + bad + bad + bad + bad},
        {"bell \x07", "bell \\u0007"}};
    std::uint64_t channel = 1;
    for (const auto& [name, shown] : names) {
        ASSERT_TRUE(controller.send(open_frame{channel, ring, start_entry{"module-greet", name}}));
        ASSERT_TRUE(controller.next<opened_frame>()) << shown;
        channel += 2;
    }
    command json({"ls", address, "--key-file", key, "--insecure", "--json"});
    EXPECT_EQ(json.status(), 0);
    for (const auto& [name, shown] : names) {
        EXPECT_NE(json.output().find("\"name\":\"" + shown + "\""), std::string::npos)
            << shown << " in " << json.output();
    }
}

TEST_F(cli, ls_prints_nothing_of_a_list_that_is_cut) {
    const auto printed = [&](std::vector<std::string> more, bool in_order) {
        const auto [listening, number] = listen_by_hand();
        more.insert(more.begin(),
                    {"ls", "127.0.0.1:" + std::to_string(number), "--key-file", key, "--insecure"});
        command ls(more);
        {
            auto socket = accept_by_hand(listening);
            const linger reset{in_order ? 0 : 1, 0};
            ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            peer there{std::move(socket), key_in_file()};
            EXPECT_TRUE(there.next<list_ask_frame>());
            list_answer_frame half;
            half.is_last = false;
            half.places.push_back({1, ::getpid(), "named", "", 0, "running"});
            EXPECT_TRUE(there.send(half));
        }
        EXPECT_EQ(ls.status(), 4) << in_order;
        return ls.output();
    };
    const std::regex only_why("places: [^\n]+\n");
    for (const bool in_order : {true, false}) {
        for (const auto& more : {std::vector<std::string>{}, {"--json"}}) {
            const auto text = printed(more, in_order);
            EXPECT_TRUE(std::regex_match(text, only_why)) << text;
        }
    }
}

TEST_F(cli, stop_ends_a_node_with_the_status_asked_for) {
    auto running = node();
    EXPECT_EQ(command({"stop", address, "--key-file", key, "--status", "7"}).status(), 0);
    EXPECT_EQ(running->status(), 7);
    command late({"ls", address, "--key-file", key});
    EXPECT_EQ(late.status(), 4);
    EXPECT_NE(late.output().find("no link to " + address + ": Connection refused"),
              std::string::npos);
}

TEST_F(cli, stop_fails_with_the_cause_where_the_link_is_lost_before_the_node_has_hung_up) {
    const auto [listening, number] = listen_by_hand();
    command stop({"stop", "127.0.0.1:" + std::to_string(number), "--key-file", key, "--insecure"});
    {
        auto socket = accept_by_hand(listening);
        const linger reset{1, 0};
        ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        peer there{std::move(socket), key_in_file()};
        ASSERT_TRUE(there.next<exit_frame>());
    }
    EXPECT_EQ(stop.status(), 4);
    EXPECT_NE(stop.output().find("Connection reset by peer"), std::string::npos) << stop.output();
}

TEST_F(cli, stop_fails_where_the_node_is_killed_before_it_has_hung_up) {
    auto running = node();
    halt(running->pid);  // so it does not hear that it is to end
    command stop({"stop", address, "--key-file", key});
    const std::regex both("launcher[^]*launcher");
    while (true) {
        command ls({"ls", address, "--key-file", key});
        ASSERT_EQ(ls.status(), 0);
        if (std::regex_search(ls.output(), both)) break;
    }
    for (const pid_t each : family_of(running->pid)) {
        if (facts_of(each).name == "places-bridge") ::kill(each, SIGKILL);
    }
    EXPECT_EQ(stop.status(), 4);
    EXPECT_NE(stop.output().find("hung up without a word"), std::string::npos) << stop.output();
}

TEST_F(cli, ends_at_the_deadline_while_the_name_of_the_host_is_still_being_looked_up) {
    if (is_sanitized) GTEST_SKIP() << "a sanitizer has to be loaded before anything else";
    command stop({"stop", "some.host:1", "--key-file", key, "--wait", "1"},
                 {"LD_PRELOAD=" SILENT_NAMES});
    EXPECT_EQ(stop.status(), 4);
    EXPECT_NE(stop.output().find("no link to some.host:1: the name was not looked up in time"),
              std::string::npos)
        << stop.output();
}

/// Reads only while it is asked to.
class secure_peer {
  public:
    secure_peer(std::uint16_t port, const node_key& key) {
        dial_options there;
        there.host = "127.0.0.1";
        there.port = port;
        there.key = key;
        there.name = launcher_name;
        net::dial(loop_.context, there, [this](dial_result r) { link_ = std::move(r).value(); });
        EXPECT_TRUE(loop_.run_until([&] { return link_ != nullptr; }));
        link_->start({.on_frame = [this](frame&& f) { seen_.insert(f.index()); },
                      .on_closed = [this](auto ec, const auto&) { ended_ = ec; }});
    }
    void send(const frame& f) { link_->send(f); }
    template <class Frame>
    bool reads() {
        return loop_.run_until([&] { return seen_.contains(frame{Frame{}}.index()); });
    }
    /// Whether the other side hangs up, and in order.
    bool is_left_in_order() {
        return loop_.run_until([&] { return ended_.has_value(); }) &&
               *ended_ == boost::asio::error::eof;
    }

  private:
    event_loop loop_;
    std::set<std::size_t> seen_;
    std::optional<boost::system::error_code> ended_;
    std::shared_ptr<link> link_;
};

TEST_F(cli, stop_is_done_though_another_does_not_read_what_the_places_print) {
    // Over TLS, which tells an end in order from any other.
    auto running = node({"--module", NODE_MODULE});
    secure_peer controller{port(), key_in_file()};
    controller.send(open_frame{1, ring, start_entry{"module-prints", "printer"}});
    ASSERT_TRUE(controller.reads<opened_frame>());
    secure_peer other{port(), key_in_file()};
    other.send(open_frame{1, ring, connect_name{"printer"}});
    ASSERT_TRUE(other.reads<opened_frame>());
    other.send(credit_frame{1, 0, ring});
    other.send(data_frame{1, 0, record_of(message::of(std::string("go")))});
    ASSERT_TRUE(other.reads<data_frame>());  // nobody takes any more
    command stop({"stop", address, "--key-file", key});
    EXPECT_EQ(stop.status(), 0) << stop.output();
    EXPECT_EQ(running->status(), 0);
}

TEST_F(cli, stop_reaches_a_node_whose_standard_error_nobody_reads) {
    auto running = node({"--module", NODE_MODULE, "--insecure"});
    {
        peer controller{port(), key_in_file()};
        ASSERT_TRUE(controller.send(open_frame{1, ring, start_entry{"module-prints", "printer"}}));
        ASSERT_TRUE(controller.next<opened_frame>());
        // Held by this one, it prints on when its controller has gone, to the node's standard
        // error.
        peer other{port(), key_in_file()};
        ASSERT_TRUE(other.send(open_frame{1, ring, connect_name{"printer"}}));
        ASSERT_TRUE(other.next<opened_frame>());
        ASSERT_TRUE(other.send(data_frame{1, 0, record_of(message::of(std::string("go")))}));
        ASSERT_TRUE(controller.next<output_frame>());
    }
    // Where a user has many pipes, the next are small. What does not fit as a whole waits.
    const int nearly_full = ::fcntl(running->reader(), F_GETPIPE_SZ) / 10 * 9;
    ASSERT_GT(nearly_full, 0);
    const auto begun = std::chrono::steady_clock::now();
    for (int queued = 0; queued < nearly_full;) {
        ASSERT_EQ(::ioctl(running->reader(), FIONREAD, &queued), 0);
        ASSERT_LT(ms_since(begun), watchdog_ms) << queued << " octets";
    }
    EXPECT_EQ(command({"stop", address, "--key-file", key, "--insecure"}).status(), 0);
    EXPECT_EQ(running->status(), 0);
}

TEST_F(cli, a_node_refuses_another_key_and_plain_tcp) {
    auto running = node();
    const auto other = folder / "other.key";
    ASSERT_EQ(command({"key", other}).status(), 0);
    for (const char* what : {"ls", "stop"}) {
        command one({what, address, "--key-file", other});
        EXPECT_EQ(one.status(), 5);
        EXPECT_EQ(one.output(), "places: no link to " + address +
                                    ": the other side does not hold the node's key; is ours, or "
                                    "its file, the one that the node was started with?\n");
    }
    command plain({"ls", address, "--key-file", key, "--insecure"});
    EXPECT_EQ(plain.status(), 8);
    EXPECT_NE(plain.output().find("it speaks TLS only, and was dialed as insecure: leave that out"),
              std::string::npos)
        << plain.output();
    EXPECT_EQ(command({"ls", address, "--key-file", key}).status(), 0);
}

TEST_F(cli, a_node_of_another_version_is_told_apart_naming_what_both_speak) {
    const auto [listening, number] = listen_by_hand();
    command ls({"ls", "127.0.0.1:" + std::to_string(number), "--key-file", key, "--insecure"});
    const auto there = accept_by_hand(listening);
    const auto words = encode(challenge_frame{8, 9, {}});
    EXPECT_EQ(::send(there.get(), words.data(), words.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(words.size()));
    EXPECT_EQ(ls.status(), 7);
    const protocol_range own;
    const auto range = std::to_string(own.min) + ".." + std::to_string(own.max);
    EXPECT_NE(ls.output().find("this side speaks " + range + ", the other 8..9"), std::string::npos)
        << ls.output();
}

/// The socket of a service manager.
class manager {
  public:
    explicit manager(std::string path) : path_(std::move(path)) {
        const auto here = address();
        EXPECT_EQ(
            ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&here.first), here.second), 0);
        const timeval watchdog{watchdog_ms / 1000, 0};
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &watchdog, sizeof watchdog);
    }
    std::string variable() const { return "NOTIFY_SOCKET=" + path_; }
    /// The next that it has been told; nothing once the watchdog has barked.
    std::string received() {
        std::array<char, 100> text{};
        const auto got = ::recv(socket_.get(), text.data(), text.size(), 0);
        return {text.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
    }
    /// From now on there is no room in its queue. Returns: how many have filled it.
    int fill() {
        const unique_fd other{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
        const auto here = address();
        int count = 0;
        while (::sendto(other.get(), "X=1", 3, MSG_DONTWAIT,
                        reinterpret_cast<const sockaddr*>(&here.first), here.second) > 0) {
            ++count;
        }
        EXPECT_EQ(errno, EAGAIN);
        return count;
    }

  private:
    std::pair<sockaddr_un, socklen_t> address() const {
        sockaddr_un here{};
        here.sun_family = AF_UNIX;
        path_.copy(here.sun_path, sizeof here.sun_path - 1);
        return {here, sizeof here};
    }
    std::string path_;
    unique_fd socket_{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
};

TEST_F(cli, a_node_tells_its_manager_that_it_is_ready_and_ends_in_order_on_sigterm) {
    manager one{folder / "notify"};
    auto running = node({}, {one.variable()});
    EXPECT_EQ(one.received(), "READY=1");
    std::vector<unique_fd> all;
    for (const pid_t each : family_of(running->pid)) {
        if (each != running->pid) all.push_back(watch(each));
    }
    EXPECT_EQ(all.size(), 3U);  // reaper, nursery, bridge
    ::kill(running->pid, SIGTERM);
    EXPECT_EQ(one.received(), "STOPPING=1");
    EXPECT_EQ(running->status(), 0);
    for (const auto& each : all) EXPECT_TRUE(ends(each));
}

TEST_F(cli, a_node_tells_its_manager_that_it_is_ready_once_that_has_room_to_hear_it) {
    manager busy{folder / "notify"};
    int queued = busy.fill();
    ASSERT_GT(queued, 0);
    auto running = node({}, {busy.variable()});
    // It has said that it listens, and now it waits for room.
    while (facts_of(running->pid).state != 'S') ::sched_yield();
    while (queued-- > 0) EXPECT_EQ(busy.received(), "X=1");
    EXPECT_EQ(busy.received(), "READY=1");
    EXPECT_EQ(command({"stop", address, "--key-file", key}).status(), 0);
    EXPECT_EQ(running->status(), 0);
    EXPECT_EQ(running->output().find("manager"), std::string::npos) << running->output();
}

TEST_F(cli, a_node_that_cannot_tell_its_manager_that_it_is_ready_says_so_and_runs) {
    manager deaf{folder / "notify"};
    ASSERT_GT(deaf.fill(), 0);
    auto unheard = node({}, {deaf.variable()});
    EXPECT_NE(unheard->wait_for("manager").find("READY=1"), std::string::npos);
    EXPECT_EQ(command({"stop", address, "--key-file", key}).status(), 0);
    EXPECT_EQ(unheard->status(), 0);

    auto ended = node({}, {deaf.variable()});
    ::kill(ended->pid, SIGTERM);
    EXPECT_EQ(ended->status(), 0);

    auto alone = node({}, {"NOTIFY_SOCKET=" + (folder / "nobody").string()});
    EXPECT_NE(alone->wait_for("manager").find("No such file or directory"), std::string::npos);
    EXPECT_EQ(command({"stop", address, "--key-file", key}).status(), 0);
    EXPECT_EQ(alone->status(), 0);
}

TEST_F(cli, a_node_ends_in_order_on_a_sigterm_that_all_of_its_processes_get) {
    auto running = node({"--module", NODE_MODULE});
    secure_peer controller{port(), key_in_file()};
    controller.send(open_frame{1, ring, start_entry{"module-greet", "greeter"}});
    ASSERT_TRUE(controller.reads<opened_frame>());
    // As timeout(1) does: to its child, and then to all.
    ASSERT_EQ(::kill(running->pid, SIGTERM), 0);
    ASSERT_EQ(::kill(-running->pid, SIGTERM), 0);
    EXPECT_TRUE(controller.is_left_in_order());
    EXPECT_EQ(running->status(), 0) << running->output();
}

TEST_F(cli, a_node_ends_on_sigterm_though_its_bridge_or_nursery_hangs) {
    const std::pair<const char*, std::unique_ptr<command>> both[] = {{"nursery", node()},
                                                                     {"bridge", node()}};
    std::vector<unique_fd> all;
    for (const auto& [hanging, running] : both) {
        for (const pid_t each : family_of(running->pid)) {
            if (each != running->pid) all.push_back(watch(each));
            if (facts_of(each).name == std::string("places-") + hanging) halt(each);
        }
        ::kill(running->pid, SIGTERM);
    }
    EXPECT_EQ(all.size(), 6U);
    for (const auto& [hanging, running] : both) {
        EXPECT_EQ(running->status(), 11);
        EXPECT_NE(running->output().find(std::string("the ") + hanging + " hangs"),
                  std::string::npos)
            << running->output();
    }
    for (const auto& each : all) EXPECT_TRUE(ends(each));
}

TEST_F(cli, a_node_whose_root_hangs_ends_on_sigterm_though_it_was_begun_with_alarms_blocked) {
    sigset_t alarm;
    sigset_t before;
    ::sigemptyset(&alarm);
    ::sigaddset(&alarm, SIGALRM);
    ::pthread_sigmask(SIG_BLOCK, &alarm, &before);
    manager deaf{folder / "notify"};
    ASSERT_GT(deaf.fill(), 0);
    command running({"node", "--listen", "127.0.0.1:0", "--key-file", key}, {deaf.variable()});
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    (void)running.wait_for("listens");
    for (const pid_t each : family_of(running.pid)) {
        if (facts_of(each).name == "places-nursery") halt(each);
    }
    ::kill(running.pid, SIGTERM);
    EXPECT_EQ(running.status(), 11);
    EXPECT_NE(running.output().find("the nursery hangs"), std::string::npos) << running.output();
    EXPECT_EQ(running.output().find("manager"), std::string::npos) << running.output();
}

TEST_F(cli, a_node_that_hangs_in_its_end_ends_by_a_second_signal) {
    for (const int second : {SIGTERM, SIGINT}) {
        auto running = node();
        halt(bridge_of(running->pid));
        const auto life = watch(running->pid);
        ::kill(running->pid, SIGTERM);
        // Not by one that comes at once.
        pollfd end{life.get(), POLLIN, 0};
        while (::poll(&end, 1, 10) == 0) ::kill(running->pid, second);
        EXPECT_EQ(running->status(), 256 + second);
    }
}

TEST_F(cli, a_node_that_has_lost_its_nursery_says_so_by_its_status) {
    auto running = node();
    const pid_t nursery = nursery_of(running->pid);
    ASSERT_NE(nursery, 0);
    kill_process(nursery);
    EXPECT_EQ(running->status(), 9);
    EXPECT_NE(running->output().find("the bridge has ended"), std::string::npos)
        << running->output();
}

TEST_F(cli, a_node_whose_bridge_is_killed_starts_another_and_its_places_keep_their_state) {
    manager one{folder / "notify"};
    auto running = node({"--module", NODE_MODULE, "--insecure"}, {one.variable()});
    EXPECT_EQ(one.received(), "READY=1");
    const auto made = key_in_file();
    const std::string secret{reinterpret_cast<const char*>(made.data()), made.size()};
    {
        peer controller{port(), made};
        ASSERT_TRUE(controller.send(open_frame{1, ring, start_entry{"module-counts", "counter"}}));
        ASSERT_TRUE(controller.next<opened_frame>());
    }
    constexpr std::size_t kills = 10;
    for (std::size_t n = 1; n <= kills; ++n) {
        SCOPED_TRACE(n);
        peer other{port(), made};
        ASSERT_TRUE(other.is_welcome);
        ASSERT_TRUE(other.send(open_frame{1, ring, connect_name{"counter"}}));
        ASSERT_TRUE(other.next<opened_frame>());
        ASSERT_TRUE(other.send(credit_frame{1, 0, ring}));
        ASSERT_TRUE(other.send(data_frame{1, 0, record_of(message::of(std::string("?")))}));
        const auto answer = other.next<data_frame>();
        ASSERT_TRUE(answer);
        const std::string text{reinterpret_cast<const char*>(answer->records.data()),
                               answer->records.size()};
        EXPECT_NE(text.find("asked " + std::to_string(n) + " times"), text.npos) << text;
        const auto bridge = bridge_of(running->pid);
        ASSERT_NE(bridge, 0);
        kill_process(bridge);
        EXPECT_TRUE(other.is_closed_by_bridge());
        const auto output = running->wait_for("listens again on 127.0.0.1 port", n);
        EXPECT_NE(output.find("the bridge has ended: signal 9"), output.npos) << output;
    }
    // A sanitizer keeps what has been freed.
    EXPECT_FALSE(!is_sanitized && holds(nursery_of(running->pid), secret).value_or(false));
    command ls({"ls", address, "--key-file", key, "--insecure"});
    EXPECT_EQ(ls.status(), 0) << ls.output();
    EXPECT_NE(ls.output().find("counter"), std::string::npos) << ls.output();
    EXPECT_EQ(command({"stop", address, "--key-file", key, "--insecure", "--status", "3"}).status(),
              0);
    EXPECT_EQ(running->status(), 3);
    // It is told once that the node is ready.
    EXPECT_EQ(one.received(), "STOPPING=1");
}

TEST_F(cli, a_node_whose_bridges_are_of_no_use_ends_with_the_fifth_of_them) {
    auto running = node();
    for (std::size_t n = 1; n <= 5; ++n) {
        const auto bridge = bridge_of(running->pid);
        ASSERT_NE(bridge, 0);
        kill_process(bridge);
        if (n < 5) (void)running->wait_for("listens again", n);
    }
    EXPECT_EQ(running->status(), 9);
    EXPECT_NE(running->output().find("the last of 5 within 10 s"), std::string::npos)
        << running->output();
}

TEST_F(cli, a_node_that_waits_to_start_another_bridge_ends_when_it_is_told_to) {
    auto running = node();
    for (std::size_t n = 1; n <= 4; ++n) {
        kill_process(bridge_of(running->pid));
        if (n < 4) (void)running->wait_for("listens again", n);
    }
    (void)running->wait_for("the bridge has ended", 4);
    ::kill(running->pid, SIGTERM);
    EXPECT_EQ(running->status(), 0);
}

TEST_F(cli, a_node_that_cannot_begin_says_why) {
    const auto fails = [&](std::vector<std::string> more, int status) {
        more.insert(more.begin(), {"node", "--key-file", key});
        command one(more);
        EXPECT_EQ(one.status(), status);
        return one.output();
    };
    auto running = node();
    EXPECT_NE(fails({"--listen", address}, 10).find("Address already in use"), std::string::npos);
    // An address for documents, which no host has.
    const auto elsewhere = fails({"--listen", "192.0.2.1:0"}, 10);
    EXPECT_NE(elsewhere.find("cannot listen on 192.0.2.1:0"), std::string::npos) << elsewhere;
    EXPECT_NE(elsewhere.find("not yet an address of this host"), std::string::npos) << elsewhere;
    EXPECT_NE(fails({"--listen", "0.0.0.0:0", "--insecure"}, 2).find("loopback only"),
              std::string::npos);
    EXPECT_NE(fails({"--listen", "127.0.0.1:x"}, 2).find("is no address"), std::string::npos);
    EXPECT_NE(fails({"--listen", "[::1]x0"}, 2).find("is no address"), std::string::npos);
    EXPECT_NE(fails({"--module", "/no/such.so"}, 1).find("/no/such.so"), std::string::npos);
    EXPECT_EQ(command({"node"}).status(), 2);
    EXPECT_EQ(command({"no-such-command"}).status(), 2);
}

TEST_F(cli, a_node_that_has_no_right_to_its_port_says_what_it_takes) {
    int first = 0;  // that anybody may listen on
    std::ifstream("/proc/sys/net/ipv4/ip_unprivileged_port_start") >> first;
    if (first < 2) GTEST_SKIP() << "here anybody may listen anywhere";
    // What root executes from now on has not got it. Others have no such right to begin with.
    (void)::prctl(PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE, 0, 0, 0);
    command one({"node", "--key-file", key, "--listen", "127.0.0.1:" + std::to_string(first - 1)});
    EXPECT_EQ(one.status(), 10);
    EXPECT_NE(one.output().find("Permission denied; low ports take CAP_NET_BIND_SERVICE"),
              std::string::npos)
        << one.output();
}

TEST_F(cli, a_result_that_cannot_be_written_is_a_failure_and_says_why) {
    auto running = node();
    const auto fails = [](const std::vector<std::string>& arguments, const char* sink) {
        command one(arguments, {}, sink);
        EXPECT_EQ(one.status(), 1) << arguments.front();
        return one.output();
    };
    const std::vector<std::vector<std::string>> all{{"ls", address, "--key-file", key},
                                                    {"ls", address, "--key-file", key, "--json"},
                                                    {"key", folder / "another.key"},
                                                    {"--help"}};
    for (const auto& each : all) {
        EXPECT_EQ(fails(each, "/dev/full"), "places: standard output: No space left on device\n");
        std::filesystem::remove(folder / "another.key");
        EXPECT_EQ(fails(each, nullptr), "places: standard output: Bad file descriptor\n");
        std::filesystem::remove(folder / "another.key");
    }
    // It says nothing, so nothing is lost.
    command stop({"stop", address, "--key-file", key}, {}, nullptr);
    EXPECT_EQ(stop.status(), 0) << stop.output();
}

TEST_F(cli, every_command_has_help_that_names_the_exit_statuses) {
    for (const std::vector<std::string>& each : {std::vector<std::string>{"--help"},
                                                 {"node", "--help"},
                                                 {"ls", "--help"},
                                                 {"stop", "--help"},
                                                 {"key", "--help"}}) {
        command one(each);
        EXPECT_EQ(one.status(), 0);
        EXPECT_NE(one.output().find("Exit status: 0 done, 1 failed"), std::string::npos);
        EXPECT_NE(one.output().find("7 node of another version"), std::string::npos);
    }
}

}  // namespace
}  // namespace places::net
