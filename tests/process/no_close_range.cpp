// SPDX-License-Identifier: Apache-2.0
// A node where the kernel refuses close_range(), as the filter of a container may: a place has no
// descriptor of another process all the same.  Exit status 0 if so.
#include "processes.hpp"
#include "refused_call.hpp"

#include <places/places.hpp>

#include <cstdio>

int main(int argc, char** argv) {
    refuse_system_call(SYS_close_range);
    const places::runtime runtime{argc, argv};
    const auto count = [](places::channel& c) {
        (void)c.put(static_cast<int>(count_descriptors(::getpid())));
        never_ends();
    };
    auto first = places::spawn(+count);
    const auto of_first = first.get<int>().value();
    // The nursery has descriptors of the first one now, and of these.
    std::vector<places::place> others;
    for (int n = 0; n < 5; ++n) others.push_back(places::spawn(never_ends));
    auto last = places::spawn(+count);
    const auto of_last = last.get<int>().value();
    if (of_first == of_last) return 0;
    std::fprintf(stderr, "the first place has %d descriptors, the last one %d\n", of_first,
                 of_last);
    return 1;
}
