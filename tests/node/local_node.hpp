// SPDX-License-Identifier: Apache-2.0
// A second node on this host, and what errors about it say.
#pragma once

#include "tests/support/node_main.hpp"

#include <places/places.hpp>

#include <string>

inline places::remote_node start_node() {
    return test_runtime().spawn_remote_node("localhost", {.listen_port = 0});
}

inline bool has(const places::error& e, const std::string& text) {
    return std::string(e.what()).find(text) != std::string::npos;
}
