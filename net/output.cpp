// SPDX-License-Identifier: Apache-2.0
#include "net/output.hpp"

#include "net/link.hpp"

#include <boost/asio/buffer.hpp>

#include <cerrno>
#include <unistd.h>
#include <utility>

namespace places::net {
namespace {

// What places print waits in their pipes above this, so that it never fills the queue alone.
constexpr std::size_t output_queue_bytes_max = 64 * 1024;

}  // namespace

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
                if (!self->line_.empty()) self->handlers_.on_line(self->line_);
                self->handlers_.on_end();
                return;
            }
            self->take({self->buffer_.data(), count});
            self->read_more();
        });
}

void output::take(std::string_view text) {
    while (!text.empty()) {
        const auto end = text.find('\n');
        line_ += text.substr(0, end);
        if (end == text.npos && line_.size() < line_bytes_max) return;
        handlers_.on_line(line_);
        line_.clear();
        if (end == text.npos) return;
        text.remove_prefix(end + 1);
    }
}

forwarded_outputs::forwarded_outputs(boost::asio::io_context& io, std::function<void()> on_drained)
    : io_(io),
      on_drained_(std::move(on_drained)) {}

void forwarded_outputs::follow(std::shared_ptr<link> to, unique_fd pipe, std::string place,
                               std::uint8_t stream) {
    const auto id = next_id_++;
    const auto on_line = [to, place, stream](std::string_view line) {
        if (to->is_open()) {
            to->send(output_frame{place, stream, std::string(line)});
        } else {
            print_line(printable(place), line);
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
        std::string text = "[";
        text.append(label).append("] ").append(line).append("\n");
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
