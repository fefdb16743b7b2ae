// SPDX-License-Identifier: Apache-2.0
#include "launcher/remote_launcher.hpp"

#include "core/child.hpp"
#include "launcher/deploy.hpp"
#include "launcher/exit_signal.hpp"
#include "launcher/node.hpp"
#include "launcher/owner_watch.hpp"
#include "launcher/spawned.hpp"
#include "launcher/ssh.hpp"
#include "launcher/ssh_config.hpp"
#include "launcher/ssh_program.hpp"
#include "launcher/stage_deadline.hpp"
#include "net/keys.hpp"
#include "net/line_reader.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

namespace places::launcher {
namespace {

using clock_type = std::chrono::steady_clock;

constexpr std::size_t buffered_bytes_max = 64 * 1024;
// A node that has been told to end does so within a second; then its own owner_watch ends it.
constexpr std::chrono::milliseconds goodbye_limit{1500};
constexpr std::chrono::milliseconds answer_interval{200};
// Connections to the node's port: ours is one, and anybody on this host may make others.
constexpr std::size_t carried_max = 16;
constexpr int lost_status = 255;  // as of the ssh command

struct account {
    std::string name;
    std::string home;
};
account own_account() {
    account a;
    if (const auto* entry = ::getpwuid(::getuid())) a = {entry->pw_name, entry->pw_dir};
    if (const char* home = std::getenv("HOME")) a.home = home;
    return a;
}

/// Asks whoever started us; the answer comes on standard input, after its u32 length.
std::string ask_caller(const std::string& key_file) {
    write_line(std::string(passphrase_marker) + key_file);
    std::uint32_t length = 0;
    if (!read_all(0, &length, sizeof length) || length > order_bytes_max) throw launch_unwanted{};
    std::string answer(length, '\0');
    if (!read_all(0, answer.data(), length)) throw launch_unwanted{};
    return answer;
}

std::unique_ptr<remote_host> open_remote_host(const remote_launch_order& order,
                                              const ssh_settings& settings, stage_deadline& clock) {
    if (!order.ssh_command.empty()) {
        return open_ssh_program({order.ssh_command, order.host, order.user, order.port,
                                 order.has_config ? order.config : std::string(),
                                 order.identity_files, order.known_hosts_files},
                                clock);
    }
    if (!settings.beyond_us.empty()) {
        throw error(errc::bad_argument, settings.beyond_us +
                                            ": the SSH library cannot do this; .ssh_command = "
                                            "\"ssh\" leaves the login to the ssh command");
    }
    return open_ssh(settings, clock, &ask_caller);
}

ssh_settings settings_of(const remote_launch_order& order) {
    if (!order.ssh_command.empty()) return {};
    const auto self = own_account();
    auto s = read_ssh_config({order.host, order.user, order.port},
                             order.has_config ? std::optional(order.config) : std::nullopt,
                             self.home, self.name);
    if (!order.identity_files.empty()) {
        s.identity_files = order.identity_files;
        s.files_first = true;
    }
    if (!order.known_hosts_files.empty()) s.known_hosts_files = order.known_hosts_files;
    return s;
}

/// Moves octets between a stream of the remote host and descriptors of ours. Nothing blocks.
struct way_out {
    int fd = -1;
    std::string waiting{};

    bool has_room() const noexcept { return waiting.size() < buffered_bytes_max; }
    /// Returns: whether anything moved. What nobody reads any more is dropped.
    bool write_some() {
        if (waiting.empty()) return false;
        const auto taken = ::write(fd, waiting.data(), waiting.size());
        if (taken < 0) {
            if (errno == EAGAIN || errno == EINTR) return false;
            waiting.clear();
            return true;
        }
        waiting.erase(0, static_cast<std::size_t>(taken));
        return true;
    }
};

/// One connection through the SSH connection to the node's port.
struct carried {
    unique_fd socket;
    std::unique_ptr<far_stream> stream;
    std::string to_far{};
    way_out to_near{};
    bool near_ended = false;
    bool is_reported = false;
};

/// Between our standard streams and the node, until one side ends.
class node_pump {
  public:
    node_pump(remote_host& far, started_stream node, const remote_launch_order& order);
    ~node_pump();
    node_pump(const node_pump&) = delete;
    node_pump& operator=(const node_pump&) = delete;
    /// Returns: how the node has ended; nothing where it is not known.
    std::optional<exit_status> run();
    bool was_ready() const noexcept { return is_ready_; }

