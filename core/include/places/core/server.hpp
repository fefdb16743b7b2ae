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
// other, in the order in which they arrive.
#pragma once

#include <places/core/detail/call.hpp>
#include <places/core/detail/for_each.hpp>
#include <places/core/entry.hpp>
#include <places/core/place.hpp>

#include <array>
#include <concepts>
#include <cstdint>
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
    using result_type = R;
    using arguments = std::tuple<std::decay_t<P>...>;
};
template <class S, class R, class... P>
struct method_of<R (S::*)(P...) const> : method_of<R (S::*)(P...)> {};
template <class S, class R, class... P>
struct method_of<R (S::*)(P...) noexcept> : method_of<R (S::*)(P...)> {};
template <class S, class R, class... P>
struct method_of<R (S::*)(P...) const noexcept> : method_of<R (S::*)(P...)> {};

/// One method as the server's loop sees it.
template <class S>
struct method {
    const char* name;
    message (*run)(S& server, const request& call);
};

template <auto M, class S>
message run_method(S& server, const request& call) {
    using traits = method_of<decltype(M)>;
    auto arguments = parsed_arguments(call, static_cast<typename traits::arguments*>(nullptr));
    const auto invoke = [&]() -> decltype(auto) {
        return std::apply(
            [&](auto&... a) -> decltype(auto) { return (server.*M)(std::move(a)...); }, arguments);
    };
    if constexpr (std::is_void_v<typename traits::result_type>) {
        invoke();
        return make_void_reply(call.id());
    } else {
        return make_reply(call.id(), invoke());
    }
}

/// Throws: error{wrong_type} naming the method when number or types differ.
[[noreturn]] void refuse_arguments(const request& call, std::size_t wanted);
template <class... A>
std::tuple<A...> parsed_arguments(const request& call, std::tuple<A...>*) {
    auto parsed = call.template arguments<A...>();
    if (!parsed) refuse_arguments(call, sizeof...(A));
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

}  // namespace detail

/// A typed stub over a channel to a server S: has S's methods, with S's argument types.
/// `Link` is what it holds: a channel, or the place itself.
/// A call throws remote_error with the text of an exception in the body, and places::error with
/// peer_dead, closed, node_down or too_large when there was no answer.
/// Blocks: an rpc until answered; inside a router body that body only.
template <class S, class Link = channel>
class client
    : public decltype(places_server_definition(static_cast<S*>(nullptr)))::template calls<
          client<S, Link>> {
  public:
    explicit client(Link link) noexcept : link_(std::move(link)) {}
    Link& link() noexcept { return link_; }

    /// For the stubs that the server macros make.
    template <auto M, bool HasReply, class... A>
    auto places_call(const char* what, const char* method, A&&... a) ->
        typename detail::method_of<decltype(M)>::result_type {
        using traits = detail::method_of<decltype(M)>;
        const typename traits::arguments arguments{std::forward<A>(a)...};
        const auto id = HasReply ? caller_.next_id() : 0;
        const auto request = std::apply(
            [&](const auto&... each) { return detail::make_request(id, method, each...); },
            arguments);
        if constexpr (!HasReply) {
            static_assert(std::is_void_v<typename traits::result_type>, "a cast returns nothing");
            caller_.cast(link_, what, request);
        } else {
            const auto answer = caller_.call(link_, what, id, request);
            auto v = answer.template as<typename traits::result_type>();
            if (!v) throw error(v.error(), std::string(what) + ": the reply has another type");
            if constexpr (!std::is_void_v<typename traits::result_type>) return std::move(*v);
        }
    }

  private:
    Link link_;
    detail::caller caller_;
};

/// What a server macro has declared of S.
template <class S>
using server_definition = decltype(places_server_definition(static_cast<S*>(nullptr)));

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
registered register_server() {
    static const registration node{server_definition<S>::name, &run_server<S>, nullptr,
                                   server_definition<S>::is_named};
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
    inline const ::places::registered S##_entry = ::places::detail::register_server<S>();

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
