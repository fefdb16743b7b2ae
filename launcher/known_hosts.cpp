// SPDX-License-Identifier: Apache-2.0
#include "launcher/known_hosts.hpp"

#include "launcher/text_parts.hpp"
#include "net/digest.hpp"

#include <places/shm/unique_fd.hpp>

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace places::launcher {
namespace {

/// `|1|salt|digest`: HMAC-SHA1 of the name, which the file does not tell.
bool matches_hashed(std::string_view field, std::string_view name) {
    field.remove_prefix(3);
    const auto bar = field.find('|');
    if (bar == field.npos) return false;
    const auto salt = from_base64(field.substr(0, bar));
    const auto digest = from_base64(field.substr(bar + 1));
    return digest == net::hmac_of(net::hash::sha1, salt, name);
}

bool matches_field(std::string_view field, std::string_view name) {
    if (field.starts_with("|1|")) return matches_hashed(field, name);
    std::vector<std::string> patterns;
    while (!field.empty()) {
        const auto comma = field.find(',');
        patterns.push_back(to_lower(field.substr(0, comma)));
        field.remove_prefix(comma == field.npos ? field.size() : comma + 1);
    }
    return matches_any(patterns, name);
}

}  // namespace

known_hosts::known_hosts(const std::vector<std::string>& files, std::string_view host,
                         std::uint16_t port) {
    const auto name = to_lower(known_hosts_name(host, port));
    for (const auto& file : files) read(file, to_lower(host), name);
}

void known_hosts::read(const std::string& file, std::string_view host, std::string_view name) {
    std::ifstream in(file);
    int number = 0;
    for (std::string line; std::getline(in, line);) {
        ++number;
        const auto words = words_of(line);
        if (words.empty() || words[0].starts_with('#')) continue;
        const bool marked = words[0].starts_with('@');
        const std::size_t at = marked ? 1 : 0;
        // Host certificates are for the ssh command.
        if (words.size() < at + 3 || (marked && words[0] != "@revoked")) continue;
        const bool is_of_port = matches_field(words[at], name);
        if (!is_of_port && !matches_field(words[at], host)) continue;
        auto key = from_base64(words[at + 2]);
        if (key.empty()) continue;
        (is_of_port ? entries_ : portless_)
            .push_back(
                {words[at + 1], std::move(key), marked, file + ":" + std::to_string(number)});
    }
}

known_hosts::verdict known_hosts::check(std::string_view key) const {
    const auto has = [&](const std::vector<entry>& entries, bool revoked) {
        return std::ranges::any_of(entries,
                                   [&](auto& e) { return e.revoked == revoked && e.key == key; });
    };
    if (has(entries_, true) || has(portless_, true)) return verdict::revoked;
    if (has(entries_, false)) return verdict::known;
    if (std::ranges::all_of(entries_, &entry::revoked)) {
        return has(portless_, false) ? verdict::known : verdict::unknown;
    }
    const auto kind = kind_of_key(key);
    const bool has_other =
        std::ranges::any_of(entries_, [&](auto& e) { return !e.revoked && e.kind == kind; });
    return has_other ? verdict::changed : verdict::unknown;
}

std::vector<std::string> known_hosts::kinds() const {
    std::vector<std::string> found;
    for (const auto& e : entries_) {
        if (!e.revoked && std::ranges::find(found, e.kind) == found.end()) found.push_back(e.kind);
    }
    return found;
}

std::string known_hosts::where(std::string_view kind) const {
    const entry* found = nullptr;
    for (const auto& e : entries_) {
        if (e.revoked) continue;
        if (e.kind == kind) return e.where;
        if (!found) found = &e;
    }
    return found ? found->where : std::string();
}

std::string known_hosts_name(std::string_view host, std::uint16_t port) {
    if (port == 22) return std::string(host);
    std::string name = "[";
    name.append(host).append("]:").append(std::to_string(port));
    return name;
}

std::string known_hosts_line(std::string_view host, std::uint16_t port, std::string_view key) {
    return known_hosts_name(host, port) + " " + kind_of_key(key) + " " + to_base64(key);
}

void add_known_host(const std::string& file, const std::string& line,
                    const std::string& ssh_folder) {
    // Whoever has never used ssh has none yet. Another folder that is not there is spelt wrong.
    const auto folder = std::filesystem::path(file).parent_path();
    if (folder == std::filesystem::path(ssh_folder)) (void)::mkdir(folder.c_str(), 0700);
    const unique_fd to{::open(file.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600)};
    checked(to.get(), ("open " + file).c_str());
    struct stat facts {};
    checked(::fstat(to.get(), &facts), ("look at " + file).c_str());
    char last = '\n';
    if (facts.st_size > 0) {
        checked(::pread(to.get(), &last, 1, facts.st_size - 1), ("read " + file).c_str());
    }
    // One write: several remote launchers may add to it at once.
    const auto whole = (last == '\n' ? "" : "\n") + line + "\n";
    const auto written = ::write(to.get(), whole.data(), whole.size());
    checked(written, ("write to " + file).c_str());
    if (written != static_cast<ssize_t>(whole.size())) {
        throw std::system_error(ENOSPC, std::generic_category(), "write to " + file);
    }
}

std::string fingerprint_of(std::string_view key) {
    auto text = to_base64(net::digest_of(net::hash::sha256, key));
    text.resize(text.find_last_not_of('=') + 1);
    return "SHA256:" + text;
}

std::string kind_of_key(std::string_view key) {
    return std::string(take_string(key).value_or(std::string_view()));
}

}  // namespace places::launcher
