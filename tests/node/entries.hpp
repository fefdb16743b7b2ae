// SPDX-License-Identifier: Apache-2.0
// Places that the tests start on another node.
#pragma once

#include <places/places.hpp>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <unistd.h>
#include <utility>

/// Sends back whatever comes, to whoever sent it.
inline void echo(places::inbox& in) {
    while (auto next = in.get()) (void)next->from.send(next->content);
}
inline const auto echo_entry = places::register_entry<echo>("echo");
/// What such a place answers, or why it does not.
inline std::string echoed(places::channel& c, const std::string& text) {
    if (c.put(text) != places::status::ok) return "not sent";
    const auto answer = c.get<std::string>();
    return answer ? *answer : answer.error().message();
}

/// Ends as it is told: with a completion value, or never.
inline int end_with(places::channel& to_creator) {
    (void)to_creator.put(std::int64_t{::getpid()});
    return static_cast<int>(to_creator.get<std::int64_t>().value());
}
inline const auto end_with_entry = places::register_entry<end_with>("end-with");

/// Ends by an exception, of the text that it is told.
inline void throw_text(places::channel& to_creator) {
    throw std::runtime_error(to_creator.get<std::string>().value());
}
inline const auto throw_text_entry = places::register_entry<throw_text>("throw-text");

/// Sends its pid, and never ends by itself, whatever is closed.
inline void ignore_the_end(places::channel& to_creator) {
    (void)to_creator.put(std::int64_t{::getpid()});
    while (true) ::pause();
}
inline const auto ignore_the_end_entry = places::register_entry<ignore_the_end>("ignore-the-end");
/// The same, as a place that can be named.
inline void ignore_all_ends(places::inbox& in) { ignore_the_end(in.creator()); }
inline const auto ignore_all_ends_entry =
    places::register_entry<ignore_all_ends>("ignore-all-ends");

/// Gives to whoever asks "?" what another connection sends.
inline void hand_over(places::inbox& in) {
    while (auto first = in.get()) {
        auto second = in.get();
        if (!second) return;
        if (first->content.as<std::string>().value() != "?") std::swap(*first, *second);
        (void)first->from.put(second->content.as<std::string>().value());
    }
}
inline const auto hand_over_entry = places::register_entry<hand_over>("hand-over");

struct table_server {
    std::int64_t set(std::string key, std::int64_t v) { return table_[std::move(key)] = v; }
    std::int64_t get(const std::string& key) { return table_.at(key); }
    int pid() { return ::getpid(); }
    /// Waits for what somebody else gives to the place "hand-over" of this node.
    std::string wait_for_other() {
        auto other = places::connect_to_named_place("hand-over");
        if (other.put(std::string("?")) != places::status::ok) throw std::runtime_error("no place");
        return other.get<std::string>().value();
    }
    void say(const std::string& text) { std::cout << text << std::endl; }
    void log(const std::string& text) { places::log_to_parent(places::severity::warning, text); }

  private:
    std::map<std::string, std::int64_t> table_;
};
PLACES_NAMED_SERVER(table_server, (rpc, set), (rpc, get), (rpc, pid), (rpc, wait_for_other),
                    (cast, say), (cast, log))

/// Goes from its own node to others.
struct traveller_server {
    /// What the place of that name on that node answers.
    std::string ask(const std::string& node, const std::string& place, const std::string& text) {
        auto c = places::connect_to_named_place(node, place);
        return echoed(c, text);
    }
    /// Keeps the connection for say().
    void go(const std::string& node, const std::string& place) {
        there_ = places::connect_to_named_place(node, place);
    }
    std::string say(const std::string& text) { return echoed(there_, text); }

  private:
    places::channel there_;
};
PLACES_NAMED_SERVER(traveller_server, (rpc, ask), (rpc, go), (rpc, say))

struct private_server {
    int one() { return 1; }
};
PLACES_SERVER(private_server, (rpc, one))

inline int parent_of(int pid) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(in, text);
    return std::stoi(text.substr(text.rfind(')') + 4));
}

/// What a place sees of where it runs.
struct facts_server {
    std::string directory() { return std::filesystem::current_path(); }
    std::string variable(const std::string& name) {
        const char* value = std::getenv(name.c_str());
        return value ? value : "unset";
    }
    int pid() { return ::getpid(); }
    /// The root of this node: its child is the reaper, whose child is the nursery of every place.
    int node_pid() { return parent_of(parent_of(::getppid())); }
    int count_entries(const std::string& folder) {
        const std::filesystem::directory_iterator each(folder);
        return static_cast<int>(std::distance(begin(each), end(each)));
    }
};
PLACES_NAMED_SERVER(facts_server, (rpc, directory), (rpc, variable), (rpc, pid), (rpc, node_pid),
                    (rpc, count_entries))