  private:
    void wait();
    bool move_node();
    bool move_carried(carried& each);
    bool try_to_move(carried& each);
    bool move_all_carried();
    bool has_room_for_another() const noexcept { return carried_.size() < carried_max; }
    void write_rest();
    void take_lines(bool all);
    std::string ready_line(const std::string& line);
    void accept_some();
    void read_caller();
    void beat();
    void send_goodbye();

    remote_host& far_;
    std::unique_ptr<far_stream> node_;
    const remote_launch_order& order_;
    net::line_reader unready_{buffered_bytes_max};  // what the node has printed, until it is ready
    bool is_ready_ = false;
    bool is_wanted_ = true;
    bool may_stay_ = false;
    bool looked_again_ = false;  // since something has moved
    way_out out_{STDOUT_FILENO};
    way_out err_{STDERR_FILENO};
    unique_fd listener_;
    std::string node_address_;
    std::uint16_t node_port_ = 0;
    std::vector<carried> carried_;
    clock_type::time_point next_beat_ = clock_type::now();
};

node_pump::node_pump(remote_host& far, started_stream node, const remote_launch_order& order)
    : far_(far),
      node_(std::move(node.stream)),
      order_(order) {
    unready_.add(node.out);
    err_.waiting = std::move(node.err);
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
        checked(::fcntl(fd, F_SETFL, O_NONBLOCK), "fcntl");
    }
    // While a tunnel is opened the node hears of us as well.
    far_.clock().meanwhile(beat_interval, [this] { beat(); });
}

/// An ssh command would stay as long as a detached node.
node_pump::~node_pump() {
    far_.clock().meanwhile({}, {});
    if (!may_stay_) return;
    node_->let_go();
    for (const auto& each : carried_) {
        if (each.stream) each.stream->let_go();
    }
}

std::optional<exit_status> node_pump::run() {
    try {
        while (is_wanted_) {
            bool moved = move_node();
            moved |= move_all_carried();
            if (node_->has_ended() && !moved) {
                take_lines(true);
                write_rest();
                return node_->status();
            }
            if (moved) {
                looked_again_ = false;
            } else {
                wait();
            }
            beat();
        }
    } catch (const launch_unwanted&) {
        // While a tunnel was opened.
    } catch (const error& e) {
        if (!is_ready_) throw;
        // Nobody waits for an answer any more: it is a line of the node's output.
        err_.waiting += std::string(e.what()) + "\n";
        write_rest();
        return std::nullopt;
    }
    try {
        send_goodbye();
    } catch (const error&) {
        // The connection is lost meanwhile: the node's own owner_watch tells it.
    }
    return exit_status{};
}

/// What is left to say is said, as long as somebody is there to hear it.
void node_pump::write_rest() {
    while (true) {
        while (out_.write_some() || err_.write_some()) {
        }
        std::vector<pollfd> fds{{STDIN_FILENO, 0, 0}};
        for (const auto* each : {&out_, &err_}) {
            if (!each->waiting.empty()) fds.push_back({each->fd, POLLOUT, 0});
        }
        if (fds.size() == 1) return;
        if (::poll(fds.data(), fds.size(), -1) > 0 && fds[0].revents) return;
    }
}

void node_pump::wait() {
    std::vector<pollfd> fds{{STDIN_FILENO, POLLIN, 0}};
    if (!out_.waiting.empty()) fds.push_back({STDOUT_FILENO, POLLOUT, 0});
    if (!err_.waiting.empty()) fds.push_back({STDERR_FILENO, POLLOUT, 0});
    if (listener_ && has_room_for_another()) fds.push_back({listener_.get(), POLLIN, 0});
    for (const auto& each : carried_) {
        short events = 0;
        if (!each.near_ended && each.to_far.size() < buffered_bytes_max) events |= POLLIN;
        if (!each.to_near.waiting.empty()) events |= POLLOUT;
        // A peer that hung up is not news for ever.
        if (events != 0) fds.push_back({each.socket.get(), events, 0});
    }
    // What will not be read would be news without end.
    bool reads = out_.has_room() || err_.has_room();
    node_->listen_to(1, out_.has_room());
    node_->listen_to(2, err_.has_room());
    for (const auto& each : carried_) {
        reads |= each.to_near.has_room();
        for (const int stream : {1, 2}) each.stream->listen_to(stream, each.to_near.has_room());
    }
    for (auto each : far_.interests()) {
        if (!reads) each.events = static_cast<short>(each.events & ~POLLIN);
        fds.push_back(each);
    }
    bool has_more =
        (out_.has_room() && node_->has_more(1)) || (err_.has_room() && node_->has_more(2));
    for (const auto& each : carried_)
        has_more |= each.to_near.has_room() && each.stream->has_more(1);
    // Once: what lies there and cannot be read is no reason not to wait.
    looked_again_ = has_more && !looked_again_;
    if (looked_again_) return;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(next_beat_ - clock_type::now()).count();
    if (::poll(fds.data(), fds.size(), static_cast<int>(std::max<long>(left, 0))) <= 0) return;
    if (fds[0].revents) read_caller();
    far_.look();
    if (listener_) accept_some();
}

bool node_pump::move_node() {
    std::array<char, 16 * 1024> buffer;
    bool moved = false;
    if (out_.has_room()) {
        const auto got = node_->read(1, buffer);
        moved |= got > 0;
        if (is_ready_) {
            out_.waiting.append(buffer.data(), got);
        } else {
            unready_.add({buffer.data(), got});
            take_lines(false);
        }
    }
    if (err_.has_room()) {
        const auto got = node_->read(2, buffer);
        moved |= got > 0;
        err_.waiting.append(buffer.data(), got);
    }
    moved |= out_.write_some();
    moved |= err_.write_some();
    return moved;
}

/// Passes on whole lines until the one that says the node is ready; then everything as it comes.
void node_pump::take_lines(bool all) {
    while (!is_ready_) {
        const auto next = unready_.next();
        if (!next) break;
        std::string line(*next);
        if (line.starts_with(ready_marker)) {
            is_ready_ = true;
            line = ready_line(line);
        }
        out_.waiting += line + "\n";
    }
    if (is_ready_ || all) out_.waiting += unready_.rest();
}

/// The same, with a port of ours that leads to the node's where a tunnel is wanted.
std::string node_pump::ready_line(const std::string& line) {
    if (!order_.tunnel) return line;
    const auto at = line.find("port=");
    if (at == line.npos) return line;
    const char* begin = line.data() + at + 5;
    const auto [rest, ec] = std::from_chars(begin, line.data() + line.size(), node_port_);
    if (ec != std::errc{}) return line;
    constexpr std::string_view mark = " address=";
    if (const auto found = line.find(mark); found != line.npos) {
        node_address_ = line.substr(found + mark.size());
        node_address_.resize(std::min(node_address_.find(' '), node_address_.size()));
    }
    listener_ = checked_fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
                           "make a socket for a tunnel");
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof where;
    checked(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&where), size), "bind a tunnel");
    checked(::listen(listener_.get(), carried_max), "listen for a tunnel");
    checked(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&where), &size),
            "getsockname");
    return line.substr(0, at) + "port=" + std::to_string(ntohs(where.sin_port)) +
           std::string(rest, line.data() + line.size()) +
           " node_port=" + std::to_string(node_port_);
}

