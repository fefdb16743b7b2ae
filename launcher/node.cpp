// SPDX-License-Identifier: Apache-2.0
#include "launcher/node.hpp"

#include "core/child.hpp"
#include "net/bridge.hpp"
#include "net/frame.hpp"
#include "net/handshake.hpp"
#include "net/output.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <initializer_list>
#include <poll.h>
#include <spawn.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace places {
namespace {

using clock_type = std::chrono::steady_clock;

// A node ends its places, of which the nursery kills the slow ones, and forwards what they printed
// for a second; whatever is left of it then is stuck.
constexpr int end_grace_ms = 2000;
// An order is a key and three short texts. Beyond this, what comes is no order, and nothing is
// allocated for it.
constexpr std::size_t order_bytes_max = 64 * 1024;
// A starter that prints its pipe full may be read without end; between so many octets (a pipe's
// smallest buffer) the other stream and the deadline get their turn.
constexpr int octets_a_turn_max = 4096;
constexpr std::size_t printed_bytes_max = 4 * 1024;  // of what a failing node says, in its error

/// Opens a channel to this node's bridge for `what`.
channel open_bridge(detail::process& home, const net::command& what, std::size_t ring_bytes,
                    const std::vector<int>& fds = {}) {
    auto answer = home.request(control::open_bridge{detail::encode_datum(what), ring_bytes}, fds);
    const auto& grant = std::get<control::granted>(answer.packet.body);
    return channel{home.open(grant, std::move(answer.fds))};
}

template <class T>
T body_of(const message& m) {
    auto body = detail::decode_datum<T>(m.bytes());
    if (!body) throw error(errc::protocol, "the bridge answered something else");
    return std::move(*body);
}

/// While it lives, a write of this thread to a pipe without a reader fails with EPIPE alone: the
/// signal would end a program that has done nothing wrong.
class without_sigpipe {
  public:
    without_sigpipe() {
        sigset_t pending;
        ::sigpending(&pending);
        is_pending_already_ = ::sigismember(&pending, SIGPIPE) == 1;
        ::sigemptyset(&signal_);
        ::sigaddset(&signal_, SIGPIPE);
        ::pthread_sigmask(SIG_BLOCK, &signal_, &before_);
    }
    ~without_sigpipe() {
        const timespec at_once{};
        if (!is_pending_already_) (void)::sigtimedwait(&signal_, nullptr, &at_once);
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    without_sigpipe(const without_sigpipe&) = delete;
    without_sigpipe& operator=(const without_sigpipe&) = delete;

  private:
    sigset_t signal_;
    sigset_t before_;
    bool is_pending_already_ = false;
};

void write_all(int fd, const void* from, std::size_t size) {
    const without_sigpipe guard;
    const auto* at = static_cast<const char*>(from);
    while (size > 0) {
        const auto written = ::write(fd, at, size);
        if (written < 0 && errno == EINTR) continue;
        checked(written, "write to a new node's standard input");
        at += written;
        size -= static_cast<std::size_t>(written);
    }
}

bool read_all(int fd, void* into, std::size_t size) {
    auto* at = static_cast<char*>(into);
    while (size > 0) {
        const auto got = ::read(fd, at, size);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got;
        size -= static_cast<std::size_t>(got);
    }
    return true;
}

struct pipe_ends {
    unique_fd reader;
    unique_fd writer;
};
pipe_ends make_pipe() {
    int fds[2];
    checked(::pipe2(fds, O_CLOEXEC), "make a pipe to a new node");
    return {unique_fd{fds[0]}, unique_fd{fds[1]}};
}

/// The processes of a new node and our ends of its standard streams.
struct started {
    pid_t pid = 0;
    unique_fd pidfd;
    unique_fd in;
    unique_fd out;
    unique_fd err;
};

started start_process() {
    std::array<char, 4096> path{};
    checked(::readlink("/proc/self/exe", path.data(), path.size() - 1), "readlink /proc/self/exe");
    auto in = make_pipe();
    auto out = make_pipe();
    auto err = make_pipe();

    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, in.reader.get(), 0);
    ::posix_spawn_file_actions_adddup2(&actions, out.writer.get(), 1);
    ::posix_spawn_file_actions_adddup2(&actions, err.writer.get(), 2);
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    // A process group of its own: a terminal's signals are for the program that started it.
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    ::posix_spawnattr_setpgroup(&attributes, 0);
    sigset_t defaults;
    ::sigemptyset(&defaults);
    ::sigaddset(&defaults, SIGPIPE);
    ::posix_spawnattr_setsigdefault(&attributes, &defaults);
    std::string argument = launcher::node_argument;
    std::array<char*, 3> argv{path.data(), argument.data(), nullptr};
    started s;
    const int failed =
        ::posix_spawn(&s.pid, path.data(), &actions, &attributes, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (failed) throw std::system_error(failed, std::generic_category(), "start a node");
    s.pidfd = unique_fd{static_cast<int>(::syscall(SYS_pidfd_open, s.pid, 0))};
    if (!s.pidfd) {
        const int cause = errno;
        ::kill(s.pid, SIGKILL);
        ::waitpid(s.pid, nullptr, 0);
        throw std::system_error(cause, std::generic_category(), "pidfd_open");
    }
    s.in = std::move(in.writer);
    s.out = std::move(out.reader);
    s.err = std::move(err.reader);
    return s;
}

/// Reads the node's standard streams until one of its marked lines, its end, or the deadline.
/// Returns: that line, or nothing; other lines go to our standard error, and into `printed`.
class answer_reader {
  public:
    answer_reader(started& s, std::string label) : streams_{&s.out, &s.err}, label_(label) {}

