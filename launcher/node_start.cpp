// SPDX-License-Identifier: Apache-2.0
// From the caller's side: a node, or a remote launcher that is one to us, from its process to its
// link.
#include "core/child.hpp"
#include "launcher/bundle_file.hpp"
#include "launcher/key_file.hpp"
#include "launcher/node.hpp"
#include "launcher/remote_launcher.hpp"
#include "launcher/spawned.hpp"
#include "launcher/ssh_config.hpp"
#include "launcher/stage_deadline.hpp"
#include "net/frame.hpp"
#include "net/handshake.hpp"
#include "net/keys.hpp"
#include "net/line_reader.hpp"
#include "net/output.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <iterator>
#include <map>
#include <poll.h>
#include <span>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace places {
namespace {

using clock_type = std::chrono::steady_clock;

constexpr std::size_t printed_bytes_max = 4 * 1024;  // of what a failing node says, in its error
// What a remote launcher needs besides the deadline of its stage, which it keeps itself.
constexpr std::chrono::milliseconds launcher_slack{3000};
constexpr std::size_t rest_bytes_max = 64 * 1024;  // that it prints after that, of each stream
constexpr std::size_t bar_columns = 30;
constexpr const char* runtime_first = "its main has to make a places::runtime before all else";
constexpr std::chrono::milliseconds end_wait{100};  // between the end of its output and its own

/// What follows `name=` in a ready line, up to the next blank.
std::string_view field_of(std::string_view line, std::string_view name) {
    const auto at = line.find(name);
    if (at == line.npos) return {};
    line.remove_prefix(at + name.size());
    return line.substr(0, line.find(' '));
}

template <class Number>
Number number_of(std::string_view text) {
    Number n = 0;
    std::from_chars(text.data(), text.data() + text.size(), n);
    return n;
}

/// After their length.
bytes with_length(std::span<const std::byte> octets) {
    const auto length = static_cast<std::uint32_t>(octets.size());
    bytes all(sizeof length + octets.size());
    std::memcpy(all.data(), &length, sizeof length);
    std::ranges::copy(octets, all.begin() + sizeof length);
    return all;
}

template <class T>
bytes octets_of(const std::string& where, const T& order) {
    const auto octets = detail::encode_datum(order);
    if (octets.size() > launcher::order_bytes_max) {
        throw error(errc::bad_argument, "node " + where + ": options of " +
                                            std::to_string(octets.size()) +
                                            " bytes: at most 65536");
    }
    return with_length(octets);
}

}  // namespace

struct pending_node::state {
    enum class phase {
        on_the_way,  ///< a remote launcher is; its stages have deadlines of their own
        starting,    ///< the node has its order
        ready,       ///< and listens
        dialing,     ///< by our bridge
        settled,
    };

    detail::process& self;
    std::string where;  ///< for errors and until the node has a name
    node_options options;
    launcher::node_order order{};
    bytes orders{};  ///< both, for the node
    std::shared_ptr<remote_node::state> node = std::make_shared<remote_node::state>();
    std::optional<error> failure{};
    phase at = phase::starting;
    clock_type::time_point until{};
    clock_type::time_point looked = clock_type::now();  ///< when somebody last did
    clock_type::duration thought{};                     ///< about a passphrase
    std::string stage{};                                ///< what the remote launcher is at
    std::string address{};                              ///< where the host was found
    std::string dialed{};                               ///< the host of the link
    std::uint16_t dialed_port = 0;

    bytes unsent{};  ///< to its standard input
    std::size_t sent = 0;
    std::array<unique_fd, 2> streams{};
    std::array<net::line_reader, 2> lines{};
    std::array<bool, 2> ended{};
    std::string printed{};
    std::string incarnation{};  // as the ready line has it
    bool has_bar = false;

    explicit state(detail::process& h) : self(h) {}

