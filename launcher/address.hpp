// SPDX-License-Identifier: Apache-2.0
// Where a node listens, as people write it. Not installed.
#pragma once

#include <cstdint>
#include <string>

namespace places::launcher {

struct host_and_port {
    std::string host;
    std::uint16_t port = 6340;
};

/// Shape:  HOST, HOST:PORT, [V6] or [V6]:PORT.
/// Throws: error{bad_argument}.
host_and_port parse_address(const std::string& text);

}  // namespace places::launcher
