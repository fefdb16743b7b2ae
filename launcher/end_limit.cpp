// SPDX-License-Identifier: Apache-2.0
#include "launcher/end_limit.hpp"

#include "net/bridge.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <poll.h>
#include <string_view>
#include <sys/uio.h>
#include <unistd.h>

namespace places::launcher {
namespace {

// For the signal handler, which is given nothing but the signal's number: who is waited for.
std::atomic<const char*> awaited = "root";
std::atomic<bool> has_begun = false;
static_assert(std::atomic<const char*>::is_always_lock_free);
static_assert(std::atomic<bool>::is_always_lock_free);

/// Nobody may read what this process says.
extern "C" void give_up(int) {
    // relaxed: only this one word, of constants.
    const std::string_view who = awaited.load(std::memory_order_relaxed);
    std::array<iovec, 3> parts_written{};
    std::size_t parts = 0;
    for (const std::string_view each : {std::string_view("places: the end is given up: the "), who,
                                        std::string_view(" hangs\n")}) {
        parts_written[parts++] = {const_cast<char*>(each.data()), each.size()};
    }
    pollfd room{STDERR_FILENO, POLLOUT, 0};
    if (::poll(&room, 1, 0) > 0) (void)!::writev(STDERR_FILENO, parts_written.data(), 3);
    ::_exit(given_up_status);
}

}  // namespace

void prepare_end() noexcept {
    struct sigaction act {};
    act.sa_handler = give_up;
    ::sigaction(SIGALRM, &act, nullptr);
    sigset_t alarm_only;
    ::sigemptyset(&alarm_only);
    ::sigaddset(&alarm_only, SIGALRM);
    ::pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
}

void limit_end() noexcept {
    // relaxed: only this one bit.
    if (has_begun.exchange(true, std::memory_order_relaxed)) return;
    // An alarm, not a thread: it comes also where no thread can be made, or takes its turn.
    ::alarm(static_cast<unsigned>(end_limit.count()));
}

void end_in_order(const std::function<void()>& end_places, channel& bridge) {
    const auto await = [](const char* who) {
        awaited.store(who, std::memory_order_relaxed);  // relaxed: as above
    };
    await("nursery");
    end_places();
    await("bridge");
    (void)bridge.put(net::bridge_request{net::finish{}});
    // It hangs up when all is forwarded, and ends.
    while (true) {
        const auto next = bridge.receive();
        // Whatever it has sent before, too large or not, is of no interest.
        if (!next && next.error() != errc::too_large) break;
    }
    await("root");
}

}  // namespace places::launcher
