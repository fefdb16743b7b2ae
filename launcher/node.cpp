// SPDX-License-Identifier: Apache-2.0
#include "launcher/node.hpp"

#include "core/child.hpp"
#include "launcher/end_limit.hpp"
#include "launcher/owner_watch.hpp"
#include "launcher/spawned.hpp"
#include "launcher/stage_deadline.hpp"
#include "launcher/thread.hpp"
#include "net/handshake.hpp"

#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sstream>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

namespace places {
namespace {

// A node ends its places, of which the nursery kills the slow ones, and forwards what they printed
// for a second; whatever is left of it then is stuck.
constexpr std::chrono::milliseconds end_grace{2000};

/// By SSH, which may be cut off without a word, it is not waited for for ever.
template <class T>
std::optional<T> read_order(bool by_ssh) {
    const auto read = [by_ssh](void* into, std::size_t size) {
        return launcher::read_all(STDIN_FILENO, into, size,
                                  by_ssh ? launcher::order_silence_max : launcher::no_silence_max);
    };
    std::uint32_t length = 0;
    do {
        if (!read(&length, sizeof length)) return std::nullopt;
    } while (length == launcher::order_to_come);
    if (length > launcher::order_bytes_max) return std::nullopt;
    bytes octets(length);
    if (!read(octets.data(), length)) return std::nullopt;
    auto order = detail::decode_datum<T>(octets);
    return order ? std::optional(std::move(*order)) : std::nullopt;
}

/// A pipe's reading end, with all of `keys` in it, which are taken. There is room for 128 of them
/// in the smallest pipe.
unique_fd pipe_with(const std::vector<bytes*>& keys) {
    std::array<int, 2> ends;
    checked(::pipe2(ends.data(), O_CLOEXEC), "make a pipe to the bridge");
    unique_fd reader{ends[0]};
    const unique_fd writer{ends[1]};
    for (bytes* const key : keys) {
        launcher::write_all(writer.get(), key->data(), key->size());
        ::explicit_bzero(key->data(), key->size());
        key->clear();
    }
    return reader;
}

/// The address at which whoever logged in has found this host.
std::string address_of_login() {
    const char* connection = std::getenv("SSH_CONNECTION");
    std::istringstream words(connection ? connection : "");
    std::string client;
    std::string port;
    std::string address;
    words >> client >> port >> address;
    if (address.starts_with("::ffff:") && address.find('.') != address.npos) address.erase(0, 7);
    return address.empty() ? "127.0.0.1" : address;
}

/// Where all addresses are listened on, one that leads here: for a tunnel the nearest, and else the
/// one of the login, unless that is of the other family.
std::string reached_at(const std::string& listening, bool is_tunnelled) {
    if (!launcher::is_any_address(listening)) return listening;
    const bool is_6 = listening.find(':') != listening.npos;
    const auto login = address_of_login();
    const bool fits = is_6 || login.find(':') == login.npos;
    if (!is_tunnelled && fits) return login;
    return is_6 ? "::1" : "127.0.0.1";
}

/// After all that the program has printed so far.
void write_marked(const std::string& line) {
    std::fflush(stdout);
    launcher::write_line(line);
}

}  // namespace

// -- being a node --

namespace launcher {

bool is_any_address(const std::string& address) noexcept {
    in_addr any4{};
    in6_addr any6{};
    return (::inet_pton(AF_INET, address.c_str(), &any4) == 1 && any4.s_addr == INADDR_ANY) ||
           (::inet_pton(AF_INET6, address.c_str(), &any6) == 1 && IN6_IS_ADDR_UNSPECIFIED(&any6));
}

node_setting take_setting() {
    const bool by_ssh = std::getenv(by_ssh_variable) != nullptr;
    ::unsetenv(by_ssh_variable);
    auto setting = read_order<node_setting>(by_ssh);
    if (!setting) throw error(errc::protocol, "what came as a node's setting is none");
    setting->has_come_by_ssh = by_ssh;
    const auto& folder = setting->working_directory;
    if (!folder.empty() && ::chdir(folder.c_str()) != 0) {
        throw error(errc::bad_argument,
                    "the working directory " + folder + ": " + std::strerror(errno));
    }
    for (const auto& each : setting->environment) {
        const auto sign = each.find('=');
        if (sign == each.npos || sign == 0) {
            throw error(errc::bad_argument, "\"" + each + "\" is not NAME=value");
        }
        ::setenv(each.substr(0, sign).c_str(), each.c_str() + sign + 1, 1);
    }
    load_modules(setting->modules);
    return std::move(*setting);
}

void load_modules(std::span<const std::string> modules) {
    detail::check_registrations();
    for (const auto& each : modules) {
        if (!::dlopen(each.c_str(), RTLD_NOW | RTLD_LOCAL)) {
            const char* const why = ::dlerror();
            throw error(errc::load_failed,
                        "module " + each + ": " + (why ? why : "cannot be loaded"));
        }
        try {
            detail::check_registrations();
        } catch (const error& e) {
            throw error(errc::load_failed, "module " + each + ": " + e.what());
        }
    }
}

int report_failure(errc code, const std::string& text) {
    write_marked(std::string(failed_marker) + std::to_string(static_cast<int>(code)) + " " + text);
    return 1;
}

channel open_bridge(detail::process& self, net::command what, std::size_t ring_bytes,
                    std::vector<int> fds) {
    const auto keys = net::keys_of(what);
    unique_fd pipe;
    if (!keys.empty() && !keys.front()->empty()) {
        pipe = pipe_with(keys);
        fds.push_back(pipe.get());
    }
    auto octets = detail::encode_datum(what);
    if (octets.size() > control::payload_bytes_max) {
        throw error(errc::bad_argument, "names, modules and owners of keys take " +
                                            std::to_string(octets.size()) + " bytes, at most " +
                                            std::to_string(control::payload_bytes_max));
    }
    auto answer = self.request(control::open_bridge{std::move(octets), ring_bytes}, fds);
    const auto& grant = std::get<control::granted>(answer.packet.body);
    return channel{self.open(grant, std::move(answer.fds))};
}

int serve_node(detail::process& self, const node_setting& setting,
               const std::function<void()>& end_places) {
    bool is_ready = false;
    const auto failed = [&](errc code, const char* what) {
        if (!is_ready) return report_failure(code, what);
        // Its owner looks for no marker any more.
        std::fprintf(stderr, "the node ends: %s\n", what);
        return 1;
    };
    try {
        const auto order = read_order<node_order>(setting.has_come_by_ssh);
        if (!order) return report_failure(errc::protocol, "what came as a node's order is none");
        const auto life = std::make_shared<owner_watch>(
            owner_watch::rules{order->is_remote, order->is_detached,
                               std::chrono::milliseconds{order->grace_ms}, silence_max,
                               order->is_tunnelled},
            STDIN_FILENO, STDOUT_FILENO);
        // Where it ends the process, the nursery ends with us. It outlives us, so it shares.
        start_thread("the thread that watches who started this node", [life] {
            life->hold();
            ::_exit(1);
        }).detach();

        const auto address = order->address.empty() ? address_of_login() : order->address;
        net::listen_command listen{address, order->port, order->key, order->name, order->insecure};
        listen.modules = setting.modules;
        auto bridge = open_bridge(self, listen, ring_bytes_default);
        const auto ready = body_of<net::listening>(detail::await_opened(bridge));
        // As its owner calls it, of whom whoever reads an error will have heard.
        self.send(control::node_called{
            order->name.empty() ? order->host + ":" + std::to_string(ready.port) : order->name});
        const auto reached = order->is_remote ? reached_at(address, order->is_tunnelled) : address;
        write_marked(std::string(ready_marker) + "port=" + std::to_string(ready.port) +
                     " incarnation=" + ready.incarnation +
                     " protocol=" + std::to_string(net::protocol_range{}.max) +
                     " version=" PLACES_VERSION " address=" + reached);
        is_ready = true;
        while (true) {
            const auto event = bridge.get<net::bridge_event>();
            if (!event) {
                std::fprintf(stderr, "the bridge has ended: %s\n", event.error().message().c_str());
                return 1;
            }
            if (const auto* links = std::get_if<net::links_changed>(&*event)) {
                life->set_links(links->count);
            }
            const auto* asked = std::get_if<net::exit_asked>(&*event);
            if (!asked) continue;
            // From now on this bounds it, and the status is the one asked for.
            prepare_end();
            limit_end();
            life->let_go();
            end_in_order(end_places, bridge);
            return detail::completion_value(asked->status);
        }
    } catch (const error& e) {
        return failed(net::code_of(e), e.what());
    } catch (const std::exception& e) {
        return failed(errc::start_failed, e.what());
    }
}

}  // namespace launcher

// -- remote_node --

remote_node::state::~state() { end(); }

bool remote_node::state::reap(shm::deadline until) {
    pollfd life_ends{pidfd.get(), POLLIN, 0};
    if (!ended) detail::poll_until({&life_ends, 1}, until);
    // Another body may have reaped it meanwhile.
    if (!ended) ended = launcher::reap(pid, pidfd, 0);
    return ended.has_value();
}

bool remote_node::state::reap_surely(shm::deadline until) noexcept {
    try {
        return reap(until);
    } catch (...) {
        // The router unwinds the body that waits, or no descriptor is left: the thread waits
        // in its stead.
        auto* body = detail::current_waiter();
        detail::set_current_waiter(nullptr);
        const bool is_reaped = reap(until);
        detail::set_current_waiter(body);
        return is_reaped;
    }
}

void remote_node::state::let_stay() {
    if (!is_detached) return;
    try {
        launcher::write_all(life.get(), &launcher::may_stay, 1);
    } catch (const std::system_error&) {
        throw error(errc::ssh_lost, "the connection that started node " + name +
                                        " ended before the node could be told to stay without "
                                        "it; start it again");
    }
}

void remote_node::state::begin_end() noexcept {
    up = false;
    bridge = {};
    life.reset();
}

void remote_node::state::end() noexcept {
    begin_end();
    if (pid == 0) return;                       // it was never started
    if (detail::process::is_in_fork()) return;  // it is the parent's
    if (!reap_surely(detail::deadline_after(end_grace))) kill();
}

void remote_node::state::kill() noexcept {
    if (ended) return;
    ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
    (void)reap_surely(shm::no_deadline);
}

void remote_node::state::went_down(const std::string& reason) {
    if (!std::exchange(up, false)) return;
    down_reason = reason;
    // Nobody can reach it any more; unless it is ending already, this ends it.
    life.reset();
    if (on_down) on_down(reason);
}

bool remote_node::state::next_event() {
    const auto event = bridge.get<net::bridge_event>();
    if (!event) {
        went_down("the bridge of this node has ended: " + event.error().message());
        return false;
    }
    if (const auto* refused = std::get_if<net::exit_denied>(&*event)) {
        exit_refused.emplace(errc_of(refused->code), "node " + name + ": " + refused->text);
    }
    if (const auto* lost = std::get_if<net::node_lost>(&*event)) {
        if (!is_started_here && lost->asked_to_end) {
            ended = exit_status{.value = detail::completion_value(*lost->asked_to_end)};
        }
        went_down(lost->reason);
    }
    return up;
}

bool remote_node::state::is_within_reach() const noexcept {
    auto* const events = detail::state_of::get(bridge);
    return up && events && !events->self().has_lost_nursery() &&
           events->end().in().peer_state() == status::ok;
}

void remote_node::state::wait_for_process() {
    std::array<pollfd, 2> ends{{{pidfd.get(), POLLIN, 0}, {-1, POLLRDHUP, 0}}};
    std::size_t count = 1;
    if (const auto* self = detail::process::current_or_null()) {
        ends[count++].fd = self->control_handle();
    }
    if (!ended && !is_cut_off) {
        detail::poll_until({ends.data(), count}, shm::no_deadline);
        // Another body may have reaped it meanwhile.
        if (!ended && ends[0].revents != 0) ended = launcher::reap(pid, pidfd, 0);
        if (!ended) is_cut_off = true;
    }
    if (ended) return;
    went_down("the nursery of this program has ended, and the bridge with it");
    throw error(errc::node_down, "node " + name + ": how it ends is not known: " + down_reason);
}

exit_status remote_node::state::wait_for_link() {
    auto* const events = detail::state_of::get(bridge);
    const detail::interest news{events, true};
    while (up) {
        // The router may take the event, and another body may wait too.
        (void)events->self().wait(
            {&news, 1}, [&] { return !up || exit_refused || events->has_message(); },
            shm::no_deadline, events->spin());
        if (exit_refused) throw error(*exit_refused);
        if (up && events->has_message()) (void)next_event();
    }
    if (ended) return *ended;
    throw error(errc::node_down, "node " + name +
                                     ", which was not started here, is not linked to any more (" +
                                     (down_reason.empty() ? "the runtime has ended" : down_reason) +
                                     "), so how it ended is not known");
}

remote_node::remote_node(std::shared_ptr<state> s) noexcept : state_(std::move(s)) {}
remote_node::state& remote_node::held() const {
    if (state_) return *state_;
    throw error(errc::bad_argument, "this handle has no node: it was moved from");
}
const std::string& remote_node::name() const noexcept {
    static const std::string none;
    return state_ ? state_->name : none;
}
std::uint16_t remote_node::port() const noexcept { return state_ ? state_->port : 0; }
int remote_node::pid() const noexcept { return state_ ? state_->pid : 0; }
bool remote_node::is_up() const noexcept {
    if (!state_) return false;
    // A node on another host does not need its remote launcher: its link is enough.
    if (!state_->is_within_reach()) return false;
    if (state_->has_remote_launcher || !state_->is_started_here) return true;
    pollfd life_ends{state_->pidfd.get(), POLLIN, 0};
    return !state_->ended && ::poll(&life_ends, 1, 0) == 0;
}

namespace {

std::string path_there(const remote_node::state& node, const std::string& path) {
    const auto found = node.modules.find(path);
    return found == node.modules.end() ? path : found->second;
}

void check_ring(std::size_t ring_bytes) {
    if (ring_bytes <= net::remote_ring_bytes_max) return;
    throw error(errc::bad_argument, "ring_bytes of " + std::to_string(ring_bytes) +
                                        ": a channel to another node has at most 131072");
}

channel open_remote(const remote_node::state& node, const net::command& what,
                    std::size_t ring_bytes) {
    check_ring(ring_bytes);
    const auto fail = [&](boost::system::error_code code, const std::string& text) {
        throw error(code, text + " (node " + node.name + ")");
    };
    if (!node.up) fail(errc::node_down, "the node has ended");
    try {
        auto c = launcher::open_bridge(detail::process::current(), what, ring_bytes);
        (void)detail::await_opened(c);
        return c;
    } catch (const error& e) {
        fail(e.code(), e.what());
    }
    return {};
}

void check_names(std::initializer_list<std::string_view> names) {
    for (const auto name : names) {
        if (!net::can_travel(name)) {
            throw error(errc::bad_argument, "\"" + net::printable(name) +
                                                "\": a name, symbol or path has at most 4 KiB, "
                                                "none of them NUL");
        }
    }
}

}  // namespace

std::optional<exit_status> remote_place::wait_for(std::chrono::nanoseconds limit) {
    if (!state_) detail::throw_no_place();
    auto& c = *state_;
    const detail::interest on{.channel = &c, .record = true};
    const auto ended = [&] { return c.end().in().peer_state(); };
    const auto ready = [&] {
        return c.peer_status() || (ended() != status::ok && !c.awaits_text());
    };
    const bool in_time = c.self().wait({&on, 1}, ready, detail::deadline_after(limit), c.spin());
    if (!in_time) return std::nullopt;
    // It may have been told between the two looks.
    if (const auto how = c.peer_status()) return how;
    switch (ended()) {
        case status::closed:
            throw error(errc::closed,
                        "the channel was closed, and the place had not ended a second later: how "
                        "it ends is not heard any more; wait before you close, and let its entry "
                        "keep the channel");
        case status::corrupt:
            throw error(errc::corrupt, "the channel was found broken before the place had ended");
        default: break;
    }
    throw error(errc::node_down,
                "the node, or the link to it, ended before it told how the place did");
}

exit_status remote_place::wait() { return *wait_for(std::chrono::nanoseconds::max()); }

remote_place remote_node::supervise_place(const registered& entry,
                                          const supervise_options& options) {
    check_names({entry.name, options.named});
    auto& node = held();
    return remote_place{open_remote(
        node, net::start_command{node.link, control::registered_entry{entry.name}, options.named},
        options.ring_bytes)};
}

remote_place remote_node::supervise_place(const library& entry, const supervise_options& options) {
    check_names({entry.path, entry.symbol, options.named});
    auto& node = held();
    return remote_place{open_remote(
        node,
        net::start_command{node.link,
                           control::library_entry{path_there(node, entry.path), entry.symbol},
                           options.named},
        options.ring_bytes)};
}

channel remote_node::connect_to_named_place(const std::string& place, std::size_t ring_bytes) {
    check_names({place});
    auto& node = held();
    return open_remote(node, net::connect_command{node.link, place, {}}, ring_bytes);
}

channel connect_to_named_place(const std::string& node, const std::string& place,
                               std::size_t ring_bytes) {
    check_names({node, place});
    check_ring(ring_bytes);
    try {
        auto c = launcher::open_bridge(detail::process::current(),
                                       net::connect_command{{}, place, node}, ring_bytes);
        const auto answer = detail::await_opened(c);
        if (!detail::decode_datum<net::here_answer>(answer.bytes())) return c;
    } catch (const error& e) {
        throw error(e.code(), std::string(e.what()) + " (node " + net::printable(node) + ")");
    }
    return connect_to_named_place(place, ring_bytes);
}

void remote_node::send_exit(int status) {
    auto& node = held();
    node.exit_refused.reset();
    (void)node.bridge.put(net::bridge_request{net::end_node{status}});
}

exit_status remote_node::wait() {
    (void)held();
    const auto s = state_;  // another body may drop this handle meanwhile
    if (!s->is_started_here) return s->wait_for_link();
    s->wait_for_process();
    if (*s->ended != launcher::unknown_status) return *s->ended;
    throw error(errc::node_down, "node " + s->name +
                                     " has ended, and how is not known: this program ignores "
                                     "SIGCHLD, or something else in it has waited for the node");
}

void remote_node::on_down(std::function<void(const std::string&)> handler) {
    held().on_down = std::move(handler);
}

}  // namespace places
