// SPDX-License-Identifier: Apache-2.0
// A program with two entries of one name.
#include <places/places.hpp>

#include <cstdio>

namespace {
int one() { return 1; }
int two() { return 2; }
}  // namespace

const auto first_of_both = places::register_entry<one>("worker");
const auto last_of_both = places::register_entry<two>("worker");

int main(int argc, char** argv) {
    try {
        places::runtime runtime{argc, argv};
    } catch (const places::error& e) {
        std::puts(e.what());
        return 0;
    }
    std::puts("it has started");
    return 1;
}
