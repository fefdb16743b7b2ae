// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <unistd.h>

/// Reads one line of a pipe, without its line feed, and no byte after it. At the end of the pipe:
/// what came before.
inline std::string line_from(int fd) {
    std::string line;
    for (char c = 0; ::read(fd, &c, 1) == 1 && c != '\n';) line += c;
    return line;
}
