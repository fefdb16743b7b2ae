// SPDX-License-Identifier: Apache-2.0
// The end of a node: whichever process is killed, no process of the node is left. What places have
// started besides is in reaper_test.
#include "launcher/nursery.hpp"
#include "core/process.hpp"
#include "tests/support/halt.hpp"
#include "tests/support/line_from.hpp"
#include "tests/support/node_main.hpp"
#include "tests/support/sanitized.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <new>
#include <pthread.h>
#include <spawn.h>
#include <sstream>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tuple>
#include <vector>

using places::errc;
using places::unique_fd;

namespace {

/// Shared by all processes of the node: whether what they fork is killed at once. It is made before
/// the node's processes are.
std::atomic<bool>* const is_deadly_to_forks = [] {
    void* const page = ::mmap(nullptr, sizeof(std::atomic<bool>), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) std::abort();
    ::pthread_atfork(nullptr, nullptr, [] {
        if (is_deadly_to_forks->load()) ::kill(::getpid(), SIGKILL);
    });
    return new (page) std::atomic<bool>{false};
}();

struct pipe_ends {
    unique_fd reader;
    unique_fd writer;
};
pipe_ends make_pipe() {
    std::array<int, 2> fds{};
    places::checked(::pipe2(fds.data(), O_CLOEXEC), "make a pipe");
    return {unique_fd{fds[0]}, unique_fd{fds[1]}};
}

/// tests/process/doomed_root.cpp, running as a root of its own.
class doomed_root {
  public:
    explicit doomed_root(const char* how) {
        auto in = make_pipe();
        auto out = make_pipe();
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, in.reader.get(), 0);
        ::posix_spawn_file_actions_adddup2(&actions, out.writer.get(), 1);
        std::string program = DOOMED_ROOT;
        std::string argument = how;
        std::array<char*, 3> argv{program.data(), argument.data(), nullptr};
        const int failed =
            ::posix_spawn(&pid_, DOOMED_ROOT, &actions, nullptr, argv.data(), environ);
        ::posix_spawn_file_actions_destroy(&actions);
        if (failed != 0) throw std::runtime_error("cannot start " DOOMED_ROOT);
        in.reader.reset();
        out.writer.reset();
        order_ = std::move(in.writer);

        const auto line = line_from(out.reader.get());
        said_ = line;
        std::istringstream numbers(line);
        for (int each; numbers >> each;) {
            pids_.push_back(each);
            lives_.push_back(pidfd_of(each));
        }
        output_ = std::move(out.reader);
    }
    ~doomed_root() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
    }
    doomed_root(const doomed_root&) = delete;
    doomed_root& operator=(const doomed_root&) = delete;

    int pid() const { return pid_; }
    const std::string& said() const { return said_; }
    int nursery() const { return pids_.at(0); }
    const unique_fd& life_of_nursery() const { return lives_.at(0); }
    std::size_t process_count() const { return pids_.size(); }
    void go_on() { order_.reset(); }
    /// As waitpid tells it.
    int wait() {
        int how = 0;
        places::checked(::waitpid(std::exchange(pid_, 0), &how, 0), "wait for the program");
        return how;
    }
    /// Blocks: until none of its processes is left; the test's watchdog ends a wait in vain.
    void await_all() {
        for (const auto& each : lives_) await_end(each);
    }

  private:
    pid_t pid_ = 0;
    unique_fd order_;
    unique_fd output_;
    std::string said_;  // its first line
    std::vector<int> pids_;
    std::vector<unique_fd> lives_;
};

void echo(places::channel& c) {
    while (auto m = c.get<int>()) {
        if (c.put(*m) != places::status::ok) return;
    }
}

void echo_all(places::inbox& in) {
    while (auto each = in.get()) {
        if (each->from.send(each->content) != places::status::ok) return;
    }
}

}  // namespace

TEST(nursery, is_not_forked_from_a_program_that_has_begun_a_thread) {
    if (is_thread_sanitized) GTEST_SKIP() << "ThreadSanitizer begins one in every program";
    doomed_root root{"thread"};
    EXPECT_EQ(root.said(),
              "places::runtime must be made before any thread: fork() copies only one. Make it on "
              "the first line of main");
    EXPECT_EQ(WEXITSTATUS(root.wait()), static_cast<int>(errc::bad_argument));
}

TEST(nursery, ends_every_process_when_its_root_is_killed) {
    doomed_root root{"return"};
    ASSERT_EQ(root.process_count(), 7U);
    ::kill(root.pid(), SIGKILL);
    EXPECT_EQ(root.wait(), SIGKILL);
    root.await_all();
}

