// SPDX-License-Identifier: Apache-2.0
// The memory of channels: who makes it, when others get it, and what is refused.
#include "core/process.hpp"
#include "tests/support/node_main.hpp"
#include "tests/support/sanitized.hpp"
#include "processes.hpp"
#include "refused_call.hpp"

#include <places/shm/sealed_memory.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <string>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <variant>
#include <vector>

using places::channel;
using places::connect_to_named_place;
using places::errc;
using places::spawn;
using places::status;
using places::unique_fd;
namespace control = places::control;
namespace shm = places::shm;

namespace {

constexpr std::size_t small_ring = 4096;
constexpr int rounds = is_sanitized ? 100 : 500;

/// Whether the memory can be mapped writable by this descriptor or by one opened anew.
bool can_be_written(const unique_fd& memory, std::size_t size) {
    const auto maps = [size](int fd) {
        void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at != MAP_FAILED) ::munmap(at, size);
        return at != MAP_FAILED;
    };
    const auto path = "/proc/self/fd/" + std::to_string(memory.get());
    const unique_fd again{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
    const bool writes = again && ::pwrite(again.get(), "x", 1, shm::header_bytes) == 1;
    return maps(memory.get()) || (again && maps(again.get())) || writes;
}

/// The first memory of another process that comes to this one, taken out of the control socket.
unique_fd first_peer_memory() {
    const int socket = places::detail::process::current().control_handle();
    while (true) {
        auto next = control::receive(socket);
        if (!next) {
            ::sched_yield();
            continue;
        }
        if (std::holds_alternative<control::peer_memory>(next->packet.body)) {
            return std::move(next->fds.at(0));
        }
    }
}

/// Returns: 0 if the creator's memory cannot be written here, from the first moment on.
int tries_to_write_the_creators_memory() {
    const auto memory = first_peer_memory();
    return can_be_written(memory, shm::header_bytes + small_ring) ? 1 : 0;
}

void echo_all(places::inbox& in) {
    while (auto each = in.get()) {
        if (each->content.bytes().empty()) continue;
        if (each->from.send(each->content) != status::ok) return;
    }
}

bool answers(channel& c) { return c.put(5) == status::ok && c.get<int>().value() == 5; }

control::granted ask_for_channel(const std::string& name, std::vector<unique_fd>& fds) {
    auto answer = places::detail::process::current().request(control::connect{name, small_ring});
    fds = std::move(answer.fds);
    return std::get<control::granted>(answer.packet.body);
}

void share(const control::granted& grant, const unique_fd& memory) {
    control::send(places::detail::process::current().control_handle(),
                  {0, control::share_memory{grant.channel_id, grant.end}}, {memory.get()});
}

}  // namespace

TEST(memory, of_the_creator_is_sealed_before_a_place_has_it) {
    for (int round = 0; round < 200; ++round) {
        auto p = spawn({.ring_bytes = small_ring}, tries_to_write_the_creators_memory);
        ASSERT_EQ(p.wait(), places::exit_status{}) << round;
    }
}

TEST(memory, that_is_not_what_it_must_be_reaches_nobody) {
    auto server = spawn({.named = "memory-server"}, echo_all);
    struct wrong {
        const char* what;
        unique_fd memory;
    };
    std::vector<wrong> all;
    all.push_back({"not sealed", shm::create_half(1, small_ring)});
    all.push_back({"not 8192", shm::create_half(1, 2 * small_ring)});
    all.push_back({"pages are there",
                   places::checked_fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING),
                                      "memfd_create")});
    ASSERT_EQ(::ftruncate(all[2].memory.get(), shm::header_bytes + small_ring), 0);
    for (std::size_t i = 1; i < all.size(); ++i) {
        const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
        ASSERT_EQ(::fcntl(all[i].memory.get(), F_ADD_SEALS, seals), 0);
    }
    for (const auto& each : all) {
        std::vector<unique_fd> fds;
        const auto grant = ask_for_channel("memory-server", fds);
        share(grant, each.memory);
        await_nursery();
        auto end = places::detail::process::current().open(grant, std::move(fds));
        EXPECT_NE(end->refusal().find(each.what), std::string::npos) << end->refusal();
        channel c{std::move(end)};
        EXPECT_EQ(c.put(1), status::refused);
        const auto got = c.get<int>();
        EXPECT_EQ(got.error(), errc::refused);
        EXPECT_NE(got.error().message().find(each.what), std::string::npos)
            << got.error().message();
    }
    auto c = connect_to_named_place("memory-server", small_ring);
    EXPECT_TRUE(answers(c));
    server.kill();
}

