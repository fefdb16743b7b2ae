// SPDX-License-Identifier: Apache-2.0
#include "launcher/nursery.hpp"

#include "core/channel_state.hpp"
#include "core/child.hpp"
#include "core/text.hpp"
#include "launcher/cores.hpp"
#include "launcher/event_set.hpp"
#include "launcher/fork.hpp"
#include "launcher/members.hpp"
#include "launcher/memory_limit.hpp"
#include "launcher/orphans.hpp"

#include <places/core/entry.hpp>
#include <places/shm/sealed_memory.hpp>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace places::launcher {
namespace {

// Per place: log notes beyond are dropped, connections beyond are refused. Enough for a burst;
// a queued connection holds three descriptors of the nursery.
constexpr std::size_t queued_packets_max = 1024;

// Of a list, per packet, and bytes of each text in it: together they fit.
constexpr std::size_t listed_max = 64;
constexpr std::size_t listed_text_max = 255;

// How long an anonymous place may go on after its creator has ended; as ~place waits for one.
constexpr std::chrono::seconds place_grace{2};

// Of a channel's end: the other side's doorbell.
constexpr std::size_t end_fds = 1;

// Which end of a channel is whose.
constexpr std::uint8_t asked_end = 0;
constexpr std::uint8_t asker_end = 1;

// Channels are so small, as a rule, that the kernel's files need not be read for each.
constexpr std::uint64_t unlooked_bytes_max = std::uint64_t{8} << 20;
// Of what is left for rings: for all else that the node's processes need.
constexpr std::uint64_t spare_bytes_max = std::uint64_t{64} << 20;
constexpr std::uint64_t spare_part = 8;
// Of the memory that the node may have, all rings that one place, or the bridge, has asked for.
constexpr std::uint64_t quota_part = 4;

std::vector<unique_fd> only(unique_fd fd) {
    std::vector<unique_fd> fds;
    fds.push_back(std::move(fd));
    return fds;
}

std::string shown_entry(const control::entry_ref& entry) {
    if (const auto* r = std::get_if<control::registered_entry>(&entry)) return r->name;
    if (const auto* l = std::get_if<control::library_entry>(&entry)) {
        return l->symbol + " of " + l->path;
    }
    return "a function";
}

bool is_readable_now(const unique_fd& fd) {
    std::array<char, 1> probe;
    const auto got = ::recv(fd.get(), probe.data(), 1, MSG_PEEK | MSG_DONTWAIT);
    return got > 0;
}

std::string shown_name(const std::string& name, std::uint64_t id) {
    return name.empty() ? "place-" + std::to_string(id) : name;
}

std::int64_t now_ns() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

/// Takes what members ask, and the ends of processes, in turn. Reaping needs no descriptor that
/// is not open from the start: a node without any lives on, and what asks for one is refused.
class nursery {
  public:
    explicit nursery(nursery_start start);
    [[noreturn]] void run();

  private:
    void act_on(const event_set::event& what);
    void take_packet(member& from);

    // What members ask.
    void handle(member& from, control::received r);
    void answer(member& from, std::uint64_t request, control::spawn& what,
                std::vector<unique_fd> fds);
    void answer(member& from, std::uint64_t request, control::connect& what);
    void answer(member& from, std::uint64_t request, control::open_bridge& what,
                std::vector<unique_fd> fds);
    void answer(member& from, std::uint64_t request, const control::kill& what);
    void answer(member& from, std::uint64_t request, const control::request_stop& what);
    bool may_end(member& from, std::uint64_t request, std::uint64_t place_id);
    void answer(member& from, std::uint64_t request, const control::busy_poll& what);
    void answer(member& from, std::uint64_t request, const control::list_places& what);
    void answer(member& from, std::uint64_t request, const control::list_channels& what);
    void offer(member& to, member& from, std::uint64_t request, std::size_t ring_bytes,
               bytes payload, std::vector<unique_fd> extra);
    void pass_on(member& from, const control::share_memory& what, std::vector<unique_fd> fds);
    void close(member& from, const control::channel_closed& what);
    static void receive(member& from, const control::exception_text& what);
    void answer(member& bridge, std::uint64_t request, control::peer_ended& what);
    void check_memory(const member& from, const member* other, std::size_t ring_bytes);
    void forward(const member& from, control::log_note note);
    void deliver(std::uint64_t from, control::log_note note);

