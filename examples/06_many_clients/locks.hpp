// SPDX-License-Identifier: Apache-2.0
// A lock server: a lock has one owner at a time, and comes back when its owner dies.
#pragma once

#include <places/places.hpp>

#include <deque>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

// A request: "lock" or "unlock", and the name of the lock. The server answers a "lock" with the
// name, once the client owns it.
using lock_request = std::pair<std::string, std::string>;

struct named_lock {
    places::reply_end owner;  // of no connection: the lock is free
    std::deque<places::reply_end> waiting;

    bool is_free() const { return owner.connection_id() == 0; }

    /// Gives the lock to the next client that is alive.
    void pass_on(const std::string& name) {
        owner = {};
        while (is_free() && !waiting.empty()) {
            auto next = waiting.front();
            waiting.pop_front();
            if (next.put(name) == places::status::ok) owner = next;
        }
    }
};

/// The entry of the server. It returns once its creator and all clients have gone.
inline void serve_locks(places::inbox& in) {
    std::map<std::string, named_lock> locks;
    int open_connections = 0;  // the creator's is one
    int inherited = 0;
    while (const auto event = in.get_event()) {
        if (std::holds_alternative<places::inbox::opened>(*event)) {
            ++open_connections;
        } else if (const auto* sent = std::get_if<places::inbox::item>(&*event)) {
            const auto request = sent->content.as<lock_request>();
            if (!request) continue;  // no client of ours sends this
            const auto& [verb, name] = *request;
            auto& lock = locks[name];
            if (verb == "lock") {
                lock.waiting.push_back(sent->from);
                if (lock.is_free()) lock.pass_on(name);
            } else if (lock.owner.connection_id() == sent->from.connection_id()) {
                lock.pass_on(name);
            }
        } else if (const auto* end = std::get_if<places::inbox::ended>(&*event)) {
            for (auto& [name, lock] : locks) {
                std::erase_if(lock.waiting, [&](const places::reply_end& each) {
                    return each.connection_id() == end->connection_id;
                });
                if (lock.owner.connection_id() != end->connection_id) continue;
                ++inherited;
                lock.pass_on(name);
            }
            if (--open_connections == 0) break;
        }
    }
    std::cout << "The server has taken back " << inherited << " locks of dead owners." << std::endl;
}

/// A client: one connection to the server. Closing it, also by dying, gives every lock back.
class lock_client {
  public:
    /// Blocks: until this client owns the lock.
    void lock(const std::string& name) {
        if (server_.put(lock_request{"lock", name}) != places::status::ok ||
            !server_.get<std::string>()) {
            throw std::runtime_error("the lock server is gone");
        }
    }
    void unlock(const std::string& name) { (void)server_.put(lock_request{"unlock", name}); }

  private:
    places::channel server_ = places::connect_to_named_place("locks");
};
