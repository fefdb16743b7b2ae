// SPDX-License-Identifier: Apache-2.0
// What the name of a signal means when another host says that a command ended by it. Not installed.
#pragma once

#include <optional>
#include <string_view>

namespace places::launcher {

/// Whether a process ends by that signal where it does nothing about it; of those that stop it, let
/// it go on, or are ignored, none is.
bool ends_process(int signal) noexcept;

/// The number here of the signal called so, without SIG.
/// Returns: nothing for a name that is none here, or of a signal that ends no process: a host that
/// says so is not believed.
std::optional<int> ending_signal(std::string_view name) noexcept;

}  // namespace places::launcher