    // Processes.
    member& start(std::uint64_t creator, std::string name, birth_plan plan);
    void start_bridge();
    void reap(std::uint64_t id);
    void kill_all(bool keep_bridge);
    void check_ended();
    void bereave(const member& creator);
    std::optional<std::chrono::milliseconds> kill_bereaved();
    void on_reaper_end();

    event_set events_;
    members members_;
    forker forker_;  // before orphans_, which changes a signal that children get as the root had it
    orphans orphans_;
    unique_fd reaper_;
    int (*bridge_main_)(detail::process&);
    std::uint64_t log_taker_ = root_place_id;
    std::string node_name_;  // empty in the node of a program's own root, which has none
    bool ending_ = false;
    std::uint64_t unlooked_bytes_ = unlooked_bytes_max;  // granted since memory_left() was asked
    std::uint64_t quota_bytes_ = 0;                      // as memory_left() said then

    struct ending {
        std::uint64_t request = 0;
        bool keep_bridge = false;
    };
    std::vector<ending> endings_;  // answered once nobody is left
    // Anonymous places whose creator has ended: they are killed then, unless they have ended.
    std::multimap<std::chrono::steady_clock::time_point, std::uint64_t> bereaved_;
};

nursery::nursery(nursery_start start)
    : members_(start.board, events_),
      forker_(std::move(start.board)),
      orphans_([this](pid_t pid) { return members_.has_pid(pid); }),
      reaper_(std::move(start.parents.reaper)),
      bridge_main_(start.bridge_main) {
    member root;
    root.id = root_place_id;
    root.pid = start.root_pid;
    root.slot = root_slot;
    root.control = std::move(start.root_control);
    root.doorbell = std::move(start.root_doorbell);
    root.pidfd = std::move(start.parents.root);
    root.name = "root";
    members_.add(std::move(root));
    events_.add(orphans_.native_handle(), event_set::source::children, 0);
    events_.add(reaper_.get(), event_set::source::reaper, 0);
}

void nursery::run() {
    while (true) {
        auto limit = kill_bereaved();
        if (const auto retry = members_.retry_after(); retry && (!limit || *retry < *limit)) {
            limit = retry;
        }
        for (const auto& each : events_.wait(limit)) act_on(each);
        members_.retry();
        check_ended();
    }
}

void nursery::act_on(const event_set::event& what) {
    if (what.from == event_set::source::children) return orphans_.reap();
    if (what.from == event_set::source::reaper) return on_reaper_end();
    auto* r = members_.find(what.member_id);
    if (!r) return;
    if (what.from == event_set::source::life) return reap(r->id);
    if (what.has_room) members_.flush(*r);
    take_packet(*r);
}

/// One a turn: a chatterbox must not keep the others waiting.
void nursery::take_packet(member& from) {
    std::optional<control::received> next;
    try {
        next = control::receive(from.control.get());
    } catch (const std::system_error&) {
        return;  // the kernel has no memory for it now; the packet is still there
    } catch (const error& e) {
        // Its control socket is of no use any more. The root is gone then; a place's process is
        // told of by its pidfd.
        if (from.id == root_place_id) return reap(from.id);
        events_.remove(from.control.get());
        if (e.code() != errc::node_down) members::kill(from);
    }
    if (next) handle(from, std::move(*next));
}

void nursery::handle(member& from, control::received r) {
    const auto request = r.packet.request_id;
    auto& body = r.packet.body;
    const bool starts = std::holds_alternative<control::spawn>(body) ||
                        std::holds_alternative<control::connect>(body) ||
                        std::holds_alternative<control::open_bridge>(body);
    if (starts && (ending_ || !endings_.empty())) {
        members_.send(from, failure(request, errc::node_down, "the node is ending"));
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
        } else if (auto* stop = std::get_if<control::request_stop>(&body)) {
            answer(from, request, *stop);
        } else if (auto* poll = std::get_if<control::busy_poll>(&body)) {
            answer(from, request, *poll);
        } else if (auto* list = std::get_if<control::list_places>(&body);
                   list && (from.is_bridge || from.id == root_place_id)) {
            answer(from, request, *list);
        } else if (auto* channels = std::get_if<control::list_channels>(&body);
                   channels && (from.is_bridge || from.id == root_place_id)) {
            answer(from, request, *channels);
        } else if (auto* closed = std::get_if<control::channel_closed>(&body)) {
            close(from, *closed);
        } else if (const auto* memory = std::get_if<control::share_memory>(&body)) {
            pass_on(from, *memory, std::move(r.fds));
            if (request != 0) members_.send(from, {request, control::done{}});
        } else if (const auto* given_up = std::get_if<control::withdraw>(&body)) {
            const auto channel = members_.channels().find_asked(from.id, given_up->request_id);
            if (channel) {
                members_.hang_up(*channel, from.id, asker_end,
                                 "the call that asked for it was given up");
            }
        } else if (auto* note = std::get_if<control::log_note>(&body)) {
            forward(from, std::move(*note));
        } else if (const auto* words = std::get_if<control::exception_text>(&body)) {
            receive(from, *words);
        } else if (auto* ended = std::get_if<control::peer_ended>(&body); ended && from.is_bridge) {
            answer(from, request, *ended);
        } else if (std::holds_alternative<control::take_log>(body) && from.is_bridge) {
            log_taker_ = from.id;
        } else if (auto* called = std::get_if<control::node_called>(&body);
                   called && from.id == root_place_id) {
            node_name_ = std::move(called->name);
        } else if (auto* end = std::get_if<control::end_places>(&body);
                   end && from.id == root_place_id) {
            endings_.push_back({request, end->keep_bridge});
            kill_all(end->keep_bridge);
        } else {
            members_.send(from, failure(request, errc::protocol,
                                        "the nursery takes no such request from this process"));
        }
    } catch (const std::exception& e) {
        members_.send(from, failure(request, errc::start_failed, e.what()));
    }
}

