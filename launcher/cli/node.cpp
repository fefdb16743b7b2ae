// SPDX-License-Identifier: Apache-2.0
// places node: a node that nobody has started from a program, and that belongs to nobody.
#include "launcher/cli/cli.hpp"
#include "launcher/cli/notify.hpp"

#include "core/child.hpp"
#include "core/process.hpp"
#include "launcher/address.hpp"
#include "launcher/end_limit.hpp"
#include "launcher/key_file.hpp"
#include "launcher/node.hpp"
#include "launcher/thread.hpp"
#include "net/bridge.hpp"
#include "net/keys.hpp"

#include <places/launcher/runtime.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <optional>
#include <string>
#include <thread>
#include <unistd.h>
#include <variant>
#include <vector>

namespace places::cli {
namespace {

using clock = std::chrono::steady_clock;

// Sooner than this a second signal is the first: timeout(1) sends its own twice.
constexpr std::chrono::seconds same_signal{1};

// For the signal handler, which is given nothing but the signal's number. The pipe is stored before
// the handlers are set, by whose sigaction() every thread that runs one sees it.
std::atomic<int> signal_pipe = -1;
std::atomic<clock::rep> first_signal_at = 0;
static_assert(std::atomic<int>::is_always_lock_free &&
              std::atomic<clock::rep>::is_always_lock_free);

extern "C" void on_signal(int which) {
    const int cause = errno;
    const auto now = clock::now().time_since_epoch();
    clock::rep first = 0;
    // relaxed: only this one number.
    if (!first_signal_at.compare_exchange_strong(first, now.count(), std::memory_order_relaxed) &&
        now - clock::duration{first} >= same_signal) {
        ::signal(which, SIG_DFL);
        (void)::raise(which);
    }
    // Here, for whoever is to take note of it may hang already.
    launcher::limit_end();
    (void)!::write(signal_pipe, "", 1);
    errno = cause;
}

/// From when it is made the first SIGTERM or SIGINT does not end this process: it sets has_come()
/// and wakes whoever waits with `self`. That or the end of this one limits the end of the process;
/// a second signal ends it at once. Made after the nursery, whose places keep what they have.
/// Process: one at a time.
class termination {
  public:
    explicit termination(detail::process& self) {
        int ends[2];
        checked(::pipe2(ends, O_CLOEXEC), "make a pipe for signals");
        reader_ = unique_fd{ends[0]};
        signal_pipe = ends[1];  // as long as the process: a signal may come at any time
        launcher::prepare_end();
        watch_ = launcher::start_thread("the thread that watches its signals", [this, &self] {
            char which;
            while (::read(reader_.get(), &which, 1) < 0 && errno == EINTR) {
            }
            // relaxed: only this one bit; wake_waits() orders it for whoever it wakes.
            has_come_.store(true, std::memory_order_relaxed);
            self.wake_waits();
        });
        struct sigaction act {};
        act.sa_handler = on_signal;
        act.sa_flags = SA_RESTART;
        ::sigaction(SIGTERM, &act, nullptr);
        ::sigaction(SIGINT, &act, nullptr);
    }
    ~termination() {
        launcher::limit_end();
        (void)!::write(signal_pipe, "", 1);
        watch_.join();
    }
    termination(const termination&) = delete;
    termination& operator=(const termination&) = delete;
    bool has_come() const noexcept {
        return has_come_.load(std::memory_order_relaxed);  // relaxed: as above
    }

