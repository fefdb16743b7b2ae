// SPDX-License-Identifier: Apache-2.0
// places ls ADDR
#include "core/text.hpp"
#include "launcher/cli/cli.hpp"
#include "launcher/cli/conversation.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace places::cli {
namespace {

using rows = std::vector<std::vector<std::string>>;

// What other programs have named may hold anything; a terminal is not to obey it.
std::string shown(const std::string& text) { return text.empty() ? "-" : net::printable(text); }

std::string age(std::uint64_t ms) {
    const auto seconds = ms / 1000;
    if (seconds < 120) return std::to_string(seconds) + "s";
    if (seconds < 7200) return std::to_string(seconds / 60) + "m";
    if (seconds < 48 * 3600) return std::to_string(seconds / 3600) + "h";
    return std::to_string(seconds / 86400) + "d";
}

// The first row is the heading; columns are as wide as they have to be.
void print_table(const rows& table) {
    std::vector<std::size_t> widths(table.front().size());
    for (const auto& row : table)
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    for (const auto& row : table) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            line += row[i];
            if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
        }
        std::printf("%s\n", line.c_str());
    }
}

std::string state_of(const net::list_answer_frame::local& c) {
    if (c.is_held_by_first && c.is_held_by_second) return "open";
    return "left by " + std::to_string(c.is_held_by_first ? c.second : c.first);
}

void print(const net::list_answer_frame& list) {
    rows places{{"PLACE", "PID", "NAME", "ENTRY", "STATE", "AGE"}};
    for (const auto& p : list.places)
        places.push_back({std::to_string(p.number), std::to_string(p.pid), shown(p.name),
                          shown(p.entry), shown(p.state), age(p.age_ms)});
    rows channels{{"CHANNEL", "LINK", "PLACE", "SENT", "QUEUED", "RECEIVED"}};
    for (const auto& c : list.channels)
        channels.push_back({std::to_string(c.number), std::to_string(c.link),
                            std::to_string(c.place), std::to_string(c.sent),
                            std::to_string(c.sent - std::min(c.sent, c.acknowledged)),
                            std::to_string(c.placed)});
    rows locals{{"LOCAL", "PLACE", "PLACE", "RING", "STATE"}};
    for (const auto& c : list.locals)
        locals.push_back({std::to_string(c.number), std::to_string(c.first),
                          std::to_string(c.second), std::to_string(c.ring_bytes), state_of(c)});
    rows links{{"LINK", "PEER", "ADDRESS", "AGE", "TLS", "RIGHTS"}};
    for (const auto& l : list.links)
        links.push_back({std::to_string(l.number), shown(l.peer), shown(l.address), age(l.age_ms),
                         l.is_secure ? "yes" : "no", shown(l.rights)});
    print_table(places);
    std::printf("\n");
    print_table(channels);
    std::printf("\n");
    print_table(locals);
    std::printf("\n");
    print_table(links);
}

// -- JSON --

/// JSON is UTF-8, and a name is any octets: those that are no character become U+FFFD each.
boost::json::string as_utf8(std::string_view text) {
    boost::json::string made;
    while (!text.empty()) {
        const auto next = detail::first_character(text);
        made.append(next.code ? text.substr(0, next.bytes) : "\xEF\xBF\xBD");
        text.remove_prefix(next.bytes);
    }
    return made;
}

/// JSON need not escape what a terminal obeys, beyond C0: it may, and says the same.
std::string escaped(std::string_view json) {
    std::string made;
    while (!json.empty()) {
        const auto next = detail::first_character(json);
        if (detail::is_shown(next)) {
            made += json.substr(0, next.bytes);
        } else {
            char code[7];  // those that are not shown have 16 bits
            std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(*next.code) & 0xFFFF);
            made += code;
        }
        json.remove_prefix(next.bytes);
    }
    return made;
}

void print_json(const net::list_answer_frame& list) {
    namespace json = boost::json;
    json::array places;
    for (const auto& p : list.places) {
        places.push_back({{"place", p.number},
                          {"pid", p.pid},
                          {"name", as_utf8(p.name)},
                          {"entry", as_utf8(p.entry)},
                          {"state", as_utf8(p.state)},
                          {"age_ms", p.age_ms}});
    }
    json::array channels;
    for (const auto& c : list.channels) {
        channels.push_back({{"channel", c.number},
                            {"link", c.link},
                            {"place", c.place},
                            {"sent", c.sent},
                            {"acknowledged", c.acknowledged},
                            {"received", c.placed}});
    }
    json::array links;
    for (const auto& l : list.links) {
        links.push_back({{"link", l.number},
                         {"peer", as_utf8(l.peer)},
                         {"address", as_utf8(l.address)},
                         {"age_ms", l.age_ms},
                         {"tls", l.is_secure},
                         {"rights", as_utf8(l.rights)}});
    }
    json::array locals;
    for (const auto& c : list.locals) {
        locals.push_back({{"channel", c.number},
                          {"places", {c.first, c.second}},
                          {"ring_bytes", c.ring_bytes},
                          {"state", state_of(c)}});
    }
    const json::value all{
        {"places", places}, {"channels", channels}, {"local_channels", locals}, {"links", links}};
    std::printf("%s\n", escaped(json::serialize(all)).c_str());
}

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
    to.insert(to.end(), from.begin(), from.end());
}

net::list_answer_frame list_of(const target& to) {
    net::list_answer_frame whole;
    const bool is_whole = ask(to, net::list_ask_frame{}, answer_deadline, [&](const net::frame& f) {
        const auto* part = std::get_if<net::list_answer_frame>(&f);
        if (!part) return false;
        if (part->code != errc{}) throw error{part->code, net::printable(part->text)};
        append(whole.places, part->places);
        append(whole.channels, part->channels);
        append(whole.links, part->links);
        append(whole.locals, part->locals);
        return part->is_last;
    });
    if (!is_whole)
        throw error{errc::node_unreachable, "the node at " + to.address + " has hung up half way"};
    return whole;
}

}  // namespace

void add_ls(CLI::App& app, action& chosen) {
    struct settings {
        target to;
        bool json = false;
    };
    auto& command = *app.add_subcommand("ls", "Shows a node's places, channels and links");
    command.footer(std::string("A CHANNEL crosses a link; SENT, QUEUED and RECEIVED are bytes of "
                               "records.\n"
                               "A LOCAL one is between two places, of which the second has asked "
                               "for it;\n"
                               "RING is bytes each way, STATE open, or left by one of the two.\n") +
                   exit_codes_text);
    const auto s = std::make_shared<settings>();
    add_target(command, s->to);
    command.add_flag("--json", s->json, "One JSON object on one line");
    command.callback([s, &chosen] {
        chosen = [s](int, char**) {
            const auto list = list_of(s->to);
            s->json ? print_json(list) : print(list);
            return done;
        };
    });
}

}  // namespace places::cli
