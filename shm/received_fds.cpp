// SPDX-License-Identifier: Apache-2.0
#include <places/shm/received_fds.hpp>

#include <cstring>

namespace places::shm {

std::vector<unique_fd> received_fds(msghdr& message) {
    std::vector<unique_fd> all;
    for (auto* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        const auto count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd;
            std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
            // Fails where it is no socket.
            const linger none{};
            (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
            all.emplace_back(fd);
        }
    }
    return all;
}

}  // namespace places::shm
