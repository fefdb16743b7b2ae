// SPDX-License-Identifier: Apache-2.0
// A tuple server: its table lives in one place, and everybody connects to that place by name.
#pragma once

#include <places/places.hpp>

#include <iostream>
#include <string>
#include <unordered_map>

struct tuple_server {
    places::value set(std::string key, places::value v) { return table_[std::move(key)] = v; }

    /// False when the key is unknown.
    places::value get(const std::string& key) {
        const auto found = table_.find(key);
        return found == table_.end() ? places::value(false) : found->second;
    }

    void hello() { std::cout << "Hello from define-cast" << std::endl; }

  private:
    std::unordered_map<std::string, places::value> table_;
};
PLACES_NAMED_SERVER(tuple_server, (rpc, set), (rpc, get), (cast, hello))
