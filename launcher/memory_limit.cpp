// SPDX-License-Identifier: Apache-2.0
#include "launcher/memory_limit.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <limits>
#include <optional>
#include <string_view>

namespace places::launcher {
namespace {

constexpr auto unlimited = std::numeric_limits<std::uint64_t>::max();
// Version 1 says no limit by the largest number of whole pages.
constexpr std::uint64_t limit_bytes_max = std::uint64_t{1} << 60;

/// Returns: nothing for a file that is not there or holds no number ("max").
std::optional<std::uint64_t> number_in(const std::string& file) {
    std::uint64_t number = 0;
    if (std::ifstream in(file); in >> number) return number;
    return std::nullopt;
}

/// The number behind `key` in a file of lines "key number".
std::uint64_t number_of(const std::string& file, std::string_view key) {
    std::ifstream in(file);
    std::uint64_t number = 0;
    for (std::string word, rest; in >> word; std::getline(in, rest)) {
        if (word == key && in >> number) return number;
    }
    return 0;
}

struct names {
    const char* limit;
    const char* usage;
    const char* droppable;  // in memory.stat
};
constexpr names version_2{"memory.max", "memory.current", "inactive_file"};
constexpr names version_1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};

void narrow(memory_limit& least, std::uint64_t limit, std::uint64_t left, std::string source) {
    if (left >= least.left_bytes) return;
    least = {limit, left, std::move(source)};
}

/// The group of that path below `root`, and those above it.
void narrow_to_groups(memory_limit& least, const std::string& root, std::string path,
                      const names& of) {
    while (true) {
        const auto folder = root + path + "/";
        const auto limit = number_in(folder + of.limit);
        const auto usage = number_in(folder + of.usage);
        if (limit && usage && *limit < limit_bytes_max) {
            const auto droppable =
                std::min(number_of(folder + "memory.stat", of.droppable), *usage);
            const auto used = *usage - droppable;
            narrow(least, *limit, *limit - std::min(*limit, used), folder + of.limit);
        }
        if (path.empty()) return;
        path.resize(path.rfind('/'));
    }
}

}  // namespace

memory_limit memory_left(const memory_sources& from) {
    memory_limit least{unlimited, unlimited, "nothing"};
    const auto total = number_of(from.machine, "MemTotal:");
    const auto available = number_of(from.machine, "MemAvailable:");
    const auto swap = number_of(from.machine, "SwapFree:");
    constexpr std::uint64_t kib = 1024;
    if (total != 0) narrow(least, total * kib, (available + swap) * kib, "the machine's memory");
    std::ifstream groups(from.own_groups);
    for (std::string line; std::getline(groups, line);) {
        // number:controllers:path, and no controllers for version 2.
        const auto first = line.find(':');
        const auto second = line.find(':', first + 1);
        if (first == line.npos || second == line.npos) continue;
        const auto controllers = line.substr(first + 1, second - first - 1);
        auto path = line.substr(second + 1);
        if (path == "/" || !path.starts_with('/')) path.clear();
        if (controllers == "memory") {
            narrow_to_groups(least, from.groups + "/memory", path, version_1);
        } else if (controllers.empty()) {
            narrow_to_groups(least, from.groups, path, version_2);
        }
    }
    return least;
}

std::string to_text_bytes(std::uint64_t bytes) {
    constexpr std::array<const char*, 5> units{"bytes", "KiB", "MiB", "GiB", "TiB"};
    std::size_t unit = 0;
    auto number = static_cast<double>(bytes);
    for (; number >= 1024 && unit + 1 < units.size(); ++unit) number /= 1024;
    std::array<char, 40> text{};
    const bool is_whole =
        unit == 0 || number >= 100 || number == static_cast<double>(static_cast<int>(number));
    std::snprintf(text.data(), text.size(), is_whole ? "%.0f %s" : "%.1f %s", number, units[unit]);
    return text.data();
}

}  // namespace places::launcher
