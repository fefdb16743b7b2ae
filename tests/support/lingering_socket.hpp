// SPDX-License-Identifier: Apache-2.0
// A descriptor whose last close() blocks, unless SO_LINGER is cleared before.
#pragma once

#include <places/shm/unique_fd.hpp>

#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <span>
#include <string>
#include <sys/socket.h>
#include <sys/uio.h>

/// A TCP connection over loopback with bytes that its peer does not read. Without another reference
/// to it, close() of `sender` waits for an hour, since SO_LINGER says so.
struct lingering_socket {
    places::unique_fd sender;
    places::unique_fd peer;  ///< its end would end the wait as well

    lingering_socket() {
        const places::unique_fd listener{
            places::checked_fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        auto* address = reinterpret_cast<sockaddr*>(&at);
        socklen_t size = sizeof at;
        places::checked(::bind(listener.get(), address, size), "bind");
        places::checked(::listen(listener.get(), 1), "listen");
        places::checked(::getsockname(listener.get(), address, &size), "getsockname");
        sender = places::checked_fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        places::checked(::connect(sender.get(), address, size), "connect");
        peer =
            places::checked_fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept");
        const std::string bytes(1 << 16, 'x');
        while (::send(sender.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
        }
        const linger an_hour{1, 3600};
        places::checked(::setsockopt(sender.get(), SOL_SOCKET, SO_LINGER, &an_hour, sizeof an_hour),
                        "setsockopt");
    }
};

/// Sends a message with descriptors, as many as the kernel allows. Returns: as sendmsg.
inline ssize_t send_with_fds(int socket, std::string bytes, std::span<const int> fds) {
    std::string ancillary(CMSG_SPACE(fds.size_bytes()), '\0');
    iovec part{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.data();
    message.msg_controllen = ancillary.size();
    auto* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
    return ::sendmsg(socket, &message, MSG_NOSIGNAL);
}
