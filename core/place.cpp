// SPDX-License-Identifier: Apache-2.0
#include <places/core/place.hpp>

#include "core/child.hpp"
#include "core/process.hpp"

#include <chrono>
#include <memory>
#include <ostream>

namespace places {
namespace {

// As the documentation of ~place promises.
constexpr std::chrono::seconds grace{2};

place start(control::spawn what, bool confirm) {
    auto& self = detail::process::current();
    const bool named = !what.named.empty();
    auto answer = self.request(std::move(what));
    const auto& grant = std::get<control::granted>(answer.packet.body);
    auto end = self.open(grant, std::move(answer.fds));
    auto& state = *end;
    place p{std::move(end), named};
    // Also when a router unwinds this body: a place that nobody is given ends at once.
    const auto end_it = [&self](const place* q) { self.send(control::kill{q->id()}); };
    std::unique_ptr<place, decltype(end_it)> guard{&p, end_it};
    state.await_peer();
    if (!state.is_attached()) {
        if (self.is_orphan()) throw error(errc::node_down, "the node's nursery has ended");
        throw error(errc::start_failed, state.why_not_begun());
    }
    if (confirm) (void)detail::await_opened(p);
    (void)guard.release();
    return p;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, severity s) { return out << to_string(s); }

const char* to_string(severity s) noexcept {
    switch (s) {
        case severity::debug: return "debug";
        case severity::info: return "info";
        case severity::warning: return "warning";
        case severity::error: return "error";
    }
    return "unknown";
}

void log_to_parent(severity s, const std::string& text) noexcept {
    auto* self = detail::process::current_or_null();
    if (!self) return;
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    try {
        control::log_note note;
        note.severity = static_cast<std::uint8_t>(s);
        note.time_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
        note.place = self->name();
        note.text = text.substr(0, control::payload_bytes_max);
        self->send(std::move(note));
    } catch (const std::exception&) {
        // Out of memory: the log is the least of it.
    }
}

place::place() noexcept = default;
place::place(std::unique_ptr<detail::channel_state> state, bool is_named) noexcept
    : channel(std::move(state)),
      is_named_(is_named) {}
place::place(place&&) noexcept = default;
place& place::operator=(place&& other) noexcept {
    if (this != &other) {
        end();
        channel::operator=(std::move(other));
        is_named_ = other.is_named_;
    }
    return *this;
}
place::~place() { end(); }

void place::end() noexcept {
    if (!state_ || is_named_ || state_->is_forked()) return;
    const auto finish = [this] {
        try {
            close();
            if (!wait_for(grace)) kill();
        } catch (const std::exception&) {
            // The place cannot be waited for. Where the nursery has ended, the place has too.
            state_->self().send(control::kill{id()});
        }
    };
    try {
        finish();
    } catch (...) {
        // The router unwinds the body that destroys us: the thread waits in its stead.
        auto* body = detail::current_waiter();
        detail::set_current_waiter(nullptr);
        finish();
        detail::set_current_waiter(body);
    }
    state_.reset();
}

void detail::throw_no_place() {
    throw error(errc::bad_argument,
                "this handle has no place: it was made without one, or moved from");
}

std::uint64_t place::id() const noexcept { return state_ ? state_->peer_id() : 0; }
int place::pid() const noexcept { return state_ ? state_->peer_pid() : 0; }

std::optional<exit_status> place::wait_for(std::chrono::nanoseconds limit) {
    if (!state_) detail::throw_no_place();
    const auto ready = [&] { return state_->peer_status().has_value(); };
    shm::spin_budget spin;  // not the channel's, on which another thread may wait
    (void)state_->self().wait({}, ready, detail::deadline_after(limit), spin);
    return state_->peer_status();
}

exit_status place::wait() {
    const auto how = wait_for(std::chrono::nanoseconds::max());
    if (!how) throw error(errc::node_down, "the nursery ended before it told how the place did");
    return *how;
}

namespace {

/// A nursery that has ended is no error here: every place ends with it, which wait() tells.
void ask(detail::process& self, control::body what) {
    try {
        (void)self.request(std::move(what));
    } catch (const error& e) {
        if (e.code() != errc::node_down) throw;
    }
}

}  // namespace

exit_status place::request_stop(std::chrono::nanoseconds limit) {
    return detail::end_all({this}, limit).front();
}

std::vector<exit_status> detail::end_all(const std::vector<place*>& places,
                                         std::chrono::nanoseconds limit) {
    for (const auto* each : places) {
        if (!*each) throw_no_place();
    }
    for (auto* each : places) {
        if (each->is_dead()) continue;
        ask(state_of::get(*each)->self(), control::request_stop{each->id(), limit.count()});
    }
    const auto until = deadline_after(limit);
    const auto left = [&] {
        const auto now = std::chrono::steady_clock::now();
        if (until <= now) return std::chrono::nanoseconds::zero();
        if (until == shm::no_deadline) return std::chrono::nanoseconds::max();
        return std::chrono::nanoseconds{until - now};
    };
    std::vector<place*> late;
    for (auto* each : places) {
        if (!each->wait_for(left())) late.push_back(each);
    }
    for (auto* each : late) ask(state_of::get(*each)->self(), control::kill{each->id()});
    std::vector<exit_status> ends;
    ends.reserve(places.size());
    for (auto* each : places) ends.push_back(each->wait());
    return ends;
}

void place::kill() {
    if (!state_) detail::throw_no_place();
    if (is_dead()) return;
    (void)state_->self().request(control::kill{state_->peer_id()});
    (void)wait();
}

place spawn(const registered& entry, const spawn_options& options) {
    return start({control::registered_entry{entry.name}, options.named, options.ring_bytes, false,
                  options.connection_ring_bytes_max},
                 false);
}

place spawn(const library& entry, const spawn_options& options) {
    return start({control::library_entry{entry.path, entry.symbol}, options.named,
                  options.ring_bytes, true, options.connection_ring_bytes_max},
                 true);
}

void detail::throw_unsent_arguments(const place& to, status why) {
    const auto refusal = to.refusal();
    const auto how = to.peer_status();
    const auto cause = !refusal.empty() ? ": " + refusal
                       : how            ? " (" + to_string(*how) + ")"
                                        : std::string();
    const auto limit =
        why == status::too_large ? " of " + std::to_string(to.sendable_bytes_max()) + " bytes" : "";
    const auto code = make_error_code(why);
    throw error(code, "the arguments for a place's entry: " + code.message() + limit + cause);
}

place detail::spawn_function(const spawn_options& options, thunk run, void* function,
                             bool takes_inbox) {
    const control::function_entry entry{code_address_of(reinterpret_cast<void*>(run)),
                                        code_address_of(function)};
    return start(
        {entry, options.named, options.ring_bytes, takes_inbox, options.connection_ring_bytes_max},
        false);
}

channel connect_to_named_place(const std::string& name, std::size_t ring_bytes) {
    auto& self = detail::process::current();
    auto answer = self.request(control::connect{name, ring_bytes});
    const auto& grant = std::get<control::granted>(answer.packet.body);
    return channel{self.open(grant, std::move(answer.fds))};
}

}  // namespace places
