// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/descriptor_end.hpp"

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace places::bench {
namespace {

void stop_blocking(const unique_fd& fd) {
    const auto flags = checked(::fcntl(fd.get(), F_GETFL), "F_GETFL");
    checked(::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK), "F_SETFL");
}

}  // namespace

descriptor_end::descriptor_end(unique_fd in, unique_fd out, bool spins)
    : in_(std::move(in)),
      out_(std::move(out)) {
    if (!spins) return;
    stop_blocking(in_);
    stop_blocking(out_);
}

void descriptor_end::send(std::span<const std::byte> message) {
    while (!message.empty()) {
        const auto n = ::write(out_.get(), message.data(), message.size());
        if (n > 0) {
            message = message.subspan(static_cast<std::size_t>(n));
        } else if (errno != EAGAIN && errno != EINTR) {
            throw link_closed("write");
        }
    }
}

void descriptor_end::receive(std::span<std::byte> message) {
    while (!message.empty()) {
        const auto n = ::read(in_.get(), message.data(), message.size());
        if (n > 0) {
            message = message.subspan(static_cast<std::size_t>(n));
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            throw link_closed("read");
        }
    }
}

std::unique_ptr<end> descriptor_link::open(side which) {
    auto& own = which == side::near ? near_ : far_;
    return std::make_unique<descriptor_end>(own.in.duplicate(), own.out.duplicate(), spins_);
}

}  // namespace places::bench
