// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/peer.hpp"

#include <places/shm/unique_fd.hpp>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wshadow"
#include <iceoryx_posh/popo/untyped_publisher.hpp>
#include <iceoryx_posh/popo/untyped_subscriber.hpp>
#include <iceoryx_posh/popo/wait_set.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>
#pragma GCC diagnostic pop

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <grp.h>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace places::bench {
namespace {

using namespace std::chrono_literals;

std::uint64_t depth_of(const link_options& o) {
    return std::clamp<std::uint64_t>(o.room / o.size, 2, 256);
}

/// Of a process, for the daemon; `owner` is the one that started both.
std::string name_of(side which, pid_t owner) {
    return std::string("places-bench-") + (which == side::near ? "near-" : "far-") +
           std::to_string(owner);
}

/// Its daemon, with pools for the one size in question.
class roudi {
  public:
    explicit roudi(const link_options& o)
        : config_("/tmp/places_bench_roudi_" + std::to_string(::getpid()) + ".toml") {
        // Chunks are what is under way both ways and what both sides hold.
        std::ofstream(config_) << "[general]\nversion = 1\n[[segment]]\n[[segment.mempool]]\n"
                               << "size = " << (o.size + 63) / 64 * 64 + 128  // what aligning takes
                               << "\ncount = " << 2 * (depth_of(o) + 8) << '\n';
        pid_ = static_cast<pid_t>(checked(::fork(), "fork"));
        if (pid_ > 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGTERM);
        const int nowhere = ::open("/dev/null", O_WRONLY);
        ::dup2(nowhere, STDOUT_FILENO);
        ::dup2(nowhere, STDERR_FILENO);
        // Unmonitored: it would take a process that is stopped between slices for dead.
        ::execlp("iox-roudi", "iox-roudi", "-m", "off", "-l", "off", "-k", "1", "-c",
                 config_.c_str(), static_cast<char*>(nullptr));
        ::_exit(127);
    }
    ~roudi() {
        ::kill(pid_, SIGTERM);
        for (int i = 0; i < 300; ++i) {
            if (::waitpid(pid_, nullptr, WNOHANG) == pid_) pid_ = -1;
            if (pid_ < 0) break;
            std::this_thread::sleep_for(10ms);
        }
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
        std::error_code ignored;
        if (is_ours_) {
            // It aborts when it finds that a pair was killed. Of both and of it stay then the
            // socket and the lock that bear the name, the lock that makes it the only one, and the
            // memory.
            for (const auto& name : {name_of(side::near, ::getpid()),
                                     name_of(side::far, ::getpid()), std::string("roudi")}) {
                std::filesystem::remove("/tmp/" + name, ignored);
                std::filesystem::remove("/tmp/" + name + ".lock", ignored);
            }
            std::filesystem::remove("/tmp/iox-unique-roudi.lock", ignored);
            std::filesystem::remove("/dev/shm/iceoryx_mgmt", ignored);
            const auto* group = ::getgrgid(::getegid());
            if (group) std::filesystem::remove(std::string("/dev/shm/") + group->gr_name, ignored);
        }
        std::filesystem::remove(config_, ignored);
    }
    roudi(const roudi&) = delete;
    roudi& operator=(const roudi&) = delete;

    /// Throws: unless it is there.
    void check() {
        for (int i = 0; i < 20; ++i) {
            if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
                throw std::runtime_error("iox-roudi does not run: is it installed, is there one?");
            }
            std::this_thread::sleep_for(10ms);
        }
        is_ours_ = true;
    }

  private:
    std::string config_;
    bool is_ours_ = false;  // there is at most one on a machine
    pid_t pid_ = -1;
};

iox::popo::PublisherOptions publisher_options() {
    iox::popo::PublisherOptions o;
    o.subscriberTooSlowPolicy = iox::popo::ConsumerTooSlowPolicy::WAIT_FOR_CONSUMER;
    return o;
}

iox::popo::SubscriberOptions subscriber_options(std::uint64_t depth) {
    iox::popo::SubscriberOptions o;
    o.queueCapacity = depth;
    o.queueFullPolicy = iox::popo::QueueFullPolicy::BLOCK_PRODUCER;
    return o;
}

iox::capro::ServiceDescription way(const char* name) {
    return {"places-bench", "link", iox::capro::IdString_t(iox::cxx::TruncateToCapacity, name)};
}

class iceoryx_end final : public end {
  public:
    iceoryx_end(side which, const link_options& o)
        : out_(way(which == side::near ? "there" : "back"), publisher_options()),
          in_(way(which == side::near ? "back" : "there"), subscriber_options(depth_of(o))),
          size_(o.size),
          spins_(o.spins) {
        if (!spins_) {
            wait_.attachState(in_, iox::popo::SubscriberState::HAS_DATA).or_else([](auto) {
                throw std::runtime_error("iceoryx: a wait set takes no subscriber");
            });
        }
        if (which == side::far) return;
        for (int i = 0; i < 1000; ++i) {
            if (out_.hasSubscribers() &&
                in_.getSubscriptionState() == iox::SubscribeState::SUBSCRIBED) {
                return;
            }
            std::this_thread::sleep_for(10ms);
        }
        throw std::runtime_error("iceoryx: nobody has subscribed");
    }

    void send(std::span<const std::byte> message) override {
        std::memcpy(loan(message.size()).data(), message.data(), message.size());
        publish(message.size());
    }
    void receive(std::span<std::byte> message) override {
        std::memcpy(message.data(), peek(message.size()).data(), message.size());
        release();
    }
    std::span<std::byte> loan(std::size_t size) override {
        while (true) {
            auto chunk = out_.loan(static_cast<std::uint32_t>(size), 64);
            if (chunk.has_error()) continue;
            loaned_ = chunk.value();
            return {static_cast<std::byte*>(loaned_), size};
        }
    }
    void publish(std::size_t) override { out_.publish(loaned_); }
    std::span<const std::byte> peek(std::size_t) override {
        while (true) {
            auto chunk = in_.take();
            if (!chunk.has_error()) {
                peeked_ = chunk.value();
                return {static_cast<const std::byte*>(peeked_), size_};
            }
            if (!spins_) (void)wait_.wait();
        }
    }
    void release() override { in_.release(peeked_); }

  private:
    iox::popo::UntypedPublisher out_;
    iox::popo::UntypedSubscriber in_;
    iox::popo::WaitSet<> wait_;
    std::size_t size_;
    bool spins_;
    void* loaned_ = nullptr;
    const void* peeked_ = nullptr;
};

class iceoryx_link final : public link {
  public:
    explicit iceoryx_link(const link_options& o) : options_(o), daemon_(o) { daemon_.check(); }
    std::unique_ptr<end> open(side which) override {
        iox::log::LogManager::GetLogManager().SetDefaultLogLevel(
            iox::log::LogLevel::kOff, iox::log::LogLevelOutput::kHideLogLevel);
        const auto name = name_of(which, ::getppid());
        iox::runtime::PoshRuntime::initRuntime(
            iox::RuntimeName_t(iox::cxx::TruncateToCapacity, name.c_str()));
        return std::make_unique<iceoryx_end>(which, options_);
    }

  private:
    link_options options_;
    roudi daemon_;
};

}  // namespace

std::unique_ptr<link> make_iceoryx(const link_options& options) {
    return std::make_unique<iceoryx_link>(options);
}

}  // namespace places::bench
