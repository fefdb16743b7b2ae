// SPDX-License-Identifier: Apache-2.0
// A program that reaper_test starts: a root whose place leaves processes running.
//   leaving_root KIND PIPE
// Prints the ids of its reaper and its nursery. For each line on its standard input it starts a
// place and prints what that has returned; at the end of the input it returns from main.
#include "leave.hpp"

#include <iostream>
#include <string>

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    if (argc < 3) return 2;
    auto place = places::spawn(
        [](places::channel& c, std::string kind, std::string path) {
            leave(kind, path);
            (void)c.put(static_cast<int>(::getppid()));
            (void)c.get<int>();
        },
        std::string(argv[1]), std::string(argv[2]));
    // No other place: with the end of one the nursery ends what it has inherited.
    const int nursery = place.get<int>().value();
    std::cout << parent_of(nursery) << ' ' << nursery << std::endl;
    std::string line;
    while (std::getline(std::cin, line)) {
        std::cout << places::spawn([] { return 3; }).wait().value << std::endl;
    }
    return 0;
}
