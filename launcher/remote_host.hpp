// SPDX-License-Identifier: Apache-2.0
// Another host as a remote launcher sees it, whichever SSH leads there. Not installed.
#pragma once

#include "launcher/stage_deadline.hpp"
#include "net/line_reader.hpp"

#include <places/core/place.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <poll.h>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace places::launcher {

/// A stream to the remote host. Nothing blocks; what fails for good throws error{ssh_lost}.
class far_stream {
  public:
    virtual ~far_stream() = default;
    /// Returns: how much of it was taken; 0: no room now.
    virtual std::size_t write(std::string_view octets) = 0;
    /// Whether there is room that no descriptor will announce, since the last write took nothing:
    /// looking for octets may have taken in the word of it.
    virtual bool has_new_room() { return false; }
    /// No more will be written.
    virtual void end_input() = 0;
    /// The remote host may go on: what there is of it here ends without waiting for that, and with
    /// it whatever it has not yet sent.
    virtual void let_go() {}
    /// `stream`: 1 or, of a command, 2. Returns: octets that are there, perhaps none.
    virtual std::size_t read(int stream, std::span<char> into) = 0;
    /// Whether there is more to read that no descriptor will announce: looking for one stream's
    /// octets may have taken in another's.
    virtual bool has_more(int) { return false; }
    /// Whether octets of `stream` are news to wait for; they are until said otherwise, and of a
    /// way on which they come with those of other streams, always.
    virtual void listen_to(int /*stream*/, bool /*is_news*/) {}
    /// Whether nothing will come any more; then it has a status, if it is a command.
    virtual bool has_ended() = 0;
    /// Returns: nothing where the remote host has not told.
    virtual std::optional<exit_status> status() = 0;
};

/// What a host may send where a report of a few KiB is due, with all that its login scripts print.
inline constexpr std::size_t report_bytes_max = 1024 * 1024;

/// How far a copy is.
using progress = std::function<void(std::uint64_t done)>;

/// Runs commands there, each by the user's login shell.
/// Owns the connection. Thread: the only one of the remote launcher.
class remote_host {
  public:
    virtual ~remote_host() = default;
    /// Throws: error, within the clock's stage.
    virtual std::unique_ptr<far_stream> start(const std::string& command) = 0;
    /// A TCP connection from there to an address, as numbers. Throws: error.
    virtual std::unique_ptr<far_stream> connect(const std::string& to, std::uint16_t port) = 0;
    /// Copies a local file, from its start. Returns: whether it is there now, whole or not; no:
    /// this way does not lead there, and why is not known.
    virtual bool put_file(int from, std::uint64_t size, const std::string& path,
                          const progress& on_progress) = 0;
    /// Descriptors whose news may be a stream's news.
    virtual std::vector<pollfd> interests() = 0;
    /// Once such news has come, and before the streams are looked at.
    virtual void look() = 0;
    /// The host's address as we reach it; empty: not known.
    virtual std::string address() const = 0;
    /// What the other side has said besides the commands' output, for an error's text.
    virtual std::string error_output() const = 0;
    /// Throws: error{ssh_lost}: the connection is silent.
    virtual void keep_alive() {}

    stage_deadline& clock() noexcept { return clock_; }
    /// Waits until there may be news. Throws: as clock().wait().
    void wait();

  protected:
    explicit remote_host(stage_deadline& clock) noexcept : clock_(clock) {}

  private:
    stage_deadline& clock_;
};

/// What to do about it, as the end of an error's text; empty: the text itself says so.
std::string_view advice_for(errc code) noexcept;

/// A command's stream, and what has been read of it already.
struct started_stream {
    std::unique_ptr<far_stream> stream;
    std::string out{};
    std::string err{};  ///< with the noise before it
};

/// A command there that is spoken with in lines. What it answers begins with `places-`; whatever
/// else comes, of a login shell's own files, say, is noise, and kept for an error's text.
class far_shell {
  public:
    /// `script`: for a POSIX shell.
    far_shell(remote_host& far, const std::string& script);

    void say(const std::string& line);
    /// The next line that begins with `places-`, without that. Empty: the command has ended.
    /// Throws: error, {protocol} for more than report_bytes_max in all.
    std::string read_line();
    /// What it has printed besides, the last few KiB of it, as one line.
    std::string noise() const;
    /// Speaks no more lines.
    started_stream release();

  private:
    bool take(int stream);

    remote_host& far_;
    std::unique_ptr<far_stream> stream_;
    std::array<net::line_reader, 2> lines_{};  // of standard output and standard error
    std::string noise_;
    std::size_t received_bytes_ = 0;
};

/// `script` as a command for any login shell.
std::string far_command(const std::string& script);

}  // namespace places::launcher
