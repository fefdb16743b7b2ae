// SPDX-License-Identifier: Apache-2.0
// main() of the tests that need places: as in every program, the runtime comes first.
#include "tests/support/node_main.hpp"

#include <gtest/gtest.h>

namespace {
places::runtime* the_runtime = nullptr;
}

places::runtime& test_runtime() { return *the_runtime; }

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    the_runtime = &runtime;
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
