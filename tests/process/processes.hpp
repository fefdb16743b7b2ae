// SPDX-License-Identifier: Apache-2.0
// What the tests of real processes look at from outside.
#pragma once

#include "tests/support/error_of.hpp"

#include <places/places.hpp>
#include <places/shm/unique_fd.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <poll.h>
#include <set>
#include <string>
#include <sys/syscall.h>
#include <unistd.h>

/// Throws: std::system_error, when there is no such process any more.
inline places::unique_fd pidfd_of(int pid) {
    return places::checked_fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)), "pidfd_open");
}

/// Blocks: until the process has ended, reaped or not.
inline void await_end(const places::unique_fd& process) {
    pollfd life{process.get(), POLLIN, 0};
    while (::poll(&life, 1, -1) != 1) {
    }
}

inline bool has_ended(const places::unique_fd& process) {
    pollfd life{process.get(), POLLIN, 0};
    return ::poll(&life, 1, 0) == 1;
}

inline std::size_t count_descriptors(int pid) {
    const std::filesystem::directory_iterator each{"/proc/" + std::to_string(pid) + "/fd"};
    return static_cast<std::size_t>(std::distance(begin(each), end(each)));
}

/// The parent of a process; 0 when that has ended.
inline int parent_of(int pid) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(in, text);
    const auto name_end = text.rfind(')');
    return name_end == text.npos ? 0 : std::stoi(text.substr(name_end + 4));
}

/// Those that have ended too, until they are reaped.
inline std::set<int> children_of(int pid) {
    const auto id = std::to_string(pid);
    std::ifstream list("/proc/" + id + "/task/" + id + "/children");
    std::set<int> all;
    for (int each = 0; list >> each;) all.insert(each);
    return all;
}

/// The process that all places of this node are children of.
inline int nursery_pid() {
    auto p = places::spawn([](places::channel& c) { (void)c.put(static_cast<int>(::getppid())); });
    const int pid = p.get<int>().value();
    (void)p.wait();
    return pid;
}

/// Returns once the nursery has done everything it was told before.
inline void await_nursery() {
    try {
        (void)places::connect_to_named_place("nobody has this name");
    } catch (const places::error&) {
    }
}

/// A place that waits for ever, whatever is sent to it.
inline void never_ends() {
    while (true) ::pause();
}
