// SPDX-License-Identifier: Apache-2.0
#include "launcher/nursery.hpp"

#include "core/child.hpp"

#include <places/core/entry.hpp>
#include <places/shm/ready_set.hpp>
#include <places/shm/sealed_memory.hpp>
#include <places/shm/wake.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <deque>
#include <fcntl.h>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unordered_map>
#include <unordered_set>

// Edges (the places' ends are in core/process.cpp):
//   [notice]  board word   nursery release -> place acquire   a packet waits in the control socket

namespace places::launcher {
namespace {

using control::packet;
using clock_type = std::chrono::steady_clock;

// Per place: log notes beyond are dropped, connections beyond are refused.
constexpr std::size_t queued_packets_max = 1024;
constexpr std::size_t answer_text_max = 4096;  // an answer that fits no packet would be none

struct queued {
    packet content;
    std::vector<unique_fd> fds;
};

/// Anybody with a control socket: the root, a place, the bridge.
struct resident {
    std::uint64_t id = 0;
    pid_t pid = 0;
    std::uint32_t slot = 0;
    unique_fd control;
    unique_fd doorbell;
    unique_fd pidfd;
    std::string name;
    bool takes_connections = false;
    bool is_bridge = false;
    std::uint64_t creator = 0;
    clock_type::time_point born = clock_type::now();
    std::unordered_set<std::uint64_t> channels;  // those of channels_ with an end given to it
    std::deque<queued> outbox;                   // while its socket is full
    std::uint64_t dropped_notes = 0;
};

/// Who was given the ends of a channel, and which of them are still held. Forgotten with the last.
struct channel_ends {
    std::array<std::uint64_t, 2> places{};
    std::array<bool, 2> held{true, true};
};

/// Both memories of a new channel, and what each side is given of them.
struct channel_memory {
    unique_fd first;
    unique_fd second;
    unique_fd first_read_only;
    unique_fd second_read_only;
};

enum class source : std::uint64_t { control = 0, life = 1, stray = 2 };
std::uint64_t tag_of(std::uint64_t id, source s) { return id << 2 | static_cast<std::uint64_t>(s); }

unique_fd open_pidfd(pid_t pid) {
    return checked_fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)), "pidfd_open");
}

bool is_readable_now(const unique_fd& fd) {
    std::array<char, 1> probe;
    const auto got = ::recv(fd.get(), probe.data(), 1, MSG_PEEK | MSG_DONTWAIT);
    return got > 0;
}

packet failure(std::uint64_t request, errc code, std::string text) {
    if (text.size() > answer_text_max) text = text.substr(0, answer_text_max) + "…";
    return {request, control::failed{static_cast<std::int32_t>(code), std::move(text)}};
}

class nursery {
  public:
    explicit nursery(nursery_start start);
    [[noreturn]] void run();

  private:
    // What residents ask.
    void handle(resident& from, control::received r);
    void answer(resident& from, std::uint64_t request, control::spawn& what,
                std::vector<unique_fd> fds);
    void answer(resident& from, std::uint64_t request, control::connect& what);
    void answer(resident& from, std::uint64_t request, control::open_bridge& what,
                std::vector<unique_fd> fds);
    void answer(resident& from, std::uint64_t request, const control::kill& what);
    void relay(const resident& from, control::log_note note);

    // Processes.
    template <class Child>
    resident& fork_place(std::uint64_t creator, std::string name, std::vector<unique_fd> stdio,
                         std::vector<int> kept, Child&& run);
    void start_bridge(const resident& first_user);
    void reap(std::uint64_t id);
    void reap_stray(pid_t pid);
    void adopt_strays();
    void kill_all(bool keep_bridge);
    void check_ended();

    // Words and packets.
    channel_memory make_channel(std::uint64_t id, std::size_t ring_bytes);
    void offer(resident& to, resident& from, std::uint64_t request, std::size_t ring_bytes,
               bytes payload, std::vector<unique_fd> extra);
    void enter(std::uint64_t channel, resident& a, resident& b);
    void let_go(std::uint64_t channel, std::uint64_t place);
    void send(resident& to, packet p, std::vector<unique_fd> fds = {});
    void flush(resident& to);
    void announce(const resident& to);
    void watch(int fd, std::uint64_t tag, std::uint32_t events);
    resident* find(std::uint64_t id);
    resident* find_named(const std::string& name);
    resident* bridge();

