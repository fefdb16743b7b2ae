// SPDX-License-Identifier: Apache-2.0
// A shared object that a node loads, and that needs others which the program does not.
#include <places/places.hpp>

#include <string>

extern "C" const char* module_outer();

extern "C" void module_reads(places::inbox& in) {
    while (auto next = in.get()) (void)next->from.put(std::string(module_outer()));
}
