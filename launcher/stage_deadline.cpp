// SPDX-License-Identifier: Apache-2.0
#include "launcher/stage_deadline.hpp"

#include "launcher/node.hpp"
#include "net/keys.hpp"

#include <places/shm/unique_fd.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>
#include <unistd.h>
#include <utility>
#include <vector>

namespace places::launcher {
namespace {

using clock_type = std::chrono::steady_clock;

// An orderly error goes first; the signal is for what does not return.
constexpr std::chrono::milliseconds signal_delay{500};
constexpr std::chrono::milliseconds report_interval{500};
constexpr std::chrono::milliseconds goodbye_room{1000};

std::chrono::milliseconds limit_default() { return node_options{}.stage_deadline; }

/// The program may have begun one that it has not ended.
std::string line_of(std::string_view text) {
    std::string whole(1, '\n');
    return whole.append(text).append(1, '\n');
}

}  // namespace

stage_deadline::stage_deadline(std::chrono::milliseconds limit, int life)
    : limit_(limit),
      life_(life) {
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = [](int, siginfo_t* info, void*) {
        const auto* self = static_cast<const stage_deadline*>(info->si_value.sival_ptr);
        if (!self) return;
        (void)!::write(STDOUT_FILENO, self->timeout_line_.data(), self->timeout_line_size_);
        ::_exit(1);
    };
    checked(::sigaction(SIGALRM, &action, nullptr), "sigaction");
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGALRM;
    event.sigev_value.sival_ptr = this;
    checked(::timer_create(CLOCK_MONOTONIC, &event, &timer_), "timer_create");
}

stage_deadline::~stage_deadline() {
    ::timer_delete(timer_);
    ::signal(SIGALRM, SIG_IGN);
}

std::string stage_deadline::too_late() const {
    const auto* question = "; is the host up and the way to it free?";
    if (code_ == errc::load_failed) question = "; does its disk answer?";
    if (code_ == errc::auth_refused) question = "; does it wait for somebody?";
    const auto above =
        stage_limit_ == limit_ ? "" : ", above " + std::to_string(limit_default().count()) + " ms,";
    return "nothing moved for " + std::to_string(stage_limit_.count()) + " ms while " + what_ +
           question + " stage_deadline" + above + " allows for more time";
}

void stage_deadline::begin(errc code, std::string what, std::chrono::milliseconds most) {
    end();
    stage_limit_ = limit_ > limit_default() ? limit_ : std::min(limit_, most);
    code_ = code;
    say(std::move(what));
    reported_ = {};
    moved();
}

void stage_deadline::go_on(std::string what) {
    end();
    say(std::move(what));
    if (is_silent_) return;
    arm();
    reported_ = clock_type::now();
    write_line(std::string(stage_marker) + what_);
}

/// While the timer is off: its signal writes the last words.
void stage_deadline::say(std::string what) {
    what_ = net::printable(what, what.size());
    const auto words = line_of(std::string(failed_marker) +
                               std::to_string(static_cast<int>(code_)) + " " + too_late());
    timeout_line_size_ = std::min(words.size(), timeout_line_.size());
    std::memcpy(timeout_line_.data(), words.data(), timeout_line_size_);
    timeout_line_[timeout_line_size_ - 1] = '\n';
}

void stage_deadline::moved() {
    const auto now = clock_type::now();
    until_ = now + stage_limit_;
    if (is_silent_) return;
    arm();
    if (now - reported_ < report_interval) return;
    reported_ = now;
    write_line(std::string(stage_marker) + what_);
}

void stage_deadline::arm() {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until_ - clock_type::now());
    const auto after = std::max(left, std::chrono::milliseconds{0}) + signal_delay;
    itimerspec when{};
    when.it_value.tv_sec = after.count() / 1000;
    when.it_value.tv_nsec = after.count() % 1000 * 1'000'000;
    (void)::timer_settime(timer_, 0, &when, nullptr);
}

void stage_deadline::end() noexcept {
    const itimerspec never{};
    (void)::timer_settime(timer_, 0, &never, nullptr);
}

void stage_deadline::wait(std::span<pollfd> fds) {
    if (wait_until(fds, until_)) return;
    // The signal would cut short what now ends in order.
    end();
    throw error(code_, too_late());
}

bool stage_deadline::wait_part(std::span<pollfd> fds, std::size_t parts) {
    const auto now = clock_type::now();
    return wait_until(fds, now + (until_ - now) / static_cast<long>(parts));
}

void stage_deadline::pause(std::chrono::milliseconds duration) {
    (void)wait_until({}, std::min(clock_type::now() + duration, until_));
}

bool stage_deadline::wait_until(std::span<pollfd> fds, clock_type::time_point until) {
    std::vector<pollfd> all(fds.begin(), fds.end());
    all.push_back({life_, 0, 0});
    while (true) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock_type::now());
        if (left.count() <= 0) return false;
        const auto most = meanwhile_ ? std::min(left, meanwhile_interval_) : left;
        const int got = ::poll(all.data(), all.size(), static_cast<int>(most.count()));
        if (got < 0 && errno != EINTR) checked(got, "poll");
        if (got == 0 && meanwhile_) meanwhile_();
        if (got <= 0) continue;
        if (all.back().revents) throw launch_unwanted{};
        std::copy_n(all.begin(), fds.size(), fds.begin());
        return true;
    }
}

void stage_deadline::meanwhile(std::chrono::milliseconds interval, std::function<void()> what) {
    meanwhile_interval_ = interval;
    meanwhile_ = std::move(what);
}

bool stage_deadline::wait_for_room(int fd) {
    auto begun = clock_type::now();
    bool is_wanted = true;
    while (true) {
        std::array<pollfd, 2> all{pollfd{fd, POLLOUT, 0}, pollfd{is_wanted ? life_ : -1, 0, 0}};
        const auto most = is_wanted ? limit_ : std::min(limit_, goodbye_room);
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(begun + most - clock_type::now());
        const int got =
            ::poll(all.data(), all.size(), static_cast<int>(std::max<long>(left.count(), 0)));
        if (got < 0 && errno != EINTR) checked(got, "poll");
        if (got > 0 && all[0].revents) return true;
        if (got > 0) {
            is_wanted = false;
            begun = clock_type::now();
        }
        if (got != 0) continue;
        if (!is_wanted) throw launch_unwanted{};
        return false;
    }
}

void write_line(std::string_view line) noexcept {
    try {
        const auto whole = line_of(line);
        std::string_view left = whole;
        while (!left.empty()) {
            const auto written = ::write(STDOUT_FILENO, left.data(), left.size());
            if (written < 0 && errno != EINTR) return;
            if (written > 0) left.remove_prefix(static_cast<std::size_t>(written));
        }
    } catch (const std::bad_alloc&) {
        // A line less.
    }
}

}  // namespace places::launcher
