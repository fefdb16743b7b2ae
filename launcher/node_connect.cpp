// SPDX-License-Identifier: Apache-2.0
// A node that runs already: a link to it, and no process of ours.
#include "core/child.hpp"
#include "launcher/address.hpp"
#include "launcher/key_file.hpp"
#include "launcher/node.hpp"
#include "net/keys.hpp"

#include <algorithm>
#include <system_error>
#include <utility>

namespace places::launcher {
namespace {

net::known_key key_for(const std::string& where, const connect_options& options) {
    const auto refuse = [&](const std::string& what) {
        throw error(errc::bad_argument, "node " + where + ": " + what);
    };
    if (options.key_file.empty() == options.key.empty()) {
        refuse("one of key_file and key is wanted, by which it knows who connects");
    }
    if (!options.key_file.empty()) {
        if (!options.owner.empty()) refuse("an owner beside a key_file, which names its own");
        return read_key_file(options.key_file);
    }
    net::known_key made;
    if (options.key.size() != made.key.size()) {
        refuse("a key of " + std::to_string(options.key.size()) + " bytes: 32 are one");
    }
    std::ranges::copy(options.key, made.key.begin());
    made.owner = options.owner.empty() ? std::string(net::launcher_name) : options.owner;
    if (!options.owner.empty() && !net::is_owner_name(options.owner)) {
        refuse("\"" + net::printable(options.owner) + "\" " + net::owner_rule);
    }
    return made;
}

}  // namespace

std::shared_ptr<remote_node::state> connect_node(detail::process& self, const std::string& address,
                                                 const connect_options& options) {
    const auto to = parse_address(address);
    const bool is_v6 = to.host.find(':') != to.host.npos;
    const auto where = (is_v6 ? "[" + to.host + "]" : to.host) + ":" + std::to_string(to.port);
    auto node = std::make_shared<remote_node::state>();
    node->is_started_here = false;
    node->name = options.name.empty() ? where : options.name;
    node->host = to.host;
    node->port = to.port;
    if (!net::is_node_name(node->name)) {
        throw error(errc::bad_argument, "node " + where + ": \"" + net::printable(node->name) +
                                            "\" " + net::node_name_rule);
    }
    const auto held = key_for(where, options);
    net::dial_command dial{.host = to.host,
                           .port = to.port,
                           .key = {held.key.begin(), held.key.end()},
                           .own_name = held.owner,
                           .label = node->name,
                           .deadline_ms = options.deadline.count(),
                           .insecure = options.insecure};
    try {
        node->bridge = open_bridge(self, std::move(dial), ring_bytes_default);
        node->link = body_of<net::linked>(detail::await_opened(node->bridge)).link;
    } catch (const error& e) {
        throw error(e.code(), "node " + where + ": " + e.what());
    } catch (const std::system_error& e) {
        throw error(errc::start_failed, "node " + where + ": " + e.what());
    }
    return node;
}

}  // namespace places::launcher
