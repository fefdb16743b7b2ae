// SPDX-License-Identifier: Apache-2.0
// Applies a macro to each of up to some hundred arguments, through __VA_OPT__.
#pragma once

#define PLACES_DETAIL_UNPAIR(a, b) a, b
#define PLACES_DETAIL_PARENS ()
#define PLACES_DETAIL_EXPAND(...) \
    PLACES_DETAIL_EXPAND3(PLACES_DETAIL_EXPAND3(PLACES_DETAIL_EXPAND3(__VA_ARGS__)))
#define PLACES_DETAIL_EXPAND3(...) \
    PLACES_DETAIL_EXPAND2(PLACES_DETAIL_EXPAND2(PLACES_DETAIL_EXPAND2(__VA_ARGS__)))
#define PLACES_DETAIL_EXPAND2(...) \
    PLACES_DETAIL_EXPAND1(PLACES_DETAIL_EXPAND1(PLACES_DETAIL_EXPAND1(__VA_ARGS__)))
#define PLACES_DETAIL_EXPAND1(...) __VA_ARGS__

#define PLACES_DETAIL_FOR_EACH(macro, data, ...) \
    __VA_OPT__(PLACES_DETAIL_EXPAND(PLACES_DETAIL_EACH(macro, data, __VA_ARGS__)))
#define PLACES_DETAIL_EACH(macro, data, first, ...) \
    macro(data, first)                              \
    __VA_OPT__(PLACES_DETAIL_EACH_AGAIN PLACES_DETAIL_PARENS(macro, data, __VA_ARGS__))
#define PLACES_DETAIL_EACH_AGAIN() PLACES_DETAIL_EACH
