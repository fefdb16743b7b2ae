// SPDX-License-Identifier: Apache-2.0
#include <places/core/channel_set.hpp>

#include "core/ready_list.hpp"

#include <memory>

namespace places {
namespace {

/// A channel of the set.
struct member {
    detail::channel_state* state;
    std::uint64_t key;
    bool is_hot = false;

    bool is_ready() {
        state->attach_if_come();
        return state->has_message();
    }
    void park() { state->end().in().park(shm::park_mode::doorbell); }
    void unpark() { state->end().in().unpark(); }
};

void enter(detail::ready_list<member>& all, detail::channel_state& end, std::uint64_t key) {
    if (end.has_park_observer()) {
        throw error(errc::bad_argument,
                    "this channel is in a channel_set already, or an inbox or async_channel reads "
                    "it; it is in one of these at a time: take it out of there first");
    }
    all.add(std::make_shared<member>(member{&end, key}));
}

}  // namespace

struct channel_set::state {
    detail::ready_list<member> members{detail::process::current()};
};

channel_set::channel_set() : state_(std::make_unique<state>()) {}
channel_set::~channel_set() = default;
channel_set::channel_set(channel_set&&) noexcept = default;
channel_set& channel_set::operator=(channel_set&&) noexcept = default;

void channel_set::add(const channel& c, std::uint64_t key) {
    auto* end = detail::state_of::get(c);
    if (!end) throw error(errc::bad_argument, "a channel without an end in a set");
    end->check_caller();
    enter(state_->members, *end, key);
}

void channel_set::remove(const channel& c) {
    if (const auto* end = detail::state_of::get(c)) state_->members.remove(*end);
}

std::size_t channel_set::size() const noexcept { return state_->members.size(); }

std::optional<std::uint64_t> channel_set::wait(std::chrono::nanoseconds limit) {
    auto& members = state_->members;
    const auto until = detail::deadline_after(limit);
    const auto is_empty = [&] { return members.is_empty(); };  // another body may empty it
    while (true) {
        if (is_empty()) throw error(errc::bad_argument, "a wait for an empty set of channels");
        members.pump();
        if (const auto m = members.next()) return m->key;
        if (!members.wait(until, is_empty)) return std::nullopt;
    }
}

int channel_set::native_handle() { return state_->members.native_handle(); }

// -- select --

namespace {

/// As many as the kernel takes words for sleep on these; more are a set for once.
template <class Ready>
void wait_for_one(std::span<const detail::interest> on, Ready&& ready, shm::deadline until) {
    auto& front = *on.front().channel;
    if (on.size() <= detail::interests_max || detail::current_waiter()) {
        front.self().wait(on, ready, until, front.spin());
        return;
    }
    detail::ready_list<member> all{front.self()};
    for (const auto& i : on) {
        if (!all.contains(*i.channel)) enter(all, *i.channel, 0);
    }
    while (true) {
        all.pump();
        if (all.next() && ready()) return;
        if (!all.wait(until, [] { return false; })) return;
    }
}

/// While it lives, this thread waits on each of these.
class selecting {
  public:
    explicit selecting(std::span<const detail::interest> on) : on_(on) {
        for (const auto& i : on_) {
            i.channel->waits().enter("select()");
            i.channel->claim();
        }
    }
    ~selecting() {
        for (const auto& i : on_) i.channel->waits().leave();
    }
    selecting(const selecting&) = delete;
    selecting& operator=(const selecting&) = delete;

  private:
    std::span<const detail::interest> on_;
};

}  // namespace

std::optional<std::size_t> select(std::span<channel* const> channels,
                                  std::chrono::nanoseconds limit) {
    std::vector<detail::interest> on;
    for (auto* c : channels) {
        auto* state = c ? detail::state_of::get(*c) : nullptr;
        if (!state) throw error(errc::bad_argument, "select over a channel that has no end");
        state->check_caller();
        on.push_back({.channel = state, .record = true});
    }
    if (on.empty()) throw error(errc::bad_argument, "select over no channel");
    // Of several that are ready, the one picked longest ago.
    thread_local std::uint64_t turn = 0;
    const auto turn_of = [&](std::size_t i) -> std::uint64_t& {
        return detail::state_of::last_selected(*on[i].channel);
    };
    std::optional<std::size_t> found;
    const auto ready = [&] {
        for (std::size_t i = 0; i < on.size(); ++i) {
            if (found && turn_of(*found) <= turn_of(i)) continue;
            if (on[i].channel->has_message()) found = i;
        }
        return found.has_value();
    };
    {
        const selecting here{on};
        wait_for_one(on, ready, detail::deadline_after(limit));
    }
    if (found) turn_of(*found) = ++turn;
    return found;
}

std::optional<std::size_t> select(std::initializer_list<channel*> channels,
                                  std::chrono::nanoseconds limit) {
    return select(std::span<channel* const>{channels.begin(), channels.size()}, limit);
}

}  // namespace places
