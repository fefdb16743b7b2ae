// SPDX-License-Identifier: Apache-2.0
// One authenticated connection that carries frames, with or without TLS.
#pragma once

#include "net/frame.hpp"
#include "net/handshake.hpp"
#include "net/stream.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/system/error_code.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace places::net {

/// Owns the stream, what waits to be written, and the read buffer. Between start() and the end it
/// keeps itself alive. Knows frames, not channels: credit, turns between channels and heartbeats
/// are its owner's.
/// Thread:  the one that runs the socket's io_context calls everything here, and is called by it.
/// Dying:   the other side's death is on_closed, with what the kernel said. Frames queued here are
///          lost, so whoever owns their content keeps it until the peer has acknowledged it.
class link : public std::enable_shared_from_this<link> {
  public:
    struct handlers {
        /// Each frame in order, never one of the handshake's. A data frame's records are valid
        /// during the call only. May call everything here; what it throws ends the link.
        std::function<void(frame&&)> on_frame;
        /// What was being written has gone to the kernel, and there may be room for more. May call
        /// everything here; what it throws ends the link.
        std::function<void()> on_written{};
        /// Once, last of all, never from inside another call. The code is empty after close() and
        /// a completed finish(), and asio::error::eof where the other side has hung up, over TLS
        /// only if it has said so; `why` is one line for the log and names the peer. Must not
        /// throw.
        std::function<void(boost::system::error_code, std::string why)> on_closed;
    };

    /// Takes a connection whose handshake is over. Make it with std::make_shared.
    link(net::stream connection, peer_info peer);
    link(const link&) = delete;
    link& operator=(const link&) = delete;
    /// Before start(): drops the connection. A link whose io_context dies calls nothing any more.
    ~link() = default;

    /// Starts reading, and writing what was queued before. Once.
    void start(handlers h);

    /// Queues `f`. Frames other than data go ahead of all queued data, in order among themselves.
    /// Shape:   any frame; a data frame's records are copied.
    /// Blocks:  never.  After finish() or the end: does nothing.
    /// Throws:  as encode().
    void send(const frame& f);

    /// Queues a data frame of up to records_bytes_max bytes of records, and owns these.
    /// Blocks:  never.  After finish() or the end: does nothing.
    /// Throws:  places::error{too_large}, std::bad_alloc; nothing is queued then.
    void send_data(std::uint64_t channel, std::uint64_t position, std::vector<std::byte> records);

    /// Bytes queued and not yet taken by the kernel. There is no bound here: the owner stops
    /// draining rings above its own.
    std::size_t queued_bytes() const noexcept { return queued_bytes_; }

    /// Ends the connection now; unwritten frames are lost. Idempotent: the first reason counts.
    void close(std::string reason);

    /// Sends what is queued, nothing more, and ends when the other side has hung up in answer. It
    /// may never do so: the owner bounds that by a close().
    void finish(std::string reason);

    bool is_open() const noexcept { return !closed_; }
    const peer_info& peer() const noexcept { return peer_; }

  private:
    struct data_item {
        data_prefix prefix;
        std::vector<std::byte> records;
        std::size_t bytes() const noexcept;
    };
    using control_queue_type = std::deque<std::vector<std::byte>>;
    using data_queue_type = std::deque<data_item>;

    void write_soon();
    void write_more();
    void on_written(boost::system::error_code ec, std::size_t bytes);
    void read_more();
    void on_read(boost::system::error_code ec, std::size_t bytes);
    void on_error(const char* where, boost::system::error_code ec);
    void end(boost::system::error_code ec, const std::string& why);
    void report_end();

    net::stream stream_;
    const peer_info peer_;
    handlers handlers_;
    bool started_ = false;
    bool finishing_ = false;
    std::string finish_reason_;
    bool closed_ = false;
    boost::system::error_code end_code_;
    std::string end_text_;

    // What waits, and what the one write under way is made of; buffers_ points into the latter.
    control_queue_type control_queue_;
    data_queue_type data_queue_;
    bool writing_ = false;  // or about to
    std::vector<std::vector<std::byte>> control_writing_;
    std::vector<data_item> data_writing_;
    std::vector<boost::asio::const_buffer> buffers_;
    std::size_t queued_bytes_ = 0;

    // [0, unread_bytes_) is the beginning of a frame whose rest has not come yet.
    std::unique_ptr<std::byte[]> read_buffer_;
    std::size_t unread_bytes_ = 0;
};

}  // namespace places::net
