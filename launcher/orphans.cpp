// SPDX-License-Identifier: Apache-2.0
#include "launcher/orphans.hpp"

#include <array>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <string>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace places::launcher {
namespace {

bool has_been_reaped(pid_t orphan) { return ::waitpid(orphan, nullptr, WNOHANG) != 0; }

unique_fd open_signals() {
    // By SA_NOCLDWAIT, which the root may have, the kernel would reap places before we know how
    // they ended.
    struct sigaction as_usual {};
    as_usual.sa_handler = SIG_DFL;
    as_usual.sa_flags = SA_NOCLDSTOP;
    checked(::sigaction(SIGCHLD, &as_usual, nullptr), "sigaction");
    sigset_t child;
    ::sigemptyset(&child);
    ::sigaddset(&child, SIGCHLD);
    checked(::sigprocmask(SIG_BLOCK, &child, nullptr), "sigprocmask");
    return checked_fd(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd");
}

}  // namespace

orphans::orphans(std::function<bool(pid_t)> is_member)
    : is_member_(std::move(is_member)),
      signals_(open_signals()),
      children_(checked_fd(::open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC),
                           "open the list of children in /proc")) {}

std::set<pid_t> orphans::children() const {
    std::string text;
    std::array<char, 4096> part;
    ::lseek(children_.get(), 0, SEEK_SET);
    // In one go from the start, the kernel cuts no number in half.
    for (ssize_t got; (got = ::read(children_.get(), part.data(), part.size())) > 0;) {
        text.append(part.data(), static_cast<std::size_t>(got));
    }
    std::set<pid_t> all;
    char* next = text.data();
    while (true) {
        char* end = nullptr;
        const auto pid = std::strtol(next, &end, 10);
        if (end == next) return all;
        all.insert(static_cast<pid_t>(pid));
        next = end;
    }
}

void orphans::adopt() {
    bool again = true;
    while (std::exchange(again, false)) {
        for (const auto pid : children()) {
            if (known_.contains(pid) || is_member_(pid)) continue;
            // Its id is its own until it is reaped, which nobody else does.
            ::kill(pid, SIGKILL);
            // One that had ended before has been signalled already. What it leaves is ours too.
            if (has_been_reaped(pid)) {
                again = true;
            } else {
                known_.insert(pid);
            }
        }
    }
}

void orphans::reap() {
    signalfd_siginfo news;
    while (::read(signals_.get(), &news, sizeof news) > 0) {
    }
    if (std::erase_if(known_, has_been_reaped) > 0) adopt();
    // What a living place has left running is not killed, but is a child of this process already.
    for (const auto pid : children()) {
        if (!known_.contains(pid) && !is_member_(pid)) (void)has_been_reaped(pid);
    }
}

}  // namespace places::launcher
