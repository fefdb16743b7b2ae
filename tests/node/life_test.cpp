// SPDX-License-Identifier: Apache-2.0
// How nodes, and places on them, begin and end, and what their users are told.
#include "launcher/end_limit.hpp"
#include "launcher/node.hpp"
#include "launcher/spawned.hpp"
#include "tests/node/entries.hpp"
#include "tests/node/heard.hpp"
#include "tests/node/local_node.hpp"
#include "tests/node/peer.hpp"
#include "tests/node/processes.hpp"
#include "tests/support/content_of.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/halt.hpp"
#include "tests/support/kill_process.hpp"
#include "tests/support/line_from.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/support/scratch.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <optional>
#include <regex>
#include <sched.h>
#include <spawn.h>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <system_error>
#include <vector>

using namespace std::chrono_literals;
using places::errc;

struct faulty_server {
    int count() { return ++count_; }
    void fail(const std::string& text) { throw std::runtime_error(text); }
    void fail_strangely() { throw 5; }

  private:
    int count_ = 0;
};
PLACES_SERVER(faulty_server, (rpc, count), (rpc, fail), (rpc, fail_strangely))

namespace {

using clock_type = std::chrono::steady_clock;

int complain(places::channel&) {
    std::cerr << "first complaint\nsecond complaint\nunfinished complaint" << std::flush;
    return 0;
}
const auto complain_entry = places::register_entry<complain>("complain");

/// What /proc has in `name` of a process.
std::string proc_text(pid_t pid, const char* name) {
    return content_of("/proc/" + std::to_string(pid) + "/" + name);
}

// -- beginning --

TEST(node, port_0_is_one_that_the_system_chose) {
    auto node = start_node();
    EXPECT_NE(node.port(), 0);
    EXPECT_EQ(node.name(), "localhost:" + std::to_string(node.port()));
    EXPECT_TRUE(node.is_up());
    EXPECT_EQ(::kill(node.pid(), 0), 0);
    auto second = test_runtime().spawn_remote_node("localhost", {.listen_port = 0, .name = "two"});
    EXPECT_NE(second.port(), node.port());
    EXPECT_EQ(second.name(), "two");
}

TEST(node, runs_a_registered_entry_a_server_and_a_library) {
    places::node_options options{.listen_port = 0};
    options.modules = {NODE_MODULE};
    auto node = test_runtime().spawn_remote_node("localhost", options);
    auto by_entry = node.supervise_place(echo_entry);
    EXPECT_EQ(echoed(by_entry, "hello"), "hello");
    auto by_type = node.supervise_place<table_server>();
    EXPECT_EQ(by_type.set("a", 1), 1);
    EXPECT_NE(by_type.pid(), ::getpid());
    auto by_library = node.supervise_place(places::library{NODE_MODULE, "module_greet"});
    EXPECT_EQ(echoed(by_library, "hello"), "module says hello");
}

TEST(node, starts_places_from_what_its_modules_register) {
    places::node_options options{.listen_port = 0};
    options.modules = {NODE_MODULE};
    auto node = test_runtime().spawn_remote_node("localhost", options);
    auto by_name = node.supervise_place(places::registered{"module-greet"});
    EXPECT_EQ(echoed(by_name, "hello"), "module says hello");
    auto by_symbol = node.supervise_place(places::library{NODE_MODULE, "module_greet"});
    EXPECT_EQ(echoed(by_symbol, "hello"), "module says hello");
    options.modules = {"./no-such.so"};
    const auto failure =
        error_of([&] { (void)test_runtime().spawn_remote_node("localhost", options); });
    EXPECT_EQ(failure.code(), errc::load_failed);
    const auto path = std::filesystem::current_path() / "no-such.so";
    EXPECT_TRUE(has(failure, "module " + path.string() + ": ") && has(failure, "No such file"))
        << failure.what();
}

/// The current directory, for as long as this lives.
class inside {
  public:
    explicit inside(const std::filesystem::path& folder) {
        std::filesystem::current_path(folder);
    }
    ~inside() {
        std::error_code none;
        std::filesystem::current_path(before_, none);
    }
    inside(const inside&) = delete;
    inside& operator=(const inside&) = delete;

