// SPDX-License-Identifier: Apache-2.0
#include <places/core/router.hpp>

#include "core/async_waits.hpp"

#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cxxabi.h>
#include <exception>
#include <memory>
#include <poll.h>
#include <span>
#include <sys/epoll.h>
#include <utility>

// Present in programs built with AddressSanitizer only.
extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom,
                                                          std::size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom,
                                                           std::size_t* size);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void* bottom,
                                                         std::size_t size);
}

namespace places {
namespace {

namespace asio = boost::asio;
using clock_type = std::chrono::steady_clock;

// Bodies print, format and decode; a page fault costs less than an overflow, hence the guard page.
constexpr std::size_t stack_bytes = 256 * 1024;

// Of one channel, before timers and other bodies have their turn: a flood must not keep them out.
constexpr unsigned messages_at_once = 32;

using stack_bounds = boost::context::stack_context;

/// Tells where the one stack lies that it has allocated.
struct recorded_stack {
    stack_bounds allocate() {
        *bounds = memory.allocate();
        // A body that was unwound may have left its marks where this one begins.
        if (__asan_unpoison_memory_region) {
            __asan_unpoison_memory_region(static_cast<std::byte*>(bounds->sp) - bounds->size,
                                          bounds->size);
        }
        return *bounds;
    }
    void deallocate(stack_bounds& stack) noexcept { memory.deallocate(stack); }
    boost::context::protected_fixedsize_stack memory{stack_bytes};
    std::shared_ptr<stack_bounds> bounds = std::make_shared<stack_bounds>();
};

/// What a thread has one of and every body needs its own: the exceptions being handled, for a
/// body may wait in a catch block while others throw; and what AddressSanitizer takes for the
/// stack, without which it finds overflows in what an exception has left behind.
/// Source: the layout of __cxa_eh_globals is that of the Itanium C++ ABI, 2.2.2.
class body_context {
  public:
    explicit body_context(const stack_bounds& own)
        : bottom_(static_cast<const std::byte*>(own.sp) - own.size),
          size_(own.size) {}

    /// The body's code begins or goes on, on its stack.
    void enter() noexcept {
        std::swap(exceptions_, exceptions_of_thread());
        switch_to(bottom_, size_, &thread_bottom_, &thread_size_);
    }
    /// It suspends or ends: what follows is the thread's.
    void leave() noexcept {
        switch_to(thread_bottom_, thread_size_, nullptr, nullptr);
        std::swap(exceptions_, exceptions_of_thread());
    }

  private:
    struct eh_globals {
        void* caught = nullptr;
        unsigned uncaught = 0;
    };
    static eh_globals& exceptions_of_thread() noexcept {
        return *reinterpret_cast<eh_globals*>(abi::__cxa_get_globals());
    }
    static void switch_to(const void* bottom, std::size_t size, const void** old_bottom,
                          std::size_t* old_size) noexcept {
        if (!__sanitizer_start_switch_fiber) return;
        void* fake_stack = nullptr;
        __sanitizer_start_switch_fiber(&fake_stack, bottom, size);
        __sanitizer_finish_switch_fiber(fake_stack, old_bottom, old_size);
    }