    std::optional<std::string> wait(clock_type::time_point until) {
        while (true) {
            std::array<pollfd, 2> fds{pollfd{streams_[0]->get(), POLLIN, 0},
                                      pollfd{ended_[1] ? -1 : streams_[1]->get(), POLLIN, 0}};
            const auto left =
                std::chrono::ceil<std::chrono::milliseconds>(until - clock_type::now());
            if (left.count() <= 0) return std::nullopt;
            if (::poll(fds.data(), fds.size(), static_cast<int>(left.count())) < 0) continue;
            for (std::size_t i = 2; i-- > 0;) {
                if (!fds[i].revents) continue;
                if (auto line = take(i)) return line;
            }
            if (ended_[0]) return std::nullopt;
        }
    }
    /// What was printed without a line feed so far is a line: nobody reads its beginning again.
    void finish_lines() {
        for (auto& line : line_) {
            if (!line.empty()) print(std::exchange(line, {}));
        }
    }
    const std::string& printed() const { return printed_; }

  private:
    std::optional<std::string> take(std::size_t stream) {
        char c;
        // Octet by octet: what follows the marked line is for the bridge to read.
        for (int octets = 0; octets < octets_a_turn_max; ++octets) {
            const auto got = ::read(streams_[stream]->get(), &c, 1);
            if (got <= 0) {
                ended_[stream] = true;
                return std::nullopt;
            }
            if (c != '\n') {
                line_[stream] += c;
            } else {
                auto line = std::exchange(line_[stream], {});
                if (stream == 0 && (line.starts_with(launcher::ready_marker) ||
                                    line.starts_with(launcher::failed_marker))) {
                    return line;
                }
                print(line);
            }
            pollfd more{streams_[stream]->get(), POLLIN, 0};
            if (::poll(&more, 1, 0) <= 0) return std::nullopt;
        }
        return std::nullopt;
    }

    void print(const std::string& line) {
        if (printed_.size() < printed_bytes_max) printed_ += (printed_.empty() ? "" : "; ") + line;
        net::print_line(label_, line);
    }

