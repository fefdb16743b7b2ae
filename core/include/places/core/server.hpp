// SPDX-License-Identifier: Apache-2.0
// Servers: a class whose public methods others call, one instance per place.
//
//   struct tuple_server {
//       places::value set(std::string key, places::value v);
//       void hello();
//     private: std::unordered_map<std::string, places::value> table_;
//   };
//   PLACES_NAMED_SERVER(tuple_server, (rpc, set), (cast, hello))
//
// An rpc waits for its result; a cast sends and goes on. Calls to one server run one after the
// other, in the order in which they arrive. Parameters and results are message types; of a result
// that is a reference the caller gets a copy of what it refers to.
#pragma once

#include <places/core/detail/call.hpp>
#include <places/core/detail/for_each.hpp>
#include <places/core/entry.hpp>
#include <places/core/place.hpp>

#include <array>
#include <concepts>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace places {

namespace detail {

template <class M>
struct method_of;
template <class S, class R, class... P>
struct method_of<R (S::*)(P...)> {
    using server = S;
    using result_type = std::decay_t<R>;  // a reference is answered by what it refers to
    using declared = types<P...>;
    using arguments = std::tuple<std::decay_t<P>...>;
};
template <class S, class R, class... P>
struct method_of<R (S::*)(P...) const> : method_of<R (S::*)(P...)> {};
template <class S, class R, class... P>
struct method_of<R (S::*)(P...) noexcept> : method_of<R (S::*)(P...)> {};
template <class S, class R, class... P>
struct method_of<R (S::*)(P...) const noexcept> : method_of<R (S::*)(P...)> {};

template <class P>
inline constexpr bool is_written =
    std::is_lvalue_reference_v<P> && !std::is_const_v<std::remove_reference_t<P>>;
template <class R>
consteval bool is_answer() {
    if constexpr (std::is_void_v<R>)
        return true;
    else
        return is_received<R>;
}

template <class R, class... P>
consteval bool call_travels(types<P...>) {
    return ((is_received<std::decay_t<P>> && !is_written<P>)&&...) && is_answer<R>();
}
template <auto M>
inline constexpr bool method_travels = call_travels<typename method_of<decltype(M)>::result_type>(
    typename method_of<decltype(M)>::declared{});

template <auto M, int Position, class P>
constexpr void explain_method_parameter() {
    if constexpr (is_written<P>) {
        PLACES_DETAIL_REFUSE(
            "what a method writes into its parameter does not travel back: take it "
            "by value or const reference, and return the result",
            cannot_travel<method_parameter<Position, M>, P>);
    } else {
        explain_reception<std::decay_t<P>, method_parameter<Position, M>>();
    }
}
template <auto M, class... P, std::size_t... i>
constexpr void explain_method_parameters(types<P...>, std::index_sequence<i...>) {
    (explain_method_parameter<M, static_cast<int>(i) + 1, P>(), ...);
}
/// Stops the build with a line for each parameter and result that cannot travel.
template <auto M>
constexpr void explain_method() {
    using traits = method_of<decltype(M)>;
    explain_method_parameters<M>(
        typename traits::declared{},
        std::make_index_sequence<std::tuple_size_v<typename traits::arguments>>{});
    if constexpr (!is_answer<typename traits::result_type>()) {
        explain_reception<typename traits::result_type, method_result<M>>();
    }
}

/// One method as the server's loop sees it.
template <class S>
struct method {
    const char* name;
    message (*run)(S& server, const request& call);
};

template <auto M, class S>
message run_method(S& server, const request& call) {
    using traits = method_of<decltype(M)>;
    if constexpr (!method_travels<M>) {
        explain_method<M>();
        return {};
    } else {
        auto arguments = parsed_arguments(call, static_cast<typename traits::arguments*>(nullptr));
        const auto invoke = [&]() -> decltype(auto) {
            return std::apply(
                [&](auto&... a) -> decltype(auto) { return (server.*M)(std::move(a)...); },
                arguments);
        };
        if constexpr (std::is_void_v<typename traits::result_type>) {
            invoke();
            return make_void_reply(call.id());
        } else {
            return make_reply(call.id(), invoke());
        }
    }
}

/// Throws: error{wrong_type} naming the method when number or types differ.
[[noreturn]] void refuse_arguments(const request& call,
                                   std::initializer_list<const std::type_info*> parameters);
/// Throws: error{why} naming the method, what it returns and what came.
[[noreturn]] void refuse_result(const char* what, const reply& answer,
                                boost::system::error_code why, const std::type_info& wanted);
template <class... A>
std::tuple<A...> parsed_arguments(const request& call, std::tuple<A...>*) {
    auto parsed = call.template arguments<A...>();
    if (!parsed) refuse_arguments(call, {&typeid(A)...});
    return std::move(*parsed);
}

/// Receives calls until nobody can make one, and answers each. An exception in a method becomes
/// its caller's remote_error; the server lives on. `run` answers one call.
int serve(inbox& in, const char* server_name,
          message (*run)(void* server, const request& call), void* server);

/// The client's side of a channel to a server: numbers requests, matches replies. A reply to a call
/// that nobody waits for any more, since its body was unwound, is dropped.
/// Thread: one at a time; several bodies of one router may have calls under way.
class caller {
  public:
    std::uint64_t next_id() noexcept { return next_id_++; }
    /// Throws: remote_error; error with the channel's outcome, naming `what`.
    reply call(channel& to, const char* what, std::uint64_t id, const message& m);
    void cast(channel& to, const char* what, const message& m);