TEST(memory, that_is_shared_a_second_time_changes_nothing) {
    auto server = spawn({.named = "memory-server"}, echo_all);
    std::vector<unique_fd> fds;
    const auto grant = ask_for_channel("memory-server", fds);
    channel c{places::detail::process::current().open(grant, std::move(fds))};
    const auto again = shm::create_half(grant.channel_id, small_ring);
    shm::seal_against_writers(again);
    share(grant, again);
    EXPECT_TRUE(answers(c));
    EXPECT_TRUE(answers(c));
    server.kill();
}

TEST(memory, is_shared_by_no_place_for_an_end_of_another) {
    auto server = spawn({.named = "memory-server"}, echo_all);
    // Both ends are granted, and neither has shared its memory yet.
    ASSERT_EQ(::kill(server.pid(), SIGSTOP), 0);
    std::vector<unique_fd> fds;
    const auto grant = ask_for_channel("memory-server", fds);
    auto liar = spawn(
        [](std::uint64_t id) {
            for (std::uint8_t end = 0; end < 3; ++end) {
                const auto memory = shm::create_half(id, small_ring);
                shm::seal_against_writers(memory);
                control::granted of_others;
                of_others.channel_id = id;
                of_others.end = end;
                share(of_others, memory);
            }
            await_nursery();
        },
        grant.channel_id);
    EXPECT_EQ(liar.wait(), places::exit_status{});
    ASSERT_EQ(::kill(server.pid(), SIGCONT), 0);
    channel c{places::detail::process::current().open(grant, std::move(fds))};
    EXPECT_TRUE(answers(c));
    EXPECT_TRUE(answers(server));
    server.kill();
}

TEST(memory, of_a_place_that_ends_at_once_still_comes) {
    for (int round = 0; round < 200; ++round) {
        auto p = spawn([](channel& c) { (void)c.put(7); });
        ASSERT_EQ(p.get<int>().value(), 7) << round;
        ASSERT_EQ(p.get<int>().error(), errc::closed) << round;
    }
}

// A kernel or container that refuses the sleep: the place that was asked for is not left behind.
TEST(memory, and_process_of_a_place_go_when_the_call_that_asks_for_it_throws) {
    const int nursery = nursery_pid();
    const auto count = [nursery] {
        const auto task = std::to_string(nursery);
        std::ifstream list("/proc/" + task + "/task/" + task + "/children");
        return std::distance(std::istream_iterator<int>{list}, std::istream_iterator<int>{});
    };
    const auto before = count();
    auto p = spawn([](channel& c) {
        refuse_system_call(SYS_futex_waitv);
        for (int tries = 0; tries < 1000; ++tries) {
            try {
                auto started = spawn(never_ends);  // may not have to sleep
                started.kill();
            } catch (const std::system_error& e) {
                (void)c.put(std::string(e.what()));
                ::pause();
            }
        }
    });
    EXPECT_NE(p.get<std::string>().value().find("futex_waitv"), std::string::npos);
    while (count() != before + 1) await_nursery();
    p.kill();
}

// Its handle could not wait for it, and was gone: nobody would ever end the place.
TEST(place, is_killed_by_its_handle_where_the_kernel_refuses_to_wait) {
    auto p = spawn([](channel& c) {
        {
            auto started = spawn(never_ends);
            (void)c.put(started.pid());
            (void)c.get<int>();
            refuse_system_call(SYS_futex_waitv);
        }
        (void)c.put(std::string("is destroyed"));
        ::pause();
    });
    const auto life = pidfd_of(p.get<int>().value());
    ASSERT_EQ(p.put(0), status::ok);
    EXPECT_EQ(p.get<std::string>().value(), "is destroyed");
    await_end(life);
    p.kill();
}

