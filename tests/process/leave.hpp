// SPDX-License-Identifier: Apache-2.0
// Processes that a place starts and leaves running, in every way that fork() allows.
#pragma once

#include "processes.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

inline constexpr std::array kinds_left{"child", "session", "daemon", "chain", "bomb"};

/// In the place: starts processes of `kind`, each of which holds the pipe `path` open. The last of
/// them to be started writes one byte to it.
inline void leave(const std::string& kind, const std::string& path) {
    const int pipe = places::checked(::open(path.c_str(), O_WRONLY), "open the test's pipe");
    if (::fork() != 0) return;
    if (kind == "session" || kind == "daemon") ::setsid();
    if (kind == "daemon" && ::fork() != 0) ::_exit(0);
    (void)!::write(pipe, "x", 1);
    // Each process lives until it has started the next one.
    while (kind == "chain") {
        if (::fork() != 0) ::_exit(0);
    }
    // One that starts short-lived ones, whose children outlive them.
    while (kind == "bomb") {
        const int child = ::fork();
        if (child == 0) {
            (void)::fork();
            ::usleep(500);
            ::_exit(0);
        }
        (void)::waitpid(child, nullptr, 0);
    }
    never_ends();
}

/// Name, state, parent and place in the kernel of each process of this user's tests, for a wait in
/// vain.
inline std::string processes_that_are_there() {
    std::string all;
    std::error_code none;
    for (const auto& each : std::filesystem::directory_iterator("/proc", none)) {
        std::ifstream status(each.path() / "status");
        std::string text;
        for (std::string line; std::getline(status, line);) {
            if (line.rfind("Name:", 0) == 0 || line.rfind("State:", 0) == 0 ||
                line.rfind("PPid:", 0) == 0) {
                text += line + ' ';
            }
        }
        // Threads of the kernel have no command line.
        std::ifstream command(each.path() / "cmdline");
        std::string program;
        if (!std::getline(command, program, '\0') || text.empty()) continue;
        std::ifstream where(each.path() / "wchan");
        std::string call;
        std::getline(where, call);
        all += each.path().filename().string() + ": " + text + call + '\n';
    }
    return all;
}

/// The test's side of such a pipe.
class left_behind {
  public:
    left_behind() {
        std::array<int, 2> fds{};
        places::checked(::pipe2(fds.data(), O_CLOEXEC), "make a pipe");
        reader_ = places::unique_fd{fds[0]};
        writer_ = places::unique_fd{fds[1]};
    }
    std::string path() const {
        return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(writer_.get());
    }
    /// Blocks: until the processes have been started.
    void await_begin() {
        await(POLLIN, "nothing was started");
        char mark = 0;
        places::checked(::read(reader_.get(), &mark, 1), "read from a pipe");
        writer_.reset();
    }
    /// Whether none of the processes is left.
    bool are_gone() const {
        pollfd news{reader_.get(), 0, 0};
        return ::poll(&news, 1, 0) == 1;
    }
    /// Blocks: until none of them is left.
    void await_end() const { await(0, "something is left"); }

  private:
    // Before the test's watchdog ends it without a word.
    static constexpr int limit_ms = 100'000;
    void await(short what, const char* otherwise) const {
        pollfd news{reader_.get(), what, 0};
        if (::poll(&news, 1, limit_ms) == 1) return;
        std::fprintf(stderr, "%s:\n%s", otherwise, processes_that_are_there().c_str());
        std::abort();
    }

    places::unique_fd reader_;
    places::unique_fd writer_;
};