member& nursery::start(std::uint64_t creator, std::string name, birth_plan plan) {
    plan.id = members_.next_id();
    plan.slot = members_.unused_slot();
    plan.shown_name = shown_name(name, plan.id);
    member r;
    r.id = plan.id;
    r.slot = plan.slot;
    r.creator = creator;
    r.name = std::move(name);
    auto child = forker_.fork(std::move(plan));
    r.pid = child.pid;
    r.control = std::move(child.control);
    r.doorbell = std::move(child.doorbell);
    r.pidfd = std::move(child.pidfd);
    try {
        return members_.add(std::move(r));
    } catch (...) {
        // As in fork(): a place that nobody can watch must not be.
        ::kill(child.pid, SIGKILL);
        ::waitpid(child.pid, nullptr, 0);
        throw;
    }
}

void nursery::answer(member& from, std::uint64_t request, control::spawn& what,
                     std::vector<unique_fd> fds) {
    bool takes_connections = what.takes_connections;
    if (const auto* entry = std::get_if<control::registered_entry>(&what.entry)) {
        const auto* found = detail::find_registration(entry->name);
        if (!found) {
            members_.send(from,
                          failure(request, errc::entry_not_found,
                                  "no entry is registered as \"" + entry->name +
                                      "\"; register_entry() or a server's macro adds one, in the "
                                      "program or a module of it; registered are: " +
                                      detail::registered_names()));
            return;
        }
        takes_connections = found->takes_connections;
    }
    if (!what.named.empty()) {
        if (!takes_connections) {
            members_.send(from,
                          failure(request, errc::not_a_connection,
                                  "the entry for \"" + what.named +
                                      "\" takes no connections; a named place needs places::inbox& "
                                      "or PLACES_NAMED_SERVER"));
            return;
        }
        if (const auto* owner = members_.find_named(what.named)) {
            const auto age = std::chrono::duration_cast<std::chrono::seconds>(
                std::chrono::steady_clock::now() - owner->born);
            members_.send(from, failure(request, errc::name_taken,
                                        "the name \"" + what.named + "\" is taken by place " +
                                            std::to_string(owner->id) + " (pid " +
                                            std::to_string(owner->pid) + ", alive for " +
                                            std::to_string(age.count()) + " s), which keeps it"));
            return;
        }
    }
    check_memory(from, nullptr, what.ring_bytes);
    const auto channel = members_.channels().next_id();
    auto doorbell = from.doorbell.duplicate();
    auto entry = shown_entry(what.entry);
    birth_plan plan;
    plan.streams = std::move(fds);
    plan.kept = {doorbell.get()};
    plan.run = [&](detail::process::birth birth) {
        detail::run_child({std::move(birth),
                           {channel, asked_end, what.ring_bytes, from.id, from.pid, from.is_bridge},
                           only(std::move(doorbell)),
                           std::move(what.entry),
                           takes_connections && !what.named.empty()});
    };
    auto& place = start(from.id, what.named, std::move(plan));
    place.birth_channel = channel;
    place.entry = std::move(entry);
    if (what.connection_ring_bytes_max != 0) {
        place.connection_ring_bytes_max = what.connection_ring_bytes_max;
    }
    members_.channels().enter(channel, place.id, from.id, what.ring_bytes, request);
    unique_fd its_doorbell;
    try {
        its_doorbell = place.doorbell.duplicate();
    } catch (...) {
        members::kill(place);  // its creator will not know of it
        throw;
    }
    members_.send(
        from, {request, control::granted{channel, asker_end, what.ring_bytes, place.id, place.pid}},
        only(std::move(its_doorbell)));
}

