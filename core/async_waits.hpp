// SPDX-License-Identifier: Apache-2.0
// What sleeps in an Asio event loop for channels: bodies of a router, operations of async_channel.
// Not installed.
#pragma once

#include "core/process.hpp"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/intrusive/list.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace places::detail {

/// The sleepers of one event loop. Their channels are parked in doorbell mode while they sleep; the
/// wakeups of this process, and the nursery's packets, are taken by that loop between start() and
/// stop(), and by nobody else.
/// Thread: the loop's.
class async_waits {
  public:
    /// Whether the loop has something of this to wait for while nobody sleeps here.
    enum class when_empty { watch, rest };
    /// `guard` runs what takes packets, and may catch what their handlers throw; without one, that
    /// leaves the event loop's run().
    async_waits(process& self, boost::asio::any_io_executor loop, when_empty does,
                std::function<void(const std::function<void()>&)> guard = {});
    ~async_waits();
    async_waits(const async_waits&) = delete;
    async_waits& operator=(const async_waits&) = delete;

    process& self() noexcept { return self_; }
    /// Throws: error{bad_argument} while somebody else waits for the wakeups of this process.
    void start();
    void stop() noexcept;

    struct sleeper {
        std::span<const interest> on;
        std::function<void()> look;  ///< something may be there; may not add or remove
    };
    using position = std::list<sleeper>::iterator;

    /// Until stop(), `by` hears of all who call.
    /// Returns: whether it did not before.
    bool add_listener(wakeup_listener& by);
    /// Passes on the wakeups that are there.
    void take_wakeups();
    /// Whoever sleeps on that channel looks.
    void look_at(std::uint64_t channel_id);

    /// Parks the channels: look once more at what the sleep is for before sleeping.
    position add(sleeper s);
    /// Unparks them, but for those that others sleep on.
    void remove(position where);
    bool is_empty() const noexcept { return sleepers_.empty(); }
    void look_all();

  private:
    void watch();
    void watch_wakeups();
    void watch_control();
    void look_soon();
    template <class F>
    void for_each_watcher(const channel_state& c, F&& f);

    process& self_;
    std::shared_ptr<process> life_ = self_.weak_from_this().lock();
    boost::asio::any_io_executor loop_;
    const when_empty does_;
    std::function<void(const std::function<void()>&)> guard_;
    std::unique_ptr<boost::asio::posix::stream_descriptor> wakeups_;
    std::unique_ptr<boost::asio::posix::stream_descriptor> control_;
    std::list<sleeper> sleepers_;
    std::unordered_map<std::uint64_t, std::vector<position>> by_channel_;  // whoever sleeps on each
    boost::intrusive::list<wakeup_listener, boost::intrusive::constant_time_size<false>> listeners_;
    // What is posted may outlive us.
    struct posted {
        explicit posted(async_waits* w) : self(w) {}
        async_waits* self;
        std::atomic<bool> is_under_way = false;
    };
    std::shared_ptr<posted> posted_ = std::make_shared<posted>(this);
    std::optional<wakeup_claim> claim_;
    std::optional<news_watch> news_;
    bool watches_ = false;
    std::uint64_t watch_count_ = 0;  // what an earlier one has found is nobody's any more
};

}  // namespace places::detail
