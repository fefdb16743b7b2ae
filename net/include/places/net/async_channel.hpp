// SPDX-License-Identifier: Apache-2.0
// A channel as an I/O object of Boost.Asio. Not part of places.hpp: it brings Asio's headers.
#pragma once

#include <places/core/channel.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace places {

namespace detail {

/// What the queues of an async_channel do with an operation, whatever its type and its handler.
class async_operation {
  public:
    virtual ~async_operation() = default;
    /// Does what is left to do. Returns: whether it is over, well or not.
    virtual bool attempt(channel& c) = 0;
    /// Posts the handler: with `why`, or without one with what the attempt came to.
    virtual void complete(boost::system::error_code why) = 0;
};

}  // namespace detail

/// An end of a channel whose operations complete in an event loop. They take any completion token:
/// a callback, use_future, use_awaitable, a yield_context. Those of one direction complete in the
/// order in which they were begun. Cancelling one (by its slot, as `||` of awaitables does, by
/// cancel(), or by the destructor) completes it with operation_aborted; nothing is lost, and of a
/// put nothing was sent. One that begins later, as a deferred one or an awaitable does, goes with
/// the end wherever that is moved; begun after the destructor it is aborted too.
/// While any of these lives, no router, inbox or channel_set of this process waits.
/// Thread: that which runs the io_context; one runs it at a time. While an operation waits there,
///         a call of another thread, on this or on the end itself, throws error{misuse}.
class async_channel {
  public:
    using executor_type = boost::asio::io_context::executor_type;

    /// Takes the end over.
    /// Throws: error{bad_argument} for no end, an end that is in a set or that an inbox or another
    ///         async_channel reads, while somebody else waits in this process, before a runtime
    ///         exists, and while `io` has an async_channel of a runtime that has ended. An inbox
    ///         reads its creator's channel from its first get() on.
    async_channel(boost::asio::io_context& io, channel&& owned);
    /// The end stays its owner's, who keeps it, unmoved, for as long. So for a place.
    async_channel(boost::asio::io_context& io, channel& borrowed);
    async_channel(async_channel&&) noexcept;
    async_channel& operator=(async_channel&&) noexcept;
    ~async_channel();

    executor_type get_executor() const noexcept { return executor_; }
    /// The end itself, for all that does not wait. What it shows (peek_batch) is given back
    /// by each get that is under way.
    channel& link() noexcept;

    /// The next message as a T.
    /// Completes: void(error_code, T), as channel::get; with an error T is T{}.
    template <message_type T = value, class Token>
    requires std::default_initializable<T>
    auto async_get(Token&& token);
    /// The next message whatever its type. Completes: void(error_code, message).
    template <class Token>
    auto async_receive(Token&& token);

    /// Sends `v`, which is encoded before this returns.
    /// Completes: void(error_code), as channel::put.
    /// Throws:    what message::of throws.
    template <sendable_type T, class Token>
    auto async_put(const T& v, Token&& token) {
        return async_send(message::of(v), std::forward<Token>(token));
    }
    template <class Token>
    auto async_send(message m, Token&& token);

    /// Completes every operation that is under way with operation_aborted.
    void cancel();

  private:
    class state;
    template <class Take, class Handler>
    class operation;
    /// Returns: by what it can be cancelled, 0 when it is over.
    static std::uint64_t start(const std::weak_ptr<state>& s,
                               std::unique_ptr<detail::async_operation> get);
    static std::uint64_t start(const std::weak_ptr<state>& s,
                               std::unique_ptr<detail::async_operation> put, message m);
    static void cancel_one(const std::weak_ptr<state>& s, std::uint64_t id);
    void leave() noexcept;
    template <class Signature, class Take, class Token, class... Content>
    auto initiate(Take take, Token&& token, Content... content);

    executor_type executor_;
    std::shared_ptr<state> state_;
};

// -- bodies --

/// `Take` says what an attempt does: take(channel&) returns an optional of the outcome.
template <class Take, class Handler>
class async_channel::operation final : public detail::async_operation {
  public:
    operation(Take take, Handler handler, const executor_type& executor)
        : take_(std::move(take)),
          handler_(std::move(handler)),
          slot_(boost::asio::get_associated_cancellation_slot(handler_)),
          work_(boost::asio::get_associated_executor(handler_, executor)) {}

    auto slot() const noexcept { return slot_; }

    bool attempt(channel& c) override {
        outcome_ = take_(c);
        return outcome_.has_value();
    }

    void complete(boost::system::error_code why) override {
        if (slot_.is_connected()) slot_.clear();
        const auto executor = work_.get_executor();
        boost::asio::post(executor, [handler = std::move(handler_), work = std::move(work_), why,
                                     outcome = std::move(outcome_)]() mutable {
            auto call = [h = std::move(handler)](auto&&... with) mutable {
                std::move(h)(std::forward<decltype(with)>(with)...);
            };
            if constexpr (std::is_same_v<outcome_type, boost::system::error_code>) {
                call(why ? why : *outcome);
            } else {
                if (why || !outcome->has_value()) {
                    call(why ? why : outcome->error(), typename outcome_type::value_type{});
                } else {
                    call(boost::system::error_code{}, std::move(**outcome));
                }
            }
        });
    }

  private:
    using outcome_type = typename std::invoke_result_t<Take&, channel&>::value_type;
    Take take_;
    Handler handler_;
    boost::asio::associated_cancellation_slot_t<Handler> slot_;
    boost::asio::executor_work_guard<boost::asio::associated_executor_t<Handler, executor_type>>
        work_;
    std::optional<outcome_type> outcome_;
};

template <class Signature, class Take, class Token, class... Content>
auto async_channel::initiate(Take take, Token&& token, Content... content) {
    return boost::asio::async_initiate<Token, Signature>(
        // Not `this`: it may have moved or gone when the operation begins.
        [s = std::weak_ptr{state_}, executor = executor_, take = std::move(take)](
            auto handler, auto... m) mutable {
            using op = operation<Take, decltype(handler)>;
            auto o = std::make_unique<op>(std::move(take), std::move(handler), executor);
            auto slot = o->slot();
            const auto id = start(s, std::move(o), std::move(m)...);
            if (id == 0 || !slot.is_connected()) return;
            slot.assign([s, id](boost::asio::cancellation_type) { cancel_one(s, id); });
        },
        token, std::move(content)...);
}

template <message_type T, class Token>
requires std::default_initializable<T>
auto async_channel::async_get(Token&& token) {
    const auto take = [](channel& c) -> std::optional<result<T>> {
        auto v = c.try_get<T>();
        if (!v.has_value() && v.error() == errc::empty) return std::nullopt;
        return v;
    };
    return initiate<void(boost::system::error_code, T)>(take, std::forward<Token>(token));
}

template <class Token>
auto async_channel::async_receive(Token&& token) {
    const auto take = [](channel& c) -> std::optional<result<message>> {
        auto m = c.receive(channel::clock::time_point::min());
        if (!m.has_value() && m.error() == errc::empty) return std::nullopt;
        return m;
    };
    return initiate<void(boost::system::error_code, message)>(take, std::forward<Token>(token));
}

template <class Token>
auto async_channel::async_send(message m, Token&& token) {
    // What is sent, and how far it is, the queue knows: it goes in as many parts as it takes.
    const auto take = [](channel&) -> std::optional<boost::system::error_code> {
        return boost::system::error_code{};
    };
    return initiate<void(boost::system::error_code)>(take, std::forward<Token>(token),
                                                     std::move(m));
}

}  // namespace places
