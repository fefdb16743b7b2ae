// SPDX-License-Identifier: Apache-2.0
// Channels between two processes, while both live and when one dies; select over several.
#include "tests/support/halt.hpp"
#include "tests/support/node_main.hpp"
#include "tests/support/sanitized.hpp"
#include "own_rings.hpp"
#include "processes.hpp"

#include "core/process.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <numeric>
#include <sched.h>
#include <sstream>
#include <sys/mman.h>
#include <system_error>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using places::after;
using places::channel;
using places::errc;
using places::spawn;
using places::status;

/// As large as is asked for.
struct measured {
    std::string repeat(std::string text, std::size_t count) {
        std::string all;
        while (count-- > 0) all += text;
        return all;
    }
};
PLACES_SERVER(measured, (rpc, repeat))

namespace {

constexpr std::size_t small_ring = 4096;

void echo(channel& c) {
    while (auto m = c.receive()) {
        if (c.send(*m) != status::ok) return;
    }
}

/// Reads nothing until there is nothing more to be written by the creator without it.
void await_undelivered(channel& c, std::uint64_t count) {
    while (c.received().undelivered < count) ::sched_yield();
}

struct point {
    int x = 0;
    int y = 0;
    friend bool operator==(const point&, const point&) = default;
};

template <class T>
bool survives_echo(channel& c, const T& v) {
    if (c.put(v) != status::ok) return false;
    const auto back = c.get<T>();
    return back.has_value() && *back == v;
}

std::vector<std::byte> octets(std::size_t count) {
    return std::vector<std::byte>(count, std::byte{7});
}

}  // namespace

TEST(channel, carries_messages_of_every_kind_unchanged) {
    auto p = spawn(echo);
    EXPECT_TRUE(survives_echo(p, 5));
    EXPECT_TRUE(survives_echo(p, 0.5));
    EXPECT_TRUE(survives_echo(p, true));
    EXPECT_TRUE(survives_echo(p, std::string()));
    EXPECT_TRUE(survives_echo(p, std::string("text")));
    EXPECT_TRUE(survives_echo(p, point{3, 4}));
    EXPECT_TRUE(survives_echo(p, octets(0)));
    EXPECT_TRUE(survives_echo(p, octets(p.record_bytes_max())));
    EXPECT_TRUE(survives_echo(p, std::vector<std::string>{"a", "bb"}));
    EXPECT_TRUE(survives_echo(p, std::make_tuple(1, std::string("two"), 3.0)));
    EXPECT_TRUE(survives_echo(p, places::value("three")));
}

TEST(channel, sends_a_literal_as_a_string_however_it_is_put) {
    auto p = spawn({.ring_bytes = small_ring}, echo);
    const auto next = [&p] { return p.get<std::string>().value(); };
    ASSERT_EQ(p.put("literal"), status::ok);
    EXPECT_EQ(next(), "literal");
    ASSERT_EQ(p.try_put(""), status::ok);
    EXPECT_EQ(next(), "");
    ASSERT_EQ(p.put_for("for a while", 10s), status::ok);
    EXPECT_EQ(next(), "for a while");
    const char* text = "by its address";
    ASSERT_EQ(p.put(text), status::ok);
    EXPECT_EQ(next(), text);
    const char padded[16] = "padded";
    ASSERT_EQ(p.put(padded), status::ok);
    EXPECT_EQ(next(), "padded");
    const char names[3][8] = {"one", "two", "three"};
    using name = const char[8];
    ASSERT_EQ(p.put_batch(std::span<name>{names}).count, 3U);
    for (const auto& each : names) EXPECT_EQ(next(), each);
    const char* const lines[] = {"first", "second"};
    ASSERT_EQ(p.put_batch(std::span<const char* const>{lines}).count, 2U);
    for (const auto* each : lines) EXPECT_EQ(next(), each);
    ASSERT_EQ(p.put(std::tuple{"key", 7}), status::ok);
    EXPECT_EQ((p.get<std::tuple<std::string, int>>().value()), (std::tuple{"key", 7}));
    ASSERT_EQ(p.put("as a value"), status::ok);
    EXPECT_EQ(p.get().value(), places::value("as a value"));
}

TEST(channel, takes_a_literal_as_an_argument_and_as_an_answer) {
    auto p = spawn(
        [](places::inbox& in, const std::string& text) {
            while (auto item = in.get()) (void)item->from.put("reply");
            return text == "argument" ? 3 : 4;
        },
        "argument");
    ASSERT_EQ(p.put("question"), status::ok);
    EXPECT_EQ(p.get<std::string>().value(), "reply");
    p.close();
    EXPECT_EQ(p.wait().value, 3);
    auto c = places::spawn_server<measured>();
    EXPECT_EQ(c.repeat("ab", 2), "abab");
}

TEST(channel, keeps_the_order_of_ten_thousand_messages_through_a_small_ring) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        for (int i = 0; i < 10'000; ++i) {
            if (c.get<int>().value() != i) return 1;
        }
        return 0;
    });
    for (int i = 0; i < 10'000; ++i) ASSERT_EQ(p.put(i), status::ok);
    EXPECT_EQ(p.wait().value, 0);
}

TEST(channel, holds_a_put_back_until_the_reader_makes_room) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        int count = 0;
        (void)c.receive();  // not before the ring was full
        while (c.get<int>()) ++count;
        return count == 200 ? 0 : 1;
    });
    ASSERT_EQ(p.put(std::string("begin")), status::ok);
    for (int i = 0; i < 200; ++i) ASSERT_EQ(p.put(i), status::ok);
    p.close();
    EXPECT_EQ(p.wait().value, 0);
}

TEST(channel, says_full_and_timeout_while_nobody_reads) {
    auto p = spawn({.ring_bytes = small_ring}, never_ends);
    int sent = 0;
    while (p.try_put(sent) == status::ok) ++sent;
    EXPECT_GT(sent, 0);
    EXPECT_EQ(p.try_put(0), status::full);
    EXPECT_EQ(p.put_for(0, 1ms), status::timeout);
    EXPECT_EQ(p.sent().accepted, static_cast<std::uint64_t>(sent));
    p.kill();
}

TEST(channel, says_empty_and_timeout_while_nobody_writes) {
    auto p = spawn(echo);
    EXPECT_EQ(p.try_get<int>().error(), errc::empty);
    EXPECT_EQ(p.get_for<int>(1ms).error(), errc::timeout);
    EXPECT_EQ(p.receive(channel::clock::now() + 1ms).error(), errc::timeout);
}

TEST(channel, takes_limits_that_no_clock_can_count) {
    auto p = spawn(echo);
    ASSERT_EQ(p.put_for(1, std::chrono::hours::max()), status::ok);
    EXPECT_EQ(p.get_for<int>(std::chrono::hours::max()).value(), 1);
    ASSERT_EQ(p.put_for(2, std::chrono::nanoseconds::max()), status::ok);
    EXPECT_EQ(p.get_for<int>(std::chrono::duration<double>(1e300)).value(), 2);
}

TEST(channel, leaves_a_message_of_another_type_where_it_is) {
    auto p = spawn(echo);
    ASSERT_EQ(p.put(std::string("text")), status::ok);
    EXPECT_EQ(p.get<int>().error(), errc::wrong_type);
    EXPECT_EQ(p.get<std::vector<double>>().error(), errc::wrong_type);
    EXPECT_EQ(p.get<std::string>().value(), "text");
}