TEST(nursery, ends_every_process_when_its_root_is_killed_while_it_is_stopped) {
    doomed_root root{"return"};
    ASSERT_EQ(root.process_count(), 7U);
    halt(root.nursery());
    ::kill(root.pid(), SIGKILL);
    EXPECT_EQ(root.wait(), SIGKILL);
    root.await_all();
}

TEST(nursery, ends_every_process_when_its_root_leaves_without_a_word) {
    doomed_root root{"exit"};
    root.go_on();
    EXPECT_EQ(WEXITSTATUS(root.wait()), 3);
    root.await_all();
}

TEST(nursery, ends_every_process_when_its_root_aborts) {
    doomed_root root{"abort"};
    root.go_on();
    EXPECT_EQ(WTERMSIG(root.wait()), SIGABRT);
    root.await_all();
}

TEST(nursery, ends_every_process_when_its_root_throws_out_of_main) {
    doomed_root root{"throw"};
    root.go_on();
    EXPECT_TRUE(WIFSIGNALED(root.wait()));
    root.await_all();
}

TEST(nursery, has_ended_every_process_before_its_root_returns_from_main) {
    doomed_root root{"return"};
    root.go_on();
    EXPECT_EQ(root.wait(), 0);
    EXPECT_TRUE(has_ended(root.life_of_nursery()));
    root.await_all();
}

TEST(nursery, has_ended_every_process_before_runtime_exit_ends_its_root) {
    for (const char* how : {"exit_outside", "exit_in_body"}) {
        doomed_root root{how};
        root.go_on();
        EXPECT_EQ(root.wait(), 7 << 8) << how;
        EXPECT_TRUE(has_ended(root.life_of_nursery())) << how;
        root.await_all();
    }
}

TEST(nursery, takes_the_places_with_it_and_ends_a_get_of_the_root) {
    doomed_root root{"get"};
    ::kill(root.nursery(), SIGKILL);
    EXPECT_EQ(WEXITSTATUS(root.wait()), static_cast<int>(errc::peer_dead));
    root.await_all();
}

// The nursery may have had the other end's memory, and kept it: what was read is not known.
TEST(nursery, takes_with_it_whether_an_end_was_ever_opened) {
    doomed_root root{"sent"};
    ::kill(root.nursery(), SIGKILL);
    EXPECT_EQ(WEXITSTATUS(root.wait()), 3);
    root.await_all();
}

TEST(nursery, takes_the_places_with_it_and_ends_a_wait_of_the_root_on_a_set) {
    for (const char* how : {"set", "set_in_body"}) {
        SCOPED_TRACE(how);
        doomed_root root{how};
        ::kill(root.nursery(), SIGKILL);
        EXPECT_EQ(WEXITSTATUS(root.wait()), static_cast<int>(errc::peer_dead));
        root.await_all();
    }
}

TEST(nursery, takes_the_places_with_it_and_ends_a_wait_of_the_root) {
    doomed_root root{"wait"};
    ::kill(root.nursery(), SIGKILL);
    EXPECT_EQ(WEXITSTATUS(root.wait()), SIGKILL);
    root.await_all();
}

TEST(nursery, killed_amid_requests_leaves_none_of_them_waiting) {
    for (int i = 0; i < 20; ++i) {
        doomed_root root{"spawn"};
        ::kill(root.nursery(), SIGKILL);
        EXPECT_EQ(WEXITSTATUS(root.wait()), static_cast<int>(errc::node_down));
        root.await_all();
    }
}

TEST(nursery, reports_a_place_that_is_killed_while_it_starts) {
    for (int i = 0; i < 200; ++i) {
        auto p = places::spawn(places::registered{"never-ends"});
        ::kill(p.pid(), SIGKILL);
        EXPECT_EQ(p.get<int>().error(), errc::peer_dead);
        EXPECT_EQ(p.wait().value, SIGKILL);
    }
}

TEST(nursery, reports_a_place_that_is_killed_before_it_has_begun) {
    for (int i = 0; i < 50; ++i) {
        is_deadly_to_forks->store(true);
        const auto failure =
            error_of([] { (void)places::spawn(places::registered{"never-ends"}); });
        is_deadly_to_forks->store(false);
        EXPECT_EQ(failure.code(), errc::start_failed);
        const std::string text = failure.what();
        EXPECT_NE(text.find("ended before it had begun: signal 9"), text.npos) << text;
    }
    EXPECT_EQ(places::spawn([] { return 3; }).wait().value, 3);
}

