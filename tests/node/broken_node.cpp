// SPDX-License-Identifier: Apache-2.0
// Linked into tests whose nodes, or remote launchers of such, say or do in the beginning what the
// variable BROKEN_NODE tells: most are no nodes then.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unistd.h>

namespace {

/// In a node, before it is one: answers what a broken one might.
__attribute__((constructor)) void fail_as_told(int argc, char** argv) {
    const char* line = std::getenv("BROKEN_NODE");
    if (argc == 2 && std::strncmp(argv[1], "--places-", 9) == 0 && line &&
        std::strcmp(line, "unfinished") == 0) {
        std::printf("no line feed");
        std::fflush(stdout);
        return;
    }
    if (argc != 2 || std::strcmp(argv[1], "--places-node") != 0 || !line) return;
    if (std::strcmp(line, "chatty") == 0) {
        // Less than a pipe takes, and then nothing until somebody has it go on.
        for (int i = 0; i < 50; ++i) std::puts(("chatty words" + std::string(1000, '.')).c_str());
        std::fflush(stdout);
        (void)std::raise(SIGSTOP);
        return;
    }
    while (std::strcmp(line, "silent") == 0) ::pause();
    if (std::strcmp(line, "flood") == 0) {
        // As much as a pipe takes, when its standard output ends: there is always more to read.
        std::string words;
        while (words.size() < 60'000) words += "a flood of words" + std::string(1000, '.') + "\n";
        while (::write(STDERR_FILENO, words.data(), words.size()) > 0) ::close(STDOUT_FILENO);
    }
    if (std::strcmp(line, "long line") == 0) {
        const std::string words(100'000, 'x');
        for (std::size_t at = 0; at < words.size();) {
            const auto taken = ::write(STDOUT_FILENO, words.data() + at, words.size() - at);
            if (taken < 0) break;
            at += static_cast<std::size_t>(taken);
        }
        ::_exit(1);
    }
    if (std::strcmp(line, "endless") == 0) {
        const auto words = "endless words" + std::string(1000, '.') + "\n";
        while (::write(STDOUT_FILENO, words.data(), words.size()) > 0) {
        }
    }
    const bool is_whole = std::strncmp(line, "places-node-", 12) == 0;
    std::printf("%s%s\n", is_whole ? "" : "places-node-failed ", line);
    std::fflush(stdout);
    ::_exit(1);
}

}  // namespace
