// SPDX-License-Identifier: Apache-2.0
// A shared object whose entry a place loads; it resolves the library in the executable.
#include <places/core/inbox.hpp>

extern "C" void make_doubler(places::inbox& in) {
    while (auto item = in.get()) {
        const auto number = item->content.as<int>();
        if (number) (void)item->from.put(2 * *number);
    }
}
