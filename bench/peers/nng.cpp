// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/peer.hpp"

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/supplemental/util/platform.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <unistd.h>

namespace places::bench {
namespace {

void check(int outcome) {
    if (outcome != 0) throw std::runtime_error(std::string("nng: ") + nng_strerror(outcome));
}

/// A pair0 socket over ipc://.
class nng_end final : public end {
  public:
    nng_end(const std::string& address, side which, int depth, bool spins)
        : flags_(spins ? NNG_FLAG_NONBLOCK : 0) {
        check(nng_pair0_open(&socket_));
        check(nng_socket_set_size(socket_, NNG_OPT_RECVMAXSZ, 0));
        check(nng_socket_set_int(socket_, NNG_OPT_SENDBUF, depth));
        check(nng_socket_set_int(socket_, NNG_OPT_RECVBUF, depth));
        if (which == side::far) {
            check(nng_listen(socket_, address.c_str(), nullptr, 0));
            return;
        }
        // The listener is another process, and may not be there yet.
        int outcome = NNG_ECONNREFUSED;
        for (int i = 0; i < 5000 && outcome != 0; ++i) {
            outcome = nng_dial(socket_, address.c_str(), nullptr, 0);
            if (outcome != 0) nng_msleep(1);
        }
        check(outcome);
    }
    ~nng_end() override { nng_close(socket_); }
    void send(std::span<const std::byte> message) override {
        // nng_send does not write to it.
        auto* bytes = const_cast<std::byte*>(message.data());
        until_done([&] { return nng_send(socket_, bytes, message.size(), flags_); });
    }
    void receive(std::span<std::byte> message) override {
        until_done([&] {
            std::size_t size = message.size();
            return nng_recv(socket_, message.data(), &size, flags_);
        });
    }

  private:
    template <class Try>
    static void until_done(Try&& attempt) {
        int outcome = NNG_EAGAIN;
        while (outcome == NNG_EAGAIN) outcome = attempt();
        check(outcome);
    }
    nng_socket socket_{};
    int flags_;
};

class nng_link final : public link {
  public:
    explicit nng_link(const link_options& o)
        : file_("/tmp/places_bench_nng_" + std::to_string(::getpid()) + "_" +
                std::to_string(reinterpret_cast<std::uintptr_t>(this))),
          // What its options take at most.
          depth_(static_cast<int>(std::clamp<std::size_t>(o.room / o.size, 2, 8192))),
          spins_(o.spins) {}
    ~nng_link() override {
        std::error_code ignored;
        std::filesystem::remove(file_, ignored);
    }
    std::unique_ptr<end> open(side which) override {
        return std::make_unique<nng_end>("ipc://" + file_, which, depth_, spins_);
    }

  private:
    std::string file_;
    int depth_;
    bool spins_;
};

}  // namespace

std::unique_ptr<link> make_nng(const link_options& options) {
    return std::make_unique<nng_link>(options);
}

}  // namespace places::bench