/// Both ends of a new channel make their memory themselves, so a large one costs the nursery
/// nothing; and all of it is counted before a page is touched. `other` is the place at the other
/// end, if it is there already: it may keep too many channels that others have closed.
/// Throws: error{start_failed} with the figures; std::invalid_argument for the size.
void nursery::check_memory(const member& from, const member* other, std::size_t ring_bytes) {
    shm::check_ring_bytes(ring_bytes);
    const auto bytes = channel_table::bytes_of(ring_bytes);
    unlooked_bytes_ += bytes;
    // The bridge asks for other nodes, also those with a key that lets them connect only.
    const bool has_quota = from.id != root_place_id;
    auto& channels = members_.channels();
    const auto asked = channels.bytes_charged_to(from.id) + bytes;
    // The bridge lets go of what is closed, and may be at its quota for what other nodes ask.
    const auto kept = other && !other->is_bridge ? channels.bytes_charged_to(other->id) : 0;
    const bool is_over = (has_quota && asked > quota_bytes_) || kept > quota_bytes_;
    if (unlooked_bytes_ < unlooked_bytes_max && !is_over) return;
    const auto memory = memory_left();
    const auto what = "a channel with rings of " + to_text_bytes(ring_bytes) + " takes " +
                      to_text_bytes(bytes) + " of memory";
    const auto limit = to_text_bytes(memory.limit_bytes) + " (" + memory.source + ")";
    quota_bytes_ = memory.limit_bytes / quota_part;
    if (has_quota && asked > quota_bytes_) {
        const auto who = from.is_bridge ? "the bridge, for all other nodes together,"
                                        : "place " + std::to_string(from.id);
        throw error(errc::start_failed,
                    what + ", and " + who + " has asked for " + to_text_bytes(asked - bytes) +
                        " already; one " + (from.is_bridge ? "bridge" : "place") + " may ask for " +
                        to_text_bytes(quota_bytes_) + ", a quarter of " + limit +
                        ". Ask for smaller rings (ring_bytes), or close channels");
    }
    if (kept > quota_bytes_) {
        throw error(errc::start_failed,
                    what + ", and place " + std::to_string(other->id) + ", \"" + other->name +
                        "\", keeps " + to_text_bytes(kept) +
                        " of channels that it has asked for, or that were closed at the other "
                        "end; one place may have " +
                        to_text_bytes(quota_bytes_) + ", a quarter of " + limit +
                        ". Try again when it has let go of some");
    }
    const auto spare = std::min(memory.limit_bytes / spare_part, spare_bytes_max);
    const auto promised = members_.channels().bytes_to_come();
    if (spare + promised + bytes > memory.left_bytes) {
        throw error(errc::start_failed,
                    what + ", and " + to_text_bytes(memory.left_bytes) + " of " + limit +
                        " are left, of which " + to_text_bytes(spare) +
                        " are kept for the node's processes and " + to_text_bytes(promised) +
                        " are promised to other channels. Ask for smaller rings (ring_bytes), or "
                        "raise the limit");
    }
    unlooked_bytes_ = 0;
}

