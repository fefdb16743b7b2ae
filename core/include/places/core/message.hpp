// SPDX-License-Identifier: Apache-2.0
// One message of any type, as channels send and receive it.
#pragma once

#include <places/core/detail/codec.hpp>
#include <places/shm/layout.hpp>

namespace places {

namespace detail {
/// Returns: the name of the type as a program writes it, for example "std::vector<int>".
std::string readable_name(const std::type_info& type);
}  // namespace detail

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored \
    "-Wshadow"  // g++ 12 takes the scoped message_kind::bytes for places::bytes
/// The kind of content in a record. Channels use the kinds from 64 on; users never see these. The
/// last two are not messages (shm::aside), and are not counted.
enum class message_kind : std::uint16_t {
    bytes = 0,  ///< bytes that the library does not interpret
    raw = 1,    ///< one trivially copyable value, as its memory
    datum = 2,  ///< a tree, see core/message.capnp
    capnp = 3,  ///< a user's own Cap'n Proto message
    request = 16,
    reply = 17,
    part = 67,  ///< the next bytes of a message that is larger than a record
    opened = shm::aside | 64,
    refused = shm::aside | 65,
};
#pragma GCC diagnostic pop

/// What can travel: bytes; trivially copyable types; strings, symbols, values, structs described
/// with Boost.Describe, and std containers, tuples, optionals, variants and durations of these.
/// Not: pointers, views, references, closures, nor a described struct with such a member.
/// To describe a struct: `#include <boost/describe.hpp>`, and in the namespace of the struct
/// `BOOST_DESCRIBE_STRUCT(account, (), (owner, balance))`.
/// A trivially copyable struct that is not described is accepted unchecked, since the library
/// cannot see its members. Its padding is sent with it.
template <class T>
concept message_type = detail::travels<T>;

/// What can be sent: a message_type, or a C string (const char*), which arrives as a std::string. A
/// pair or tuple may hold C strings too: std::tuple{"name", 1} arrives as a std::string and an int.
template <class T>
concept sendable_type = message_type<detail::owned<T>>;

namespace detail {

// Bodies of the calls that take any type, to say why one does not travel.
template <class T>
status not_sent() {
    explain_refusal<T>();
    return status::closed;
}
template <class T>
result<std::decay_t<T>> not_received() {
    explain_refusal<T>();
    return result<std::decay_t<T>>(boost::system::in_place_error,
                                   make_error_code(errc::wrong_type));
}

}  // namespace detail

/// Owns one message; an ordinary copyable value.
class message {
  public:
    message() noexcept = default;
    message(message_kind k, std::uint16_t type, std::vector<std::byte> bytes) noexcept
        : kind_(k),
          type_(type),
          bytes_(std::move(bytes)) {}

    /// Encodes `v`: bytes as they are, raw types as their memory, all other types as a tree. A
    /// string literal, any other char array and a const char* become a std::string.
    /// Throws: places::error{too_large} over 2 GiB; places::error{bad_argument} when nested
    /// deeper than 128, for a variant without a value, or for a null const char*.
    template <sendable_type T>
    static message of(const T& v);
    template <class T>
    static message of(const T&) {
        detail::explain_refusal<T>();
        return {};
    }

    /// Raw memory is read only as the type it was written from; a tree as whatever has its
    /// structure. A `value` can be asked of every tree, of bytes, and of a raw message: a described
    /// struct is a hash from symbols, an array a vector. Not where it holds a struct that is not
    /// described, an integer above INT64_MAX, or the memory of a struct type that this program
    /// neither sends nor receives itself.
    /// Returns: a T | wrong_type, whose message() says what was expected and what came | corrupt.
    template <message_type T>
    result<T> as() const;
    /// For a type that cannot be received, this overload stops the build with a line of advice.
    template <class T>
    requires(!message_type<T>) auto as() const { return detail::not_received<T>(); }

    /// What it holds, for people: `int 3`, `string "abc"`, `list of 3: 1, 2, 3`, `24 raw bytes`. Of
    /// a raw struct that this program knows also its name and members.
    /// Returns: at most 200 printable ASCII characters, whatever came; longer contents end in
    ///          "...".
    std::string describe() const;

    places::message_kind kind() const noexcept { return kind_; }
    /// Returns: the fingerprint of the type of a raw message; 0 for any other kind.
    std::uint16_t type() const noexcept { return type_; }
    std::span<const std::byte> bytes() const& noexcept { return bytes_; }
    std::vector<std::byte> bytes() && noexcept { return std::move(bytes_); }

  private:
    template <message_type T>
    result<T> read_as() const;
    reason wrong_type_for(const std::type_info& wanted) const;

    places::message_kind kind_ = message_kind::bytes;
    std::uint16_t type_ = 0;
    std::vector<std::byte> bytes_;
};

// -- bodies --

template <sendable_type T>
message message::of(const T& v) {
    if constexpr (!detail::is_owned<T>) {
        return of(detail::owned_of(v));
    } else if constexpr (std::is_same_v<T, std::vector<std::byte>>) {
        return {message_kind::bytes, 0, v};
    } else if constexpr (detail::is_octet_span<T>) {
        return {message_kind::bytes, 0, {v.begin(), v.end()}};
    } else if constexpr (detail::is_raw_message<T>) {
        std::vector<std::byte> memory(sizeof(T));
        std::memcpy(memory.data(), &v, sizeof(T));
        return {message_kind::raw, detail::fingerprint<T>(), std::move(memory)};
    } else {
        return {message_kind::datum, 0, detail::encode_datum(v)};
    }
}

template <message_type T>
result<T> message::as() const {
    if constexpr (!detail::is_received<T>) detail::explain_reception<T>();
    auto v = read_as<T>();
    if (v.has_value() || v.error() != errc::wrong_type) return v;
    return result<T>(boost::system::in_place_error, wrong_type_for(typeid(T)));
}

template <message_type T>
result<T> message::read_as() const {
    if constexpr (!detail::is_received<T>) {
        // as() explains it.
    } else if (kind_ == message_kind::datum) {
        return detail::decode_datum<T>(bytes_);
    }
    if constexpr (!detail::is_received<T>) {
        // As above.
    } else if constexpr (std::is_same_v<T, std::vector<std::byte>>) {
        if (kind_ == message_kind::bytes) return bytes_;
    } else if constexpr (std::is_same_v<T, value>) {
        if (kind_ == message_kind::bytes) return value(bytes_);
        if (kind_ == message_kind::raw) {
            value v;
            if (detail::value_of({type_, bytes_}, v) == detail::match::yes) return v;
        }
    } else if constexpr (std::is_same_v<T, bool>) {
        // Any octet but 0 counts as true: no other process can make us a bool that is neither.
        if (kind_ == message_kind::raw && type_ == detail::packed_bool && bytes_.size() == 1) {
            return bytes_[0] != std::byte{0};
        }
    } else if constexpr (detail::is_raw<T>) {
        if (kind_ == message_kind::raw && type_ == detail::fingerprint<T>() &&
            bytes_.size() == sizeof(T)) {
            T out = detail::blank<T>();
            std::memcpy(static_cast<void*>(&out), bytes_.data(), sizeof(T));
            return result<T>(boost::system::in_place_value, std::move(out));
        }
    }
    return result<T>(boost::system::in_place_error, make_error_code(errc::wrong_type));
}

}  // namespace places
