// SPDX-License-Identifier: Apache-2.0
#include "launcher/spawned.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <string_view>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

namespace places::launcher {
namespace {

// What runs, even where another file or none is at its path now.
constexpr const char* own_file = "/proc/self/exe";

struct pipe_ends {
    unique_fd reader;
    unique_fd writer;
};
pipe_ends make_pipe() {
    int fds[2];
    checked(::pipe2(fds, O_CLOEXEC), "make a pipe to a new process");
    return {unique_fd{fds[0]}, unique_fd{fds[1]}};
}

/// Starts `file`, told that it is `argv`.
spawned spawn(const std::string& file, const std::vector<std::string>& argv, int given_in,
              int given_out) {
    pipe_ends in;
    pipe_ends out;
    if (given_in < 0) in = make_pipe();
    if (given_out < 0) out = make_pipe();
    auto err = make_pipe();

    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, given_in < 0 ? in.reader.get() : given_in, 0);
    ::posix_spawn_file_actions_adddup2(&actions, given_out < 0 ? out.writer.get() : given_out, 1);
    ::posix_spawn_file_actions_adddup2(&actions, err.writer.get(), 2);
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    ::posix_spawnattr_setpgroup(&attributes, 0);
    sigset_t defaults;
    ::sigemptyset(&defaults);
    ::sigaddset(&defaults, SIGPIPE);
    ::sigaddset(&defaults, SIGCHLD);
    ::posix_spawnattr_setsigdefault(&attributes, &defaults);
    std::vector<std::string> words = argv;
    std::vector<char*> pointers;
    for (auto& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    spawned s;
    const int failed =
        ::posix_spawnp(&s.pid, file.c_str(), &actions, &attributes, pointers.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (failed) throw std::system_error(failed, std::generic_category(), "start " + argv.front());
    s.pidfd = unique_fd{static_cast<int>(::syscall(SYS_pidfd_open, s.pid, 0))};
    if (!s.pidfd) {
        const int cause = errno;
        ::kill(s.pid, SIGKILL);
        ::waitpid(s.pid, nullptr, 0);
        throw std::system_error(cause, std::generic_category(), "pidfd_open");
    }
    s.in = std::move(in.writer);
    s.out = std::move(out.reader);
    s.err = std::move(err.reader);
    return s;
}

}  // namespace

void fill_standard_streams(int access) {
    while (true) {
        unique_fd probe = checked_fd(::open("/dev/null", access | O_CLOEXEC), "open /dev/null");
        if (probe.get() > STDERR_FILENO) return;
        (void)probe.release();
    }
}

spawned spawn_program(const std::vector<std::string>& argv, int in, int out) {
    return spawn(argv.front(), argv, in, out);
}

spawned spawn_self(const char* argument) {
    std::array<char, 4096> path{};
    checked(::readlink(own_file, path.data(), path.size() - 1), "readlink /proc/self/exe");
    std::string name = path.data();
    constexpr std::string_view deleted = " (deleted)";
    if (name.ends_with(deleted)) name.resize(name.size() - deleted.size());
    return spawn(own_file, {name, argument}, -1, -1);
}

std::optional<exit_status> reap(pid_t pid, const unique_fd& pidfd, int wait_ms) noexcept {
    using clock = std::chrono::steady_clock;
    pollfd life_ends{pidfd.get(), POLLIN, 0};
    const auto until = clock::now() + std::chrono::milliseconds{wait_ms};
    int got;
    do {
        // A signal cuts a wait short; it does not cut the process's time short.
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock::now());
        got = ::poll(&life_ends, 1,
                     wait_ms < 0 ? -1 : static_cast<int>(std::max<long>(left.count(), 0)));
    } while (got < 0 && errno == EINTR);
    if (got <= 0) return std::nullopt;
    siginfo_t info{};
    while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED) < 0) {
        if (errno == ECHILD) return unknown_status;
    }
    return exit_status{info.si_code != CLD_EXITED, info.si_status};
}

std::optional<exit_status> reap(const spawned& process) noexcept {
    return reap(process.pid, process.pidfd, 0);
}

without_sigpipe::without_sigpipe() {
    sigset_t pending;
    ::sigpending(&pending);
    is_pending_already_ = ::sigismember(&pending, SIGPIPE) == 1;
    ::sigemptyset(&signal_);
    ::sigaddset(&signal_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &signal_, &before_);
}

without_sigpipe::~without_sigpipe() {
    const timespec at_once{};
    if (!is_pending_already_) (void)::sigtimedwait(&signal_, nullptr, &at_once);
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void write_all(int fd, const void* from, std::size_t size) {
    const without_sigpipe guard;
    const auto* at = static_cast<const char*>(from);
    while (size > 0) {
        const auto written = ::write(fd, at, size);
        if (written < 0 && errno == EINTR) continue;
        checked(written, "write to a new process's standard input");
        at += written;
        size -= static_cast<std::size_t>(written);
    }
}

bool read_all(int fd, void* into, std::size_t size, std::chrono::milliseconds silence_max) {
    auto* at = static_cast<char*>(into);
    while (size > 0) {
        pollfd news{fd, POLLIN, 0};
        const int found = ::poll(&news, 1, static_cast<int>(silence_max.count()));
        if (found == 0) return false;
        const auto got = found < 0 ? found : ::read(fd, at, size);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got == 0 || (got < 0 && errno == ECONNRESET)) return false;
        checked(got, "read from standard input");
        at += got;
        size -= static_cast<std::size_t>(got);
    }
    return true;
}

}  // namespace places::launcher
