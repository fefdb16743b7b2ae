// SPDX-License-Identifier: Apache-2.0
// A bank: only the place that started it can call it.
#pragma once

#include <places/places.hpp>

#include <cstdint>
#include <string>
#include <unordered_map>

struct bank_server {
    using value = places::value;
    using symbol = places::symbol;

    value new_account(symbol who) {
        if (!accounts_.emplace(who.name, 0).second) return value::list(symbol{"already-exists"});
        return value::list(symbol{"created"}, who);
    }

    value add(symbol who, std::int64_t amount) {
        const auto account = accounts_.find(who.name);
        if (account == accounts_.end()) return value::list(symbol{"invalid-account"}, who);
        return value::list(symbol{"ok"}, account->second += amount);
    }

    value remove(symbol who, std::int64_t amount) {
        const auto account = accounts_.find(who.name);
        if (account == accounts_.end()) return value::list(symbol{"invalid-account"}, who);
        if (account->second < amount) {
            return value::list(symbol{"insufficient-funds"}, account->second);
        }
        return value::list(symbol{"ok"}, account->second -= amount);
    }

  private:
    std::unordered_map<std::string, std::int64_t> accounts_;
};
PLACES_SERVER(bank_server, (rpc, new_account), (rpc, add), (rpc, remove))
