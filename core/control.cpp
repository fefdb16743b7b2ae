// SPDX-License-Identifier: Apache-2.0
#include "core/control.hpp"

#include <places/shm/received_fds.hpp>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <poll.h>
#include <sys/socket.h>
#include <system_error>

namespace places::control {

namespace {

bool send_with(int socket, const packet& p, const std::vector<int>& fds, int flags) {
    auto bytes = detail::encode_datum(p);
    if (bytes.size() > packet_bytes_max || fds.size() > packet_fds_max) {
        throw error(errc::too_large, "a request of " + std::to_string(bytes.size()) +
                                         " bytes to the nursery; at most " +
                                         std::to_string(packet_bytes_max) + " are possible");
    }
    iovec part{bytes.data(), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * packet_fds_max)> ancillary{};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (!fds.empty()) {
        header.msg_control = ancillary.data();
        header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
        auto* entry = CMSG_FIRSTHDR(&header);
        entry->cmsg_level = SOL_SOCKET;
        entry->cmsg_type = SCM_RIGHTS;
        entry->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
        std::memcpy(CMSG_DATA(entry), fds.data(), sizeof(int) * fds.size());
    }
    while (::sendmsg(socket, &header, MSG_NOSIGNAL | flags) < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN) {
            if (flags & MSG_DONTWAIT) return false;
            // An event loop has made the socket non-blocking; the caller has not.
            pollfd room{socket, POLLOUT, 0};
            (void)::poll(&room, 1, -1);
            continue;
        }
        throw std::system_error(errno, std::generic_category(), "send to a control socket");
    }
    return true;
}

}  // namespace

void send(int socket, const packet& p, const std::vector<int>& fds) {
    (void)send_with(socket, p, fds, 0);
}

bool try_send(int socket, const packet& p, const std::vector<int>& fds) {
    return send_with(socket, p, fds, MSG_DONTWAIT);
}

std::optional<received> receive(int socket) {
    // On the heap: a router body runs on a small stack.
    const auto buffer = std::make_unique_for_overwrite<std::byte[]>(packet_bytes_max);
    iovec part{buffer.get(), packet_bytes_max};
    alignas(cmsghdr) std::array<char, shm::message_fds_bytes> ancillary;
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = ancillary.data();
    header.msg_controllen = ancillary.size();
    ssize_t got;
    do {
        got = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN) return std::nullopt;
    if (got < 0 && errno != ECONNRESET && errno != ENOTCONN) {
        throw std::system_error(errno, std::generic_category(), "receive from a control socket");
    }
    if (got <= 0) throw error(errc::node_down, "the node's nursery has ended");

    received result;
    result.fds = shm::received_fds(header);
    // MSG_CTRUNC is no error here: the packet is whole, and who needs the descriptors that this
    // process has no room for counts those that came.
    if (header.msg_flags & MSG_TRUNC) {
        throw error(errc::protocol, "a control packet was cut short");
    }
    if (result.fds.size() > packet_fds_max) {
        throw error(errc::protocol, "a control packet has " + std::to_string(result.fds.size()) +
                                        " descriptors, at most " + std::to_string(packet_fds_max) +
                                        " are possible");
    }
    auto packet =
        detail::decode_datum<control::packet>({buffer.get(), static_cast<std::size_t>(got)});
    if (!packet) throw error(errc::protocol, "a control packet could not be read");
    result.packet = std::move(*packet);
    return result;
}

}  // namespace places::control
