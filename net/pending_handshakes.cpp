// SPDX-License-Identifier: Apache-2.0
#include "net/pending_handshakes.hpp"

#include <places/shm/assert.hpp>

#include <algorithm>
#include <utility>

namespace places::net {
namespace {

namespace ip = boost::asio::ip;

constexpr std::size_t network_bytes_v6 = 8;

}  // namespace

ip::address origin_of(const ip::address& address) {
    if (!address.is_v6()) return address;
    const auto v6 = address.to_v6();
    if (v6.is_v4_mapped()) return ip::make_address_v4(ip::v4_mapped, v6);
    auto network = v6.to_bytes();
    std::fill(network.begin() + network_bytes_v6, network.end(), static_cast<unsigned char>(0));
    return ip::make_address_v6(network);
}

pending_handshakes::pending_handshakes(std::size_t unknown_max) noexcept
    : unknown_max_(std::max<std::size_t>(unknown_max, 1)) {}

std::size_t pending_handshakes::size() const noexcept {
    std::size_t all = 0;
    for (const auto& each : by_proof_) all += each.size();
    return all;
}

void pending_handshakes::remember(const address& origin, time_point now) {
    known_[origin] = now;
    if (known_.size() <= known_max) return;
    known_.erase(std::min_element(known_.begin(), known_.end(), [](const auto& a, const auto& b) {
        return a.second < b.second;
    }));
}

pending_handshakes::handle pending_handshakes::add(std::shared_ptr<pending_handshake> one,
                                                   const address& origin, time_point now) {
    std::list<entry> added;
    added.push_back({std::move(one), origins_.end(), is_known(origin), key_proof::none, now});
    const auto which = added.begin();
    which->origin = origins_.try_emplace(origin, 0).first;
    ++which->origin->second;
    unknown_ += !which->is_known;
    auto& list = list_of(key_proof::none);
    list.splice(list.end(), added);
    return which;
}

void pending_handshakes::advance(handle which, key_proof shown, time_point now) noexcept {
    auto& to = list_of(shown);
    to.splice(to.end(), list_of(which->shown), which);
    which->shown = shown;
    which->since = now;
}

void pending_handshakes::remove(handle which) noexcept {
    unknown_ -= !which->is_known;
    if (--which->origin->second == 0) origins_.erase(which->origin);
    list_of(which->shown).erase(which);
}

void pending_handshakes::drop_all() {
    for (const auto& list : std::exchange(by_proof_, {}))
        for (const auto& each : list) each.one->drop();
    origins_.clear();
    unknown_ = 0;
}

pending_handshakes::obstacle pending_handshakes::find_obstacle(const address& origin,
                                                               time_point now) {
    const bool unknown_only = !is_known(origin) && unknown_ >= unknown_max_;
    if (!unknown_only && size() < size_max()) return {};
    while (true) {
        const auto which = choose(unknown_only);
        const auto ends_at = which->since + time_min(which->shown);
        if (ends_at > now || !which->one->has_news()) return {which->one.get(), ends_at};
        advance(which, which->shown, now);
    }
}

pending_handshakes::handle pending_handshakes::choose(bool unknown_only) {
    std::size_t most = 0;
    for (const auto& [origin, count] : origins_) most = std::max(most, count);
    for (auto& list : by_proof_) {
        auto best = list.end();
        for (auto each = list.begin(); each != list.end(); ++each) {
            if (unknown_only && each->is_known) continue;
            if (best == list.end() || each->origin->second > best->origin->second) best = each;
            if (best->origin->second == most) break;
        }
        if (best != list.end()) return best;
    }
    PLACES_ASSERT(false, unknown_);  // asked only when there are too many
    return {};
}

}  // namespace places::net
