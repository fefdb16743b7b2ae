// SPDX-License-Identifier: Apache-2.0
// Writes each shape into a tree and reads it back. Three functions with one branch per shape:
// words_of, write, read. Reading goes by structure: whatever has the parts of a T becomes one.
// Calls among them are qualified: a user's own `write` or `read` must not be found instead.
#pragma once

#include <places/core/detail/datum.hpp>
#include <places/core/detail/raw_types.hpp>

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string_view>

namespace places::detail {

template <class T>
std::size_t words_of(const T& v);
template <class T>
void write(datum_writer to, const T& v);
template <class T>
match read(datum_reader from, T& out);

/// A T to read into.
template <class T>
T blank() {
    if constexpr (std::is_default_constructible_v<T>) {
        return T{};
    } else {
        explain<T>(no_fault{});
        std::abort();
    }
}

// An empty optional is written as nothing, unless its element may be written so too.
template <class T>
inline constexpr bool may_be_nothing = shape_of<T>() == shape::nothing ||
                                       shape_of<T>() == shape::value ||
                                       shape_of<T>() == shape::optional;

// A container whose elements lie side by side and are raw goes as one block.
template <class T>
concept packable = requires(const T& c) {
    { c.data() } -> std::same_as<const typename T::value_type*>;
    requires is_raw<typename T::value_type>;
};

template <class T>
inline constexpr bool is_bits = false;
template <class Allocator>
inline constexpr bool is_bits<std::vector<bool, Allocator>> = true;

// -- described structs --

template <class T>
inline constexpr std::size_t member_count = length_of(static_cast<members_of<T>*>(nullptr));

template <class T>
constexpr std::size_t length_of_member_names() {
    std::size_t length = 0;
    for_each_member<T>(
        [&](auto descriptor) { length += std::string_view(descriptor.name).size() + 1; });
    return length;
}
template <class T>
constexpr auto joined_member_names() {
    std::array<char, length_of_member_names<T>()> names{};
    std::size_t length = 0;
    for_each_member<T>([&](auto descriptor) {
        for (const char c : std::string_view(descriptor.name)) names[length++] = c;
        ++length;
    });
    return names;
}
// A constant, since handles that are destroyed after main() still send.
template <class T>
inline constexpr auto names_of_members = joined_member_names<T>();

/// Names of all members, each followed by a zero.
template <class T>
constexpr std::string_view member_names() noexcept {
    return {names_of_members<T>.data(), names_of_members<T>.size()};
}

// -- numbers --

template <class T>
match from_number(const number& n, T& out) {
    using form = number::form;
    constexpr shape s = shape_of<T>();
    if constexpr (s == shape::enumeration) {
        auto underlying = std::underlying_type_t<T>{};
        if (from_number(n, underlying) == match::no) return match::no;
        out = static_cast<T>(underlying);
    } else if constexpr (s == shape::boolean) {
        if (n.kind != form::boolean) return match::no;
        out = n.integer != 0;
    } else if constexpr (s == shape::character) {
        if (n.kind != form::character) return match::no;
        out = static_cast<char32_t>(n.integer);
    } else if constexpr (s == shape::integer) {
        using limits = std::numeric_limits<T>;
        if (n.kind == form::integer) {
            // Compared by hand: std::in_range takes no character types.
            if (n.integer < 0 ? !std::is_signed_v<T> ||
                                    n.integer < static_cast<std::int64_t>(limits::min())
                              : static_cast<std::uint64_t>(n.integer) >
                                    static_cast<std::uint64_t>(limits::max())) {
                return match::no;
            }
            out = static_cast<T>(n.integer);
        } else if (n.kind == form::natural && std::is_same_v<std::make_unsigned_t<T>, T> &&
                   sizeof(T) == 8) {
            out = static_cast<T>(n.natural);
        } else {
            return match::no;
        }
    } else {
        static_assert(s == shape::real);
        if (n.kind == form::real) {
            // A finite number over the range of float would arrive as infinity.
            if (std::isfinite(n.real) &&
                std::abs(n.real) > static_cast<double>(std::numeric_limits<T>::max())) {
                return match::no;
            }
            out = static_cast<T>(n.real);
        } else if (n.kind == form::integer) {
            out = static_cast<T>(n.integer);
        } else {
            return match::no;
        }
    }
    return match::yes;
}

// -- elements of sequences --

/// Passes every element of a list, vector or packed block to `add`, which returns match::no to
/// refuse it.
template <class Element, class Add>
match read_elements(datum_reader from, const Add& add) {
    const datum_kind kind = from.kind();
    if (kind == datum_kind::list || kind == datum_kind::vector) {
        const datum_list_reader list = from.as_list();
        for (std::size_t i = 0; i < list.size(); ++i) {
            Element element = blank<Element>();
            if (detail::read(list[i], element) == match::no) return match::no;
            if (add(std::move(element)) == match::no) return match::no;
        }
        return match::yes;
    }
    if (kind != datum_kind::packed) return match::no;

    const packed_view packed = from.as_packed();
    constexpr shape s = shape_of<Element>();
    if constexpr (is_raw<Element> && s != shape::boolean && !std::is_array_v<Element>) {
        if (packed.type == fingerprint<Element>() &&
            packed.elements.size() % sizeof(Element) == 0) {
            for (std::size_t at = 0; at < packed.elements.size(); at += sizeof(Element)) {
                Element element = blank<Element>();
                std::memcpy(static_cast<void*>(&element), &packed.elements[at], sizeof element);
                if (add(std::move(element)) == match::no) return match::no;
            }
            return match::yes;
        }
    }
    if constexpr (s == shape::value) {
        std::vector<value> all;
        if (values_of(packed, all) == match::no) return match::no;
        for (value& each : all) {
            if (add(std::move(each)) == match::no) return match::no;
        }
        return match::yes;
    } else if constexpr (s == shape::boolean || s == shape::character || s == shape::integer ||
                         s == shape::real || s == shape::enumeration) {
        const std::size_t size = packed.number_bytes();
        if (size == 0 || packed.elements.size() % size != 0) return match::no;
        for (std::size_t i = 0; i < packed.elements.size() / size; ++i) {
            Element element = blank<Element>();
            if (from_number(packed.at(i), element) == match::no) return match::no;
            if (add(std::move(element)) == match::no) return match::no;
        }
        return match::yes;
    } else {
        return match::no;
    }
}

// One copy, when the block holds exactly these elements. Not for bool: an octet that is neither 0
// nor 1 must not become one.
template <class Element>
inline bool is_block_of(const packed_view& packed) {
    return shape_of<Element>() != shape::boolean && packed.type == fingerprint<Element>() &&
           packed.elements.size() % sizeof(Element) == 0;
}

template <class T>
match read_array(datum_reader from, T& out) {
    using element = typename fixed_array<T>::element;
    constexpr std::size_t size = fixed_array<T>::size;
    const datum_kind kind = from.kind();
    if constexpr (is_raw<T> && size != 0) {
        if (kind == datum_kind::packed) {
            const packed_view packed = from.as_packed();
            if (is_block_of<element>(packed)) {
                if (packed.elements.size() != size * sizeof(element)) return match::no;
                std::memcpy(static_cast<void*>(&out), packed.elements.data(),
                            size * sizeof(element));
                return match::yes;
            }
        }
    }
    if constexpr (std::is_array_v<element>) {
        if (kind != datum_kind::vector && kind != datum_kind::list) return match::no;
        const datum_list_reader list = from.as_list();
        if (list.size() != size) return match::no;
        for (std::size_t i = 0; i < size; ++i) {
            if (detail::read(list[i], out[i]) == match::no) return match::no;
        }
        return match::yes;
    } else {
        std::size_t count = 0;
        const match all = read_elements<element>(from, [&](element&& e) {
            if (count == size) return match::no;
            out[count++] = std::move(e);
            return match::yes;
        });
        return all == match::yes && count == size ? match::yes : match::no;
    }
}

template <class T>
match read_sequence(datum_reader from, T& out) {
    using element = typename T::value_type;
    out.clear();
    if constexpr (packable<T> && requires { out.resize(std::size_t{}); }) {
        if (from.kind() == datum_kind::packed) {
            const packed_view packed = from.as_packed();
            if (is_block_of<element>(packed)) {
                out.resize(packed.elements.size() / sizeof(element));
                if (!out.empty()) {
                    std::memcpy(static_cast<void*>(out.data()), packed.elements.data(),
                                packed.elements.size());
                }
                return match::yes;
            }
        }
    }
    return read_elements<element>(from, [&](element&& e) {
        out.insert(out.end(), std::move(e));
        return match::yes;
    });
}

template <class T>
match read_map(datum_reader from, T& out) {
    if (from.kind() != datum_kind::hash) return match::no;
    out.clear();
    const datum_list_reader list = from.as_list();
    for (std::size_t i = 0; i + 1 < list.size(); i += 2) {
        auto key = blank<typename T::key_type>();
        auto mapped = blank<typename T::mapped_type>();
        if (detail::read(list[i], key) == match::no) return match::no;
        if (detail::read(list[i + 1], mapped) == match::no) return match::no;
        out.emplace(std::move(key), std::move(mapped));
    }
    return match::yes;
}

template <class T>
match read_record(datum_reader from, T& out) {
    if (from.kind() != datum_kind::record) return match::no;
    const record_view record = from.as_record();
    const bool in_order =
        record.names == member_names<T>() && record.fields.size() == member_count<T>;
    match all = match::yes;
    std::size_t position = 0;
    for_each_member<T>([&](auto descriptor) {
        auto& member = out.*descriptor.pointer;
        const std::size_t at = in_order ? position++ : record.find(descriptor.name);
        if (all == match::no) return;
        if (at < record.fields.size()) {
            all = detail::read(record.fields[at], member);
        } else if constexpr (is_a<std::remove_cvref_t<decltype(member)>, std::optional>) {
            member.reset();
        } else {
            all = match::no;
        }
    });
    return all;
}

template <class T, std::size_t... i>
match read_tuple(const datum_list_reader& list, T& out, std::index_sequence<i...>) {
    if (list.size() != sizeof...(i)) return match::no;
    const bool all = ((detail::read(list[i], std::get<i>(out)) == match::yes) && ...);
    return all ? match::yes : match::no;
}

template <class T, std::size_t... i>
match read_alternative(const variant_view& v, T& out, std::index_sequence<i...>) {
    match all = match::no;
    (void)((v.index == i && [&] {
        auto held = blank<std::variant_alternative_t<i, T>>();
        all = detail::read(v.held, held);
        if (all == match::yes) out.template emplace<i>(std::move(held));
        return true;
    }()) || ...);
    return all;
}

// -- the three functions --

/// Words of what the pointer of `v`'s Datum leads to.
template <class T>
std::size_t words_of(const T& v) {
    constexpr shape s = shape_of<T>();
    if constexpr (s == shape::symbol) {
        return words_of_octets(v.name.size());
    } else if constexpr (s == shape::text || s == shape::octet_vector || s == shape::octet_span) {
        return words_of_octets(v.size());
    } else if constexpr (s == shape::opaque || s == shape::char_array ||
                         (s == shape::array && is_raw<T>)) {
        return words_of_octets(sizeof(T));
    } else if constexpr (s == shape::optional) {
        constexpr bool listed = may_be_nothing<typename T::value_type>;
        if (!v) return listed ? words_of_list(0) : 0;
        return (listed ? words_of_list(1) : 0) + detail::words_of(*v);
    } else if constexpr (s == shape::variant) {
        return datum_words +
               std::visit([](const auto& held) { return detail::words_of(held); }, v);
    } else if constexpr (s == shape::tuple) {
        std::size_t words = words_of_list(std::tuple_size_v<T>);
        std::apply([&](const auto&... each) { ((words += detail::words_of(each)), ...); }, v);
        return words;
    } else if constexpr (s == shape::array || (s == shape::sequence && !packable<T>)) {
        if constexpr (is_bits<T>) {
            return words_of_octets(v.size());
        } else {
            std::size_t words = words_of_list(std::size(v));
            for (const auto& each : v) words += detail::words_of(each);
            return words;
        }
    } else if constexpr (s == shape::sequence) {
        return words_of_octets(v.size() * sizeof(typename T::value_type));
    } else if constexpr (s == shape::map) {
        std::size_t words = words_of_list(2 * v.size());
        for (const auto& [key, mapped] : v) {
            words += detail::words_of(key) + detail::words_of(mapped);
        }
        return words;
    } else if constexpr (s == shape::record) {
        std::size_t words = record_words + words_of_octets(member_names<T>().size()) +
                            words_of_list(member_count<T>);
        for_each_member<T>(
            [&](auto descriptor) { words += detail::words_of(v.*descriptor.pointer); });
        return words;
    } else {
        return 0;
    }
}

template <class T>
void write(datum_writer to, const T& v) {
    constexpr shape s = shape_of<T>();
    static_assert(s != shape::refused && s != shape::value);
    if constexpr (s == shape::nothing) {
        to.set_nothing();
    } else if constexpr (s == shape::boolean) {
        to.set_boolean(v);
    } else if constexpr (s == shape::integer && std::is_signed_v<T>) {
        to.set_integer(v);
    } else if constexpr (s == shape::integer) {
        to.set_natural(v);
    } else if constexpr (s == shape::real) {
        to.set_real(v);
    } else if constexpr (s == shape::character) {
        to.set_character(v);
    } else if constexpr (s == shape::enumeration) {
        detail::write(to, static_cast<std::underlying_type_t<T>>(v));
    } else if constexpr (s == shape::symbol) {
        to.set_symbol(v.name);
    } else if constexpr (s == shape::text) {
        to.set_text(v);
    } else if constexpr (s == shape::char_array) {
        // Trailing zeros are padding, of a literal as of a member: the reader puts them back.
        std::string_view text(v, sizeof v);
        while (!text.empty() && text.back() == '\0') text.remove_suffix(1);
        to.set_text(text);
    } else if constexpr (s == shape::octet_vector || s == shape::octet_span) {
        to.set_octets(v);
    } else if constexpr (s == shape::optional) {
        if constexpr (may_be_nothing<typename T::value_type>) {
            auto list = to.set_list(v ? 1 : 0);
            if (v) detail::write(list[0], *v);
        } else if (v) {
            detail::write(to, *v);
        } else {
            to.set_nothing();
        }
    } else if constexpr (s == shape::variant) {
        auto held_writer = to.set_variant(static_cast<std::uint16_t>(v.index()));
        std::visit([&](const auto& held) { detail::write(held_writer, held); }, v);
    } else if constexpr (s == shape::tuple) {
        auto list = to.set_list(std::tuple_size_v<T>);
        std::size_t i = 0;
        std::apply([&](const auto&... each) { (detail::write(list[i++], each), ...); }, v);
    } else if constexpr (s == shape::duration) {
        detail::write(to, v.count());
    } else if constexpr (s == shape::opaque) {
        std::memcpy(to.set_packed(fingerprint<T>(), sizeof v), &v, sizeof v);
    } else if constexpr (s == shape::array && is_raw<T>) {
        using element = typename fixed_array<T>::element;
        constexpr std::size_t size = fixed_array<T>::size * sizeof(element);
        std::byte* const block = to.set_packed(fingerprint<element>(), size);
        if constexpr (size != 0) std::memcpy(block, &v, size);
    } else if constexpr (s == shape::sequence && packable<T>) {
        using element = typename T::value_type;
        const std::size_t size = v.size() * sizeof(element);
        std::byte* const block = to.set_packed(fingerprint<element>(), size);
        if (size != 0) std::memcpy(block, v.data(), size);
    } else if constexpr (is_bits<T>) {
        std::byte* block = to.set_packed(packed_bool, v.size());
        for (const bool bit : v) *block++ = std::byte{bit};
    } else if constexpr (s == shape::array || s == shape::sequence) {
        // What can be indexed is a vector to Racket, the rest a list.
        constexpr bool indexed = s == shape::array || requires { v[std::size_t{}]; };
        auto list = indexed ? to.set_vector(std::size(v)) : to.set_list(std::size(v));
        std::size_t i = 0;
        for (const auto& each : v) detail::write(list[i++], each);
    } else if constexpr (s == shape::map) {
        auto list = to.set_hash(v.size());
        std::size_t i = 0;
        for (const auto& [key, mapped] : v) {
            detail::write(list[i++], key);
            detail::write(list[i++], mapped);
        }
    } else {
        static_assert(s == shape::record);
        auto fields = to.set_record(member_names<T>(), member_count<T>);
        std::size_t i = 0;
        for_each_member<T>(
            [&](auto descriptor) { detail::write(fields[i++], v.*descriptor.pointer); });
    }
}

template <class T>
match read(datum_reader from, T& out) {
    constexpr shape s = shape_of<T>();
    static_assert(s != shape::refused && s != shape::octet_span && s != shape::value);
    if constexpr (s == shape::nothing) {
        return from.kind() == datum_kind::nothing ? match::yes : match::no;
    } else if constexpr (s == shape::boolean || s == shape::character || s == shape::integer ||
                         s == shape::real || s == shape::enumeration) {
        return from.is_number() ? from_number(from.as_number(), out) : match::no;
    } else if constexpr (s == shape::symbol) {
        if (from.kind() != datum_kind::symbol) return match::no;
        out.name = from.as_text();
        return match::yes;
    } else if constexpr (s == shape::text) {
        if (from.kind() != datum_kind::text) return match::no;
        out = from.as_text();
        return match::yes;
    } else if constexpr (s == shape::char_array) {
        if (from.kind() != datum_kind::text) return match::no;
        const std::string_view text = from.as_text();
        if (text.size() > sizeof out) return match::no;
        std::memset(out, 0, sizeof out);
        text.copy(out, text.size());
        return match::yes;
    } else if constexpr (s == shape::octet_vector) {
        if (from.kind() != datum_kind::octets) return match::no;
        const auto octets = from.as_octets();
        out.assign(octets.begin(), octets.end());
        return match::yes;
    } else if constexpr (s == shape::optional) {
        using element = typename T::value_type;
        out.reset();
        if constexpr (may_be_nothing<element>) {
            if (from.kind() != datum_kind::list) return match::no;
            const datum_list_reader list = from.as_list();
            if (list.size() == 0) return match::yes;
            if (list.size() != 1) return match::no;
            return detail::read(list[0], out.emplace(blank<element>()));
        } else {
            if (from.kind() == datum_kind::nothing) return match::yes;
            return detail::read(from, out.emplace(blank<element>()));
        }
    } else if constexpr (s == shape::variant) {
        if (from.kind() != datum_kind::variant) return match::no;
        return read_alternative(from.as_variant(), out,
                                std::make_index_sequence<std::variant_size_v<T>>{});
    } else if constexpr (s == shape::tuple) {
        if (from.kind() != datum_kind::list && from.kind() != datum_kind::vector) return match::no;
        return read_tuple(from.as_list(), out,
                          std::make_index_sequence<std::tuple_size_v<T>>{});
    } else if constexpr (s == shape::duration) {
        auto count = typename T::rep{};
        if (detail::read(from, count) == match::no) return match::no;
        out = T(count);
        return match::yes;
    } else if constexpr (s == shape::array) {
        return read_array(from, out);
    } else if constexpr (s == shape::sequence) {
        return read_sequence(from, out);
    } else if constexpr (s == shape::map) {
        return read_map(from, out);
    } else if constexpr (s == shape::record) {
        return read_record(from, out);
    } else {
        static_assert(s == shape::opaque);
        if (from.kind() != datum_kind::packed) return match::no;
        const packed_view packed = from.as_packed();
        if (packed.type != fingerprint<T>() || packed.elements.size() != sizeof(T)) {
            return match::no;
        }
        std::memcpy(static_cast<void*>(&out), packed.elements.data(), sizeof(T));
        return match::yes;
    }
}

// -- whole trees --

/// `out` unless `parsed` failed. In place, as a bool or an errc could be taken for either.
template <class T>
result<T> outcome(const result<void>& parsed, T&& out) {
    if (parsed.has_error()) return result<T>(boost::system::in_place_error, parsed.error());
    return result<T>(boost::system::in_place_value, std::move(out));
}

/// Always the tree, even of a type that a message would carry raw.
template <class T>
bytes encode_datum(const T& v) {
    return build(
        detail::words_of(v),
        [](datum_writer root, const void* context) {
            detail::write(root, *static_cast<const T*>(context));
        },
        &v);
}

template <class T>
result<T> decode_datum(std::span<const std::byte> message) {
    T out = blank<T>();
    const result<void> parsed = parse(
        message,
        [](datum_reader root, void* context) {
            return detail::read(root, *static_cast<T*>(context));
        },
        &out);
    return outcome(parsed, std::move(out));
}

/// The arguments of an entry or a call, as one tree: a list.
template <class... Arguments>
bytes encode_arguments(const Arguments&... arguments) {
    const auto fill = [&](datum_list_writer list) {
        std::size_t i = 0;
        (detail::write(list[i++], arguments), ...);
        (void)list, (void)i;
    };
    return build(
        (detail::words_of(arguments) + ... + words_of_list(sizeof...(Arguments))),
        [](datum_writer root, const void* context) {
            (*static_cast<decltype(fill)*>(context))(root.set_list(sizeof...(Arguments)));
        },
        &fill);
}

/// Returns: as many values of just these types | wrong_type | corrupt.
template <class... Arguments>
result<std::tuple<Arguments...>> decode_arguments(std::span<const std::byte> message) {
    return decode_datum<std::tuple<Arguments...>>(message);
}

}  // namespace places::detail
