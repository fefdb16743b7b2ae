// SPDX-License-Identifier: Apache-2.0
// What may travel, and in which form, decided once per type at compile time.
// Containers are recognised by what they offer, not by name: no container header is included,
// and those of other libraries travel too.
#pragma once

#include <places/core/detail/refusal.hpp>
#include <places/core/value.hpp>

#include <boost/describe/bases.hpp>
#include <boost/describe/members.hpp>

#include <array>
#include <bit>
#include <optional>
#include <span>
#include <tuple>

// Raw messages and packed numbers are memory as it is: both ends must agree on the order of bytes.
static_assert(std::endian::native == std::endian::little);

namespace places::detail {

/// How a type is written into a tree. `opaque` is a trivially copyable class without a
/// description: its memory, labelled with its fingerprint.
enum class shape {
    refused,
    nothing,
    boolean,
    integer,
    real,
    character,
    enumeration,
    symbol,
    text,
    char_array,
    octet_vector,
    octet_span,
    value,
    optional,
    variant,
    tuple,
    duration,
    array,
    sequence,
    map,
    record,
    opaque,
};

template <class T, template <class...> class Template>
inline constexpr bool is_a = false;
template <template <class...> class Template, class... Arguments>
inline constexpr bool is_a<Template<Arguments...>, Template> = true;

template <class... Ts>
struct types {};
template <class T>
struct arguments_of;
template <template <class...> class Template, class... Arguments>
struct arguments_of<Template<Arguments...>> {
    using type = types<Arguments...>;
};

template <class T>
struct fixed_array {
    static constexpr bool value = false;
};
template <class T, std::size_t n>
struct fixed_array<std::array<T, n>> {
    static constexpr bool value = true;
    static constexpr std::size_t size = n;
    using element = T;
};
template <class T, std::size_t n>
struct fixed_array<T[n]> {
    static constexpr bool value = true;
    static constexpr std::size_t size = n;
    using element = T;
};

template <class T>
inline constexpr bool is_char_array = false;
template <std::size_t n>
inline constexpr bool is_char_array<char[n]> = true;

template <class T>
inline constexpr bool is_octet_span = false;
template <std::size_t extent>
inline constexpr bool is_octet_span<std::span<const std::byte, extent>> = true;

template <class T>
inline constexpr bool is_any_span = false;
template <class T, std::size_t extent>
inline constexpr bool is_any_span<std::span<T, extent>> = true;

template <class T>
inline constexpr bool is_any_string_view = false;
template <class Char, class Traits>
inline constexpr bool is_any_string_view<std::basic_string_view<Char, Traits>> = true;

/// std::reference_wrapper, without the weight of <functional>.
template <class T>
concept reference_like = requires(const T& r) {
    typename T::type;
    { r.get() } -> std::same_as<typename T::type&>;
};

/// Trivially copyable, yet only an address: the receiver would read memory it does not have.
template <class T>
concept view_like =
    std::is_pointer_v<T> || std::is_member_pointer_v<T> || std::is_null_pointer_v<T> ||
    is_any_span<T> || is_any_string_view<T> || is_a<T, std::initializer_list> ||
    reference_like<T> || requires { typename T::iterator_category; } ||
    requires { typename T::iterator_concept; };

/// A closure: what it captured by reference cannot be seen from outside.
template <class T>
concept function_like = std::is_function_v<T> || requires { &T::operator(); };

template <class T>
concept duration_like = requires(const T& d) {
    typename T::rep;
    typename T::period;
    { d.count() } -> std::same_as<typename T::rep>;
};

template <class T>
concept growing = requires(T& c, const T& k, typename T::value_type& e) {
    k.begin();
    k.end();
    { k.size() } -> std::convertible_to<std::size_t>;
    c.clear();
    c.insert(c.end(), e);
};

template <class T>
concept map_like = growing<T> && requires { typename T::mapped_type; };

template <class T>
inline constexpr bool is_described = false;
template <class T>
    requires(std::is_class_v<T> && boost::describe::has_describe_members<T>::value &&
             boost::describe::has_describe_bases<T>::value)
inline constexpr bool is_described<T> = true;

/// Every described member, those of bases first; private ones too, since describing them is
/// the permission.
template <class T>
using members_of =
    boost::describe::describe_members<T, boost::describe::mod_any_access |
                                             boost::describe::mod_inherited>;
template <class T, class Descriptor>
using member_type = std::remove_cvref_t<decltype(std::declval<T&>().*Descriptor::pointer)>;

template <class T>
consteval shape shape_of() {
    if constexpr (!std::is_same_v<T, std::remove_cvref_t<T>>) return shape::refused;
    else if constexpr (is_octet_span<T>) return shape::octet_span;
    else if constexpr (view_like<T> || function_like<T>) return shape::refused;
    else if constexpr (std::is_same_v<T, void_value> || std::is_same_v<T, std::monostate>)
        return shape::nothing;
    else if constexpr (std::is_same_v<T, bool>) return shape::boolean;
    else if constexpr (std::is_same_v<T, char32_t>) return shape::character;
    else if constexpr (std::is_integral_v<T> && sizeof(T) <= 8) return shape::integer;
    else if constexpr (std::is_floating_point_v<T> && sizeof(T) <= 8) return shape::real;
    else if constexpr (std::is_enum_v<T>) return shape::enumeration;
    else if constexpr (std::is_same_v<T, places::symbol>) return shape::symbol;
    else if constexpr (std::is_same_v<T, std::string>) return shape::text;
    else if constexpr (std::is_same_v<T, places::bytes>) return shape::octet_vector;
    else if constexpr (std::is_same_v<T, places::value>) return shape::value;
    else if constexpr (is_a<T, std::optional>) return shape::optional;
    else if constexpr (is_a<T, std::variant>) return shape::variant;
    else if constexpr (is_a<T, std::pair> || is_a<T, std::tuple>) return shape::tuple;
    else if constexpr (is_char_array<T>) return shape::char_array;
    else if constexpr (fixed_array<T>::value) return shape::array;
    else if constexpr (duration_like<T>) return shape::duration;
    else if constexpr (is_described<T>) return shape::record;
    else if constexpr (map_like<T>) return shape::map;
    else if constexpr (growing<T>) return shape::sequence;
    else if constexpr (std::is_trivially_copyable_v<T> && std::is_object_v<T> &&
                       !std::is_array_v<T>)
        return shape::opaque;
    else return shape::refused;
}

// -- which types are sent as their memory --

template <class T>
consteval bool is_raw_type();

template <class T, class... Descriptors, template <class...> class List>
consteval bool all_members_raw(List<Descriptors...>*) {
    return (is_raw_type<member_type<T, Descriptors>>() && ...);
}

template <class T>
consteval bool is_raw_type() {
    constexpr shape s = shape_of<T>();
    if constexpr (s == shape::boolean || s == shape::character || s == shape::integer ||
                  s == shape::real || s == shape::enumeration || s == shape::char_array ||
                  s == shape::opaque) {
        return true;
    } else if constexpr (s == shape::array) {
        return is_raw_type<typename fixed_array<T>::element>();
    } else if constexpr (s == shape::record && std::is_trivially_copyable_v<T>) {
        return all_members_raw<T>(static_cast<members_of<T>*>(nullptr));
    } else {
        return false;
    }
}

/// Sent as message_kind::raw, and packed when it is the element of a vector or array.
template <class T>
inline constexpr bool is_raw = is_raw_type<T>();

/// Sent as message_kind::raw when it is the whole message. A char array is then a string instead:
/// its size is the literal's, and no receiver could ask for it.
template <class T>
inline constexpr bool is_raw_message = is_raw<T> && !std::is_array_v<T>;

// -- C strings --

template <class T>
concept c_string = std::is_same_v<T, const char*> || std::is_same_v<T, char*>;

/// What is sent for a T: a std::string for a C string, also inside a pair or tuple; all else as it
/// is.
template <class T>
struct owned_form {
    using type = T;
};
template <c_string T>
struct owned_form<T> {
    using type = std::string;
};
template <class... Ts>
struct owned_form<std::tuple<Ts...>> {
    using type = std::tuple<typename owned_form<Ts>::type...>;
};
template <class First, class Second>
struct owned_form<std::pair<First, Second>> {
    using type = std::pair<typename owned_form<First>::type, typename owned_form<Second>::type>;
};
template <class T>
using owned = typename owned_form<T>::type;
/// Whether a T is sent as what it is.
template <class T>
inline constexpr bool is_owned = std::is_same_v<T, owned<T>>;

/// Throws: error{bad_argument} for a null pointer.
std::string string_of(const char* text);

template <class T>
owned<T> owned_of(const T& v) {
    if constexpr (c_string<T>) {
        return string_of(v);
    } else if constexpr (is_owned<T>) {
        return v;
    } else {
        return std::apply([](const auto&... each) { return owned<T>(owned_of(each)...); }, v);
    }
}

// -- which types travel at all --

// `Seen` holds the described types above this one: a tree whose children are trees travels if
// the rest of it does.
template <class T, class... Seen>
consteval bool travels_below(types<Seen...> seen);

template <class... Ts, class... Seen>
consteval bool all_travel(types<Ts...>, [[maybe_unused]] types<Seen...> seen) {
    return (travels_below<Ts>(seen) && ...);
}

template <class T, class... Descriptors, template <class...> class List, class Seen>
consteval bool members_travel(List<Descriptors...>*, [[maybe_unused]] Seen seen) {
    return (travels_below<member_type<T, Descriptors>>(seen) && ...);
}

template <class... Descriptors, template <class...> class List>
consteval bool all_bases_described(List<Descriptors...>*) {
    return (is_described<typename Descriptors::type> && ...);
}

template <class... Ts, template <class...> class List>
consteval std::size_t length_of(List<Ts...>*) {
    return sizeof...(Ts);
}

// A member hidden by one of the same name would be lost on the way, so such types are refused.
template <class T>
consteval bool hides_no_member() {
    using all = boost::describe::describe_members<
        T, boost::describe::mod_any_access | boost::describe::mod_inherited |
               boost::describe::mod_hidden>;
    return length_of(static_cast<all*>(nullptr)) ==
           length_of(static_cast<members_of<T>*>(nullptr));
}

template <class T, class... Seen>
consteval bool travels_below([[maybe_unused]] types<Seen...> seen) {
    constexpr shape s = shape_of<T>();
    if constexpr (s == shape::refused) {
        return false;
    } else if constexpr ((std::is_same_v<T, Seen> || ...)) {
        return true;
    } else if constexpr (s == shape::optional || s == shape::variant || s == shape::tuple) {
        return all_travel(typename arguments_of<T>::type{}, seen);
    } else if constexpr (s == shape::array) {
        return travels_below<typename fixed_array<T>::element>(seen);
    } else if constexpr (s == shape::duration) {
        return std::is_arithmetic_v<typename T::rep>;
    } else if constexpr (s == shape::sequence) {
        return travels_below<typename T::value_type>(seen);
    } else if constexpr (s == shape::map) {
        return travels_below<typename T::key_type>(seen) &&
               travels_below<typename T::mapped_type>(seen);
    } else if constexpr (s == shape::record) {
        using bases = boost::describe::describe_bases<T, boost::describe::mod_any_access>;
        if constexpr (all_bases_described(static_cast<bases*>(nullptr))) {
            return hides_no_member<T>() &&
                   members_travel<T>(static_cast<members_of<T>*>(nullptr), types<T, Seen...>{});
        } else {
            return false;
        }
    } else {
        return true;
    }
}

// char[n] is for string literals; any other bare array would lose its type on the way out.
template <class T>
inline constexpr bool travels =
    travels_below<T>(types<>{}) && (!std::is_array_v<T> || is_char_array<T>);

// -- why a type does not travel --

enum class refusal {
    pointer,
    view,
    function,
    qualified,
    array,
    duration,
    base,
    hidden_member,
    undescribed,
};

struct no_fault {};
/// The first type inside another that does not travel, and the described members that lead to it.
template <refusal Why, class Bad, class... Members>
struct fault {};

template <class T>
concept pointer_like = std::is_pointer_v<T> || std::is_member_pointer_v<T> ||
    std::is_null_pointer_v<T> || requires(const T& p) {
    p.get();
    *p;
    p.operator->();
};

template <class T>
consteval refusal refusal_of() {
    if constexpr (!std::is_same_v<T, std::remove_cvref_t<T>>)
        return refusal::qualified;
    else if constexpr (pointer_like<T>)
        return refusal::pointer;
    else if constexpr (view_like<T> || is_octet_span<T>)
        return refusal::view;
    else if constexpr (function_like<T>)
        return refusal::function;
    else if constexpr (std::is_array_v<T>)
        return refusal::array;
    else
        return refusal::undescribed;
}

/// `Received`: also what can only be sent is a fault.
template <class T, bool Received, class... Seen>
consteval auto fault_of(types<Seen...> seen);

template <class Member, refusal Why, class Bad, class... Members>
consteval fault<Why, Bad, Member, Members...> below(fault<Why, Bad, Members...>) {
    return {};
}
template <class Member>
consteval no_fault below(no_fault) {
    return {};
}

template <class First, class... Rest>
consteval auto first_of(First first, [[maybe_unused]] Rest... rest) {
    if constexpr (std::is_same_v<First, no_fault>) {
        if constexpr (sizeof...(Rest) == 0)
            return no_fault{};
        else
            return first_of(rest...);
    } else {
        return first;
    }
}

template <bool Received, class... Ts, class Seen>
consteval auto fault_among(types<Ts...>, [[maybe_unused]] Seen seen) {
    return first_of(fault_of<Ts, Received>(seen)..., no_fault{});
}

template <class T, bool Received, class... Descriptors, template <class...> class List, class Seen>
consteval auto fault_of_members(List<Descriptors...>*, [[maybe_unused]] Seen seen) {
    return first_of(below<described_member<Descriptors::pointer>>(
                        fault_of<member_type<T, Descriptors>, Received>(seen))...,
                    no_fault{});
}

template <class Base>
consteval auto fault_of_base() {
    if constexpr (is_described<Base>)
        return no_fault{};
    else
        return fault<refusal::base, Base>{};
}
template <class... Descriptors, template <class...> class List>
consteval auto fault_of_bases(List<Descriptors...>*) {
    return first_of(fault_of_base<typename Descriptors::type>()..., no_fault{});
}

template <class T, bool Received, class... Seen>
consteval auto fault_of([[maybe_unused]] types<Seen...> seen) {
    constexpr shape s = shape_of<T>();
    if constexpr (s == shape::refused || (Received && s == shape::octet_span)) {
        return fault<refusal_of<T>(), T>{};
    } else if constexpr ((std::is_same_v<T, Seen> || ...)) {
        return no_fault{};
    } else if constexpr (s == shape::optional || s == shape::variant || s == shape::tuple) {
        return fault_among<Received>(typename arguments_of<T>::type{}, seen);
    } else if constexpr (s == shape::array) {
        return fault_of<typename fixed_array<T>::element, Received>(seen);
    } else if constexpr (s == shape::duration) {
        if constexpr (std::is_arithmetic_v<typename T::rep>) return no_fault{};
        else return fault<refusal::duration, T>{};
    } else if constexpr (s == shape::sequence) {
        return fault_of<typename T::value_type, Received>(seen);
    } else if constexpr (s == shape::map) {
        return fault_among<Received>(types<typename T::key_type, typename T::mapped_type>{}, seen);
    } else if constexpr (s == shape::record) {
        using bases = boost::describe::describe_bases<T, boost::describe::mod_any_access>;
        if constexpr (!all_bases_described(static_cast<bases*>(nullptr))) {
            return fault_of_bases(static_cast<bases*>(nullptr));
        } else if constexpr (!hides_no_member<T>()) {
            return fault<refusal::hidden_member, T>{};
        } else {
            return fault_of_members<T, Received>(static_cast<members_of<T>*>(nullptr),
                                                 types<T, Seen...>{});
        }
    } else {
        return no_fault{};
    }
}

template <class T, bool Received>
consteval auto whole_fault_of() {
    if constexpr (std::is_array_v<T> && (Received || !is_char_array<T>)) {
        return fault<refusal::array, T>{};
    } else {
        return fault_of<T, Received>(types<>{});
    }
}

/// A T can come out of a message.
template <class T>
inline constexpr bool is_received = std::is_same_v<decltype(whole_fault_of<T, true>()), no_fault>&&
    std::is_default_constructible_v<T>;

template <class T, class... Where>
constexpr void explain([[maybe_unused]] no_fault f) {
    if constexpr (!std::is_default_constructible_v<T>) {
        PLACES_DETAIL_REFUSE("a type that is received needs a default constructor",
                             cannot_travel<Where..., has_no_default_constructor<T>>);
    }
}
template <class T, class... Where, refusal Why, class Bad, class... Members>
constexpr void explain(fault<Why, Bad, Members...>) {
    using what = std::conditional_t<std::is_same_v<T, Bad>, cannot_travel<Where..., T>,
                                    cannot_travel<Where..., T, Members..., Bad>>;
    if constexpr (Why == refusal::pointer) {
        PLACES_DETAIL_REFUSE(
            "a pointer means nothing to another process: send what it points to, "
            "a std::string for a const char*",
            what);
    } else if constexpr (Why == refusal::view) {
        PLACES_DETAIL_REFUSE(
            "a view or iterator means nothing to another process: use an owner, "
            "std::string for std::string_view, std::vector for std::span",
            what);
    } else if constexpr (Why == refusal::function) {
        PLACES_DETAIL_REFUSE(
            "a function object cannot travel, as it may hold references: send "
            "data, and name the function to call",
            what);
    } else if constexpr (Why == refusal::qualified) {
        PLACES_DETAIL_REFUSE("name the type itself, without const or &", what);
    } else if constexpr (Why == refusal::array) {
        PLACES_DETAIL_REFUSE(
            "a bare array cannot travel: use std::array, std::vector, or "
            "std::string",
            what);
    } else if constexpr (Why == refusal::duration) {
        PLACES_DETAIL_REFUSE("a duration travels only as an arithmetic number of its periods",
                             what);
    } else if constexpr (Why == refusal::base) {
        PLACES_DETAIL_REFUSE(
            "this base of a described class is not described itself: add "
            "BOOST_DESCRIBE_STRUCT(base, (its bases), (its members)) after it",
            what);
    } else if constexpr (Why == refusal::hidden_member) {
        PLACES_DETAIL_REFUSE(
            "a member of this described class hides one of a base that has the "
            "same name: rename one of the two",
            what);
    } else {
        PLACES_DETAIL_REFUSE(
            "this class is not described: #include <boost/describe.hpp> and add "
            "BOOST_DESCRIBE_STRUCT(class, (bases), (members)) after it, or make "
            "it trivially copyable",
            what);
    }
}

/// Stops the build with one line that names T, what inside it does not travel, and what to do.
/// `Where` names what T is of, if it is a parameter or a result.
template <class T, class... Where>
constexpr void explain_refusal() {
    explain<T, Where...>(whole_fault_of<T, false>());
}
/// The same for a T that is to be received: what can only be sent is refused too.
template <class T, class... Where>
constexpr void explain_reception() {
    explain<T, Where...>(whole_fault_of<T, true>());
}

}  // namespace places::detail
