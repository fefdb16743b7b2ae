// SPDX-License-Identifier: Apache-2.0
// Places that write noise over every page they may write: their half of each channel of theirs. The
// others must live, and go on talking to each other; the channel that is written over may end.
#include "tests/shm/pair.hpp"
#include "tests/support/node_main.hpp"
#include "own_rings.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <thread>
#include <vector>

using places::channel;
using places::connect_to_named_place;
using places::spawn;
using places::spawn_server;
using places::status;
using clock_type = std::chrono::steady_clock;

struct bystander {
    // Whatever comes: a scribbler's call may be well formed and of any number.
    std::int64_t twice(std::int64_t n) {
        return static_cast<std::int64_t>(2 * static_cast<std::uint64_t>(n));
    }
    std::string hail(const std::string& who) { return "hail " + who; }
};
PLACES_NAMED_SERVER(bystander, (rpc, twice), (rpc, hail))

namespace {

constexpr std::size_t small_ring = 4096;
constexpr std::size_t scribblers = 5;
constexpr std::chrono::seconds duration{60};

struct board {
    std::array<std::atomic<std::int64_t>, scribblers> begun_ns;  // 0: still honest
    std::atomic<bool> is_over;
};
/// Mapped before main() forks the nursery, so every place has it; scribblers spare it.
board& shared() {
    static auto* const page = static_cast<board*>(
        ::mmap(nullptr, sizeof(board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    return *page;
}
const auto& shared_before_main = shared();

std::int64_t now_ns() { return clock_type::now().time_since_epoch().count(); }

class noise {
  public:
    explicit noise(std::uint64_t seed) : random_(seed) {}
    std::uint64_t below(std::uint64_t limit) { return random_() % limit; }
    std::vector<std::byte> octets(std::size_t size) {
        std::vector<std::byte> all(size);
        for (auto& b : all) b = static_cast<std::byte>(random_());
        return all;
    }
    /// Writes over some bytes, or moves a number a little.
    void write_over(std::span<std::byte> memory) {
        const auto at = below(memory.size() / 8) * 8;
        auto word = random_();
        if (word % 4 == 0) {
            std::memcpy(&word, memory.data() + at, sizeof word);
            word += 64 * below(4) - 64 * below(4);
        }
        std::memcpy(memory.data() + at, &word, 1 + below(sizeof word));
    }

  private:
    std::mt19937_64 random_;
};

/// Speaks honestly for a while; then writes noise between what it says, for ever.
void scribble(channel& creator, std::size_t which, std::uint64_t seed) {
    noise n{seed};
    auto server = connect_to_named_place("bystander", small_ring);
    const auto at_once = channel::clock::time_point::min();
    const auto talk = [&] {
        const auto size = n.below(200);
        (void)creator.try_put(n.octets(size));
        (void)creator.try_put(std::string(size, 'x'));
        (void)creator.receive(at_once);
        (void)server.send(places::detail::make_request(n.below(9), "twice", std::int64_t{1}),
                          at_once);
        (void)server.send({places::message_kind::request, 0, n.octets(size)}, at_once);
        (void)server.receive(at_once);
    };
    for (int i = 0; i < 20; ++i) talk();
    const auto rings = writable_rings();
    if (rings.empty()) return;  // which its creator finds out
    // Everything, or what follows the header, or the header: what ends a channel at once hides what
    // would have ended it later.
    const auto focus = n.below(3);
    shared().begun_ns[which].store(now_ns());
    while (true) {
        for (auto writes = n.below(16); writes > 0; --writes) {
            auto ring = rings[n.below(rings.size())];
            if (focus == 1 && ring.size() > places::shm::header_bytes) {
                ring = ring.subspan(places::shm::header_bytes);
            }
            if (focus == 2) ring = ring.first(std::min<std::size_t>(ring.size(), 1024));
            n.write_over(ring);
        }
        talk();
    }
}

/// Third places: they talk to the server and to each other until all is over.
std::int64_t talk(channel& c) {
    auto server = connect_to_named_place<bystander>("bystander");
    std::int64_t calls = 0;
    while (!shared().is_over.load()) {
        if (server.twice(calls) != 2 * calls) return 1;
        if (c.put(calls) != status::ok || c.get<std::int64_t>().value() != calls) return 2;
        ++calls;
    }
    return c.put(-calls - 1) == status::ok ? 0 : 3;
}

struct tally {
    std::mutex mutex;
    std::map<std::string, int> ends;
    std::vector<std::int64_t> times_ns;
    int corrupt_here = 0;  // found by this end, which knows where
};

/// Starts a scribbler, talks with it until their channel ends or it has done its worst, and starts
/// the next.
void suffer(std::size_t which, std::uint64_t seed, tally& all) {
    std::mt19937_64 random{seed};
    while (!shared().is_over.load()) {
        shared().begun_ns[which].store(0);
        auto p = spawn({.ring_bytes = small_ring}, scribble, which, std::uint64_t{random()});
        p.set_message_bytes_max(1 << 20);
        std::string end;
        for (std::int64_t begun = 0; end.empty();) {
            if (begun == 0) begun = shared().begun_ns[which].load();
            const auto got = p.receive(channel::clock::now() + std::chrono::milliseconds{1});
            if (got) {
                (void)got->as<places::value>();
                (void)got->as<std::string>();
            } else if (got.error() != places::errc::timeout) {
                end = got.error().message();
            }
            const auto outcome = p.try_put(std::string(random() % 100, 'y'));
            if (outcome != status::ok && outcome != status::full) end = to_string(outcome);
            // A tag that is gone is silence, of which nobody can say more.
            if (end.empty() && begun != 0 && now_ns() > begun + 200'000'000) end = "silence";
        }
        const auto ended = now_ns();
        const auto begun = shared().begun_ns[which].load();
        ASSERT_NE(begun, 0) << "ended before it was written over: " << end;
        p.kill();
        const std::lock_guard lock{all.mutex};
        ++all.ends[end];
        if (p.corrupt_at()) ++all.corrupt_here;
        if (end != "silence") all.times_ns.push_back(ended - begun);
    }
}

TEST(scribbler, breaks_its_own_channels_and_nobody_else) {
    std::mt19937_64 random{places::shm::test_seed()};
    auto server = spawn_server<bystander>({.named = "bystander"});
    const auto server_life = pidfd_of(server.link().pid());
    std::array<places::place, 2> third{spawn(talk), spawn(talk)};
    tally all;
    {
        std::vector<std::jthread> sufferers;
        for (std::size_t which = 0; which < scribblers; ++which) {
            sufferers.emplace_back([&, which, seed = random()] { suffer(which, seed, all); });
        }
        const auto until = clock_type::now() + duration;
        for (std::int64_t n = 0; clock_type::now() < until; ++n) {
            ASSERT_EQ(server.twice(n), 2 * n);
            // Each third place waits for its number to come back.
            for (auto& p : third) {
                const auto number = p.get<std::int64_t>();
                ASSERT_TRUE(number) << number.error().message();
                ASSERT_EQ(p.put(*number), status::ok);
            }
        }
        shared().is_over.store(true);
    }
    std::int64_t calls = 0;
    for (auto& p : third) {
        auto number = p.get<std::int64_t>();
        while (number && *number >= 0) {
            (void)p.put(*number);
            number = p.get<std::int64_t>();
        }
        ASSERT_TRUE(number);
        calls += -*number - 1;
        EXPECT_EQ(p.wait(), (places::exit_status{false, 0}));
    }
    EXPECT_EQ(server.twice(21), 42);
    EXPECT_FALSE(has_ended(server_life));
    std::printf("%lld calls of third places\n", static_cast<long long>(calls));
    for (const auto& [end, count] : all.ends) std::printf("%5d: %s\n", count, end.c_str());
    ASSERT_FALSE(all.times_ns.empty()) << "no channel was ever broken";
    std::sort(all.times_ns.begin(), all.times_ns.end());
    int ends = 0;
    for (const auto& [end, count] : all.ends) ends += count;
    std::printf("%d were found corrupt here, with the position\n", all.corrupt_here);
    EXPECT_GT(all.corrupt_here, 0);
    std::printf("%d of %d channels fell silent, of which nobody can say more\n",
                all.ends["silence"], ends);
    std::printf("ended after: median %.2f ms, most %.2f ms\n",
                static_cast<double>(all.times_ns[all.times_ns.size() / 2]) / 1e6,
                static_cast<double>(all.times_ns.back()) / 1e6);
    server.link().kill();
}

}  // namespace
