// SPDX-License-Identifier: Apache-2.0
#include "net/link.hpp"

#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/write.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>
#include <exception>
#include <utility>

namespace places::net {
namespace {

constexpr std::size_t read_bytes = 256 * 1024;
constexpr std::size_t write_bytes = 256 * 1024;
constexpr std::size_t write_buffers = 64;  // as many as Asio hands to one sendmsg
constexpr std::size_t data_buffers = 3;    // prefix, records, padding
// Unsent bytes in the kernel that a control frame may have to wait for.
constexpr int unsent_bytes_max = 128 * 1024;
// Room for a whole read behind the longest frame that is still incomplete.
constexpr std::size_t read_buffer_bytes =
    length_prefix_bytes + session_limits.frame_bytes_max + read_bytes;

// A cut that nobody tells of ends the link after these; on loopback nothing can be cut. The kernel
// watches, so an idle link wakes no process of ours.
constexpr int probe_seconds = 1;
constexpr int probe_count = 3;

constexpr std::array<std::byte, 8> zeros{};

// A view of the buffers, since async_write copies what it is given.
struct gathered {
    using value_type = boost::asio::const_buffer;
    using const_iterator = const value_type*;
    const_iterator first;
    const_iterator last;
    const_iterator begin() const noexcept { return first; }
    const_iterator end() const noexcept { return last; }
};

// Asio's own condition would cut a gather write into pieces of 64 KiB.
std::size_t all_at_once(const boost::system::error_code& ec, std::size_t) noexcept {
    return ec ? 0 : write_bytes + 2 * session_limits.frame_bytes_max;
}

void set_option(int socket, int level, int name, int value) noexcept {
    ::setsockopt(socket, level, name, &value, sizeof value);
}

bool is_handshake(const frame& f) noexcept {
    return std::holds_alternative<challenge_frame>(f) || std::holds_alternative<hello_frame>(f) ||
           std::holds_alternative<welcome_frame>(f) || std::holds_alternative<reject_frame>(f);
}

}  // namespace

std::size_t link::data_item::bytes() const noexcept {
    return prefix.bytes.size() + records.size() + prefix.padding_bytes;
}

link::link(net::stream connection, peer_info peer)
    : stream_(std::move(connection)),
      peer_(std::move(peer)) {
    // All only shorten waits; a connection that is dead already shows itself at the first read.
    const int handle = stream_.socket().native_handle();
    set_option(handle, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(handle, IPPROTO_TCP, TCP_NOTSENT_LOWAT, unsent_bytes_max);
    if (!peer_.is_loopback) {
        set_option(handle, IPPROTO_TCP, TCP_KEEPIDLE, probe_seconds);
        set_option(handle, IPPROTO_TCP, TCP_KEEPINTVL, probe_seconds);
        set_option(handle, IPPROTO_TCP, TCP_KEEPCNT, probe_count);
        set_option(handle, IPPROTO_TCP, TCP_USER_TIMEOUT, probe_count * probe_seconds * 1000);
        set_option(handle, SOL_SOCKET, SO_KEEPALIVE, 1);
    }
    read_buffer_ = std::make_unique_for_overwrite<std::byte[]>(read_buffer_bytes);
}

void link::start(handlers h) {
    handlers_ = std::move(h);
    started_ = true;
    if (closed_) {
        report_end();
        return;
    }
    read_more();
    write_soon();
}

void link::send(const frame& f) {
    if (closed_ || finishing_) return;
    if (const auto* data = std::get_if<data_frame>(&f)) {
        return send_data(data->channel, data->position,
                         {data->records.begin(), data->records.end()});
    }
    control_queue_.push_back(encode(f));
    queued_bytes_ += control_queue_.back().size();
    write_soon();
}

void link::send_data(std::uint64_t channel, std::uint64_t position,
                     std::vector<std::byte> records) {
    if (closed_ || finishing_) return;
    const auto prefix = encode_data_prefix(channel, position, records.size());
    data_queue_.push_back({prefix, std::move(records)});
    queued_bytes_ += data_queue_.back().bytes();
    write_soon();
}

void link::close(std::string reason) { end({}, "closed: " + reason); }

void link::finish(std::string reason) {
    if (closed_ || finishing_) return;
    finishing_ = true;
    finish_reason_ = "finished: " + reason;
    write_soon();
}

// -- writing --

// Not at once: whatever else the running handler queues then goes by the same system call.
void link::write_soon() {
    if (!started_ || closed_ || writing_) return;
    writing_ = true;
    boost::asio::post(stream_.get_executor(), [self = shared_from_this()] { self->write_more(); });
}

void link::write_more() {
    writing_ = false;
    if (closed_) return;
    std::size_t bytes = 0;
    std::size_t buffers = 0;
    while (!control_queue_.empty() && buffers < write_buffers && bytes < write_bytes) {
        bytes += control_queue_.front().size();
        buffers += 1;
        control_writing_.push_back(std::move(control_queue_.front()));
        control_queue_.pop_front();
    }
    while (!data_queue_.empty() && buffers + data_buffers <= write_buffers && bytes < write_bytes) {
        bytes += data_queue_.front().bytes();
        buffers += data_buffers;
        data_writing_.push_back(std::move(data_queue_.front()));
        data_queue_.pop_front();
    }
    if (bytes == 0) {
        if (finishing_) stream_.finish_writing(shared_from_this());
        return;
    }
    // Only now, since the items have stopped moving.
    buffers_.clear();
    for (const auto& item : control_writing_) buffers_.push_back(boost::asio::buffer(item));
    for (const auto& item : data_writing_) {
        buffers_.push_back(boost::asio::buffer(item.prefix.bytes));
        buffers_.push_back(boost::asio::buffer(item.records));
        if (item.prefix.padding_bytes > 0)
            buffers_.push_back(boost::asio::buffer(zeros, item.prefix.padding_bytes));
    }
    writing_ = true;
    boost::asio::async_write(
        stream_, gathered{buffers_.data(), buffers_.data() + buffers_.size()}, all_at_once,
        [self = shared_from_this()](boost::system::error_code ec, std::size_t written) {
            self->on_written(ec, written);
        });
}

void link::on_written(boost::system::error_code ec, std::size_t bytes) {
    if (closed_) return;
    if (ec) return on_error("writing", ec);
    writing_ = false;
    queued_bytes_ -= bytes;
    control_writing_.clear();
    data_writing_.clear();
    try {
        if (handlers_.on_written) handlers_.on_written();
    } catch (const std::exception& e) {
        end(errc::bad_argument, std::string{"what follows a write failed: "} + e.what());
    }
    if (!closed_ && !writing_) write_more();
}

// -- reading --

void link::read_more() {
    stream_.async_read_some(
        boost::asio::buffer(read_buffer_.get() + unread_bytes_, read_bytes),
        [self = shared_from_this()](boost::system::error_code ec, std::size_t bytes) {
            self->on_read(ec, bytes);
        });
}

void link::on_read(boost::system::error_code ec, std::size_t bytes) {
    if (closed_) return;
    if (ec) return on_error("reading", ec);
    std::span<const std::byte> unread{read_buffer_.get(), unread_bytes_ + bytes};
    try {
        while (unread.size() >= length_prefix_bytes) {
            const auto length = decode_length(unread.first<length_prefix_bytes>(), session_limits);
            if (!length) return on_error("a frame's length", length.error());
            if (unread.size() - length_prefix_bytes < *length) break;
            auto f = decode(unread.subspan(length_prefix_bytes, *length));
            if (!f) return on_error("a frame", f.error());
            if (is_handshake(*f)) return on_error("a second handshake", errc::protocol);
            unread = unread.subspan(length_prefix_bytes + *length);
            if (handlers_.on_frame) handlers_.on_frame(std::move(*f));
            if (closed_) return;  // by on_frame
        }
    } catch (const std::exception& e) {
        return end(errc::bad_argument, std::string{"a frame could not be handled: "} + e.what());
    }
    unread_bytes_ = unread.size();
    std::memmove(read_buffer_.get(), unread.data(), unread_bytes_);
    read_more();
}

// -- the end --

void link::on_error(const char* where, boost::system::error_code ec) {
    if (ec == boost::asio::error::eof) {
        if (finishing_ && queued_bytes_ == 0) return end({}, finish_reason_);
        // Whoever finishes waits for this answer.
        if (!writing_) stream_.finish_writing(shared_from_this());
        return end(ec, "the other side hung up");
    }
    // Of TLS: it was killed, say, or somebody cut the connection in its place.
    if (ec == boost::asio::ssl::error::stream_truncated)
        return end(ec, "the other side hung up without a word");
    end(ec, std::string{where} + ": " + ec.message());
}

void link::end(boost::system::error_code ec, const std::string& why) {
    if (closed_) return;
    closed_ = true;
    end_code_ = ec;
    end_text_ = "link to '" + printable(peer_.name) + "' at " + peer_.address + ": " + why;
    // From here on the kernel touches none of our buffers: what was under way is cancelled, not
    // run.
    stream_.close();
    if (started_) report_end();
}

void link::report_end() {
    boost::asio::post(stream_.get_executor(), [self = shared_from_this()] {
        control_queue_type{}.swap(self->control_queue_);
        data_queue_type{}.swap(self->data_queue_);
        self->control_writing_.clear();
        self->data_writing_.clear();
        self->queued_bytes_ = 0;
        // The owner's handlers may own this link: they must go, or neither ever does.
        const handlers last = std::exchange(self->handlers_, {});
        if (last.on_closed) last.on_closed(self->end_code_, self->end_text_);
    });
}

}  // namespace places::net
