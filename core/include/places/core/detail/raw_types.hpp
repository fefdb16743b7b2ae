// SPDX-License-Identifier: Apache-2.0
// Types that are sent as their memory: their fingerprints, and what the memory of one means to a
// receiver that asks for a value.
#pragma once

#include <places/core/detail/datum.hpp>
#include <places/core/detail/travels.hpp>

#include <cstring>
#include <typeinfo>

namespace places::detail {

// -- described structs --

template <class T, class Each, class... Descriptors, template <class...> class List>
constexpr void for_each_descriptor(List<Descriptors...>*, const Each& each) {
    (each(Descriptors{}), ...);
}
/// Calls `each` with the descriptor of every member, in order.
template <class T, class Each>
constexpr void for_each_member(const Each& each) {
    for_each_descriptor<T>(static_cast<members_of<T>*>(nullptr), each);
}

// -- fingerprints --

/// Labels of memory sent as it is. Those below `first_hashed` are numbers any receiver knows.
enum packed_type : std::uint16_t {
    packed_bool = 1,
    packed_char = 2,
    packed_int8 = 4,
    packed_int16 = 5,
    packed_int32 = 6,
    packed_int64 = 7,
    packed_uint8 = 8,
    packed_uint16 = 9,
    packed_uint32 = 10,
    packed_uint64 = 11,
    packed_float = 12,
    packed_double = 13,
    first_hashed = 64,
};

/// FNV-1a folded to 16 bits, kept out of the range of numbers.
/// Source: Fowler, Noll, Vo; the fold is theirs, the reserved range is ours.
std::uint16_t hashed_name(const char* name) noexcept;

// -- the raw types of this program --

/// Reads the memory of one T, at any alignment, as the value that a tree of it would be.
/// Returns: no for what no value can hold: an integer above INT64_MAX, a struct without a
///          description.
template <class T>
match value_in(const std::byte* memory, value& out) {
    constexpr shape s = shape_of<T>();
    if constexpr (s == shape::boolean) {
        out = *memory != std::byte{0};
    } else if constexpr (s == shape::enumeration) {
        return detail::value_in<std::underlying_type_t<T>>(memory, out);
    } else if constexpr (s == shape::integer || s == shape::real || s == shape::character) {
        T number;
        std::memcpy(&number, memory, sizeof number);
        if constexpr (s == shape::real) {
            out = static_cast<double>(number);
        } else if constexpr (s == shape::character) {
            out = number;
        } else {
            if constexpr (std::is_unsigned_v<T>) {
                if (static_cast<std::uint64_t>(number) >> 63 != 0) return match::no;
            }
            out = static_cast<std::int64_t>(number);
        }
    } else if constexpr (s == shape::char_array) {
        std::string_view text(reinterpret_cast<const char*>(memory), sizeof(T));
        while (!text.empty() && text.back() == '\0') text.remove_suffix(1);
        out = text;
    } else if constexpr (s == shape::array) {
        using element = typename fixed_array<T>::element;
        std::vector<value> items(fixed_array<T>::size);
        for (std::size_t i = 0; i < items.size(); ++i) {
            const auto* at = memory + i * sizeof(element);
            if (detail::value_in<element>(at, items[i]) == match::no) return match::no;
        }
        out = value::vector_of(std::move(items));
    } else if constexpr (s == shape::record) {
        // Only for the places of its members: nothing is read from it as a T.
        alignas(T) std::byte layout[sizeof(T)];
        const T& at = *reinterpret_cast<const T*>(layout);
        std::vector<value::entry> entries;
        match all = match::yes;
        for_each_member<T>([&](auto descriptor) {
            if (all == match::no) return;
            using member = member_type<T, decltype(descriptor)>;
            const auto offset =
                reinterpret_cast<const std::byte*>(std::addressof(at.*descriptor.pointer)) - layout;
            value held;
            all = detail::value_in<member>(memory + offset, held);
            entries.emplace_back(symbol{descriptor.name}, std::move(held));
        });
        if (all == match::no) return match::no;
        out = value::hash_of(std::move(entries));
    } else {
        return match::no;
    }
    return match::yes;
}

/// One per raw type that this program sends or receives and that is no number. Made before main, or
/// when the shared object that uses the type is loaded, which stays.
struct raw_type {
    raw_type(const std::type_info& its_type, std::size_t its_size,
             match (*reader)(const std::byte*, value&)) noexcept;
    const std::type_info& type;
    std::uint16_t fingerprint;
    std::size_t size;
    match (*read)(const std::byte* memory, value& out);
    const raw_type* next;
};
/// Returns: null for one that this program does not know, and for one that two of its types share.
const raw_type* find_raw_type(std::uint16_t fingerprint) noexcept;

template <class T>
inline const raw_type known_raw_type{typeid(T), sizeof(T), &value_in<T>};

/// Tells apart types of one size; long and long long share theirs. Two types may collide (one in
/// 65,000): it catches mistakes, it is not a proof.
template <class T>
std::uint16_t fingerprint() noexcept {
    constexpr shape s = shape_of<T>();
    if constexpr (s == shape::boolean) {
        return packed_bool;
    } else if constexpr (s == shape::character) {
        return packed_char;
    } else if constexpr (s == shape::integer) {
        constexpr int size_log2 = std::countr_zero(sizeof(T));
        return static_cast<std::uint16_t>((std::is_signed_v<T> ? packed_int8 : packed_uint8) +
                                          size_log2);
    } else if constexpr (s == shape::real) {
        return sizeof(T) == sizeof(double) ? packed_double : packed_float;
    } else {
        (void)&known_raw_type<T>;  // from here on this program knows the type
        static const std::uint16_t computed = hashed_name(typeid(T).name());
        return computed;
    }
}

}  // namespace places::detail
