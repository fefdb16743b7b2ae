// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/descriptor_end.hpp"
#include "bench/peers/peer.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace places::bench {

std::unique_ptr<link> make_tcp(const link_options& options) {
    const auto listener = checked_fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* name = reinterpret_cast<sockaddr*>(&address);
    socklen_t length = sizeof address;
    checked(::bind(listener.get(), name, length), "bind to 127.0.0.1");
    checked(::listen(listener.get(), 1), "listen");
    checked(::getsockname(listener.get(), name, &length), "getsockname");
    auto near = checked_fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    checked(::connect(near.get(), name, length), "connect to 127.0.0.1");
    auto far = checked_fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept");
    for (const auto* fd : {&near, &far}) {
        const int on = 1;
        checked(::setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
    }
    return std::make_unique<descriptor_link>(descriptor_link::both_ways(std::move(near)),
                                             descriptor_link::both_ways(std::move(far)),
                                             options.spins);
}

}  // namespace places::bench