  private:
    unique_fd reader_;
    std::atomic<bool> has_come_ = false;
    std::thread watch_;
};

// Of ours, with a manager that has no room: its own ends much later, and a signal meanwhile leaves
// enough of end_limit.
constexpr std::chrono::seconds manager_patience{3};

struct settings {
    std::string listen = "127.0.0.1:6340";
    std::string key_file;
    std::string name;
    std::vector<std::string> modules;
    std::vector<std::string> allowed;  // key files
    bool insecure = false;
};

// A pipe has room for so many keys, whatever is set for this user.
constexpr std::size_t allowed_max = 100;

/// Throws: error{bad_key_file}, also for a node's own key.
net::allowed_key read_allowed_key(const std::string& path) {
    const auto held = launcher::read_key_file(path);
    if (held.kind == net::key_kind::launcher) {
        throw error{errc::bad_key_file,
                    "key file " + path +
                        ": is a node's own, which has no owner to allow anything to; make one "
                        "with: places key FILE --owner NAME --allows RIGHT"};
    }
    const auto& may = held.rights;
    return {
        {held.key.begin(), held.key.end()}, held.owner, may.start, may.stop, may.list, may.connect};
}

/// Throws: listen_error where the system refuses the address; error.
net::listening await_listening(channel& bridge) {
    try {
        return launcher::body_of<net::listening>(detail::await_opened(bridge));
    } catch (const error& e) {
        const auto code = net::code_of(e);
        if (code != errc::address_in_use && code != errc::node_unreachable) throw;
        throw listen_error{code, e.what()};
    }
}

// Bridges that end within this time, so many of them and none of any use, end the node: another one
// would not do better.
constexpr std::chrono::seconds lost_in_a_row{10};
constexpr std::size_t lost_max = 5;
// Before each start but the first in a row, once more for each.
constexpr std::chrono::milliseconds restart_pause{200};

/// The bridge of the node, and another one in place of each that ends unasked. Places and names
/// stay with the nursery; the links, and the channels over them, end with their bridge. The keys
/// stay in this process alone, which has read them after its nursery was forked: each bridge gets a
/// copy through a pipe.
class kept_bridge {
  public:
    /// Throws: as await_listening; std::system_error.
    kept_bridge(detail::process& self, net::listen_command listen)
        : self_(self),
          listen_(std::move(listen)) {
        open();
        // Of a bridge the channel tells that it has ended, and not how.
        self_.on_died([this](std::uint64_t id, exit_status how) {
            const auto* const state = detail::state_of::get(events_);
            if (state && state->peer_id() == id) ended_ = how;
        });
    }
    ~kept_bridge() { self_.on_died({}); }
    kept_bridge(const kept_bridge&) = delete;
    kept_bridge& operator=(const kept_bridge&) = delete;

    std::uint16_t port() const noexcept { return listen_.port; }
    channel& events() noexcept { return events_; }

    /// Returns: the status that a peer has asked for; nothing for a signal.
    /// Throws:  error{node_down} when the nursery has ended, or too many bridges have.
    std::optional<int> wait_for_end(const termination& end) {
        while (true) {
            auto* const state = detail::state_of::get(events_);
            const detail::interest news{state, true};
            self_.wait(
                {&news, 1}, [&] { return end.has_come() || state->has_message(); },
                shm::deadline::max(), state->spin());
            if (end.has_come()) return std::nullopt;
            const auto event = events_.get<net::bridge_event>();
            if (!event) {
                if (!replace(how_it_ended(event.error()), end)) return std::nullopt;
                continue;
            }
            const auto* links = std::get_if<net::links_changed>(&*event);
            if (links && links->count > 0) lost_.clear();
            if (const auto* asked = std::get_if<net::exit_asked>(&*event)) {
                return detail::completion_value(asked->status);
            }
        }
    }

  private:
    void open() {
        ended_.reset();
        events_ = launcher::open_bridge(self_, listen_, ring_bytes_default);
        // Where the system has chosen, the next bridge listens there too.
        listen_.port = await_listening(events_).port;
    }

    std::string how_it_ended(const boost::system::error_code& code) const {
        return ended_ ? to_string(*ended_) : code.message();
    }

    /// Returns: false for a signal.
    bool replace(std::string why, const termination& end) {
        while (true) {
            const auto now = clock::now();
            std::erase_if(lost_, [&](auto at) { return now - at > lost_in_a_row; });
            lost_.push_back(now);
            if (self_.is_orphan()) {
                throw error{errc::node_down, "the bridge has ended: " + why};
            }
            if (lost_.size() >= lost_max) {
                throw error{errc::node_down,
                            "the bridge has ended: " + why + "; it is the last of " +
                                std::to_string(lost_max) + " within " +
                                std::to_string(lost_in_a_row.count()) +
                                " s, so no other one is started: see above what each ended with"};
            }
            std::fprintf(stderr,
                         "places: the bridge has ended: %s; another one is started, and the "
                         "places go on\n",
                         why.c_str());
            const auto until = now + restart_pause * static_cast<int>(lost_.size() - 1);
            shm::spin_budget spin;
            (void)self_.wait(
                {}, [&] { return end.has_come(); }, until, spin);
            if (end.has_come()) return false;
            try {
                open();
                std::fprintf(stderr, "places: the node listens again on %s port %u\n",
                             listen_.address.c_str(), listen_.port);
                return true;
            } catch (const error& e) {
                why = e.what();
            } catch (const std::system_error& e) {
                why = e.what();
            }
        }
    }

