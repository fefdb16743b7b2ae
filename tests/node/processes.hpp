// SPDX-License-Identifier: Apache-2.0
// Processes as /proc and pidfd show them.
#pragma once

#include <places/shm/unique_fd.hpp>

#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <poll.h>
#include <string>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>
#include <vector>

inline constexpr int watchdog_ms = 60'000;

inline places::unique_fd watch(pid_t pid) {
    return places::unique_fd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
}

/// Whether the process has ended, or does before the watchdog barks.
inline bool ends(const places::unique_fd& pidfd) {
    if (!pidfd) return true;
    pollfd life{pidfd.get(), POLLIN, 0};
    return ::poll(&life, 1, watchdog_ms) == 1;
}

struct process_facts {
    std::string name;
    char state = '?';  ///< of its main thread: R running, S asleep, T stopped
    pid_t parent = 0;
};
inline process_facts facts_of(pid_t pid) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(in, text);  // nothing when it ends meanwhile
    const auto open = text.find('(');
    const auto close = text.rfind(')');
    if (open == text.npos || close == text.npos) return {};
    process_facts facts{text.substr(open + 1, close - open - 1), text[close + 2], 0};
    const char* parent = text.data() + close + 4;
    std::from_chars(parent, text.data() + text.size(), facts.parent);
    return facts;
}

inline std::vector<pid_t> children_of(pid_t parent) {
    std::vector<pid_t> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const auto text = entry.path().filename().string();
        pid_t pid = 0;
        if (std::from_chars(text.data(), text.data() + text.size(), pid).ec != std::errc{}) {
            continue;
        }
        if (facts_of(pid).parent == parent) found.push_back(pid);
    }
    return found;
}

/// The process itself comes first.
inline std::vector<pid_t> family_of(pid_t root) {
    std::vector<pid_t> all{root};
    for (std::size_t i = 0; i < all.size(); ++i) {
        for (const pid_t child : children_of(all[i])) all.push_back(child);
    }
    return all;
}

/// The child of that name; 0 when there is none.
inline pid_t child_of(pid_t parent, const std::string& name) {
    for (const pid_t child : children_of(parent)) {
        if (facts_of(child).name == name) return child;
    }
    return 0;
}

/// The nursery of the node whose root is `root`; 0 when there is none.
inline pid_t nursery_of(pid_t root) {
    const pid_t reaper = child_of(root, "places-reaper");
    return reaper == 0 ? 0 : child_of(reaper, "places-nursery");
}

/// The bridge of the node whose root is `root`; 0 when there is none.
inline pid_t bridge_of(pid_t root) {
    const pid_t nursery = nursery_of(root);
    return nursery == 0 ? 0 : child_of(nursery, "places-bridge");
}

inline std::size_t descriptors_of(pid_t pid) {
    const std::filesystem::directory_iterator each("/proc/" + std::to_string(pid) + "/fd");
    return static_cast<std::size_t>(std::distance(begin(each), end(each)));
}

inline std::size_t mappings_of(pid_t pid) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/maps");
    std::size_t count = 0;
    for (std::string line; std::getline(in, line);) ++count;
    return count;
}

inline long long ms_since(std::chrono::steady_clock::time_point start) {
    using namespace std::chrono;
    return duration_cast<milliseconds>(steady_clock::now() - start).count();
}

/// Whether the text is anywhere in the memory that a process may write. Nothing: it may not be
/// read.
inline std::optional<bool> holds(pid_t pid, const std::string& text) {
    const auto folder = "/proc/" + std::to_string(pid);
    std::ifstream maps(folder + "/maps");
    const places::unique_fd memory{::open((folder + "/mem").c_str(), O_RDONLY | O_CLOEXEC)};
    if (!memory) return std::nullopt;
    for (std::string line; std::getline(maps, line);) {
        unsigned long begin = 0;
        unsigned long end = 0;
        std::array<char, 5> rights{};
        if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, rights.data()) != 3) continue;
        // What is larger is a sanitizer's map of all there could be.
        if (rights[1] != 'w' || end - begin > (1UL << 30)) continue;
        std::string octets(end - begin, '\0');
        const auto got =
            ::pread(memory.get(), octets.data(), octets.size(), static_cast<off_t>(begin));
        if (got > 0 && octets.substr(0, static_cast<std::size_t>(got)).find(text) != text.npos) {
            return true;
        }
    }
    return false;
}
