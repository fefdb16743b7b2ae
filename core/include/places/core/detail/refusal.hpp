// SPDX-License-Identifier: Apache-2.0
// How the compiler is made to say in one line what is wrong, with which type, and what to do.
#pragma once

#include <cstddef>

namespace places::detail {

/// A text as a template argument, which g++ prints.
template <std::size_t n>
struct refusal_text {
    char characters[n]{};
    consteval refusal_text(const char (&literal)[n]) {
        for (std::size_t i = 0; i < n; ++i) characters[i] = literal[i];
    }
};

/// g++ prints the template arguments of a deleted function in the error's own line.
template <refusal_text Why, class What>
void refused() = delete;
/// clang 14 prints texts as numbers, but the types of a failed requirement in the error's own line.
template <class What>
inline constexpr bool compiles = false;

// What is wrong, and where; only ever named.
template <class... Where>
struct cannot_travel;
template <class T>
struct has_no_default_constructor;
template <auto Pointer>
struct described_member;
template <int Position, auto Method>
struct method_parameter;
template <auto Method>
struct method_result;
template <int Position, class Entry>
struct entry_parameter;
template <int Position, class Type>
struct missing_argument;
template <int Position, class Type>
struct surplus_argument;
template <int Position, class From, class To>
struct not_convertible_argument;
template <class S>
struct not_declared_server;

}  // namespace places::detail

/// In a function template: `why` is a literal, the rest is the type of what is wrong.
#ifdef __clang__
#define PLACES_DETAIL_REFUSE(why, ...) static_assert(::places::detail::compiles<__VA_ARGS__>, why)
#else
#define PLACES_DETAIL_REFUSE(why, ...) ::places::detail::refused<why, __VA_ARGS__>()
#endif