TEST(nursery, goes_on_when_many_places_die_at_once) {
    std::vector<places::place> all;
    for (int i = 0; i < 50; ++i) all.push_back(places::spawn(never_ends));
    for (const auto& p : all) ::kill(p.pid(), SIGKILL);
    for (auto& p : all) EXPECT_EQ(p.wait().value, SIGKILL);
    EXPECT_EQ(places::spawn([] { return 3; }).wait().value, 3);
}

TEST(nursery, ends_a_place_that_sends_it_noise_and_serves_the_others) {
    auto p = places::spawn([] {
        const std::string noise(1000, '\xff');
        const int control = places::detail::process::current().control_handle();
        (void)::send(control, noise.data(), noise.size(), 0);
        never_ends();
    });
    EXPECT_EQ(p.wait(), (places::exit_status{.signalled = true, .value = SIGKILL}));
    EXPECT_EQ(places::spawn([] { return 3; }).wait().value, 3);
}

TEST(nursery, refuses_a_place_what_only_the_root_may_ask) {
    auto p = places::spawn([] {
        try {
            (void)places::detail::process::current().request(places::control::end_places{});
        } catch (const places::error& e) {
            return e.code() == errc::protocol ? 3 : 4;
        }
        return 5;
    });
    EXPECT_EQ(p.wait().value, 3);
}

TEST(nursery, tells_of_a_death_although_a_stranger_has_called_the_channel_closed) {
    auto victim = places::spawn(never_ends);
    auto liar = places::spawn([] {
        auto& self = places::detail::process::current();
        for (std::uint64_t id = 0; id < 100; ++id) self.send(places::control::channel_closed{id});
        for (std::uint64_t id = 0; id < 100; ++id) self.send(places::control::channel_closed{id});
    });
    // Its own channel is closed to the nursery now; its creator hears of it all the same.
    EXPECT_EQ(liar.wait().value, 0);
    ::kill(victim.pid(), SIGKILL);
    EXPECT_EQ(victim.get<int>().error(), errc::peer_dead);
}

TEST(nursery, hangs_up_no_channel_at_the_word_of_a_stranger) {
    auto server = places::spawn(echo);
    auto liar = places::spawn([] {
        auto& self = places::detail::process::current();
        for (std::uint64_t id = 0; id < 100; ++id) {
            self.send(places::control::channel_closed{id, 0, true});
            self.send(places::control::channel_closed{id, 1, true});
        }
        await_nursery();
    });
    (void)liar.wait();
    ASSERT_EQ(server.put(5), places::status::ok);
    EXPECT_EQ(server.get<int>(), 5);
}

TEST(nursery, gives_the_log_to_no_place_that_asks_for_it) {
    std::string heard;
    test_runtime().on_log([&](const places::log_record& r) { heard += r.text; });
    auto thief = places::spawn([](places::channel& c) {
        places::detail::process::current().send(places::control::take_log{});
        await_nursery();
        (void)c.put(1);
        never_ends();
    });
    ASSERT_EQ(thief.get<int>().value(), 1);
    auto p = places::spawn([] { places::log_to_parent(places::severity::info, "for the root"); });
    (void)p.wait();
    EXPECT_EQ(heard, "for the root");
    thief.kill();
    test_runtime().on_log([](const places::log_record&) {});
}

TEST(nursery, enters_who_has_written_a_line_of_the_log_and_when) {
    std::vector<places::log_record> records;
    test_runtime().on_log([&](const places::log_record& r) { records.push_back(r); });
    const auto before = std::chrono::system_clock::now();
    auto forger = places::spawn({.named = "forger"}, [](places::inbox&) {
        places::control::log_note note;
        note.severity = 200;
        note.time_ns = 1;
        note.node = "another";
        note.place = "root";
        note.text = "all is well\n2026-01-01T00:00:00.000Z error root: \x1B[2J\r\a\xC2\x9B";
        places::detail::process::current().send(std::move(note));
    });
    (void)forger.wait();
    const auto after = std::chrono::system_clock::now();
    test_runtime().on_log([](const places::log_record&) {});
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].node, "");
    EXPECT_EQ(records[0].place, "forger");
    EXPECT_GE(records[0].time, before);
    EXPECT_LE(records[0].time, after);
    EXPECT_EQ(records[0].severity, places::severity::error);
    EXPECT_EQ(records[0].text, "all is well\\n2026-01-01T00:00:00.000Z error root: ?[2J???");
}