    unique_fd epoll_;
    unique_fd board_memory_;
    boost::interprocess::mapped_region board_;
    int (*bridge_main_)(detail::process&);
    pid_t root_pid_;
    std::unordered_map<std::uint64_t, resident> residents_;  // references into it stay good
    std::unordered_map<std::uint64_t, channel_ends> channels_;
    std::map<pid_t, unique_fd> strays_;
    std::vector<std::uint32_t> free_slots_;
    std::uint64_t next_id_ = root_place_id;
    std::uint64_t next_channel_ = 1;
    std::uint64_t log_taker_ = root_place_id;
    bool ending_ = false;

    struct ending {
        std::uint64_t request = 0;
        bool keep_bridge = false;
    };
    std::vector<ending> endings_;  // answered once nobody is left
};

nursery::nursery(nursery_start start)
    : epoll_(checked_fd(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
      board_memory_(std::move(start.board)),
      board_(shm::map_memory(board_memory_, shm::access::read_write)),
      bridge_main_(start.bridge_main),
      root_pid_(start.root_pid) {
    // Places read the board; only this process may ever write it, and no child inherits this map.
    shm::seal_against_writers(board_memory_);
    checked(::madvise(board_.get_address(), board_.get_size(), MADV_DONTFORK), "madvise the board");
    for (std::uint32_t i = control::board_slots; i-- > 1;) free_slots_.push_back(i);

    auto& root = residents_[root_place_id];
    root.id = next_id_++;
    root.pid = root_pid_;
    root.slot = root_slot;
    root.control = std::move(start.root_control);
    root.doorbell = std::move(start.root_doorbell);
    root.pidfd = open_pidfd(root_pid_);
    root.name = "root";
    watch(root.control.get(), tag_of(root.id, source::control), EPOLLIN);
    watch(root.pidfd.get(), tag_of(root.id, source::life), EPOLLIN);
    if (::getppid() != root_pid_) ::_exit(0);
}

void nursery::watch(int fd, std::uint64_t tag, std::uint32_t events) {
    epoll_event e{};
    e.events = events;
    e.data.u64 = tag;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &e) < 0) {
        checked(::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &e), "watch a descriptor");
    }
}

resident* nursery::find(std::uint64_t id) {
    const auto found = residents_.find(id);
    return found == residents_.end() ? nullptr : &found->second;
}

resident* nursery::find_named(const std::string& name) {
    for (auto& [id, r] : residents_) {
        if (id != root_place_id && !r.is_bridge && r.name == name) return &r;
    }
    return nullptr;
}

resident* nursery::bridge() {
    for (auto& [id, r] : residents_) {
        if (r.is_bridge) return &r;
    }
    return nullptr;
}

void nursery::run() {
    std::array<epoll_event, 64> events;
    while (true) {
        const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), -1);
        for (int i = 0; i < count; ++i) {
            const auto id = events[static_cast<std::size_t>(i)].data.u64 >> 2;
            const auto from = static_cast<source>(events[static_cast<std::size_t>(i)].data.u64 & 3);
            if (from == source::stray) {
                reap_stray(static_cast<pid_t>(id));
                continue;
            }
            auto* r = find(id);
            if (!r) continue;
            if (from == source::life) {
                reap(id);
                continue;
            }
            if (events[static_cast<std::size_t>(i)].events & EPOLLOUT) flush(*r);
            try {
                // One packet a turn: a chatterbox must not keep the others waiting.
                if (auto next = control::receive(r->control.get())) handle(*r, std::move(*next));
            } catch (const error& e) {
                // Its control socket is of no use any more. The root is gone then; a place's
                // process is told of by its pidfd.
                if (id == root_place_id) {
                    reap(id);
                } else if (find(id)) {
                    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, r->control.get(), nullptr);
                    if (e.code() != errc::node_down) ::kill(r->pid, SIGKILL);
                }
            }
        }
        check_ended();
    }
}