// What was put before the place has taken the connection up is read then.
TEST(memory, is_written_before_the_place_at_the_other_end_has_taken_it_up) {
    auto server = spawn({.named = "memory-server"}, [](places::inbox& in) {
        (void)in.creator().get<int>();  // until it may look at its connections
        int sum = 0;
        while (auto each = in.get()) {
            sum += each->content.as<int>().value();
            if (sum == 45) (void)each->from.put(sum);
        }
    });
    auto c = connect_to_named_place("memory-server", small_ring);
    for (int n = 0; n < 10; ++n) ASSERT_EQ(c.put(n), status::ok);
    EXPECT_EQ(c.try_get<int>().error(), errc::empty);
    ASSERT_EQ(server.put(0), status::ok);
    EXPECT_EQ(c.get<int>().value(), 45);
    server.kill();
}

TEST(memory, of_a_connection_is_as_large_as_its_place_allows) {
    auto server = spawn({.named = "memory-server"}, echo_all);
    const auto text =
        error_of([] { (void)connect_to_named_place("memory-server", std::size_t{1} << 30); });
    EXPECT_EQ(text.code(), errc::bad_argument);
    for (const auto* word : {"memory-server", "16 MiB", "1 GiB", "connection_ring_bytes_max"}) {
        EXPECT_NE(std::string(text.what()).find(word), std::string::npos) << text.what();
    }
    server.kill();
    auto small =
        spawn({.named = "memory-small", .connection_ring_bytes_max = small_ring}, echo_all);
    EXPECT_EQ(error_of([] { (void)connect_to_named_place("memory-small", 2 * small_ring); }).code(),
              errc::bad_argument);
    auto c = connect_to_named_place("memory-small", small_ring);
    EXPECT_TRUE(answers(c));
    small.kill();
}

// Its asker makes a large memory, and the place at the other end; the nursery makes none.
TEST(memory, costs_the_nursery_nothing_however_large_it_is) {
    const int nursery = nursery_pid();
    const auto before = count_descriptors(nursery);
    auto server =
        spawn({.named = "memory-server", .connection_ring_bytes_max = 128 << 20}, echo_all);
    auto c = connect_to_named_place("memory-server", 128 << 20);
    EXPECT_TRUE(answers(c));
    std::string maps;
    std::ifstream in("/proc/" + std::to_string(nursery) + "/maps");
    for (std::string line; std::getline(in, line);) {
        EXPECT_EQ(line.find("places-ring"), std::string::npos) << line;
    }
    // Of the server: its control socket, its doorbell, its pidfd. No memory is kept.
    await_nursery();
    EXPECT_EQ(count_descriptors(nursery), before + 3);
    server.kill();
}

// Packets of this process are taken by another thread too, as by any that calls the library.
class memory_beside_a_thread : public ::testing::Test {
  protected:
    ~memory_beside_a_thread() override {
        is_over_.store(true);
        taker_.join();
    }

  private:
    std::atomic<bool> is_over_ = false;
    std::thread taker_{[this] {
        while (!is_over_.load()) places::detail::process::current().pump();
    }};
};

TEST_F(memory_beside_a_thread, that_takes_its_packet_wakes_a_set) {
    auto server = spawn({.named = "greeter"}, [](places::inbox& in) {
        while (auto next = in.get_event()) {
            if (auto* opened = std::get_if<places::inbox::opened>(&*next))
                (void)opened->from.put(1);
        }
    });
    for (int i = 0; i < rounds; ++i) {
        auto c = connect_to_named_place("greeter", small_ring);
        places::channel_set set;
        set.add(c, 1);
        ASSERT_EQ(set.wait(), 1U);
        ASSERT_EQ(c.get<int>(), 1) << "round " << i;
    }
    server.kill();
}

TEST_F(memory_beside_a_thread, that_takes_its_packet_and_the_death_loses_no_message) {
    for (int i = 0; i < rounds; ++i) {
        auto server = spawn({.named = "dying"}, [](places::inbox& in) {
            if (auto next = in.get()) {
                for (int k = 0; k < 3; ++k) (void)next->from.put(k);
            }
            ::kill(::getpid(), SIGKILL);
        });
        auto c = connect_to_named_place("dying", small_ring);
        ASSERT_EQ(c.put(1), status::ok);
        int count = 0;
        while (c.get<int>()) ++count;
        ASSERT_EQ(count, 3) << "round " << i;
    }
}
