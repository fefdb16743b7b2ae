// SPDX-License-Identifier: Apache-2.0
#include "net/output.hpp"

#include "core/text.hpp"
#include "net/link.hpp"

#include <boost/asio/buffer.hpp>

#include <climits>
#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <new>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace places::net {
namespace {

// What places print waits in their pipes above this, so that it never fills the queue alone.
constexpr std::size_t output_queue_bytes_max = 64 * 1024;
// Of lines that nobody has read yet.
constexpr std::size_t waiting_bytes_max = 1024 * 1024;
constexpr std::chrono::milliseconds reader_patience{100};
// What a terminal that says so has room for.
constexpr std::size_t terminal_room = 256;
// Between two looks whether there is room, doubled each time that there is none.
constexpr std::chrono::milliseconds retry_after_min{1};
constexpr std::chrono::milliseconds retry_after_max{1000};

// What others have printed, and what they call themselves, may be read on a terminal.
std::string labelled(std::string_view label, std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);  // as some end a line
    std::string text = "[";
    return text.append(detail::printable_text(label))
        .append("] ")
        .append(detail::printable_text(line))
        .append("\n");
}

}  // namespace

line_printer::line_printer(boost::asio::io_context& io, int to) : to_(to), retry_(io) {
    // What would be simple, O_NONBLOCK, belongs to the open file description: to the program that
    // has started us, its shell and our places too.
    struct stat facts {};
    (void)::fstat(to, &facts);
    if (S_ISREG(facts.st_mode)) {
        way_ = way::plain;
    } else if (S_ISSOCK(facts.st_mode)) {
        way_ = way::socket;
    } else {
        const auto path = "/proc/self/fd/" + std::to_string(to);
        own_ = unique_fd{::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
        way_ = own_ ? way::own : way::polled;
        polled_room_ = S_ISFIFO(facts.st_mode) ? PIPE_BUF : terminal_room;
    }
}

void line_printer::print(std::string_view label, std::string_view line) noexcept {
    try {
        auto text = labelled(label, line);
        const bool is_full = lost_ > 0 || waiting_bytes_ + text.size() > waiting_bytes_max;
        if (!waiting_.empty() && is_full) {
            ++lost_;
            return;
        }
        add(std::move(text));
    } catch (const std::bad_alloc&) {
        ++lost_;
    }
    if (is_stuck_ || wait_and_write_on()) return;
    retry_after_ = retry_after_min;
    try {
        retry_later();
        is_stuck_ = true;
    } catch (const std::exception&) {
        // The next line tries again.
    }
}

void line_printer::finish() noexcept {
    auto before = waiting_bytes_;
    while (!wait_and_write_on() && waiting_bytes_ < before) before = waiting_bytes_;
}

void line_printer::add(std::string text) {
    const auto size = text.size();
    waiting_.push_back(std::move(text));
    waiting_bytes_ += size;
}

/// As write(), and EAGAIN where that would wait.
ssize_t line_printer::write_some(std::string_view text) const noexcept {
    switch (way_) {
        case way::plain: return ::write(to_, text.data(), text.size());
        case way::own: return ::write(own_.get(), text.data(), text.size());
        case way::socket: return ::send(to_, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        case way::polled: break;
    }
    // A pipe or terminal that another user has made. Where there is room for this much, it waits
    // only if somebody else takes that at this moment.
    pollfd room{to_, POLLOUT, 0};
    if (::poll(&room, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return ::write(to_, text.data(), std::min(text.size(), polled_room_));
}

/// Returns: whether all is out.
bool line_printer::write_on() noexcept {
    while (!waiting_.empty()) {
        // One line at a time: others write to the same pipe, and none lands in the midst of a
        // short one.
        auto& line = waiting_.front();
        const auto written = write_some(line);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0 && errno == EAGAIN) return false;
        // Or nobody will ever read it.
        const auto gone = written < 0 ? line.size() : static_cast<std::size_t>(written);
        waiting_bytes_ -= gone;
        line.erase(0, gone);
        if (line.empty()) waiting_.pop_front();
        if (!waiting_.empty() || lost_ == 0) continue;
        try {
            add(labelled("bridge",
                         std::to_string(lost_) + " lines before this one were lost: nobody read"));
            lost_ = 0;
        } catch (const std::bad_alloc&) {
            // The next one will say so.
        }
    }
    is_stuck_ = false;
    return true;
}

/// The same, within reader_patience.
bool line_printer::wait_and_write_on() noexcept {
    using clock = std::chrono::steady_clock;
    const auto until = clock::now() + reader_patience;
    while (!write_on()) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock::now());
        pollfd room{to_, POLLOUT, 0};
        if (left.count() <= 0 || ::poll(&room, 1, static_cast<int>(left.count())) == 0)
            return false;
    }
    return true;
}

void line_printer::retry_later() {
    retry_.expires_after(retry_after_);
    retry_.async_wait([this](boost::system::error_code ec) {
        if (ec) return;
        const auto before = waiting_bytes_;
        if (write_on()) return;
        retry_after_ =
            waiting_bytes_ < before ? retry_after_min : std::min(2 * retry_after_, retry_after_max);
        retry_later();
    });
}

output::output(boost::asio::io_context& io, handlers h) : pipe_(io), handlers_(std::move(h)) {}

std::shared_ptr<output> output::follow(boost::asio::io_context& io, unique_fd pipe, handlers h) {
    const std::shared_ptr<output> self(new output(io, std::move(h)));
    self->pipe_.assign(pipe.get());
    (void)pipe.release();
    self->read_more();
    return self;
}

void output::resume() {
    if (!std::exchange(paused_, false)) return;
    read_more();
}

void output::read_more() {
    if (handlers_.may_read && !handlers_.may_read()) {
        paused_ = true;
        return;
    }
    pipe_.async_read_some(
        boost::asio::buffer(buffer_),
        [self = shared_from_this()](boost::system::error_code ec, std::size_t count) {
            if (ec) {
                const auto last = self->lines_.rest();
                if (!last.empty()) self->handlers_.on_line(last);
                self->handlers_.on_end();
                return;
            }
            self->lines_.add({self->buffer_.data(), count});
            while (const auto line = self->lines_.next()) self->handlers_.on_line(*line);
            self->read_more();
        });
}

forwarded_outputs::forwarded_outputs(boost::asio::io_context& io, line_printer& lines,
                                     std::function<void()> on_drained)
    : io_(io),
      lines_(lines),
      on_drained_(std::move(on_drained)) {}

void forwarded_outputs::follow(std::shared_ptr<link> to, unique_fd pipe, std::string place,
                               std::uint8_t stream) {
    const auto id = next_id_++;
    const auto on_line = [this, to, place, stream](std::string_view line) {
        if (to->is_open()) {
            to->send(output_frame{place, stream, std::string(line)});
        } else {
            lines_.print(printable(place), line);
        }
    };
    const auto on_end = [this, id] {
        outputs_.erase(id);
        if (is_drained()) on_drained_();
    };
    const auto may_read = [to] {
        return !to->is_open() || to->queued_bytes() < output_queue_bytes_max;
    };
    outputs_.emplace(id, output::follow(io_, std::move(pipe), {on_line, on_end, may_read}));
}

void forwarded_outputs::resume() {
    for (auto& [id, o] : outputs_) o->resume();
}

void print_line(std::string_view label, std::string_view line) noexcept {
    try {
        const auto text = labelled(label, line);
        const char* from = text.data();
        std::size_t left = text.size();
        while (left > 0) {
            const auto written = ::write(STDERR_FILENO, from, left);
            if (written < 0 && errno != EINTR) return;
            if (written > 0) {
                from += written;
                left -= static_cast<std::size_t>(written);
            }
        }
    } catch (const std::bad_alloc&) {
        // A line less.
    }
}

}  // namespace places::net
