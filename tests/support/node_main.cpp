// SPDX-License-Identifier: Apache-2.0
// main() of the tests that need places: as in every program, the runtime comes first.
#include "tests/support/node_main.hpp"

#include <gtest/gtest.h>

namespace {
places::runtime* the_runtime = nullptr;
}

/// ThreadSanitizer asks for it. libstdc++ counts the references to an exception where it does not
/// see that, so the end of the last one, in another thread, looks like a race.
extern "C" const char* __tsan_default_suppressions() {
    return "race:std::__exception_ptr::exception_ptr::_M_release\n";
}

places::runtime& test_runtime() { return *the_runtime; }

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    the_runtime = &runtime;
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
