// SPDX-License-Identifier: Apache-2.0
// Makes one system call fail while a runtime, a place and a node start: each function of a list, in
// each role, its first calls one after the other, with several errors. Whatever fails, the program
// gets one error that names what failed and why, or none; a second attempt works; nothing hangs,
// ends by a signal, or is left.
// The short form (PLACES_SWEEP_IS_SHORT) gives each call one of the errors.
// Says nothing of two failures at once, of a failure that lasts, or of calls within libc.
#include "tests/support/scratch.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <span>
#include <sstream>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;

// Both are for what hangs. A node has five seconds to end.
constexpr std::chrono::seconds run_limit{20};
constexpr std::chrono::seconds end_limit{10};

constexpr std::array roles{"root",        "reaper",     "nursery",        "place",
                           "bridge",      "node-root",  "node-reaper",    "node-nursery",
                           "node-bridge", "node-place", "remote-launcher"};
constexpr std::array functions{"socketpair",     "socket",        "bind",
                               "listen",         "accept",        "connect",
                               "setsockopt",     "getsockname",   "sendmsg",
                               "recvmsg",        "pipe2",         "dup2",
                               "fcntl",          "ioctl",         "open",
                               "readlink",       "memfd_create",  "ftruncate",
                               "fallocate",      "pwrite",        "mmap",
                               "madvise",        "epoll_create1", "epoll_ctl",
                               "epoll_wait",     "eventfd",       "signalfd",
                               "timerfd_create", "poll",          "sigaction",
                               "sigprocmask",    "waitid",        "waitpid",
                               "setsid",         "getrandom",     "pthread_create",
                               "posix_spawnp",   "fork",          "pidfd_open",
                               "close_range",    "futex_waitv",   "pidfd_send_signal"};
constexpr std::array errors{ENOMEM, EMFILE, EAGAIN, ENOSYS};

struct fault {
    const char* role;
    const char* function;
    int n;
    int error;
};

void PrintTo(const fault& f, std::ostream* out) {
    *out << f.role << ": call " << f.n << " of " << f.function << ": " << std::strerror(f.error);
}

/// Of a socket that does not block: the kernel says so only where there is nothing to take, or no
/// port to connect from, for which asio has an error of its own.
bool has_another_meaning(const fault& f) {
    const std::string_view function = f.function;
    return f.error == EAGAIN &&
           (function == "accept" || function == "connect" || function == "recvmsg");
}

class output_file {
  public:
    output_file() : fd_(::memfd_create("output", MFD_CLOEXEC)) {
        if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "memfd_create");
    }
    ~output_file() { ::close(fd_); }
    output_file(const output_file&) = delete;
    output_file& operator=(const output_file&) = delete;
    int get() const noexcept { return fd_; }
    std::string text() const {
        std::string all(static_cast<std::size_t>(::lseek(fd_, 0, SEEK_END)), '\0');
        const auto got = ::pread(fd_, all.data(), all.size(), 0);
        all.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
        return all;
    }

  private:
    int fd_;
};

std::vector<int> children_of(const std::string& pid) {
    std::vector<int> all;
    std::error_code none;
    for (const auto& task : std::filesystem::directory_iterator("/proc/" + pid + "/task", none)) {
        std::ifstream list(task.path() / "children");
        for (int each = 0; list >> each;) all.push_back(each);
    }
    return all;
}

/// What a process and its descendants are, for an error's text; ends them.
std::string end_descendants() {
    std::string names;
    // What is ended leaves its children to us: until there are none.
    for (auto left = children_of("self"); !left.empty(); left = children_of("self")) {
        for (const int pid : left) {
            std::ifstream comm("/proc/" + std::to_string(pid) + "/comm");
            std::string name;
            std::getline(comm, name);
            names += " " + name + "(" + std::to_string(pid) + ")";
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, 0);
        }
    }
    return names;
}

struct outcome {
    bool has_struck = false;
    std::vector<std::string> findings{};
    std::vector<std::string> failures{};  // as the victim's user has seen them
    std::string printed{};                // on standard error
};

