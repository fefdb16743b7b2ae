// SPDX-License-Identifier: Apache-2.0
#include "core/async_waits.hpp"

#include <boost/asio/post.hpp>

#include <algorithm>
#include <memory>
#include <utility>

namespace places::detail {
namespace {

constexpr auto readable = boost::asio::posix::stream_descriptor::wait_read;

}  // namespace

async_waits::async_waits(process& self, boost::asio::any_io_executor loop, when_empty does,
                         std::function<void(const std::function<void()>&)> guard)
    : self_(self),
      loop_(std::move(loop)),
      does_(does),
      guard_(std::move(guard)),
      wakeups_(std::make_unique<boost::asio::posix::stream_descriptor>(loop_)),
      control_(std::make_unique<boost::asio::posix::stream_descriptor>(loop_)) {}

async_waits::~async_waits() {
    if (self_.origin().is_forked()) {
        // The event loop's epoll is the parent's too: what is taken out here would be gone there.
        (void)wakeups_.release();
        (void)control_.release();
        return;
    }
    stop();
    posted_->self = nullptr;
}

void async_waits::start() {
    if (claim_) return;
    claim_.emplace(self_, this);
    news_.emplace(self_, [this] { look_soon(); });
    try {
        // Borrowed: they are the process's.
        wakeups_->assign(self_.wakeups().native_handle());
        control_->assign(self_.control_handle());
    } catch (...) {
        stop();  // the kernel watches no more descriptors: somebody else may wait instead
        throw;
    }
    if (does_ == when_empty::watch) watch();
}

void async_waits::stop() noexcept {
    if (!claim_ || self_.origin().is_forked()) return;
    watches_ = false;
    listeners_.clear();
    news_.reset();
    (void)wakeups_->release();
    (void)control_->release();
    claim_.reset();
}

bool async_waits::add_listener(wakeup_listener& by) {
    if (by.is_linked()) return false;
    listeners_.push_back(by);
    return true;
}

void async_waits::take_wakeups() {
    const auto taken = self_.wakeups().take();
    for (auto& by : listeners_) by.on_wakeups(taken);
    if (taken.overflowed) look_all();
    for (const auto id : taken.channel_ids) look_at(id);
}

void async_waits::look_at(std::uint64_t channel_id) {
    const auto found = by_channel_.find(channel_id);
    if (found == by_channel_.end()) return;
    for (const auto& s : found->second) s->look();
}

async_waits::position async_waits::add(sleeper s) {
    if (!watches_) watch();
    const auto here = sleepers_.insert(sleepers_.end(), std::move(s));
    for (const auto& i : here->on) by_channel_[i.channel->id()].push_back(here);
    for (const auto& i : here->on) {
        if (i.record) i.channel->end().in().park(shm::park_mode::doorbell);
        if (!i.room) continue;
        // The least that any of its sleepers wants: the consumer wakes them for that.
        auto least = i.room_bytes;
        for_each_watcher(*i.channel, [&](const interest& j) {
            if (j.room) least = std::min(least, j.room_bytes);
        });
        i.channel->end().out().park(shm::park_mode::doorbell, least);
    }
    return here;
}

void async_waits::remove(position where) {
    const auto on = where->on;
    for (const auto& i : on) {
        const auto found = by_channel_.find(i.channel->id());
        if (found == by_channel_.end()) continue;  // it is twice in `on`
        std::erase(found->second, where);
        if (found->second.empty()) by_channel_.erase(found);
    }
    sleepers_.erase(where);
    for (const auto& i : on) {
        bool record_watched = false;
        bool room_watched = false;
        for_each_watcher(*i.channel, [&](const interest& j) {
            record_watched = record_watched || j.record;
            room_watched = room_watched || j.room;
        });
        const bool ends_record = i.record && !record_watched;
        const bool ends_room = i.room && !room_watched;
        if (ends_record) i.channel->end().in().unpark();
        if (ends_room) i.channel->end().out().unpark();
        if (ends_record || ends_room) i.channel->was_unparked();
    }
    if (!sleepers_.empty() || does_ == when_empty::watch) return;
    watches_ = false;
    boost::system::error_code ignored;
    (void)wakeups_->cancel(ignored);
    (void)control_->cancel(ignored);
}

void async_waits::look_all() {
    for (const auto& s : sleepers_) s.look();
}

void async_waits::watch() {
    watches_ = true;
    ++watch_count_;
    watch_wakeups();
    watch_control();
}

void async_waits::watch_wakeups() {
    wakeups_->async_wait(readable, [this, count = watch_count_](auto ec) {
        if (ec || !watches_ || count != watch_count_) return;
        take_wakeups();
        // Nobody is left who calls then, and the end of the stream would be read for ever.
        if (watches_ && !self_.is_orphan()) watch_wakeups();
    });
}

void async_waits::watch_control() {
    control_->async_wait(readable, [this, count = watch_count_](auto ec) {
        if (ec || !watches_ || count != watch_count_) return;
        if (guard_) {
            guard_([this] { self_.pump(); });
        } else {
            self_.pump();
        }
        if (watches_ && !self_.is_orphan()) watch_control();
    });
}

/// A sleeper's packet has been taken by somebody else: by another body, or another thread.
void async_waits::look_soon() {
    // relaxed: posting orders what it announces.
    if (posted_->is_under_way.exchange(true, std::memory_order_relaxed)) return;
    boost::asio::post(loop_, [posted = posted_] {
        posted->is_under_way.store(false, std::memory_order_relaxed);  // relaxed: as above
        if (posted->self) posted->self->look_all();
    });
}

template <class F>
void async_waits::for_each_watcher(const channel_state& c, F&& f) {
    const auto found = by_channel_.find(c.id());
    if (found == by_channel_.end()) return;
    for (const auto& s : found->second) {
        for (const auto& j : s->on) {
            if (j.channel == &c) f(j);
        }
    }
}

}  // namespace places::detail
