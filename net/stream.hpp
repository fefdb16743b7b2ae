// SPDX-License-Identifier: Apache-2.0
// The bytes of a connection: a TCP socket, with or without TLS over it.
#pragma once

#include "net/tls.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/system/error_code.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

namespace places::net {

/// A socket that reads no more bytes than it may, whatever is stacked on it; too_large then.
class metered_socket {
  public:
    using executor_type = boost::asio::ip::tcp::socket::executor_type;
    using lowest_layer_type = boost::asio::ip::tcp::socket::lowest_layer_type;

    explicit metered_socket(boost::asio::ip::tcp::socket socket) : socket_(std::move(socket)) {}

    executor_type get_executor() { return socket_.get_executor(); }
    lowest_layer_type& lowest_layer() { return socket_.lowest_layer(); }
    boost::asio::ip::tcp::socket& socket() noexcept { return socket_; }

    /// From now on; none at first.
    void allow(std::size_t bytes) noexcept { allowance_ = bytes; }
    bool has_read() const noexcept { return has_read_; }

    template <class Handler>
    void async_read_some(boost::asio::mutable_buffer into, Handler&& handler);
    template <class Buffers, class Handler>
    void async_write_some(const Buffers& from, Handler&& handler) {
        socket_.async_write_some(from, std::forward<Handler>(handler));
    }

  private:
    boost::asio::ip::tcp::socket socket_;
    std::size_t allowance_ = std::numeric_limits<std::size_t>::max();
    bool has_read_ = false;
};

/// Owns the socket. Meets Asio's AsyncReadStream and AsyncWriteStream, for handlers only; at most
/// one read and one write at a time. Moved only while neither is under way.
/// Thread:  the one that runs the socket's io_context.
class stream {
  public:
    using executor_type = metered_socket::executor_type;

    explicit stream(boost::asio::ip::tcp::socket socket);
    /// Throws: error{start_failed}, boost::system::system_error, if the crypto library fails.
    stream(boost::asio::ip::tcp::socket socket, std::unique_ptr<tls_side> side);

    executor_type get_executor() { return under().get_executor(); }
    bool is_secure() const noexcept { return tls_ != nullptr; }
    const tls_side& side() const noexcept { return *side_; }

    /// Bytes that may still be read from the socket, TLS's own included.
    void allow(std::size_t bytes) noexcept { under().allow(bytes); }
    void allow_all() noexcept { allow(std::numeric_limits<std::size_t>::max()); }
    bool has_read() noexcept { return under().has_read(); }

    /// The TLS handshake; only when secure, once, before all else.
    void async_shake(std::function<void(boost::system::error_code)> done);

    template <class Handler>
    void async_read_some(boost::asio::mutable_buffer into, Handler&& handler);
    /// Over TLS what is written is copied first, a TLS record at a time.
    template <class Buffers, class Handler>
    void async_write_some(const Buffers& from, Handler&& handler);

    /// Tells the other side that nothing comes any more; reading goes on. Only while no write is
    /// under way. `owner` of this stream is kept until that is out. Blocks: never.
    void finish_writing(std::shared_ptr<void> owner);
    /// Cancels what is under way. Blocks: never.
    void close() noexcept;

    boost::asio::ip::tcp::socket& socket() noexcept { return under().socket(); }

  private:
    using tls_type = boost::asio::ssl::stream<metered_socket>;
    metered_socket& under() noexcept { return tls_ ? tls_->next_layer() : *plain_; }

    std::unique_ptr<tls_side> side_;  // before tls_, which refers to it
    std::unique_ptr<metered_socket> plain_;
    std::unique_ptr<tls_type> tls_;
    std::vector<std::byte> record_;  // being written
};

// -- bodies --

template <class Handler>
void metered_socket::async_read_some(boost::asio::mutable_buffer into, Handler&& handler) {
    auto counted = [this, handler = std::forward<Handler>(handler)](boost::system::error_code ec,
                                                                    std::size_t bytes) mutable {
        allowance_ -= bytes;
        has_read_ = has_read_ || bytes > 0;
        handler(ec, bytes);
    };
    if (allowance_ == 0 && into.size() > 0) {
        boost::asio::post(get_executor(), [counted = std::move(counted)]() mutable {
            counted(errc::too_large, 0);
        });
        return;
    }
    socket_.async_read_some(boost::asio::buffer(into, allowance_), std::move(counted));
}

template <class Handler>
void stream::async_read_some(boost::asio::mutable_buffer into, Handler&& handler) {
    if (tls_) return tls_->async_read_some(into, std::forward<Handler>(handler));
    plain_->async_read_some(into, std::forward<Handler>(handler));
}

template <class Buffers, class Handler>
void stream::async_write_some(const Buffers& from, Handler&& handler) {
    if (!tls_) return plain_->async_write_some(from, std::forward<Handler>(handler));
    const auto bytes = boost::asio::buffer_copy(boost::asio::buffer(record_), from);
    tls_->async_write_some(boost::asio::buffer(record_, bytes), std::forward<Handler>(handler));
}

}  // namespace places::net
