// SPDX-License-Identifier: Apache-2.0
// A shared object as if it had been built on a host with a newer C library than there is.
#pragma once

#include "tests/support/content_of.hpp"

#include <cstring>
#include <fstream>
#include <string>

/// Writes a copy of the object `from` that asks for glibc 9. Returns: `to`.
inline std::string for_a_newer_c_library(const std::string& from, const std::string& to) {
    auto octets = content_of(from);
    constexpr const char* major = "GLIBC_2.";
    for (auto at = octets.find(major); at != octets.npos; at = octets.find(major, at)) {
        octets[at + std::strlen(major) - 2] = '9';
    }
    std::ofstream(to, std::ios::binary) << octets;
    return to;
}