void nursery::handle(resident& from, control::received r) {
    const auto request = r.packet.request_id;
    auto& body = r.packet.body;
    const bool starts = std::holds_alternative<control::spawn>(body) ||
                        std::holds_alternative<control::connect>(body) ||
                        std::holds_alternative<control::open_bridge>(body);
    if (starts && (ending_ || !endings_.empty())) {
        send(from, failure(request, errc::node_down, "the node is ending"));
        return;
    }
    try {
        if (auto* spawn = std::get_if<control::spawn>(&body)) {
            answer(from, request, *spawn, std::move(r.fds));
        } else if (auto* connect = std::get_if<control::connect>(&body)) {
            answer(from, request, *connect);
        } else if (auto* open = std::get_if<control::open_bridge>(&body)) {
            answer(from, request, *open, std::move(r.fds));
        } else if (auto* kill = std::get_if<control::kill>(&body)) {
            answer(from, request, *kill);
        } else if (auto* closed = std::get_if<control::channel_closed>(&body)) {
            let_go(closed->channel_id, from.id);
        } else if (auto* note = std::get_if<control::log_note>(&body)) {
            relay(from, std::move(*note));
        } else if (std::holds_alternative<control::take_log>(body)) {
            log_taker_ = from.id;
        } else if (auto* end = std::get_if<control::end_places>(&body);
                   end && from.id == root_place_id) {
            endings_.push_back({request, end->keep_bridge});
            kill_all(end->keep_bridge);
        } else {
            send(from, failure(request, errc::protocol, "the nursery takes no such request"));
        }
    } catch (const std::exception& e) {
        send(from, failure(request, errc::start_failed, e.what()));
    }
}

channel_memory nursery::make_channel(std::uint64_t id, std::size_t ring_bytes) {
    channel_memory m{shm::create_half(id, ring_bytes), shm::create_half(id, ring_bytes), {}, {}};
    m.first_read_only = shm::reopen_read_only(m.first);
    m.second_read_only = shm::reopen_read_only(m.second);
    return m;
}

/// Makes a channel between two residents: one end is offered, the other is the answer.
void nursery::offer(resident& to, resident& from, std::uint64_t request, std::size_t ring_bytes,
                    bytes payload, std::vector<unique_fd> extra) {
    if (payload.size() > control::packet_bytes_max / 2 ||
        extra.size() + 3 > control::packet_fds_max) {
        send(from, failure(request, errc::too_large, "what goes with a new channel is too large"));
        return;
    }
    if (to.outbox.size() >= queued_packets_max) {
        send(from, failure(request, errc::start_failed,
                           "place " + std::to_string(to.id) + " has not taken " +
                               std::to_string(to.outbox.size()) + " connections before this one"));
        return;
    }
    const auto channel = next_channel_++;
    auto memory = make_channel(channel, ring_bytes);
    std::vector<unique_fd> theirs;
    theirs.push_back(std::move(memory.second));
    theirs.push_back(std::move(memory.first_read_only));
    theirs.push_back(from.doorbell.duplicate());
    for (auto& fd : extra) theirs.push_back(std::move(fd));
    std::vector<unique_fd> mine;
    mine.push_back(std::move(memory.first));
    mine.push_back(std::move(memory.second_read_only));
    mine.push_back(to.doorbell.duplicate());
    enter(channel, to, from);
    send(to, {0, control::offered{{channel, from.id, from.pid, false}, std::move(payload)}},
         std::move(theirs));
    send(from, {request, control::granted{channel, to.id, to.pid, false}}, std::move(mine));
}

void nursery::enter(std::uint64_t channel, resident& a, resident& b) {
    channels_[channel].places = {a.id, b.id};
    a.channels.insert(channel);
    b.channels.insert(channel);
}

/// `place` holds its end no longer. Only when neither does are they strangers: until then, the
/// one that still holds an end is to hear of the other's death.
void nursery::let_go(std::uint64_t channel, std::uint64_t place) {
    const auto found = channels_.find(channel);
    if (found == channels_.end()) return;
    auto& [places, held] = found->second;
    for (std::size_t i = 0; i < places.size(); ++i) {
        if (places[i] != place || !held[i]) continue;
        held[i] = false;
        break;
    }
    if (held[0] || held[1]) return;
    for (const auto id : places) {
        if (auto* r = find(id)) r->channels.erase(channel);
    }
    channels_.erase(found);
}