    void give_order();
    void send(bytes octets);
    bool send_some();
    bool take(std::size_t stream);
    void take_line(std::size_t stream, const std::string& text);
    void take_ready(const std::string& text);
    void draw(std::string_view progress);
    void print(const std::string& text);
    void finish_lines();
    void take_rest();
    void check_time(bool has_news);
    void fail(boost::system::error_code code, const std::string& text);
    void begin_dial();
    void end_dial();
};

void pending_node::state::give_order() {
    at = phase::starting;
    // What has passed before is not time that nobody looked.
    looked = clock_type::now();
    until = looked + options.deadline;
    send(std::exchange(orders, {}));
}

/// As far as it is read; the rest goes as the start goes on.
void pending_node::state::send(bytes octets) {
    unsent = std::move(octets);
    sent = 0;
    (void)send_some();
}

/// Returns: whether something moved.
bool pending_node::state::send_some() {
    if (unsent.empty()) return false;
    const launcher::without_sigpipe guard;
    const auto taken = ::write(node->life.get(), unsent.data() + sent, unsent.size() - sent);
    if (taken < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (taken > 0) sent += static_cast<std::size_t>(taken);
    // Where it has ended already, what it printed says why.
    if (taken < 0 || sent == unsent.size()) {
        ::explicit_bzero(unsent.data(), unsent.size());
        unsent.clear();
    }
    return true;
}

/// What lies there now, at most a pipe full: one that prints without end has always more, and the
/// other streams and the deadlines are to have their turn. Octet by octet: what follows the ready
/// line is for the bridge to read.
/// Returns: whether something came.
bool pending_node::state::take(std::size_t stream) {
    const int fd = streams[stream].get();
    pollfd more{fd, POLLIN, 0};
    if (ended[stream] || ::poll(&more, 1, 0) <= 0) return false;
    int octets = 0;
    checked(::ioctl(fd, FIONREAD, &octets), "ioctl FIONREAD");
    // Where nothing lies there, it has ended.
    for (octets = std::max(octets, 1); octets > 0 && at < phase::ready; --octets) {
        char c;
        if (::read(fd, &c, 1) <= 0) {
            ended[stream] = true;
            break;
        }
        lines[stream].add({&c, 1});
        if (const auto text = lines[stream].next()) take_line(stream, std::string(*text));
    }
    return true;
}

void pending_node::state::take_line(std::size_t stream, const std::string& text) {
    if (stream == 1) return print(text);
    if (text.starts_with(launcher::ready_marker)) return take_ready(text);
    if (text.starts_with(launcher::failed_marker)) {
        auto rest = std::string_view(text).substr(launcher::failed_marker.size());
        int code = static_cast<int>(errc::start_failed);
        const auto [end, ec] = std::from_chars(rest.data(), rest.data() + rest.size(), code);
        return fail(errc_of(code), ":" + std::string(end, rest.data() + rest.size()));
    }
    if (at != phase::on_the_way) return print(text);
    if (text.starts_with(launcher::stage_marker)) {
        stage = text.substr(launcher::stage_marker.size());
        until = clock_type::now() + options.stage_deadline + launcher_slack;
    } else if (text.starts_with(launcher::progress_marker)) {
        draw(std::string_view(text).substr(launcher::progress_marker.size()));
    } else if (text.starts_with(launcher::passphrase_marker)) {
        const auto file = text.substr(launcher::passphrase_marker.size());
        const auto asked = clock_type::now();
        auto answer = options.passphrase ? options.passphrase(file) : std::string();
        thought = clock_type::now() - asked;
        send(with_length(std::as_bytes(std::span(answer))));
        ::explicit_bzero(answer.data(), answer.size());
        until = clock_type::now() + options.stage_deadline + launcher_slack;
    } else if (text.starts_with(launcher::start_marker)) {
        address = field_of(text, "address=");
        give_order();
    } else {
        print(text);
    }
}

void pending_node::state::take_ready(const std::string& text) {
    const auto protocol = number_of<unsigned>(field_of(text, "protocol="));
    const net::protocol_range ours;
    if (protocol < ours.min || protocol > ours.max) {
        return fail(errc::wrong_version,
                    " speaks protocol " + std::to_string(protocol) + " (version " +
                        std::string(field_of(text, "version=")) + "), and we " +
                        std::to_string(ours.min) + " to " + std::to_string(ours.max) +
                        " (version " + PLACES_VERSION +
                        "); without .program this program is copied there");
    }
    dialed_port = number_of<std::uint16_t>(field_of(text, " port="));
    if (dialed_port == 0) dialed_port = number_of<std::uint16_t>(field_of(text, "port="));
    incarnation = field_of(text, "incarnation=");
    const auto behind = field_of(text, "node_port=");
    node->port = behind.empty() ? dialed_port : number_of<std::uint16_t>(behind);
    const std::string listens(field_of(text, " address="));
    const bool is_any = listens.empty() || launcher::is_any_address(listens);
    dialed = is_any || order.is_tunnelled ? "127.0.0.1" : listens;
    if (node->has_remote_launcher && !order.is_tunnelled) {
        // One that was asked for is the only one; otherwise the node tells of a way that it has
        // seen, and we have seen ours.
        const bool is_only = listens == order.address;
        dialed = !options.advertise.empty()   ? options.advertise
                 : is_only || address.empty() ? listens
                                              : address;
    }
    node->name =
        options.name.empty() ? node->host + ":" + std::to_string(node->port) : options.name;
    at = phase::ready;
}

/// `done total name`, on the line where the last one stood.
void pending_node::state::draw(std::string_view progress) {
    const auto first = progress.find(' ');
    const auto second = progress.find(' ', first + 1);
    if (second == progress.npos) return;
    const auto done = number_of<std::uint64_t>(progress.substr(0, first));
    const auto total = number_of<std::uint64_t>(progress.substr(first + 1));
    if (total == 0) return;
    const auto columns = std::min<std::uint64_t>(done * bar_columns / total, bar_columns);
    std::string bar(columns, '#');
    bar.resize(bar_columns, ' ');
    std::fprintf(stderr, "\r[%s] %3u%% %s to %s%s", bar.c_str(),
                 static_cast<unsigned>(std::min<std::uint64_t>(done * 100 / total, 100)),
                 net::printable(progress.substr(second + 1)).c_str(), net::printable(where).c_str(),
                 done >= total ? "\n" : "");
    has_bar = done < total;
}

void pending_node::state::print(const std::string& text) {
    if (text.empty()) return;
    if (printed.size() <= printed_bytes_max) {
        printed += (printed.empty() ? "" : "; ") + text;
        if (printed.size() > printed_bytes_max)
            printed.replace(printed_bytes_max, text.npos, "...");
    }
    net::print_line(where, text);
}

/// What was printed without a line feed so far is a line: nobody reads its beginning again.
void pending_node::state::finish_lines() {
    for (auto& each : lines) print(each.rest());
}

/// Of a start that has failed: what the node has printed as it ended may say why.
void pending_node::state::take_rest() {
    printed.clear();
    for (const std::size_t stream : {1, 0}) {
        const auto keep = [&](const std::string& text) {
            if (stream == 1 || !text.starts_with("places-")) print(text);
        };
        std::array<char, 4096> buffer;
        for (std::size_t left = rest_bytes_max; left > 0 && streams[stream];) {
            pollfd more{streams[stream].get(), POLLIN, 0};
            if (::poll(&more, 1, 0) <= 0) break;
            const auto got = ::read(more.fd, buffer.data(), std::min(buffer.size(), left));
            if (got <= 0) break;
            left -= static_cast<std::size_t>(got);
            lines[stream].add({buffer.data(), static_cast<std::size_t>(got)});
            while (const auto text = lines[stream].next()) keep(std::string(*text));
        }
        keep(lines[stream].rest());
    }
    if (printed.empty()) return;
    const auto words = std::string(failure->what()) + "; it printed: " + printed;
    failure.emplace(failure->code(), net::printable(words, words.size()));
}

void pending_node::state::fail(boost::system::error_code code, const std::string& text) {
    finish_lines();
    if (std::exchange(has_bar, false)) std::fputc('\n', stderr);
    // It quotes the other side, and may be shown on a terminal.
    const auto words = "node " + where + text;
    failure.emplace(code, net::printable(words, words.size()));
    at = phase::settled;
    node->begin_end();
}

/// `has_news`: something has just come of its streams.
void pending_node::state::check_time(bool has_news) {
    if (at >= phase::ready) return;
    const bool is_late = clock_type::now() >= until;
    if (ended[0]) {
        // What it says of why comes first, from one that goes on as long as it has time.
        if (has_news && !is_late) return;
        finish_lines();
        std::string how;
        if (node->reap(clock_type::now() + end_wait) && node->ended->signalled) {
            how = " (" + to_string(*node->ended) + ")";
        }
        return fail(errc::node_unreachable,
                    " ended before it was ready" + how + ": " + runtime_first +
                        (printed.empty() ? "" : "; it printed: " + printed));
    }
    if (!is_late) return;
    finish_lines();
    // Whoever is stuck does not hear that it is to end. A remote launcher whose node is late does,
    // and tells it.
    if (!node->has_remote_launcher || at == phase::on_the_way) node->kill();
    if (at == phase::on_the_way) {
        return fail(errc::ssh_lost,
                    " was not reached in time" +
                        (stage.empty() ? "" : ": the remote launcher hung while " + stage));
    }
    fail(errc::node_unreachable, std::string(" was not ready in time: ") + runtime_first +
                                     ", and .deadline allows for more time" +
                                     (printed.empty() ? "" : "; it printed: " + printed));
}

void pending_node::state::begin_dial() {
    at = phase::dialing;
    finish_lines();
    // From when somebody last looked: a ready line that is found late was not late.
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - looked);
    // At least one: when time is up, it is dialing that says so, naming host and port.
    const auto left_ms = std::max<std::int64_t>(left.count(), 1);
    const std::string launcher_name(net::launcher_name);
    net::dial_command dial{dialed,
                           dialed_port,
                           order.key,
                           launcher_name,
                           node->name,
                           left_ms,
                           options.insecure,
                           !node->has_remote_launcher,
                           order.is_tunnelled,
                           options.advertise};
    try {
        node->bridge = launcher::open_bridge(self, dial, ring_bytes_default,
                                             {streams[0].get(), streams[1].get()});
    } catch (const error& e) {
        fail(e.code(), std::string(": ") + e.what());
    } catch (const std::system_error& e) {
        fail(errc::start_failed, std::string(": open a channel to the bridge: ") + e.what());
    }
    for (auto& each : streams) each.reset();
}