std::vector<std::string> lines_with(const std::string& text, const std::string& beginning) {
    std::vector<std::string> found;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
        if (line.compare(0, beginning.size(), beginning) == 0) found.push_back(line);
    }
    return found;
}

/// Whether a process of this role may end, which its peers see as its end, or as that of its node;
/// what it prints says why. So does the error itself, of any process of a node that was ready.
bool may_end(std::string_view role, const std::string& error) {
    return role.ends_with("place") || role.ends_with("bridge") || role == "node-root" ||
           error.find("and what it printed says why") != error.npos;
}

/// Of an error that is to name what failed and the kernel's word for why.
std::string judge_text(const std::string& line, const fault& f, const std::string& printed) {
    const std::string why = std::strerror(f.error);
    const auto text = line.substr(std::min(line.find(": "), line.size() - 2) + 2);
    const bool is_printed = printed.find(": " + why) != printed.npos;
    if (text.find(why) == text.npos) {
        if (is_printed && may_end(f.role, text)) return {};
        return "the error does not say \"" + why + "\"";
    }
    if (text.find(why) < 4) return "the error names no call";
    if (text.find("its main has to make") != text.npos) return "the error blames main";
    return {};
}

class start_sweep : public ::testing::TestWithParam<const char*> {
  protected:
    static void SetUpTestSuite() {
        ::prctl(PR_SET_CHILD_SUBREAPER, 1);
        sigset_t child;
        ::sigemptyset(&child);
        ::sigaddset(&child, SIGCHLD);
        ::sigprocmask(SIG_BLOCK, &child, nullptr);
    }

    outcome run(const fault& f);
    /// Returns: whether the call was made, and so has failed.
    bool run_and_report(const fault& f);
    void sweep(int calls_max, std::span<const int> tried);
};

outcome start_sweep::run(const fault& f) {
    outcome result;
    const scratch_folder scratch;
    const auto struck = scratch.path() + "/struck";
    std::ostringstream setting;
    setting << "PLACES_FAIL=start_victim " << f.role << ' ' << f.function << ' ' << f.n << ' '
            << f.error << ' ' << struck;
    const std::string fail = setting.str();
    const std::string preload = "LD_PRELOAD=" FAILING_CALLS;
    const std::string folder = "TMPDIR=" + scratch.path();
    const bool by_ssh = std::string_view(f.role) == "remote-launcher";
    const output_file out;
    const output_file err;

    const int pid = ::fork();
    if (pid == 0) {
        sigset_t none;
        ::sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        ::dup2(out.get(), STDOUT_FILENO);
        ::dup2(err.get(), STDERR_FILENO);
        const char* const argv[] = {START_VICTIM, by_ssh ? "sh " FAKE_SSH : nullptr, nullptr};
        std::vector<const char*> environment;
        for (char** each = environ; *each; ++each) environment.push_back(*each);
        environment.insert(environment.end(),
                           {fail.c_str(), preload.c_str(), folder.c_str(), nullptr});
        ::execve(START_VICTIM, const_cast<char**>(argv), const_cast<char**>(environment.data()));
        ::_exit(127);
    }
    if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");

    const auto find = [&](const std::string& what) { result.findings.push_back(what); };
    const int life = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
    pollfd ends{life, POLLIN, 0};
    const bool has_ended = ::poll(&ends, 1, std::chrono::milliseconds(run_limit).count()) == 1;
    ::close(life);
    int status = 0;
    if (has_ended) {
        ::waitpid(pid, &status, 0);
        // What it has started ends without being told, as ours.
        sigset_t child;
        ::sigemptyset(&child);
        ::sigaddset(&child, SIGCHLD);
        const auto until = clock_type::now() + end_limit;
        int got = 0;
        while ((got = ::waitpid(-1, nullptr, WNOHANG)) >= 0 && clock_type::now() < until) {
            if (got > 0) continue;
            const timespec second{1, 0};
            (void)::sigtimedwait(&child, nullptr, &second);
        }
        if (got >= 0) find("processes are left:" + end_descendants());
        if (WIFSIGNALED(status)) find(std::string("ended by ") + ::strsignal(WTERMSIG(status)));
    } else {
        find("hangs:" + end_descendants());
    }

    const auto said = out.text();
    const auto complained = err.text();
    if (complained.find("terminate called") != std::string::npos) find("std::terminate");
    auto failures = lines_with(said, "error ");
    const auto again = lines_with(said, "again ");
    const auto left = lines_with(said, "left ");
    if (!left.empty()) find("processes are left to the caller");
    if (!again.empty()) find("a second attempt fails too");
    if (failures.size() > 1) find("more than one error");
    for (const auto& each : failures) {
        if (const auto why = judge_text(each, f, complained); !why.empty()) find(why);
    }
    result.failures = failures;
    result.printed = complained;
    result.has_struck = ::access(struck.c_str(), F_OK) == 0;
    ::unlink(struck.c_str());
    if (!std::filesystem::is_empty(scratch.path())) find("files are left");
    if (has_ended && WIFEXITED(status)) {
        const int code = WEXITSTATUS(status);
        if (code != 0 && failures.empty()) find("ends with " + std::to_string(code));
        if (code != 0 && !result.has_struck) find("fails by itself");
    }
    if (!result.findings.empty()) {
        find("it printed: " + said);
        find("and: " + complained);
        find("again: env '" + fail + "' " + preload + " " START_VICTIM +
             (by_ssh ? " 'sh " FAKE_SSH "'" : ""));
    }
    return result;
}