void node_pump::accept_some() {
    while (has_room_for_another()) {
        unique_fd socket{
            ::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
        if (!socket) return;
        // Credit is small frames that wait for nothing.
        const int on = 1;
        ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        try {
            far_.clock().begin(errc::ssh_lost, "opening a tunnel");
            auto stream = far_.connect(node_address_, node_port_);
            const int fd = socket.get();
            carried_.push_back({std::move(socket), std::move(stream), {}, {fd, {}}, false, false});
        } catch (const error& e) {
            err_.waiting += std::string(e.what()) + "\n";
        }
    }
}

/// One that fails says so, and leaves the node and the others alone.
bool node_pump::try_to_move(carried& each) {
    try {
        return move_carried(each);
    } catch (const error& e) {
        err_.waiting += std::string(e.what()) + "\n";
        each.stream.reset();
        each.socket.reset();
        return true;
    }
}

/// Forgets those that have ended.
bool node_pump::move_all_carried() {
    bool moved = false;
    for (auto& each : carried_) moved |= try_to_move(each);
    std::erase_if(carried_, [](const carried& each) { return !each.socket; });
    return moved;
}

bool node_pump::move_carried(carried& each) {
    std::array<char, 16 * 1024> buffer;
    bool moved = false;
    if (!each.near_ended && each.to_far.size() < buffered_bytes_max) {
        const auto got = ::read(each.socket.get(), buffer.data(), buffer.size());
        if (got > 0) {
            each.to_far.append(buffer.data(), static_cast<std::size_t>(got));
            moved = true;
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            each.near_ended = true;
        }
    }
    if (!each.to_far.empty()) {
        const auto taken = each.stream->write(each.to_far);
        each.to_far.erase(0, taken);
        moved |= taken > 0;
    } else if (each.near_ended && !std::exchange(each.is_reported, true)) {
        each.stream->end_input();
        moved = true;
    }
    if (each.to_near.has_room()) {
        const auto got = each.stream->read(1, buffer);
        each.to_near.waiting.append(buffer.data(), got);
        moved |= got > 0;
        (void)each.stream->read(2, buffer);
    }
    moved |= each.to_near.write_some();
    if (!moved && each.stream->has_ended() && each.to_near.waiting.empty()) {
        each.stream.reset();
        each.socket.reset();
        moved = true;
    }
    return moved;
}

/// What it has said before it went counts.
void node_pump::read_caller() {
    pollfd news{STDIN_FILENO, POLLIN, 0};
    char word = 0;
    while (is_wanted_ && ::poll(&news, 1, 0) > 0) {
        is_wanted_ = ::read(STDIN_FILENO, &word, 1) == 1;
        if (word == may_stay && order_.detach && !std::exchange(may_stay_, true)) next_beat_ = {};
    }
}

void node_pump::beat() {
    const auto now = clock_type::now();
    if (now < next_beat_) return;
    next_beat_ = now + beat_interval;
    (void)node_->write({may_stay_ ? &may_stay : &still_wanted, 1});
}

/// Waits for a detached node's answer: until then the word may still lie in ssh's buffers.
void node_pump::send_goodbye() {
    read_caller();
    const auto until = clock_type::now() + goodbye_limit;
    // An older node knows the first of the two alone.
    constexpr char stays[] = {may_stay, ask_stays};
    const auto what = may_stay_ ? std::string_view{stays, 2} : std::string_view{&wanted_no_more, 1};
    auto word = what;
    bool told = false;
    std::string answer;
    for (const int each : {1, 2}) node_->listen_to(each, true);
    auto again = clock_type::now() + answer_interval;
    for (auto now = clock_type::now(); now < until; now = clock_type::now()) {
        // It leaves the answer out where there is no room for it.
        if (may_stay_ && word.empty() && now >= again) {
            word = what;
            again = now + answer_interval;
        }
        word.remove_prefix(node_->write(word));
        if (word.empty() && !may_stay_ && !std::exchange(told, true)) node_->end_input();
        (void)move_all_carried();
        std::array<char, 4096> rest;
        const auto got = node_->read(1, rest);
        const bool moved = node_->read(2, std::span(rest).subspan(got)) > 0 || got > 0;
        answer.append(rest.data(), got);
        if (answer.find(stays_line) != answer.npos) return;
        answer.erase(0, answer.size() - std::min(answer.size(), stays_line.size()));
        if (moved) continue;
        if (node_->has_ended()) return;
        // Once, as in wait().
        looked_again_ = (node_->has_more(1) || node_->has_more(2)) && !looked_again_;
        if (looked_again_) continue;
        auto fds = far_.interests();
        const auto next = may_stay_ ? std::min(again, until) : until;
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(next - clock_type::now()).count();
        (void)::poll(fds.data(), fds.size(), static_cast<int>(std::max<long>(left, 0)));
        far_.look();
    }
}

/// What whoever started us says to the node, who hears meanwhile that it is still to come: nobody
/// need look at a start that goes on by itself.
class order_source {
  public:
    explicit order_source(far_stream& node) : node_(node) {}

    /// Returns: the next order with its length, after what of our words the node has not taken.
    /// Throws: launch_unwanted, error.
    std::string next() {
        std::uint32_t length = 0;
        read(&length, sizeof length);
        if (length > order_bytes_max) throw launch_unwanted{};
        std::string order(length, '\0');
        read(order.data(), length);
        std::string octets = std::exchange(waiting_, {});
        octets.reserve(octets.size() + sizeof length + length);
        octets.append(reinterpret_cast<const char*>(&length), sizeof length).append(order);
        ::explicit_bzero(order.data(), order.size());
        return octets;
    }

  private:
    void read(void* into, std::size_t size) {
        auto* at = static_cast<char*>(into);
        while (size > 0) {
            pollfd news{STDIN_FILENO, POLLIN, 0};
            const int found = ::poll(&news, 1, static_cast<int>(beat_interval.count()));
            if (found == 0) {
                report_to_come();
                continue;
            }
            const auto got = found < 0 ? found : ::read(STDIN_FILENO, at, size);
            if (got < 0 && errno == EINTR) continue;
            checked(found, "poll for the node's order");
            checked(got, "read the node's order");
            if (got == 0) throw launch_unwanted{};
            at += got;
            size -= static_cast<std::size_t>(got);
        }
    }
    void report_to_come() {
        if (waiting_.empty()) {
            waiting_.assign(reinterpret_cast<const char*>(&order_to_come), sizeof order_to_come);
        }
        waiting_.erase(0, node_.write(waiting_));
    }

    far_stream& node_;
    std::string waiting_;
};

/// The node's two orders go through, unread.
void pass_orders(remote_host& far, far_stream& node) {
    far.clock().end();
    order_source orders(node);
    for (int i = 0; i < 2; ++i) {
        auto octets = orders.next();
        far.clock().begin(errc::ssh_lost, "giving the node its order");
        std::string_view left = octets;
        while (!left.empty()) {
            const auto taken = node.write(left);
            left.remove_prefix(taken);
            if (taken > 0) continue;
            if (node.has_ended()) break;  // what it printed says why
            far.wait();
        }
        ::explicit_bzero(octets.data(), octets.size());
        far.clock().end();
    }
}

/// As of a shell that could not run a program, and of a loader that lacks a library.
bool is_no_start(const exit_status& how) noexcept {
    return !how.signalled && (how.value == 126 || how.value == 127);
}

[[noreturn]] void end_like(const exit_status& how) {
    if (how.signalled && ends_process(how.value)) {
        // It is not this program that failed.
        const rlimit none{0, 0};
        (void)::setrlimit(RLIMIT_CORE, &none);
        ::signal(how.value, SIG_DFL);
        ::raise(how.value);
        ::_exit(128 + how.value);
    }
    ::_exit(how.signalled ? lost_status : how.value);
}

}  // namespace

