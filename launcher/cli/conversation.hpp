// SPDX-License-Identifier: Apache-2.0
// One question to a node, and its answer.
#pragma once

#include "launcher/cli/cli.hpp"
#include "net/frame.hpp"
#include "net/keys.hpp"

#include <chrono>
#include <functional>

namespace places::cli {

inline constexpr std::chrono::seconds answer_deadline{5};

/// Dials, sends `question`, and hands each frame to `on_frame` until that returns true, or the link
/// ends, or `deadline` has passed; then hangs up in order. No places and no bridge take part.
/// Returns: whether on_frame has said that it is over; no when the node has hung up first, in
///          order.
/// Throws:  error: as dial_result; node_unreachable for no answer in time, or for a link that was
///          lost; what on_frame throws.
bool ask(const target& to, const net::frame& question, std::chrono::milliseconds deadline,
         const std::function<bool(const net::frame&)>& on_frame);

}  // namespace places::cli