TEST(nursery, kills_no_place_for_another_that_did_not_create_it) {
    auto victim = places::spawn(echo);
    const auto kill = [](std::uint64_t id) {
        try {
            (void)places::detail::process::current().request(places::control::kill{id});
        } catch (const places::error& e) {
            return e.code() == errc::bad_argument ? 3 : 4;
        }
        return 5;
    };
    EXPECT_EQ(places::spawn(kill, victim.id()).wait().value, 3);
    EXPECT_EQ(places::spawn(kill, places::launcher::root_place_id).wait().value, 3);
    ASSERT_EQ(victim.put(5), places::status::ok);
    EXPECT_EQ(victim.get<int>(), 5);
}

TEST(nursery, kills_a_place_for_its_creator_for_the_root_and_for_itself) {
    const auto kill_itself = [] {
        auto& self = places::detail::process::current();
        (void)self.request(places::control::kill{self.place_id()});
        return 3;
    };
    EXPECT_EQ(places::spawn(kill_itself).wait().value, SIGKILL);
    auto parent = places::spawn([](places::channel& c) {
        auto mine = places::spawn(never_ends);
        mine.kill();
        auto not_mine = places::spawn(never_ends);
        (void)c.put(std::make_tuple(mine.wait().value, not_mine.id()));
        (void)c.put(not_mine.wait().value);
    });
    const auto [first, second] = parent.get<std::tuple<int, std::uint64_t>>().value();
    EXPECT_EQ(first, SIGKILL);
    (void)places::detail::process::current().request(places::control::kill{second});
    EXPECT_EQ(parent.get<int>(), SIGKILL);
}

// Its destructors do not run: nothing but the nursery ends what it has started.
TEST(nursery, ends_the_anonymous_places_of_a_killed_place_and_no_named_one) {
    auto creator = places::spawn([](places::channel& c) {
        auto anonymous = places::spawn(never_ends);
        auto named = places::spawn({.named = "outlives"}, echo_all);
        (void)c.put(std::make_tuple(anonymous.pid(), named.id()));
        never_ends();
    });
    const auto [pid, named_id] = creator.get<std::tuple<int, std::uint64_t>>().value();
    const auto life = pidfd_of(pid);
    creator.kill();
    await_end(life);
    auto named = places::connect_to_named_place("outlives");
    ASSERT_EQ(named.put(5), places::status::ok);
    EXPECT_EQ(named.get<int>(), 5);
    (void)places::detail::process::current().request(places::control::kill{named_id});
}

// A daemon, for example: it is a child of the nursery once its parent has ended.
TEST(nursery, reaps_at_once_what_a_living_place_has_left_running) {
    const int nursery = nursery_pid();
    const auto count = [task = std::to_string(nursery)] {
        std::ifstream list("/proc/" + task + "/task/" + task + "/children");
        return std::distance(std::istream_iterator<int>{list}, std::istream_iterator<int>{});
    };
    const auto before = count();
    auto p = places::spawn([](places::channel& c) {
        for (int n = 0; n < 100; ++n) {
            const auto child = ::fork();
            if (child == 0) {
                (void)::fork();
                ::_exit(0);
            }
            ::waitpid(child, nullptr, 0);
        }
        (void)c.put(1);
        never_ends();
    });
    ASSERT_EQ(p.get<int>().value(), 1);
    // Too many for good fail by the watchdog.
    while (count() != before + 1) await_nursery();
    p.kill();
}

TEST(nursery, cuts_no_character_of_a_long_answer_in_half) {
    for (const std::string start : {"", "x"}) {
        std::string name = start;
        for (int i = 0; i < 5000; ++i) name += "é";
        try {
            (void)places::connect_to_named_place(name);
            ADD_FAILURE() << "there is such a place";
        } catch (const places::error& e) {
            const std::string text = e.what();
            const auto cut = text.rfind("…");
            ASSERT_NE(cut, std::string::npos);
            EXPECT_EQ(text.substr(cut - 2, 2), "é");
            EXPECT_LT(text.size(), 5000U);
        }
    }
}

TEST(nursery, survives_the_signals_of_a_terminal) {
    const int nursery = nursery_pid();
    for (const int s : {SIGINT, SIGHUP, SIGQUIT}) ::kill(nursery, s);
    EXPECT_EQ(places::spawn([] { return 3; }).wait().value, 3);
}

const auto never_ends_entry = places::register_entry<never_ends>("never-ends");
