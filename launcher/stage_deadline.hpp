// SPDX-License-Identifier: Apache-2.0
// What a remote launcher is at, and until when. Not installed.
#pragma once

#include <places/core/error.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <functional>
#include <poll.h>
#include <span>
#include <string>

namespace places::launcher {

/// The caller of the remote launcher has gone, or wants it no more: no error to report.
struct launch_unwanted {};

/// A deadline that each stage of a start begins anew, and that what moves within a stage puts off.
/// It holds in libraries' blocking calls too (name servers, key agents): there a signal ends the
/// process, once the same failure line is written that an error would become.
/// One at a time. Thread: the only one of the process.
class stage_deadline {
  public:
    /// `life`: a pipe that ends with whoever wants the node; negative: nobody in particular.
    /// Throws: std::system_error.
    stage_deadline(std::chrono::milliseconds limit, int life);
    ~stage_deadline();
    stage_deadline(const stage_deadline&) = delete;
    stage_deadline& operator=(const stage_deadline&) = delete;

    /// `what` completes "while …", and may quote others; `code` is what running out of time is.
    /// `most`: for a stage that has less time than others, unless limit() is more than by default.
    /// Also reports it to the caller, which then grants as much again.
    void begin(errc code, std::string what,
               std::chrono::milliseconds most = std::chrono::milliseconds::max());
    /// The same stage is now at something else, for which it has the rest of its time.
    void go_on(std::string what);
    /// Something has moved: the deadline starts over.
    void moved();
    /// Waits until one of `fds` has news, and says so in them.
    /// Throws: error with the stage's code at the deadline; launch_unwanted.
    void wait(std::span<pollfd> fds);
    /// The same for one of `parts` equal parts of what is left of the stage.
    /// Returns: false: there was no news. Throws: launch_unwanted.
    bool wait_part(std::span<pollfd> fds, std::size_t parts);
    /// Waits so long, or for what is left of the stage where that is less.
    /// Throws: launch_unwanted.
    void pause(std::chrono::milliseconds duration);
    /// What wait() does besides, each time that nothing has come for so long. Empty: nothing.
    void meanwhile(std::chrono::milliseconds interval, std::function<void()> what);
    /// Waits for room in a connection that a packet is half into, at most limit(), whatever is left
    /// of the stage. Once nobody wants the node any more, a second: the goodbye may be that packet.
    /// Returns: false: there is none. Throws: launch_unwanted.
    bool wait_for_room(int fd);
    /// No deadline any more, for what comes now may take for ever.
    void end() noexcept;
    /// Tells nobody of stages any more: standard output is the node's.
    void silence() noexcept { is_silent_ = true; }
    std::chrono::milliseconds limit() const noexcept { return limit_; }

  private:
    std::string too_late() const;
    void say(std::string what);
    bool wait_until(std::span<pollfd> fds, std::chrono::steady_clock::time_point until);
    void arm();

    std::chrono::milliseconds limit_;
    std::chrono::milliseconds stage_limit_ = limit_;  // limit_, or less
    int life_;
    errc code_ = errc::ssh_lost;
    std::string what_;
    std::chrono::steady_clock::time_point until_{};
    std::chrono::steady_clock::time_point reported_{};
    timer_t timer_{};
    std::chrono::milliseconds meanwhile_interval_{};
    std::function<void()> meanwhile_;
    std::array<char, 512> timeout_line_{};  // written by the signal's handler
    std::size_t timeout_line_size_ = 0;
    bool is_silent_ = false;
};

// What a remote launcher says on its standard output, a line each; the rest are the node's.
inline constexpr std::string_view stage_marker = "places-ssh-stage ";
inline constexpr std::string_view start_marker = "places-ssh-start";
inline constexpr std::string_view passphrase_marker = "places-ssh-passphrase ";
inline constexpr std::string_view progress_marker = "places-ssh-progress ";

/// Writes a line to standard output as one unit, after a line feed, as another may be begun there.
void write_line(std::string_view line) noexcept;

}  // namespace places::launcher
