// SPDX-License-Identifier: Apache-2.0
#include "launcher/cli/notify.hpp"

#include <places/shm/unique_fd.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

namespace places::cli {

std::error_code notify_manager(std::string_view state, std::chrono::seconds wait_max) noexcept {
    const auto failed_call = [] { return std::error_code{errno, std::generic_category()}; };
    const char* const path = std::getenv("NOTIFY_SOCKET");
    const auto length = path ? std::strlen(path) : 0;
    if (length == 0) return {};
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    if (length >= sizeof to.sun_path) return std::make_error_code(std::errc::filename_too_long);
    std::memcpy(to.sun_path, path, length);
    if (to.sun_path[0] == '@') to.sun_path[0] = '\0';
    const unique_fd socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    if (!socket) return failed_call();
    const timeval limit{wait_max.count(), 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    // A limit of nothing is none to the kernel.
    const int how = MSG_NOSIGNAL | (wait_max.count() > 0 ? 0 : MSG_DONTWAIT);
    const auto sent = ::sendto(socket.get(), state.data(), state.size(), how,
                               reinterpret_cast<const sockaddr*>(&to),
                               static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
    return sent < 0 ? failed_call() : std::error_code{};
}

}  // namespace places::cli
