// SPDX-License-Identifier: Apache-2.0
#include "launcher/channel_table.hpp"

#include <utility>

namespace places::launcher {

void channel_table::enter(std::uint64_t channel, std::uint64_t a, std::uint64_t b) {
    channels_[channel].places = {a, b};
    channels_of_[a].insert(channel);
    channels_of_[b].insert(channel);
}

std::optional<std::uint64_t> channel_table::let_go(std::uint64_t channel, std::uint64_t place) {
    const auto found = channels_.find(channel);
    if (found == channels_.end()) return std::nullopt;
    auto& [places, held] = found->second;
    const std::size_t own = places[0] == place && held[0] ? 0 : 1;
    if (places[own] != place || !held[own]) return std::nullopt;
    held[own] = false;
    const std::size_t other = 1 - own;
    if (held[other]) return places[other];
    for (const auto id : places) {
        const auto of = channels_of_.find(id);
        if (of == channels_of_.end()) continue;
        of->second.erase(channel);
        if (of->second.empty()) channels_of_.erase(of);
    }
    channels_.erase(found);
    return std::nullopt;
}

std::set<std::uint64_t> channel_table::forget(std::uint64_t place) {
    std::set<std::uint64_t> others;
    const auto found = channels_of_.find(place);
    if (found == channels_of_.end()) return others;
    const auto of_place = std::exchange(found->second, {});
    channels_of_.erase(found);
    for (const auto channel : of_place) {
        const auto [places, held] = channels_.at(channel);
        for (std::size_t i = 0; i < places.size(); ++i) {
            if (places[i] == place) {
                (void)let_go(channel, place);
            } else if (held[i]) {
                others.insert(places[i]);
            }
        }
    }
    return others;
}

}  // namespace places::launcher