/// Words that tell where they lie.
std::vector<std::byte> numbered(std::size_t size) {
    std::vector<std::byte> all(size);
    for (std::uint64_t at = 0; at + 8 <= size; at += 8) std::memcpy(&all[at], &at, 8);
    return all;
}

TEST(channel, carries_the_largest_message_there_is_and_nothing_larger) {
    if (is_sanitized) GTEST_SKIP() << "256 MiB octet by octet: nothing that a sanitizer would see";
    constexpr auto most = places::max_message_bytes_default;
    auto p = spawn([](channel& c) {
        const auto all = c.get<std::vector<std::byte>>();
        (void)c.put(all && *all == numbered(most));
    });
    auto all = numbered(most);
    ASSERT_EQ(p.put(all), status::ok);
    EXPECT_EQ(p.sent().accepted, 1U);
    EXPECT_TRUE(p.get<bool>().value());
    all.resize(most + 1);
    EXPECT_EQ(p.put(all), status::too_large);
    EXPECT_EQ(p.sent().accepted, 1U);
}

TEST(channel, whoever_throws_too_large_tells_size_and_limit) {
    auto c = places::spawn_server<measured>();
    c.link().set_message_bytes_max(4000);
    const auto text =
        text_of_error(errc::too_large, [&] { (void)c.repeat(std::string(5000, 'x'), 1); });
    const auto size = std::strtoul(text.c_str() + text.find('(') + 1, nullptr, 10);
    EXPECT_GT(size, 5000U) << text;
    EXPECT_LT(size, 5200U) << text;
    EXPECT_NE(text.find(" bytes, and at most 4000)"), std::string::npos) << text;
    EXPECT_NE(text.find("measured::repeat"), std::string::npos) << text;
    EXPECT_EQ(c.repeat("ab", 2), "abab");
}

TEST(channel, a_server_whose_answer_is_too_large_tells_size_and_limit) {
    places::client<measured, places::place> c{spawn([](places::inbox& in) {
        in.creator().set_message_bytes_max(3000);
        return places::detail::run_server<measured>(nullptr, in);
    })};
    const auto text = text_of_error(errc::remote_error, [&] { (void)c.repeat("x", 5000); });
    EXPECT_NE(text.find("repeat is 5"), std::string::npos) << text;
    EXPECT_NE(text.find(" bytes, and at most 3000 go"), std::string::npos) << text;
    EXPECT_EQ(c.repeat("ab", 2), "abab");
}

