// SPDX-License-Identifier: Apache-2.0
// Both ends of a channel for a test, and the processes and seeds that tests of shm need.
#pragma once

#include "tests/support/sanitized.hpp"

#include <places/shm/endpoint.hpp>
#include <places/shm/ready_set.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <poll.h>
#include <random>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <vector>

namespace places::shm {

/// Printed, and taken from PLACES_TEST_SEED to run a failed test again.
inline std::uint64_t test_seed() {
    const char* given = std::getenv("PLACES_TEST_SEED");
    const auto seed =
        given ? std::strtoull(given, nullptr, 0)
              : (std::uint64_t{std::random_device{}()} << 32 | std::random_device{}());
    std::printf("PLACES_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
    std::fflush(stdout);
    return seed;
}

/// How many rounds of a fault to try: all of them in the library as it is for use.
constexpr int rounds_of(int all, int under_a_sanitizer) {
    return is_sanitized ? under_a_sanitizer : all;
}

/// How many times as long as usual PLACES_TEST_SCALE asks the hunts to go on.
inline std::uint64_t test_scale() {
    const char* given = std::getenv("PLACES_TEST_SCALE");
    return given ? std::max(1ULL, std::strtoull(given, nullptr, 0)) : 1;
}

/// The two memories of a channel, as the nursery makes them.
struct channel_memory {
    explicit channel_memory(std::size_t capacity_bytes = ring_bytes_min, std::uint64_t id = 7)
        : first(create_half(id, capacity_bytes)),
          second(create_half(id, capacity_bytes)) {}

    unique_fd first;
    unique_fd second;
};

/// An end over memory that this process can write on both sides: for tests that play the peer.
class open_end final : private waker {
  public:
    open_end(const half_mapping& mine, const half_mapping& theirs)
        : out_({mine.header(), mine.data()}, {theirs.header(), theirs.data()}, mine.id(), *this),
          in_({mine.header(), mine.data()}, {theirs.header(), theirs.data()}, theirs.id(), *this),
          mine_(mine),
          theirs_(theirs) {}

    producer& out() noexcept { return out_; }
    consumer& in() noexcept { return in_; }
    void shut(half_state why) noexcept {
        shut_half({mine_.header(), mine_.data()}, {theirs_.header(), theirs_.data()}, why, *this);
    }
    void set_peer_doorbell(int fd) noexcept { peer_doorbell_ = fd; }
    watched_word bell() const noexcept {
        const auto& word = theirs_.header()->bell;
        return {&word, word.load(std::memory_order_acquire)};
    }
    int wakes() const noexcept { return wakes_; }

  private:
    void wake(std::uint32_t park_word) noexcept override {
        ++wakes_;
        if ((park_word & 3) == static_cast<std::uint32_t>(park_mode::doorbell)) {
            if (peer_doorbell_ >= 0) ring_doorbell(peer_doorbell_, mine_.id().channel_id);
            return;
        }
        mine_.header()->bell.fetch_add(1, std::memory_order_release);
        wake_all(mine_.header()->bell);
    }

    producer out_;
    consumer in_;
    const half_mapping& mine_;
    const half_mapping& theirs_;
    int peer_doorbell_ = -1;
    int wakes_ = 0;
};

/// Two ends on one mapping of each memory: ThreadSanitizer knows nothing of aliases, so both
/// threads must use the same addresses.
struct open_pair {
    explicit open_pair(std::size_t capacity_bytes = ring_bytes_min)
        : memory(capacity_bytes),
          one(memory.first, access::read_write),
          two(memory.second, access::read_write) {}

    channel_memory memory;
    half_mapping one;
    half_mapping two;
    open_end a{one, two};
    open_end b{two, one};
};

/// Where the far end of a channel may sleep: on the bell, or on a ready set of its own.
struct bedside {
    park_mode mode = park_mode::futex;
    ready_set* calls = nullptr;

    void lie_until(const watched_word& bell) const {
        if (mode == park_mode::futex) {
            (void)sleep_until_changed({&bell, 1}, no_deadline);
            return;
        }
        pollfd fd{calls->native_handle(), POLLIN, 0};
        (void)::poll(&fd, 1, -1);
        (void)calls->take();
    }
    template <class End>
    void await_record(End& end) const {
        const auto bell = end.bell();
        end.in().park(mode);
        if (!end.in().is_ready()) lie_until(bell);
        end.in().unpark();
    }
    template <class End>
    void await_room(End& end, std::size_t bytes) const {
        const auto bell = end.bell();
        end.out().park(mode, bytes);
        if (end.out().has_room(bytes) == status::full) lie_until(bell);
        end.out().unpark();
    }
};

/// A forked process that runs `body`; its exit code is 1 when an EXPECT failed in it.
class child {
  public:
    template <class Body>
    explicit child(Body&& body) {
        std::fflush(nullptr);
        const auto parent = ::getpid();
        pid_ = ::fork();
        if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
        if (pid_ > 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) ::_exit(3);
        int code = 2;
        try {
            body();
            code = testing::Test::HasFailure() ? 1 : 0;
        } catch (const std::exception& e) {
            std::fprintf(stderr, "child: %s\n", e.what());
        }
        std::fflush(nullptr);
        ::_exit(code);
    }
    ~child() {
        if (pid_ <= 0) return;
        kill();
        (void)wait();
    }
    child(const child&) = delete;
    child& operator=(const child&) = delete;

    pid_t pid() const noexcept { return pid_; }
    void kill() const {
        if (pid_ > 0) ::kill(pid_, SIGKILL);  // kill(-1) would reach everybody
    }
    /// The wait status.
    int wait() {
        int how = 0;
        while (::waitpid(pid_, &how, 0) < 0 && errno == EINTR) {}
        pid_ = -1;
        return how;
    }

  private:
    pid_t pid_ = -1;
};

inline bool was_killed_by(int how, int signal) {
    return WIFSIGNALED(how) && WTERMSIG(how) == signal;
}

inline std::vector<std::byte> bytes_of(std::size_t size, int fill) {
    return std::vector<std::byte>(size, static_cast<std::byte>(fill));
}

inline std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline std::span<const std::byte> as_bytes(const std::string& text) {
    return std::as_bytes(std::span{text});
}

}  // namespace places::shm
