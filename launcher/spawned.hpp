// SPDX-License-Identifier: Apache-2.0
// A program started with pipes for its standard streams. Not installed.
#pragma once

#include <places/core/place.hpp>
#include <places/shm/unique_fd.hpp>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace places::launcher {

/// Our ends of a new process; it has a process group of its own, as a terminal's signals are for
/// the program that started it.
struct spawned {
    pid_t pid = 0;
    unique_fd pidfd;
    unique_fd in;  ///< its standard input
    unique_fd out;
    unique_fd err;
};

/// Opens /dev/null in place of each standard stream that is closed, so that nothing else gets its
/// number. `access`: as for open().  Throws: std::system_error.
void fill_standard_streams(int access);

/// Starts `argv`, looked up as a shell would; descriptor 0 of the new process is `in`, 1 is `out`
/// where they are given, else pipes; 2 is always one.
/// Throws: std::system_error naming the program.
spawned spawn_program(const std::vector<std::string>& argv, int in = -1, int out = -1);
/// The same for this very program, with one argument. It is the one that runs, whatever lies at
/// its path by now; argv[0] is that path, and the new process gives itself its name.
spawned spawn_self(const char* argument);

/// Of a process that the kernel has reaped, as where SIGCHLD is ignored, or somebody else.
inline const exit_status unknown_status{.signalled = false, .value = -1};
/// How the process ended, and reaps it. Returns: nothing while it runs.
std::optional<exit_status> reap(const spawned& process) noexcept;
std::optional<exit_status> reap(pid_t pid, const unique_fd& pidfd, int wait_ms) noexcept;

/// While it lives, a write of this thread to a pipe without a reader fails with EPIPE alone: the
/// signal would end a program that has done nothing wrong.
class without_sigpipe {
  public:
    without_sigpipe();
    ~without_sigpipe();
    without_sigpipe(const without_sigpipe&) = delete;
    without_sigpipe& operator=(const without_sigpipe&) = delete;

  private:
    sigset_t signal_;
    sigset_t before_;
    bool is_pending_already_ = false;
};

/// Throws: std::system_error, as for a pipe that nobody reads.
void write_all(int fd, const void* from, std::size_t size);
inline constexpr std::chrono::milliseconds no_silence_max{-1};
/// Returns: false at the end of the file, or when nothing has come for `silence_max`.
/// Throws: std::system_error.
bool read_all(int fd, void* into, std::size_t size,
              std::chrono::milliseconds silence_max = no_silence_max);

}  // namespace places::launcher
