// SPDX-License-Identifier: Apache-2.0
#include "launcher/channel_table.hpp"

#include <utility>

namespace places::launcher {

void channel_table::enter(std::uint64_t channel, std::uint64_t a, std::uint64_t b,
                          std::size_t ring_bytes) {
    channels_[channel] = {{a, b}, {true, true}, ring_bytes};
    channels_of_[a].insert(channel);
    channels_of_[b].insert(channel);
}

std::vector<channel_table::row> channel_table::above(std::uint64_t after,
                                                     std::size_t count_max) const {
    std::vector<row> found;
    for (auto next = channels_.upper_bound(after);
         next != channels_.end() && found.size() < count_max; ++next) {
        found.push_back({next->first, next->second});
    }
    return found;
}

std::optional<std::uint64_t> channel_table::let_go(std::uint64_t channel, std::uint64_t place) {
    const auto found = channels_.find(channel);
    if (found == channels_.end()) return std::nullopt;
    auto& places = found->second.places;
    auto& held = found->second.held;
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
        const auto [places, held, ring_bytes] = channels_.at(channel);
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
