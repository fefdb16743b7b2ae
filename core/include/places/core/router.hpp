// SPDX-License-Identifier: Apache-2.0
// The message router: timers and messages run bodies. A body that waits suspends only itself.
#pragma once

#include <places/core/channel.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <variant>
#include <vector>

namespace places {

/// A timer or a source of messages, with the body that the router runs for it. The functions after,
/// every and on_message make events.
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
/// Runs `body` at the start and at every multiple of `period` after it. A late run does not delay
/// the runs after it. The next run starts on time even if an earlier one is still suspended.
/// Throws: error{bad_argument} for a period of zero or less.
event every(std::chrono::nanoseconds period, std::function<void()> body);
/// Runs `body` with each message that arrives on `from`, one after the other, until the channel has
/// ended. A message over the limit of `from` is skipped, with a warning in the node's log.
/// The channel must outlive the router's run.
event on_message(channel& from, std::function<void(message)> body);

/// A router is one loop in one thread. Bodies are stackful coroutines. While a body waits in a
/// blocking call (get, put, a server call, spawn, wait), other bodies run.
/// When an exception leaves a body, run() ends and throws that exception.
class router {
  public:
    router();
    ~router();
    router(const router&) = delete;
    router& operator=(const router&) = delete;

    /// Adds an event, before run() or from a body. A timer that is added before run() counts from
    /// the start of run(). A timer that a body adds counts from the time of this call.
    void add(event e);
    /// Runs `body` soon, as a body of its own. Before run(), it runs soon after run() has begun.
    /// Thread: the router's.
    void post(std::function<void()> body);

    /// Runs the events until stop().
    /// Throws: the exception that left a body; error{bad_argument} while another router or an inbox
    ///         of this process waits, since only one of them may wait at a time.
    /// Blocks: until stop(), or until a body throws. Once the nursery has ended, it also returns
    ///         when no body and no timer is left.
    /// Thread: the thread that made the router. A body must not call it.
    void run();
    /// Ends run() once the body that calls stop() suspends or returns. Suspended bodies are unwound
    /// before run() returns, and all events are removed. The router may run again with new events.
    /// Thread: the router's.
    void stop();

  private:
    struct state;
    std::unique_ptr<state> state_;
};

}  // namespace places