template <class Child>
resident& nursery::fork_place(std::uint64_t creator, std::string name,
                              std::vector<unique_fd> stdio, std::vector<int> kept, Child&& run) {
    if (free_slots_.empty()) {
        throw std::runtime_error("this node has " + std::to_string(control::board_slots) +
                                 " places, and no room for more");
    }
    std::array<int, 2> sockets;
    checked(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets.data()),
            "make a control socket");
    unique_fd ours{sockets[0]};
    unique_fd theirs{sockets[1]};
    auto calls = shm::ready_set::make();
    const auto nursery_pid = ::getpid();
    const auto id = next_id_++;
    const auto slot = free_slots_.back();
    const auto shown = name.empty() ? "place-" + std::to_string(id) : name;

    resident place;
    place.id = id;
    place.slot = slot;
    place.creator = creator;
    // In the child; nothing unwinds from there into the nursery's own frames.
    const auto become_the_place = [&]() noexcept {
        // The kernel ends us with the nursery; it may have ended between fork and here.
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != nursery_pid) ::_exit(1);
        ::prctl(PR_SET_NAME, shown.substr(0, 15).c_str());
        for (const int s : {SIGINT, SIGHUP, SIGQUIT, SIGPIPE}) ::signal(s, SIG_DFL);
        for (std::size_t i = 0; i < stdio.size() && i < 2; ++i) {
            ::dup2(stdio[i].get(), static_cast<int>(i) + 1);
        }
        // A place's standard input is at its end from the start.
        const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
        ::dup2(null, 0);
        kept.insert(kept.end(), {0, 1, 2, theirs.get(), calls.reader.get(), board_memory_.get()});
        std::sort(kept.begin(), kept.end());
        unsigned from = 0;
        for (const int fd : kept) {
            const auto at = static_cast<unsigned>(fd);
            if (at > from) ::syscall(SYS_close_range, from, at - 1, 0);
            from = at + 1;
        }
        ::syscall(SYS_close_range, from, ~0U, 0);
        detail::process::birth birth{
            std::move(theirs), std::move(calls.reader), std::move(board_memory_), slot, id, shown};
        run(std::move(birth));
        ::_exit(1);
    };
    std::fflush(nullptr);
    const auto pid = static_cast<pid_t>(checked(::fork(), "fork a place"));
    if (pid == 0) become_the_place();
    place.pid = pid;
    place.control = std::move(ours);
    place.doorbell = std::move(calls.doorbell);
    place.name = std::move(name);
    try {
        place.pidfd = open_pidfd(pid);
        watch(place.control.get(), tag_of(id, source::control), EPOLLIN);
        watch(place.pidfd.get(), tag_of(id, source::life), EPOLLIN);
        auto& entered = residents_.emplace(id, std::move(place)).first->second;
        free_slots_.pop_back();
        return entered;
    } catch (...) {
        // Out of descriptors: a place that nobody can watch must not be.
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        throw;
    }
}

