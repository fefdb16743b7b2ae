// SPDX-License-Identifier: Apache-2.0
// A shared object with an entry whose name the program has too.
#include <places/places.hpp>

namespace {
int clashing() { return 3; }
}  // namespace

const auto clashing_entry = places::register_entry<clashing>(CLASHING_NAME);
