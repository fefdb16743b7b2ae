// SPDX-License-Identifier: Apache-2.0
#include "launcher/members.hpp"

#include "core/text.hpp"

#include <places/shm/ready_set.hpp>
#include <places/shm/sealed_memory.hpp>
#include <places/shm/wake.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <system_error>
#include <unistd.h>
#include <utility>

// Edges (the places' ends are in core/process.cpp):
//   [notice]  board word   nursery release -> place acquire   a packet waits in the control socket

namespace places::launcher {
namespace {

using control::packet;

// Longer than any text of ours but for the names in it, and far from what a packet holds.
constexpr std::size_t answer_text_max = 4096;

// Rare enough to cost nothing, often enough for whoever waits.
constexpr std::chrono::milliseconds starved_retry{100};

enum class fate {
    sent,
    full,     // there will be room: the event set tells
    starved,  // the kernel cannot send it now, as for want of memory, and does not tell when it can
    gone,     // nobody reads it any more
    refused,  // it will never go
};

struct attempt {
    fate what = fate::sent;
    std::string why{};  // of refused
};

attempt attempt_to_send(const member& to, const queued_packet& p) {
    std::vector<int> fds;
    for (const auto& fd : p.fds) fds.push_back(fd.get());
    try {
        return {control::try_send(to.control.get(), p.content, fds) ? fate::sent : fate::full};
    } catch (const std::system_error& e) {
        switch (e.code().value()) {
            case EPIPE:
            case ECONNRESET:
            case ENOTCONN: return {fate::gone};
            case ENOBUFS:
            case ENOMEM:
                if (p.fds.empty()) return {fate::starved};
                return {fate::refused,
                        std::string(e.what()) + "; try again when the machine has memory"};
            case ETOOMANYREFS:
                return {fate::refused,
                        std::string(e.what()) +
                            ": too many descriptors of this user wait in sockets; raise "
                            "RLIMIT_NOFILE (ulimit -n), or let places take their connections"};
            case EMSGSIZE: return {fate::refused, e.what()};
            default:
                // The death of a place, for example, is told once: later rather than not at all.
                if (p.fds.empty()) return {fate::starved};
                return {fate::refused, e.what()};
        }
    } catch (const error& e) {
        return {fate::refused, e.what()};
    }
}

}  // namespace

packet failure(std::uint64_t request, errc code, std::string text) {
    if (text.size() > answer_text_max) {
        text = std::string(detail::shortened(text, answer_text_max)) + "…";
    }
    return {request, control::failed{static_cast<std::int32_t>(code), std::move(text)}};
}

members::members(const unique_fd& board, event_set& events)
    : events_(events),
      board_(shm::map_memory(board, shm::access::read_write)) {
    // Places read the board; only this process may ever write it, and no child inherits this map.
    shm::seal_against_writers(board);
    checked(::madvise(board_.get_address(), board_.get_size(), MADV_DONTFORK), "madvise the board");
    for (auto slot = static_cast<std::uint32_t>(control::board_slots); slot-- > 0;) {
        if (slot != root_slot) unused_slots_.push_back(slot);
    }
}

std::uint32_t members::unused_slot() const {
    if (unused_slots_.empty()) {
        throw std::runtime_error("this node has room for " + std::to_string(beside_root_max) +
                                 " places, its bridge among them, and all of it is taken");
    }
    return unused_slots_.back();
}

member& members::add(member r) {
    events_.add(r.control.get(), event_set::source::control, r.id);
    events_.add(r.pidfd.get(), event_set::source::life, r.id);
    if (!unused_slots_.empty() && unused_slots_.back() == r.slot) unused_slots_.pop_back();
    pids_.insert(r.pid);
    const auto id = r.id;
    return all_.emplace(id, std::move(r)).first->second;
}

void members::remove(std::uint64_t id) {
    const auto found = all_.find(id);
    if (found->second.slot != root_slot) unused_slots_.push_back(found->second.slot);
    starved_.erase(id);
    pids_.erase(found->second.pid);
    all_.erase(found);
}

member* members::find(std::uint64_t id) {
    const auto found = all_.find(id);
    return found == all_.end() ? nullptr : &found->second;
}

member* members::find_named(const std::string& name) {
    for (auto& [id, r] : all_) {
        if (id != root_place_id && !r.is_bridge && r.name == name) return &r;
    }
    return nullptr;
}

member* members::bridge() {
    for (auto& [id, r] : all_) {
        if (r.is_bridge) return &r;
    }
    return nullptr;
}

bool members::has_pid(pid_t pid) const { return pids_.contains(pid); }

std::size_t members::count_places() const {
    return static_cast<std::size_t>(std::count_if(all_.begin(), all_.end(), [](const auto& r) {
        return r.first != root_place_id && !r.second.is_bridge;
    }));
}

std::vector<const member*> members::above(std::uint64_t after, std::size_t count_max) const {
    std::vector<const member*> found;
    for (auto at = all_.upper_bound(after); at != all_.end() && found.size() < count_max; ++at) {
        found.push_back(&at->second);
    }
    return found;
}

std::size_t members::count_polling() const {
    return static_cast<std::size_t>(
        std::count_if(all_.begin(), all_.end(), [](const auto& r) { return r.second.polls; }));
}

void members::kill_all(bool keep_bridge) noexcept {
    for (const auto& [id, r] : all_) {
        if (id != root_place_id && !(keep_bridge && r.is_bridge)) kill(r);
    }
}

void members::kill(const member& r) noexcept {
    if (::syscall(SYS_pidfd_send_signal, r.pidfd.get(), SIGKILL, nullptr, 0) == 0) return;
    // Not reaped yet, its number is nobody else's.
    ::kill(r.pid, SIGKILL);
}

void members::send(member& to, packet p, std::vector<unique_fd> fds) {
    queued_packet next{std::move(p), std::move(fds)};
    if (const auto why = try_send(to, next)) report_loss(to, next.content, *why);
}

std::optional<std::string> members::try_send(member& to, packet p, std::vector<unique_fd> fds) {
    queued_packet next{std::move(p), std::move(fds)};
    return try_send(to, next);
}

/// Takes `next` only when it has to wait.
std::optional<std::string> members::try_send(member& to, queued_packet& next) {
    if (to.outbox.empty()) {
        auto [what, why] = attempt_to_send(to, next);
        switch (what) {
            case fate::sent: announce(to, next.content); return std::nullopt;
            case fate::gone: return std::nullopt;
            case fate::refused: return std::move(why);
            case fate::full: events_.want_room(to.control.get(), to.id, true); break;
            case fate::starved: starved_.insert(to.id); break;
        }
    }
    to.outbox.push_back(std::move(next));
    return std::nullopt;
}

void members::flush(member& to) {
    auto last = fate::sent;
    std::vector<std::pair<packet, std::string>> lost;
    while (!to.outbox.empty()) {
        auto [what, why] = attempt_to_send(to, to.outbox.front());
        last = what;
        if (what == fate::full || what == fate::starved) break;
        if (what == fate::sent) announce(to, to.outbox.front().content);
        if (what == fate::refused) lost.emplace_back(std::move(to.outbox.front().content), why);
        to.outbox.pop_front();
    }
    events_.want_room(to.control.get(), to.id, last == fate::full);
    if (last == fate::starved) starved_.insert(to.id);
    // Not before the outbox is at rest: this fills it again.
    for (const auto& [p, why] : lost) report_loss(to, p, why);
}

void members::report_loss(member& to, const packet& p, const std::string& why) {
    if (const auto* grant = std::get_if<control::granted>(&p.body)) {
        hang_up(grant->channel_id, to.id, grant->end, why);
    } else if (const auto* offer = std::get_if<control::offered>(&p.body)) {
        hang_up(offer->end.channel_id, to.id, offer->end.end, why);
    } else if (const auto* memory = std::get_if<control::peer_memory>(&p.body)) {
        hang_up(memory->channel_id, to.id, memory->end, why);
        send(to, {0, control::hung_up{memory->channel_id, memory->end, why, true}});
    } else if (std::holds_alternative<control::log_note>(p.body)) {
        ++to.dropped_notes;
    } else if (std::holds_alternative<control::failed>(p.body)) {
        return;
    }
    if (p.request_id == 0) return;
    send(to, failure(p.request_id, errc::start_failed, "the answer could not be sent: " + why));
}

void members::hang_up(std::uint64_t channel, std::uint64_t place, std::uint8_t end,
                      const std::string& why) {
    const auto* held = channels_.find_held(channel, place, end);
    const bool may_have_read = held && held->shared[end];
    const auto other = channels_.let_go(channel, place, end);
    auto* r = other ? find(*other) : nullptr;
    if (!r) return;
    if (r->birth_channel == channel && r->creator == place) kill(*r);
    const auto other_end = static_cast<std::uint8_t>(1 - end);
    send(*r, {0, control::hung_up{channel, other_end,
                                  std::string(detail::shortened(why, answer_text_max)),
                                  may_have_read}});
}

void members::announce(const member& to, const packet& sent) {
    auto& word = static_cast<control::board_slot*>(board_.get_address())[to.slot].word;
    // release [notice]: the packet has been sent.
    word.fetch_add(1, std::memory_order_release);
    shm::wake_all(word);
    // A process that waits for thousands of channels looks at those that call.
    if (const auto* memory = std::get_if<control::peer_memory>(&sent.body)) {
        shm::ring_doorbell(to.doorbell.get(), memory->channel_id);
    }
}

std::optional<std::chrono::milliseconds> members::retry_after() const noexcept {
    if (starved_.empty()) return std::nullopt;
    return starved_retry;
}

void members::retry() {
    for (const auto id : std::exchange(starved_, {})) {
        if (auto* r = find(id)) flush(*r);
    }
}

}  // namespace places::launcher
