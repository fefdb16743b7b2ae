// SPDX-License-Identifier: Apache-2.0
#include "launcher/ssh_config.hpp"

#include "launcher/text_parts.hpp"
#include "net/digest.hpp"

#include <places/core/error.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <glob.h>
#include <initializer_list>
#include <iterator>
#include <pwd.h>
#include <set>
#include <span>
#include <unistd.h>
#include <utility>

namespace places::launcher {
namespace {

constexpr int include_depth_max = 16;  // as in ssh

std::uint16_t parse_port(std::string_view text, const std::string& where) {
    std::uint16_t port = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (ec != std::errc{} || end != text.data() + text.size() || port == 0) {
        throw error(errc::bad_argument,
                    where + ": \"" + std::string(text) + "\" is no port: 1 to 65535");
    }
    return port;
}

/// ~ and ~user written out. Returns: nothing where there is no such user.
std::optional<std::string> under_home(std::string_view path, const std::string& home) {
    if (!path.starts_with('~')) return std::string(path);
    const auto end = std::min(path.find('/'), path.size());
    const std::string user(path.substr(1, end - 1));
    const auto* entry = user.empty() ? nullptr : ::getpwnam(user.c_str());
    if (!user.empty() && !entry) return std::nullopt;
    return (entry ? std::string(entry->pw_dir) : home) + std::string(path.substr(end));
}

std::string own_host_name() {
    std::array<char, 256> name{};
    (void)::gethostname(name.data(), name.size() - 1);
    return name.data();
}

/// Reads files into settings; what has been set stays.
class reader {
  public:
    /// Whether a block counts: of `Match` with criteria that is not for us to say.
    enum class block { applies, skipped, unclear };

    reader(ssh_settings& into, std::string host, std::string home, std::string local_user)
        : into_(into),
          host_(std::move(host)),
          home_(std::move(home)),
          local_user_(std::move(local_user)) {}

    /// Returns: whether the file could be read.
    bool read(const std::string& file, const std::string& folder, block outer = block::applies,
              int depth = 0) {
        auto here = outer;
        std::ifstream in(file);
        if (!in || in.peek() == std::ifstream::traits_type::eof()) return in.is_open();
        int number = 0;
        for (std::string line; std::getline(in, line);) {
            ++number;
            auto words = split(line);
            if (words.empty()) continue;
            const auto name = to_lower(words[0]);
            const std::span values(words.begin() + 1, words.end());
            if (name == "host") {
                here = matches_any(values, host_) ? outer : block::skipped;
            } else if (name == "match") {
                here = !values.empty() && to_lower(values[0]) == "all" ? outer : block::unclear;
            } else if (here == block::skipped || values.empty()) {
                continue;
            } else if (name == "include") {
                for (const auto& each : values) {
                    include(each, folder, here, depth, file + ":" + std::to_string(number));
                }
            } else if (here == block::applies) {
                set(name, values, file + ":" + std::to_string(number));
            } else if (counts(name) && into_.beyond_us.empty()) {
                into_.beyond_us = file + ":" + std::to_string(number) + ": " + name + " " +
                                  values[0] + " in a Match block with criteria";
            }
        }
        return true;
    }

    /// A file's name with ~, ${NAME} and tokens written out, once the host's name, port and user
    /// are known. `keyword`: for the error.
    std::string file_of(const std::string& text, const char* keyword) const {
        const auto path = under_home(text, home_);
        if (!path) refuse(keyword, text, "there is no such user");
        return expanded(*path, keyword, text, "CdhijkLlnpru%", true);
    }
    /// A host's name, which has %h and %% alone.
    std::string host_of(const std::string& text) const {
        return expanded(text, "HostName", text, "h%", false);
    }