    detail::process& self_;
    net::listen_command listen_;
    channel events_;
    std::optional<exit_status> ended_;     // how the bridge there did
    std::vector<clock::time_point> lost_;  // lately, since a holder of the node's key was linked
};

int run(const settings& s, int argc, char** argv) {
    const auto where = launcher::parse_address(s.listen);
    if (s.allowed.size() > allowed_max) {
        throw error{errc::bad_argument, "--allow is given " + std::to_string(s.allowed.size()) +
                                            " times: at most " + std::to_string(allowed_max)};
    }
    launcher::load_modules(s.modules);
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    runtime node{argc, argv};
    // Not before the nursery is there: every place inherits its memory.
    const auto held = launcher::read_key_file(s.key_file);
    if (held.kind != net::key_kind::launcher) {
        throw error{errc::bad_key_file,
                    "key file " + s.key_file + ": is for " + net::printable(held.owner) +
                        ", and not a node's own; make one with: places key FILE"};
    }
    const auto& key = held.key;
    ::signal(SIGPIPE, SIG_IGN);
    auto& self = detail::process::current();

    net::listen_command listen{where.host,
                               where.port,
                               {key.begin(), key.end()},
                               s.name.empty() ? s.listen : s.name,
                               s.insecure};
    listen.modules = s.modules;
    for (const auto& each : s.allowed) listen.others.push_back(read_allowed_key(each));
    kept_bridge bridge{self, listen};
    self.send(control::node_called{listen.node_name});

    std::optional<int> status;
    {
        const termination end{self};
        std::printf("node %s listens on %s port %u, key %s%s\n", listen.node_name.c_str(),
                    where.host.c_str(), bridge.port(), net::key_id(key).c_str(),
                    s.insecure ? ", insecure" : "");
        const auto untold = notify_manager("READY=1", manager_patience);
        if (untold && untold != std::errc::interrupted) {
            std::fprintf(stderr, "places: the service manager could not be told READY=1: %s\n",
                         untold.message().c_str());
        }
        status = bridge.wait_for_end(end);
    }
    (void)notify_manager("STOPPING=1", std::chrono::seconds{0});
    launcher::end_in_order([&] { (void)self.request(control::end_places{true}); }, bridge.events());
    return status.value_or(done);
}

}  // namespace

void add_node(CLI::App& app, action& chosen) {
    auto& command =
        *app.add_subcommand("node", "Runs a node until SIGTERM, SIGINT or `places stop`");
    command.footer(std::string("It starts places from what the modules register, and from the "
                               "modules by symbol.\n"
                               "Stopped by a command it exits with the status given there.\n"
                               "When its bridge, the process with the sockets, ends, it starts "
                               "another one: links are lost,\n"
                               "places and names stay. It exits with 9 after five bridges within "
                               "ten seconds, if nobody with\n"
                               "the node's own key was linked to any of them.\n") +
                   exit_codes_text);
    const auto s = std::make_shared<settings>();
    command
        .add_option("--listen", s->listen,
                    "ADDRESS:PORT or [V6]:PORT, as numbers; port 0: the system chooses")
        ->capture_default_str();
    command.add_option("--key-file", s->key_file, "The node's key, for who may command it")
        ->required();
    command.add_option("--module", s->modules, "A shared object with entries; may be repeated");
    command.add_option("--allow", s->allowed,
                       "A key file with an owner, who may do with it what it says; may be "
                       "repeated. Keys made --from the node's need none");
    command.add_option("--name", s->name, "What the node calls itself; what --listen says if none");
    command.add_flag("--insecure", s->insecure, "Plain TCP, on loopback only");
    command.callback(
        [s, &chosen] { chosen = [s](int argc, char** argv) { return run(*s, argc, argv); }; });
}

}  // namespace places::cli
