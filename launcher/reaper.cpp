// SPDX-License-Identifier: Apache-2.0
#include "launcher/reaper.hpp"

#include "core/control.hpp"
#include "launcher/fork.hpp"
#include "launcher/orphans.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <fcntl.h>
#include <iostream>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace places::launcher {
namespace {

// After a failure for want of memory, the only one that serve() knows.
constexpr int retry_ms = 100;

unique_fd open_pidfd(pid_t pid) {
    return checked_fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)), "pidfd_open");
}

/// A child that ends by itself, or is killed. Blocks: until it has.
void reap(pid_t child) noexcept {
    while (::waitpid(child, nullptr, 0) < 0 && errno != ECHILD) {
    }
}

/// The status with which the reaper tells how its nursery has ended.
int status_of(int how) noexcept {
    return WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
}

class reaper {
  public:
    reaper(pid_t nursery, unique_fd root) : nursery_(nursery), root_(std::move(root)) {}

    [[noreturn]] void serve() {
        while (true) {
            int limit = -1;
            try {
                look();
            } catch (const std::exception&) {
                limit = retry_ms;
            }
            // A negative descriptor is ignored: the root's end is news once.
            std::array<pollfd, 2> news{
                {{orphans_.native_handle(), POLLIN, 0}, {root_ ? root_.get() : -1, POLLIN, 0}}};
            if (::poll(news.data(), news.size(), limit) <= 0 || news[1].revents == 0) continue;
            root_.reset();
            // Its own child, which it has not reaped yet: the pid is not another's.
            if (nursery_ != 0) ::kill(nursery_, SIGCONT);
        }
    }

  private:
    void look() {
        // First: a child that ends after this makes the descriptor readable again.
        orphans_.reap();
        int how = 0;
        const pid_t found = nursery_ == 0 ? 0 : ::waitpid(nursery_, &how, WNOHANG);
        if (found < 0 && errno != ECHILD) checked(found, "waitpid");
        if (found != 0) {
            nursery_ = 0;
            status_ = status_of(how);
        }
        if (nursery_ != 0) return;
        orphans_.adopt();
        if (orphans_.empty()) ::_exit(status_);
    }

    pid_t nursery_;  // 0 once it has been reaped
    unique_fd root_;
    int status_ = 0;
    orphans orphans_{[this](pid_t pid) { return pid == nursery_; }};
};

/// What the reaper needs neither for itself nor for its children is closed here.
void let_go_of_everything(const std::vector<int>& kept) {
    const unique_fd null =
        checked_fd(::open("/dev/null", O_RDWR | O_CLOEXEC), "open /dev/null for the reaper");
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        checked(::dup2(null.get(), stream), "give the reaper its standard streams");
    }
    auto all = kept;
    all.insert(all.end(), {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO});
    close_all_but(std::move(all));
}

/// In the reaper. Tells the root of the nursery, or why there is none, through `report`.
[[noreturn]] void run(unique_fd root, unique_fd report,
                      const std::function<void(nursery_parents)>& run_nursery) noexcept {
    pid_t nursery = 0;
    try {
        ::prctl(PR_SET_NAME, "places-reaper");
        // Stopped, it could not wake a stopped nursery.
        ::prctl(PR_SET_PDEATHSIG, SIGCONT);
        checked(::prctl(PR_SET_CHILD_SUBREAPER, 1), "make the reaper adopt orphans");
        nursery_parents parents{root.duplicate(), open_pidfd(::getpid())};
        nursery = static_cast<pid_t>(checked(::fork(), "fork the nursery"));
        if (nursery == 0) {
            root.reset();
            report.reset();
            run_nursery(std::move(parents));
            ::_exit(1);
        }
        parents = {};
        // Only now, as the nursery begins with the signals and the session of the root. A kill of
        // the root's process group does not reach this process.
        (void)::setsid();
        sigset_t all;
        ::sigfillset(&all);
        ::sigprocmask(SIG_BLOCK, &all, nullptr);
        const auto life = open_pidfd(nursery);
        let_go_of_everything({root.get(), report.get(), life.get()});
        reaper self{nursery, std::move(root)};
        control::send(report.get(), {0, control::done{}}, {life.get()});
        report.reset();
        self.serve();
    } catch (const std::exception& e) {
        if (nursery > 0) {
            ::kill(nursery, SIGKILL);
            reap(nursery);
        }
        try {
            control::send(
                report.get(),
                {0, control::failed{static_cast<std::int32_t>(errc::start_failed), e.what()}}, {});
        } catch (const std::exception&) {
            // The root has ended, or hears of it by the end of this process.
        }
    }
    ::_exit(1);
}

/// Blocks: until the reaper has told, or has ended.
control::received await_report(const unique_fd& report) {
    try {
        while (true) {
            pollfd news{report.get(), POLLIN, 0};
            (void)::poll(&news, 1, -1);
            auto told = control::receive(report.get());
            if (told) return std::move(*told);
        }
    } catch (const error&) {
        // It has ended, or sends what makes no sense: the same to us.
    }
    return {{0, control::failed{static_cast<std::int32_t>(errc::start_failed),
                                "the node's reaper has ended as it started"}},
            {}};
}

/// Blocks: until the process has ended, reaped or not.
void await_pidfd(const unique_fd& pidfd) noexcept {
    pollfd life{pidfd.get(), POLLIN, 0};
    while (::poll(&life, 1, -1) < 0) {
    }
}

}  // namespace

node_processes start_reaper(const std::function<void(nursery_parents)>& run_nursery) {
    std::array<int, 2> sockets;
    checked(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets.data()),
            "make a socket to the reaper");
    unique_fd ours{sockets[0]};
    unique_fd theirs{sockets[1]};
    // By the root itself, so that it is never another process with the same pid.
    auto root = open_pidfd(::getpid());
    std::cout.flush();
    std::fflush(nullptr);
    node_processes node;
    node.reaper_pid = static_cast<pid_t>(checked(::fork(), "fork the node's reaper"));
    if (node.reaper_pid == 0) {
        ours.reset();
        run(std::move(root), std::move(theirs), run_nursery);
    }
    theirs.reset();
    const auto give_up = [&] {
        ::kill(node.reaper_pid, SIGKILL);
        reap(node.reaper_pid);
    };
    try {
        node.reaper_pidfd = open_pidfd(node.reaper_pid);
        auto told = await_report(ours);
        if (const auto* failure = std::get_if<control::failed>(&told.packet.body)) {
            throw error(errc_of(failure->code), failure->text);
        }
        if (told.fds.empty()) {
            throw error(errc::start_failed,
                        "no descriptor is free to watch the node's nursery with; raise "
                        "RLIMIT_NOFILE (ulimit -n)");
        }
        node.nursery_pidfd = std::move(told.fds.front());
    } catch (...) {
        // Without its root's control socket the nursery ends by itself.
        give_up();
        throw;
    }
    return node;
}

void await_end(const node_processes& node) noexcept {
    await_pidfd(node.nursery_pidfd);
    // Stopped, it would never end.
    ::syscall(SYS_pidfd_send_signal, node.reaper_pidfd.get(), SIGCONT, nullptr, 0);
    await_pidfd(node.reaper_pidfd);
    reap(node.reaper_pid);
}

}  // namespace places::launcher