  private:
    std::uint64_t next_id_ = 1;
    // By the number of each call under way: its answer, where another body has taken that.
    std::map<std::uint64_t, std::optional<reply>> calls_;
};

/// Of a class that no server macro has declared.
struct no_server_definition {
    template <class Client>
    struct calls {};
    static constexpr const char* name = "";
    static constexpr bool is_named = false;
};
no_server_definition places_server_definition(...);

template <class S>
constexpr auto definition_of() {
    using declared = decltype(places_server_definition(static_cast<S*>(nullptr)));
    if constexpr (std::is_same_v<declared, no_server_definition>) {
        PLACES_DETAIL_REFUSE(
            "no server macro declares this class: add PLACES_NAMED_SERVER(class, "
            "(rpc, method), (cast, method)) or PLACES_SERVER after it, in its "
            "namespace",
            not_declared_server<S>);
    }
    return std::type_identity<declared>{};
}

}  // namespace detail

/// What a server macro has declared of S.
template <class S>
using server_definition = typename decltype(detail::definition_of<S>())::type;

/// A typed stub over a channel to a server S: has S's methods, with S's argument types.
/// `Link` is what it holds: a channel, or the place itself. Without one, since it was moved from,
/// each call throws error{bad_argument}.
/// A call throws remote_error with the text of an exception in the body, and places::error with
/// peer_dead, closed, node_down or too_large when there was no answer.
/// Blocks: an rpc until answered; inside a router body that body only.
template <class S, class Link = channel>
class client : public server_definition<S>::template calls<client<S, Link>> {
  public:
    explicit client(Link link) noexcept : link_(std::move(link)) {}
    Link& link() noexcept { return link_; }

    /// For the stubs that the server macros make.
    template <auto M, bool HasReply, class... A>
    auto places_call(const char* what, const char* method, A&&... a) ->
        typename detail::method_of<decltype(M)>::result_type {
        using traits = detail::method_of<decltype(M)>;
        if constexpr (!detail::method_travels<M>) {
            std::abort();  // does not compile: run_method() says why
        } else {
            const typename traits::arguments arguments{std::forward<A>(a)...};
            const auto id = HasReply ? caller_.next_id() : 0;
            const auto request = std::apply(
                [&](const auto&... each) { return detail::make_request(id, method, each...); },
                arguments);
            if constexpr (HasReply) {
                const auto answer = caller_.call(link_, what, id, request);
                auto v = answer.template as<typename traits::result_type>();
                if (!v) {
                    detail::refuse_result(what, answer, v.error(),
                                          typeid(typename traits::result_type));
                }
                if constexpr (!std::is_void_v<typename traits::result_type>) return std::move(*v);
            } else if constexpr (std::is_void_v<typename traits::result_type>) {
                caller_.cast(link_, what, request);
            } else {
                PLACES_DETAIL_REFUSE("a cast returns nothing: make the method an rpc, or void",
                                     detail::method_result<M>);
                std::abort();
            }
        }
    }

