// SPDX-License-Identifier: Apache-2.0
// Places of one node: how they start, run and end.
#include "core/process.hpp"
#include "tests/support/node_main.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <new>
#include <optional>
#include <sched.h>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using places::channel;
using places::exit_status;
using places::inbox;
using places::spawn;
using places::status;

namespace {

exit_status exited(int value) { return {.signalled = false, .value = value}; }
exit_status signalled(int value) { return {.signalled = true, .value = value}; }

int seven() { return 7; }

void echo(channel& c) {
    while (auto m = c.receive()) {
        if (c.send(*m) != status::ok) return;
    }
}
const auto echo_entry = places::register_entry<echo>("echo");

int sum(int a, int b) { return a + b; }
const auto sum_entry = places::register_entry<sum>("sum");

/// Where a place that is about to end says what runs then.
channel* exiting = nullptr;
struct of_the_program {
    ~of_the_program() {
        if (exiting) (void)exiting->put(2);
    }
};
const of_the_program made_before_main;

void answer_by_reply_end(inbox& in) {
    while (auto item = in.get()) (void)item->from.send(item->content);
}

using sent_arguments = std::tuple<bool, int, double, std::string, std::vector<std::uint16_t>,
                                  std::map<std::string, int>, std::optional<int>, places::value>;
void send_arguments_back(channel& c, bool a, int b, double d, const std::string& e,
                         std::vector<std::uint16_t> f, const std::map<std::string, int>& g,
                         std::optional<int> h, places::value i) {
    (void)c.put(sent_arguments{a, b, d, e, f, g, h, i});
}

}  // namespace

TEST(spawn, runs_a_function_that_takes_no_end) { EXPECT_EQ(spawn(seven).wait(), exited(7)); }

TEST(spawn, gives_a_function_the_channel_to_its_creator) {
    auto p = spawn(echo);
    ASSERT_EQ(p.put(std::string("hello")), status::ok);
    EXPECT_EQ(p.get<std::string>().value(), "hello");
}

TEST(spawn, gives_a_function_an_inbox_whose_replies_reach_the_creator) {
    auto p = spawn(answer_by_reply_end);
    for (int i = 0; i < 100; ++i) {
        ASSERT_EQ(p.put(i), status::ok);
        ASSERT_EQ(p.get<int>().value(), i);
    }
}

TEST(spawn, brings_arguments_of_every_type_unchanged) {
    const sent_arguments sent{true,         -5, 0.25, "text", {1, 2, 65535}, {{"a", 1}, {"b", 2}},
                              std::nullopt, 3};
    auto p =
        std::apply([](const auto&... each) { return spawn(send_arguments_back, each...); }, sent);
    EXPECT_TRUE(p.get<sent_arguments>().value() == sent);
}

TEST(spawn, runs_a_lambda_with_arguments) {
    EXPECT_EQ(spawn([](int a, int b) { return a + b; }, 30, 12).wait(), exited(42));
}

int eight() noexcept { return 8; }
TEST(spawn, runs_a_function_that_does_not_throw) { EXPECT_EQ(spawn(eight).wait(), exited(8)); }

TEST(spawn, makes_rings_of_the_size_asked_for) {
    auto p = spawn({.ring_bytes = 4096},
                   [](channel& c) { return static_cast<int>(c.record_bytes_max() / 8); });
    EXPECT_EQ(p.record_bytes_max(), 1024U);
    EXPECT_EQ(p.wait(), exited(128));
}

TEST(spawn, refuses_a_ring_that_is_no_power_of_two) {
    const auto text =
        text_of_error(places::errc::start_failed, [] { (void)spawn({.ring_bytes = 5000}, seven); });
    EXPECT_NE(text.find("power of two"), std::string::npos) << text;
    EXPECT_EQ(spawn(seven).wait(), exited(7));
}

