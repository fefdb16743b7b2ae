// SPDX-License-Identifier: Apache-2.0
// places key FILE
#include "launcher/cli/cli.hpp"
#include "launcher/key_file.hpp"

#include <CLI/Option.hpp>
#include <CLI/Validators.hpp>
#include <boost/algorithm/string/join.hpp>

#include <cstdio>
#include <vector>

namespace places::cli {
namespace {

struct settings {
    std::string file;
    std::string owner;
    std::string from;
    std::vector<std::string> rights;
};

net::known_key key_asked_for(const settings& s) {
    if (s.owner.empty()) {
        return {net::make_node_key(), std::string(net::launcher_name), net::all_rights,
                net::key_kind::launcher};
    }
    if (!net::is_owner_name(s.owner)) {
        throw error{errc::bad_argument, "\"" + net::printable(s.owner) + "\" " + net::owner_rule};
    }
    if (s.from.empty()) {
        const auto words = boost::algorithm::join(s.rights, " ");
        const auto rights = words.empty() ? net::connect_only : net::parse_rights(words).value();
        return {net::make_node_key(), s.owner, rights, net::key_kind::granted};
    }
    const auto node = launcher::read_key_file(s.from);
    if (node.kind != net::key_kind::launcher) {
        throw error{errc::bad_key_file,
                    "key file " + s.from + ": is no node's own, and makes no keys for others"};
    }
    return {net::make_guest_key(node.key, s.owner), s.owner, net::connect_only,
            net::key_kind::granted};
}

}  // namespace

void add_key(CLI::App& app, action& chosen) {
    auto& command = *app.add_subcommand("key", "Writes a new key into a new file, of mode 0600");
    command.footer(
        std::string("The file has 64 hexadecimal digits, which are 32 random bytes, and a line for "
                    "owner and\nrights, if any. Without an owner it is a node's own, for "
                    "--key-file of `places node` and for\nwhoever commands the node. With one it "
                    "allows no more than it says, and its owner is called so at\nthe node.\n") +
        exit_codes_text);
    const auto s = std::make_shared<settings>();
    command.add_option("FILE", s->file, "Must not be there yet")->required();
    auto* const owner = command.add_option("--owner", s->owner, "Who the key is for");
    auto* const allows =
        command
            .add_option("--allows", s->rights,
                        "What its owner may do at a node that is told to --allow it; connect if "
                        "none")
            ->check(CLI::IsMember({"start", "stop", "list", "connect"}))
            ->delimiter(',')
            ->needs(owner);
    command
        .add_option("--from", s->from,
                    "The own key of a node, for which this one is then made, to connect to its "
                    "named places; the node need not be told, and forgets it with its own key")
        ->needs(owner)
        ->excludes(allows);
    command.callback([s, &chosen] {
        chosen = [s](int, char**) {
            const auto key = key_asked_for(*s);
            launcher::write_key_file(s->file, key);
            std::printf("key %s in %s\n", net::key_id(key.key).c_str(), s->file.c_str());
            return done;
        };
    });
}

}  // namespace places::cli
