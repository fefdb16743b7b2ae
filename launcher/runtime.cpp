// SPDX-License-Identifier: Apache-2.0
#include <places/launcher/runtime.hpp>

#include "core/child.hpp"
#include "core/process.hpp"
#include "core/text.hpp"
#include "launcher/node.hpp"
#include "launcher/nursery.hpp"
#include "launcher/reaper.hpp"
#include "launcher/remote_launcher.hpp"
#include "launcher/spawned.hpp"
#include "launcher/thread.hpp"
#include "net/bridge.hpp"

#include <places/shm/ready_set.hpp>
#include <places/shm/sealed_memory.hpp>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <iostream>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace places {
namespace {

#if defined(__SANITIZE_THREAD__)
constexpr bool sanitizer_has_threads = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
constexpr bool sanitizer_has_threads = true;
#else
constexpr bool sanitizer_has_threads = false;
#endif
#else
constexpr bool sanitizer_has_threads = false;
#endif

int thread_count() {
    std::ifstream status("/proc/self/status");
    std::string line;
    while (std::getline(status, line)) {
        if (line.starts_with("Threads:")) return std::atoi(line.c_str() + 8);
    }
    return 1;
}

/// Thousands of places need thousands of descriptors; the soft limit is made for select().
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)::setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void print_log(const log_record& r) {
    const auto seconds = std::chrono::system_clock::to_time_t(r.time);
    const auto ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(r.time.time_since_epoch()).count() %
        1000;
    std::tm when{};
    ::gmtime_r(&seconds, &when);
    std::array<char, 32> stamp{};
    std::strftime(stamp.data(), stamp.size(), "%Y-%m-%dT%H:%M:%S", &when);
    std::fprintf(stderr, "%s.%03dZ %s %s%s%s: %s\n", stamp.data(), static_cast<int>(ms),
                 to_string(r.severity), r.node.c_str(), r.node.empty() ? "" : "/", r.place.c_str(),
                 r.text.c_str());
}

log_record record_of(const control::log_note& note) {
    log_record r;
    r.severity = static_cast<severity>(std::min<std::uint8_t>(note.severity, 3));
    r.time = std::chrono::system_clock::time_point{
        std::chrono::duration_cast<std::chrono::system_clock::duration>(
            std::chrono::nanoseconds{note.time_ns})};
    // Of whoever has written it: what reads it may be a terminal.
    r.node = detail::printable_text(note.node);
    r.place = detail::printable_text(note.place);
    r.text = detail::printable_text(note.text);
    return r;
}

/// Ignored, as a program may have been started, it would have the kernel reap what we start before
/// we know how that ended.
void heed_children() {
    struct sigaction now {};
    checked(::sigaction(SIGCHLD, nullptr, &now), "sigaction");
    if (now.sa_handler == SIG_IGN) ::signal(SIGCHLD, SIG_DFL);
}

/// The first packet of a new nursery says that it serves, or why it cannot.
void await_nursery(int control) {
    std::optional<control::received> word;
    try {
        while (!word) {
            pollfd first{control, POLLIN, 0};
            const int found = ::poll(&first, 1, -1);
            if (found < 0 && errno != EINTR && errno != EAGAIN) checked(found, "poll");
            word = control::receive(control);
        }
    } catch (const error& e) {
        if (e.code() != errc::node_down) throw;
        throw error(errc::start_failed,
                    "the nursery of this node ended before it had begun; was it killed?");
    }
    if (const auto* why = std::get_if<control::failed>(&word->packet.body)) {
        throw error(errc_of(why->code), "start the nursery: " + why->text);
    }
}

}  // namespace

struct runtime::state {
    launcher::node_processes processes;
    std::shared_ptr<detail::process> self;  // shared with what outlives us
    std::thread nursery_watch;
    std::vector<std::weak_ptr<remote_node::state>> nodes;
    std::unique_ptr<router> loop;
    std::optional<int> exit_asked;
    bool ended = false;

    void start_nursery();
    void join_nursery(unique_fd control, unique_fd calls, unique_fd board);
    void enter(const std::shared_ptr<remote_node::state>& node) {
        std::erase_if(nodes, [](const auto& weak) { return weak.expired(); });
        nodes.push_back(node);
    }
    int serve_node();
    void end_places(bool keep_bridge);
    void end() noexcept;
    router& the_loop() {
        if (!loop) loop = std::make_unique<router>();
        return *loop;
    }
};

