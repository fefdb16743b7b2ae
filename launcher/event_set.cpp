// SPDX-License-Identifier: Apache-2.0
#include "launcher/event_set.hpp"

namespace places::launcher {
namespace {

constexpr int source_bits = 2;
constexpr std::uint64_t source_mask = (1U << source_bits) - 1;

epoll_event event_of(std::uint64_t id, event_set::source from, std::uint32_t what) {
    epoll_event e{};
    e.events = what;
    e.data.u64 = id << source_bits | static_cast<std::uint64_t>(from);
    return e;
}

}  // namespace

event_set::event_set() : epoll_(checked_fd(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {}

void event_set::add(int fd, source from, std::uint64_t member_id) {
    auto e = event_of(member_id, from, EPOLLIN);
    checked(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &e), "watch a descriptor");
}

void event_set::want_room(int control_socket, std::uint64_t member_id, bool wanted) noexcept {
    auto e = event_of(member_id, source::control, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN);
    (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, control_socket, &e);
}

void event_set::remove(int fd) noexcept {
    (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

std::span<const event_set::event> event_set::wait(std::optional<std::chrono::milliseconds> limit) {
    std::array<epoll_event, turn_max> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                   limit ? static_cast<int>(limit->count()) : -1);
    if (count < 0) return {};  // a signal with a handler of the root's
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
        const std::uint64_t tag = events[i].data.u64;
        turn_[i] = {tag >> source_bits, static_cast<source>(tag & source_mask),
                    (events[i].events & EPOLLOUT) != 0};
    }
    return std::span{turn_}.first(static_cast<std::size_t>(count));
}

}  // namespace places::launcher