  private:
    [[noreturn]] static void refuse(const char* keyword, const std::string& text,
                                    const std::string& why) {
        throw error(errc::bad_argument,
                    std::string(keyword) + " " + text + " of the SSH configuration: " + why);
    }
    /// `whole`: what it comes from.
    std::string expanded(const std::string& text, const char* keyword, const std::string& whole,
                         std::string_view tokens, bool has_variables) const {
        std::string result;
        for (std::size_t i = 0; i < text.size(); ++i) {
            if (has_variables && text.compare(i, 2, "${") == 0) {
                const auto end = text.find('}', i);
                if (end == text.npos) refuse(keyword, whole, "a variable's name has no end");
                const auto name = text.substr(i + 2, end - i - 2);
                const char* value = std::getenv(name.c_str());
                if (!value) refuse(keyword, whole, "there is no variable \"" + name + "\"");
                result += value;
                i = end;
            } else if (text[i] == '%') {
                const auto name = text.substr(i++, 2);
                if (name.size() < 2 || tokens.find(name[1]) == tokens.npos) {
                    refuse(keyword, whole, "there is no token " + name);
                }
                result += token(name[1]);
            } else {
                result += text[i];
            }
        }
        return result;
    }
    /// Source: ssh_config(5), TOKENS. There is no ProxyJump, and no HostKeyAlias.
    std::string token(char name) const {
        switch (name) {
            case 'C':
                return net::to_hex(net::digest_of(
                    net::hash::sha1,
                    own_host_name() + into_.host_name + std::to_string(into_.port) + into_.user));
            case 'd': return home_;
            case 'h': return into_.host_name;
            case 'i': return std::to_string(::getuid());
            case 'j': return {};
            case 'k':
            case 'n': return host_;
            case 'L': return own_host_name().substr(0, own_host_name().find('.'));
            case 'l': return own_host_name();
            case 'p': return std::to_string(into_.port);
            case 'r': return into_.user;
            case 'u': return local_user_;
            default: return "%";
        }
    }

    /// `Name value…` or `Name=value…`; nothing of a comment.
    static std::vector<std::string> split(std::string line) {
        const auto begin = line.find_first_not_of(" \t");
        if (begin == line.npos || line[begin] == '#') return {};
        const auto name_end = line.find_first_of(" \t=", begin);
        if (name_end != line.npos) {
            const auto sign = line.find_first_not_of(" \t", name_end);
            if (sign != line.npos && line[sign] == '=') line[sign] = ' ';
        }
        auto words = quoted_words_of(line);
        for (std::size_t i = 1; i < words.size(); ++i) {
            if (words[i].starts_with('#')) words.resize(i);
        }
        return words;
    }

    /// Whether it makes a difference to us; ciphers, say, do not.
    static bool counts(std::string_view name) {
        for (const std::string_view each :
             {"hostname", "user", "port", "identityfile", "identitiesonly", "userknownhostsfile",
              "stricthostkeychecking"}) {
            if (name == each) return true;
        }
        return is_beyond_us(name);
    }
    static bool is_beyond_us(std::string_view name) {
        for (const std::string_view each :
             {"proxyjump", "proxycommand", "certificatefile", "revokedhostkeys",
              "globalknownhostsfile", "hostkeyalias", "identityagent"}) {
            if (name == each) return true;
        }
        return false;
    }

    template <class Meaning>
    static Meaning one_of(const std::string& value, const std::string& where,
                          std::initializer_list<std::pair<const char*, Meaning>> words) {
        std::string all;
        for (const auto& [word, meaning] : words) {
            if (to_lower(value) == word) return meaning;
            all += (all.empty() ? "" : ", ") + std::string(word);
        }
        throw error(errc::bad_argument, where + ": \"" + value + "\" is none of " + all);
    }

    void include(const std::string& pattern, const std::string& folder, block outer, int depth,
                 const std::string& where) {
        if (depth == include_depth_max) return;
        // Which of these there are depends on the version of ssh.
        if (pattern.find('%') != pattern.npos || pattern.find("${") != pattern.npos) {
            if (into_.beyond_us.empty()) into_.beyond_us = where + ": include " + pattern;
            return;
        }
        auto path = under_home(pattern, home_).value_or(std::string());
        if (path.empty()) return;
        if (!path.starts_with('/')) path = folder + "/" + path;
        glob_t found{};
        if (::glob(path.c_str(), 0, nullptr, &found) == 0) {
            for (std::size_t i = 0; i < found.gl_pathc; ++i) {
                (void)read(found.gl_pathv[i], folder, outer, depth + 1);
            }
        }
        ::globfree(&found);
    }