/// The memory that one end has made goes to the other end, unless that has closed.
void nursery::pass_on(member& from, const control::share_memory& what, std::vector<unique_fd> fds) {
    auto& channels = members_.channels();
    const auto* found = channels.find_held(what.channel_id, from.id, what.end);
    // A second memory for one end would give it a second writer.
    if (!found || found->shared[what.end]) return;
    const auto of = *found;
    channels.set_shared(what.channel_id, what.end);
    const auto refuse = [&](const std::string& why) {
        members_.hang_up(what.channel_id, from.id, what.end, why);
        members_.send(from, {0, control::hung_up{what.channel_id, what.end, why}});
    };
    if (fds.empty()) {
        return refuse(
            "the nursery has no descriptor free to pass a channel's memory on; raise "
            "RLIMIT_NOFILE (ulimit -n)");
    }
    if (const auto wrong = shm::why_unfit(fds.front(), of.ring_bytes)) {
        return refuse("the memory that place " + std::to_string(from.id) +
                      " has made for the channel is not what it must be: " + *wrong);
    }
    const std::uint8_t other = 1 - what.end;
    auto* to = of.held[other] ? members_.find(of.places[other]) : nullptr;
    if (!to) return;
    fds.resize(1);
    members_.send(*to, {0, control::peer_memory{what.channel_id, other}}, std::move(fds));
}

void nursery::close(member& from, const control::channel_closed& what) {
    if (what.unusable) {
        members_.hang_up(what.channel_id, from.id, what.end,
                         shown_name(from.name, from.id) + ": " + what.why);
    } else {
        (void)members_.channels().let_go(what.channel_id, from.id, what.end);
    }
}

/// A place may have sent anything: its creator is to get a short text that can be printed.
void nursery::receive(member& from, const control::exception_text& what) {
    from.exception_text = detail::printable_text(what.text, control::exception_text_bytes_max);
}

/// A node may have sent any text of its places. The answer comes after the packet, so the holder
/// has that before the bridge does anything to the ring.
void nursery::answer(member& bridge, std::uint64_t request, control::peer_ended& what) {
    const auto* of = members_.channels().find_held(what.channel_id, bridge.id, what.end);
    if (!of || !detail::is_possible({what.signalled, what.value})) {
        members_.send(bridge, failure(request, errc::protocol,
                                      "a bridge tells how a place of another node has ended, and "
                                      "only on a channel whose end it holds"));
        return;
    }
    const std::uint8_t other = 1 - what.end;
    auto* holder = of->held[other] ? members_.find(of->places[other]) : nullptr;
    if (holder) {
        what.end = other;
        what.text = detail::printable_text(what.text, control::exception_text_bytes_max);
        members_.send(*holder, {0, std::move(what)});
    }
    members_.send(bridge, {request, control::done{}});
}

void nursery::answer(member& from, std::uint64_t request, control::connect& what) {
    auto* place = members_.find_named(what.name);
    if (!place || what.name.empty()) {
        // The bridge asks for others, who name the node themselves.
        const auto where = from.is_bridge       ? ""
                           : node_name_.empty() ? " on this node"
                                                : " (node " + node_name_ + ")";
        members_.send(from, failure(request, errc::name_not_found,
                                    "no place is named \"" + what.name + "\"" + where));
        return;
    }
    if (what.ring_bytes > place->connection_ring_bytes_max) {
        members_.send(from,
                      failure(request, errc::bad_argument,
                              "\"" + what.name + "\" takes connections with rings of at most " +
                                  to_text_bytes(place->connection_ring_bytes_max) + ", not " +
                                  to_text_bytes(what.ring_bytes) +
                                  ": ask for less, or start it with a larger "
                                  "spawn_options::connection_ring_bytes_max"));
        return;
    }
    offer(*place, from, request, what.ring_bytes, {}, {});
}