    const void* bottom_;
    std::size_t size_;
    const void* thread_bottom_ = nullptr;
    std::size_t thread_size_ = 0;
    eh_globals exceptions_;  // of whichever does not run
};

/// Wakes a timer's sleep at the news of any of several descriptors. Asio is given one of our own
/// that stands for all of them: it makes non-blocking what it waits for, and another body may close
/// one of them meanwhile.
class descriptor_sleep {
  public:
    descriptor_sleep(asio::io_context& io, std::span<const pollfd> fds)
        : shared_(std::make_shared<shared>(io)) {
        unique_fd all = checked_fd(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
        for (const auto& each : fds) {
            epoll_event what{};
            what.events = static_cast<std::uint32_t>(each.events);
            checked(::epoll_ctl(all.get(), EPOLL_CTL_ADD, each.fd, &what), "epoll_ctl");
        }
        shared_->all.assign(all.get());
        (void)all.release();
    }
    ~descriptor_sleep() {
        boost::system::error_code ignored;
        (void)shared_->all.close(ignored);
    }
    descriptor_sleep(const descriptor_sleep&) = delete;
    descriptor_sleep& operator=(const descriptor_sleep&) = delete;

    asio::steady_timer& timer() noexcept { return shared_->timer; }
    void watch() {
        if (std::exchange(shared_->watches, true)) return;
        shared_->all.async_wait(asio::posix::stream_descriptor::wait_read, [s = shared_](auto) {
            s->watches = false;
            s->timer.cancel();
        });
    }

  private:
    struct shared {
        explicit shared(asio::io_context& io) : timer(io), all(io) {}
        asio::steady_timer timer;
        asio::posix::stream_descriptor all;
        bool watches = false;
    };
    std::shared_ptr<shared> shared_;  // with the handler, which may run after us
};

/// Thrown out of a body's wait when the router ends. No std::exception: bodies do not expect it.
struct unwound {};

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
    explicit state(detail::process& of) : self(of) {}

    /// The waiter of one body: parks its channels in doorbell mode and leaves the thread.
    class body_waiter final : public detail::waiter {
      public:
        body_waiter(state& r, asio::yield_context yield, body_context& context)
            : router_(r),
              yield_(std::move(yield)),
              context_(context) {}

        bool wait(std::span<const detail::interest> on, const std::function<bool()>& ready,
                  shm::deadline until) override {
            auto& process = router_.self;
            while (true) {
                if (process.is_notified()) process.pump();
                for (const auto& i : on) i.channel->take_up_peer();
                if (ready()) return true;
                if (process.is_orphan() && on.empty()) return false;
                if (clock_type::now() >= until) return false;
                if (router_.unwinding) return wait_unwinding(on, ready, until);
                // A sender of parts without end is served in turn with everything else.
                if (must_look(on)) {
                    pass();
                    continue;
                }
                asio::steady_timer sleep{router_.io};
                const auto here = router_.waits.add({on, [&] { sleep.cancel(); }});
                if (!ready() && !process.is_notified() && !must_look(on)) {
                    sleep.expires_at(until);
                    suspend_for(sleep);
                }
                router_.waits.remove(here);
            }
        }

        bool add_listener(detail::wakeup_listener& by) override {
            return router_.waits.add_listener(by);
        }
        void take_wakeups() override { router_.waits.take_wakeups(); }
        bool is_unwinding() const noexcept override { return router_.unwinding; }

        void look_at(const detail::channel_state& c) override { router_.waits.look_at(c.id()); }
        void wake() override {
            if (asleep_) asleep_->cancel();
        }

        void poll(std::span<pollfd> fds, shm::deadline until) override {
            const auto has_news = [&] { return ::poll(fds.data(), fds.size(), 0) != 0; };
            if (has_news()) return;
            descriptor_sleep sleep{router_.io, fds};
            while (!has_news() && clock_type::now() < until) {
                if (router_.unwinding) return poll_unwinding(fds, until);
                sleep.watch();
                // Unwinding wakes us by this.
                const auto here = router_.waits.add({{}, [&] { sleep.timer().cancel(); }});
                sleep.timer().expires_at(until);
                suspend_for(sleep.timer());
                router_.waits.remove(here);
            }
        }

        void pass() override {
            detail::set_current_waiter(nullptr);
            context_.leave();
            asio::post(router_.io, yield_);
            context_.enter();
            detail::set_current_waiter(this);
            if (router_.unwinding && std::uncaught_exceptions() == 0) throw unwound{};
        }

      private:
        static bool must_look(std::span<const detail::interest> on) {
            return std::ranges::any_of(on, [](const detail::interest& i) {
                return i.record && i.channel->was_cut_short();
            });
        }
        void suspend_for(asio::steady_timer& sleep) {
            boost::system::error_code ignored;
            detail::set_current_waiter(nullptr);
            asleep_ = &sleep;
            context_.leave();
            sleep.async_wait(yield_[ignored]);
            context_.enter();
            asleep_ = nullptr;
            detail::set_current_waiter(this);
        }

