// SPDX-License-Identifier: Apache-2.0
#include "launcher/fork.hpp"

#include "core/control.hpp"

#include <places/shm/ready_set.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <exception>
#include <fcntl.h>
#include <memory>
#include <string>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace places::launcher {

namespace {

/// Returns: false where the kernel refuses it, as the filter of a container may.
bool close_range(unsigned first, unsigned last) noexcept {
    return ::syscall(SYS_close_range, first, last, 0) == 0;
}

/// Returns: false where some are left, as the next range is refused as well.
bool close_ranges_between(const std::vector<int>& kept) noexcept {
    unsigned from = 0;
    for (const int fd : kept) {
        const auto at = static_cast<unsigned>(fd);
        if (at > from && !close_range(from, at - 1)) return false;
        from = at + 1;
    }
    return close_range(from, ~0U);
}

/// Throws: std::system_error.
void close_one_by_one(const std::vector<int>& kept) {
    const std::unique_ptr<DIR, int (*)(DIR*)> list{::opendir("/proc/self/fd"), ::closedir};
    if (!list) checked(-1, "close_range() is refused; list the descriptors in /proc/self/fd");
    std::vector<int> others;
    while (const auto* each = ::readdir(list.get())) {
        if (each->d_name[0] == '.') continue;
        const int fd = std::atoi(each->d_name);
        const bool is_kept = std::binary_search(kept.begin(), kept.end(), fd);
        if (!is_kept && fd != ::dirfd(list.get())) others.push_back(fd);
    }
    for (const int fd : others) ::close(fd);
}

}  // namespace

void close_all_but(std::vector<int> kept) {
    std::sort(kept.begin(), kept.end());
    if (!close_ranges_between(kept)) close_one_by_one(kept);
}

forker::forker(unique_fd board)
    : board_(std::move(board)),
      null_(checked_fd(::open("/dev/null", O_RDONLY | O_CLOEXEC), "open /dev/null")) {
    checked(::sigprocmask(SIG_SETMASK, nullptr, &root_mask_), "sigprocmask");
    checked(::sigaction(SIGCHLD, nullptr, &root_child_), "sigaction");
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    checked(::sigaction(SIGPIPE, &ignore, &root_pipe_), "sigaction");
    for (const int s : {SIGINT, SIGHUP, SIGQUIT}) {
        checked(::sigaction(s, &ignore, nullptr), "sigaction");
    }
    // Held back, not ignored: one for a place that has not its own mask yet is not to be lost.
    sigset_t held_back;
    ::sigemptyset(&held_back);
    ::sigaddset(&held_back, SIGTERM);
    checked(::sigprocmask(SIG_BLOCK, &held_back, nullptr), "sigprocmask");
}

newborn forker::fork(birth_plan plan) {
    std::array<int, 2> sockets;
    checked(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets.data()),
            "make a control socket");
    newborn child;
    child.control = unique_fd{sockets[0]};
    unique_fd theirs{sockets[1]};
    auto wakeups = shm::ready_set::make();
    child.doorbell = std::move(wakeups.doorbell);
    const auto nursery = ::getpid();
    std::fflush(nullptr);
    child.pid = static_cast<pid_t>(checked(::fork(), "fork a place"));
    if (child.pid == 0) become(plan, nursery, std::move(theirs), std::move(wakeups.reader));
    try {
        child.pidfd =
            checked_fd(static_cast<int>(::syscall(SYS_pidfd_open, child.pid, 0)), "pidfd_open");
    } catch (...) {
        // A place that nobody can watch must not be.
        ::kill(child.pid, SIGKILL);
        ::waitpid(child.pid, nullptr, 0);
        throw;
    }
    return child;
}

/// Nothing unwinds from here into the nursery's own frames.
void forker::become(birth_plan& plan, pid_t nursery, unique_fd control,
                    unique_fd wakeups) noexcept {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // The nursery may have ended between fork and here.
    if (::getppid() != nursery) ::_exit(1);
    ::prctl(PR_SET_NAME, plan.shown_name.c_str());
    ::sigaction(SIGPIPE, &root_pipe_, nullptr);
    ::sigaction(SIGCHLD, &root_child_, nullptr);
    if (plan.ignores_sigterm) ::signal(SIGTERM, SIG_IGN);
    ::sigprocmask(SIG_SETMASK, &root_mask_, nullptr);
    // Its standard input is at its end from the start.
    const auto fail = [&](const char* why) {
        std::fprintf(stderr, "place %s ended before it had begun: %s\n", plan.shown_name.c_str(),
                     why);
        try {
            control::send(control.get(), {0, control::exception_text{why}}, {});
        } catch (const std::exception&) {
            // Out of memory, or the nursery has ended.
        }
        ::_exit(1);
    };
    const auto give = [&](const unique_fd& fd, int stream) {
        if (::dup2(fd.get(), stream) >= 0) return;
        fail((std::string("dup2 of its standard streams: ") + std::strerror(errno)).c_str());
    };
    give(null_, STDIN_FILENO);
    int stream = STDOUT_FILENO;
    for (const auto& fd : plan.streams) {
        if (stream <= STDERR_FILENO) give(fd, stream++);
    }
    auto& kept = plan.kept;
    kept.insert(kept.end(), {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, control.get(),
                             wakeups.get(), board_.get()});
    // A place with the control sockets of others could act for them.
    try {
        close_all_but(std::move(kept));
    } catch (const std::exception& e) {
        fail(e.what());
    }
    plan.run({std::move(control), std::move(wakeups), std::move(board_), plan.slot, plan.id,
              std::move(plan.shown_name)});
    ::_exit(1);
}

}  // namespace places::launcher
