// SPDX-License-Identifier: Apache-2.0
// A key in a file: a node's own, or one for somebody else, with the owner's name and rights. Not
// installed.
#pragma once

#include "net/keys.hpp"

#include <string>

namespace places::launcher {

/// Shape:  lines of text; a regular file of this user or the superuser, which nobody else may read
///         or write:
///           64 hexadecimal digits
///           owner NAME              none: a node's own key, the owner of which is launcher_name
///           allows RIGHT...         of start, stop, list, connect; none: connect
///         A node's own key may as well be 32 octets.
/// Throws: error{bad_key_file} naming the file, what is wrong with it and what to do.
net::known_key read_key_file(const std::string& path);

/// Writes a key to a new file that only this user may read; owner and rights unless it is a node's
/// own.
/// Throws: error{bad_key_file} when the file is there already or cannot be written; then there is
///         no file that was not there before.
void write_key_file(const std::string& path, const net::known_key& key);

}  // namespace places::launcher