bool start_sweep::run_and_report(const fault& f) {
    const auto got = run(f);
    std::string text;
    for (const auto& each : got.findings) text += "\n  " + each;
    if (!got.findings.empty()) ADD_FAILURE() << ::testing::PrintToString(f) << text;
    return got.has_struck;
}

void start_sweep::sweep(int calls_max, std::span<const int> tried) {
    int runs = 0;
    for (std::size_t i = 0; i < functions.size(); ++i) {
        bool is_over = false;
        for (int n = 1; n <= calls_max && !is_over; ++n) {
            // One error for each, or all of them.
            for (std::size_t k = 0; k < tried.size() && !is_over; ++k) {
                if (PLACES_SWEEP_IS_SHORT && k != (i + static_cast<std::size_t>(n)) % tried.size())
                    continue;
                const fault f{GetParam(), functions[i], n, tried[k]};
                if (has_another_meaning(f)) continue;
                // Twice: some calls are made by chance, such as that of a retry.
                bool has_struck = run_and_report(f);
                if (!has_struck) has_struck = run_and_report(f);
                is_over = !has_struck;
                if (has_struck) ++runs;
            }
        }
    }
    std::printf("%d calls failed in %s\n", runs, GetParam());
    EXPECT_GT(runs, 0) << "no call has failed: is the object preloaded?";
}

TEST_P(start_sweep, a_call_that_fails_is_one_error_that_names_it_and_leaves_nothing) {
    sweep(PLACES_SWEEP_CALLS, errors);
}

class control_socket : public start_sweep {};

TEST_P(control_socket, that_a_bridge_could_not_read_is_read_again_and_costs_no_link) {
    int runs = 0;
    for (int n = 2; n <= 10; ++n) {
        const fault f{GetParam(), "recvmsg", n, EMFILE};
        const auto got = run(f);
        if (got.printed.find("receive from a control socket") == std::string::npos) continue;
        ++runs;
        EXPECT_EQ(got.findings, std::vector<std::string>{}) << ::testing::PrintToString(f);
        EXPECT_EQ(got.failures, std::vector<std::string>{}) << ::testing::PrintToString(f);
    }
    EXPECT_GT(runs, 0) << "no call has failed: is the object preloaded?";
}

std::string name_of(const ::testing::TestParamInfo<const char*>& of) {
    std::string name = of.param;
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
}

INSTANTIATE_TEST_SUITE_P(bridges, control_socket, ::testing::Values("bridge", "node-bridge"),
                         name_of);

INSTANTIATE_TEST_SUITE_P(roles, start_sweep, ::testing::ValuesIn(roles), name_of);

}  // namespace
