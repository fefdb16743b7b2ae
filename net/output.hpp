// SPDX-License-Identifier: Apache-2.0
// What processes print, line by line: read from their pipes, printed here or sent over a link.
#pragma once

#include "net/line_reader.hpp"

#include <places/shm/unique_fd.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unistd.h>
#include <unordered_map>

namespace places::net {

class link;

/// Prints lines to a descriptor whose reader may have stopped to read, as the far end of a cut
/// cable has. A line that does not fit waits here, and when too many do, more are counted instead
/// until all is out, and then a line of its own says how many.
/// Thread: the one that runs the io_context.
/// Dying:  what waits here is lost.
class line_printer {
  public:
    /// The descriptor may be anybody's as well: its flags are left alone.
    explicit line_printer(boost::asio::io_context& io, int to = STDERR_FILENO);
    line_printer(const line_printer&) = delete;
    line_printer& operator=(const line_printer&) = delete;

    /// Writes `[label] line`, printable, after all that waits; up to PIPE_BUF as one unit, but to a
    /// terminal of another user. Blocks: 100 ms at most, and then no more until all is out.
    void print(std::string_view label, std::string_view line) noexcept;
    /// The last call. Blocks: until all is out, or nothing was taken for 100 ms.
    void finish() noexcept;

  private:
    void add(std::string text);
    ssize_t write_some(std::string_view text) const noexcept;
    bool write_on() noexcept;
    bool wait_and_write_on() noexcept;
    void retry_later();

    const int to_;
    enum class way { plain, own, socket, polled } way_;
    std::size_t polled_room_ = 0;      // of one without those
    unique_fd own_;                    // the same pipe or terminal, with flags of ours
    std::deque<std::string> waiting_;  // lines, the first of them perhaps begun
    std::size_t waiting_bytes_ = 0;
    std::uint64_t lost_ = 0;  // lines since it was full
    bool is_stuck_ = false;   // waiting_ is for retry_ to write
    boost::asio::steady_timer retry_;
    std::chrono::milliseconds retry_after_{};
};

/// Reads one pipe to its end and hands out its lines, without line feeds; the last one also when
/// it has none. Keeps itself alive until then.
/// Thread: the one that runs the io_context.
class output : public std::enable_shared_from_this<output> {
  public:
    struct handlers {
        std::function<void(std::string_view line)> on_line;
        std::function<void()> on_end;  ///< once, last
        /// Asked before each read; after a no nothing is read until resume(), and whoever prints
        /// waits for room in the pipe. Empty: always yes.
        std::function<bool()> may_read{};
    };
    /// Throws: boost::system::system_error for a descriptor that cannot be waited for.
    static std::shared_ptr<output> follow(boost::asio::io_context& io, unique_fd pipe, handlers h);
    /// Goes on after a no, if it may. The caller keeps a paused one alive.
    void resume();

  private:
    output(boost::asio::io_context& io, handlers h);
    void read_more();

    boost::asio::posix::stream_descriptor pipe_;
    handlers handlers_;
    std::array<char, 4096> buffer_;
    line_reader lines_;
    bool paused_ = false;
};

/// Owns the outputs of the places that other nodes have started here. Each line goes over the link
/// of whoever started the place, and to our standard error once that has ended.
/// Thread: the one that runs the io_context.
/// Dying:  an output ends with all processes that hold its pipe, not with the link: nobody who
///         prints is stopped by that.
class forwarded_outputs {
  public:
    /// `on_drained`: the last of them has ended; there may be more later.
    forwarded_outputs(boost::asio::io_context& io, line_printer& lines,
                      std::function<void()> on_drained);
    /// `stream`: 1 for the place's standard output, 2 for its standard error.
    /// Throws: as output::follow.
    void follow(std::shared_ptr<link> to, unique_fd pipe, std::string place, std::uint8_t stream);
    /// A link may have room again, or has ended.
    void resume();
    bool is_drained() const noexcept { return outputs_.empty(); }

  private:
    boost::asio::io_context& io_;
    line_printer& lines_;
    std::function<void()> on_drained_;
    std::uint64_t next_id_ = 1;
    std::unordered_map<std::uint64_t, std::shared_ptr<output>> outputs_;
};

/// Writes `[label] line`, printable, to our standard error as one unit. Blocks: as write(), so not
/// for a bridge.
void print_line(std::string_view label, std::string_view line) noexcept;

}  // namespace places::net
