// SPDX-License-Identifier: Apache-2.0
// places stop ADDR
#include "launcher/cli/cli.hpp"
#include "launcher/cli/conversation.hpp"

#include <CLI/Validators.hpp>

#include <cstdint>

namespace places::cli {

void add_stop(CLI::App& app, action& chosen) {
    struct settings {
        target to;
        int status = 0;
        int wait_seconds = 10;
    };
    auto& command = *app.add_subcommand(
        "stop", "Ends a node and its places, and waits until it has hung up in order");
    command.footer(exit_codes_text);
    const auto s = std::make_shared<settings>();
    add_target(command, s->to);
    command.add_option("--status", s->status, "What the node exits with")
        ->check(CLI::Range(0, 255))
        ->capture_default_str();
    command.add_option("--wait", s->wait_seconds, "Seconds to wait")
        ->check(CLI::Range(1, 3600))
        ->capture_default_str();
    command.callback([s, &chosen] {
        chosen = [s](int, char**) {
            const auto is_refused = [](const net::frame& f) {
                if (const auto* r = std::get_if<net::exit_refused_frame>(&f))
                    throw error{r->code, net::printable(r->text)};
                return false;
            };
            (void)ask(s->to, net::exit_frame{s->status}, std::chrono::seconds{s->wait_seconds},
                      is_refused);
            return done;
        };
    });
}

}  // namespace places::cli