/// It is for all of the node, so no place is its creator, and only the root may end it.
void nursery::start_bridge() {
    birth_plan plan;
    plan.ignores_sigterm = true;
    plan.run = [this](detail::process::birth birth) {
        detail::run_child(std::move(birth), bridge_main_);
    };
    start(0, "places-bridge", std::move(plan)).is_bridge = true;
}

void nursery::answer(member& from, std::uint64_t request, control::open_bridge& what,
                     std::vector<unique_fd> extra) {
    if (!extra.empty() && from.id != root_place_id) {
        members_.send(from, failure(request, errc::permission_denied,
                                    "the bridge takes descriptors from the root of the node "
                                    "alone, not from place " +
                                        std::to_string(from.id)));
        return;
    }
    if (from.is_bridge) {
        members_.send(
            from, failure(request, errc::bad_argument, "a bridge has no other bridge to talk to"));
        return;
    }
    if (what.ring_bytes > control::bridge_ring_bytes_max) {
        members_.send(from, failure(request, errc::bad_argument,
                                    "ring_bytes of " + std::to_string(what.ring_bytes) +
                                        ": a bridge takes at most " +
                                        std::to_string(control::bridge_ring_bytes_max)));
        return;
    }
    // One that has died since the last look takes nothing more.
    if (const auto* dead = members_.bridge()) reap(dead->id);
    if (!members_.bridge()) start_bridge();
    offer(*members_.bridge(), from, request, what.ring_bytes, std::move(what.payload),
          std::move(extra));
}

/// Makes a channel between two members: one end is offered, the other is the answer. Neither is
/// any good alone, so there is a channel only once the offer is on its way.
void nursery::offer(member& to, member& from, std::uint64_t request, std::size_t ring_bytes,
                    bytes payload, std::vector<unique_fd> extra) {
    if (payload.size() > control::payload_bytes_max ||
        extra.size() + end_fds > control::packet_fds_max) {
        members_.send(
            from, failure(request, errc::too_large, "what goes with a new channel is too large"));
        return;
    }
    if (to.outbox.size() >= queued_packets_max) {
        members_.send(
            from, failure(request, errc::start_failed,
                          "place " + std::to_string(to.id) + " has not taken " +
                              std::to_string(to.outbox.size()) + " connections before this one"));
        return;
    }
    check_memory(from, &to, ring_bytes);
    const auto channel = members_.channels().next_id();
    auto theirs = only(from.doorbell.duplicate());
    for (auto& fd : extra) theirs.push_back(std::move(fd));
    auto mine = only(to.doorbell.duplicate());
    control::offered news{{channel, asked_end, ring_bytes, from.id, from.pid, from.is_bridge},
                          std::move(payload)};
    if (const auto why = members_.try_send(to, {0, std::move(news)}, std::move(theirs))) {
        members_.send(from, failure(request, errc::start_failed,
                                    "the new channel could not be given to place " +
                                        std::to_string(to.id) + ": " + *why));
        return;
    }
    members_.channels().enter(channel, to.id, from.id, ring_bytes, request);
    members_.send(
        from,
        {request, control::granted{channel, asker_end, ring_bytes, to.id, to.pid, to.is_bridge}},
        std::move(mine));
}

/// Whether `from` may kill and stop that place, which may have ended; if not, it is told so.
bool nursery::may_end(member& from, std::uint64_t request, std::uint64_t place_id) {
    const auto* victim = members_.find(place_id);
    const bool may =
        from.id == root_place_id || from.id == place_id || (victim && from.id == victim->creator);
    if (!victim || (place_id != root_place_id && may)) return true;
    members_.send(from, failure(request, errc::bad_argument,
                                "place " + std::to_string(place_id) + " is not ended for place " +
                                    std::to_string(from.id) +
                                    ": only its creator, the root and itself may ask, and "
                                    "nobody for the root"));
    return false;
}

void nursery::answer(member& from, std::uint64_t request, const control::kill& what) {
    if (!may_end(from, request, what.place_id)) return;
    if (const auto* victim = members_.find(what.place_id)) members::kill(*victim);
    members_.send(from, {request, control::done{}});
}

