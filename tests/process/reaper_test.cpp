// SPDX-License-Identifier: Apache-2.0
// What places have started and left running ends with the place, with the nursery, and with the
// root, whichever of the processes above them is killed.
#include "tests/support/halt.hpp"
#include "tests/support/line_from.hpp"
#include "tests/support/node_main.hpp"
#include "leave.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <spawn.h>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <utility>

using places::unique_fd;

namespace {

/// tests/process/leaving_root.cpp, running as a root of its own in a process group of its own.
class leaving_root {
  public:
    explicit leaving_root(const char* kind) {
        std::array<int, 2> in{};
        std::array<int, 2> out{};
        places::checked(::pipe2(in.data(), O_CLOEXEC), "make a pipe");
        places::checked(::pipe2(out.data(), O_CLOEXEC), "make a pipe");
        input_ = unique_fd{in[1]};
        output_ = unique_fd{out[0]};
        const unique_fd their_input{in[0]};
        const unique_fd their_output{out[1]};
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, in[0], 0);
        ::posix_spawn_file_actions_adddup2(&actions, out[1], 1);
        posix_spawnattr_t attributes;
        ::posix_spawnattr_init(&attributes);
        ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
        std::string program = LEAVING_ROOT;
        std::string what = kind;
        auto path = left.path();
        std::array<char*, 4> argv{program.data(), what.data(), path.data(), nullptr};
        const int failed =
            ::posix_spawn(&pid_, LEAVING_ROOT, &actions, &attributes, argv.data(), environ);
        ::posix_spawnattr_destroy(&attributes);
        ::posix_spawn_file_actions_destroy(&actions);
        if (failed != 0) throw std::runtime_error("cannot start " LEAVING_ROOT);
        std::istringstream(next_line()) >> reaper_ >> nursery_;
        life_of_reaper_ = pidfd_of(reaper_);
        life_of_nursery_ = pidfd_of(nursery_);
        left.await_begin();
    }
    ~leaving_root() {
        if (pid_ == 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    leaving_root(const leaving_root&) = delete;
    leaving_root& operator=(const leaving_root&) = delete;

    int pid() const { return pid_; }
    int reaper() const { return reaper_; }
    int nursery() const { return nursery_; }
    const unique_fd& life_of_reaper() const { return life_of_reaper_; }
    const unique_fd& life_of_nursery() const { return life_of_nursery_; }
    /// What a place has returned that the root has started now.
    std::string spawn() {
        (void)!::write(input_.get(), "\n", 1);
        return next_line();
    }
    void go_on() { input_.reset(); }
    int wait() {
        int how = 0;
        places::checked(::waitpid(std::exchange(pid_, 0), &how, 0), "wait for the program");
        return how;
    }

    left_behind left;

  private:
    std::string next_line() { return line_from(output_.get()); }

    pid_t pid_ = 0;
    int reaper_ = 0;
    int nursery_ = 0;
    unique_fd input_;
    unique_fd output_;
    unique_fd life_of_reaper_;
    unique_fd life_of_nursery_;
};

template <class Act>
void for_each_kind(int rounds, Act act) {
    for (int i = 0; i < rounds; ++i) {
        for (const char* kind : kinds_left) {
            SCOPED_TRACE(kind);
            leaving_root root{kind};
            act(root);
        }
    }
}

}  // namespace

TEST(reaper, ends_what_places_have_started_when_the_nursery_is_killed) {
    using namespace std::chrono;
    nanoseconds longest{};
    for_each_kind(40, [&](leaving_root& root) {
        const auto begun = steady_clock::now();
        ::kill(root.nursery(), SIGKILL);
        root.left.await_end();
        longest = std::max(longest, nanoseconds{steady_clock::now() - begun});
    });
    std::printf("the longest of %zu ends took %.1f ms\n", 40 * kinds_left.size(),
                duration<double, std::milli>(longest).count());
}

TEST(reaper, has_ended_it_before_the_root_of_a_killed_nursery_returns_from_main) {
    for_each_kind(4, [](leaving_root& root) {
        ::kill(root.nursery(), SIGKILL);
        root.go_on();
        EXPECT_EQ(root.wait(), 0);
        EXPECT_TRUE(root.left.are_gone());
        EXPECT_TRUE(has_ended(root.life_of_reaper()));
    });
}

TEST(reaper, ends_it_when_the_root_is_killed) {
    for_each_kind(4, [](leaving_root& root) {
        ::kill(root.pid(), SIGKILL);
        root.left.await_end();
        await_end(root.life_of_nursery());
        await_end(root.life_of_reaper());
    });
}

TEST(reaper, ends_it_when_root_and_nursery_are_killed_together) {
    for_each_kind(4, [](leaving_root& root) {
        ::kill(root.pid(), SIGKILL);
        ::kill(root.nursery(), SIGKILL);
        root.left.await_end();
        await_end(root.life_of_reaper());
    });
}

TEST(reaper, ends_it_when_all_of_the_process_group_of_the_root_is_killed) {
    for_each_kind(4, [](leaving_root& root) {
        ::kill(-root.pid(), SIGKILL);
        root.left.await_end();
        await_end(root.life_of_reaper());
    });
}

TEST(reaper, ends_it_when_the_root_is_killed_while_reaper_and_nursery_are_stopped) {
    for_each_kind(1, [](leaving_root& root) {
        halt(root.nursery());
        halt(root.reaper());
        ::kill(root.pid(), SIGKILL);
        root.left.await_end();
        await_end(root.life_of_nursery());
        await_end(root.life_of_reaper());
    });
}

TEST(reaper, ends_before_the_root_returns_from_main_though_it_has_been_stopped) {
    for_each_kind(1, [](leaving_root& root) {
        halt(root.reaper());
        root.go_on();
        EXPECT_EQ(root.wait(), 0);
        EXPECT_TRUE(root.left.are_gone());
        EXPECT_TRUE(has_ended(root.life_of_reaper()));
    });
}

TEST(reaper, ends_no_node_when_it_is_killed_itself) {
    for_each_kind(1, [](leaving_root& root) {
        ::kill(root.reaper(), SIGKILL);
        await_end(root.life_of_reaper());
        EXPECT_EQ(root.spawn(), "3");
        root.go_on();
        EXPECT_EQ(root.wait(), 0);
        EXPECT_TRUE(root.left.are_gone());
        EXPECT_TRUE(has_ended(root.life_of_nursery()));
    });
}

TEST(reaper, survives_the_signals_of_a_terminal) {
    leaving_root root{"child"};
    for (const int s : {SIGINT, SIGHUP, SIGQUIT, SIGTERM, SIGTSTP}) ::kill(root.reaper(), s);
    EXPECT_EQ(root.spawn(), "3");
    EXPECT_FALSE(has_ended(root.life_of_reaper()));
    root.go_on();
    EXPECT_EQ(root.wait(), 0);
}

TEST(reaper, holds_nothing_open_of_what_the_root_had) {
    leaving_root root{"child"};
    // Three streams, root, nursery, signals, its list of children.
    EXPECT_LE(count_descriptors(root.reaper()), 7U);
}

TEST(place, that_has_ended_leaves_nothing_running_that_it_has_started) {
    const int nursery = nursery_pid();
    for (int i = 0; i < 40; ++i) {
        for (const char* kind : kinds_left) {
            SCOPED_TRACE(kind);
            left_behind left;
            auto p = places::spawn(
                [](places::channel& c, std::string what, std::string path, bool ends) {
                    leave(what, path);
                    (void)c.get<bool>();
                    if (!ends) ::kill(::getpid(), SIGKILL);
                },
                std::string(kind), left.path(), i % 2 == 0);
            left.await_begin();
            (void)p.put(true);
            (void)p.wait();
            left.await_end();
            // Each time that the nursery reaps such a process it kills all that are its children
            // and no places: those that the next place starts and leaves to it would be among them.
            while (!children_of(nursery).empty()) ::sched_yield();
        }
    }
}
