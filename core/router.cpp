// SPDX-License-Identifier: Apache-2.0
#include <places/core/router.hpp>

#include "core/process.hpp"

#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>

#include <algorithm>
#include <exception>
#include <list>
#include <memory>
#include <unistd.h>
#include <unordered_map>

namespace places {
namespace {

namespace asio = boost::asio;
using clock_type = std::chrono::steady_clock;

// Bodies print, format and decode; a page fault costs less than an overflow, hence the guard page.
constexpr std::size_t stack_bytes = 256 * 1024;

/// A descriptor that Asio watches and somebody else owns.
class borrowed_descriptor : public asio::posix::stream_descriptor {
  public:
    borrowed_descriptor(asio::io_context& io, int fd) : asio::posix::stream_descriptor(io, fd) {}
    ~borrowed_descriptor() {
        if (is_open()) release();
    }
};

}  // namespace

event after(std::chrono::nanoseconds delay, std::function<void()> body) {
    return {event::once{delay, std::move(body)}};
}

event every(std::chrono::nanoseconds period, std::function<void()> body) {
    if (period <= period.zero()) {
        throw error(errc::bad_argument, "every: the period must be more than zero");
    }
    return {event::repeated{period, std::move(body)}};
}

event on_message(channel& from, std::function<void(message)> body) {
    return {event::message_handler{&from, std::move(body)}};
}

struct router::state {
    /// One suspended body and what it waits for.
    struct sleeper {
        std::span<const detail::interest> on;
        asio::steady_timer timer;
    };

    /// The suspender of one body: parks its channels in doorbell mode and leaves the thread.
    class body_suspender final : public detail::suspender {
      public:
        body_suspender(state& r, asio::yield_context yield)
            : router_(r),
              yield_(std::move(yield)) {}

        bool wait(std::span<const detail::interest> on, const std::function<bool()>& ready,
                  shm::deadline until) override {
            auto& home = router_.home;
            while (true) {
                if (home.is_notified()) home.pump();
                if (ready()) return true;
                if (home.is_orphan() && on.empty()) return false;
                if (clock_type::now() >= until) return false;
                const auto here = router_.sleepers.insert(
                    router_.sleepers.end(), sleeper{on, asio::steady_timer{router_.io}});
                router_.park(on);
                if (!ready() && !home.is_notified()) {
                    here->timer.expires_at(until);
                    boost::system::error_code ignored;
                    detail::set_current_suspender(nullptr);
                    here->timer.async_wait(yield_[ignored]);
                    detail::set_current_suspender(this);
                }
                router_.sleepers.erase(here);
                router_.unpark_unwatched(on);
            }
        }

      private:
        state& router_;
        asio::yield_context yield_;
    };

    detail::process& home = detail::process::current();
    asio::io_context io{1};
    borrowed_descriptor calls{io, home.calls().native_handle()};
    borrowed_descriptor control{io, home.control_handle()};
    std::list<sleeper> sleepers;
    std::vector<event> waiting;  // until run()
    clock_type::time_point start{};
    bool running = false;
    std::exception_ptr failure;

    ~state() {
        // Unwinds suspended bodies while the sleepers they refer to still exist.
        io.stop();
    }

    void park(std::span<const detail::interest> on) {
        for (const auto& i : on) {
            if (i.record) i.channel->end().in().park(shm::park_mode::doorbell);
            if (i.room) i.channel->end().out().park(shm::park_mode::doorbell, i.room_bytes);
        }
    }

    /// A channel stays parked while any other body sleeps on it.
    void unpark_unwatched(std::span<const detail::interest> on) {
        for (const auto& i : on) {
            const bool watched = std::any_of(sleepers.begin(), sleepers.end(), [&](const auto& s) {
                return std::any_of(s.on.begin(), s.on.end(),
                                   [&](const auto& j) { return j.channel == i.channel; });
            });
            if (watched) continue;
            i.channel->end().in().unpark();
            i.channel->end().out().unpark();
        }
    }

    template <class Picks>
    void wake_sleepers(Picks&& picks) {
        for (auto& s : sleepers) {
            if (picks(s)) s.timer.cancel();
        }
    }

    void watch_calls() {
        calls.async_wait(borrowed_descriptor::wait_read, [this](boost::system::error_code ec) {
            if (ec) return;
            const auto taken = home.calls().take();
            wake_sleepers([&](const sleeper& s) {
                return taken.overflowed ||
                       std::any_of(s.on.begin(), s.on.end(), [&](const auto& i) {
                           return std::find(taken.channel_ids.begin(), taken.channel_ids.end(),
                                            i.channel->id()) != taken.channel_ids.end();
                       });
            });
            watch_calls();
        });
    }

    void watch_control() {
        control.async_wait(borrowed_descriptor::wait_read, [this](boost::system::error_code ec) {
            if (ec) return;
            guarded([&] { home.pump(); });
            wake_sleepers([](const sleeper&) { return true; });
            if (!home.is_orphan()) watch_control();
        });
    }

    /// Runs `f`; an exception ends the loop and is thrown again by run().
    template <class F>
    void guarded(F&& f) {
        try {
            f();
        } catch (const std::exception&) {
            failure = std::current_exception();
            io.stop();
        }
    }

    void start_body(std::function<void()> body) {
        asio::spawn(
            io, std::allocator_arg, boost::context::protected_fixedsize_stack{stack_bytes},
            [this, body = std::move(body)](asio::yield_context yield) {
                body_suspender suspender{*this, yield};
                detail::set_current_suspender(&suspender);
                guarded(body);
                detail::set_current_suspender(nullptr);
            },
            asio::detached);
    }

    void start_timer(clock_type::time_point at, std::function<void()> on_time) {
        auto timer = std::make_shared<asio::steady_timer>(io, at);
        timer->async_wait([timer, on_time = std::move(on_time)](boost::system::error_code ec) {
            if (!ec) on_time();
        });
    }

    void repeat(clock_type::time_point at, const event::repeated& e) {
        start_timer(at, [this, at, e] {
            repeat(at + e.period, e);
            start_body(e.body);
        });
    }

    void begin(event e) {
        const auto from = begun ? clock_type::now() : start;
        if (auto* once = std::get_if<event::once>(&e.what)) {
            start_timer(from + once->delay,
                        [this, body = std::move(once->body)] { start_body(body); });
        } else if (auto* again = std::get_if<event::repeated>(&e.what)) {
            repeat(from, *again);
        } else {
            auto& handler = std::get<event::message_handler>(e.what);
            start_body([from_channel = handler.from, body = std::move(handler.body)] {
                while (true) {
                    auto next = from_channel->receive();
                    if (!next) return;
                    body(std::move(*next));
                }
            });
        }
    }

    bool begun = false;  // the events given before run() have started
};

router::router() : state_(std::make_unique<state>()) {}
router::~router() = default;

void router::add(event e) {
    if (state_->running) {
        state_->begin(std::move(e));
    } else {
        state_->waiting.push_back(std::move(e));
    }
}

void router::post(std::function<void()> body) {
    asio::post(state_->io, [s = state_.get(), body = std::move(body)] { s->start_body(body); });
}

void router::run() {
    auto& s = *state_;
    s.start = clock_type::now();
    s.running = true;
    s.watch_calls();
    s.watch_control();
    s.home.pump();
    for (auto& e : s.waiting) s.begin(std::move(e));
    s.waiting.clear();
    s.begun = true;
    s.io.run();
    s.running = false;
    if (s.failure) std::rethrow_exception(std::exchange(s.failure, nullptr));
}

void router::stop() { state_->io.stop(); }

}  // namespace places
