// SPDX-License-Identifier: Apache-2.0
// Racket's message values, for places that talk without agreeing on C++ types first: a value
// says what it is, is compared by content, and prints as Racket prints it.
#pragma once

#include <places/core/error.hpp>

#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace places {

/// The result of a call that returns nothing. It prints as `#<void>`.
struct void_value {
    friend bool operator==(void_value, void_value) noexcept { return true; }
    friend std::strong_ordering operator<=>(void_value, void_value) noexcept {
        return std::strong_ordering::equal;
    }
};

/// A name, distinct from a string of the same letters.
struct symbol {
    std::string name;
    friend bool operator==(const symbol&, const symbol&) = default;
    friend std::strong_ordering operator<=>(const symbol&, const symbol&) = default;
};

using bytes = std::vector<std::byte>;

namespace detail {

/// A value nested deeper neither encodes nor decodes: foreign bytes must not choose how much
/// stack we use.
inline constexpr unsigned depth_max = 128;

template <class T>
concept plain_integer =
    std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char32_t>;

}  // namespace detail

/// What a value holds.
enum class value_kind : std::uint8_t {
    void_,
    boolean,
    integer,
    real,
    character,
    symbol,
    string,
    octets,
    list,
    vector,
    hash,
};

/// One of: void, bool, integer (64 bits), real, char, symbol, string, bytes, list, vector, hash.
/// Owns all it holds; an ordinary copyable value, safe as any std container is.
/// Strings may hold any bytes; UTF-8 is only a convention.
/// A hash is sorted by key; the order of insertion is not kept.
/// Observers of another kind throw places::error{wrong_type}: `expected integer, got string "a"`.
class value {
  public:
    using entry = std::pair<value, value>;

    value() noexcept = default;
    value(void_value) noexcept {}
    template <std::same_as<bool> Bool>
    value(Bool b) noexcept : held_(b) {}
    /// Throws: places::error{bad_argument} above INT64_MAX.
    template <detail::plain_integer Integer>
    value(Integer i) : held_(checked(i)) {}
    template <std::floating_point Real>
    value(Real r) noexcept : held_(static_cast<double>(r)) {}
    template <std::same_as<char32_t> Char>
    value(Char c) noexcept : held_(c) {}
    value(places::symbol s) noexcept : held_(std::move(s)) {}
    value(std::string s) noexcept : held_(std::move(s)) {}
    value(std::string_view s) : held_(std::string(s)) {}
    value(const char* s) : held_(std::string(s)) {}
    value(places::bytes b) noexcept : held_(std::move(b)) {}
    value(std::nullptr_t) = delete;

    /// `value::list(1, "two", 3.0)`; named, because braces alone could mean a list, a vector or
    /// a hash.
    template <class... Items>
    static value list(Items&&... items);
    static value list(std::initializer_list<value> items);
    static value list_of(std::vector<value> items) noexcept;
    template <class... Items>
    static value vector(Items&&... items);
    static value vector(std::initializer_list<value> items);
    static value vector_of(std::vector<value> items) noexcept;
    /// `value::hash({{"a", 1}, {"b", 2}})`; of equal keys the last one counts.
    static value hash(std::initializer_list<entry> entries = {});
    static value hash_of(std::vector<entry> entries);

    value_kind kind() const noexcept { return static_cast<value_kind>(held_.index()); }
    bool is_void() const noexcept { return kind() == value_kind::void_; }
    bool is_bool() const noexcept { return kind() == value_kind::boolean; }
    bool is_integer() const noexcept { return kind() == value_kind::integer; }
    bool is_real() const noexcept { return kind() == value_kind::real; }
    bool is_char() const noexcept { return kind() == value_kind::character; }
    bool is_symbol() const noexcept { return kind() == value_kind::symbol; }
    bool is_string() const noexcept { return kind() == value_kind::string; }
    bool is_bytes() const noexcept { return kind() == value_kind::octets; }
    bool is_list() const noexcept { return kind() == value_kind::list; }
    bool is_vector() const noexcept { return kind() == value_kind::vector; }
    bool is_hash() const noexcept { return kind() == value_kind::hash; }
    /// Racket's truth: everything but `#f` counts as true.
    bool is_false() const noexcept;

    bool as_bool() const;
    std::int64_t as_integer() const;
    double as_real() const;  ///< an integer converts
    char32_t as_char() const;
    // Of a temporary the part itself is returned: `for (auto& v : call().as_list())` is safe.
    const places::symbol& as_symbol() const&;
    places::symbol as_symbol() &&;
    const std::string& as_string() const&;
    std::string as_string() &&;
    const places::bytes& as_bytes() const&;
    places::bytes as_bytes() &&;
    const std::vector<value>& as_list() const&;
    std::vector<value> as_list() &&;
    const std::vector<value>& as_vector() const&;
    std::vector<value> as_vector() &&;
    const std::vector<entry>& as_hash() const&;  ///< sorted by key
    std::vector<entry> as_hash() &&;

    /// Returns: the number of entries of a list, vector or hash; the number of bytes of a string,
    /// symbol or bytes.
    std::size_t size() const;
    /// Throws: places::error{bad_argument} past the end.
    const value& operator[](std::size_t index) const&;
    value operator[](std::size_t index) &&;
    /// The value under `key` in a hash, or `#f`.
    value get(const value& key) const;

    /// Racket's equal?: 1 and 1.0 differ, 0.0 and -0.0 differ, NaN equals NaN.
    friend bool operator==(const value& a, const value& b) noexcept;
    /// A total order in step with ==: first by kind, then by content.
    friend std::strong_ordering operator<=>(const value& a, const value& b) noexcept;

  private:
    struct list_items {
        std::vector<value> items;
    };
    struct vector_items {
        std::vector<value> items;
    };
    struct hash_entries {
        std::vector<entry> entries;
    };

    template <class Integer>
    static std::int64_t checked(Integer i);
    template <class... Items>
    static std::vector<value> collect(Items&&... items);
    [[noreturn]] static void throw_over_int64();
    [[noreturn]] void throw_wrong_kind(const char* expected) const;
    template <class Held>
    const Held& held(const char* expected) const;
    template <class Held>
    Held& held(const char* expected);
    const std::vector<value>& items() const;

    // In the order of value_kind: kind() is the index.
    std::variant<void_value, bool, std::int64_t, double, char32_t, places::symbol, std::string,
                 places::bytes, list_items, vector_items, hash_entries>
        held_;
};

/// Racket's `display`: strings and chars raw, `#t`, `1.0`, `+nan.0`, `(created user0)`, `#(1 2)`.
std::ostream& operator<<(std::ostream& out, const value& v);
/// Racket's `write`: strings quoted, chars as `#\a`, symbols in bars where needed.
void write(std::ostream& out, const value& v);
/// What operator<< prints.
std::string to_string(const value& v);

// -- bodies --

template <class Integer>
std::int64_t value::checked(Integer i) {
    if (!std::in_range<std::int64_t>(static_cast<std::conditional_t<
            std::is_signed_v<Integer>, std::int64_t, std::uint64_t>>(i))) {
        throw_over_int64();
    }
    return static_cast<std::int64_t>(i);
}

template <class... Items>
std::vector<value> value::collect(Items&&... items) {
    std::vector<value> collected;
    collected.reserve(sizeof...(Items));
    (collected.emplace_back(std::forward<Items>(items)), ...);
    return collected;
}

template <class... Items>
value value::list(Items&&... items) {
    return list_of(collect(std::forward<Items>(items)...));
}

template <class... Items>
value value::vector(Items&&... items) {
    return vector_of(collect(std::forward<Items>(items)...));
}

}  // namespace places
