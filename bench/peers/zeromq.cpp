// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/peer.hpp"

#include <zmq.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string>
#include <unistd.h>

namespace places::bench {
namespace {

/// A PAIR socket over ipc://.
class zeromq_end final : public end {
  public:
    zeromq_end(const std::string& address, side which, int depth, bool spins)
        : context_(zmq_ctx_new()),
          socket_(zmq_socket(context_, ZMQ_PAIR)),
          flags_(spins ? ZMQ_DONTWAIT : 0) {
        // As many messages under way as others have room for.
        zmq_setsockopt(socket_, ZMQ_SNDHWM, &depth, sizeof depth);
        zmq_setsockopt(socket_, ZMQ_RCVHWM, &depth, sizeof depth);
        const int done = which == side::far ? zmq_bind(socket_, address.c_str())
                                            : zmq_connect(socket_, address.c_str());
        if (done != 0) throw std::runtime_error(std::string("zeromq: ") + zmq_strerror(errno));
    }
    ~zeromq_end() override {
        zmq_close(socket_);
        zmq_ctx_term(context_);
    }
    void send(std::span<const std::byte> message) override {
        while (zmq_send(socket_, message.data(), message.size(), flags_) < 0) check();
    }
    void receive(std::span<std::byte> message) override {
        while (zmq_recv(socket_, message.data(), message.size(), flags_) < 0) check();
    }

  private:
    static void check() {
        if (errno != EINTR && errno != EAGAIN) throw link_closed(zmq_strerror(errno));
    }
    void* context_;
    void* socket_;
    int flags_;
};

class zeromq_link final : public link {
  public:
    explicit zeromq_link(const link_options& o)
        : file_("/tmp/places_bench_zmq_" + std::to_string(::getpid()) + "_" +
                std::to_string(reinterpret_cast<std::uintptr_t>(this))),
          depth_(static_cast<int>(std::max<std::size_t>(2, o.room / o.size))),
          spins_(o.spins) {}
    ~zeromq_link() override {
        std::error_code ignored;
        std::filesystem::remove(file_, ignored);
    }
    std::unique_ptr<end> open(side which) override {
        return std::make_unique<zeromq_end>("ipc://" + file_, which, depth_, spins_);
    }

  private:
    std::string file_;
    int depth_;
    bool spins_;
};

}  // namespace

std::unique_ptr<link> make_zeromq(const link_options& options) {
    return std::make_unique<zeromq_link>(options);
}

}  // namespace places::bench