/// Throws: error{bad_argument}.
void check_is_first() {
    const auto* self = detail::process::current_or_null();
    if (!self) return;
    throw error(errc::bad_argument,
                self->place_id() == control::root_place_id
                    ? "this process has a places::runtime already: it has one, made on the first "
                      "line of main"
                    : "this process is a place, and has the runtime of the one that has started "
                      "its node: start other places with places::spawn");
}

void runtime::state::start_nursery() {
    if (!sanitizer_has_threads && thread_count() > 1) {
        throw error(errc::bad_argument,
                    "places::runtime must be made before any thread: fork() copies only one. Make "
                    "it on the first line of main");
    }
    raise_descriptor_limit();
    // Nothing of ours may lie where a place's standard streams go.
    launcher::fill_standard_streams(O_RDWR);
    std::array<int, 2> sockets;
    checked(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets.data()),
            "make a control socket");
    unique_fd ours{sockets[0]};
    unique_fd theirs{sockets[1]};
    auto calls = shm::ready_set::make();
    auto board =
        shm::create_memory(sizeof(control::board_slot) * control::board_slots, "places-board");
    const auto root_pid = ::getpid();
    processes = launcher::start_reaper([&](launcher::nursery_parents parents) {
        ours.reset();
        calls.reader.reset();
        launcher::run_nursery({std::move(theirs), std::move(calls.doorbell), std::move(board),
                               root_pid, std::move(parents), [](detail::process& bridge) {
                                   // Who reads what it prints may be gone; its links live on.
                                   ::signal(SIGPIPE, SIG_IGN);
                                   return net::bridge_main(bridge);
                               }});
    });
    // Open here, it would hide the end of the nursery.
    theirs.reset();
    try {
        await_nursery(ours.get());
        join_nursery(std::move(ours), std::move(calls.reader), std::move(board));
    } catch (...) {
        // It has no places yet. Without its root's end of the socket it would end by itself.
        ::syscall(SYS_pidfd_send_signal, processes.nursery_pidfd.get(), SIGKILL, nullptr, 0);
        ours.reset();
        self.reset();
        launcher::await_end(processes);
        throw;
    }
}

void runtime::state::join_nursery(unique_fd control, unique_fd calls, unique_fd board) {
    self = std::make_shared<detail::process>(
        detail::process::birth{std::move(control), std::move(calls), std::move(board),
                               launcher::root_slot, launcher::root_place_id, "root"});
    self->on_log([](const control::log_note& note) { print_log(record_of(note)); });
    // A sleeping root must hear of the nursery's end, and the nursery can no longer tell.
    nursery_watch = launcher::start_thread("the thread that watches the nursery", [this] {
        pollfd life{processes.nursery_pidfd.get(), POLLIN, 0};
        while (::poll(&life, 1, -1) < 0) {
        }
        self->orphaned();
    });
}

/// Returns: the exit code of the node.
int runtime::state::serve_node() {
    const auto setting = launcher::take_setting();
    start_nursery();
    // Its last words must not cost it its exit status when nobody hears them.
    ::signal(SIGPIPE, SIG_IGN);
    const int code = launcher::serve_node(*self, setting, [this] { end_places(true); });
    end();
    return code;
}

void runtime::state::end_places(bool keep_bridge) {
    (void)self->request(control::end_places{keep_bridge});
}

void runtime::state::end() noexcept {
    if (std::exchange(ended, true)) return;
    if (self && self->origin().is_forked()) {
        // All of it is the parent's, and its thread is not here.
        (void)new std::thread(std::move(nursery_watch));
        (void)loop.release();
        (void)new std::shared_ptr(std::move(self));
        return;
    }
    for (auto& weak : nodes) {
        if (const auto node = weak.lock()) node->begin_end();
    }
    for (auto& weak : nodes) {
        if (const auto node = weak.lock()) node->end();
    }
    loop.reset();
    try {
        end_places(false);
    } catch (const std::exception&) {
        // The nursery has ended already, and the places with it.
    }
    self->close_control();
    launcher::await_end(processes);
    nursery_watch.join();
    self->retire();
}