        /// Ends the body; a destructor that waits on the way out of it holds the thread instead.
        bool wait_unwinding(std::span<const detail::interest> on,
                            const std::function<bool()>& ready, shm::deadline until) {
            if (std::uncaught_exceptions() == 0) throw unwound{};
            detail::set_current_waiter(nullptr);
            shm::spin_budget spin;
            const bool in_time = router_.self.wait(on, ready, until, spin);
            detail::set_current_waiter(this);
            return in_time;
        }
        void poll_unwinding(std::span<pollfd> fds, shm::deadline until) {
            if (std::uncaught_exceptions() == 0) throw unwound{};
            detail::set_current_waiter(nullptr);
            detail::poll_until(fds, until);
            detail::set_current_waiter(this);
        }

        state& router_;
        asio::yield_context yield_;
        body_context& context_;
        asio::steady_timer* asleep_ = nullptr;
    };

    detail::process& self;
    asio::io_context io{1};
    detail::async_waits waits{self, io.get_executor(), detail::async_waits::when_empty::watch,
                              [this](const auto& take) { guarded(take); }};
    std::vector<event> waiting;  // until run()
    clock_type::time_point start{};
    bool running = false;
    bool unwinding = false;
    std::exception_ptr failure;

    /// Runs `f`; an exception ends the loop and is thrown again by run().
    template <class F>
    void guarded(F&& f) {
        try {
            f();
        } catch (const boost::context::detail::forced_unwind&) {
            throw;  // not ours: Boost destroys the coroutine
        } catch (const unwound&) {
        } catch (...) {
            if (!failure) failure = std::current_exception();
            io.stop();
        }
    }

    /// Soon, not now: the caller may itself be a body.
    void start_body(std::function<void()> body) {
        asio::post(io, [this, body = std::move(body)] { run_body(body); });
    }

    void run_body(std::function<void()> body) {
        if (unwinding) return;
        recorded_stack stack;
        asio::spawn(
            io, std::allocator_arg, stack,
            [this, body = std::move(body), bounds = stack.bounds](asio::yield_context yield) {
                body_context context{*bounds};
                body_waiter waiter{*this, yield, context};
                context.enter();
                detail::set_current_waiter(&waiter);
                guarded(body);
                detail::set_current_waiter(nullptr);
                context.leave();
            },
            asio::detached);
    }

    /// Ends every suspended body, from inside: its destructors run while all they use still lives.
    void unwind() {
        unwinding = true;
        do {
            waits.look_all();
            io.restart();
            io.poll();
        } while (!waits.is_empty());
    }

    void start_timer(clock_type::time_point at, std::function<void()> on_time) {
        auto timer = std::make_shared<asio::steady_timer>(io, at);
        timer->async_wait([this, timer, on_time = std::move(on_time)](auto ec) {
            if (!ec && !unwinding) on_time();
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
                for (unsigned count = 1;; ++count) {
                    auto next = from_channel->receive();
                    if (next) {
                        body(std::move(*next));
                    } else if (next.error() == errc::too_large) {
                        detail::state_of::get(*from_channel)->log_passed_over();
                    } else {
                        return;
                    }
                    if (count % messages_at_once != 0) continue;
                    detail::current_waiter()->pass();
                }
            });
        }
    }

    std::exception_ptr run() {
        waits.start();
        start = clock_type::now();
        running = true;
        guarded([&] { self.pump(); });
        for (auto& e : waiting) begin(std::move(e));
        waiting.clear();
        begun = true;
        io.run();
        unwind();
        waits.stop();
        return failure;
    }

    bool begun = false;  // the events given before run() have started
};

router::router() : state_(std::make_unique<state>(detail::process::current())) {}
router::~router() = default;

void router::add(event e) {
    if (state_->running) {
        state_->begin(std::move(e));
    } else {
        state_->waiting.push_back(std::move(e));
    }
}

void router::post(std::function<void()> body) { state_->start_body(std::move(body)); }

void router::run() {
    auto& s = *state_;
    const auto failure = s.run();
    state_ = std::make_unique<state>(s.self);  // also when its runtime has ended
    if (failure) std::rethrow_exception(failure);
}

void router::stop() { state_->io.stop(); }

}  // namespace places