    std::array<unique_fd*, 2> streams_;
    std::string label_;
    std::array<std::string, 2> line_;
    std::array<bool, 2> ended_{};
    std::string printed_;
};

/// The port in a ready line: `port=6344 …`.
std::uint16_t port_in(std::string_view line) {
    std::uint16_t port = 0;
    if (const auto at = line.find("port="); at != line.npos) {
        std::from_chars(line.data() + at + 5, line.data() + line.size(), port);
    }
    return port;
}

/// The code and the text of `places-node-failed <code> <text>`.
[[noreturn]] void throw_failure(std::string_view line, const std::string& where) {
    line.remove_prefix(launcher::failed_marker.size());
    int code = static_cast<int>(errc::start_failed);
    const auto [end, ec] = std::from_chars(line.data(), line.data() + line.size(), code);
    throw error(errc_of(code), "node " + where + ":" + std::string(end, line.end()));
}

}  // namespace

// -- being a node --

namespace launcher {

int serve_node(detail::process& home, const std::function<void()>& end_places) {
    std::uint32_t length = 0;
    if (!read_all(0, &length, sizeof length) || length > order_bytes_max) return 2;
    bytes octets(length);
    if (!read_all(0, octets.data(), length)) return 2;
    const auto order = detail::decode_datum<node_order>(octets);
    if (!order) return 2;

    // Tether: the pipe ends with whoever started us; the nursery ends with us. Once we have been
    // asked to end, that is under way and bounded, and the status is the one asked for.
    const auto is_ending = std::make_shared<std::atomic<bool>>(false);
    std::thread([is_ending] {
        char rest;
        while (read_all(0, &rest, 1)) {
        }
        // relaxed: only this one bit.
        if (!is_ending->load(std::memory_order_relaxed)) ::_exit(1);
    }).detach();

    const auto report = [](errc code, const char* text) {
        std::printf("%s%d %s\n", failed_marker.data(), static_cast<int>(code), text);
        std::fflush(stdout);
        return 1;
    };
    try {
        const auto name =
            order->name.empty() ? order->address + ":" + std::to_string(order->port) : order->name;
        auto bridge =
            open_bridge(home, net::listen_command{order->address, order->port, order->key, name},
                        ring_bytes_default);
        const auto ready = body_of<net::listening>(detail::await_opened(bridge));
        std::printf("%sport=%u incarnation=%s protocol=1\n", ready_marker.data(), ready.port,
                    ready.incarnation.c_str());
        std::fflush(stdout);
        while (true) {
            const auto event = bridge.get<net::bridge_event>();
            if (!event) {
                std::fprintf(stderr, "the bridge has ended: %s\n", event.error().message().c_str());
                return 1;
            }
            const auto* asked = std::get_if<net::exit_asked>(&*event);
            if (!asked) continue;
            is_ending->store(true, std::memory_order_relaxed);  // relaxed: as above
            end_places();
            (void)bridge.put(net::bridge_request{net::finish{}});
            // It hangs up when all is forwarded, and ends.
            while (bridge.receive()) {
            }
            return detail::completion_value(asked->status);
        }
    } catch (const error& e) {
        return report(net::code_of(e), e.what());
    } catch (const std::exception& e) {
        return report(errc::start_failed, e.what());
    }
}

// -- starting one --

std::shared_ptr<remote_node::state> start_node(detail::process& home, const std::string& host,
                                               const node_options& options) {
    const auto where = host + ":" + std::to_string(options.listen_port);
    if (options.deadline <= options.deadline.zero() || options.deadline > net::dial_deadline_max) {
        throw error(errc::bad_argument, "node " + where + ": a deadline of " +
                                            std::to_string(options.deadline.count()) +
                                            " ms: at least 1 ms, at most an hour");
    }
    const auto until = clock_type::now() + options.deadline;
    if (!options.name.empty() && !net::is_node_name(options.name)) {
        throw error(errc::bad_argument,
                    "node " + where + ": \"" + net::printable(options.name) +
                        "\" is no name for a node: 1 to 255 bytes without control characters");
    }
    if (host != "localhost" && host != "127.0.0.1") {
        throw error(errc::node_unreachable, "node " + where +
                                                ": only localhost can be started on so far; other "
                                                "hosts need SSH");
    }
    node_order order;
    order.address = "127.0.0.1";
    order.port = options.listen_port;
    order.name = options.name;
    order.key.resize(32);
    if (::getrandom(order.key.data(), order.key.size(), 0) !=
        static_cast<ssize_t>(order.key.size())) {
        throw std::system_error(errno, std::generic_category(), "getrandom");
    }

    auto process = start_process();
    auto s = std::make_shared<remote_node::state>();
    s->host = host;
    s->pid = process.pid;
    s->pidfd = std::move(process.pidfd);
    s->life = std::move(process.in);
    // From here on, leaving by an exception ends the process through ~state.
    const auto octets = detail::encode_datum(order);
    const auto length = static_cast<std::uint32_t>(octets.size());
    answer_reader answers{process, where};
    try {
        write_all(s->life.get(), &length, sizeof length);
        write_all(s->life.get(), octets.data(), octets.size());
    } catch (const std::system_error&) {
        // It has ended already; what it printed says why.
    }
    const auto line = answers.wait(until);
    answers.finish_lines();
    if (!line) {
        const bool ended = s->reap(0) || clock_type::now() < until;
        if (!ended) s->kill();
        throw error(errc::node_unreachable,
                    "node " + where +
                        (ended ? " ended before it was ready" : " was not ready in time") +
                        (answers.printed().empty() ? "" : "; it printed: " + answers.printed()));
    }
    if (line->starts_with(failed_marker)) throw_failure(*line, where);
    s->port = port_in(*line);
    s->name = options.name.empty() ? host + ":" + std::to_string(s->port) : options.name;

    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock_type::now());
    // At least one: when time is up, it is dialing that says so, naming host and port.
    const auto left_ms = std::max<std::int64_t>(left.count(), 1);
    net::dial_command dial{"127.0.0.1", s->port, order.key, "root", s->name, left_ms};
    s->bridge = open_bridge(home, dial, ring_bytes_default, {process.out.get(), process.err.get()});
    try {
        s->link_id = body_of<net::linked>(detail::await_opened(s->bridge)).link_id;
    } catch (const error& e) {
        s->kill();
        throw error(e.code(), "node " + where + ": " + e.what());
    }
    return s;
}

}  // namespace launcher

