// SPDX-License-Identifier: Apache-2.0
// Places: forked processes with one entry and a channel to their creator.
#pragma once

#include <places/core/channel.hpp>
#include <places/core/entry.hpp>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

namespace places {

struct spawn_options {
    std::string named{};  ///< registers the place in the node's name table; empty: anonymous
    std::size_t ring_bytes = ring_bytes_default;  ///< of each direction; a power of two >= 4096
    /// Largest rings that a connection to this named place may ask for. The place allocates as much
    /// for each connection. Larger rings are refused with bad_argument.
    std::size_t connection_ring_bytes_max = 16 << 20;
};

/// Owns a place that this process has started, and the channel to it.
/// The destructor closes the channel, waits two seconds for an anonymous place to end, and kills
/// it after that. A named place continues to run, since other places may hold connections to it.
/// Places that are destroyed one after the other may take two seconds each: end_all() ends them
/// together. A handle that was default-constructed or moved from has no place. It is a channel
/// without an end: id() and pid() are 0, is_dead() is false, and wait(), wait_for() and kill()
/// throw error{bad_argument}.
/// Thread: one at a time.
class place : public channel {
  public:
    place() noexcept;  ///< no place
    place(std::unique_ptr<detail::channel_state> state, bool is_named) noexcept;
    place(place&&) noexcept;
    place& operator=(place&& other) noexcept;
    ~place();

    std::uint64_t id() const noexcept;
    int pid() const noexcept;

    /// How the place ended; the same answer every time. Its value is what the entry has returned
    /// or given to std::exit(), 0 for a value that is not in 0..255. It is 1 after an exception;
    /// `text` is then what(). The same holds if the entry's arguments could not be read.
    /// wait() does not ask the place to end. A place that reads only from its creator ends after
    /// close(). A named place runs while other places hold connections to it. A place that never
    /// reads runs for ever. request_stop() ends the last two as well.
    /// Blocks: until its process has ended; inside a router body suspends that body only.
    exit_status wait();
    /// Returns: as wait(); nothing when `limit` has passed.
    std::optional<exit_status> wait_for(std::chrono::nanoseconds limit);
    bool is_dead() const { return peer_status().has_value(); }
    /// Asks the place to end in order, waits for its end, and kills it after `grace`. The place
    /// still receives the messages that were sent before. After these, every get, receive and peek
    /// on the channel to its creator, and every inbox::get, returns `closed`. The place may still
    /// put on all of its channels until its entry returns, and this process can still read that. A
    /// server in the place waits at most half of `grace` for callers that leave no room for their
    /// answers. Connections of other places end as at any end of a place.
    /// Returns: how the place ended, also if it had ended before this call.
    /// Throws:  error{bad_argument} if this process is neither root nor creator of the place.
    /// Blocks:  until the place has ended; inside a router body suspends that body only.
    exit_status request_stop(std::chrono::nanoseconds grace = std::chrono::seconds{2});
    /// Ends the place at once, without its cleanup; returns when it is gone. Idempotent.
    void kill();