runtime::runtime(int argc, char** argv) : state_(std::make_unique<state>()) {
    check_is_first();
    const auto is_called_with = [&](const char* what) {
        return argc == 2 && std::strcmp(argv[1], what) == 0;
    };
    const bool is_remote_launcher = is_called_with(launcher::remote_launcher_argument);
    const bool is_node = is_called_with(launcher::node_argument);
    if (!is_remote_launcher && !is_node) {
        heed_children();
        detail::check_registrations();
        state_->start_nursery();
        return;
    }
    // Started from /proc/self/exe, it would be shown as "exe".
    ::prctl(PR_SET_NAME, ::basename(argv[0]));
    // Nothing of the program has begun here: it handles no exception of ours, and exit() would run
    // destructors of its statics.
    try {
        heed_children();
        ::_exit(is_remote_launcher ? launcher::serve_remote_launcher() : state_->serve_node());
    } catch (const error& e) {
        ::_exit(launcher::report_failure(errc_of(e.code().value()), e.what()));
    } catch (const std::exception& e) {
        ::_exit(launcher::report_failure(errc::start_failed, e.what()));
    }
}

runtime::~runtime() { state_->end(); }

remote_node runtime::spawn_remote_node(const std::string& host, const node_options& options) {
    return spawn_remote_node_async(host, options).get();
}

pending_node runtime::spawn_remote_node_async(const std::string& host,
                                              const node_options& options) {
    pending_node pending{launcher::begin_node(*state_->self, host, options)};
    pending.enter_ = [own = state_.get()](std::shared_ptr<remote_node::state> s) {
        own->enter(s);
        return remote_node{std::move(s)};
    };
    return pending;
}

remote_node runtime::connect_node(const std::string& address, const connect_options& options) {
    auto node = launcher::connect_node(*state_->self, address, options);
    state_->enter(node);
    return remote_node{std::move(node)};
}

std::vector<remote_node> runtime::spawn_nodes_join(const std::vector<node_request>& requests) {
    std::vector<std::optional<pending_node>> pending;
    std::vector<std::shared_ptr<pending_node::state>> begun;
    std::vector<nodes_error::failure> failures;
    for (const auto& each : requests) {
        try {
            pending.emplace_back(spawn_remote_node_async(each.host, each.options));
            begun.push_back(pending.back()->state_);
        } catch (const error& e) {
            pending.emplace_back(std::nullopt);
            failures.push_back({each.host, e});
        } catch (const std::system_error& e) {
            pending.emplace_back(std::nullopt);
            failures.push_back(
                {each.host, error(errc::start_failed, "node " + each.host + ": " + e.what())});
        }
    }
    launcher::settle(begun);
    begun.clear();
    std::vector<remote_node> nodes;
    for (std::size_t i = 0; i < requests.size(); ++i) {
        if (!pending[i]) continue;
        try {
            nodes.push_back(pending[i]->enter_(launcher::take_node(*pending[i]->state_)));
        } catch (const error& e) {
            failures.push_back({requests[i].host, e});
        }
    }
    for (std::size_t i = 0; failures.empty() && i < nodes.size(); ++i) {
        try {
            nodes[i].state_->let_stay();
        } catch (const error& e) {
            failures.push_back({requests[i].host, e});
        }
    }
    if (failures.empty()) return nodes;
    pending.clear();
    // By the link: one that may stay hears nothing else, nor does one whose owner has gone.
    for (auto& each : nodes) each.send_exit();
    // At the same time as well: each may need a moment.
    for (const auto& each : nodes) each.state_->begin_end();
    nodes.clear();
    throw nodes_error(std::move(failures), requests.size());
}

void runtime::add(event e) { state_->the_loop().add(std::move(e)); }

void runtime::add(const remote_node& node) {
    (void)node.held();
    state_->the_loop().post([s = node.state_] {
        while (s->next_event()) {
        }
    });
}

void runtime::run() {
    state_->the_loop().run();
    if (state_->exit_asked) exit(*state_->exit_asked);
}

void runtime::stop() {
    if (state_->loop) state_->loop->stop();
}

void runtime::exit(int status) {
    if (detail::current_waiter()) {
        if (!state_->loop) {
            throw error(errc::bad_argument,
                        "exit in a body of a router of your own: stop that router first");
        }
        state_->exit_asked = status;
        state_->loop->stop();
        return;
    }
    state_->end();
    std::exit(detail::completion_value(status));
}

void runtime::on_log(std::function<void(const log_record&)> handler) {
    state_->self->on_log(
        [handler = std::move(handler)](const control::log_note& n) { handler(record_of(n)); });
}

}  // namespace places
