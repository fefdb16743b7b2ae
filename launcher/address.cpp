// SPDX-License-Identifier: Apache-2.0
#include "launcher/address.hpp"

#include "net/keys.hpp"

#include <charconv>
#include <string_view>

namespace places::launcher {

host_and_port parse_address(const std::string& text) {
    const auto refuse = [&] {
        throw error{errc::bad_argument,
                    "\"" + net::printable(text) + "\" is no address: HOST:PORT or [V6]:PORT"};
    };
    host_and_port to;
    std::string_view rest = text;
    if (rest.starts_with('[')) {
        const auto end = rest.find(']');
        if (end == rest.npos) refuse();
        to.host = rest.substr(1, end - 1);
        rest.remove_prefix(end + 1);
    } else {
        to.host = rest.substr(0, rest.find(':'));
        rest.remove_prefix(to.host.size());
    }
    if (to.host.empty()) refuse();
    if (rest.empty()) return to;
    if (!rest.starts_with(':')) refuse();
    rest.remove_prefix(1);
    const auto [end, ec] = std::from_chars(rest.data(), rest.data() + rest.size(), to.port);
    if (ec != std::errc{} || end != rest.data() + rest.size()) refuse();
    return to;
}

}  // namespace places::launcher
