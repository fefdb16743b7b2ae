// SPDX-License-Identifier: Apache-2.0
// with_sshd COMMAND [argument…]: runs it while an sshd is there. Among the arguments, FAR becomes
// an alias of that host and CONFIG the SSH configuration that knows it. Exit status: the command's;
// where there can be no sshd 77, or 1 if the environment has CI, with the reason.
#include "tests/support/in_ci.hpp"
#include "tests/support/sshd.hpp"

#include <cstdio>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    if (const auto why = test_sshd::why_not(); !why.empty()) {
        std::fprintf(stderr, "%s%s\n", is_in_ci() ? not_left_out : "skipped: ", why.c_str());
        return is_in_ci() ? 1 : 77;
    }
    const test_sshd far;
    std::vector<std::string> words(argv + 1, argv + argc);
    std::vector<char*> pointers;
    for (auto& each : words) {
        if (each == "FAR") each = "far";
        if (each == "CONFIG") each = far.config();
        pointers.push_back(each.data());
    }
    pointers.push_back(nullptr);
    pid_t pid = 0;
    int status = 0;
    if (::posix_spawn(&pid, pointers[0], nullptr, nullptr, pointers.data(), environ) != 0)
        return 127;
    if (::waitpid(pid, &status, 0) != pid) return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