void nursery::answer(member& from, std::uint64_t request, const control::request_stop& what) {
    if (!may_end(from, request, what.place_id)) return;
    auto* const place = members_.find(what.place_id);
    // Once: a place that takes no packet is not to fill its outbox.
    if (place && !std::exchange(place->is_stop_asked, true)) {
        members_.send(*place, {0, control::stop_asked{what.grace_ns}});
    }
    members_.send(from, {request, control::done{}});
}

void nursery::answer(member& from, std::uint64_t request, const control::busy_poll& what) {
    if (!what.on) {
        from.polls = false;
        return;
    }
    const auto polling = members_.count_polling();
    const auto cores = usable_cores();
    if (from.polls || polling < cores) {
        from.polls = true;
        members_.send(from, {request, control::done{}});
        return;
    }
    const auto why = "busy polling is refused: " + std::to_string(polling) +
                     " places of this node poll already, and it has " + std::to_string(cores) +
                     " cores; this one sleeps while it waits";
    control::log_note note;
    note.severity = static_cast<std::uint8_t>(severity::warning);
    note.text = why;
    forward(from, std::move(note));
    members_.send(from, failure(request, errc::no_core, why));
}

void nursery::answer(member& from, std::uint64_t request, const control::list_places& what) {
    control::places_listed list;
    const auto found = members_.above(what.after, listed_max);
    const auto now = std::chrono::steady_clock::now();
    for (const auto* each : found) {
        const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(now - each->born);
        list.places.push_back({each->id, each->pid,
                               std::string(detail::shortened(each->name, listed_text_max)),
                               std::string(detail::shortened(each->entry, listed_text_max)),
                               static_cast<std::uint64_t>(age.count())});
    }
    list.is_last = found.size() < listed_max;
    members_.send(from, {request, std::move(list)});
}

void nursery::answer(member& from, std::uint64_t request, const control::list_channels& what) {
    control::channels_listed list;
    for (const auto& [id, of] : members_.channels().above(what.after, listed_max)) {
        list.channels.push_back(
            {id, of.places[0], of.places[1], of.held[0], of.held[1], of.ring_bytes});
    }
    list.is_last = list.channels.size() < listed_max;
    members_.send(from, {request, std::move(list)});
}

void nursery::forward(const member& from, control::log_note note) {
    // A process tells severity and text. A bridge also tells of the places of other nodes.
    if (!from.is_bridge || note.node.empty()) {
        note.time_ns = now_ns();
        note.node.clear();
        note.place = from.id == root_place_id ? "root" : shown_name(from.name, from.id);
    }
    deliver(from.id, std::move(note));
}

/// To the process that takes the log, unless the note is its own; the root takes its own too.
void nursery::deliver(std::uint64_t from, control::log_note note) {
    auto* taker = members_.find(log_taker_);
    if (!taker) taker = members_.find(root_place_id);
    if (!taker || (taker->id == from && from != root_place_id)) return;
    if (taker->outbox.size() >= queued_packets_max) {
        ++taker->dropped_notes;
        return;
    }
    if (const auto dropped = std::exchange(taker->dropped_notes, 0)) {
        note.text += " [" + std::to_string(dropped) + " log lines before this one were dropped]";
    }
    members_.send(*taker, {0, std::move(note)});
}

void nursery::reap(std::uint64_t id) {
    auto& gone = *members_.find(id);
    if (id == root_place_id) {
        ending_ = true;
        members_.remove(id);
        kill_all(false);
        return;
    }
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(gone.pid), &info, WEXITED | WNOHANG) < 0 ||
        info.si_pid == 0) {
        return;
    }
    // What it sent before it ended comes first: its lines for the log, and the memory with what it
    // has published.
    try {
        while (is_readable_now(gone.control)) {
            auto next = control::receive(gone.control.get());
            if (!next) break;
            auto& body = next->packet.body;
            if (auto* note = std::get_if<control::log_note>(&body)) {
                forward(gone, std::move(*note));
            } else if (const auto* memory = std::get_if<control::share_memory>(&body)) {
                pass_on(gone, *memory, std::move(next->fds));
            } else if (const auto* closed = std::get_if<control::channel_closed>(&body)) {
                close(gone, *closed);
            } else if (const auto* words = std::get_if<control::exception_text>(&body)) {
                receive(gone, *words);
            } else if (auto* ended = std::get_if<control::peer_ended>(&body);
                       ended && gone.is_bridge) {
                answer(gone, next->packet.request_id, *ended);
            }
        }
    } catch (const std::exception&) {
        // Half a packet of a dead process, or no memory for it.
    }
    control::died news{id, info.si_code != CLD_EXITED, info.si_status};
    // An exception ends a place with 1; one that has ended in another way had no last words.
    if (!news.signalled && news.value == 1) news.text = std::move(gone.exception_text);
    bereave(gone);
    auto told = members_.channels().forget(id);
    told.insert(gone.creator);
    members_.remove(id);
    for (const auto survivor : told) {
        if (auto* r = members_.find(survivor)) members_.send(*r, {0, news});
    }
    orphans_.adopt();
}

