// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <places/shm/unique_fd.hpp>

#include <cstddef>
#include <sys/socket.h>
#include <vector>

namespace places::shm {

/// Room for all descriptors that the kernel lets go with one message (SCM_MAX_FD, 253). With less
/// room the kernel itself closes the rest, and that close may block.
inline constexpr std::size_t message_fds_bytes = CMSG_SPACE(sizeof(int) * 253);

/// The descriptors that came with `message`. Another process has made them, so they may be
/// anything. A socket among them no longer has SO_LINGER: with that option and bytes that its peer
/// does not read, the last close() waits as long as the other process has said.
/// Shape:   `message` as recvmsg() has left it, with room for message_fds_bytes.
/// Throws:  std::bad_alloc.
std::vector<unique_fd> received_fds(msghdr& message);

}  // namespace places::shm