void pending_node::state::end_dial() {
    if (at == phase::settled) return;
    try {
        const auto opened = detail::await_opened(node->bridge);
        const auto linked = launcher::body_of<net::linked>(opened);
        if (linked.incarnation != incarnation) {
            return fail(errc::node_unreachable,
                        ": another node with the same key answers at " + dialed + ":" +
                            std::to_string(dialed_port) +
                            "; let each have its own .key or .key_file, or give none");
        }
        node->link = linked.link;
        at = phase::settled;
    } catch (const std::system_error& e) {
        fail(errc::start_failed, std::string(": wait for the link: ") + e.what());
    } catch (const error& e) {
        if (node->reap(clock_type::now() + end_wait)) {
            return fail(e.code(), " ended after it was ready (" + to_string(*node->ended) +
                                      "), and what it printed says why: " + e.what());
        }
        const bool may_tunnel = node->has_remote_launcher && !order.is_tunnelled;
        const bool is_advised = may_tunnel && e.code() == errc::node_unreachable;
        fail(e.code(), std::string(": ") + e.what() +
                           (is_advised ? "; .tunnel = true needs no port but that of SSH" : ""));
    }
}

namespace launcher {
namespace {

void check_options(const std::string& where, const node_options& options, bool by_ssh) {
    const auto refuse = [&](const std::string& what) {
        throw error(errc::bad_argument, "node " + where + ": " + what);
    };
    const auto check_time = [&](const char* what, std::chrono::milliseconds time,
                                std::chrono::milliseconds least) {
        if (time >= least && time <= net::dial_deadline_max) return;
        refuse("a " + std::string(what) + " of " + std::to_string(time.count()) + " ms: at least " +
               std::to_string(least.count()) + " ms, at most an hour");
    };
    if (!by_ssh) {
        const node_options unset;
        const std::pair<const char*, bool> set_options[] = {
            {"identity_files", !options.identity_files.empty()},
            {"known_hosts_files", !options.known_hosts_files.empty()},
            {"ssh_config", options.ssh_config.has_value()},
            {"passphrase", options.passphrase != nullptr},
            {"ssh_command", !options.ssh_command.empty()},
            {"stage_deadline", options.stage_deadline != unset.stage_deadline},
            {"program", !options.program.empty()},
            {"tunnel", options.tunnel},
            {"detach", options.detach},
            {"owner_grace", options.owner_grace != unset.owner_grace},
        };
        for (const auto& [name, is_set] : set_options) {
            if (!is_set) continue;
            refuse("." + std::string(name) +
                   " is for other hosts, and a node on this one is started without SSH; "
                   "user@localhost goes by it");
        }
    }
    if (options.passphrase && !options.ssh_command.empty()) {
        refuse(
            ".passphrase is not for .ssh_command, which asks nobody; ssh-add gives the key to "
            "an agent");
    }
    using ms = std::chrono::milliseconds;
    check_time("deadline", options.deadline, ms{1});
    check_time("stage_deadline", options.stage_deadline, ms{1});
    check_time("owner_grace", options.owner_grace, ms{0});
    if (!options.name.empty() && !net::is_node_name(options.name)) {
        refuse("\"" + net::printable(options.name) + "\" " + net::node_name_rule);
    }
    if (!options.key.empty() && options.key.size() != 32) {
        refuse("a key of " + std::to_string(options.key.size()) + " bytes: 32 are one");
    }
    if (!options.key.empty() && !options.key_file.empty()) {
        refuse("both key and key_file are given: it has one key");
    }
    if (options.detach && options.key.empty() && options.key_file.empty()) {
        refuse(
            "detach without a .key or .key_file: one made for the node would be lost with this "
            "program, and nobody could ever end it");
    }
    for (const auto& each : options.environment) {
        if (each.find('=') == each.npos || each[0] == '=') {
            refuse("\"" + net::printable(each) + "\" in environment is not NAME=value");
        }
    }
}

remote_launch_order remote_launch_order_of(const host_words& host, const node_options& options) {
    remote_launch_order o;
    o.host = host.host;
    o.user = host.user;
    o.port = host.port;
    o.identity_files = options.identity_files;
    o.known_hosts_files = options.known_hosts_files;
    o.has_config = options.ssh_config.has_value();
    o.config = options.ssh_config.value_or("");
    o.ssh_command = options.ssh_command;
    o.stage_deadline_ms = options.stage_deadline.count();
    o.modules = options.modules;
    o.working_directory = options.working_directory;
    o.program = options.program;
    o.show_progress = ::isatty(STDERR_FILENO) == 1;
    o.tunnel = options.tunnel;
    o.detach = options.detach;
    return o;
}

/// The absolute path that others would write: without `.` and `..`, unless a link makes that
/// another file's.
std::string plain_path(const std::string& path) {
    std::error_code none;
    const auto whole = std::filesystem::absolute(path, none);
    if (none) return path;
    const auto plain = whole.lexically_normal();
    const bool is_same =
        std::filesystem::equivalent(whole, plain, none) || !std::filesystem::exists(whole, none);
    return is_same ? plain : whole;
}

/// What the node calls each module. Copied, they are found by name; with a program that is there
/// already, so are they. On this host the node's directory may be another than ours, and what is
/// but a name and no file is its loader's to find.
std::map<std::string, std::string> names_there(const node_options& options, bool by_ssh) {
    std::map<std::string, std::string> names;
    for (const auto& each : options.modules) {
        auto& name = names[each] = each;
        std::error_code none;
        if (by_ssh) {
            if (options.program.empty()) name = deployed_name(each);
        } else if (each.find('/') != each.npos || std::filesystem::is_regular_file(each, none)) {
            name = plain_path(each);
        }
    }
    return names;
}

/// Throws: error{bad_key_file}, also for a key that has an owner.
bytes node_key_of(const std::string& where, const node_options& options) {
    if (options.key_file.empty()) return options.key;
    try {
        const auto held = read_key_file(options.key_file);
        if (held.kind == net::key_kind::launcher) return {held.key.begin(), held.key.end()};
        throw error(errc::bad_key_file, "key file " + options.key_file + ": is " + held.owner +
                                            "'s; a node needs one without an owner, which you make "
                                            "with: places key FILE");
    } catch (const error& e) {
        throw error(e.code(), "node " + where + ": " + e.what());
    }
}

}  // namespace

std::shared_ptr<pending_node::state> begin_node(detail::process& self, const std::string& host,
                                                const node_options& options) {
    const bool by_ssh = !is_here(host);
    const auto words = by_ssh ? parse_host(host) : host_words{host};
    const auto where = by_ssh ? host : host + ":" + std::to_string(options.listen_port);
    check_options(where, options, by_ssh);
    auto s = std::make_shared<pending_node::state>(self);
    s->where = where;
    s->options = options;
    s->node->modules = names_there(options, by_ssh);
    node_setting setting{options.working_directory, options.environment, {}};
    for (const auto& each : options.modules) setting.modules.push_back(s->node->modules.at(each));
    auto& order = s->order;
    const bool on_loopback = !by_ssh || options.tunnel;
    order.address = !options.listen_address.empty() ? options.listen_address
                    : on_loopback                   ? "127.0.0.1"
                                                    : "";
    order.port = options.listen_port;
    order.name = options.name;
    order.host = words.host;
    order.insecure = options.insecure;
    order.is_remote = by_ssh;
    order.is_detached = by_ssh && options.detach;
    order.is_tunnelled = by_ssh && options.tunnel;
    order.grace_ms = options.owner_grace.count();
    order.key = node_key_of(where, options);
    if (order.key.empty()) {
        order.key.resize(32);
        if (::getrandom(order.key.data(), order.key.size(), 0) !=
            static_cast<ssize_t>(order.key.size())) {
            throw std::system_error(errno, std::generic_category(), "getrandom");
        }
    }

    s->orders = octets_of(where, setting);
    std::ranges::copy(octets_of(where, order), std::back_inserter(s->orders));
    const auto launch_order =
        by_ssh ? octets_of(where, remote_launch_order_of(words, options)) : bytes();

    auto process = [&] {
        try {
            return spawn_self(by_ssh ? remote_launcher_argument : node_argument);
        } catch (const std::system_error& e) {
            throw error(errc::start_failed, "node " + where + ": " + e.what());
        }
    }();
    s->node->host = words.host;
    s->node->pid = process.pid;
    s->node->pidfd = std::move(process.pidfd);
    s->node->life = std::move(process.in);
    s->node->has_remote_launcher = by_ssh;
    s->node->is_detached = order.is_detached;
    s->streams = {std::move(process.out), std::move(process.err)};
    // From here on, leaving by an exception ends the process through ~state.
    checked(::fcntl(s->node->life.get(), F_SETFL, O_NONBLOCK), "fcntl");
    if (!by_ssh) {
        s->give_order();
        return s;
    }
    s->at = pending_node::state::phase::on_the_way;
    s->until = clock_type::now() + options.stage_deadline + launcher_slack;
    s->send(launch_order);
    return s;
}

bool is_settled(const pending_node::state& node) noexcept {
    return node.at == pending_node::state::phase::settled;
}

void settle(std::span<const std::shared_ptr<pending_node::state>> nodes, bool may_wait) {
    using phase = pending_node::state::phase;
    const auto look = [&] {
        for (const auto& each : nodes) each->looked = clock_type::now();
    };
    if (may_wait) {
        // Asking alone puts off no deadline, or one could ask for ever.
        for (const auto& each : nodes) each->until += clock_type::now() - each->looked;
        look();
    }
    while (true) {
        std::vector<pollfd> fds;
        auto next = clock_type::time_point::max();
        bool moved = false;
        bool is_starting = false;
        for (const auto& each : nodes) {
            bool has_news = false;
            for (const std::size_t stream : {1, 0}) {
                if (each->at < phase::ready) has_news |= each->take(stream);
            }
            moved |= has_news;
            if (each->at < phase::ready) moved |= each->send_some();
            // Nobody looked at the others meanwhile.
            if (const auto thought = std::exchange(each->thought, {}); thought.count() > 0) {
                for (const auto& other : nodes) {
                    if (other != each) other->until += thought;
                    other->looked += thought;
                }
            }
            each->check_time(has_news);
            // At once: those that are ready first must not wait for the last one's start.
            if (each->at == phase::ready) each->begin_dial();
            if (each->at >= phase::ready) continue;
            is_starting = true;
            next = std::min(next, each->until);
            if (!each->unsent.empty()) fds.push_back({each->node->life.get(), POLLOUT, 0});
            for (std::size_t i = 0; i < each->streams.size(); ++i) {
                if (!each->ended[i]) fds.push_back({each->streams[i].get(), POLLIN, 0});
            }
        }
        if (!is_starting) break;
        // One that prints without end would have more each time.
        if (!may_wait) return look();
        if (moved) continue;
        detail::poll_until(fds, next);
        look();
    }
    for (const auto& each : nodes) each->end_dial();
}

std::shared_ptr<remote_node::state> take_node(pending_node::state& pending) {
    auto node = std::exchange(pending.node, nullptr);
    if (pending.failure) {
        node->end();
        pending.take_rest();
        throw *pending.failure;
    }
    return node;
}

}  // namespace launcher

// -- pending_node --

pending_node::pending_node(std::shared_ptr<state> s) noexcept : state_(std::move(s)) {}

bool pending_node::is_ready() {
    if (!state_) return true;  // get() throws at once
    launcher::settle({&state_, 1}, false);
    return launcher::is_settled(*state_);
}

remote_node pending_node::get() {
    if (!state_ || !state_->node) throw error(errc::bad_argument, "a pending node gives one node");
    launcher::settle({&state_, 1});
    auto node = launcher::take_node(*state_);
    auto handle = enter_(node);
    try {
        node->let_stay();
    } catch (const error&) {
        handle.send_exit();  // its remote launcher has gone and tells it nothing
        throw;
    }
    return handle;
}

namespace {

std::string all_of(const std::vector<nodes_error::failure>& failures, std::size_t asked) {
    std::string text = std::to_string(failures.size()) + " of " + std::to_string(asked) +
                       " nodes could not be started, and none is kept";
    for (const auto& each : failures) text += "; " + std::string(each.cause.what());
    return text;
}

}  // namespace

nodes_error::nodes_error(std::vector<failure> failures, std::size_t asked)
    : error(failures.front().cause.code(), all_of(failures, asked)),
      failures_(std::move(failures)) {}

}  // namespace places
