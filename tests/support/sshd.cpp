// SPDX-License-Identifier: Apache-2.0
#include "tests/support/sshd.hpp"

#include "tests/node/processes.hpp"
#include "tests/support/content_of.hpp"
#include "tests/support/line_from.hpp"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <netinet/in.h>
#include <pwd.h>
#include <spawn.h>
#include <stdexcept>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

constexpr const char* sshd_path = "/usr/sbin/sshd";
constexpr int start_tries = 10;  // another program may take the port meanwhile

std::string user_name() {
    const auto* entry = ::getpwuid(::getuid());
    return entry ? entry->pw_name : "root";
}

std::uint16_t unused_port(const std::string& address) {
    const places::unique_fd s{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in where{};
    where.sin_family = AF_INET;
    ::inet_pton(AF_INET, address.c_str(), &where.sin_addr);
    socklen_t size = sizeof where;
    ::bind(s.get(), reinterpret_cast<sockaddr*>(&where), size);
    ::getsockname(s.get(), reinterpret_cast<sockaddr*>(&where), &size);
    return ntohs(where.sin_port);
}

}  // namespace

std::string test_sshd::why_not() {
    if (::access(sshd_path, X_OK) != 0) {
        return std::string("no sshd at ") + sshd_path + ": install openssh-server";
    }
    // Where root runs it, it gives up rights in this folder, which the init script makes.
    constexpr const char* privsep = "/run/sshd";
    if (::getuid() == 0 && ::access(privsep, F_OK) != 0 && ::mkdir(privsep, 0755) != 0) {
        return std::string("sshd needs ") + privsep + ": " + std::strerror(errno);
    }
    return {};
}

test_sshd::test_sshd(const options& o) : options_(o) {
    const char* run_marker = std::getenv("PLACES_RUN");
    // An inner run of the one that is judged, if there is one.
    marker_ = (run_marker ? std::string(run_marker) + "/" : std::string()) + "sshd." +
              std::to_string(::getpid()) + folder().substr(folder().rfind('.'));
    try {
        std::filesystem::create_directory(home());
        std::filesystem::create_directory(bin());
        run({"ssh-keygen", "-q", "-t", o.host_key_type, "-N", "", "-f", folder() + "/host"});
        run({"ssh-keygen", "-q", "-t", o.user_key_type, "-N", "", "-f", user_key()});
        std::string problem;
        for (int i = 0; i < start_tries; ++i) {
            problem = try_start();
            if (problem.empty()) break;
        }
        if (!problem.empty()) throw std::runtime_error("sshd does not start: " + problem);
        remember_host();
    } catch (...) {
        end();
        throw;
    }
}

test_sshd::~test_sshd() { end(); }

std::string test_sshd::host() const {
    return user_name() + "@" + options_.address + ":" + std::to_string(port_);
}

/// Whether this sshd takes such a line: of one that it does not know it refuses to start.
bool test_sshd::knows(const std::string& line) const {
    const auto file = folder() + "/sshd_line";
    write_file(file, "HostKey " + folder() + "/host\n" + line + "\n");
    try {
        run({"sh", "-c", std::string(sshd_path) + " -t -f '" + file + "' 2>&-"});
        return true;
    } catch (const std::runtime_error&) {
        return false;
    }
}

