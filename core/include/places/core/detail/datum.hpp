// SPDX-License-Identifier: Apache-2.0
// The tree of core/message.capnp behind plain handles, so that no header of Cap'n Proto reaches
// a program that uses the library. Exceptions of KJ end in datum.cpp: bytes that break the rules
// come back as errc::corrupt, whatever they hold.
#pragma once

#include <places/core/error.hpp>
#include <places/core/value.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace places::detail {

/// Words of a Datum without what its pointer leads to, and of a Record.
inline constexpr std::size_t datum_words = 3;
inline constexpr std::size_t record_words = 2;
/// Words taken by `size` octets, and by the frame of a list of `size` values.
constexpr std::size_t words_of_octets(std::size_t size) noexcept { return (size + 7) / 8; }
constexpr std::size_t words_of_list(std::size_t size) noexcept { return 1 + datum_words * size; }

/// Whether the tree holds what was asked for; `no` becomes errc::wrong_type.
enum class [[nodiscard]] match : bool { no, yes };

/// The members of Datum's union, in the order of the schema; `octets` are its `bytes`.
enum class datum_kind : std::uint16_t {
    nothing,
    boolean,
    integer,
    natural,
    real,
    character,
    symbol,
    text,
    octets,
    list,
    vector,
    hash,
    packed,
    record,
    variant,
};

/// Room for one of Cap'n Proto's small handles.
struct alignas(8) handle {
    std::byte storage[48];
};

class datum_list_writer;
class datum_list_reader;

/// One Datum to be filled in, once. A handle: valid only inside the `fill` it was passed to.
/// Throws: places::error{bad_argument} when the tree gets deeper than depth_max.
class datum_writer {
  public:
    void set_nothing();
    void set_boolean(bool b);
    void set_integer(std::int64_t i);
    void set_natural(std::uint64_t n);  ///< becomes an integer where that has the range
    void set_real(double r);
    void set_character(char32_t c);
    void set_symbol(std::string_view name);
    void set_text(std::string_view text);
    void set_octets(std::span<const std::byte> octets);
    datum_list_writer set_list(std::size_t size);
    datum_list_writer set_vector(std::size_t size);
    datum_list_writer set_hash(std::size_t pairs);  ///< keys at even, values at odd positions
    std::byte* set_packed(std::uint16_t type, std::size_t size_bytes);  ///< zeroed, to be filled
    datum_list_writer set_record(std::string_view names, std::size_t size);
    datum_writer set_variant(std::uint16_t index);

  private:
    friend struct datum_access;
    handle handle_;
    unsigned depth_ = 0;
};

class datum_list_writer {
  public:
    datum_writer operator[](std::size_t index);

  private:
    friend struct datum_access;
    handle handle_;
    unsigned depth_ = 0;
};

/// Any of the tree's numbers, whole and unconverted.
struct number {
    enum class form : std::uint8_t { boolean, character, integer, natural, real };
    form kind;
    std::int64_t integer;   ///< also of a boolean and a character
    std::uint64_t natural;  ///< only above INT64_MAX
    double real;
};

struct packed_view {
    std::uint16_t type;
    std::span<const std::byte> elements;

    /// Bytes of one element when `type` is a number's, else 0.
    std::size_t number_bytes() const noexcept;
    /// Element `index` of a packed_view whose number_bytes() is not 0.
    number at(std::size_t index) const noexcept;
};

struct record_view;
struct variant_view;

/// One Datum of a received tree. A handle: valid only inside the `visit` it was passed to.
/// Observers other than kind() may be called only for that kind, and once: reading the same
/// part many times exhausts the limit that keeps hostile bytes from costing more than they weigh.
class datum_reader {
  public:
    datum_kind kind() const;
    bool is_number() const;
    number as_number() const;
    std::span<const std::byte> as_octets() const;  ///< symbol, text or bytes
    std::string_view as_text() const;              ///< the same
    datum_list_reader as_list() const;             ///< list, vector or hash
    packed_view as_packed() const;
    record_view as_record() const;
    variant_view as_variant() const;

  private:
    friend struct datum_access;
    handle handle_;
    unsigned depth_ = 0;
};

class datum_list_reader {
  public:
    std::size_t size() const noexcept { return size_; }
    datum_reader operator[](std::size_t index) const;

  private:
    friend struct datum_access;
    handle handle_;
    unsigned depth_ = 0;
    std::size_t size_ = 0;
};

struct record_view {
    std::string_view names;  ///< each followed by a zero
    datum_list_reader fields;

    /// Position of the field `name`, or fields.size().
    std::size_t find(std::string_view name) const noexcept;
};

struct variant_view {
    std::uint16_t index;
    datum_reader held;
};

// -- whole messages --

using fill_datum = void (*)(datum_writer, const void* context);
using fill_list = void (*)(datum_list_writer, const void* context);
using visit_datum = match (*)(datum_reader, void* context);
using visit_list = match (*)(datum_list_reader, void* context);

/// Builds one message in one segment. `words` is what the root needs besides itself: exact, it
/// saves a copy; wrong, it costs one.
/// Throws: places::error{too_large} over 2 GiB, places::error{bad_argument} when too deep.
bytes build(std::size_t words, fill_datum fill, const void* context);
bytes build_request(std::size_t words, std::uint64_t id, std::string_view method,
                    std::size_t arguments, fill_list fill, const void* context);
bytes build_reply(std::size_t words, std::uint64_t id, fill_datum fill, const void* context);
bytes build_error_reply(std::uint64_t id, std::string_view text);

/// Visits the root of `message`, memory that nobody writes meanwhile.
/// Returns: ok | wrong_type | corrupt.
result<void> parse(std::span<const std::byte> message, visit_datum visit, void* context);
result<void> parse_arguments(std::span<const std::byte> message, visit_list visit, void* context);
result<void> parse_result(std::span<const std::byte> message, visit_datum visit, void* context);

struct request_head {
    std::uint64_t id;
    std::string method;
    std::size_t argument_count;
};
struct reply_head {
    std::uint64_t id;
    bool is_error;
    std::string error_text;
};
result<request_head> parse_request_head(std::span<const std::byte> message);
result<reply_head> parse_reply_head(std::span<const std::byte> message);

// -- values --

value to_value(const number& n, match& fits);
/// Every element of a block: of numbers, or of a raw type that this program knows.
match values_of(const packed_view& packed, std::vector<value>& out);
/// The one element of a block.
match value_of(const packed_view& packed, value& out);
std::size_t words_of(const value& v);
void write(datum_writer to, const value& v);
match read(datum_reader from, value& out);

}  // namespace places::detail
