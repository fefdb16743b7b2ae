// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target over the files of a corpus, for compilers without a fuzzer.
//   replay FOLDER
#include "tests/fuzz/script.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

int main(int count, char** arguments) {
    if (count != 2) {
        std::fprintf(stderr, "replay FOLDER\n");
        return 2;
    }
    int files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(arguments[1])) {
        std::ifstream file(entry.path(), std::ios::binary);
        const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
        // Told before, since a broken one ends the process.
        std::printf("%s\n", entry.path().filename().c_str());
        std::fflush(stdout);
        (void)LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                     bytes.size());
        ++files;
    }
    if (files == 0) std::fprintf(stderr, "replay: %s is empty\n", arguments[1]);
    return files == 0;
}