TEST(spawn, hands_over_arguments_larger_than_the_ring) {
    EXPECT_EQ(spawn(
                  {.ring_bytes = 4096},
                  [](std::string s) { return s == std::string(200'000, 'x') ? 4 : 5; },
                  std::string(200'000, 'x'))
                  .wait(),
              exited(4));
}

TEST(spawn, says_what_the_loader_said_as_far_as_a_small_ring_takes_it) {
    const auto path = "/nowhere/" + std::string(3000, 'x') + ".so";
    const auto text = text_of_error(places::errc::load_failed, [&] {
        (void)spawn(places::library{path, "entry"}, {.ring_bytes = 4096});
    });
    EXPECT_EQ(text.compare(0, 9, "/nowhere/"), 0) << text;
}

TEST(spawn, works_from_several_threads_at_once) {
    std::vector<std::thread> threads;
    std::atomic<int> right = 0;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&right, t] {
            for (int i = t * 25; i < t * 25 + 25; ++i) {
                if (spawn([](int x) { return x; }, i).wait() == exited(i)) ++right;
            }
        });
    }
    for (auto& t : threads) t.join();
    EXPECT_EQ(right, 100);
}

TEST(spawn, starts_a_registered_entry_by_its_name) {
    auto p = spawn(echo_entry);
    ASSERT_EQ(p.put(1), status::ok);
    EXPECT_EQ(p.get<int>().value(), 1);
}

TEST(spawn, names_what_is_registered_when_an_entry_is_not) {
    const auto text = text_of_error(places::errc::entry_not_found,
                                    [] { (void)spawn(places::registered{"ekko"}); });
    EXPECT_NE(text.find("ekko"), std::string::npos) << text;
    EXPECT_NE(text.find("echo"), std::string::npos) << text;
}

TEST(spawn, loads_a_library_entry_in_the_new_place) {
    auto p = spawn(places::library{MODULE_PATH, "make_doubler"});
    ASSERT_EQ(p.put(21), status::ok);
    EXPECT_EQ(p.get<int>().value(), 42);
}

TEST(spawn, tells_the_loaders_words_about_a_missing_file) {
    const auto text = text_of_error(places::errc::load_failed, [] {
        (void)spawn(places::library{"/nowhere/libnone.so", "make_doubler"});
    });
    EXPECT_NE(text.find("/nowhere/libnone.so"), std::string::npos) << text;
    EXPECT_NE(text.find("No such file"), std::string::npos) << text;
}

TEST(spawn, tells_the_loaders_words_about_a_missing_symbol) {
    const auto text = text_of_error(places::errc::load_failed, [] {
        (void)spawn(places::library{MODULE_PATH, "make_trebler"});
    });
    EXPECT_NE(text.find("undefined symbol: make_trebler"), std::string::npos) << text;
}

TEST(spawn, answers_a_request_that_fits_no_packet_instead_of_waiting) {
    (void)text_of_error(places::errc::too_large,
                        [] { (void)spawn(places::registered{std::string(100'000, 'x')}); });
    // The request fits; the name and the list of entries in one answer would not.
    const auto text = text_of_error(places::errc::entry_not_found, [] {
        (void)spawn(places::registered{std::string(65'000, 'x')});
    });
    EXPECT_NE(text.find("xxxx"), std::string::npos);
}

TEST(place, completes_with_0_to_255_as_they_are_and_0_for_the_rest) {
    const auto value_of = [](std::int64_t v) {
        return spawn([](std::int64_t x) { return x; }, v).wait();
    };
    EXPECT_EQ(value_of(0), exited(0));
    EXPECT_EQ(value_of(1), exited(1));
    EXPECT_EQ(value_of(255), exited(255));
    EXPECT_EQ(value_of(256), exited(0));
    EXPECT_EQ(value_of(-1), exited(0));
    EXPECT_EQ(value_of(std::int64_t{1} << 40), exited(0));
}

TEST(place, completes_with_0_when_its_function_returns_nothing) {
    EXPECT_EQ(spawn([] {}).wait(), exited(0));
}

TEST(place, completes_with_1_after_an_exception) {
    EXPECT_EQ(spawn([] { throw std::runtime_error("on purpose"); }).wait(), exited(1));
    EXPECT_EQ(spawn([] { throw 5; }).wait(), exited(1));
}

TEST(place, tells_the_text_of_the_exception_that_ended_it) {
    const auto how = spawn([] { throw std::runtime_error("no such file: x"); }).wait();
    EXPECT_EQ(how, exited(1));
    EXPECT_EQ(how.text, "no such file: x");
    EXPECT_EQ(to_string(how), "exit code 1: no such file: x");
    EXPECT_EQ(spawn([] { throw std::bad_alloc(); }).wait().text, "std::bad_alloc");
    EXPECT_EQ(spawn([] { throw 5; }).wait().text, "an unknown exception");
}

TEST(place, tells_the_text_of_its_exception_also_to_who_is_connected) {
    auto p = spawn({.named = "throws-at-a-word"}, [](inbox& in) {
        (void)in.get();
        throw std::runtime_error("as it was told");
    });
    auto c = places::connect_to_named_place("throws-at-a-word");
    ASSERT_EQ(c.put(1), status::ok);
    const auto how = p.wait();
    EXPECT_EQ(how.text, "as it was told");
    EXPECT_FALSE(c.get<int>());
    ASSERT_TRUE(c.peer_status());
    EXPECT_EQ(c.peer_status()->text, how.text);
}

TEST(place, tells_why_its_entry_did_not_get_its_arguments) {
    auto p = spawn(sum_entry);
    ASSERT_EQ(p.put(std::string("no two numbers")), status::ok);
    const auto how = p.wait();
    EXPECT_EQ(how, exited(1));
    EXPECT_EQ(how.text.find("the arguments of the place's entry: "), 0U) << how;
    EXPECT_GT(how.text.size(), std::string("the arguments of the place's entry: ").size()) << how;

    auto closed = spawn(sum_entry);
    closed.close();
    EXPECT_EQ(closed.wait().text.find("the arguments of the place's entry: "), 0U);
}

TEST(place, tells_a_text_that_can_be_printed) {
    const auto how = spawn([] { throw std::runtime_error("\x1B[2Jone\ntwo\x9B"); }).wait();
    EXPECT_EQ(how.text, "?[2Jone\\ntwo?");
}

TEST(place, tells_the_beginning_of_a_long_text) {
    const auto how = spawn([] { throw std::runtime_error(std::string(1 << 20, 'x')); }).wait();
    EXPECT_EQ(how.text, std::string(4093, 'x') + "...");
    const auto fits = spawn([] { throw std::runtime_error(std::string(4096, 'x')); }).wait();
    EXPECT_EQ(fits.text, std::string(4096, 'x'));
}

TEST(place, has_no_text_where_no_exception_ended_it) {
    EXPECT_EQ(spawn([] { return 1; }).wait().text, "");
    EXPECT_EQ(spawn([] { std::exit(1); }).wait().text, "");
    EXPECT_EQ(spawn([] { (void)::raise(SIGKILL); }).wait().text, "");
    // Nor by the exception of a process that it has forked by itself.
    EXPECT_EQ(spawn([] {
                  const auto child = ::fork();
                  if (child == 0) throw std::runtime_error("in a child");
                  ::waitpid(child, nullptr, 0);
                  return 1;
              })
                  .wait()
                  .text,
              "");
}

TEST(place, has_the_last_words_of_its_exception_and_those_of_no_other_end) {
    const auto end_with = [](int value) {
        return spawn(
                   [](int v) {
                       using places::control::exception_text;
                       auto& self = places::detail::process::current();
                       self.send(exception_text{"the first"});
                       self.send(exception_text{std::string(20'000, '\x07')});
                       if (v < 0) (void)::raise(SIGKILL);
                       ::_exit(v);
                   },
                   value)
            .wait();
    };
    EXPECT_EQ(end_with(1).text, std::string(4093, '?') + "...") << "only the nursery can see to it";
    EXPECT_EQ(end_with(0).text, "");
    EXPECT_EQ(end_with(3).text, "");
    EXPECT_EQ(end_with(-1).text, "");
}

TEST(place, can_be_compared_by_how_it_ended_alone) {
    EXPECT_EQ((exit_status{.value = 1, .text = "one"}), (exit_status{.value = 1, .text = "two"}));
    EXPECT_NE((exit_status{.value = 1}), (exit_status{.signalled = true, .value = 1}));
}

TEST(place, completes_with_what_it_gives_to_exit) {
    EXPECT_EQ(spawn([] { ::_exit(99); }).wait(), exited(99));
    EXPECT_EQ(spawn([] { std::exit(99); }).wait(), exited(99));
}

TEST(place, completes_with_0_for_what_is_no_exit_status_however_it_ends) {
    EXPECT_EQ(spawn([] { return 255; }).wait(), exited(255));
    EXPECT_EQ(spawn([] { std::exit(255); }).wait(), exited(255));
    for (const int value : {256, 300, -1, -300}) {
        EXPECT_EQ(spawn([](int v) { return v; }, value).wait(), exited(0)) << value;
        EXPECT_EQ(spawn([](int v) { std::exit(v); }, value).wait(), exited(0)) << value;
    }
}

TEST(place, that_calls_exit_runs_its_own_handlers_and_none_of_the_program) {
    auto p = spawn([](channel& c) {
        exiting = &c;
        (void)std::atexit([] { (void)exiting->put(1); });
        std::exit(7);
    });
    EXPECT_EQ(p.get<int>(), 1);
    EXPECT_FALSE(p.get<int>()) << "the destructor of a static ran";
    EXPECT_EQ(p.wait(), exited(7));
}

TEST(place, completes_with_the_signal_that_ended_it) {
    EXPECT_EQ(spawn([] { (void)::raise(SIGKILL); }).wait(), signalled(SIGKILL));
    EXPECT_EQ(spawn([] { (void)::raise(SIGTERM); }).wait(), signalled(SIGTERM));
    EXPECT_EQ(spawn([] { std::abort(); }).wait(), signalled(SIGABRT));
}

TEST(place, tells_the_same_at_every_wait) {
    auto p = spawn([] { return 99; });
    for (int i = 0; i < 3; ++i) EXPECT_EQ(p.wait(), exited(99));
    EXPECT_EQ(p.wait_for(0s), exited(99));
    EXPECT_TRUE(p.is_dead());
}

TEST(place, is_not_waited_for_longer_than_asked) {
    auto p = spawn(echo);
    EXPECT_EQ(p.wait_for(1ms), std::nullopt);
    EXPECT_EQ(p.wait_for(0ms), std::nullopt);
    EXPECT_FALSE(p.is_dead());
}

TEST(place, is_gone_when_kill_returns) {
    auto p = spawn(never_ends);
    const int pid = p.pid();
    p.kill();
    EXPECT_EQ(::kill(pid, 0), -1);
    EXPECT_EQ(errno, ESRCH);
    EXPECT_EQ(p.wait(), signalled(SIGKILL));
}

TEST(place, can_be_killed_three_times) {
    auto p = spawn(never_ends);
    for (int i = 0; i < 3; ++i) p.kill();
    EXPECT_EQ(p.wait(), signalled(SIGKILL));
}

TEST(place, keeps_its_completion_value_when_killed_afterwards) {
    auto p = spawn(seven);
    (void)p.wait();
    p.kill();
    EXPECT_EQ(p.wait(), exited(7));
}

TEST(place, is_seen_dead_by_its_creator_when_another_has_killed_it) {
    auto victim = spawn(never_ends);
    auto killer = spawn([](int pid) { return ::kill(pid, SIGKILL); }, victim.pid());
    EXPECT_EQ(victim.wait(), signalled(SIGKILL));
    EXPECT_EQ(killer.wait(), exited(0));
}

TEST(place, sees_the_channel_closed_by_its_owner) {
    auto p = spawn([](channel& c) { return c.get().error() == places::errc::closed ? 3 : 4; });
    p.close();
    EXPECT_EQ(p.wait(), exited(3));
}

TEST(place, is_gone_when_its_owner_is_destroyed) {
    places::unique_fd life;
    {
        auto p = spawn(echo);
        life = pidfd_of(p.pid());
        EXPECT_FALSE(has_ended(life));
    }
    EXPECT_TRUE(has_ended(life));
}

TEST(place, is_killed_by_its_owners_destructor_when_it_does_not_listen) {
    places::unique_fd life;
    {
        auto p = spawn(never_ends);
        life = pidfd_of(p.pid());
    }
    EXPECT_TRUE(has_ended(life));
}

TEST(place, is_ended_when_another_is_assigned_over_it) {
    auto p = spawn(echo);
    const auto life = pidfd_of(p.pid());
    p = spawn(seven);
    EXPECT_TRUE(has_ended(life));
    EXPECT_EQ(p.wait(), exited(7));
}

TEST(place, spawns_places_of_its_own) {
    const auto parent = [](int depth) {
        const auto child = [](int d) { return d * 10; };
        return spawn(child, depth).wait().value + spawn(child, 1).wait().value;
    };
    EXPECT_EQ(spawn(parent, 2).wait(), exited(30));
}

TEST(place, reads_its_standard_input_at_its_end) {
    const auto reads = [] {
        char c;
        return ::read(0, &c, 1) == 0 ? 5 : 6;
    };
    EXPECT_EQ(spawn(reads).wait(), exited(5));
}

TEST(place, inherits_no_descriptor_of_other_places) {
    const auto count = [](channel& c) { (void)c.put(count_descriptors(::getpid())); };
    auto first = spawn(count);
    const auto expected = first.get<std::size_t>().value();
    std::vector<places::place> many;
    for (int i = 0; i < 20; ++i) many.push_back(spawn(echo));
    auto last = spawn(count);
    EXPECT_EQ(last.get<std::size_t>().value(), expected);
}

TEST(place, is_one_of_a_hundred_at_once) {
    std::vector<places::place> all;
    for (int i = 0; i < 100; ++i) {
        all.push_back(spawn([](channel& c, int me) { return me + c.get<int>().value(); }, i));
    }
    for (auto& p : all) ASSERT_EQ(p.put(100), status::ok);
    for (int i = 0; i < 100; ++i) {
        EXPECT_EQ(all[static_cast<std::size_t>(i)].wait(), exited(100 + i));
    }
}

TEST(place, takes_its_own_children_with_it) {
    auto p = spawn([](channel& c) {
        const int child = ::fork();
        if (child == 0) never_ends();
        (void)c.put(child);
        never_ends();
    });
    const auto grandchild = pidfd_of(p.get<int>().value());
    EXPECT_FALSE(has_ended(grandchild));
    p.kill();
    await_end(grandchild);
}

TEST(place, leaves_no_descriptor_behind_in_a_thousand_rounds) {
    const int nursery = nursery_pid();
    (void)spawn(seven).wait();
    await_nursery();
    const auto in_root = count_descriptors(::getpid());
    const auto in_nursery = count_descriptors(nursery);
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(spawn(seven).wait(), exited(7));
    await_nursery();
    EXPECT_EQ(count_descriptors(::getpid()), in_root);
    EXPECT_EQ(count_descriptors(nursery), in_nursery);
}

TEST(place, leaves_no_descriptor_behind_when_it_could_not_start) {
    const int nursery = nursery_pid();
    await_nursery();
    const auto in_root = count_descriptors(::getpid());
    const auto in_nursery = count_descriptors(nursery);
    for (int i = 0; i < 100; ++i) {
        (void)text_of_error(places::errc::start_failed,
                            [] { (void)spawn({.ring_bytes = 5000}, seven); });
        (void)text_of_error(places::errc::entry_not_found,
                            [] { (void)spawn(places::registered{"none"}); });
    }
    (void)text_of_error(places::errc::load_failed, [] {
        (void)spawn(places::library{"/nowhere/libnone.so", "make_doubler"});
    });
    await_nursery();
    EXPECT_EQ(count_descriptors(::getpid()), in_root);
    EXPECT_EQ(count_descriptors(nursery), in_nursery);
}

namespace {

/// Starts a place that waits in its inbox, tells which, and never ends by itself.
void start_a_waiting_place(channel& c) {
    auto waiting = spawn(answer_by_reply_end);
    // It has answered once, so it is in its inbox now, soon to sleep there.
    if (waiting.put(1) != status::ok || !waiting.receive()) return;
    (void)c.put(waiting.pid());
    never_ends();
}

char state_of(int pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(file, text);
    const auto at = text.rfind(") ");
    return at == text.npos ? 'X' : text[at + 2];
}

}  // namespace

TEST(place, asleep_in_its_inbox_ends_when_its_creator_is_killed) {
    for (int round = 0; round < 20; ++round) {
        auto creator = spawn(start_a_waiting_place);
        const int pid = creator.get<int>().value();
        const auto waiting = pidfd_of(pid);
        while (state_of(pid) == 'R') ::sched_yield();
        creator.kill();
        await_end(waiting);
    }
}