/// A place that was killed has run no destructor of what it had started. A bridge starts places for
/// other nodes.
void nursery::bereave(const member& creator) {
    const auto then = std::chrono::steady_clock::now() + place_grace;
    for (const auto* each : members_.above(creator.id, control::board_slots)) {
        if (each->creator == creator.id && each->name.empty()) bereaved_.emplace(then, each->id);
    }
}

/// Returns: how long until there is more to do.
std::optional<std::chrono::milliseconds> nursery::kill_bereaved() {
    const auto now = std::chrono::steady_clock::now();
    while (!bereaved_.empty()) {
        const auto next = bereaved_.begin();
        if (next->first > now)
            return std::chrono::ceil<std::chrono::milliseconds>(next->first - now);
        if (const auto* place = members_.find(next->second)) members::kill(*place);
        bereaved_.erase(next);
    }
    return std::nullopt;
}

void nursery::kill_all(bool keep_bridge) {
    members_.kill_all(keep_bridge);
    orphans_.adopt();
}

/// The node goes on: the reaper is needed only after this process has been killed as well.
void nursery::on_reaper_end() {
    events_.remove(reaper_.get());
    reaper_.reset();
    control::log_note note;
    note.severity = static_cast<std::uint8_t>(severity::warning);
    note.time_ns = now_ns();
    note.place = "nursery";
    note.text =
        "the reaper of this node has been killed: if its nursery is killed too, what places have "
        "started lives on";
    deliver(0, std::move(note));
}

void nursery::check_ended() {
    const bool has_bridge = members_.bridge() != nullptr;
    const bool has_places = members_.count_places() > 0 || !orphans_.empty();
    if (ending_ && !has_places && !has_bridge) ::_exit(0);
    auto* root = members_.find(root_place_id);
    if (!root) return;
    std::erase_if(endings_, [&](const ending& each) {
        if (has_places || (has_bridge && !each.keep_bridge)) return false;
        members_.send(*root, {each.request, control::done{}});
        return true;
    });
}

/// Returns: whether the root will hear why there is no nursery.
bool report_to_root(int control, const char* why) noexcept {
    try {
        control::send(control, failure(0, errc::start_failed, why), {});
        return true;
    } catch (const std::exception&) {
        return false;
    }
}

}  // namespace

void run_nursery(nursery_start start) {
    ::prctl(PR_SET_NAME, "places-nursery");
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    // Stopped, it could not end what its root leaves. The reaper sends this signal when the root
    // ends, and the kernel when the reaper has been killed.
    ::prctl(PR_SET_PDEATHSIG, SIGCONT);
    // The root waits for the nursery's first packet: what goes wrong before it is for its caller.
    unique_fd to_root;
    try {
        to_root = start.root_control.duplicate();
        nursery serving{std::move(start)};
        control::send(to_root.get(), {0, control::done{}}, {});
        to_root.reset();
        serving.run();
    } catch (const std::exception& e) {
        const int root = to_root ? to_root.get() : start.root_control.get();
        if (root >= 0 && report_to_root(root, e.what())) ::_exit(1);
        // The kernel ends every place with it.
        std::fprintf(stderr, "places: the nursery has ended: %s\n", e.what());
    }
    ::_exit(1);
}

}  // namespace places::launcher