    void set(const std::string& name, std::span<const std::string> values,
             const std::string& where) {
        const auto& value = values[0];
        const auto first = [&](std::string& field) {
            if (field.empty()) field = value;
        };
        if (name == "hostname") {
            first(into_.host_name);
        } else if (name == "user") {
            first(into_.user);
        } else if (name == "port") {
            if (into_.port == 0) into_.port = parse_port(value, where);
        } else if (name == "identityfile") {
            into_.identity_files.push_back(value);
        } else if (name == "userknownhostsfile") {
            if (into_.known_hosts_files.empty()) {
                into_.known_hosts_files.assign(values.begin(), values.end());
            }
        } else if (name == "stricthostkeychecking") {
            using checking = ssh_settings::checking;
            const auto how = one_of<checking>(value, where,
                                              {{"yes", checking::refuse},
                                               {"true", checking::refuse},
                                               {"ask", checking::refuse},
                                               {"accept-new", checking::accept_new},
                                               {"no", checking::off},
                                               {"false", checking::off},
                                               {"off", checking::off}});
            if (!std::exchange(has_strict_, true)) into_.strict = how;
        } else if (name == "identitiesonly") {
            const bool only = one_of<bool>(
                value, where, {{"yes", true}, {"true", true}, {"no", false}, {"false", false}});
            if (!std::exchange(has_only_, true)) into_.identities_only = only;
        } else if (is_beyond_us(name)) {
            // "none" settles it as well: what comes later does not count.
            const bool is_first =
                settled_.insert(name.starts_with("proxy") ? "proxy" : name).second;
            // Without an agent, or without the files of the host: that is not what we would do.
            const bool none_is_ours = name != "identityagent" && name != "globalknownhostsfile";
            const bool is_ours = (to_lower(value) == "none" && none_is_ours) ||
                                 (name == "identityagent" && value == "SSH_AUTH_SOCK");
            if (is_first && !is_ours && into_.beyond_us.empty()) {
                into_.beyond_us = where + ": " + name + " " + value;
            }
        }
    }

    ssh_settings& into_;
    std::string host_;
    std::string home_;
    std::string local_user_;
    bool has_strict_ = false;
    bool has_only_ = false;
    std::set<std::string> settled_;
};

}  // namespace

host_words parse_host(std::string_view text) {
    host_words words;
    const std::string whole(text);
    const auto refuse = [&](const char* why) {
        throw error(errc::bad_argument,
                    "\"" + whole + "\" is no host: " + why + "; [user@]host[:port] is meant");
    };
    if (const auto at = text.rfind('@'); at != text.npos) {
        words.user = text.substr(0, at);
        text.remove_prefix(at + 1);
        if (words.user.empty()) refuse("the user's name is empty");
    }
    if (text.starts_with('[')) {
        const auto close = text.find(']');
        if (close == text.npos) refuse("a bracket is not closed");
        words.host = text.substr(1, close - 1);
        text.remove_prefix(close + 1);
        if (!text.empty() && text[0] != ':') refuse("something follows the bracket");
        if (!text.empty()) words.port = parse_port(text.substr(1), whole);
    } else if (const auto colon = text.find(':');
               colon != text.npos && text.find(':', colon + 1) == text.npos) {
        words.host = text.substr(0, colon);
        words.port = parse_port(text.substr(colon + 1), whole);
    } else {
        words.host = text;  // more than one colon: an IPv6 address
    }
    if (words.host.empty()) refuse("the host's name is empty");
    // It becomes an argument of programs.
    for (const std::string_view part : {words.host, words.user}) {
        if (part.starts_with('-')) refuse("a name begins with -");
        for (const char c : part) {
            if (static_cast<unsigned char>(c) <= ' ' || c == '\x7f') refuse("a blank is in it");
        }
    }
    return words;
}

bool is_here(const std::string& host) { return host == "localhost" || host == "127.0.0.1"; }

ssh_settings read_ssh_config(const host_words& given, const std::optional<std::string>& file,
                             const std::string& home, const std::string& local_user) {
    ssh_settings s;
    s.user = given.user;
    s.port = given.port;
    s.ssh_folder = home + "/.ssh";
    reader r{s, given.host, home, local_user};
    if (!file) {
        (void)r.read(s.ssh_folder + "/config", s.ssh_folder);
        (void)r.read("/etc/ssh/ssh_config", "/etc/ssh");
    } else if (*file != "none" && !r.read(*file, s.ssh_folder)) {
        throw error(errc::bad_argument, "the SSH configuration " + *file + " cannot be read");
    }
    if (s.user.empty()) s.user = local_user;
    if (s.port == 0) s.port = 22;
    // %h of HostName is the name as it was given.
    const auto named = s.host_name.empty() ? std::string("%h") : s.host_name;
    s.host_name = given.host;
    s.host_name = r.host_of(named);
    if (s.identity_files.empty()) {
        for (const char* each : {"id_ed25519", "id_ecdsa", "id_rsa"}) {
            s.identity_files.push_back("~/.ssh/" + std::string(each));
        }
    }
    if (s.known_hosts_files.empty()) {
        s.known_hosts_files = {"~/.ssh/known_hosts", "~/.ssh/known_hosts2"};
    }
    for (auto* files : {&s.identity_files, &s.known_hosts_files}) {
        std::erase_if(*files, [](const auto& each) { return to_lower(each) == "none"; });
    }
    for (auto& each : s.identity_files) each = r.file_of(each, "IdentityFile");
    for (auto& each : s.known_hosts_files) each = r.file_of(each, "UserKnownHostsFile");
    return s;
}

}  // namespace places::launcher
