// SPDX-License-Identifier: Apache-2.0
// Telling systemd, where it has started us, how far we are.
#pragma once

#include <chrono>
#include <string_view>
#include <system_error>

namespace places::cli {

/// Sends `state` ("READY=1", say) to the socket that $NOTIFY_SOCKET names; nothing without one.
/// Returns: why it could not be told; interrupted where this thread handles a signal meanwhile.
/// Blocks: up to `wait_max`, where the manager has no room now.  Throws: never.
/// Source: sd_notify(3): one datagram to a socket of AF_UNIX, '@' for an abstract name.
[[nodiscard]] std::error_code notify_manager(std::string_view state,
                                             std::chrono::seconds wait_max) noexcept;

}  // namespace places::cli
