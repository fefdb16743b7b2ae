// SPDX-License-Identifier: Apache-2.0
// places key FILE
#include "launcher/cli/cli.hpp"
#include "launcher/cli/key_file.hpp"

#include <cstdio>

namespace places::cli {

void add_key(CLI::App& app, action& chosen) {
    auto& command = *app.add_subcommand("key", "Writes a new key into a new file, of mode 0600");
    command.footer(exit_codes_text);
    const auto path = std::make_shared<std::string>();
    command.add_option("FILE", *path, "Must not be there yet")->required();
    command.callback([path, &chosen] {
        chosen = [path](int, char**) {
            const auto key = write_key_file(*path);
            std::printf("key %s in %s\n", net::key_id(key).c_str(), path->c_str());
            return done;
        };
    });
}

}  // namespace places::cli
