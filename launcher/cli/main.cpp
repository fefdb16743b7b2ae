// SPDX-License-Identifier: Apache-2.0
// places COMMAND: nodes that are run by hand, and a look at those that run.
#include "launcher/cli/cli.hpp"

#include "launcher/spawned.hpp"
#include "net/frame.hpp"
#include "net/keys.hpp"

#include <CLI/CLI.hpp>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fcntl.h>

namespace places::cli {

void add_target(CLI::App& command, target& to) {
    command.add_option("ADDR", to.address, "HOST:PORT or [V6]:PORT of the node; port 6340 if none")
        ->required();
    command.add_option("--key-file", to.key_file, "The node's key, or one that it allows that to")
        ->required();
    command.add_flag("--insecure", to.insecure, "Plain TCP, to loopback only");
}

namespace {

int exit_code_of(const error& e) {
    switch (net::code_of(e)) {
        case errc::node_unreachable:
        case errc::full: return unreachable;
        case errc::node_down: return broken;
        case errc::bad_key_file: return bad_key_file;
        case errc::bad_key: return key_refused;
        case errc::wrong_version: return other_version;
        case errc::protocol: return other_protocol;
        case errc::permission_denied: return denied;
        case errc::bad_argument: return usage;
        default: return failed;
    }
}

/// Returns: `status`; failed, having said why, where what was printed has gone nowhere.
int once_written(int status) {
    errno = 0;
    if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return status;
    std::fprintf(stderr, "places: standard output: %s\n", std::strerror(errno ? errno : EIO));
    return failed;
}

}  // namespace
}  // namespace places::cli

int main(int argc, char** argv) {
    namespace cli = places::cli;
    CLI::App app{"Runs nodes by hand, and looks at those that run.", "places"};
    app.require_subcommand(1);
    app.footer(cli::exit_codes_text);
    cli::action chosen;
    cli::add_node(app, chosen);
    cli::add_ls(app, chosen);
    cli::add_stop(app, chosen);
    cli::add_key(app, chosen);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? cli::once_written(cli::done) : cli::usage;
    }
    try {
        // Whoever writes to one that is closed is still told so.
        places::launcher::fill_standard_streams(O_RDONLY);
        const int status = chosen(argc, argv);
        // A node has no result to print, and lives on where nobody reads what it says.
        return app.got_subcommand("node") ? status : cli::once_written(status);
    } catch (const cli::listen_error& e) {
        std::fprintf(stderr, "places: %s\n", e.what());
        return cli::cannot_listen;
    } catch (const places::error& e) {
        std::fprintf(stderr, "places: %s\n", e.what());
        return cli::exit_code_of(e);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "places: %s\n", e.what());
        return cli::failed;
    }
}