int serve_remote_launcher() {
    std::uint32_t length = 0;
    if (!read_all(0, &length, sizeof length) || length > order_bytes_max) return 2;
    bytes octets(length);
    if (!read_all(0, octets.data(), length)) return 2;
    const auto order = detail::decode_datum<remote_launch_order>(octets);
    if (!order) return 2;
    ::signal(SIGPIPE, SIG_IGN);

    const auto report = [](errc code, std::string text) {
        // It quotes the other side, and may be shown on a terminal.
        std::ranges::replace(text, '\n', ' ');
        text = net::printable(text, text.size());
        write_line(std::string(failed_marker) + std::to_string(static_cast<int>(code)) + " " +
                   text);
        return 1;
    };
    try {
        stage_deadline clock(std::chrono::milliseconds{order->stage_deadline_ms}, STDIN_FILENO);
        const bool is_copied = order->program.empty();
        const auto goods =
            is_copied ? gather(order->modules, order->working_directory, clock) : bundle{};
        const auto settings = settings_of(*order);
        const auto far = open_remote_host(*order, settings, clock);
        auto node = is_copied ? start_deployed(*far, goods, order->show_progress)
                              : start_installed(*far, order->program);
        clock.silence();
        write_line(std::string(start_marker) + " address=" + far->address());
        pass_orders(*far, *node.stream);
        far->keep_alive();
        std::optional<exit_status> how;
        bool is_ready = false;
        {
            // Its end is the ssh command's.
            node_pump pump(*far, std::move(node), *order);
            how = pump.run();
            is_ready = pump.was_ready();
        }
        if (is_copied && !is_ready && how && is_no_start(*how)) {
            forget_start(*far, goods);
            constexpr std::string_view advice =
                "what the host has in its cache does not start; start again, and it is copied "
                "anew\n";
            (void)!::write(STDERR_FILENO, advice.data(), advice.size());
        }
        end_like(how.value_or(exit_status{false, lost_status}));
    } catch (const launch_unwanted&) {
        return 1;
    } catch (const error& e) {
        return report(errc_of(e.code().value()), e.what());
    } catch (const std::exception& e) {
        return report(errc::start_failed, e.what());
    }
}

}  // namespace places::launcher
