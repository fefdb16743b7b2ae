// SPDX-License-Identifier: Apache-2.0
#include "launcher/end_limit.hpp"

#include "net/bridge.hpp"

#include <atomic>
#include <csignal>
#include <poll.h>
#include <string_view>
#include <unistd.h>

namespace places::launcher {
namespace {

constexpr std::string_view on_nursery = "places: the end is given up: the nursery hangs\n";
constexpr std::string_view on_bridge = "places: the end is given up: the bridge hangs\n";

// Read by the signal handler, which is given nothing but the signal's number.
std::atomic<bool> awaits_bridge = false;
static_assert(std::atomic<bool>::is_always_lock_free);

/// Nobody may read what this process says.
extern "C" void give_up(int) {
    // relaxed: only this one bit.
    const auto said = awaits_bridge.load(std::memory_order_relaxed) ? on_bridge : on_nursery;
    pollfd room{STDERR_FILENO, POLLOUT, 0};
    if (::poll(&room, 1, 0) > 0) (void)!::write(STDERR_FILENO, said.data(), said.size());
    ::_exit(given_up_status);
}

}  // namespace

void limit_end() noexcept {
    struct sigaction act {};
    act.sa_handler = give_up;
    ::sigaction(SIGALRM, &act, nullptr);
    sigset_t alarm_only;
    ::sigemptyset(&alarm_only);
    ::sigaddset(&alarm_only, SIGALRM);
    ::pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
    // An alarm, not a thread: it comes also where no thread can be made, or takes its turn.
    if (const auto left = ::alarm(static_cast<unsigned>(end_limit.count()))) ::alarm(left);
}

void end_in_order(const std::function<void()>& end_places, channel& bridge) {
    end_places();
    awaits_bridge.store(true, std::memory_order_relaxed);  // relaxed: as above
    (void)bridge.put(net::bridge_request{net::finish{}});
    // It hangs up when all is forwarded, and ends.
    while (bridge.receive()) {
    }
    awaits_bridge.store(false, std::memory_order_relaxed);  // relaxed: as above
}

}  // namespace places::launcher
