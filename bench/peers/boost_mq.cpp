// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/peer.hpp"

#include <boost/interprocess/ipc/message_queue.hpp>

#include <algorithm>
#include <string>
#include <unistd.h>

namespace places::bench {
namespace {

namespace ipc = boost::interprocess;

class queue_end final : public end {
  public:
    queue_end(const std::string& in, const std::string& out, bool spins)
        : in_(ipc::open_only, in.c_str()),
          out_(ipc::open_only, out.c_str()),
          spins_(spins) {}
    void send(std::span<const std::byte> message) override {
        if (!spins_) return out_.send(message.data(), message.size(), 0);
        while (!out_.try_send(message.data(), message.size(), 0)) {
        }
    }
    void receive(std::span<std::byte> message) override {
        ipc::message_queue::size_type got = 0;
        unsigned priority = 0;
        if (!spins_) return in_.receive(message.data(), message.size(), got, priority);
        while (!in_.try_receive(message.data(), message.size(), got, priority)) {
        }
    }

  private:
    ipc::message_queue in_;
    ipc::message_queue out_;
    bool spins_;
};

/// The queues have names in /dev/shm; removed with the link.
class queue_link final : public link {
  public:
    explicit queue_link(const link_options& options)
        : there_(name("there")),
          back_(name("back")),
          spins_(options.spins) {
        const auto depth = std::max<std::size_t>(2, options.room / options.size);
        ipc::message_queue(ipc::create_only, there_.c_str(), depth, options.size);
        ipc::message_queue(ipc::create_only, back_.c_str(), depth, options.size);
    }
    ~queue_link() override {
        ipc::message_queue::remove(there_.c_str());
        ipc::message_queue::remove(back_.c_str());
    }
    std::unique_ptr<end> open(side which) override {
        return which == side::near ? std::make_unique<queue_end>(back_, there_, spins_)
                                   : std::make_unique<queue_end>(there_, back_, spins_);
    }

  private:
    std::string name(const char* way) const {
        return "places_bench_" + std::to_string(::getpid()) + "_" +
               std::to_string(reinterpret_cast<std::uintptr_t>(this)) + "_" + way;
    }
    std::string there_;
    std::string back_;
    bool spins_;
};

}  // namespace

std::unique_ptr<link> make_boost_mq(const link_options& options) {
    return std::make_unique<queue_link>(options);
}

}  // namespace places::bench
