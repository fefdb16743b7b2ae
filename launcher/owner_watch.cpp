// SPDX-License-Identifier: Apache-2.0
#include "launcher/owner_watch.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

namespace places::launcher {

owner_watch::owner_watch(rules r, int input, int output)
    : rules_(r),
      input_(input),
      output_(output),
      waker_(checked_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {}

void owner_watch::hold() {
    auto heard = clock::now();
    bool has_input = true;
    bool stays = false;
    constexpr auto not_alone = clock::time_point::max();
    auto alone_since = not_alone;
    int wait_ms = 0;
    while (true) {
        std::array<pollfd, 2> fds{pollfd{has_input ? input_ : -1, POLLIN, 0},
                                  pollfd{waker_.get(), POLLIN, 0}};
        (void)::poll(fds.data(), fds.size(), wait_ms);
        // What has come meanwhile counts before what has not: this process may have been stopped.
        bool is_wanted = true;
        if (fds[0].revents) {
            std::array<char, 4096> octets;
            const auto got = ::read(input_, octets.data(), octets.size());
            if (got > 0) {
                heard = clock::now();
                const char* const begin = octets.data();
                const char* const end = begin + got;
                is_wanted = std::find(begin, end, wanted_no_more) == end;
                const bool is_asked = std::find(begin, end, ask_stays) != end;
                stays |= rules_.is_detached && (is_asked || std::find(begin, end, may_stay) != end);
                if (stays && is_asked) write_stays_line();
            } else if (got == 0 || errno != EINTR) {
                has_input = false;
            }
        }
        if (fds[1].revents) {
            std::uint64_t count = 0;
            (void)!::read(waker_.get(), &count, sizeof count);
        }
        const auto [links, is_let_go] = [&] {
            const std::lock_guard lock(mutex_);
            return std::pair(links_, let_go_);
        }();
        while (is_let_go) ::pause();
        if (!is_wanted || (!has_input && !rules_.is_remote)) return;

        const auto now = clock::now();
        wait_ms = -1;
        const auto wait_until = [&](clock::time_point when) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(when - now).count();
            wait_ms = static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
        };
        if (!rules_.is_remote || stays) continue;
        const bool is_held =
            (links > 0 && !rules_.is_tunnelled) || (has_input && now - heard < rules_.silence);
        if (is_held) {
            alone_since = not_alone;
            if (has_input && heard + rules_.silence > now) wait_until(heard + rules_.silence);
            continue;
        }
        // What is silent has been gone since its last word.
        if (alone_since == not_alone) alone_since = has_input ? heard : now;
        if (now - alone_since >= rules_.grace) return;
        wait_until(alone_since + rules_.grace);
    }
}

void owner_watch::set_links(std::size_t count) {
    {
        const std::lock_guard lock(mutex_);
        links_ = count;
    }
    wake();
}

void owner_watch::let_go() {
    {
        const std::lock_guard lock(mutex_);
        let_go_ = true;
    }
    wake();
}

/// Not where it would wait for somebody to read.
void owner_watch::write_stays_line() const noexcept {
    pollfd room{output_, POLLOUT, 0};
    if (::poll(&room, 1, 0) <= 0) return;
    (void)!::write(output_, stays_line.data(), stays_line.size());
}

void owner_watch::wake() noexcept {
    const std::uint64_t one = 1;
    (void)!::write(waker_.get(), &one, sizeof one);
}

}  // namespace places::launcher
