// SPDX-License-Identifier: Apache-2.0
// A way to a port of this host that is cut in the middle of things.
#pragma once

#include <places/shm/unique_fd.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <unistd.h>

/// Carries connections to `port`, one at a time, and closes each at both ends once so many octets
/// have come back through it, or by cut(). Its thread ends with it.
class cutting_proxy {
  public:
    cutting_proxy(std::uint16_t port, std::size_t most) : to_(port), most_(most) {
        auto where = loopback(0);
        socklen_t size = sizeof where;
        if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&where), size) != 0 ||
            ::listen(listener_.get(), 16) != 0 ||
            ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&where), &size) != 0) {
            throw std::system_error(errno, std::generic_category(), "listen for a proxy");
        }
        port_ = ntohs(where.sin_port);
        thread_ = std::thread([this] { carry_all(); });
    }
    ~cutting_proxy() {
        ::eventfd_write(end_.get(), 1);
        thread_.join();
    }
    cutting_proxy(const cutting_proxy&) = delete;
    cutting_proxy& operator=(const cutting_proxy&) = delete;

    std::uint16_t port() const noexcept { return port_; }
    /// Cuts the connection that there is; the next one, if there is none.
    void cut() const { ::eventfd_write(cut_.get(), 1); }

  private:
    static sockaddr_in loopback(std::uint16_t port) {
        sockaddr_in where{};
        where.sin_family = AF_INET;
        where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        where.sin_port = htons(port);
        return where;
    }
    static places::unique_fd new_socket() {
        return places::unique_fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    }
    void carry_all() const {
        while (true) {
            std::array<pollfd, 2> news{pollfd{end_.get(), POLLIN, 0},
                                       pollfd{listener_.get(), POLLIN, 0}};
            ::poll(news.data(), news.size(), -1);
            if (news[0].revents) return;
            const places::unique_fd near{
                ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
            const auto far = new_socket();
            const auto where = loopback(to_);
            if (near && ::connect(far.get(), reinterpret_cast<const sockaddr*>(&where),
                                  sizeof where) == 0) {
                carry(near.get(), far.get());
            }
        }
    }
    void carry(int near, int far) const {
        std::array<char, 65536> octets;
        for (auto left = most_; left > 0;) {
            std::array<pollfd, 4> news{pollfd{end_.get(), POLLIN, 0}, pollfd{near, POLLIN, 0},
                                       pollfd{far, POLLIN, 0}, pollfd{cut_.get(), POLLIN, 0}};
            ::poll(news.data(), news.size(), -1);
            if (news[0].revents) return;
            eventfd_t unused;
            if (news[3].revents && ::eventfd_read(cut_.get(), &unused) == 0) return;
            const bool is_back = news[2].revents != 0;
            const auto room = is_back ? std::min(left, octets.size()) : octets.size();
            const auto got = ::recv(is_back ? far : near, octets.data(), room, 0);
            if (got <= 0) return;
            const auto count = static_cast<std::size_t>(got);
            if (::send(is_back ? near : far, octets.data(), count, MSG_NOSIGNAL) != got) return;
            if (is_back) left -= count;
        }
    }

    std::uint16_t to_;
    std::size_t most_;
    std::uint16_t port_ = 0;
    places::unique_fd listener_ = new_socket();
    places::unique_fd end_{::eventfd(0, EFD_CLOEXEC)};
    places::unique_fd cut_{::eventfd(0, EFD_CLOEXEC)};
    std::thread thread_;
};
