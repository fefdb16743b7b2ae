// SPDX-License-Identifier: Apache-2.0
#include "bench/process_pair.hpp"

#include <places/shm/unique_fd.hpp>

#include <boost/interprocess/anonymous_shared_memory.hpp>

#include <csignal>
#include <cstdio>
#include <new>
#include <poll.h>
#include <sched.h>
#include <stdexcept>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace places::bench {
namespace {

/// Forks a process that runs `body` and ends with this one.
template <class Body>
pid_t fork_running(Body&& body) {
    std::fflush(nullptr);
    const auto parent = ::getpid();
    const auto pid = static_cast<pid_t>(checked(::fork(), "fork"));
    if (pid > 0) return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(3);
    // Ctrl-C is the parent's to handle.
    std::signal(SIGINT, SIG_IGN);
    try {
        body();
    } catch (const std::exception& e) {
        std::fprintf(stderr, "places-bench: %s\n", e.what());
        ::_exit(1);
    }
    ::_exit(0);
}

}  // namespace

void pin_to(int core) noexcept {
    if (core < 0) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(core), &set);
    (void)::sched_setaffinity(0, sizeof set, &set);
}

void pin_to_first(int count) noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (count == 0 || ::sched_getaffinity(0, sizeof set, &set) != 0) return;
    for (unsigned core = 0; core < CPU_SETSIZE; ++core) {
        if (CPU_ISSET(core, &set) && count-- <= 0) CPU_CLR(core, &set);
    }
    (void)::sched_setaffinity(0, sizeof set, &set);
}

pinned::pinned(int core) noexcept {
    CPU_ZERO(&before_);
    (void)::sched_getaffinity(0, sizeof before_, &before_);
    pin_to(core);
}

pinned::~pinned() { (void)::sched_setaffinity(0, sizeof before_, &before_); }

process_pair::process_pair(std::function<slice_body()> near, std::vector<std::function<void()>> far)
    : page_(boost::interprocess::anonymous_shared_memory(sizeof(report))) {
    auto* found = new (page_.get_address()) report{};
    int sockets[2];
    checked(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), "socketpair");
    control_ = sockets[0];
    try {
        for (auto& body : far) {
            far_.push_back(fork_running([&] {
                // The near process sees the end of this one's parent by end of stream.
                ::close(sockets[0]);
                ::close(sockets[1]);
                body();
            }));
        }
        near_ = fork_running([&] {
            ::close(sockets[0]);
            const auto measure = near();
            char order = 0;
            while (::write(sockets[1], &order, 1) == 1 && ::read(sockets[1], &order, 1) == 1) {
                found->per_second = 0;
                found->times.clear();
                measure(*found);
            }
        });
        ::close(sockets[1]);
        await_answer(20'000);
    } catch (...) {
        end();
        throw;
    }
    signal_far(SIGSTOP);
}

process_pair::~process_pair() { end(); }

void process_pair::end() noexcept {
    if (near_ > 0) far_.push_back(near_);
    for (const auto pid : far_) ::kill(pid, SIGKILL);
    for (const auto pid : far_) ::waitpid(pid, nullptr, 0);
    far_.clear();
    near_ = -1;
    ::close(control_);
}

void process_pair::signal_far(int signal) noexcept {
    for (const auto pid : far_) ::kill(pid, signal);
}

const report& process_pair::run() {
    signal_far(SIGCONT);
    const char order = 1;
    checked(::send(control_, &order, 1, MSG_NOSIGNAL), "order a slice");
    await_answer(60'000);
    signal_far(SIGSTOP);
    return *static_cast<const report*>(page_.get_address());
}

void process_pair::await_answer(int timeout_ms) {
    pollfd fd{control_, POLLIN, 0};
    const auto ready = ::poll(&fd, 1, timeout_ms);
    char answer;
    if (ready == 0) throw std::runtime_error("a measuring process does not answer");
    if (ready < 0 || ::read(control_, &answer, 1) != 1) {
        throw std::runtime_error("a measuring process has ended");
    }
}

}  // namespace places::bench