  private:
    void end() noexcept;
    bool is_named_ = false;
};

namespace detail {

/// Throws: error{bad_argument}, of a handle without a place.
[[noreturn]] void throw_no_place();

place spawn_function(const spawn_options& options, thunk run, void* function, bool takes_inbox);
[[noreturn]] void throw_unsent_arguments(const place& to, status why);

template <class... P, class... Args>
consteval bool arguments_fit(types<P...>, types<Args...>) {
    if constexpr (sizeof...(P) == sizeof...(Args))
        return (std::is_convertible_v<Args, P> && ...);
    else
        return false;
}

/// The type at `index`, void behind the last one.
template <std::size_t index, class... Ts>
consteval auto type_at(types<Ts...>) {
    if constexpr (index < sizeof...(Ts)) {
        return std::type_identity<std::tuple_element_t<index, std::tuple<Ts...>>>{};
    } else {
        return std::type_identity<void>{};
    }
}

template <int Position, class P, class Arg>
constexpr void explain_argument(std::type_identity<P>, std::type_identity<Arg>) {
    if constexpr (std::is_void_v<Arg>) {
        PLACES_DETAIL_REFUSE(
            "spawn() takes a value for each parameter of the entry after its "
            "channel& or inbox&: this one is missing",
            missing_argument<Position, P>);
    } else if constexpr (std::is_void_v<P>) {
        PLACES_DETAIL_REFUSE("the entry has no parameter for this argument of spawn()",
                             surplus_argument<Position, std::remove_cvref_t<Arg>>);
    } else if constexpr (!std::is_convertible_v<Arg, P>) {
        PLACES_DETAIL_REFUSE(
            "an argument of spawn() does not convert to the parameter of the entry",
            not_convertible_argument<Position, std::remove_cvref_t<Arg>, P>);
    }
}
/// Stops the build with a line for each argument that is missing, surplus or of another type.
template <class Ps, class Args, std::size_t... i>
constexpr void explain_arguments(Ps ps, Args args, std::index_sequence<i...>) {
    (explain_argument<static_cast<int>(i) + 1>(type_at<i>(ps), type_at<i>(args)), ...);
}

template <class F, class... Args>
place spawn_with(const spawn_options& options, F f, Args&&... args) {
    const auto function = as_function(f);
    using entry = entry_of<std::remove_const_t<decltype(function)>>;
    using parameters = typename entry::parameters;
    using tuple = typename entry::tuple;
    if constexpr (entry::travels && !arguments_fit(parameters{}, types<Args&&...>{})) {
        constexpr auto count = std::max(std::tuple_size_v<tuple>, sizeof...(Args));
        explain_arguments(parameters{}, types<Args&&...>{}, std::make_index_sequence<count>{});
        return place{};
    } else {
        auto p = spawn_function(options, &entry::run, reinterpret_cast<void*>(function),
                                entry::takes_inbox);
        if constexpr (entry::travels && sizeof...(Args) > 0) {
            const auto sent = p.put(tuple{std::forward<Args>(args)...});
            if (sent != status::ok) {
                throw_unsent_arguments(p, sent);
            }
        }
        return p;
    }
}

template <class T>
concept entry_like =
    !std::same_as<std::decay_t<T>, registered> && !std::same_as<std::decay_t<T>, library> &&
    !std::same_as<std::decay_t<T>, spawn_options>;

}  // namespace detail

namespace detail {

std::vector<exit_status> end_all(const std::vector<place*>& places, std::chrono::nanoseconds grace);

inline place& place_of(place& p) noexcept { return p; }
template <class T>
concept place_client = std::same_as<decltype(std::declval<T&>().link()), place&>;
template <place_client Client>
place& place_of(Client& c) noexcept {
    return c.link();
}

}  // namespace detail

/// Asks all of these places to end in order, as place::request_stop() does. They share one `grace`;
/// places that have not ended after it are killed.
/// Shape:   a range of places, or of clients that spawn_server() has returned.
/// Returns: how each place ended, in the order of the range.
/// Throws:  as place::request_stop(); error{bad_argument} for a handle without a place, before any
///          place is asked.
/// Blocks:  as place::request_stop().
template <std::ranges::input_range Range>
std::vector<exit_status> end_all(Range&& range,
                                 std::chrono::nanoseconds grace = std::chrono::seconds{2}) {
    std::vector<place*> places;
    for (auto&& each : range) places.push_back(&detail::place_of(each));
    return detail::end_all(places, grace);
}

/// Starts a place of this node that runs `f(end, args…)`, where `end` is `places::channel&`,
/// `places::inbox&` (for a named place), or left out.
/// Shape:   f a function or a lambda without captures; args convertible to its parameters, which
///          are message types taken by value or const reference.
/// Returns: the place, running.
/// Throws:  error: name_taken, not_a_connection, start_failed (also for rings that the node has no
///          memory for, or more than a quarter of it for one place, with the figures), too_large,
///          node_down.
/// Blocks:  until it runs; inside a router body suspends that body only.
/// Dying:   the router ends and unwinds the body that waits here: the place ends.
/// Thread:  any.
template <detail::entry_like F, class... Args>
place spawn(F f, Args&&... args) {
    return detail::spawn_with({}, f, std::forward<Args>(args)...);
}
template <detail::entry_like F, class... Args>
place spawn(const spawn_options& options, F f, Args&&... args) {
    return detail::spawn_with(options, f, std::forward<Args>(args)...);
}
/// Throws: also entry_not_found, naming what is registered.
place spawn(const registered& entry, const spawn_options& options = {});
/// Throws: also load_failed with the loader's words.
/// Blocks: until the new place has loaded it.
place spawn(const library& entry, const spawn_options& options = {});

/// Makes a new direct connection to the local place of that name. The place accepts it when it next
/// reads. If the place lacks descriptors or memory for it, every call on the channel returns
/// `refused`, and refusal() says why.
/// Throws: error: name_not_found naming it; bad_argument, naming its limit, for rings larger than
///         the place takes; start_failed as spawn.
/// Blocks: until the nursery has answered; inside a router body suspends that body only.
channel connect_to_named_place(const std::string& name,
                               std::size_t ring_bytes = ring_bytes_default);

enum class severity : std::uint8_t { debug, info, warning, error };
const char* to_string(severity s) noexcept;
std::ostream& operator<<(std::ostream& out, severity s);  ///< as to_string

/// Writes to the log of the node's root, or of the root that started this node. The entry there has
/// node, place and time. If the node is dead, the text is lost. Throws: never.
void log_to_parent(severity s, const std::string& text) noexcept;

}  // namespace places
