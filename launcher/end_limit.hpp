// SPDX-License-Identifier: Apache-2.0
// How a node ends, and that it does whatever hangs. Not installed.
#pragma once

#include <places/core/channel.hpp>

#include <chrono>
#include <functional>

namespace places::launcher {

/// What all of a node's end may take. Its places are killed at once; its bridge forwards what they
/// have printed for a second, and then waits a quarter of one for its peers. The rest is for
/// thousands of places to be reaped on a busy host. Less than a manager waits before it kills
/// (cli/places-node.service.in).
inline constexpr std::chrono::seconds end_limit{5};
/// What a node exits with whose end has taken longer.
inline constexpr int given_up_status = 11;

/// Before limit_end(): takes this process's SIGALRM, which this thread does not block from now on.
/// Throws: never.  Thread: one that lives as long as the process.  Process: a node's root.
void prepare_end() noexcept;
/// The end has begun: this process has end_limit for it, from the first call on. Then it says on
/// standard error, where that takes a line now, what it still waits for, and exits with
/// given_up_status. What is left then ends as when it is killed.
/// Blocks: never.  Throws: never.  Thread: any, in a handler of a signal too.
void limit_end() noexcept;

/// Has `end_places` end all places but the bridge, and then the bridge finish: it forwards what
/// they have printed, and hangs up. Blocks:  until the bridge has ended; bounded where limit_end()
/// has been called. Throws:  what end_places throws.
void end_in_order(const std::function<void()>& end_places, channel& bridge);

}  // namespace places::launcher
