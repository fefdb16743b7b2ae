// SPDX-License-Identifier: Apache-2.0
// What users of nodes ask for and cannot have, and what they are told.
#include "net/handshake.hpp"
#include "net/keys.hpp"
#include "net/listener.hpp"
#include "net/output.hpp"
#include "tests/node/entries.hpp"
#include "tests/node/heard.hpp"
#include "tests/node/local_node.hpp"
#include "tests/node/processes.hpp"
#include "tests/support/error_of.hpp"

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <netinet/in.h>
#include <random>
#include <sched.h>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <sys/socket.h>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using places::errc;

namespace {

using clock_type = std::chrono::steady_clock;

struct address {
    places::unique_fd socket;
    std::uint16_t port = 0;
};
address loopback_socket() {
    address a{places::unique_fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)}, 0};
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof where;
    EXPECT_EQ(::bind(a.socket.get(), reinterpret_cast<sockaddr*>(&where), size), 0);
    EXPECT_EQ(::getsockname(a.socket.get(), reinterpret_cast<sockaddr*>(&where), &size), 0);
    a.port = ntohs(where.sin_port);
    return a;
}
places::unique_fd connected_to(std::uint16_t port) {
    places::unique_fd s{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    where.sin_port = htons(port);
    EXPECT_EQ(::connect(s.get(), reinterpret_cast<sockaddr*>(&where), sizeof where), 0);
    return s;
}
/// Whoever listens may have hung up by then.
void send_to(const places::unique_fd& socket, std::string_view text) {
    (void)!::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
}
/// What whoever dials the port with that key is told.
errc code_of_a_dial(std::uint16_t port, const places::net::node_key& key, bool insecure = false) {
    boost::asio::io_context io{1};
    auto told = errc::timeout;
    places::net::dial(io,
                      {.host = "127.0.0.1",
                       .port = port,
                       .insecure = insecure,
                       .key = key,
                       .name = std::string(places::net::launcher_name),
                       .incarnation = places::net::make_incarnation_id()},
                      [&](places::net::dial_result r) { told = r ? errc{} : r.error().code; });
    io.run();
    return told;
}
/// Reads until the other side hangs up. Returns: false when the watchdog barked first.
bool hangs_up(const places::unique_fd& socket) {
    std::array<char, 4096> buffer;
    while (true) {
        pollfd more{socket.get(), POLLIN, 0};
        if (::poll(&more, 1, watchdog_ms) != 1) return false;
        if (::read(socket.get(), buffer.data(), buffer.size()) <= 0) return true;
    }
}

TEST(node, an_unknown_name_is_refused_naming_it_and_the_node) {
    auto node = start_node();
    const auto e = error_of([&] { (void)node.connect_to_named_place("nobody"); });
    EXPECT_EQ(e.code(), errc::name_not_found);
    EXPECT_EQ(std::string(e.what()), "no place is named \"nobody\" (node " + node.name() + ")");
}

TEST(node, a_name_that_a_server_there_does_not_find_is_told_with_that_node) {
    for (const char* name : {"", "the other"}) {
        auto node = test_runtime().spawn_remote_node("localhost", {.listen_port = 0, .name = name});
        auto table = node.supervise_place<table_server>();
        const auto e = error_of([&] { (void)table.wait_for_other(); });
        EXPECT_EQ(e.code(), errc::remote_error);
        EXPECT_EQ(std::string(e.what()),
                  "no place is named \"hand-over\" (node " + node.name() + ")");
    }
}

TEST(node, an_unknown_entry_is_refused_naming_it_and_what_there_is) {
    auto node = start_node();
    const auto e = error_of([&] { (void)node.supervise_place(places::registered{"no-entry"}); });
    EXPECT_EQ(e.code(), errc::entry_not_found);
    EXPECT_TRUE(has(e, "no-entry") && has(e, "echo") && has(e, node.name())) << e.what();
    EXPECT_TRUE(has(e, "register_entry()")) << e.what();
}

TEST(node, a_library_that_it_was_not_started_with_is_refused_naming_the_option) {
    auto node = start_node();
    for (const char* each : {"./no-such.so", NODE_MODULE}) {
        const auto e = error_of([&] {
            (void)node.supervise_place(places::library{each, "module_greet"});
        });
        EXPECT_EQ(e.code(), errc::permission_denied);
        EXPECT_TRUE(has(e, each) && has(e, "node_options::modules") && has(e, node.name()))
            << e.what();
    }
}

TEST(node, a_module_with_a_name_of_the_program_is_refused_naming_both) {
    const auto text = text_of_error(errc::load_failed, [] {
        (void)test_runtime().spawn_remote_node("localhost",
                                               {.listen_port = 0, .modules = {CLASHING_MODULE}});
    });
    for (const std::string each :
         {"two entries are registered as \"echo\", at ",
          "clashing_module.cpp:9 in " CLASHING_MODULE, "entries.hpp:23 in the program",
          "give one of them another name"}) {
        EXPECT_NE(text.find(each), text.npos) << each << " is not in: " << text;
    }
}

TEST(node, a_handle_that_was_moved_from_says_so_to_every_call) {
    auto moved = test_runtime().spawn_remote_node("localhost", {.listen_port = 0});
    const auto node = std::move(moved);
    EXPECT_EQ(moved.name(), "");
    EXPECT_EQ(moved.port(), 0);
    EXPECT_EQ(moved.pid(), 0);
    EXPECT_FALSE(moved.is_up());
    const std::vector<std::pair<const char*, std::function<void()>>> calls{
        {"supervise_place", [&] { (void)moved.supervise_place(echo_entry); }},
        {"supervise_place of a library",
         [&] {
             (void)moved.supervise_place(places::library{"a", "b"});
         }},
        {"connect_to_named_place", [&] { (void)moved.connect_to_named_place("name"); }},
        {"send_exit", [&] { moved.send_exit(); }},
        {"wait", [&] { (void)moved.wait(); }},
        {"on_down", [&] { moved.on_down([](const std::string&) {}); }},
        {"add", [&] { test_runtime().add(moved); }},
    };
    for (const auto& [name, call] : calls) {
        EXPECT_EQ(text_of_error(errc::bad_argument, call),
                  "this handle has no node: it was moved from")
            << name;
    }
}

TEST(node, a_missing_symbol_is_told_in_the_loaders_words) {
    places::node_options options{.listen_port = 0};
    options.modules = {NODE_MODULE};
    auto node = test_runtime().spawn_remote_node("localhost", options);
    const auto symbol = error_of([&] {
        (void)node.supervise_place(places::library{NODE_MODULE, "no_symbol"});
    });
    EXPECT_EQ(symbol.code(), errc::load_failed);
    EXPECT_TRUE(has(symbol, "undefined symbol: no_symbol")) << symbol.what();
}

TEST(node, a_name_is_not_given_twice_and_the_first_owner_keeps_it) {
    auto node = start_node();
    auto first = node.supervise_place<table_server>({.named = "table"});
    first.set("x", 1);
    const auto e = error_of([&] { (void)node.supervise_place<table_server>({.named = "table"}); });
    EXPECT_EQ(e.code(), errc::name_taken);
    EXPECT_TRUE(has(e, "table") && has(e, node.name())) << e.what();
    EXPECT_EQ(node.connect_to_named_place<table_server>("table").get("x"), 1);
}

TEST(node, an_entry_that_takes_no_connections_gets_no_name) {
    auto node = start_node();
    const auto e =
        error_of([&] { (void)node.supervise_place<private_server>({.named = "private"}); });
    EXPECT_EQ(e.code(), errc::not_a_connection);
}

TEST(node, names_and_rings_that_cannot_travel_are_refused_and_the_link_stays_good) {
    auto node = start_node();
    auto place = node.supervise_place(echo_entry);
    const std::string long_name(5000, 'x');
    const std::string with_nul("a\0b", 3);
    for (const auto& name : {long_name, with_nul}) {
        EXPECT_EQ(error_of([&] { (void)node.connect_to_named_place(name); }).code(),
                  errc::bad_argument);
        EXPECT_EQ(error_of([&] { (void)node.supervise_place(places::registered{name}); }).code(),
                  errc::bad_argument);
        EXPECT_EQ(error_of([&] { (void)node.supervise_place(echo_entry, {.named = name}); }).code(),
                  errc::bad_argument);
    }
    EXPECT_EQ(error_of([&] {
                  (void)node.supervise_place(echo_entry, {.ring_bytes = 256 * 1024});
              }).code(),
              errc::bad_argument);
    EXPECT_THROW((void)node.supervise_place(echo_entry, {.ring_bytes = 5000}), places::error);
    for (const std::string& name : {std::string("two\nlines"), std::string(300, 'n')}) {
        const auto e = error_of([&] {
            (void)test_runtime().spawn_remote_node("localhost", {.listen_port = 0, .name = name});
        });
        EXPECT_EQ(e.code(), errc::bad_argument) << e.what();
    }
    EXPECT_EQ(echoed(place, "still here"), "still here");
}

TEST(node, a_call_that_is_too_large_tells_size_and_limit_and_none_of_it_arrives) {
    auto node = start_node();
    auto table = node.supervise_place<table_server>();
    table.link().set_message_bytes_max(100'000);
    EXPECT_EQ(table.set("x", 1), 1);
    const auto sent = table.link().sent().accepted;
    const auto text =
        text_of_error(errc::too_large, [&] { (void)table.set(std::string(100'000, 'k'), 2); });
    EXPECT_NE(text.find("at most 100000"), text.npos) << text;
    EXPECT_EQ(table.link().sent().accepted, sent);
    EXPECT_EQ(table.get("x"), 1);
}

TEST(node, a_port_that_is_taken_is_reported_at_once_naming_host_and_port) {
    const auto taken = loopback_socket();
    ASSERT_EQ(::listen(taken.socket.get(), 1), 0);
    const auto start = clock_type::now();
    const auto e = error_of(
        [&] { (void)test_runtime().spawn_remote_node("localhost", {.listen_port = taken.port}); });
    std::printf("port taken: reported after %lld ms\n", ms_since(start));
    EXPECT_EQ(e.code(), errc::address_in_use);
    EXPECT_TRUE(has(e, "localhost") && has(e, std::to_string(taken.port))) << e.what();
}

TEST(node, a_host_that_cannot_be_reached_is_reported_naming_host_and_port) {
    const auto start = clock_type::now();
    const auto e = error_of([] {
        (void)test_runtime().spawn_remote_node("no-such-host.invalid", {.listen_port = 6399});
    });
    std::printf("no such host: reported after %lld ms\n", ms_since(start));
    EXPECT_EQ(e.code(), errc::host_unreachable);
    // The port is that of SSH: it is the one that was tried.
    EXPECT_TRUE(has(e, "no-such-host.invalid:22")) << e.what();
}

TEST(node, a_deadline_that_is_none_is_refused_naming_it) {
    using std::chrono::milliseconds;
    for (const auto deadline : {milliseconds{0}, milliseconds{-3}, milliseconds{3'600'001},
                                milliseconds::max(), milliseconds::min()}) {
        const auto e = error_of([&] {
            (void)test_runtime().spawn_remote_node("localhost",
                                                   {.listen_port = 0, .deadline = deadline});
        });
        EXPECT_EQ(e.code(), errc::bad_argument) << e.what();
        EXPECT_TRUE(has(e, std::to_string(deadline.count()) + " ms")) << e.what();
    }
    // The longest there is, of one that may be ready when it is first looked at.
    auto node = test_runtime().spawn_remote_node_async(
        "localhost", {.listen_port = 0, .deadline = std::chrono::hours{1}});
    for (int i = 0; i < 3; ++i) (void)start_node();
    EXPECT_TRUE(node.get().is_up());
}

TEST(node, options_of_another_host_are_refused_for_this_one_naming_them) {
    using places::node_options;
    const std::pair<const char*, std::function<void(node_options&)>> table[] = {
        {".identity_files", [](node_options& o) { o.identity_files = {"key"}; }},
        {".known_hosts_files", [](node_options& o) { o.known_hosts_files = {"hosts"}; }},
        {".ssh_config", [](node_options& o) { o.ssh_config = "none"; }},
        {".passphrase", [](node_options& o) { o.passphrase = [](auto&) { return ""; }; }},
        {".ssh_command", [](node_options& o) { o.ssh_command = "ssh"; }},
        {".stage_deadline", [](node_options& o) { o.stage_deadline = 1s; }},
        {".program", [](node_options& o) { o.program = "/bin/true"; }},
        {".tunnel", [](node_options& o) { o.tunnel = true; }},
        {".detach", [](node_options& o) { o.detach = true; }},
        {".owner_grace", [](node_options& o) { o.owner_grace = 1s; }},
    };
    for (const auto& [name, set] : table) {
        for (const char* host : {"localhost", "127.0.0.1"}) {
            node_options options{.listen_port = 0};
            set(options);
            const auto e = error_of([&] { (void)test_runtime().spawn_remote_node(host, options); });
            EXPECT_EQ(e.code(), errc::bad_argument) << e.what();
            EXPECT_TRUE(has(e, name) && has(e, host)) << e.what();
        }
    }
}

TEST(node, a_failure_that_is_none_of_ours_reads_as_a_breach_of_the_protocol) {
    for (const char* line : {"4711 made up", "-1 made up", "0 made up"}) {
        ::setenv("BROKEN_NODE", line, 1);
        const auto e = error_of([] { start_node(); });
        EXPECT_EQ(e.code(), errc::protocol) << e.code().message();
        EXPECT_TRUE(has(e, "made up")) << e.what();
    }
    ::setenv("BROKEN_NODE", "14 made up", 1);
    EXPECT_EQ(error_of([] { start_node(); }).code(), errc::node_unreachable);
    ::unsetenv("BROKEN_NODE");
}

/// Why a node that does what broken_node.cpp knows by this word was not started. It leaves no
/// process, nor one that nobody has waited for.
places::error refusal_of_broken(const char* how, std::chrono::milliseconds deadline) {
    const auto before = children_of(::getpid());
    ::setenv("BROKEN_NODE", how, 1);
    auto e = error_of([&] {
        (void)test_runtime().spawn_remote_node("localhost",
                                               {.listen_port = 0, .deadline = deadline});
    });
    ::unsetenv("BROKEN_NODE");
    EXPECT_EQ(e.code(), errc::node_unreachable);
    EXPECT_EQ(children_of(::getpid()), before);
    return e;
}

TEST(node, one_that_is_not_ready_in_time_is_reported_and_leaves_no_process) {
    const auto e = refusal_of_broken("silent", 500ms);
    EXPECT_TRUE(has(e, "node localhost:0") && has(e, "was not ready in time")) << e.what();
    EXPECT_TRUE(has(e, ".deadline allows for more time")) << e.what();
}

TEST(node, that_has_closed_its_output_and_never_stops_talking_is_reported_and_leaves_no_process) {
    const auto e = refusal_of_broken("flood", 3s);
    EXPECT_TRUE(has(e, "ended before it was ready") && has(e, "a flood of words")) << e.what();
}

TEST(node, that_prints_one_long_line_is_reported_with_the_first_4_KiB_of_it) {
    const auto e = refusal_of_broken("long line", 60s);
    const std::string kept(4096, 'x');
    EXPECT_TRUE(has(e, "it printed: " + kept + "...")) << e.what();
    // It is passed on in parts, as is what places print.
    const std::string part(places::net::line_bytes_max, 'x');
    EXPECT_FALSE(heard("[localhost:0] " + part, 6).empty());
    EXPECT_EQ(times_heard(part + "x"), 0U);
}

TEST(node, that_never_stops_talking_as_it_starts_is_asked_after_without_waiting_for_its_end) {
    ::setenv("BROKEN_NODE", "endless", 1);
    auto pending =
        test_runtime().spawn_remote_node_async("localhost", {.listen_port = 0, .deadline = 60s});
    ::unsetenv("BROKEN_NODE");
    while (times_heard("endless words") < 20) ASSERT_FALSE(pending.is_ready());
}

TEST(node, that_never_reads_its_order_is_reported_in_time_however_long_that_is) {
    const auto before = children_of(::getpid());
    places::node_options options{.listen_port = 0, .deadline = 500ms};
    // With what comes after it, more than a pipe takes unread.
    options.environment = {"LARGE=" + std::string(65'300, 'x')};
    options.name = std::string(255, 'n');
    ::setenv("BROKEN_NODE", "silent", 1);
    // One that is read meanwhile is not held up by it.
    auto silent = test_runtime().spawn_remote_node_async("localhost", options);
    ::unsetenv("BROKEN_NODE");
    EXPECT_TRUE(start_node().is_up());
    const auto e = error_of([&] { (void)silent.get(); });
    EXPECT_EQ(e.code(), errc::node_unreachable);
    EXPECT_TRUE(has(e, "was not ready in time")) << e.what();
    EXPECT_EQ(children_of(::getpid()), before);
    // The same for one that reads.
    EXPECT_TRUE(test_runtime().spawn_remote_node("localhost", options).is_up());
}

TEST(node, that_never_reads_its_order_leaves_the_other_bodies_of_a_router_alone) {
    places::node_options options{.listen_port = 0, .deadline = 500ms};
    options.environment = {"LARGE=" + std::string(65'300, 'x')};
    options.name = std::string(255, 'n');
    ::setenv("BROKEN_NODE", "silent", 1);
    std::vector<std::string> order;
    places::router r;
    r.post([&] {
        (void)error_of([&] { (void)test_runtime().spawn_remote_node("localhost", options); });
        order.emplace_back("the start has ended");
        r.stop();
    });
    r.post([&] { order.emplace_back("another body"); });
    r.run();
    ::unsetenv("BROKEN_NODE");
    EXPECT_EQ(order, (std::vector<std::string>{"another body", "the start has ended"}));
}

TEST(node, that_is_pending_no_more_is_ready_to_say_so) {
    auto pending = test_runtime().spawn_remote_node_async("localhost", {.listen_port = 0});
    auto moved = std::move(pending);
    EXPECT_TRUE(pending.is_ready());
    EXPECT_EQ(error_of([&] { (void)pending.get(); }).code(), errc::bad_argument);
    EXPECT_TRUE(moved.get().is_up());
    EXPECT_TRUE(moved.is_ready());
    EXPECT_EQ(error_of([&] { (void)moved.get(); }).code(), errc::bad_argument);
}

TEST(node, whose_options_are_too_long_is_refused_before_anything_is_started) {
    const auto before = children_of(::getpid());
    places::node_options options{.listen_port = 0};
    options.environment = {"LARGE=" + std::string(70'000, 'x')};
    for (const std::string host : {"localhost", "far.invalid"}) {
        const auto e =
            error_of([&] { (void)test_runtime().spawn_remote_node_async(host, options); });
        EXPECT_EQ(e.code(), errc::bad_argument);
        EXPECT_TRUE(has(e, "node " + host) && has(e, "at most 65536")) << e.what();
        EXPECT_EQ(children_of(::getpid()), before);
    }
}

TEST(node, that_the_system_does_not_start_is_reported_naming_host_and_port) {
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit none_left{0, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none_left), 0);
    const auto e = error_of(
        [] { (void)test_runtime().spawn_remote_node("localhost", {.listen_port = 6399}); });
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_EQ(e.code(), errc::start_failed);
    EXPECT_TRUE(has(e, "node localhost:6399") && has(e, "Too many open files")) << e.what();
}

TEST(node, whose_port_is_closed_is_reported_naming_host_and_port_and_leaves_no_process) {
    const auto closed = loopback_socket();  // bound, and does not listen
    const auto before = children_of(::getpid());
    const auto line = "places-node-ready port=" + std::to_string(closed.port) +
                      " protocol=" + std::to_string(places::net::protocol_range{}.max);
    ::setenv("BROKEN_NODE", line.c_str(), 1);
    const auto e = error_of([] {
        (void)test_runtime().spawn_remote_node("localhost", {.listen_port = 0, .deadline = 1s});
    });
    ::unsetenv("BROKEN_NODE");
    EXPECT_EQ(e.code(), errc::node_unreachable);
    EXPECT_TRUE(has(e, "node localhost") && has(e, "127.0.0.1:" + std::to_string(closed.port)))
        << e.what();
    EXPECT_EQ(children_of(::getpid()), before);
}

TEST(node, in_whose_place_another_with_its_key_answers_is_reported) {
    places::node_options options{.listen_port = 0};
    options.key = places::bytes(32, std::byte{7});
    auto other = test_runtime().spawn_remote_node("localhost", options);
    const auto line = "places-node-ready port=" + std::to_string(other.port()) +
                      " incarnation=00000000000000000000000000000000 protocol=" +
                      std::to_string(places::net::protocol_range{}.max);
    ::setenv("BROKEN_NODE", line.c_str(), 1);
    const auto e = error_of([&] { (void)test_runtime().spawn_remote_node("localhost", options); });
    ::unsetenv("BROKEN_NODE");
    EXPECT_EQ(e.code(), errc::node_unreachable);
    EXPECT_TRUE(has(e, "same key") && has(e, std::to_string(other.port()))) << e.what();
    auto place = other.supervise_place(echo_entry);
    EXPECT_EQ(echoed(place, "hello"), "hello");
}

TEST(node, strangers_at_its_port_are_closed_with_one_line_each_and_it_goes_on) {
    auto node = start_node();
    auto place = node.supervise_place(echo_entry);
    const auto garbage = connected_to(node.port());
    send_to(garbage, std::string(1000, '\xff'));
    EXPECT_TRUE(hangs_up(garbage));
    const auto http = connected_to(node.port());
    send_to(http, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_TRUE(hangs_up(http));
    { const auto early = connected_to(node.port()); }
    const auto wrong_key = places::net::make_node_key();
    EXPECT_EQ(code_of_a_dial(node.port(), wrong_key), errc::bad_key);
    const auto line = heard("[" + node.name() + "] [bridge] refused a connection", 4);
    EXPECT_NE(line.find("127.0.0.1:"), line.npos);
    EXPECT_EQ(times_heard("it has shown the name 'launcher' and the key " +
                          places::net::key_id(wrong_key)),
              1U);
    EXPECT_EQ(times_heard("not the places protocol"), 2U);

    EXPECT_EQ(echoed(place, "still here"), "still here");
    EXPECT_TRUE(node.is_up());
    EXPECT_EQ(times_heard("refused a connection"), 4U);
}

TEST(node, outlives_ten_thousand_strangers_of_whom_its_log_tells_in_few_lines) {
    const auto seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    std::mt19937 random{seed};
    for (const bool insecure : {false, true}) {
        SCOPED_TRACE(insecure);
        auto node =
            test_runtime().spawn_remote_node("localhost", {.listen_port = 0, .insecure = insecure});
        auto place = node.supervise_place(echo_entry);
        EXPECT_EQ(echoed(place, "hello"), "hello");
        const auto bridge = bridge_of(node.pid());
        const auto held = descriptors_of(bridge);
        const auto line = "[" + node.name() + "] [bridge] ";
        const auto begun = clock_type::now();
        constexpr int strangers = 10'000;
        for (int i = 0; i < strangers; ++i) {
            const auto s = connected_to(node.port());
            std::string text(random() % 200, '\0');
            for (auto& c : text) c = static_cast<char>(random());
            // Half of them begin as TLS or as the protocol does, else all end at the same look.
            if (random() % 2 && text.size() > 5) {
                text.replace(0, 5,
                             std::string{insecure ? "\x40\x00\x00\x00" : "\x16\x03\x01\x00", 4} +
                                 static_cast<char>(random()));
            }
            send_to(s, text);
        }
        // Whoever dials has a deadline, and waits behind those whom nobody has looked at yet.
        const auto last = connected_to(node.port());
        send_to(last, std::string(1000, '\xff'));
        EXPECT_TRUE(hangs_up(last));
        EXPECT_EQ(code_of_a_dial(node.port(), places::net::make_node_key(), insecure),
                  errc::bad_key);
        EXPECT_EQ(echoed(place, "still here"), "still here");
        EXPECT_TRUE(node.is_up());
        const auto until = clock_type::now() + std::chrono::milliseconds{watchdog_ms};
        while (descriptors_of(bridge) != held && clock_type::now() < until) ::sched_yield();
        EXPECT_EQ(descriptors_of(bridge), held);
        const auto windows = std::chrono::ceil<std::chrono::seconds>(clock_type::now() - begun);
        EXPECT_FALSE(heard(line + "refused a connection").empty());
        const auto told = times_heard(line);
        std::printf("%zu lines about %d strangers in %lld s\n", told, strangers,
                    static_cast<long long>(windows.count()));
        // Ten of each second, and one for the rest of them.
        EXPECT_LE(told, 11 * (static_cast<std::size_t>(windows.count()) + 1));
    }
}

}  // namespace
