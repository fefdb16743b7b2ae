// SPDX-License-Identifier: Apache-2.0
// How the peers wait: it decides what they are measured as.
#include "bench/peers/peer.hpp"

#include "bench/process_pair.hpp"

#include <boost/interprocess/anonymous_shared_memory.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <gtest/gtest.h>

#include <atomic>
#include <ctime>
#include <memory>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace places::bench {
namespace {

double spent_ns(clockid_t clock) {
    timespec t{};
    ::clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

/// All threads' of a process.
double spent_ns_by(pid_t pid) {
    clockid_t clock;
    return ::clock_getcpuclockid(pid, &clock) == 0 ? spent_ns(clock) : 0;
}

constexpr double much_ns = 100e6;

/// What the near side's thread spends on waiting for a message. Where it spins, that comes once it
/// has spent much; where it sleeps, once the peer has.
double spent_on_waiting_ns(const peer& p, bool spins) {
    const link_options options{.size = 64, .spins = spins};
    const std::shared_ptr<link> between = p.make(options);
    const boost::interprocess::mapped_region page =
        boost::interprocess::anonymous_shared_memory(sizeof(std::atomic<pid_t>));
    auto& waiting = *new (page.get_address()) std::atomic<pid_t>{0};
    process_pair both(
        [&]() -> slice_body {
            const std::shared_ptr<end> mine = between->open(side::near);
            return [mine, &waiting](report& found) {
                std::vector<std::byte> message(64);
                const auto before = spent_ns(CLOCK_THREAD_CPUTIME_ID);
                waiting = ::getpid();
                mine->receive(message);
                found.per_second = spent_ns(CLOCK_THREAD_CPUTIME_ID) - before;
            };
        },
        {[&] {
            const auto mine = between->open(side::far);
            while (waiting == 0) std::this_thread::yield();
            const pid_t spender = spins ? waiting.load() : ::getpid();
            const auto before = spent_ns_by(spender);
            while (spent_ns_by(spender) - before < much_ns) {
            }
            mine->send(std::vector<std::byte>(64));
            while (true) ::pause();
        }});
    return both.run().per_second;
}

class bench_peers : public testing::TestWithParam<std::string> {};

TEST_P(bench_peers, waits_as_it_is_told) {
    for (const auto& p : peers()) {
        if (p.name != GetParam()) continue;
        if (!p.make || !p.can_sleep) GTEST_SKIP() << "it always polls";
        try {
            EXPECT_GE(spent_on_waiting_ns(p, true), much_ns / 2);
            EXPECT_LT(spent_on_waiting_ns(p, false), much_ns / 2);
        } catch (const std::exception& e) {
            // It needs a daemon, of which a machine has one at most.
            if (GetParam() != "iceoryx") throw;
            GTEST_SKIP() << e.what();
        }
    }
}

std::vector<std::string> names() {
    std::vector<std::string> all;
    for (const auto& p : peers()) all.emplace_back(p.name);
    return all;
}
INSTANTIATE_TEST_SUITE_P(each, bench_peers, testing::ValuesIn(names()),
                         [](const auto& name) { return name.param; });

}  // namespace
}  // namespace places::bench
