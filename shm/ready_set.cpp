// SPDX-License-Identifier: Apache-2.0
#include <places/shm/ready_set.hpp>

#include <places/shm/received_fds.hpp>

#include <array>
#include <cerrno>
#include <sys/socket.h>
#include <sys/uio.h>

namespace places::shm {
namespace {

// Wanted for the queue. The kernel gives less where net.core.wmem_max is less.
constexpr int queue_bytes = 1 << 20;
// The kernel counts some 768 bytes of the queue for an id: its own record of a message, above all.
// So a full queue holds more ids than the first of these says, and fewer than the second.
constexpr std::size_t queued_id_bytes_max = 2048;
constexpr std::size_t queued_id_bytes_min = 512;

constexpr std::size_t batch = 64;

}  // namespace

/// What one system call takes.
struct ready_set::messages {
    /// Of each message one byte more is asked for than an id has: a longer one is told by its size.
    struct content {
        std::uint64_t id = 0;
        std::uint8_t beyond = 0;
    };
    std::array<content, batch> contents{};
    std::array<iovec, batch> parts{};
    std::array<mmsghdr, batch> headers{};
    // Written by the kernel only where a message has descriptors.
    struct ancillary {
        alignas(cmsghdr) std::array<char, message_fds_bytes> bytes;
    };
    std::unique_ptr<std::array<ancillary, batch>> ancillaries =
        std::make_unique_for_overwrite<std::array<ancillary, batch>>();
};

ready_set::ends ready_set::make() {
    std::array<int, 2> sockets;
    checked(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets.data()),
            "make a doorbell");
    ends made{unique_fd{sockets[0]}, unique_fd{sockets[1]}};
    for (const auto* each : {&made.reader, &made.doorbell}) {
        checked(::setsockopt(each->get(), SOL_SOCKET, SO_SNDBUF, &queue_bytes, sizeof queue_bytes),
                "set the size of a doorbell's queue");
    }
    return made;
}

ready_set::ready_set(unique_fd reader)
    : reader_(std::move(reader)),
      messages_(std::make_unique<messages>()) {
    // make() has given both sockets the same.
    int bytes = 0;
    socklen_t size = sizeof bytes;
    checked(::getsockopt(reader_.get(), SOL_SOCKET, SO_SNDBUF, &bytes, &size),
            "get the size of a doorbell's queue");
    overflow_wakeups_ = static_cast<std::size_t>(bytes) / queued_id_bytes_max;
    taken_wakeups_max_ = static_cast<std::size_t>(bytes) / queued_id_bytes_min;
    for (std::size_t i = 0; i < batch; ++i) {
        auto& part = messages_->parts[i];
        part.iov_base = &messages_->contents[i];
        part.iov_len = sizeof(std::uint64_t) + 1;
        auto& header = messages_->headers[i].msg_hdr;
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        header.msg_control = &(*messages_->ancillaries)[i];
    }
}

ready_set::ready_set(ready_set&&) noexcept = default;
ready_set& ready_set::operator=(ready_set&&) noexcept = default;
ready_set::~ready_set() = default;

ready_set::wakeups ready_set::take() {
    wakeups result;
    std::size_t total = 0;
    while (true) {
        auto& headers = messages_->headers;
        for (auto& each : headers) each.msg_hdr.msg_controllen = message_fds_bytes;
        const int got = ::recvmmsg(reader_.get(), headers.data(), batch,
                                   MSG_DONTWAIT | MSG_CMSG_CLOEXEC, nullptr);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        for (int i = 0; i < got; ++i) {
            auto& each = headers[static_cast<std::size_t>(i)];
            // Nobody of ours sends any: closed at once.
            if (each.msg_hdr.msg_controllen > 0) (void)received_fds(each.msg_hdr);
            if (each.msg_len == sizeof(std::uint64_t)) {
                result.channel_ids.push_back(messages_->contents[static_cast<std::size_t>(i)].id);
            } else {
                // It may have filled the queue. An empty one may also be the end: a peer has shut
                // the doorbell, and no call comes through any more.
                result.overflowed = true;
            }
        }
        total += static_cast<std::size_t>(got);
        const auto& last = headers[static_cast<std::size_t>(got) - 1];
        if (static_cast<std::size_t>(got) < batch || last.msg_len == 0) break;
        // Stop at a whole queue: a flood must not keep us here.
        if (total >= taken_wakeups_max_) break;
    }
    // A caller that found the queue full left no id. The bound is less than half of a full queue,
    // since a message counts there before it can be taken.
    if (total >= overflow_wakeups_) result.overflowed = true;
    return result;
}

void ring_doorbell(int doorbell_fd, std::uint64_t channel_id) noexcept {
    // EAGAIN: the queue is full, and its reader will look everywhere. By its flags the call blocks
    // no more than it raises SIGPIPE, although other processes share the open file.
    while (::send(doorbell_fd, &channel_id, sizeof channel_id, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
           errno == EINTR) {
    }
}

}  // namespace places::shm
