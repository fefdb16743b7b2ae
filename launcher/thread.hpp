// SPDX-License-Identifier: Apache-2.0
// Starting a thread, with an error that says which one. Not installed.
#pragma once

#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace places::launcher {

/// Runs `body` in a new thread. `what` names the thread for the error, for example "the thread
/// that watches the nursery".
/// Throws: std::system_error with the kernel's reason, the name, and what to do.
template <class Body>
std::thread start_thread(const char* what, Body body) {
    try {
        return std::thread(std::move(body));
    } catch (const std::system_error& e) {
        throw std::system_error(e.code(), std::string("start ") + what +
                                              "; raise the limit on processes (ulimit -u, or the "
                                              "control group's pids.max) if it is reached");
    }
}

}  // namespace places::launcher