std::string test_sshd::try_start() {
    port_ = unused_port(options_.address);
    std::string text;
    for (const auto& each : options_.lines) text += each + "\n";
    text += "Port " + std::to_string(port_) + "\nListenAddress " + options_.address + "\nHostKey " +
            folder() + "/host\nAuthorizedKeysFile " + user_key() + ".pub\n" +
            "UsePAM no\nStrictModes no\nPidFile none\nPermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\n"
            "MaxStartups 200\nMaxSessions 100\n"
            "SetEnv HOME=" +
            home() + " PLACES_RUN=" + marker_ + " PATH=" + bin() +
            ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n";
    if (knows("PerSourcePenalties no")) text += "PerSourcePenalties no\n";
    if (options_.has_sftp) text += "Subsystem sftp internal-sftp\n";
    write_file(folder() + "/sshd_config", text);

    std::array<int, 2> ends;
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return "no pipe";
    places::unique_fd reader{ends[0]};
    places::unique_fd writer{ends[1]};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, writer.get(), 2);
    // It must not outlive a test that crashes.
    std::vector<std::string> words{"setpriv", "--pdeathsig", "KILL", sshd_path,
                                   "-D",      "-e",          "-f",   folder() + "/sshd_config"};
    std::vector<char*> argv;
    for (auto& each : words) argv.push_back(each.data());
    argv.push_back(nullptr);
    const int failed = ::posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (failed) return std::strerror(failed);
    writer.reset();
    std::string said;
    while (true) {
        const auto line = line_from(reader.get());
        if (line.find("Server listening") != line.npos) break;
        if (line.empty()) {
            ::waitpid(pid_, nullptr, 0);
            pid_ = 0;
            return said;
        }
        said += line + "; ";
    }
    // Its log goes on into the pipe; a full one must not stop it.
    ::fcntl(reader.get(), F_SETPIPE_SZ, 1024 * 1024);
    log_ = std::move(reader);
    return {};
}

void test_sshd::remember_host() const {
    std::ifstream in(folder() + "/host.pub");
    std::string type;
    std::string key;
    in >> type >> key;
    write_file(known_hosts(), "[" + options_.address + "]:" + std::to_string(port_) + " " + type +
                                  " " + key + "\n");
    write_file(config(), "Host far\n    HostName " + options_.address + "\n    Port " +
                             std::to_string(port_) + "\n    User " + user_name() +
                             "\n    IdentityFile " + user_key() +
                             "\n    IdentitiesOnly yes\n    UserKnownHostsFile " + known_hosts() +
                             "\n");
}

void test_sshd::put_program(const std::string& name, const std::string& script) const {
    const auto path = bin() + "/" + name;
    write_file(path, "#!/bin/sh\n" + script + "\n");
    ::chmod(path.c_str(), 0755);
}

std::vector<pid_t> test_sshd::running() const {
    std::vector<pid_t> found;
    const auto mark = "PLACES_RUN=" + marker_ + '\0';
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const auto number = entry.path().filename().string();
        if (number.find_first_not_of("0123456789") != number.npos) continue;
        const auto all = content_of(entry.path() / "environ");
        if (all.find(mark) != all.npos) found.push_back(std::stoi(number));
    }
    return found;
}

bool test_sshd::is_left_alone() const {
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds{watchdog_ms};
    while (true) {
        const auto left = running();
        if (left.empty()) return true;
        if (std::chrono::steady_clock::now() > until) return false;
        // The watchdog's share of it: the next look is at the end of one of them.
        (void)ends(watch(left.front()));
    }
}

std::vector<pid_t> test_sshd::sessions() const { return children_of(pid_); }

void test_sshd::kill_sessions() const {
    for (const pid_t monitor : sessions()) {
        // With a root sshd, one child of the monitor speaks with the network.
        for (const pid_t child : children_of(monitor)) {
            if (facts_of(child).name == "sshd") ::kill(child, SIGKILL);
        }
        ::kill(monitor, SIGKILL);
    }
}

void test_sshd::end() noexcept {
    try {
        if (pid_ > 0) {
            kill_sessions();
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
        // Whatever has been started there, and what that starts meanwhile.
        for (auto left = running(); pid_ > 0 && !left.empty(); left = running()) {
            for (const pid_t each : left) ::kill(each, SIGKILL);
        }
    } catch (const std::exception&) {
        // A process that ended while it was looked at.
    }
}

void test_sshd::run(const std::vector<std::string>& argv) {
    auto words = argv;
    std::vector<char*> pointers;
    for (auto& each : words) pointers.push_back(each.data());
    pointers.push_back(nullptr);
    pid_t pid = 0;
    int status = -1;
    if (::posix_spawnp(&pid, pointers[0], nullptr, nullptr, pointers.data(), environ) != 0 ||
        ::waitpid(pid, &status, 0) != pid || status != 0) {
        throw std::runtime_error(argv[0] + " failed");
    }
}

void test_sshd::write_file(const std::string& path, const std::string& text) {
    std::ofstream out(path, std::ios::binary);
    out << text;
    if (!out.flush()) throw std::runtime_error("write " + path);
}
