// SPDX-License-Identifier: Apache-2.0
// What this program and the bridge of its node write to standard error, for tests that wait for it.
#pragma once

#include <cstddef>
#include <string>

/// Waits until so many lines with `text` in them have been written, from now on or before.
/// Returns: the last such line; empty when the watchdog barked first.
std::string heard(const std::string& text, std::size_t times = 1);
/// How many lines so far have `text` in them.
std::size_t times_heard(const std::string& text);