void nursery::answer(resident& from, std::uint64_t request, control::spawn& what,
                     std::vector<unique_fd> fds) {
    bool takes_connections = what.takes_connections;
    if (const auto* entry = std::get_if<control::registered_entry>(&what.entry)) {
        const auto* found = detail::find_registration(entry->name);
        if (!found) {
            send(from, failure(request, errc::entry_not_found,
                               "no entry is registered as \"" + entry->name +
                                   "\"; this program registers: " + detail::registered_names()));
            return;
        }
        takes_connections = found->takes_connections;
    }
    if (!what.named.empty()) {
        if (!takes_connections) {
            send(from, failure(request, errc::not_a_connection,
                               "the entry for \"" + what.named +
                                   "\" takes no connections; a named place needs places::inbox& "
                                   "or PLACES_NAMED_SERVER"));
            return;
        }
        if (const auto* owner = find_named(what.named)) {
            const auto age =
                std::chrono::duration_cast<std::chrono::seconds>(clock_type::now() - owner->born);
            send(from,
                 failure(request, errc::name_taken,
                         "the name \"" + what.named + "\" is taken by place " +
                             std::to_string(owner->id) + " (pid " + std::to_string(owner->pid) +
                             ", alive for " + std::to_string(age.count()) + " s), which keeps it"));
            return;
        }
    }
    const auto channel = next_channel_++;
    auto memory = make_channel(channel, what.ring_bytes);
    auto doorbell = from.doorbell.duplicate();
    auto& place = fork_place(from.id, what.named, std::move(fds),
                             {memory.second.get(), memory.first_read_only.get(), doorbell.get()},
                             [&](detail::process::birth birth) {
                                 std::vector<unique_fd> end;
                                 end.push_back(std::move(memory.second));
                                 end.push_back(std::move(memory.first_read_only));
                                 end.push_back(std::move(doorbell));
                                 detail::run_child({std::move(birth),
                                                    {channel, from.id, from.pid, false},
                                                    std::move(end),
                                                    std::move(what.entry),
                                                    takes_connections && !what.named.empty()});
                             });
    place.takes_connections = takes_connections;
    std::vector<unique_fd> end;
    end.push_back(std::move(memory.first));
    end.push_back(std::move(memory.second_read_only));
    try {
        end.push_back(place.doorbell.duplicate());
    } catch (...) {
        ::kill(place.pid, SIGKILL);  // its creator will not know of it
        throw;
    }
    enter(channel, place, from);
    send(from, {request, control::granted{channel, place.id, place.pid, false}}, std::move(end));
}

void nursery::answer(resident& from, std::uint64_t request, control::connect& what) {
    auto* place = find_named(what.name);
    if (!place || what.name.empty()) {
        send(from, failure(request, errc::name_not_found,
                           "no place is named \"" + what.name + "\" on this node"));
        return;
    }
    offer(*place, from, request, what.ring_bytes, {}, {});
}

void nursery::start_bridge(const resident& first_user) {
    auto& b = fork_place(first_user.id, "places-bridge", {}, {},
                         [&](detail::process::birth birth) {
                             detail::run_child(std::move(birth), bridge_main_);
                         });
    b.is_bridge = true;
}

void nursery::answer(resident& from, std::uint64_t request, control::open_bridge& what,
                     std::vector<unique_fd> extra) {
    // One that has died since the last look takes nothing more.
    if (const auto* dead = bridge()) reap(dead->id);
    if (!bridge()) start_bridge(from);
    offer(*bridge(), from, request, what.ring_bytes, std::move(what.payload), std::move(extra));
}

void nursery::answer(resident& from, std::uint64_t request, const control::kill& what) {
    if (const auto* victim = find(what.place_id); victim && what.place_id != root_place_id) {
        ::syscall(SYS_pidfd_send_signal, victim->pidfd.get(), SIGKILL, nullptr, 0);
    }
    send(from, {request, control::done{}});
}

void nursery::relay(const resident& from, control::log_note note) {
    auto* taker = find(log_taker_);
    if (!taker) taker = find(root_place_id);
    if (!taker || (taker->id == from.id && from.id != root_place_id)) return;
    if (taker->outbox.size() >= queued_packets_max) {
        ++taker->dropped_notes;
        return;
    }
    if (const auto dropped = std::exchange(taker->dropped_notes, 0)) {
        note.text += " [" + std::to_string(dropped) + " log lines before this one were dropped]";
    }
    send(*taker, {0, std::move(note)});
}

void nursery::announce(const resident& to) {
    auto& word = static_cast<control::board_slot*>(board_.get_address())[to.slot].word;
    // release [notice]: the packet has been sent.
    word.fetch_add(1, std::memory_order_release);
    shm::wake_all(word);
}

void nursery::send(resident& to, packet p, std::vector<unique_fd> fds) {
    to.outbox.push_back({std::move(p), std::move(fds)});
    if (to.outbox.size() == 1) flush(to);
}

