// SPDX-License-Identifier: Apache-2.0
// The message router: timers and messages run bodies; a body that waits suspends alone.
#pragma once

#include <places/core/channel.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <variant>
#include <vector>

namespace places {

/// Something the router watches for, and the body it runs then. Made by after, every, on_message.
struct event {
    struct once {
        std::chrono::nanoseconds delay;
        std::function<void()> body;
    };
    struct repeated {
        std::chrono::nanoseconds period;
        std::function<void()> body;
    };
    struct message_handler {
        channel* from;
        std::function<void(message)> body;
    };
    std::variant<once, repeated, message_handler> what;
};

/// Runs `body` once, `delay` after the router has started.
event after(std::chrono::nanoseconds delay, std::function<void()> body);
/// Runs `body` at the start and at every multiple of `period` after it; a late run moves none of
/// the following. A body that is still suspended does not keep the next from running.
/// Throws: error{bad_argument} for a period of zero or less.
event every(std::chrono::nanoseconds period, std::function<void()> body);
/// Runs `body` with each message that arrives on `from`, one after the other, until it is down.
/// A message over the limit of `from` is passed over, with a warning in the node's log.
/// The channel outlives the router's run.
event on_message(channel& from, std::function<void(message)> body);

/// One loop, one thread. Bodies are stackful coroutines: whatever blocks in them (get, put, a call
/// of a server, spawn, wait) lets the others run.
/// An exception that leaves a body ends run() with it.
class router {
  public:
    router();
    ~router();
    router(const router&) = delete;
    router& operator=(const router&) = delete;

    /// Before run() or from a body; a timer counts from the start of run(), or from now.
    void add(event e);
    /// Runs `body` soon after run() has begun, or soon, as a body of its own.
    /// Thread: the router's.
    void post(std::function<void()> body);

    /// Throws: what left a body; error{bad_argument} while another router or an inbox of this
    ///         process waits: it has one at a time.
    /// Blocks: until stop(), or until a body throws. Once the nursery has ended, it also returns
    ///         when no body and no timer is left.
    /// Thread: the one that made the router; not from inside a body.
    void run();
    /// Ends run() once the body that calls it suspends or returns; suspended bodies are unwound
    /// before run() returns, and its events are gone. It may run again, with new ones.
    /// Thread: the router's.
    void stop();

  private:
    struct state;
    std::unique_ptr<state> state_;
};

}  // namespace places
