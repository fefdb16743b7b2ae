// SPDX-License-Identifier: Apache-2.0
// What a place runs: a function of this program, a registered name, or a symbol of a shared object.
#pragma once

#include <places/core/channel.hpp>
#include <places/core/inbox.hpp>
#include <places/core/message.hpp>

#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace places {

/// The name of an entry that every build of this program knows. Another node finds the entry by
/// this name. register_entry and the server macros make it.
struct registered {
    std::string name;
};

/// An `extern "C" void symbol(places::inbox&)` in a shared object, loaded by the new place itself.
struct library {
    std::string path;
    std::string symbol;
};

namespace detail {

/// Runs an entry inside the new place. Returns: its completion value, 0..255.
using thunk = int (*)(void* function, inbox& in);

/// A node of the table of registered entries, linked before main or as a module is loaded, and only
/// read afterwards.
struct registration {
    registration(const char* name, thunk run, void* function, bool takes_connections,
                 const char* file, int line) noexcept;
    const char* name;
    thunk run;
    void* function;
    bool takes_connections;
    const char* file;  ///< of the registration, as is the line
    int line;
    const registration* next;
};
const registration* find_registration(std::string_view name) noexcept;
/// Names of all registered entries, for error texts.
std::string registered_names();

/// Returns: `v` if it is 0..255, else 0, as in Racket.
constexpr int completion_value(long long v) noexcept {
    return v >= 0 && v <= 255 ? static_cast<int>(v) : 0;
}

/// What an entry takes after its end: the arguments that travel to it.
template <class... P>
struct entry_arguments {
    static constexpr bool takes_inbox = false;
    using parameters = types<std::decay_t<P>...>;
    using tuple = std::tuple<std::decay_t<P>...>;
    template <class F>
    static decltype(auto) call(F f, inbox&, tuple& t) {
        return std::apply(f, t);
    }
};
template <class... P>
struct entry_arguments<channel&, P...> {
    static constexpr bool takes_inbox = false;
    using parameters = types<std::decay_t<P>...>;
    using tuple = std::tuple<std::decay_t<P>...>;
    template <class F>
    static decltype(auto) call(F f, inbox& in, tuple& t) {
        return std::apply([&](auto&... a) { return f(in.creator(), a...); }, t);
    }
};
template <class... P>
struct entry_arguments<inbox&, P...> {
    static constexpr bool takes_inbox = true;
    using parameters = types<std::decay_t<P>...>;
    using tuple = std::tuple<std::decay_t<P>...>;
    template <class F>
    static decltype(auto) call(F f, inbox& in, tuple& t) {
        return std::apply([&](auto&... a) { return f(in, a...); }, t);
    }
};

template <class... P>
consteval bool all_received(types<P...>) {
    return (is_received<P> && ...);
}

template <class Entry, int Position, class T>
constexpr void explain_parameter() {
    if constexpr (std::is_base_of_v<channel, T> || std::is_base_of_v<inbox, T>) {
        PLACES_DETAIL_REFUSE(
            "the first parameter of an entry is its end, by reference: "
            "places::channel& or places::inbox&",
            cannot_travel<entry_parameter<Position, Entry>, T>);
    } else {
        explain_reception<T, entry_parameter<Position, Entry>>();
    }
}
/// Stops the build with a line for each parameter that cannot travel to a place.
template <class Entry, class... P, std::size_t... i>
constexpr void explain_parameters(types<P...>, std::index_sequence<i...>) {
    (explain_parameter<Entry, static_cast<int>(i) + 1, P>(), ...);
}

template <class F>
struct entry_of;
template <class R, class... P>
struct entry_of<R (*)(P...)> : entry_arguments<P...> {
    using base = entry_arguments<P...>;
    static constexpr bool travels = all_received(typename base::parameters{});
    static_assert(std::is_void_v<R> || std::is_integral_v<R>,
                  "an entry returns nothing or its completion value, an integer");

    static int run(void* function, inbox& in) {
        if constexpr (travels) {
            typename base::tuple arguments;
            if constexpr (std::tuple_size_v < typename base::tuple >> 0) {
                auto received = in.creator().template get<typename base::tuple>();
                if (!received) {
                    throw error(received.error(), "the arguments of the place's entry: " +
                                                      received.error().message());
                }
                arguments = std::move(*received);
            }
            const auto f = reinterpret_cast<R (*)(P...)>(function);
            if constexpr (std::is_void_v<R>) {
                base::call(f, in, arguments);
                return 0;
            } else {
                return completion_value(static_cast<long long>(base::call(f, in, arguments)));
            }
        } else {
            explain_parameters<R(P...)>(
                typename base::parameters{},
                std::make_index_sequence<std::tuple_size_v<typename base::tuple>>{});
            return 1;
        }
    }
};
template <class R, class... P>
struct entry_of<R (*)(P...) noexcept> : entry_of<R (*)(P...)> {};

template <class F>
constexpr auto as_function(F f) {
    if constexpr (std::is_pointer_v<F>) {
        return f;
    } else {
        static_assert(
            requires { +f; },
            "an entry is a function or a lambda without captures: what it needs travels "
            "as arguments");
        return +f;
    }
}

}  // namespace detail

/// Makes `f` startable by name on every node that runs this program. At namespace scope:
///   inline const auto worker_entry = places::register_entry<worker>("worker");
/// A name stands for one entry of the program and its modules: places::runtime refuses a second
/// one. A header may register an entry in several source files.
template <auto Function>
registered register_entry(const char* name, const char* file = __builtin_FILE(),
                          int line = __builtin_LINE()) {
    using entry = detail::entry_of<decltype(Function)>;
    static const detail::registration node{
        name, &entry::run, reinterpret_cast<void*>(Function), entry::takes_inbox, file, line};
    return {name};
}

}  // namespace places
