// SPDX-License-Identifier: Apache-2.0
// places ls ADDR
#include "launcher/cli/cli.hpp"
#include "launcher/cli/conversation.hpp"

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

void print(const net::list_answer_frame& list) {
    rows places{{"PLACE", "PID", "NAME", "ENTRY", "STATE", "AGE"}};
    for (const auto& p : list.places)
        places.push_back({std::to_string(p.number), std::to_string(p.pid), shown(p.name),
                          shown(p.entry), shown(p.state), age(p.age_ms)});
    rows channels{{"CHANNEL", "LINK", "PLACE", "SENT", "QUEUED", "RECEIVED"}};
    for (const auto& c : list.channels)
        channels.push_back({std::to_string(c.number), std::to_string(c.link),
                            std::to_string(c.place), std::to_string(c.sent),
                            std::to_string(c.sent - c.acknowledged), std::to_string(c.placed)});
    rows links{{"LINK", "PEER", "ADDRESS", "AGE", "TLS", "RIGHTS"}};
    for (const auto& l : list.links)
        links.push_back({std::to_string(l.number), shown(l.peer), shown(l.address), age(l.age_ms),
                         l.is_secure ? "yes" : "no", shown(l.rights)});
    print_table(places);
    std::printf("\n");
    print_table(channels);
    std::printf("\n");
    print_table(links);
}

// -- JSON --

/// How many octets the character at the beginning of `text` has; 0 where none is.
/// Source: RFC 3629, section 4: no overlong forms, no surrogates, nothing above U+10FFFF.
std::size_t character_bytes(std::string_view text) noexcept {
    const auto at = [&](std::size_t i) -> unsigned {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
    };
    const auto follow = [&](std::size_t from, std::size_t size) {
        for (auto i = from; i < size; ++i) {
            if ((at(i) & 0xC0) != 0x80) return false;
        }
        return true;
    };
    const unsigned first = at(0);
    const unsigned second = at(1);
    if (first < 0x80) return 1;
    if (first >= 0xC2 && first <= 0xDF) return follow(1, 2) ? 2 : 0;
    if (first >= 0xE0 && first <= 0xEF) {
        const unsigned least = first == 0xE0 ? 0xA0 : 0x80;
        const unsigned most = first == 0xED ? 0x9F : 0xBF;
        return second >= least && second <= most && follow(2, 3) ? 3 : 0;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        const unsigned least = first == 0xF0 ? 0x90 : 0x80;
        const unsigned most = first == 0xF4 ? 0x8F : 0xBF;
        return second >= least && second <= most && follow(2, 4) ? 4 : 0;
    }
    return 0;
}

/// JSON is UTF-8, and a name is any octets: those that are no character become U+FFFD each.
std::string in_quotes(std::string_view text) {
    std::string made = "\"";
    while (!text.empty()) {
        const auto size = character_bytes(text);
        const char c = text.front();
        const auto octet = static_cast<unsigned char>(c);
        if (size == 0) {
            made += "\xEF\xBF\xBD";
        } else if (size > 1) {
            made += text.substr(0, size);
        } else if (c == '"' || c == '\\') {
            made += '\\';
            made += c;
        } else if (octet < 0x20 || octet == 0x7F) {
            char escape[8];
            std::snprintf(escape, sizeof escape, "\\u%04x", octet);
            made += escape;
        } else {
            made += c;
        }
        text.remove_prefix(std::max<std::size_t>(size, 1));
    }
    return made + '"';
}

class json_list {
  public:
    void begin() { text_ += text_.empty() ? "{" : ", {"; }
    void add(const char* name, const std::string& value) {
        if (text_.back() != '{') text_ += ", ";
        text_.append("\"").append(name).append("\": ").append(value);
    }
    void add(const char* name, std::uint64_t value) { add(name, std::to_string(value)); }
    void end() { text_ += "}"; }
    std::string text() const { return "[" + text_ + "]"; }

  private:
    std::string text_;
};

void print_json(const net::list_answer_frame& list) {
    json_list places;
    for (const auto& p : list.places) {
        places.begin();
        places.add("place", p.number);
        places.add("pid", std::to_string(p.pid));
        places.add("name", in_quotes(p.name));
        places.add("entry", in_quotes(p.entry));
        places.add("state", in_quotes(p.state));
        places.add("age_ms", p.age_ms);
        places.end();
    }
    json_list channels;
    for (const auto& c : list.channels) {
        channels.begin();
        channels.add("channel", c.number);
        channels.add("link", c.link);
        channels.add("place", c.place);
        channels.add("sent", c.sent);
        channels.add("acknowledged", c.acknowledged);
        channels.add("received", c.placed);
        channels.end();
    }
    json_list links;
    for (const auto& l : list.links) {
        links.begin();
        links.add("link", l.number);
        links.add("peer", in_quotes(l.peer));
        links.add("address", in_quotes(l.address));
        links.add("age_ms", l.age_ms);
        links.add("tls", l.is_secure ? "true" : "false");
        links.add("rights", in_quotes(l.rights));
        links.end();
    }
    std::printf("{\"places\": %s, \"channels\": %s, \"links\": %s}\n", places.text().c_str(),
                channels.text().c_str(), links.text().c_str());
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
        return part->is_last;
    });
    if (!is_whole)
        throw error{errc::node_down, "the node at " + to.address + " has hung up half way"};
    return whole;
}

}  // namespace

void add_ls(CLI::App& app, action& chosen) {
    struct settings {
        target to;
        bool json = false;
    };
    auto& command = *app.add_subcommand("ls", "Shows a node's places, channels and links");
    command.footer(std::string("Channels are those that cross a link; SENT, QUEUED and RECEIVED "
                               "are bytes of records.\n") +
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