// -- remote_node --

remote_node::state::~state() { end(); }

bool remote_node::state::reap(int wait_ms) noexcept {
    if (ended) return true;
    pollfd life_ends{pidfd.get(), POLLIN, 0};
    const auto until = clock_type::now() + std::chrono::milliseconds{wait_ms};
    int got;
    do {
        // A signal cuts a wait short; it does not cut the node's time short.
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock_type::now());
        got = ::poll(&life_ends, 1,
                     wait_ms < 0 ? -1 : static_cast<int>(std::max<long>(left.count(), 0)));
    } while (got < 0 && errno == EINTR);
    if (got <= 0) return false;
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED) == 0) {
        ended = exit_status{info.si_code != CLD_EXITED, info.si_status};
    } else {
        ended = exit_status{};  // somebody else has waited for it
    }
    return true;
}

void remote_node::state::end() noexcept {
    up = false;
    bridge = {};
    life.reset();
    if (!reap(end_grace_ms)) kill();
}

void remote_node::state::kill() noexcept {
    if (ended) return;
    ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
    (void)reap(-1);
}

void remote_node::state::went_down(const std::string& reason) {
    if (!std::exchange(up, false)) return;
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
    if (const auto* lost = std::get_if<net::node_lost>(&*event)) went_down(lost->reason);
    return up;
}

remote_node::remote_node(std::shared_ptr<state> s) noexcept : state_(std::move(s)) {}
const std::string& remote_node::name() const noexcept { return state_->name; }
std::uint16_t remote_node::port() const noexcept { return state_->port; }
int remote_node::pid() const noexcept { return state_->pid; }
bool remote_node::is_up() const noexcept {
    pollfd life_ends{state_->pidfd.get(), POLLIN, 0};
    return state_->up && !state_->ended && ::poll(&life_ends, 1, 0) == 0;
}

namespace {

remote_place open_remote(const remote_node::state& node, const net::command& what,
                         std::size_t ring_bytes) {
    if (ring_bytes > net::remote_ring_bytes_max) {
        throw error(errc::bad_argument, "ring_bytes of " + std::to_string(ring_bytes) +
                                            ": a channel to another node has at most 131072");
    }
    const auto fail = [&](boost::system::error_code code, const std::string& text) {
        throw error(code, text + " (node " + node.name + ")");
    };
    if (!node.up) fail(errc::node_down, "the node has ended");
    try {
        auto c = open_bridge(detail::process::current(), what, ring_bytes);
        (void)detail::await_opened(c);
        return c;
    } catch (const error& e) {
        // A bridge that dies can no longer say why there is no channel.
        if (e.code() == errc::start_failed && node.bridge.peer_status()) {
            fail(errc::node_down, "the bridge to it has ended");
        }
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

remote_place remote_node::supervise_place(const registered& entry,
                                          const supervise_options& options) {
    check_names({entry.name, options.named});
    return open_remote(
        *state_,
        net::start_command{state_->link_id, control::registered_entry{entry.name}, options.named},
        options.ring_bytes);
}

remote_place remote_node::supervise_place(const library& entry, const supervise_options& options) {
    check_names({entry.path, entry.symbol, options.named});
    return open_remote(
        *state_,
        net::start_command{state_->link_id, control::library_entry{entry.path, entry.symbol},
                           options.named},
        options.ring_bytes);
}

channel remote_node::connect_to_named_place(const std::string& place, std::size_t ring_bytes) {
    check_names({place});
    return open_remote(*state_, net::connect_command{state_->link_id, place}, ring_bytes);
}

void remote_node::send_exit(int status) {
    (void)state_->bridge.put(net::bridge_request{net::end_node{status}});
}

exit_status remote_node::wait() {
    (void)state_->reap(-1);
    return *state_->ended;
}

void remote_node::on_down(std::function<void(const std::string&)> handler) {
    state_->on_down = std::move(handler);
}

}  // namespace places
