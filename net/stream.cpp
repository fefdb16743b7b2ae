// SPDX-License-Identifier: Apache-2.0
#include "net/stream.hpp"

// The one place where the bodies of asio::ssl are compiled; those of Asio are in core.
#include <boost/asio/ssl/impl/src.hpp>
#include <openssl/ssl.h>

namespace places::net {
namespace {

constexpr std::size_t tls_record_bytes = 16 * 1024;

}  // namespace

stream::stream(boost::asio::ip::tcp::socket socket)
    : plain_(std::make_unique<metered_socket>(std::move(socket))) {}

stream::stream(boost::asio::ip::tcp::socket socket, std::unique_ptr<tls_side> side)
    : side_(std::move(side)),
      tls_(std::make_unique<tls_type>(std::move(socket), side_->context())),
      record_(tls_record_bytes) {
    side_->attach(tls_->native_handle());
}

void stream::async_shake(std::function<void(boost::system::error_code)> done) {
    tls_->async_handshake(side_->is_dialing() ? boost::asio::ssl::stream_base::client
                                              : boost::asio::ssl::stream_base::server,
                          [done = std::move(done)](boost::system::error_code ec) { done(ec); });
}

void stream::finish_writing(std::shared_ptr<void> owner) {
    if (tls_) {
        // Asio's shutdown also waits for the other side's, and takes data that still comes before
        // it for a breach. Told that this one has come already, it writes ours at once and is done.
        SSL* const raw = tls_->native_handle();
        const int before = SSL_get_shutdown(raw);
        if (before & SSL_SENT_SHUTDOWN) return;
        SSL_set_shutdown(raw, before | SSL_RECEIVED_SHUTDOWN);
        tls_->async_shutdown([owner = std::move(owner)](boost::system::error_code) {});
        SSL_set_shutdown(raw, before | SSL_SENT_SHUTDOWN);
        return;
    }
    boost::system::error_code ignored;  // a dead connection is reported by whoever reads
    socket().shutdown(boost::asio::ip::tcp::socket::shutdown_send, ignored);
}

void stream::close() noexcept {
    boost::system::error_code ignored;
    socket().close(ignored);
}

}  // namespace places::net