void nursery::flush(resident& to) {
    bool sent = false;
    while (!to.outbox.empty()) {
        auto& next = to.outbox.front();
        std::vector<int> fds;
        for (const auto& fd : next.fds) fds.push_back(fd.get());
        try {
            if (!control::try_send(to.control.get(), next.content, fds)) break;
            sent = true;
        } catch (const std::exception&) {
            // It has ended or is ending; its pidfd tells.
        }
        to.outbox.pop_front();
    }
    watch(to.control.get(), tag_of(to.id, source::control),
          to.outbox.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT);
    if (sent) announce(to);
}

void nursery::reap(std::uint64_t id) {
    auto& gone = *find(id);
    if (id == root_place_id) {
        ending_ = true;
        residents_.erase(id);
        kill_all(false);
        return;
    }
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(gone.pid), &info, WEXITED | WNOHANG) < 0 ||
        info.si_pid == 0) {
        return;
    }
    // What it said before it ended comes first.
    try {
        while (is_readable_now(gone.control)) {
            auto next = control::receive(gone.control.get());
            if (!next) break;
            if (auto* note = std::get_if<control::log_note>(&next->packet.body)) {
                relay(gone, std::move(*note));
            }
        }
    } catch (const error&) {
        // Half a packet of a dead process.
    }
    const control::died news{id, info.si_code != CLD_EXITED, info.si_status};
    std::set<std::uint64_t> told{gone.creator};
    for (const auto channel : std::exchange(gone.channels, {})) {
        const auto ends = channels_.at(channel);
        for (std::size_t i = 0; i < ends.places.size(); ++i) {
            if (ends.places[i] == id) {
                let_go(channel, id);
            } else if (ends.held[i]) {
                told.insert(ends.places[i]);
            }
        }
    }
    for (const auto survivor : told) {
        if (auto* r = find(survivor)) send(*r, {0, news});
    }
    free_slots_.push_back(gone.slot);
    residents_.erase(id);
    adopt_strays();
}

void nursery::adopt_strays() {
    // As subreaper, the nursery inherits what a dead place has left running.
    std::ifstream children("/proc/self/task/" + std::to_string(::gettid()) + "/children");
    std::unordered_set<pid_t> known;
    for (const auto& [id, r] : residents_) known.insert(r.pid);
    pid_t pid;
    while (children >> pid) {
        if (known.contains(pid) || strays_.contains(pid)) continue;
        ::kill(pid, SIGKILL);
        auto& fd = strays_[pid] = open_pidfd(pid);
        watch(fd.get(), tag_of(static_cast<std::uint64_t>(pid), source::stray), EPOLLIN);
    }
}

void nursery::reap_stray(pid_t pid) {
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG);
    strays_.erase(pid);
    adopt_strays();
}

void nursery::kill_all(bool keep_bridge) {
    for (auto& [id, r] : residents_) {
        if (id == root_place_id || (keep_bridge && r.is_bridge)) continue;
        ::syscall(SYS_pidfd_send_signal, r.pidfd.get(), SIGKILL, nullptr, 0);
    }
    adopt_strays();
}

void nursery::check_ended() {
    const auto places = std::count_if(residents_.begin(), residents_.end(), [](const auto& r) {
        return r.first != root_place_id && !r.second.is_bridge;
    });
    const bool has_bridge = bridge() != nullptr;
    if (ending_ && places == 0 && !has_bridge && strays_.empty()) ::_exit(0);
    if (auto* root = find(root_place_id)) {
        for (auto it = endings_.begin(); it != endings_.end();) {
            if (places == 0 && strays_.empty() && (it->keep_bridge || !has_bridge)) {
                send(*root, {it->request, control::done{}});
                it = endings_.erase(it);
            } else {
                ++it;
            }
        }
    }
}

}  // namespace

void run_nursery(nursery_start start) {
    ::prctl(PR_SET_NAME, "places-nursery");
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    // A terminal's signals are for the root; everybody ends with it.
    for (const int s : {SIGINT, SIGHUP, SIGQUIT, SIGPIPE}) ::signal(s, SIG_IGN);
    try {
        nursery{std::move(start)}.run();
    } catch (const std::exception& e) {
        std::fprintf(stderr, "places: the nursery has ended: %s\n", e.what());
    }
    ::_exit(1);
}

}  // namespace places::launcher
