// SPDX-License-Identifier: Apache-2.0
// A node's key in a file.
#pragma once

#include "net/keys.hpp"

#include <string>

namespace places::cli {

/// Shape:  32 octets, or 64 hexadecimal digits and perhaps a line feed; a regular file of this user
///         or the superuser, which nobody else may read or write.
/// Throws: error{bad_key_file} naming the file, what is wrong with it and what to do.
net::node_key read_key_file(const std::string& path);

/// Writes a fresh key, as digits, to a new file that only this user may read.
/// Throws: error{bad_key_file} when the file is there already or cannot be written; then there is
///         no file that was not there before.
net::node_key write_key_file(const std::string& path);

}  // namespace places::cli