  private:
    Link link_;
    detail::caller caller_;
};

namespace detail {

template <class S>
int run_server(void*, inbox& in) {
    S server{};
    return serve(
        in, server_definition<S>::name,
        [](void* s, const request& call) {
            auto& self = *static_cast<S*>(s);
            for (const auto& m : server_definition<S>::methods()) {
                if (call.method() == m.name) return m.run(self, call);
            }
            throw error(errc::bad_argument, std::string(server_definition<S>::name) +
                                                " has no method " + std::string(call.method()));
        },
        &server);
}

template <class S>
registered register_server(const char* file, int line) {
    using definition = server_definition<S>;
    static const registration node{
        definition::name, &run_server<S>, nullptr, definition::is_named, file, line};
    return {server_definition<S>::name};
}

}  // namespace detail

/// Starts a place of this node that serves S.
/// Throws: as spawn; not_a_connection when a PLACES_SERVER is given a name.
template <class S>
client<S, place> spawn_server(const spawn_options& options = {}) {
    return client<S, place>{spawn(registered{server_definition<S>::name}, options)};
}

/// A new connection to the local server of that name.
template <class S>
client<S> connect_to_named_place(const std::string& name,
                                 std::size_t ring_bytes = ring_bytes_default) {
    return client<S>{connect_to_named_place(name, ring_bytes)};
}

}  // namespace places

/// Makes S a server that only its creator calls. Methods: (rpc, name) or (cast, name).
/// In the namespace of S, in a header or a source file.
#define PLACES_SERVER(S, ...) PLACES_DETAIL_SERVER(S, false, __VA_ARGS__)
/// Makes S a server that can be given a name; replies go to whoever asked.
#define PLACES_NAMED_SERVER(S, ...) PLACES_DETAIL_SERVER(S, true, __VA_ARGS__)

// -- bodies --

#define PLACES_DETAIL_SERVER(S, named, ...)                                                    \
    template <class Client>                                                                    \
    struct S##_calls {                                                                         \
        PLACES_DETAIL_FOR_EACH(PLACES_DETAIL_STUB, S, __VA_ARGS__)                             \
    };                                                                                         \
    struct S##_definition {                                                                    \
        template <class Client>                                                                \
        using calls = S##_calls<Client>;                                                       \
        static constexpr const char* name = #S;                                                \
        static constexpr bool is_named = named;                                                \
        static constexpr auto methods() {                                                      \
            return std::to_array<::places::detail::method<S>>(                                 \
                {PLACES_DETAIL_FOR_EACH(PLACES_DETAIL_METHOD, S, __VA_ARGS__)});               \
        }                                                                                      \
    };                                                                                         \
    S##_definition places_server_definition(S*);                                               \
    inline const ::places::registered S##_entry =                                              \
        ::places::detail::register_server<S>(__FILE__, __LINE__);

#define PLACES_DETAIL_STUB(S, pair) PLACES_DETAIL_STUB_I(S, PLACES_DETAIL_UNPAIR pair)
#define PLACES_DETAIL_STUB_I(S, ...) PLACES_DETAIL_STUB_II(S, __VA_ARGS__)
#define PLACES_DETAIL_STUB_II(S, how, m)                                                       \
    template <class... A>                                                                      \
        requires std::invocable<decltype(&S::m), S&, A...>                                     \
    auto m(A&&... a) {                                                                         \
        return static_cast<Client&>(*this)                                                     \
            .template places_call<&S::m, PLACES_DETAIL_REPLY_##how>(#S "::" #m, #m,            \
                                                                    std::forward<A>(a)...);    \
    }
#define PLACES_DETAIL_METHOD(S, pair) PLACES_DETAIL_METHOD_I(S, PLACES_DETAIL_UNPAIR pair)
#define PLACES_DETAIL_METHOD_I(S, ...) PLACES_DETAIL_METHOD_II(S, __VA_ARGS__)
#define PLACES_DETAIL_METHOD_II(S, how, m) {#m, &::places::detail::run_method<&S::m, S>},
#define PLACES_DETAIL_REPLY_rpc true
#define PLACES_DETAIL_REPLY_cast false
