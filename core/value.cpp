// SPDX-License-Identifier: Apache-2.0
#include <places/core/value.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ostream>
#include <sstream>

namespace places {

value value::list(std::initializer_list<value> items) { return list_of(items); }
value value::vector(std::initializer_list<value> items) { return vector_of(items); }
value value::hash(std::initializer_list<entry> entries) { return hash_of(entries); }

value value::list_of(std::vector<value> items) noexcept {
    value v;
    v.held_ = list_items{std::move(items)};
    return v;
}

value value::vector_of(std::vector<value> items) noexcept {
    value v;
    v.held_ = vector_items{std::move(items)};
    return v;
}

value value::hash_of(std::vector<entry> entries) {
    // Sorted backwards and stably, then the first of equal keys kept: that is the last inserted.
    std::reverse(entries.begin(), entries.end());
    std::stable_sort(entries.begin(), entries.end(),
                     [](const entry& a, const entry& b) { return a.first < b.first; });
    entries.erase(std::unique(entries.begin(), entries.end(),
                              [](const entry& a, const entry& b) { return a.first == b.first; }),
                  entries.end());
    value v;
    v.held_ = hash_entries{std::move(entries)};
    return v;
}

bool value::is_false() const noexcept {
    const bool* const b = std::get_if<bool>(&held_);
    return b != nullptr && !*b;
}

void value::throw_over_int64() {
    throw error(errc::bad_argument, "an unsigned integer above 2^63-1 does not fit a value");
}

void value::throw_wrong_kind(const char* expected) const {
    static constexpr std::array names{"void",   "boolean", "integer", "real", "char", "symbol",
                                      "string", "bytes",   "list",    "vector", "hash"};
    constexpr std::size_t shown_max = 60;
    std::ostringstream text;
    write(text, *this);
    std::string shown = std::move(text).str();
    if (shown.size() > shown_max) shown.replace(shown_max, std::string::npos, "...");
    throw error(errc::wrong_type, std::string("expected ") + expected + ", got " +
                                      names[held_.index()] + " " + shown);
}

template <class Held>
const Held& value::held(const char* expected) const {
    const Held* const held = std::get_if<Held>(&held_);
    if (held == nullptr) throw_wrong_kind(expected);
    return *held;
}

template <class Held>
Held& value::held(const char* expected) {
    return const_cast<Held&>(std::as_const(*this).held<Held>(expected));
}

bool value::as_bool() const { return held<bool>("boolean"); }
std::int64_t value::as_integer() const { return held<std::int64_t>("integer"); }
double value::as_real() const {
    return is_integer() ? static_cast<double>(as_integer()) : held<double>("real");
}
char32_t value::as_char() const { return held<char32_t>("char"); }
const symbol& value::as_symbol() const& { return held<places::symbol>("symbol"); }
symbol value::as_symbol() && { return std::move(held<places::symbol>("symbol")); }
const std::string& value::as_string() const& { return held<std::string>("string"); }
std::string value::as_string() && { return std::move(held<std::string>("string")); }
const bytes& value::as_bytes() const& { return held<places::bytes>("bytes"); }
bytes value::as_bytes() && { return std::move(held<places::bytes>("bytes")); }
const std::vector<value>& value::as_list() const& { return held<list_items>("list").items; }
std::vector<value> value::as_list() && { return std::move(held<list_items>("list").items); }
const std::vector<value>& value::as_vector() const& { return held<vector_items>("vector").items; }
std::vector<value> value::as_vector() && { return std::move(held<vector_items>("vector").items); }
const std::vector<value::entry>& value::as_hash() const& {
    return held<hash_entries>("hash").entries;
}
std::vector<value::entry> value::as_hash() && {
    return std::move(held<hash_entries>("hash").entries);
}

std::size_t value::size() const {
    switch (kind()) {
        case value_kind::symbol: return as_symbol().name.size();
        case value_kind::string: return as_string().size();
        case value_kind::octets: return as_bytes().size();
        case value_kind::hash: return as_hash().size();
        default: return items().size();
    }
}

const std::vector<value>& value::items() const {
    return is_vector() ? as_vector() : held<list_items>("list or vector").items;
}

const value& value::operator[](std::size_t index) const& {
    const std::vector<value>& all = items();
    if (index >= all.size()) {
        throw error(errc::bad_argument, "index " + std::to_string(index) +
                                            " is past the end of " + std::to_string(all.size()) +
                                            " items");
    }
    return all[index];
}

value value::operator[](std::size_t index) && { return std::as_const(*this)[index]; }

value value::get(const value& key) const {
    const std::vector<entry>& entries = as_hash();
    const auto at = std::lower_bound(entries.begin(), entries.end(), key,
                                     [](const entry& e, const value& k) { return e.first < k; });
    return at != entries.end() && at->first == key ? at->second : value(false);
}

// -- order --

namespace {

/// Bits that compare as the reals do: -inf < ... < -0.0 < 0.0 < ... < +inf < NaN.
std::uint64_t ordered_bits(double r) noexcept {
    constexpr std::uint64_t sign = std::uint64_t{1} << 63;
    const auto bits = std::bit_cast<std::uint64_t>(std::isnan(r) ? std::abs(std::nan("")) : r);
    return (bits & sign) != 0 ? ~bits : bits | sign;
}

template <class Items>
std::strong_ordering compare(const Items& a, const Items& b) noexcept {
    return std::lexicographical_compare_three_way(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace

std::strong_ordering operator<=>(const value& a, const value& b) noexcept {
    if (a.kind() != b.kind()) return a.kind() <=> b.kind();
    switch (a.kind()) {
        case value_kind::void_: break;
        case value_kind::boolean: return a.as_bool() <=> b.as_bool();
        case value_kind::integer: return a.as_integer() <=> b.as_integer();
        case value_kind::real: return ordered_bits(a.as_real()) <=> ordered_bits(b.as_real());
        case value_kind::character: return a.as_char() <=> b.as_char();
        case value_kind::symbol: return a.as_symbol() <=> b.as_symbol();
        case value_kind::string: return a.as_string() <=> b.as_string();
        case value_kind::octets: return compare(a.as_bytes(), b.as_bytes());
        case value_kind::list: return compare(a.as_list(), b.as_list());
        case value_kind::vector: return compare(a.as_vector(), b.as_vector());
        case value_kind::hash: return compare(a.as_hash(), b.as_hash());
    }
    return std::strong_ordering::equal;
}

bool operator==(const value& a, const value& b) noexcept {
    return (a <=> b) == std::strong_ordering::equal;
}

// -- printing --

namespace {

void print_utf8(std::ostream& out, char32_t c) {
    const auto low_bits = [&](int shift) {
        out.put(static_cast<char>(0x80 | ((c >> shift) & 0x3f)));
    };
    if (c < 0x80) {
        out.put(static_cast<char>(c));
    } else if (c < 0x800) {
        out.put(static_cast<char>(0xc0 | (c >> 6)));
        low_bits(0);
    } else if (c < 0x10000) {
        out.put(static_cast<char>(0xe0 | (c >> 12)));
        low_bits(6), low_bits(0);
    } else if (c < 0x110000) {
        out.put(static_cast<char>(0xf0 | (c >> 18)));
        low_bits(12), low_bits(6), low_bits(0);
    } else {
        out << "\xef\xbf\xbd";  // not a code point: Unicode's replacement character
    }
}

/// The shortest digits that read back as `r`; an exponent from 1e21 up and below 1e-4 down.
void print_real(std::ostream& out, double r) {
    if (std::isnan(r)) {
        out << "+nan.0";
        return;
    }
    if (std::isinf(r)) {
        out << (r < 0 ? "-inf.0" : "+inf.0");
        return;
    }
    // Room for 1e21 in full: 21 digits and a sign.
    std::array<char, 40> text;
    const double size = std::abs(r);
    const bool positional = size == 0 || (size >= 1e-4 && size < 1e21);
    const auto format = positional ? std::chars_format::fixed : std::chars_format::scientific;
    const auto end = std::to_chars(text.data(), text.data() + text.size(), r, format).ptr;
    const std::string_view digits(text.data(), static_cast<std::size_t>(end - text.data()));
    if (positional) {
        out << digits << (digits.find('.') == std::string_view::npos ? ".0" : "");
    } else {
        const std::size_t plus = digits.find('+');
        if (plus == std::string_view::npos) {
            out << digits;
        } else {
            out << digits.substr(0, plus) << digits.substr(plus + 1);
        }
    }
}

void print_integer(std::ostream& out, std::int64_t i) {
    // Not by <<: the stream's base, width and locale are not ours.
    std::array<char, 24> text;
    const auto end = std::to_chars(text.data(), text.data() + text.size(), i).ptr;
    out.write(text.data(), end - text.data());
}

/// The letter after the backslash in a string, or 0.
char escape_letter(unsigned char c) noexcept {
    switch (c) {
        case '\a': return 'a';
        case '\b': return 'b';
        case '\t': return 't';
        case '\n': return 'n';
        case '\v': return 'v';
        case '\f': return 'f';
        case '\r': return 'r';
        case 0x1b: return 'e';
        case '"': return '"';
        case '\\': return '\\';
        default: return 0;
    }
}

void print_quoted(std::ostream& out, std::string_view text) {
    out << '"';
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        if (const char letter = escape_letter(c)) {
            out << '\\' << letter;
        } else if (c < 0x20 || c == 0x7f) {
            std::array<char, 8> code;
            std::snprintf(code.data(), code.size(), "\\u%04X", c);
            out << code.data();
        } else {
            out << text[i];
        }
    }
    out << '"';
}

void print_quoted(std::ostream& out, const bytes& octets) {
    const auto is_octal = [](unsigned char c) { return c >= '0' && c <= '7'; };
    out << "#\"";
    for (std::size_t i = 0; i < octets.size(); ++i) {
        const auto c = std::to_integer<unsigned char>(octets[i]);
        if (const char letter = escape_letter(c)) {
            out << '\\' << letter;
        } else if (c < 0x20 || c >= 0x7f) {
            // As short as the next octet allows.
            const bool full = i + 1 < octets.size() &&
                              is_octal(std::to_integer<unsigned char>(octets[i + 1]));
            std::array<char, 8> code;
            std::snprintf(code.data(), code.size(), full ? "\\%03o" : "\\%o", c);
            out << code.data();
        } else {
            out << static_cast<char>(c);
        }
    }
    out << '"';
}

void print_quoted(std::ostream& out, char32_t c) {
    struct named {
        char32_t c;
        const char* name;
    };
    static constexpr std::array names{named{0, "nul"},        named{8, "backspace"},
                                      named{9, "tab"},        named{10, "newline"},
                                      named{11, "vtab"},      named{12, "page"},
                                      named{13, "return"},    named{32, "space"},
                                      named{127, "rubout"}};
    out << "#\\";
    for (const named& n : names) {
        if (n.c == c) {
            out << n.name;
            return;
        }
    }
    if (c < 32) {
        std::array<char, 8> code;
        std::snprintf(code.data(), code.size(), "u%04X", static_cast<unsigned>(c));
        out << code.data();
    } else {
        print_utf8(out, c);
    }
}

std::string_view skip_digits(std::string_view text) noexcept {
    const std::size_t end = text.find_first_not_of("0123456789");
    return end == std::string_view::npos ? std::string_view() : text.substr(end);
}

/// Whether Racket would read `name` back as a number: decimals, rationals, exponents, infinities.
bool reads_as_number(std::string_view name) noexcept {
    if (name == "+inf.0" || name == "-inf.0" || name == "+nan.0" || name == "-nan.0" ||
        name == "+i" || name == "-i") {
        return true;
    }
    if (!name.empty() && (name[0] == '+' || name[0] == '-')) name.remove_prefix(1);
    const std::string_view after = skip_digits(name);
    std::size_t digits = name.size() - after.size();
    std::string_view rest = after;
    if (digits != 0 && rest.size() > 1 && rest[0] == '/') {
        return skip_digits(rest.substr(1)).empty();
    }
    if (!rest.empty() && rest[0] == '.') {
        const std::string_view fraction = rest.substr(1);
        rest = skip_digits(fraction);
        digits += fraction.size() - rest.size();
    }
    if (digits == 0) return false;
    if (rest.empty()) return true;
    if (std::string_view("eEdDfFsSlLtT").find(rest[0]) == std::string_view::npos) return false;
    rest.remove_prefix(1);
    if (!rest.empty() && (rest[0] == '+' || rest[0] == '-')) rest.remove_prefix(1);
    return !rest.empty() && skip_digits(rest).empty();
}

void print_symbol(std::ostream& out, std::string_view name) {
    const bool special =
        name.find_first_of(std::string_view(" \t\n\v\f\r()[]{}\",'`;|\\")) !=
        std::string_view::npos;
    const bool bars = name.empty() || special || name == "." || reads_as_number(name) ||
                      (name[0] == '#' && !name.starts_with("#%"));
    if (!bars) {
        out << name;
    } else if (name.find('|') == std::string_view::npos) {
        out << '|' << name << '|';
    } else {
        // Within bars nothing can stand for a bar itself.
        for (const char c : name) {
            if (std::string_view(" \t\n\v\f\r()[]{}\",'`;|\\#").find(c) !=
                std::string_view::npos) {
                out << '\\';
            }
            out << c;
        }
    }
}

void print(std::ostream& out, const value& v, bool quoted);

void print_items(std::ostream& out, const std::vector<value>& items, bool quoted) {
    out << '(';
    for (std::size_t i = 0; i < items.size(); ++i) {
        if (i != 0) out << ' ';
        print(out, items[i], quoted);
    }
    out << ')';
}

void print(std::ostream& out, const value& v, bool quoted) {
    switch (v.kind()) {
        case value_kind::void_: out << "#<void>"; break;
        case value_kind::boolean: out << (v.as_bool() ? "#t" : "#f"); break;
        case value_kind::integer: print_integer(out, v.as_integer()); break;
        case value_kind::real: print_real(out, v.as_real()); break;
        case value_kind::character:
            quoted ? print_quoted(out, v.as_char()) : print_utf8(out, v.as_char());
            break;
        case value_kind::symbol:
            if (quoted) {
                print_symbol(out, v.as_symbol().name);
            } else {
                out << std::string_view(v.as_symbol().name);
            }
            break;
        case value_kind::string:
            if (quoted) {
                print_quoted(out, std::string_view(v.as_string()));
            } else {
                out << v.as_string();
            }
            break;
        case value_kind::octets:
            if (quoted) {
                print_quoted(out, v.as_bytes());
            } else {
                out.write(reinterpret_cast<const char*>(v.as_bytes().data()),
                          static_cast<std::streamsize>(v.as_bytes().size()));
            }
            break;
        case value_kind::list: print_items(out, v.as_list(), quoted); break;
        case value_kind::vector:
            out << '#';
            print_items(out, v.as_vector(), quoted);
            break;
        case value_kind::hash: {
            out << "#hash(";
            const char* between = "";
            for (const auto& [key, held] : v.as_hash()) {
                out << between << '(';
                print(out, key, quoted);
                out << " . ";
                print(out, held, quoted);
                out << ')';
                between = " ";
            }
            out << ')';
            break;
        }
    }
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const value& v) {
    print(out, v, false);
    return out;
}

void write(std::ostream& out, const value& v) { print(out, v, true); }

std::string to_string(const value& v) {
    std::ostringstream out;
    out << v;
    return std::move(out).str();
}

}  // namespace places
