// SPDX-License-Identifier: Apache-2.0
#include "launcher/channel_table.hpp"

#include <places/shm/layout.hpp>

#include <utility>

namespace places::launcher {

std::uint64_t channel_table::bytes_of(std::size_t ring_bytes) noexcept {
    return 2 * (std::uint64_t{ring_bytes} + shm::header_bytes);
}

void channel_table::enter(std::uint64_t channel, std::uint64_t asked, std::uint64_t asker,
                          std::size_t ring_bytes, std::uint64_t request, clock::time_point now) {
    auto& of = channels_[channel];
    of.places = {asked, asker};
    of.ring_bytes = ring_bytes;
    of.request = request;
    channels_of_[asked].insert(channel);
    channels_of_[asker].insert(channel);
    asked_[{asker, request}] = channel;
    charge(asker, bytes_of(ring_bytes));
    promises_.push_back({channel, now});
    bytes_to_come_ += bytes_of(ring_bytes);
}

std::optional<std::uint64_t> channel_table::find_asked(std::uint64_t asker,
                                                       std::uint64_t request) const {
    const auto found = asked_.find({asker, request});
    if (found == asked_.end() || !channels_.at(found->second).held[1]) return std::nullopt;
    return found->second;
}

const channel_table::ends* channel_table::find_held(std::uint64_t channel, std::uint64_t place,
                                                    end_number end) const {
    const auto found = channels_.find(channel);
    if (found == channels_.end() || end > 1) return nullptr;
    const auto& of = found->second;
    return of.places[end] == place && of.held[end] ? &of : nullptr;
}

void channel_table::set_shared(std::uint64_t channel, end_number end) {
    auto& of = channels_.at(channel);
    of.shared[end] = true;
    settle(of, end);
}

void channel_table::settle(ends& of, end_number end) noexcept {
    if (std::exchange(of.promised[end], false)) bytes_to_come_ -= bytes_of(of.ring_bytes) / 2;
}

std::uint64_t channel_table::bytes_to_come(clock::time_point now) {
    for (; !promises_.empty() && promises_.front().since + promise_time <= now;
         promises_.pop_front()) {
        const auto found = channels_.find(promises_.front().channel);
        if (found == channels_.end()) continue;
        for (const end_number end : {0, 1}) settle(found->second, end);
    }
    return bytes_to_come_;
}

void channel_table::charge_keepers(clock::time_point now) {
    for (; !kept_.empty() && kept_.front().since + keep_time <= now; kept_.pop_front()) {
        const auto found = channels_.find(kept_.front().channel);
        if (found == channels_.end()) continue;
        auto& of = found->second;
        discharge(of.places[of.payer], bytes_of(of.ring_bytes));
        of.payer = static_cast<end_number>(1 - of.payer);
        charge(of.places[of.payer], bytes_of(of.ring_bytes));
    }
}

std::uint64_t channel_table::bytes_charged_to(std::uint64_t place, clock::time_point now) {
    charge_keepers(now);
    const auto found = charged_.find(place);
    return found == charged_.end() ? 0 : found->second;
}

void channel_table::charge(std::uint64_t place, std::uint64_t bytes) { charged_[place] += bytes; }

void channel_table::discharge(std::uint64_t place, std::uint64_t bytes) {
    const auto found = charged_.find(place);
    found->second -= bytes;
    if (found->second == 0) charged_.erase(found);
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

std::optional<std::uint64_t> channel_table::let_go(std::uint64_t channel, std::uint64_t place,
                                                   end_number end, clock::time_point now) {
    if (!find_held(channel, place, end)) return std::nullopt;
    auto& of = channels_.at(channel);
    of.held[end] = false;
    set_shared(channel, end);  // or never will be
    const auto other = 1 - end;
    if (of.held[other]) {
        // The memory of both ends stays as long as one is held.
        if (of.payer == end) kept_.push_back({channel, now});
        return of.places[other];
    }
    discharge(of.places[of.payer], bytes_of(of.ring_bytes));
    for (const auto id : of.places) {
        const auto known = channels_of_.find(id);
        if (known == channels_of_.end()) continue;
        known->second.erase(channel);
        if (known->second.empty()) channels_of_.erase(known);
    }
    const auto asked = asked_.find({of.places[1], of.request});
    if (asked != asked_.end() && asked->second == channel) asked_.erase(asked);
    channels_.erase(channel);
    return std::nullopt;
}

std::set<std::uint64_t> channel_table::forget(std::uint64_t place, clock::time_point now) {
    std::set<std::uint64_t> others;
    const auto found = channels_of_.find(place);
    if (found == channels_of_.end()) return others;
    const auto of_place = std::exchange(found->second, {});
    channels_of_.erase(found);
    for (const auto channel : of_place) {
        const auto of = channels_.at(channel);
        for (end_number end = 0; end < of.places.size(); ++end) {
            if (of.places[end] == place) {
                (void)let_go(channel, place, end, now);
            } else if (of.held[end]) {
                others.insert(of.places[end]);
            }
        }
    }
    return others;
}

}  // namespace places::launcher
