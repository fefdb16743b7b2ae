// SPDX-License-Identifier: Apache-2.0
// Telling systemd, where it has started us, how far we are.
#pragma once

#include <string_view>

namespace places::cli {

/// Sends `state` ("READY=1", say) to the socket that $NOTIFY_SOCKET names; nothing without one.
/// Whoever is not there does not hear it. Blocks: never.  Throws: never.
/// Source: sd_notify(3): one datagram to a socket of AF_UNIX, '@' for an abstract name.
void notify_manager(std::string_view state) noexcept;

}  // namespace places::cli
