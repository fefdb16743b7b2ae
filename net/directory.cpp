// SPDX-License-Identifier: Apache-2.0
#include "net/directory.hpp"

#include "net/relay.hpp"

#include <boost/asio/ip/address.hpp>

#include <algorithm>
#include <chrono>
#include <utility>

namespace places::net {
namespace {

// For the controller's answer, and again for the dial.
constexpr std::chrono::seconds step_limit{5};

std::string ambiguous(const std::string& node) {
    return "several nodes are called \"" + printable(node) + "\"; give each a .name of its own";
}

}  // namespace

directory::directory(boost::asio::io_context& io, const session_table& sessions,
                     const incarnation_id& incarnation, handlers h)
    : io_(io),
      sessions_(sessions),
      incarnation_(incarnation),
      handlers_(std::move(h)) {}

session_table::const_iterator directory::find_session(
    const std::function<bool(const session&)>& is_it) const {
    return std::ranges::find_if(sessions_, [&](const auto& each) { return is_it(*each.second); });
}

session_table::const_iterator directory::find_peer_link(const std::string& node) const {
    return find_session([&](const session& s) { return s.may_open() && s.is_peer_link_to(node); });
}

std::vector<session_table::const_iterator> directory::called(const std::string& node,
                                                             bool or_guest) const {
    std::vector<session_table::const_iterator> found;
    for (auto each = sessions_.begin(); each != sessions_.end(); ++each) {
        const auto& s = *each->second;
        const bool is_ours = s.own_role() == session::role::controller ||
                             (or_guest && s.own_role() == session::role::guest);
        if (is_ours && s.may_open() && s.label() == node) found.push_back(each);
    }
    return found;
}

void directory::connect(const std::string& node, std::unique_ptr<detail::channel_state> local,
                        open_frame request) {
    const auto ours = called(node, true);
    if (ours.size() > 1) {
        return relay{std::move(local), 0}.refuse(errc::name_taken, ambiguous(node));
    }
    const auto found = ours.empty() ? find_peer_link(node) : ours[0];
    if (found != sessions_.end()) {
        return found->second->open(std::move(local), std::move(request), false);
    }
    auto& w = wanted_[node];
    w.all.push_back({std::move(local), std::move(request)});
    if (w.all.size() == 1) ask(node);
}

void directory::ask(const std::string& node) {
    if (!is_node_name(node)) {
        return refuse_all(node, errc::bad_argument,
                          "no node can be called \"" + printable(node) +
                              "\": a name has 1 to 255 bytes of UTF-8 and no control characters");
    }
    const auto controller = find_session([](const session& s) { return s.is_to_controller(); });
    if (controller == sessions_.end()) {
        if (handlers_.is_started()) {
            return refuse_all(node, errc::node_unreachable,
                              "whoever has started this node is not linked to it any more, and "
                              "nobody else knows where others are");
        }
        return refuse_all(
            node, errc::name_not_found,
            "no node is called \"" + node + "\"; those started from here: " + names_of_started());
    }
    auto& w = wanted_.at(node);
    w.asked = controller->first;
    w.limit = std::make_unique<boost::asio::steady_timer>(io_, step_limit);
    w.limit->async_wait([this, node](boost::system::error_code ec) {
        // The answer may have come in the same turn.
        const auto late = wanted_.find(node);
        if (ec || late == wanted_.end() || late->second.asked == 0) return;
        refuse_all(node, errc::node_unreachable,
                   "whoever has started this node does not say where it is");
    });
    controller->second->ask_introduction(node);
}

void directory::on_introduction(const introduction_frame& f) {
    const auto found = wanted_.find(f.node);
    if (found == wanted_.end() || found->second.asked == 0) return;  // to an earlier question
    found->second.asked = 0;
    found->second.limit.reset();
    if (f.code != errc{}) return refuse_all(f.node, f.code, printable(f.text, f.text.size()));
    if (f.host.empty()) {
        for (const auto& each : take(f.node)) {
            (void)each.local->put(message_kind::opened, 0, detail::encode_datum(here_answer{}),
                                  shm::deadline::min());
        }
        return;
    }
    const auto linked = find_peer_link(f.node);
    if (linked != sessions_.end()) return open_all(f.node, *linked->second);
    dial(f);
}

void directory::dial(const introduction_frame& f) {
    dial_options options;
    options.host = f.host;
    options.port = f.port;
    options.insecure = f.insecure;
    options.key = f.key;
    options.name = f.asker;
    options.incarnation = incarnation_;
    options.granted = connect_only;
    options.deadline = step_limit;
    const auto done = [this, node = f.node](dial_result result) {
        if (!result) return refuse_all(node, result.error().code, result.error().text);
        const auto s = handlers_.on_dialed(*result, node);
        open_all(node, *s);
    };
    (void)net::dial(io_, std::move(options), done);
}

std::vector<directory::waiting> directory::take(const std::string& node) {
    const auto found = wanted_.find(node);
    if (found == wanted_.end()) return {};
    auto all = std::move(found->second.all);
    wanted_.erase(found);
    return all;
}

void directory::open_all(const std::string& node, session& over) {
    for (auto& each : take(node)) over.open(std::move(each.local), std::move(each.request), false);
}

void directory::refuse_all(const std::string& node, errc code, const std::string& text) {
    for (auto& each : take(node)) relay{std::move(each.local), 0}.refuse(code, text);
}

void directory::on_lost(std::uint64_t link_id) {
    known_.erase(link_id);
    std::vector<std::string> hopeless;
    for (const auto& [node, w] : wanted_) {
        if (w.asked == link_id) hopeless.push_back(node);
    }
    for (const auto& node : hopeless) {
        refuse_all(node, errc::node_unreachable,
                   "the link to whoever has started this node has ended");
    }
}

introduction_frame directory::answer_introduce(const session& asker,
                                               const std::string& node) const {
    introduction_frame f{.node = node};
    const auto refuse = [&](errc code, const std::string& text) {
        f.code = code;
        f.text = text;
        return f;
    };
    const auto all = called(node);
    if (all.empty()) {
        return refuse(errc::name_not_found, "no node is called \"" + printable(node) +
                                                "\"; those there are: " + names_of_started());
    }
    for (const auto& name : {node, asker.label()}) {
        if (called(name).size() > 1) return refuse(errc::name_taken, ambiguous(name));
        if (is_owner_name(name)) continue;
        return refuse(errc::bad_argument, "a node called \"" + printable(name) +
                                              "\" cannot be told of others; give it a .name");
    }
    if (all[0]->second.get() == &asker) return f;
    const auto from = find_session([&](const session& s) { return &s == &asker; });
    const auto to = known_.find(all[0]->first);
    const auto origin = from == sessions_.end() ? known_.end() : known_.find(from->first);
    if (to == known_.end() || origin == known_.end()) {
        return refuse(errc::node_unreachable, "nobody here knows where \"" + node + "\" listens");
    }
    const auto& there = to->second;
    if (there.is_tunnelled) {
        return refuse(errc::node_unreachable,
                      "\"" + node +
                          "\" is reached through its controller's SSH alone (.tunnel); start it "
                          "with a port that other nodes can dial");
    }
    if (is_loopback(there.host) && !origin->second.is_here) {
        return refuse(errc::node_unreachable,
                      "\"" + node +
                          "\" is known by loopback of another host only; start it with a "
                          ".listen_address or .advertise that other nodes can dial");
    }
    f.asker = asker.label();
    f.host = there.host;
    f.port = there.port;
    f.key = make_peer_key(there.key, asker.label());
    f.insecure = there.insecure;
    return f;
}

std::string directory::names_of_started() const {
    std::vector<std::string> names;
    for (const auto& [id, s] : sessions_) {
        if (s->own_role() == session::role::controller) names.push_back(printable(s->label()));
    }
    std::ranges::sort(names);
    if (names.empty()) return "none";
    std::string text;
    for (const auto& each : names) text += (text.empty() ? "\"" : ", \"") + each + "\"";
    return text;
}

}  // namespace places::net