TEST(channel, sends_nothing_of_a_message_that_is_too_large) {
    auto p = spawn({.ring_bytes = small_ring}, echo);
    p.set_message_bytes_max(100'000);
    EXPECT_EQ(p.put(octets(100'001)), status::too_large);
    EXPECT_EQ(p.put_for(octets(100'001), 1s), status::too_large);
    EXPECT_EQ(p.try_put(octets(small_ring)), status::too_large);  // for a ring never so empty
    EXPECT_EQ(p.loan(p.record_bytes_max() + 1).error(), errc::too_large);
    EXPECT_EQ(p.add_loan(p.record_bytes_max() + 1).error(), errc::too_large);
    p.set_message_bytes_max(100);
    EXPECT_EQ(p.loan(101).error(), errc::too_large);
    EXPECT_EQ(p.add_loan(101).error(), errc::too_large);
    p.set_message_bytes_max(100'000);
    EXPECT_EQ(p.sent().accepted, 0U);
    EXPECT_TRUE(survives_echo(p, octets(100'000)));
    EXPECT_TRUE(survives_echo(p, 1));
}

/// Addresses of `size` bytes with no memory behind them: whoever reads one dies.
class untouched {
  public:
    explicit untouched(std::size_t size)
        : size_(size),
          at_(::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
        if (at_ == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
    }
    ~untouched() { ::munmap(at_, size_); }
    untouched(const untouched&) = delete;
    untouched& operator=(const untouched&) = delete;
    std::span<const std::byte> first(std::size_t size) const {
        return {static_cast<const std::byte*>(at_), size};
    }

  private:
    std::size_t size_;
    void* at_;
};

TEST(channel, refuses_what_is_over_its_limit_before_it_looks_at_it) {
    constexpr std::size_t two_gib = std::size_t{1} << 31;
    const untouched memory{2 * two_gib + 2};
    auto p = spawn(echo);
    const auto refuses = [&p](std::span<const std::byte> octets) {
        EXPECT_EQ(p.put(octets), status::too_large) << octets.size();
        EXPECT_EQ(p.try_put(octets), status::too_large) << octets.size();
        EXPECT_EQ(p.put_for(octets, 1h), status::too_large) << octets.size();
        const std::span<const std::span<const std::byte>> batch{&octets, 1};
        EXPECT_EQ(p.put_batch(batch).state, status::too_large) << octets.size();
        EXPECT_EQ(p.loan(octets.size()).error(), errc::too_large) << octets.size();
        EXPECT_EQ(p.add_loan(octets.size()).error(), errc::too_large) << octets.size();
        EXPECT_TRUE(survives_echo(p, octets.size())) << octets.size();
    };
    const auto limit = p.message_bytes_max();
    for (const auto size : {limit + 1, two_gib - 1, two_gib, two_gib + 1, 2 * two_gib - 1,
                            2 * two_gib, 2 * two_gib + 1}) {
        refuses(memory.first(size));
    }
    // The limit itself may be as large.
    for (const auto size : {two_gib - 1, two_gib + 1, 2 * two_gib}) {
        p.set_message_bytes_max(size);
        refuses(memory.first(size + 1));
    }
}

TEST(channel, takes_sizes_up_to_every_limit_and_not_one_more) {
    auto p = spawn({.ring_bytes = small_ring}, echo);
    constexpr std::size_t most = 3 * small_ring;
    p.set_message_bytes_max(most);
    for (const auto size :
         {std::size_t{0}, std::size_t{1}, p.record_bytes_max() - 1, p.record_bytes_max(),
          p.record_bytes_max() + 1, small_ring - 1, small_ring, small_ring + 1, most - 1, most}) {
        EXPECT_TRUE(survives_echo(p, octets(size))) << size;
    }
    EXPECT_EQ(p.put(octets(most + 1)), status::too_large);
    EXPECT_TRUE(survives_echo(p, 1));
}

TEST(channel, says_too_large_where_a_message_is_put_that_the_other_end_does_not_take) {
    for (const std::size_t limit : {100, 5000, 100'000}) {
        auto p = spawn(
            {.ring_bytes = small_ring},
            [](channel& c, std::size_t most) {
                c.set_message_bytes_max(most);
                (void)c.put(true);
                echo(c);
            },
            limit);
        ASSERT_TRUE(p.get<bool>().value());
        EXPECT_EQ(p.message_bytes_max(), places::max_message_bytes_default);
        EXPECT_EQ(p.sendable_bytes_max(), limit);
        EXPECT_EQ(p.put(octets(limit + 1)), status::too_large);
        EXPECT_EQ(p.try_put(octets(limit + 1)), status::too_large);
        EXPECT_EQ(p.put_for(octets(limit + 1), 1h), status::too_large);
        const std::vector<std::vector<std::byte>> batch{octets(1), octets(limit + 1)};
        EXPECT_EQ(p.put_batch(std::span{batch}).count, 1U);
        EXPECT_EQ(p.get<std::vector<std::byte>>().value(), octets(1));
        EXPECT_EQ(p.loan(limit + 1).error(), errc::too_large);
        EXPECT_EQ(p.add_loan(limit + 1).error(), errc::too_large);
        EXPECT_TRUE(survives_echo(p, octets(limit)));
        EXPECT_EQ(p.sent().accepted, 3U);  // with the place's argument
    }
}

TEST(channel, passes_over_what_was_on_its_way_when_its_limit_was_lowered) {
    // In parts, in one record, in a pack: each over the limit, between two that are not.
    for (const std::size_t size : {50'000, 900, 200}) {
        auto p = spawn(
            [](channel& c, std::size_t count) {
                (void)c.put(1);
                const std::vector<std::vector<std::byte>> batch{octets(20), octets(count),
                                                                octets(30)};
                const bool all = c.put_batch(std::span{batch}).count == 3;
                (void)c.put(2);
                (void)c.get<bool>();
                return all ? 3 : 4;
            },
            size);
        await_undelivered(p, 5);
        p.set_message_bytes_max(100);
        EXPECT_EQ(p.get<int>().value(), 1);
        EXPECT_EQ(p.get<std::vector<std::byte>>().value(), octets(20));
        EXPECT_EQ(places::select({&p}), 0U);
        EXPECT_EQ(p.get<std::vector<std::byte>>().error(), errc::too_large);
        EXPECT_EQ(p.get<std::vector<std::byte>>().value(), octets(30));
        EXPECT_EQ(p.get<int>().value(), 2);
        EXPECT_TRUE(p.is_open());
        EXPECT_EQ(p.corrupt_at(), std::nullopt);
        EXPECT_EQ(p.received().delivered, 5U);
        ASSERT_EQ(p.put(true), status::ok);
        EXPECT_EQ(p.wait().value, 3);
    }
}

TEST(channel, tells_of_a_message_over_its_limit_in_order_behind_a_batch) {
    auto p = spawn([](channel& c) {
        const std::vector<std::string> all{"a", std::string(300, 'b'), "c"};
        (void)c.put_batch(std::span{all});
        (void)c.get<bool>();
    });
    await_undelivered(p, 3);
    p.set_message_bytes_max(100);
    std::vector<std::string> into(3);
    EXPECT_EQ(p.get_batch(std::span{into}).value(), 1U);
    EXPECT_EQ(into[0], "a");
    EXPECT_EQ(p.get_batch(std::span{into}).error(), errc::too_large);
    EXPECT_EQ(p.get_batch(std::span{into}).value(), 1U);
    EXPECT_EQ(into[0], "c");
}

TEST(channel, passes_over_a_message_that_is_skipped) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        (void)c.put(1);
        (void)c.put(octets(50'000));
        (void)c.put(std::vector<std::string>{"x"});
        (void)c.put(2);
        (void)c.get<bool>();
    });
    EXPECT_EQ(p.get<std::string>().error(), errc::wrong_type);
    EXPECT_EQ(p.skip(), status::ok);
    EXPECT_EQ(p.skip(), status::ok);
    EXPECT_EQ(p.skip_for(10s), status::ok);
    EXPECT_EQ(p.get<int>().value(), 2);
    EXPECT_EQ(p.try_skip(), status::empty);
    EXPECT_EQ(p.skip_for(1ms), status::timeout);
    EXPECT_EQ(p.received().delivered, 4U);
    ASSERT_EQ(p.put(true), status::ok);
    EXPECT_EQ(p.skip(), status::closed);
    EXPECT_EQ(channel{}.skip(), status::closed);
}

TEST(channel, says_what_came_instead_of_what_was_asked_for) {
    auto p = spawn(echo);
    ASSERT_EQ(p.put("abc"), status::ok);
    EXPECT_EQ(p.get<int>().error().message(),
              "the message is of another type: expected int, got string \"abc\"");
    EXPECT_EQ(text_of_error(errc::wrong_type, [&] { (void)p.get<point>().value(); }),
              "the message is of another type: expected point, got string \"abc\"");
    EXPECT_EQ(p.get<std::string>().value(), "abc");
}

/// The most memory that this process has had in use.
std::size_t peak_kib() {
    std::ifstream file("/proc/self/status");
    for (std::string word; file >> word;) {
        if (word != "VmHWM:") continue;
        std::size_t kib = 0;
        file >> kib;
        return kib;
    }
    return 0;
}

TEST(channel, carries_256_mib_through_a_receiver_that_needs_no_more_than_a_message) {
    constexpr std::size_t message_bytes = std::size_t{4} << 20;
    constexpr int count = 64;
    auto p = spawn([](channel& c) {
        for (int i = 0; i < count; ++i) {
            const auto shown = c.peek();
            if (!shown || shown->size() != message_bytes) return;
            // Its ends tell it from the others; that parts are kept in order is shown above.
            if (shown->front() != std::byte(i) || shown->back() != std::byte(~i)) return;
            c.release();
        }
        (void)c.put(peak_kib());
    });
    std::vector<std::byte> octets(message_bytes);
    for (int i = 0; i < count; ++i) {
        octets.front() = std::byte(i);
        octets.back() = std::byte(~i);
        ASSERT_EQ(p.put(octets), status::ok);
    }
    const auto peak = p.get<std::size_t>();
    ASSERT_TRUE(peak) << "a message was not what it should be";
    std::printf("%zu MiB received, the receiver had %zu KiB at most\n", count * message_bytes >> 20,
                *peak);
    if (is_sanitized) GTEST_SKIP() << "a sanitizer's memory is not ours";
    EXPECT_GT(*peak, 0U);
    EXPECT_LE(*peak, std::size_t{64} << 10);
}

// -- messages larger than a record --

std::vector<std::byte> noise(std::size_t size) {
    std::vector<std::byte> all(size);
    std::uint32_t state = static_cast<std::uint32_t>(size) | 1;
    for (auto& b : all) b = static_cast<std::byte>((state = state * 1664525 + 1013904223) >> 24);
    return all;
}

TEST(channel, carries_messages_of_any_size_through_a_small_ring_in_order) {
    auto p = spawn({.ring_bytes = small_ring}, echo);
    const auto most = p.record_bytes_max();
    for (const auto size : {most - 8, most, most + 1, 2 * most - 8, 2 * most - 7, small_ring - 64,
                            small_ring, std::size_t{100'000}, std::size_t{5'000'000}}) {
        const auto large = noise(size);
        std::thread sender([&] {
            EXPECT_EQ(p.put(7), status::ok);
            EXPECT_EQ(p.put(large), status::ok);
            EXPECT_EQ(p.put(std::string(300, 'x')), status::ok);
        });
        sender.join();  // the echo takes a message whole before it sends one
        EXPECT_EQ(p.get<int>().value(), 7) << size;
        EXPECT_EQ(p.get<std::vector<std::byte>>().value(), large) << size;
        EXPECT_EQ(p.get<std::string>().value(), std::string(300, 'x')) << size;
    }
    const auto a = p.sent();
    EXPECT_EQ(a.accepted, 27U);
    EXPECT_EQ(p.received().delivered, 27U);
}

TEST(channel, shows_a_message_of_many_parts_as_one) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        (void)c.put(noise(50'000));
        (void)c.put(1);
        (void)c.get<int>();
    });
    EXPECT_EQ(p.get<int>().error(), errc::wrong_type);
    EXPECT_EQ(p.peek().value().size(), 50'000U);
    EXPECT_EQ(p.received().delivered, 0U);
    p.release();
    EXPECT_EQ(p.received().delivered, 1U);
    EXPECT_EQ(p.get<int>().value(), 1);
    EXPECT_EQ(p.put(1), status::ok);
}

TEST(channel, drops_what_was_begun_of_a_message_that_was_given_up) {
    auto p = spawn({.ring_bytes = small_ring}, echo);
    ASSERT_TRUE(survives_echo(p, 1));
    halt(p.pid());
    EXPECT_EQ(p.put_for(noise(100'000), 5ms), status::timeout);
    EXPECT_EQ(p.put_for(noise(200'000), 5ms), status::timeout);
    ASSERT_EQ(::kill(p.pid(), SIGCONT), 0);
    ASSERT_EQ(p.put(2), status::ok);
    EXPECT_EQ(p.get<int>().value(), 2);
    EXPECT_TRUE(survives_echo(p, noise(100'000)));
    EXPECT_EQ(p.sent().accepted, 3U);
}

TEST(channel, delivers_no_part_of_a_message_whose_sender_was_killed) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        (void)c.put(1);
        (void)c.put(noise(100'000'000));
    });
    EXPECT_EQ(p.get<int>().value(), 1);
    // In the midst of it: nobody else has taken its parts.
    EXPECT_EQ(p.get_for<std::vector<std::byte>>(2ms).error(), errc::timeout);
    ASSERT_EQ(::kill(p.pid(), SIGKILL), 0);
    EXPECT_EQ(p.get<std::vector<std::byte>>().error(), errc::peer_dead);
    EXPECT_EQ(p.received().delivered, 1U);
    EXPECT_EQ(p.received().undelivered, 0U);
}

TEST(channel, accounts_as_undelivered_for_a_large_message_whose_reader_was_killed) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) { (void)c.get<int>(), ::pause(); });
    ASSERT_EQ(p.put(1), status::ok);
    ASSERT_EQ(p.try_put(octets(3000)), status::ok);
    p.kill();
    const auto a = p.sent();
    EXPECT_EQ(a.accepted, 2U);
    EXPECT_EQ(a.accepted, a.delivered + a.undelivered);
    EXPECT_GE(a.undelivered, 1U);
}

TEST(channel, is_corrupt_when_parts_make_no_message) {
    const auto broken = [](int how) {
        auto p = spawn(
            {.ring_bytes = small_ring},
            [](channel& c, int way) {
                auto& raw = places::detail::state_of::get(c)->end().out();
                const auto first = static_cast<std::uint16_t>(places::shm::continues);
                const auto part = static_cast<std::uint16_t>(places::message_kind::part);
                std::vector<std::byte> head(100);
                head[0] = std::byte{200};  // of these 92 octets come first
                if (way == 0) (void)raw.try_put(part, 0, head);
                if (way == 1) (void)raw.try_put(part | first, 0, head);
                if (way == 2) head.assign(100, std::byte{0xff});
                if (way == 3) head.resize(7);
                if (way >= 2) (void)raw.try_put(first, 0, head);
                if (way == 4) (void)raw.try_put(part | first, 0, std::vector<std::byte>(108));
                if (way == 5) (void)raw.try_put(part, 0, std::vector<std::byte>(107));
                if (way == 6) (void)raw.try_put(part, 0, std::vector<std::byte>(109));
                (void)c.get<int>();
                return 3;
            },
            how);
        EXPECT_EQ(p.receive().error(), errc::corrupt) << how;
        EXPECT_EQ(p.receive().error(), errc::corrupt) << how;
        // Of the part that does not fit, behind one of 100 octets where that began well.
        EXPECT_EQ(p.corrupt_at(), how < 4 ? 0 : places::shm::span_of(100)) << how;
        EXPECT_EQ(p.wait().value, 3) << how;
    };
    for (int how = 0; how < 7; ++how) broken(how);
    places::client<measured, places::place> c{spawn([](channel& to) {
        (void)to.get<int>();
        auto& raw = places::detail::state_of::get(to)->end().out();
        (void)raw.try_put(static_cast<std::uint16_t>(places::message_kind::part), 0, octets(10));
    })};
    const auto text = text_of_error(errc::corrupt, [&] { (void)c.repeat("x", 1); });
    EXPECT_NE(text.find("(first at position 0)"), std::string::npos) << text;
}

// -- senders that break off --

namespace {

constexpr auto part_of = static_cast<std::uint16_t>(places::message_kind::part);

/// Begins a message of 128 MiB with `count` parts, and leaves it there.
void send_parts_without_end(channel& c, std::size_t count) {
    auto& raw = places::detail::state_of::get(c)->end().out();
    std::vector<std::byte> part(48);  // with its header it fills a line
    const std::uint64_t whole = 128 << 20;
    std::memcpy(part.data(), &whole, sizeof whole);
    for (std::size_t i = 0; i < count; ++i) {
        const auto what = static_cast<std::uint16_t>(places::shm::continues | (i ? part_of : 0));
        auto sent = status::full;
        while ((sent = raw.try_put(what, 0, part)) == status::full) ::sched_yield();
        if (sent != status::ok) return;
    }
}

void await_record(const channel& c) {
    while (!places::detail::state_of::get(c)->end().in().has_record()) ::sched_yield();
}

}  // namespace

TEST(channel, gives_every_call_that_receives_a_limit_and_a_form_that_does_not_wait) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        send_parts_without_end(c, 2);
        ::pause();
    });
    await_record(p);
    std::array<std::span<const std::byte>, 5> shown;
    std::vector<int> numbers(5);
    EXPECT_EQ(p.try_receive().error(), errc::empty);
    EXPECT_EQ(p.receive_for(1ms).error(), errc::timeout);
    EXPECT_EQ(p.try_peek().error(), errc::empty);
    EXPECT_EQ(p.peek_for(1ms).error(), errc::timeout);
    EXPECT_EQ(p.try_peek_batch(shown).error(), errc::empty);
    EXPECT_EQ(p.peek_batch_for(shown, 1ms).error(), errc::timeout);
    EXPECT_EQ(p.try_get_batch(numbers).error(), errc::empty);
    EXPECT_EQ(p.get_batch_for(numbers, 1ms).error(), errc::timeout);
    EXPECT_EQ(places::select({&p}, 1ms), std::nullopt);
    p.kill();
    EXPECT_EQ(p.try_peek().error(), errc::peer_dead);
    EXPECT_EQ(p.get_batch_for(numbers, 1ms).error(), errc::peer_dead);
}

TEST(channel, gives_every_call_that_sends_a_limit_and_a_form_that_does_not_wait) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        ::pause();
        (void)c.get<int>();
    });
    EXPECT_EQ(p.put_batch_for(std::vector<int>(1000, 5), 1ms).state, status::timeout);
    const auto accepted = p.sent().accepted;
    EXPECT_GT(accepted, 0U);
    EXPECT_EQ(p.try_put_batch({1, 2}).state, status::full);
    EXPECT_EQ(p.put_batch_for({1, 2}, 1ms).state, status::timeout);
    EXPECT_EQ(p.try_loan(8).error(), errc::full);
    EXPECT_EQ(p.loan_for(8, 1ms).error(), errc::timeout);
    EXPECT_EQ(p.loan_for(p.record_bytes_max() + 1, 1ms).error(), errc::too_large);
    const auto one = places::message::of(1);
    EXPECT_EQ(p.try_send(one), status::full);
    EXPECT_EQ(p.send_for(one, 1ms), status::timeout);
    EXPECT_EQ(p.sent().accepted, accepted);
    p.kill();
    EXPECT_EQ(p.try_loan(8).error(), errc::peer_dead);
    EXPECT_EQ(p.put_batch_for({1, 2}, 1ms).state, status::peer_dead);
}

namespace {

/// What a place and its creator agree by while their rings are broken. Mapped before main() forks
/// the nursery, so every place has it.
std::atomic<int>& step() {
    static auto* const word = static_cast<std::atomic<int>*>(
        ::mmap(nullptr, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    return *word;
}
const auto& step_before_main = step();

void await_step(int n) {
    while (step().load() != n) ::sched_yield();
}

enum class taken_back { tag, wholeness, end };

/// Sends a message, or closes, and takes it back from its own memory once that was seen.
void send_and_take_back(channel& c, int what) {
    const auto rings = writable_rings();
    const auto whole = std::ranges::max_element(rings, {}, &std::span<std::byte>::size);
    if (rings.empty()) return;
    auto* const header = whole->data();
    auto* const record = header + places::shm::header_bytes;
    if (what == static_cast<int>(taken_back::end)) {
        c.close();
    } else {
        (void)c.put(1);
    }
    await_step(1);
    if (what == static_cast<int>(taken_back::tag)) record[0] ^= std::byte{1};
    if (what == static_cast<int>(taken_back::wholeness)) {
        const auto continued = static_cast<std::uint16_t>(places::shm::continues);
        std::memcpy(record + offsetof(places::shm::record_header, kind), &continued, 2);
    }
    if (what == static_cast<int>(taken_back::end)) {
        std::memset(header + offsetof(places::shm::half_header, state), 0, 4);
    }
    step().store(2);
    ::pause();
}

/// Returns: what the next call says of a channel that was ready before that.
template <class See>
boost::system::error_code after_taking_back(taken_back what, See&& see) {
    step().store(0);
    auto p = spawn({.ring_bytes = small_ring}, send_and_take_back, static_cast<int>(what));
    see(p);
    step().store(1);
    await_step(2);
    EXPECT_EQ(places::select({&p}, 0s), 0U) << "ready is ready until a call has taken it";
    const auto next = p.try_get<int>();
    p.kill();
    return next ? boost::system::error_code{} : next.error();
}

}  // namespace

TEST(channel, that_was_ready_is_corrupt_when_its_sender_takes_the_message_back) {
    const auto by_select = [](channel& c) { ASSERT_EQ(places::select({&c}), 0U); };
    const auto by_set = [](channel& c) {
        places::channel_set set;
        set.add(c, 5);
        ASSERT_EQ(set.wait(), 5U);
    };
    const auto by_peek = [](channel& c) { ASSERT_TRUE(c.peek()); };
    const auto by_another_type = [](channel& c) {
        ASSERT_EQ(c.get<std::string>().error(), errc::wrong_type);
    };
    for (const auto what : {taken_back::tag, taken_back::wholeness}) {
        EXPECT_EQ(after_taking_back(what, by_select), errc::corrupt);
        EXPECT_EQ(after_taking_back(what, by_set), errc::corrupt);
        EXPECT_EQ(after_taking_back(what, by_peek), errc::corrupt);
        EXPECT_EQ(after_taking_back(what, by_another_type), errc::corrupt);
    }
}

TEST(channel, that_was_closed_stays_so_whatever_its_sender_writes) {
    const auto by_select = [](channel& c) { ASSERT_EQ(places::select({&c}), 0U); };
    EXPECT_EQ(after_taking_back(taken_back::end, by_select), errc::closed);
    const auto by_get = [](channel& c) { ASSERT_EQ(c.get<int>().error(), errc::closed); };
    EXPECT_EQ(after_taking_back(taken_back::end, by_get), errc::closed);
}

namespace {

/// Asks `is_ready` until the place, which sends parts of no message, has ended.
/// Returns: whether each time the next call had an answer.
template <class IsReady>
bool is_true_each_time(channel& p, IsReady&& is_ready) {
    while (true) {
        if (!is_ready()) continue;
        const auto next = p.try_peek();
        if (next || next.error() == errc::empty) return false;
        if (next.error() == errc::closed || next.error() == errc::peer_dead) return true;
    }
}

constexpr std::size_t many_parts = 20'000;

}  // namespace

TEST(select, names_no_channel_for_parts_whose_message_has_not_ended) {
    auto p = spawn({.ring_bytes = small_ring}, send_parts_without_end, many_parts);
    EXPECT_TRUE(is_true_each_time(p, [&] { return places::select({&p}, 0s).has_value(); }));
    auto q = spawn({.ring_bytes = small_ring}, send_parts_without_end, many_parts);
    EXPECT_TRUE(is_true_each_time(q, [&] { return places::select({&q}).has_value(); }));
    auto r = spawn({.ring_bytes = small_ring}, send_parts_without_end, many_parts);
    places::channel_set set;
    set.add(r, 3);
    EXPECT_TRUE(is_true_each_time(r, [&] { return set.try_wait().has_value(); }));
}

TEST(select, in_a_router_body_names_no_channel_for_parts_whose_message_has_not_ended) {
    test_runtime().route(after(0s, [&] {
        auto p = spawn({.ring_bytes = small_ring}, send_parts_without_end, many_parts);
        EXPECT_TRUE(is_true_each_time(p, [&] { return places::select({&p}).has_value(); }));
        auto q = spawn({.ring_bytes = small_ring}, send_parts_without_end, many_parts);
        places::channel_set set;
        set.add(q, 3);
        EXPECT_TRUE(is_true_each_time(q, [&] { return set.wait().has_value(); }));
        test_runtime().stop();
    }));
}

// -- batches --

TEST(channel, takes_a_batch_from_whatever_lies_in_a_row) {
    auto p = spawn(echo);
    std::vector<int> numbers{1, 2};
    EXPECT_EQ(p.put_batch(numbers).count, 2U);
    EXPECT_EQ(p.try_put_batch(std::array{3, 4, 5}).count, 3U);
    EXPECT_EQ(p.put_batch({6}).count, 1U);
    EXPECT_EQ(p.put_batch_for(std::span{numbers}.first(1), 1s).count, 1U);
    const double rational[]{0.5, 0.25};
    EXPECT_EQ(p.put_batch(rational).count, 2U);
    EXPECT_EQ(p.put_batch(std::vector<std::string>{"a", "b"}).count, 2U);
    EXPECT_EQ(p.put_batch(std::vector<int>{}).state, status::ok);
    std::vector<int> back(7);
    for (std::size_t have = 0; have < back.size();) {
        have += p.get_batch(std::span{back}.subspan(have)).value();
    }
    EXPECT_EQ(back, (std::vector{1, 2, 3, 4, 5, 6, 1}));
    std::array<double, 1> half{};
    EXPECT_EQ(p.get_batch(half).value(), 1U);
    EXPECT_EQ(half[0], 0.5);
    std::vector<double> quarter(1);
    EXPECT_EQ(p.get_batch_for(quarter, 10s).value(), 1U);
    EXPECT_EQ(quarter[0], 0.25);
    std::array<std::string, 1> text;
    EXPECT_EQ(p.get_batch(text).value(), 1U);
    EXPECT_EQ(text[0], "a");
    EXPECT_EQ(p.get_batch(std::span{text}).value(), 1U);
    EXPECT_EQ(text[0], "b");
    static_assert(!places::message_range<std::string> && !places::message_range<char[5]> &&
                  !places::message_range<std::vector<bool>>);
}

TEST(channel, carries_batches_of_any_type_in_order) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        std::vector<int> numbers(500);
        for (std::size_t have = 0; have < numbers.size();) {
            have += c.get_batch(std::span{numbers}.subspan(have)).value();
        }
        (void)c.put(numbers);
        std::vector<std::string> texts(4);
        for (std::size_t have = 0; have < texts.size();) {
            have += c.get_batch(std::span{texts}.subspan(have)).value();
        }
        (void)c.put(texts);
    });
    std::vector<int> numbers(500);
    std::iota(numbers.begin(), numbers.end(), 0);
    const auto sent = p.put_batch(std::span<const int>{numbers});
    EXPECT_EQ(sent.state, status::ok);
    EXPECT_EQ(sent.count, numbers.size());
    EXPECT_EQ(p.get<std::vector<int>>().value(), numbers);

    const std::vector<std::string> texts{"a", std::string(3000, 'b'), "c", std::string(700, 'd')};
    EXPECT_EQ(p.put_batch(std::span<const std::string>{texts}).count, 4U);
    EXPECT_EQ(p.get<std::vector<std::string>>().value(), texts);
    EXPECT_EQ(p.sent().delivered, 504U);
}

TEST(channel, says_how_much_of_a_batch_was_taken) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        ::pause();
        (void)c.get<int>();
    });
    const std::vector<int> many(1000, 5);
    const auto sent = p.try_put_batch(std::span<const int>{many});
    EXPECT_EQ(sent.state, status::full);
    // Each eighth of the ring is a pack, of 16 octets a number.
    ASSERT_EQ(small_ring, 4096U);
    EXPECT_EQ(sent.count, 8U * 27);
    EXPECT_EQ(p.sent().undelivered, sent.count);
    p.kill();
    EXPECT_EQ(p.put_batch(std::span<const int>{many}).state, status::peer_dead);
    EXPECT_EQ(p.sent().undelivered, sent.count);
}

TEST(channel, leaves_a_message_of_another_type_behind_a_batch_where_it_is) {
    auto p = spawn(echo);
    ASSERT_EQ(p.put(1), status::ok);
    ASSERT_EQ(p.put(2), status::ok);
    ASSERT_EQ(p.put(std::string("three")), status::ok);
    std::vector<int> numbers(10);
    std::size_t have = 0;
    while (have < 2) have += p.get_batch(std::span{numbers}.subspan(have)).value();
    EXPECT_EQ(have, 2U);
    EXPECT_EQ(p.get_batch(std::span{numbers}).error(), errc::wrong_type);
    EXPECT_EQ(p.get<std::string>().value(), "three");
    EXPECT_EQ(p.try_get_batch(std::span{numbers}).error(), errc::empty);
}

TEST(channel, leaves_alone_what_a_batch_shows_until_it_is_released) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        (void)c.put(octets(100));
        (void)c.put(noise(20'000));
        (void)c.put(5);
        (void)c.get<int>();
    });
    std::array<std::span<const std::byte>, 5> shown;
    ASSERT_EQ(p.peek_batch(shown).value(), 1U);
    const std::vector<std::byte> before(shown[0].begin(), shown[0].end());
    // Neither the look at what follows nor its sender touches what is shown, or drops what is not.
    for (int i = 0; i < 100; ++i) (void)places::select({&p}, 0s);
    EXPECT_TRUE(std::equal(before.begin(), before.end(), shown[0].begin(), shown[0].end()));
    EXPECT_EQ(before, octets(100));
    p.release();
    EXPECT_EQ(p.get<std::vector<std::byte>>().value(), noise(20'000));
    EXPECT_EQ(p.get<int>().value(), 5);
    EXPECT_EQ(p.received().delivered, 3U);
    EXPECT_EQ(p.put(1), status::ok);
}

namespace {

/// A place that has sent one small message and one in parts, the first of which is shown. The ring
/// holds all of both.
struct shown_before_parts {
    shown_before_parts() {
        // Three records: the parts count as one message, whose last may still be on its way.
        while (place.received().accepted < 2) {
        }
        EXPECT_EQ(place.peek_batch(shown).value(), 1U);
    }
    places::place place = spawn({.ring_bytes = 16 * small_ring}, [](channel& c) {
        (void)c.put(octets(100));
        (void)c.put(noise(20'000));
        (void)c.get<int>();
    });
    std::array<std::span<const std::byte>, 5> shown;
};

}  // namespace

TEST(channel, gives_back_what_a_batch_shows_to_whoever_receives_what_follows) {
    shown_before_parts p;
    EXPECT_EQ(p.place.get<std::vector<std::byte>>().value(), noise(20'000));
    EXPECT_EQ(p.place.received().delivered, 2U);
    shown_before_parts q;
    EXPECT_EQ(q.place.receive().value().as<std::vector<std::byte>>().value(), noise(20'000));
    shown_before_parts r;
    std::array<std::vector<std::byte>, 2> more;
    EXPECT_EQ(r.place.get_batch(std::span<std::vector<std::byte>>{more}).value(), 1U);
    EXPECT_EQ(more[0], noise(20'000));
}

TEST(channel, of_an_inbox_gives_back_what_it_shows_when_the_inbox_receives_what_follows) {
    auto p = spawn({.ring_bytes = 16 * small_ring}, [](places::inbox& in) {
        while (in.creator().received().accepted < 2) {
        }
        std::array<std::span<const std::byte>, 5> shown;
        if (in.creator().peek_batch(shown).value() != 1) return 1;
        const auto next = in.get();
        const bool is_right = next && next->content.as<std::vector<std::byte>>() == noise(20'000);
        return is_right && in.creator().put(1) == status::ok ? 0 : 2;
    });
    ASSERT_EQ(p.put(octets(100)), status::ok);
    ASSERT_EQ(p.put(noise(20'000)), status::ok);
    EXPECT_EQ(p.get<int>().value(), 1);
    EXPECT_EQ(p.wait(), (places::exit_status{false, 0}));
}

TEST(channel, calls_whoever_waits_for_what_lies_behind_a_batch_once_that_is_released) {
    shown_before_parts p;
    places::channel_set set;
    set.add(p.place, 7);
    EXPECT_EQ(set.wait(1ms), std::nullopt);  // parked, with all of it in the ring
    p.place.release();
    EXPECT_EQ(set.wait(), 7U);
}

TEST(channel, calls_the_bodies_that_wait_for_what_lies_behind_a_batch_once_that_is_released) {
    shown_before_parts p;
    bool has_come = false;
    test_runtime().route(after(0s,
                               [&] {
                                   has_come = places::select({&p.place}).has_value();
                                   test_runtime().stop();
                               }),
                         after(1ms, [&] {
                             EXPECT_FALSE(has_come);
                             p.place.release();
                         }));
    EXPECT_TRUE(has_come);
}

TEST(channel, drops_no_message_that_was_looked_at_behind_a_batch) {
    auto p = spawn(echo);
    ASSERT_EQ(p.put(octets(3)), status::ok);
    std::array<std::span<const std::byte>, 5> shown;
    ASSERT_EQ(p.peek_batch(shown).value(), 1U);
    ASSERT_EQ(p.put(octets(4)), status::ok);
    ASSERT_TRUE(places::select({&p}));
    p.release();
    EXPECT_EQ(p.get<std::vector<std::byte>>().value(), octets(4));
}

TEST(channel, gives_the_messages_of_a_batch_one_by_one_as_what_they_are) {
    auto p = spawn([](channel& c) {
        const std::vector<int> numbers{1, 2, 3, 4, 5};
        const std::vector<std::string> texts{"one", "two"};
        (void)c.get<int>();
        (void)c.put_batch(std::span<const int>{numbers});
        (void)c.put_batch(std::span<const std::string>{texts});
        (void)c.put(6);
        (void)c.get<int>();
    });
    ASSERT_EQ(p.put(0), status::ok);
    EXPECT_EQ(p.get<int>().value(), 1);
    const auto received = p.received();  // while the place goes on sending
    EXPECT_EQ(received.delivered, 1U);
    EXPECT_EQ(received.accepted, received.delivered + received.undelivered);
    EXPECT_EQ(p.get<std::string>().error(), errc::wrong_type);
    EXPECT_EQ(p.peek().value().size(), sizeof(int));
    p.release();
    EXPECT_EQ(p.receive().value().as<int>().value(), 3);
    ASSERT_TRUE(places::select({&p}));
    // As many as are ints, and no more.
    std::vector<int> more(10);
    EXPECT_EQ(p.get_batch(std::span{more}).value(), 2U);
    EXPECT_EQ(more[0], 4);
    EXPECT_EQ(more[1], 5);
    EXPECT_EQ(p.get_batch(std::span{more}).error(), errc::wrong_type);
    std::array<std::string, 5> texts;
    EXPECT_EQ(p.get_batch(std::span<std::string>{texts}).value(), 2U);
    EXPECT_EQ(texts[1], "two");
    EXPECT_EQ(p.get<int>().value(), 6);
    EXPECT_EQ(p.received().delivered, 8U);
}

struct alignas(16) wide {
    std::int64_t first;
    std::int64_t second;
    bool operator==(const wide&) const = default;
};

TEST(channel, gives_values_of_wider_alignment_than_a_batch_has) {
    auto p = spawn([](channel& c) {
        (void)c.put_batch(std::span<const wide>{std::vector<wide>{{1, 2}, {3, 4}, {5, 6}}});
        (void)c.get<int>();
    });
    EXPECT_EQ(p.get<wide>().value(), (wide{1, 2}));
    EXPECT_EQ(p.get<wide>().value(), (wide{3, 4}));
    std::array<wide, 3> more;
    EXPECT_EQ(p.get_batch(std::span<wide>{more}).value(), 1U);
    EXPECT_EQ(more[0], (wide{5, 6}));
}

TEST(channel, says_undelivered_of_a_batch_whose_receiver_died_in_the_midst_of_it) {
    auto p = spawn([](channel& c) {
        (void)c.get<int>();
        (void)c.put(1);
        never_ends();
    });
    const std::vector<int> numbers{1, 2, 3};
    ASSERT_EQ(p.put_batch(std::span<const int>{numbers}).count, 3U);
    EXPECT_EQ(p.get<int>().value(), 1);
    p.kill();
    EXPECT_EQ(p.put(1), status::peer_dead);
    EXPECT_EQ(p.sent().accepted, 3U);
    EXPECT_EQ(p.sent().undelivered, 3U);
}

TEST(channel, lends_room_for_a_batch_and_shows_one_in_place) {
    auto p = spawn(echo);
    for (int n = 1; n <= 3; ++n) {
        const auto room = p.add_loan(static_cast<std::size_t>(n)).value();
        std::fill(room.begin(), room.end(), static_cast<std::byte>(n));
    }
    EXPECT_EQ(p.sent().accepted, 0U);
    p.publish_batch();
    EXPECT_EQ(p.sent().accepted, 3U);
    std::size_t next = 1;
    while (next <= 3) {
        std::array<std::span<const std::byte>, 5> shown;
        const auto count = p.peek_batch(shown).value();
        for (std::size_t i = 0; i < count; ++i, ++next) {
            EXPECT_EQ(shown[i].size(), next);
            EXPECT_EQ(shown[i][0], static_cast<std::byte>(next));
        }
        p.release();
    }
    EXPECT_EQ(next, 4U);
    EXPECT_EQ(p.received().delivered, 3U);
}

TEST(channel, lends_room_whose_used_part_alone_is_sent) {
    auto p = spawn(echo);
    const auto room = p.loan(1000).value();
    EXPECT_EQ(room.size(), 1000U);
    std::fill(room.begin(), room.end(), std::byte{7});
    p.publish(10);
    EXPECT_EQ(p.get<std::vector<std::byte>>().value(), octets(10));
}

TEST(channel, shows_a_message_in_place_until_it_is_released) {
    auto p = spawn(echo);
    ASSERT_EQ(p.put(octets(3)), status::ok);
    ASSERT_EQ(p.put(octets(4)), status::ok);
    EXPECT_EQ(p.peek().value().size(), 3U);
    EXPECT_EQ(p.peek().value().size(), 3U);
    p.release();
    EXPECT_EQ(p.peek().value().size(), 4U);
    p.release();
    EXPECT_EQ(p.try_get<int>().error(), errc::empty);
}

TEST(channel, prints_what_became_of_its_messages_and_of_its_peer) {
    std::ostringstream out;
    out << std::hex << places::delivery{20, 12, 7, 1} << "; " << places::exit_status{false, 3}
        << "; " << places::exit_status{true, SIGKILL} << "; " << places::severity::warning;
    EXPECT_EQ(out.str(),
              "20 accepted, 12 delivered, 7 undelivered, 1 unknown; exit code 3; signal "
              "9 (Killed); warning");
}

TEST(channel, without_an_end_answers_closed) {
    channel none;
    EXPECT_FALSE(none);
    EXPECT_EQ(none.put(1), status::closed);
    EXPECT_EQ(none.get<int>().error(), errc::closed);
    EXPECT_EQ(none.loan(1).error(), errc::closed);
    EXPECT_EQ(none.peek().error(), errc::closed);
    EXPECT_FALSE(none.is_open());
    none.close();
}

TEST(channel, closed_here_takes_nothing_more) {
    auto p = spawn(never_ends);
    EXPECT_TRUE(p.is_open());
    p.close();
    p.close();
    EXPECT_FALSE(p.is_open());
    EXPECT_EQ(p.put(1), status::closed);
    EXPECT_EQ(p.try_put(1), status::closed);
    p.kill();
}

TEST(channel, delivers_what_was_sent_before_the_other_end_was_closed) {
    auto p = spawn([](channel& c) {
        for (int i = 0; i < 3; ++i) (void)c.put(i);
    });
    (void)p.wait();
    for (int i = 0; i < 3; ++i) EXPECT_EQ(p.get<int>().value(), i);
    EXPECT_EQ(p.get<int>().error(), errc::closed);
    EXPECT_EQ(p.get<int>().error(), errc::closed);
    EXPECT_NE(p.put(1), status::ok);
}

TEST(channel, delivers_what_was_sent_before_its_sender_was_killed) {
    auto p = spawn([](channel& c) {
        for (int i = 0; i < 3; ++i) (void)c.put(i);
        (void)::raise(SIGKILL);
    });
    (void)p.wait();
    for (int i = 0; i < 3; ++i) EXPECT_EQ(p.get<int>().value(), i);
    EXPECT_EQ(p.get<int>().error(), errc::peer_dead);
    EXPECT_EQ(p.get<int>().error(), errc::peer_dead);
    EXPECT_EQ(p.put(1), status::peer_dead);
    EXPECT_EQ(p.peer_status()->value, SIGKILL);
}

TEST(channel, believes_no_place_that_reports_its_own_death) {
    auto p = spawn([](channel& c) {
        places::detail::state_of::get(c)->report_death({.signalled = true, .value = 9});
        (void)c.put(1);
        (void)c.get<int>();
        return 5;
    });
    EXPECT_EQ(p.get<int>().value(), 1);
    EXPECT_FALSE(p.peer_status());
    ASSERT_EQ(p.put(1), status::ok);
    EXPECT_EQ(p.wait(), (places::exit_status{false, 5}));
}

TEST(channel, ends_a_blocked_get_when_the_sender_is_killed) {
    auto p = spawn(never_ends);
    auto killer = spawn([](int pid) { (void)::kill(pid, SIGKILL); }, p.pid());
    EXPECT_EQ(p.get<int>().error(), errc::peer_dead);
    EXPECT_TRUE(p.is_dead());
}

TEST(channel, ends_a_blocked_put_when_the_reader_is_killed) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        await_undelivered(c, small_ring / 64);
        (void)::raise(SIGKILL);
    });
    auto outcome = status::ok;
    while (outcome == status::ok) outcome = p.put(1);
    EXPECT_EQ(outcome, status::peer_dead);
}

TEST(channel, ends_a_blocked_put_when_the_reader_closes) {
    auto p = spawn({.ring_bytes = small_ring}, [](channel& c) {
        await_undelivered(c, small_ring / 64);
        c.close();
        never_ends();
    });
    auto outcome = status::ok;
    while (outcome == status::ok) outcome = p.put(1);
    EXPECT_EQ(outcome, status::closed);
    p.kill();
}

TEST(channel, accounts_for_every_message_to_a_place_that_was_killed) {
    auto p = spawn([](channel& c) {
        await_undelivered(c, 10);
        for (int i = 0; i < 3; ++i) (void)c.get<int>();
        (void)::raise(SIGKILL);
    });
    for (int i = 0; i < 10; ++i) ASSERT_EQ(p.put(i), status::ok);
    (void)p.wait();
    const auto sent = p.sent();
    EXPECT_EQ(sent.accepted, 10U);
    EXPECT_EQ(sent.delivered, 3U);
    EXPECT_EQ(sent.undelivered, 7U);
    EXPECT_EQ(sent.unknown, 0U);
}

TEST(channel, accounts_for_every_message_from_a_place_that_was_killed) {
    auto p = spawn([](channel& c) {
        for (int i = 0; i < 10; ++i) (void)c.put(i);
        (void)::raise(SIGKILL);
    });
    (void)p.wait();
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(p.get<int>());
    const auto got = p.received();
    EXPECT_EQ(got.accepted, 10U);
    EXPECT_EQ(got.delivered, 4U);
    EXPECT_EQ(got.undelivered, 6U);
    EXPECT_EQ(p.get<int>().value(), 4);
}

TEST(channel, can_be_moved_while_messages_wait_in_it) {
    auto p = spawn(echo);
    ASSERT_EQ(p.put(1), status::ok);
    auto q = std::move(p);
    EXPECT_EQ(q.get<int>().value(), 1);
    EXPECT_FALSE(p);
    EXPECT_EQ(p.put(1), status::closed);
}

TEST(select, tells_which_channel_has_a_message) {
    std::vector<places::place> all;
    std::vector<channel*> ends;
    for (int i = 0; i < 10; ++i) all.push_back(spawn(echo));
    for (auto& p : all) ends.push_back(&p);
    for (std::size_t i = 0; i < all.size(); ++i) {
        ASSERT_EQ(all[i].put(1), status::ok);
        ASSERT_EQ(places::select(ends), i);
        ASSERT_TRUE(all[i].get<int>());
    }
}

TEST(select, returns_nothing_when_its_time_has_passed) {
    auto p = spawn(echo);
    auto q = spawn(echo);
    EXPECT_EQ(places::select({&p, &q}, 1ms), std::nullopt);
    EXPECT_EQ(places::select({&p, &q}, 0ms), std::nullopt);
}

TEST(select, takes_turns_when_all_are_ready) {
    const auto talks = [](channel& c) {
        while (c.put(1) == status::ok) {
        }
    };
    auto p = spawn(talks);
    auto q = spawn(talks);
    auto r = spawn(echo);  // never ready
    ASSERT_TRUE(p.peek() && q.peek());
    std::vector<int> picked(3);
    for (int i = 0; i < 20; ++i) ++picked[places::select({&p, &q, &r}).value()];
    EXPECT_EQ(picked, (std::vector<int>{10, 10, 0}));
}

TEST(select, takes_turns_although_another_select_runs_in_between) {
    const auto talks = [](channel& c) {
        while (c.put(1) == status::ok) {
        }
    };
    auto p = spawn(talks);
    auto q = spawn(talks);
    auto s = spawn(talks);
    auto t = spawn(talks);
    ASSERT_TRUE(p.peek() && q.peek() && s.peek() && t.peek());
    std::vector<int> picked(2);
    for (int i = 0; i < 20; ++i) {
        ++picked[places::select({&p, &q}).value()];
        (void)places::select({&s, &t});
    }
    EXPECT_EQ(picked, (std::vector<int>{10, 10}));
}

TEST(select, counts_a_dead_or_closed_place_as_ready) {
    auto lives = spawn(echo);
    auto killed = spawn(never_ends);
    auto ends = spawn([](channel& c) { (void)c.get<int>(); });
    killed.kill();
    ASSERT_EQ(places::select({&lives, &killed, &ends}), 1U);
    EXPECT_EQ(killed.get<int>().error(), errc::peer_dead);
    ASSERT_EQ(ends.put(1), status::ok);
    EXPECT_EQ(places::select({&lives, &ends}), 1U);
    EXPECT_EQ(ends.get<int>().error(), errc::closed);
}

TEST(select, wakes_when_a_place_is_killed_meanwhile) {
    auto lives = spawn(echo);
    auto victim = spawn(never_ends);
    auto killer = spawn([](int pid) { (void)::kill(pid, SIGKILL); }, victim.pid());
    EXPECT_EQ(places::select({&lives, &victim}), 1U);
}

TEST(select, refuses_none_and_a_channel_without_an_end) {
    channel none;
    EXPECT_THROW((void)places::select({&none}), places::error);
    EXPECT_THROW((void)places::select(std::initializer_list<channel*>{}), places::error);
}