  private:
    const std::filesystem::path before_ = std::filesystem::current_path();
};

TEST(node, finds_relative_modules_from_the_directory_of_its_root_wherever_its_own_is) {
    namespace files = std::filesystem;
    const files::path module = NODE_MODULE;
    const auto relative = "./" + files::relative(module).string();
    places::node_options options{.listen_port = 0, .working_directory = "/proc"};
    const auto greets = [&](const std::string& path) {
        auto node = test_runtime().spawn_remote_node("localhost", options);
        auto place = node.supervise_place(places::library{path, "module_greet"});
        return echoed(place, "hello");
    };
    options.modules = {relative};
    EXPECT_EQ(greets(relative), "module says hello");
    EXPECT_EQ(greets(NODE_MODULE), "module says hello");
    {
        // Where a link makes the plain path that of another file, it stays as it is.
        const scratch_folder scratch;
        const files::path folder = scratch.path();
        files::create_directories(folder / "far/below");
        files::create_symlink(folder / "far/below", folder / "link");
        files::copy_file(module, folder / "far/m.so");
        const auto through = (folder / "link/../m.so").string();
        options.modules = {through};
        EXPECT_EQ(greets(through), "module says hello");
    }
    {
        const inside folder(module.parent_path());
        const auto name = module.filename().string();
        options.modules = {name, "./" + name};
        EXPECT_EQ(greets(name), "module says hello");
        EXPECT_EQ(greets("./" + name), "module says hello");
    }
    {
        // Nor is one that is no file here looked for in the node's own.
        const inside folder("/");
        options.working_directory = module.parent_path();
        options.modules = {"./" + module.filename().string()};
        EXPECT_EQ(error_of([&] { (void)greets(options.modules[0]); }).code(), errc::load_failed);
        options.working_directory = "/proc";
    }
    // A name that is no file there is the loader's to find.
    options.modules = {"libm.so.6", NODE_MODULE};
    EXPECT_EQ(greets(NODE_MODULE), "module says hello");
}

TEST(node, a_line_that_was_begun_before_it_was_ready_is_heard_and_hides_no_word_of_its_own) {
    ::setenv("BROKEN_NODE", "unfinished", 1);
    auto node = start_node();
    EXPECT_EQ(heard("[localhost:0] no line feed"), "[localhost:0] no line feed");
    const auto failure = error_of([&] {
        (void)test_runtime().spawn_remote_node("localhost",
                                               {.listen_port = 0, .modules = {"./no-such.so"}});
    });
    ::unsetenv("BROKEN_NODE");
    EXPECT_EQ(failure.code(), errc::load_failed);
    EXPECT_TRUE(node.is_up());
}

TEST(node, what_it_has_printed_as_it_starts_is_passed_on_by_one_look) {
    const auto before = children_of(::getpid());
    ::setenv("BROKEN_NODE", "chatty", 1);
    auto pending =
        test_runtime().spawn_remote_node_async("localhost", {.listen_port = 0, .deadline = 60s});
    ::unsetenv("BROKEN_NODE");
    pid_t begun = 0;
    for (const pid_t each : children_of(::getpid())) {
        if (std::ranges::find(before, each) == before.end()) begun = each;
    }
    siginfo_t stopped{};
    const auto id = static_cast<id_t>(begun);
    ASSERT_EQ(::waitid(P_PID, id, &stopped, WSTOPPED | WEXITED | WNOWAIT), 0);
    ASSERT_EQ(stopped.si_code, CLD_STOPPED);
    EXPECT_FALSE(pending.is_ready());
    EXPECT_FALSE(heard("[localhost:0] chatty words", 50).empty());
    ::kill(begun, SIGCONT);
    EXPECT_TRUE(pending.get().is_up());
}

TEST(node, connections_to_one_name_share_its_state_and_get_their_own_answers) {
    auto node = start_node();
    node.supervise_place<table_server>({.named = "table"});
    auto c = node.connect_to_named_place<table_server>("table");
    auto d = node.connect_to_named_place<table_server>("table");
    EXPECT_EQ(c.set("x", 7), 7);
    EXPECT_EQ(d.get("x"), 7);
    EXPECT_THROW(d.get("unknown"), places::remote_error);
    EXPECT_EQ(c.get("x"), 7);
}

TEST(node, tells_what_a_method_on_it_threw_and_the_server_lives_on) {
    auto node = start_node();
    auto server = node.supervise_place<faulty_server>();
    EXPECT_EQ(server.count(), 1);
    for (const std::string& text : {std::string("the reason"), std::string(15'000, 'x')}) {
        EXPECT_EQ(text_of_error(errc::remote_error, [&] { server.fail(text); }), text);
    }
    EXPECT_NE(text_of_error(errc::remote_error, [&] { server.fail_strangely(); })
                  .find("no std::exception"),
              std::string::npos);
    EXPECT_EQ(server.count(), 2);
}

TEST(node, a_named_place_outlives_the_handle_of_whoever_started_it) {
    auto node = start_node();
    pid_t pid = 0;
    {
        auto first = node.supervise_place<table_server>({.named = "table"});
        pid = first.pid();
        first.set("x", 7);
    }
    auto c = node.connect_to_named_place<table_server>("table");
    EXPECT_EQ(c.get("x"), 7);
    EXPECT_EQ(c.pid(), pid);
}

TEST(node, an_anonymous_place_ends_with_its_handle) {
    auto node = start_node();
    places::unique_fd life;
    {
        auto place = node.supervise_place<table_server>();
        life = watch(place.pid());
        ASSERT_TRUE(life);
    }
    EXPECT_TRUE(ends(life));
}

/// Of one that has sent its pid, and does not end by itself.
places::unique_fd life_of(places::remote_place& place) {
    return watch(static_cast<pid_t>(place.get<std::int64_t>().value()));
}

TEST(node, an_anonymous_place_that_ignores_its_closed_channel_is_killed_with_its_handle) {
    auto node = start_node();
    const auto start = clock_type::now();
    auto named = node.supervise_place(ignore_all_ends_entry, {.named = "stays"});
    const auto named_life = life_of(named);
    places::unique_fd first_life;
    places::unique_fd second_life;
    {
        auto first = node.supervise_place(ignore_the_end_entry);
        auto second = node.supervise_place(ignore_the_end_entry);
        first_life = life_of(first);
        second_life = life_of(second);
        named = {};
        second.close();
    }
    EXPECT_TRUE(ends(first_life));
    EXPECT_TRUE(ends(second_life));
    EXPECT_GE(clock_type::now() - start, 2s);
    pollfd named_ends{named_life.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&named_ends, 1, 0), 0);
}

TEST(node, an_unsolicited_message_of_a_place_there_reaches_its_handler) {
    auto node = start_node();
    auto place = node.supervise_place(echo_entry);
    std::vector<std::string> received;
    test_runtime().route(
        node, places::on_message(place,
                                 [&](const places::message& m) {
                                     received.push_back(m.as<std::string>().value());
                                     if (received.size() == 2) test_runtime().stop();
                                 }),
        places::after(0s, [&] {
            EXPECT_EQ(place.put(std::string("one")), places::status::ok);
            EXPECT_EQ(place.put(std::string("two")), places::status::ok);
        }));
    EXPECT_EQ(received, (std::vector<std::string>{"one", "two"}));
}

TEST(node, of_a_root_whose_file_is_gone_runs_the_same_program) {
    const std::string program = testing::TempDir() + "gone-" + std::to_string(::getpid());
    std::filesystem::copy_file(DOOMED_ROOT, program);
    const auto root = places::launcher::spawn_program({program, "wait"});
    std::filesystem::remove(program);
    places::launcher::write_all(root.in.get(), "\n", 1);
    const auto printed = line_from(root.out.get());
    const pid_t node = std::atoi(printed.c_str());
    ASSERT_NE(node, 0) << printed;
    EXPECT_EQ(facts_of(node).name, facts_of(root.pid).name);
    std::ifstream words("/proc/" + std::to_string(node) + "/cmdline");
    std::string first;
    std::getline(words, first, '\0');
    EXPECT_EQ(first, program);
    const auto life = watch(node);
    ::kill(root.pid, SIGKILL);
    EXPECT_TRUE(ends(life));
    EXPECT_TRUE(places::launcher::reap(root.pid, root.pidfd, watchdog_ms));
}

TEST(node, of_a_root_that_was_started_to_ignore_its_children_ends_with_a_status_all_the_same) {
    const auto root = places::launcher::spawn_program(
        {"env", "--ignore-signal=CHLD", DOOMED_ROOT, "exit"});
    EXPECT_EQ(places::launcher::reap(root.pid, root.pidfd, watchdog_ms),
              (places::exit_status{false, 3}));
}

TEST(node, whose_status_the_root_lets_nobody_know_is_said_to_have_an_unknown_one) {
    auto node = start_node();
    const auto before = std::signal(SIGCHLD, SIG_IGN);
    node.send_exit(3);
    for (int i = 0; i < 2; ++i) {
        const auto failure = error_of([&] { (void)node.wait(); });
        EXPECT_EQ(failure.code(), errc::node_down);
        EXPECT_TRUE(has(failure, node.name()) && has(failure, "SIGCHLD")) << failure.what();
    }
    std::signal(SIGCHLD, before);
    EXPECT_FALSE(node.is_up());
}

TEST(node, has_its_key_neither_in_its_words_nor_in_its_environment) {
    const std::string key = "thirty-two octets that are a key";
    ASSERT_EQ(key.size(), 32U);
    const auto* octets = reinterpret_cast<const std::byte*>(key.data());
    auto node = test_runtime().spawn_remote_node(
        "localhost", {.listen_port = 0, .key = {octets, octets + key.size()}});
    const auto program = std::filesystem::read_symlink("/proc/self/exe").string();
    using namespace std::string_literals;
    EXPECT_EQ(proc_text(node.pid(), "cmdline"), program + "\0--places-node\0"s);
    std::string own;
    for (char** each = environ; *each; ++each) own += *each + "\0"s;
    EXPECT_EQ(proc_text(node.pid(), "environ"), own);
    EXPECT_EQ(own.find(key), own.npos);
}

// -- ending --

TEST(node, what_a_place_there_writes_to_standard_error_is_heard_with_its_unfinished_last_line) {
    auto node = start_node();
    auto place = node.supervise_place(complain_entry, {.named = {}});
    EXPECT_FALSE(place.get<std::string>());  // it has ended
    for (const char* which : {"first", "second", "unfinished"}) {
        const auto line = heard(std::string(which) + " complaint");
        EXPECT_TRUE(line.starts_with("[" + node.name() + "/")) << line;
        EXPECT_TRUE(line.ends_with(std::string("] ") + which + " complaint")) << line;
    }
}

TEST(node, killed_beside_another_is_alone_in_being_reported_down) {
    auto one = start_node();
    auto two = start_node();
    auto table = two.supervise_place<table_server>();
    int ones = 0;
    int twos = 0;
    one.on_down([&](const std::string&) {
        ++ones;
        EXPECT_EQ(table.set("x", 2), 2);
        test_runtime().stop();
    });
    two.on_down([&](const std::string&) { ++twos; });
    test_runtime().route(one, two, places::after(0s, [&] {
                             EXPECT_EQ(table.set("x", 1), 1);
                             ::kill(one.pid(), SIGKILL);
                         }));
    EXPECT_EQ(table.get("x"), 2);
    EXPECT_EQ(ones, 1);
    EXPECT_EQ(twos, 0);
    EXPECT_TRUE(two.is_up());
}

TEST(node, send_exit_ends_it_with_the_status_asked_for_and_reaps_it) {
    for (const int status : {0, 7, 255}) {
        auto node = start_node();
        auto place = node.supervise_place<table_server>({.named = "table"});
        place.say("last words of " + std::to_string(status));
        (void)place.pid();
        node.send_exit(status);
        EXPECT_EQ(node.wait(), (places::exit_status{false, status}));
        EXPECT_EQ(::waitpid(node.pid(), nullptr, WNOHANG), -1);
        EXPECT_EQ(errno, ECHILD);
        EXPECT_FALSE(node.is_up());
        EXPECT_NE(heard("[" + node.name() + "/table] last words of " + std::to_string(status)), "");
    }
}

TEST(node, ends_after_send_exit_though_its_nursery_hangs) {
    auto node = start_node();
    halt(nursery_of(node.pid()));
    node.send_exit(7);
    EXPECT_EQ(node.wait(), (places::exit_status{false, places::launcher::given_up_status}));
}

TEST(node, that_fails_once_it_was_ready_says_so_as_a_line_of_text_alone) {
    auto node = start_node();
    halt(node.pid());
    node.send_exit(7);
    // Once that is answered, the node has what came before.
    EXPECT_EQ(error_of([&] { (void)node.connect_to_named_place("nobody"); }).code(),
              errc::name_not_found);
    kill_process(nursery_of(node.pid()));
    ::kill(node.pid(), SIGCONT);
    EXPECT_EQ(node.wait(), (places::exit_status{false, 1}));
    EXPECT_FALSE(heard("[" + node.name() + "] the node ends: ").empty());
    EXPECT_EQ(times_heard("places-node-failed"), 0U);
}

TEST(node, ends_when_it_is_asked_to_though_its_bridge_hangs) {
    // Started by hand, so that a peer can say when the bridge has passed that on.
    namespace net = places::net;
    const auto node = places::launcher::spawn_self(places::launcher::node_argument);
    const auto tell = [&](const places::bytes& octets) {
        const auto length = static_cast<std::uint32_t>(octets.size());
        places::launcher::write_all(node.in.get(), &length, sizeof length);
        places::launcher::write_all(node.in.get(), octets.data(), octets.size());
    };
    const auto key = net::make_node_key();
    places::launcher::node_order order;
    order.address = "127.0.0.1";
    order.key = {key.begin(), key.end()};
    order.insecure = true;
    tell(places::detail::encode_datum(places::launcher::node_setting{}));
    tell(places::detail::encode_datum(order));
    auto line = line_from(node.out.get());
    // An empty one comes before it.
    if (line.empty()) line = line_from(node.out.get());
    unsigned port = 0;
    ASSERT_EQ(std::sscanf(line.c_str(), "places-node-ready port=%u", &port), 1) << line;

    net::peer controller{static_cast<std::uint16_t>(port), key};
    halt(node.pid);
    ASSERT_TRUE(controller.send(net::exit_frame{7}));
    ASSERT_TRUE(controller.send(net::list_ask_frame{}));
    ASSERT_TRUE(controller.next<net::list_answer_frame>());
    halt(bridge_of(node.pid));
    ::kill(node.pid, SIGCONT);
    EXPECT_EQ(places::launcher::reap(node.pid, node.pidfd, watchdog_ms),
              (places::exit_status{false, places::launcher::given_up_status}));
    std::array<char, 100> said{};
    EXPECT_GT(::read(node.err.get(), said.data(), said.size() - 1), 0);
    EXPECT_STREQ(said.data(), "places: the end is given up: the bridge hangs\n");
}

TEST(node, everything_printed_before_its_end_is_forwarded) {
    auto node = start_node();
    auto place = node.supervise_place<table_server>({.named = "table"});
    constexpr int lines = 5000;
    for (int i = 0; i < lines; ++i) place.say("printed line " + std::to_string(i));
    (void)place.pid();  // all casts have been served
    node.send_exit();
    EXPECT_EQ(node.wait(), places::exit_status{});
    EXPECT_NE(heard("printed line " + std::to_string(lines - 1)), "");
    EXPECT_EQ(times_heard("printed line"), static_cast<std::size_t>(lines));
}

TEST(node, its_end_runs_on_down_in_the_router_once) {
    auto node = start_node();
    int runs = 0;
    std::string reason;
    node.on_down([&](const std::string& why) {
        ++runs;
        reason = why;
        test_runtime().stop();
    });
    test_runtime().route(node, places::after(0s, [&] { node.send_exit(); }));
    EXPECT_EQ(runs, 1);
    EXPECT_NE(reason, "");
    EXPECT_EQ(reason.find('\n'), std::string::npos);
    EXPECT_FALSE(node.is_up());
    EXPECT_EQ(node.wait(), places::exit_status{});
}

/// What each method says of a node that is down. None may hang.
void expect_down(places::remote_node& node) {
    const auto is_down = [](const places::error& e) {
        return e.code() == errc::node_down || e.code() == errc::peer_dead;
    };
    const std::array errors{
        error_of([&] { (void)node.supervise_place(echo_entry); }),
        error_of([&] { (void)node.supervise_place<table_server>(); }),
        error_of([&] {
            (void)node.supervise_place(places::library{NODE_MODULE, "module_greet"});
        }),
        error_of([&] { (void)node.connect_to_named_place("table"); }),
    };
    for (const auto& e : errors) EXPECT_TRUE(is_down(e)) << e.code() << " " << e.what();
    node.send_exit();
    EXPECT_FALSE(node.is_up());
    EXPECT_NE(node.name(), "");
}

TEST(node, killed_with_a_call_under_way_ends_the_call) {
    auto node = start_node();
    auto place = node.supervise_place<table_server>({.named = "table"});
    node.supervise_place(hand_over_entry, {.named = "hand-over"});
    const auto place_life = watch(place.pid());
    clock_type::time_point killed;
    auto code = boost::system::error_code{};
    test_runtime().route(
        node,
        places::after(
            0s,
            [&] {
                code = error_of([&] { (void)place.wait_for_other(); }).code();
                std::printf(
                    "node killed: the call ended after %.1f ms\n",
                    std::chrono::duration<double, std::milli>(clock_type::now() - killed).count());
                test_runtime().stop();
            }),
        places::after(100ms, [&] {
            killed = clock_type::now();
            ::kill(node.pid(), SIGKILL);
        }));
    EXPECT_EQ(code, errc::peer_dead);
    EXPECT_TRUE(ends(place_life));
    EXPECT_EQ(node.wait(), (places::exit_status{true, SIGKILL}));
    expect_down(node);
}

TEST(node, whose_bridge_is_killed_is_down) {
    auto node = start_node();
    auto place = node.supervise_place(echo_entry);
    const pid_t bridge = bridge_of(node.pid());
    ASSERT_NE(bridge, 0);
    ASSERT_EQ(echoed(place, "before"), "before");
    const auto start = clock_type::now();
    kill_process(bridge);
    EXPECT_EQ(place.get<std::string>().error(), errc::peer_dead);
    std::printf("node's bridge killed: noticed after %lld ms\n", ms_since(start));
    EXPECT_EQ(node.wait(), (places::exit_status{false, 1}));
    expect_down(node);
}

TEST(node, is_lost_with_our_own_bridge_and_another_can_be_started) {
    auto node = start_node();
    auto place = node.supervise_place<table_server>({.named = "table"});
    place.set("x", 1);
    const pid_t bridge = bridge_of(::getpid());
    ASSERT_NE(bridge, 0);
    kill_process(bridge);
    EXPECT_EQ(error_of([&] {
                  while (true) (void)place.get("x");
              }).code(),
              errc::peer_dead);
    std::string reason;
    node.on_down([&](const std::string& why) {
        reason = why;
        test_runtime().stop();
    });
    test_runtime().route(node);
    EXPECT_NE(reason.find("bridge"), std::string::npos) << reason;
    // Nobody can reach it any more, so it ends.
    EXPECT_FALSE(node.wait().signalled);

    auto second = start_node();
    EXPECT_NE(bridge_of(::getpid()), bridge);
    second.supervise_place<table_server>({.named = "table"}).set("x", 2);
    // The old handle must not speak to the new node.
    expect_down(node);
    EXPECT_EQ(second.connect_to_named_place<table_server>("table").get("x"), 2);
}

TEST(node, tells_how_its_places_ended) {
    auto node = start_node();
    for (const int value : {0, 7}) {
        auto place = node.supervise_place(end_with_entry);
        (void)place.get<std::int64_t>().value();
        ASSERT_EQ(place.put(std::int64_t{value}), places::status::ok);
        const auto outcome = place.get<std::int64_t>();
        EXPECT_TRUE(outcome.error() == errc::closed || outcome.error() == errc::peer_dead);
        EXPECT_EQ(place.peer_status(), (places::exit_status{false, value}));
        EXPECT_NE(place.put(std::int64_t{1}), places::status::ok);
    }
    auto place = node.supervise_place(end_with_entry);
    const auto pid = static_cast<pid_t>(place.get<std::int64_t>().value());
    ::kill(pid, SIGKILL);
    EXPECT_EQ(place.get<std::int64_t>().error(), errc::peer_dead);
    EXPECT_EQ(place.peer_status(), (places::exit_status{true, SIGKILL}));

    node.supervise_place<table_server>({.named = "table"});
    auto connection = node.connect_to_named_place<table_server>("table");
    ::kill(connection.pid(), SIGKILL);
    EXPECT_EQ(error_of([&] { (void)connection.pid(); }).code(), errc::peer_dead);
    EXPECT_EQ(connection.link().peer_status(), (places::exit_status{true, SIGKILL}));
    // The name is free again.
    node.supervise_place<table_server>({.named = "table"});
}

// Before any test that takes the log: nothing gives it back.
TEST(node, logs_of_its_places_go_to_standard_error_with_time_severity_node_and_place) {
    auto node = start_node();
    auto table = node.supervise_place<table_server>({.named = "table"});
    test_runtime().route(node, places::after(0s, [&] { table.log("printed by default"); }),
                         places::every(5ms, [] {
                             if (times_heard("printed by default") > 0) test_runtime().stop();
                         }));
    const auto line = heard("printed by default");
    const std::regex stamp(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z )");
    std::smatch found;
    ASSERT_TRUE(std::regex_search(line, found, stamp, std::regex_constants::match_continuous))
        << line;
    EXPECT_EQ(found.suffix(), "warning " + node.name() + "/table: printed by default");
}

TEST(node, logs_of_its_places_reach_the_root_with_node_place_severity_and_time) {
    auto node = start_node();
    node.supervise_place<table_server>({.named = "table"});
    auto table = node.connect_to_named_place<table_server>("table");
    std::optional<places::log_record> seen;
    test_runtime().on_log([&](const places::log_record& r) {
        seen = r;
        test_runtime().stop();
    });
    const auto before = std::chrono::system_clock::now();
    test_runtime().route(node, places::after(0s, [&] { table.log("user0 set to 100"); }));
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->text, "user0 set to 100");
    EXPECT_EQ(seen->node, node.name());
    EXPECT_EQ(seen->place, "table");
    EXPECT_EQ(seen->severity, places::severity::warning);
    EXPECT_GE(seen->time, before - 1s);
    EXPECT_LE(seen->time, std::chrono::system_clock::now() + 1s);
    test_runtime().on_log([](const places::log_record&) {});
}

TEST(node, calls_inside_router_bodies_let_the_other_bodies_run) {
    auto node = start_node();
    std::string answer;
    int ticks = 0;
    test_runtime().route(
        node,
        places::after(0s,
                      [&] {
                          node.supervise_place(hand_over_entry, {.named = "hand-over"});
                          auto slow = node.supervise_place<table_server>({.named = "table"});
                          answer = slow.wait_for_other();
                          test_runtime().stop();
                      }),
        places::every(10ms, [&] {
            if (++ticks != 20) return;
            // From another body, while the call above waits for just this.
            auto other = node.connect_to_named_place("hand-over");
            EXPECT_EQ(other.put(std::string("released")), places::status::ok);
            auto echoing = node.supervise_place(echo_entry);
            EXPECT_EQ(echoed(echoing, "and this"), "and this");
        }));
    EXPECT_EQ(answer, "released");
    EXPECT_GE(ticks, 20);
}

TEST(node, starts_and_ends_inside_router_bodies_let_the_other_bodies_run) {
    int ticks = 0;
    const auto expect_ticks = [&](const char* during, const std::function<void()>& call) {
        const int before = ticks;
        call();
        EXPECT_GT(ticks, before) << during;
    };
    const auto tick_soon = [&] { test_runtime().add(places::after(0s, [&] { ++ticks; })); };
    std::optional<places::remote_node> node;
    const auto body = [&] {
        expect_ticks("a start that fails", [] {
            ::setenv("BROKEN_NODE", "silent", 1);
            EXPECT_EQ(error_of([] {
                          (void)test_runtime().spawn_remote_node(
                              "localhost", {.listen_port = 0, .deadline = 500ms});
                      }).code(),
                      errc::node_unreachable);
            ::unsetenv("BROKEN_NODE");
        });
        tick_soon();
        expect_ticks("a start", [&] { node = start_node(); });
        test_runtime().add(places::after(20ms, [&] { node->send_exit(7); }));
        expect_ticks("wait", [&] { EXPECT_EQ(node->wait(), (places::exit_status{false, 7})); });
        node = start_node();
        const pid_t pid = node->pid();
        halt(pid);
        test_runtime().add(places::after(20ms, [=] { ::kill(pid, SIGKILL); }));
        expect_ticks("the last handle's end", [&] { node.reset(); });
        test_runtime().stop();
    };
    test_runtime().route(places::after(0s, body), places::every(5ms, [&] { ++ticks; }));
}

TEST(node, a_router_that_ends_takes_along_the_bodies_that_wait_for_a_node) {
    const auto before = children_of(::getpid());
    int waiting = 0;
    const auto stop_when_both_wait = [&] {
        // Both have suspended: this one runs.
        if (waiting == 2) test_runtime().stop();
    };
    auto outer = start_node();
    test_runtime().route(places::after(0s,
                                       [&] {
                                           auto inner = start_node();
                                           ++waiting;
                                           (void)inner.wait();
                                           ADD_FAILURE() << "its wait has ended";
                                       }),
                         places::after(0s,
                                       [&] {
                                           const auto stuck = start_node();
                                           halt(stuck.pid());
                                           ++waiting;
                                           // Its end takes two seconds, router or not.
                                       }),
                         places::every(5ms, stop_when_both_wait));
    outer.send_exit();
    (void)outer.wait();
    EXPECT_EQ(children_of(::getpid()), before);
}

TEST(node, and_its_places_end_when_its_root_is_killed) {
    std::array<int, 2> out;
    ASSERT_EQ(::pipe2(out.data(), O_CLOEXEC), 0);
    places::unique_fd reader{out[0]};
    places::unique_fd writer{out[1]};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, writer.get(), 1);
    std::string program = DOOMED_ROOT;
    std::array<char*, 2> argv{program.data(), nullptr};
    pid_t root = 0;
    ASSERT_EQ(::posix_spawn(&root, program.c_str(), &actions, nullptr, argv.data(), environ), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    writer.reset();

    const auto printed = line_from(reader.get());
    std::array<int, 5> pids{};
    ASSERT_EQ(std::sscanf(printed.c_str(), "%d %d %d %d %d", &pids[0], &pids[1], &pids[2], &pids[3],
                          &pids[4]),
              5);
    std::vector<places::unique_fd> lives;
    for (const int pid : pids) {
        ASSERT_NE(pid, 0);
        lives.push_back(watch(pid));
        ASSERT_TRUE(lives.back());
    }
    const auto start = clock_type::now();
    ::kill(root, SIGKILL);
    for (const auto& life : lives) EXPECT_TRUE(ends(life));
    std::printf("root killed: nodes and places were gone after %lld ms\n", ms_since(start));
    ::waitpid(root, nullptr, 0);
}

// -- leaving nothing --

TEST(node, a_hundred_of_them_leave_no_descriptor_mapping_or_process_behind) {
    (void)start_node();
    const pid_t bridge = bridge_of(::getpid());
    ASSERT_NE(bridge, 0);
    const auto own = descriptors_of(::getpid());
    const auto of_bridge = descriptors_of(bridge);
    const auto mapped = mappings_of(bridge);
    for (int i = 0; i < 100; ++i) {
        auto node = start_node();
        auto place = node.supervise_place(echo_entry);
        ASSERT_EQ(echoed(place, "x"), "x");
        if (i % 2) node.send_exit();
        if (i % 4 == 1) (void)node.wait();
    }
    EXPECT_EQ(bridge_of(::getpid()), bridge);
    EXPECT_LE(descriptors_of(::getpid()), own);
    // It hears of the last channels a moment later.
    const auto until = clock_type::now() + 10s;
    while (descriptors_of(bridge) > of_bridge && clock_type::now() < until) ::sched_yield();
    EXPECT_LE(descriptors_of(bridge), of_bridge);
    // A sanitizer's allocator maps for itself.
    if (!is_sanitized) {
        EXPECT_LE(mappings_of(bridge), mapped + 20);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(-1, &status, WNOHANG), 0) << "a node was not reaped";
}

TEST(node, a_thousand_connections_leave_no_descriptor_or_mapping_behind) {
    auto node = start_node();
    node.supervise_place<table_server>({.named = "table"});
    const std::array bridges{bridge_of(::getpid()), bridge_of(node.pid())};
    const auto round = [&] {
        auto c = node.connect_to_named_place<table_server>("table");
        c.set("x", 1);
    };
    round();
    const auto own = descriptors_of(::getpid());
    std::array<std::size_t, 2> before{};
    std::array<std::size_t, 2> mapped{};
    for (std::size_t i = 0; i < 2; ++i) {
        before[i] = descriptors_of(bridges[i]);
        mapped[i] = mappings_of(bridges[i]);
    }
    const auto start = clock_type::now();
    for (int i = 0; i < 1000; ++i) round();
    std::printf("1000 connections with one call each: %lld ms\n", ms_since(start));
    EXPECT_LE(descriptors_of(::getpid()), own);
    for (std::size_t i = 0; i < 2; ++i) {
        const auto until = clock_type::now() + 10s;
        // The last channels are still closing, and hold what they share.
        const auto is_closing = [&] {
            return mappings_of(bridges[i]) > mapped[i] + 20 ||
                   descriptors_of(bridges[i]) > before[i];
        };
        while (is_closing() && clock_type::now() < until) ::sched_yield();
        EXPECT_LE(descriptors_of(bridges[i]), before[i]);
        EXPECT_LE(mappings_of(bridges[i]), mapped[i] + 20);
    }
}

}  // namespace
