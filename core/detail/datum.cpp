// SPDX-License-Identifier: Apache-2.0
#include <places/core/detail/datum.hpp>
#include <places/core/detail/raw_types.hpp>

#include "core/message.capnp.h"

#include <capnp/any.h>
#include <capnp/message.h>
#include <kj/exception.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>

namespace places::detail {

static_assert(wire::Datum::_capnpPrivate::dataWordSize +
                  wire::Datum::_capnpPrivate::pointerCount ==
              datum_words);
static_assert(wire::Record::_capnpPrivate::dataWordSize +
                  wire::Record::_capnpPrivate::pointerCount ==
              record_words);
static_assert(static_cast<unsigned>(datum_kind::nothing) == wire::Datum::VOID &&
              static_cast<unsigned>(datum_kind::natural) == wire::Datum::NATURAL &&
              static_cast<unsigned>(datum_kind::octets) == wire::Datum::BYTES &&
              static_cast<unsigned>(datum_kind::variant) == wire::Datum::VARIANT);

/// Puts Cap'n Proto's handles into ours and takes them out again.
struct datum_access {
    template <class Ours, class Theirs>
    static Ours wrap(const Theirs& theirs, unsigned depth) {
        static_assert(sizeof(Theirs) <= sizeof(handle) && alignof(Theirs) <= alignof(handle));
        static_assert(std::is_trivially_copyable_v<Theirs>);
        Ours ours;
        std::memcpy(&ours.handle_, &theirs, sizeof theirs);
        ours.depth_ = depth;
        if constexpr (std::is_same_v<Ours, datum_list_reader>) ours.size_ = theirs.size();
        return ours;
    }

    template <class Theirs, class Ours>
    static Theirs unwrap(const Ours& ours) {
        std::array<std::byte, sizeof(Theirs)> storage;
        std::memcpy(&storage, &ours.handle_, sizeof storage);
        return std::bit_cast<Theirs>(storage);
    }

    template <class Ours>
    static unsigned depth(const Ours& ours) {
        return ours.depth_;
    }
};

namespace {

using list_builder = capnp::List<wire::Datum>::Builder;
using list_reader = capnp::List<wire::Datum>::Reader;

wire::Datum::Builder inner(const datum_writer& w) {
    return datum_access::unwrap<wire::Datum::Builder>(w);
}
wire::Datum::Reader inner(const datum_reader& r) {
    return datum_access::unwrap<wire::Datum::Reader>(r);
}

capnp::Data::Reader data_of(std::span<const std::byte> octets) {
    return {reinterpret_cast<const kj::byte*>(octets.data()), octets.size()};
}
capnp::Data::Reader data_of(std::string_view text) {
    return {reinterpret_cast<const kj::byte*>(text.data()), text.size()};
}
std::span<const std::byte> octets_of(capnp::Data::Reader data) {
    return {reinterpret_cast<const std::byte*>(data.begin()), data.size()};
}

/// Cap'n Proto counts in 29 bits; a size that wrapped would build a shorter tree in silence.
unsigned counted(std::size_t size) {
    if (size >= (std::size_t{1} << 29)) {
        throw error(errc::too_large, "a message holds at most 2^29 elements in one list");
    }
    return static_cast<unsigned>(size);
}

unsigned deeper(unsigned depth) {
    if (depth >= depth_max) {
        throw error(errc::bad_argument,
                    "a message is nested at most " + std::to_string(depth_max) + " deep");
    }
    return depth + 1;
}

}  // namespace

// -- writing --

void datum_writer::set_nothing() { inner(*this).setVoid(); }
void datum_writer::set_boolean(bool b) { inner(*this).setBoolean(b); }
void datum_writer::set_integer(std::int64_t i) { inner(*this).setInteger(i); }
void datum_writer::set_natural(std::uint64_t n) {
    if (n <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        inner(*this).setInteger(static_cast<std::int64_t>(n));
    } else {
        inner(*this).setNatural(n);
    }
}
void datum_writer::set_real(double r) { inner(*this).setReal(r); }
void datum_writer::set_character(char32_t c) { inner(*this).setCharacter(c); }
void datum_writer::set_symbol(std::string_view name) {
    counted(name.size());
    inner(*this).setSymbol(data_of(name));
}
void datum_writer::set_text(std::string_view text) {
    counted(text.size());
    inner(*this).setText(data_of(text));
}
void datum_writer::set_octets(std::span<const std::byte> octets) {
    counted(octets.size());
    inner(*this).setBytes(data_of(octets));
}
datum_list_writer datum_writer::set_list(std::size_t size) {
    return datum_access::wrap<datum_list_writer>(inner(*this).initList(counted(size)), depth_);
}
datum_list_writer datum_writer::set_vector(std::size_t size) {
    return datum_access::wrap<datum_list_writer>(inner(*this).initVector(counted(size)), depth_);
}
datum_list_writer datum_writer::set_hash(std::size_t pairs) {
    return datum_access::wrap<datum_list_writer>(inner(*this).initHash(counted(2 * pairs)),
                                                 depth_);
}
std::byte* datum_writer::set_packed(std::uint16_t type, std::size_t size_bytes) {
    auto packed = inner(*this).initPacked();
    packed.setType(type);
    return reinterpret_cast<std::byte*>(packed.initElements(counted(size_bytes)).begin());
}
datum_list_writer datum_writer::set_record(std::string_view names, std::size_t size) {
    auto record = inner(*this).initRecord();
    record.setNames(data_of(names));
    return datum_access::wrap<datum_list_writer>(record.initFields(counted(size)), depth_);
}
datum_writer datum_writer::set_variant(std::uint16_t index) {
    auto variant = inner(*this).initVariant();
    variant.setIndex(index);
    return datum_access::wrap<datum_writer>(variant.initHeld(), deeper(depth_));
}

datum_writer datum_list_writer::operator[](std::size_t index) {
    auto list = datum_access::unwrap<list_builder>(*this);
    return datum_access::wrap<datum_writer>(list[static_cast<unsigned>(index)], deeper(depth_));
}

// -- reading --

namespace {

template <class T>
T load(std::span<const std::byte> elements, std::size_t index) noexcept {
    T element;
    std::memcpy(&element, elements.data() + index * sizeof(T), sizeof(T));
    return element;
}

number whole(number::form form, std::int64_t i) noexcept { return {form, i, 0, 0}; }

number whole(std::uint64_t n) noexcept {
    if (n <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return whole(number::form::integer, static_cast<std::int64_t>(n));
    }
    return {number::form::natural, 0, n, 0};
}

// Deep bytes are hostile: what we write stops at the same depth.
unsigned deeper_read(unsigned depth) {
    KJ_REQUIRE(depth < depth_max, "nested too deep");
    return depth + 1;
}

}  // namespace

std::size_t packed_view::number_bytes() const noexcept {
    switch (type) {
        case packed_bool:
        case packed_int8:
        case packed_uint8: return 1;
        case packed_int16:
        case packed_uint16: return 2;
        case packed_char:
        case packed_int32:
        case packed_uint32:
        case packed_float: return 4;
        case packed_int64:
        case packed_uint64:
        case packed_double: return 8;
        default: return 0;
    }
}

number packed_view::at(std::size_t index) const noexcept {
    using form = number::form;
    switch (type) {
        case packed_bool: return whole(form::boolean, load<std::uint8_t>(elements, index) != 0);
        case packed_char: return whole(form::character, load<std::uint32_t>(elements, index));
        case packed_int8: return whole(form::integer, load<std::int8_t>(elements, index));
        case packed_int16: return whole(form::integer, load<std::int16_t>(elements, index));
        case packed_int32: return whole(form::integer, load<std::int32_t>(elements, index));
        case packed_int64: return whole(form::integer, load<std::int64_t>(elements, index));
        case packed_uint8: return whole(load<std::uint8_t>(elements, index));
        case packed_uint16: return whole(load<std::uint16_t>(elements, index));
        case packed_uint32: return whole(load<std::uint32_t>(elements, index));
        case packed_uint64: return whole(load<std::uint64_t>(elements, index));
        case packed_float: return {form::real, 0, 0, load<float>(elements, index)};
        case packed_double: return {form::real, 0, 0, load<double>(elements, index)};
        default: return {};
    }
}

datum_kind datum_reader::kind() const { return static_cast<datum_kind>(inner(*this).which()); }

bool datum_reader::is_number() const {
    const datum_kind k = kind();
    return k == datum_kind::boolean || k == datum_kind::integer || k == datum_kind::natural ||
           k == datum_kind::real || k == datum_kind::character;
}

number datum_reader::as_number() const {
    using form = number::form;
    const auto datum = inner(*this);
    switch (kind()) {
        case datum_kind::boolean: return whole(form::boolean, datum.getBoolean());
        case datum_kind::character: return whole(form::character, datum.getCharacter());
        case datum_kind::natural: return whole(datum.getNatural());
        case datum_kind::real: return {form::real, 0, 0, datum.getReal()};
        default: return whole(form::integer, datum.getInteger());
    }
}

std::span<const std::byte> datum_reader::as_octets() const {
    const auto datum = inner(*this);
    switch (kind()) {
        case datum_kind::symbol: return octets_of(datum.getSymbol());
        case datum_kind::text: return octets_of(datum.getText());
        default: return octets_of(datum.getBytes());
    }
}

std::string_view datum_reader::as_text() const {
    const auto octets = as_octets();
    return {reinterpret_cast<const char*>(octets.data()), octets.size()};
}

datum_list_reader datum_reader::as_list() const {
    const auto datum = inner(*this);
    const datum_kind k = kind();
    const list_reader list = k == datum_kind::list     ? datum.getList()
                             : k == datum_kind::vector ? datum.getVector()
                                                       : datum.getHash();
    KJ_REQUIRE(k != datum_kind::hash || list.size() % 2 == 0, "a key without a value");
    return datum_access::wrap<datum_list_reader>(list, depth_);
}

packed_view datum_reader::as_packed() const {
    const auto packed = inner(*this).getPacked();
    return {packed.getType(), octets_of(packed.getElements())};
}

record_view datum_reader::as_record() const {
    const auto record = inner(*this).getRecord();
    const auto names = octets_of(record.getNames());
    return {{reinterpret_cast<const char*>(names.data()), names.size()},
            datum_access::wrap<datum_list_reader>(record.getFields(), depth_)};
}

variant_view datum_reader::as_variant() const {
    const auto variant = inner(*this).getVariant();
    return {variant.getIndex(),
            datum_access::wrap<datum_reader>(variant.getHeld(), deeper_read(depth_))};
}

datum_reader datum_list_reader::operator[](std::size_t index) const {
    const auto list = datum_access::unwrap<list_reader>(*this);
    return datum_access::wrap<datum_reader>(list[static_cast<unsigned>(index)],
                                            deeper_read(depth_));
}

std::size_t record_view::find(std::string_view name) const noexcept {
    std::string_view rest = names;
    for (std::size_t i = 0; i < fields.size() && !rest.empty(); ++i) {
        const std::size_t end = std::min(rest.find('\0'), rest.size());
        if (rest.substr(0, end) == name) return i;
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return fields.size();
}

// -- whole messages --

namespace {

constexpr std::size_t message_words_max = std::size_t{1} << 28;

/// Builds straight into the vector that becomes the message, when `words` was enough.
class arena final : public capnp::MessageBuilder {
  public:
    explicit arena(std::size_t words) {
        if (words > message_words_max) {
            throw error(errc::too_large, "a message is at most 2 GiB");
        }
        memory_.resize(words * sizeof(capnp::word));
    }

    kj::ArrayPtr<capnp::word> allocateSegment(kj::uint words_min) override {
        const std::size_t words = memory_.size() / sizeof(capnp::word);
        if (!handed_out_ && words_min <= words) {
            handed_out_ = true;
            return {reinterpret_cast<capnp::word*>(memory_.data()), words};
        }
        handed_out_ = true;
        more_.push_back(
            std::vector<std::uint64_t>(std::max<std::size_t>(words_min, 2 * words + 64)));
        return {reinterpret_cast<capnp::word*>(more_.back().data()), more_.back().size()};
    }

    /// The message in one segment; further ones are copied together.
    bytes take() {
        const auto segments = getSegmentsForOutput();
        if (segments.size() == 1 && more_.empty()) {
            memory_.resize(segments[0].size() * sizeof(capnp::word));
            return std::move(memory_);
        }
        const auto root = getRoot<capnp::AnyPointer>().asReader();
        arena whole_message(root.targetSize().wordCount + 1);
        whole_message.setRoot(root);
        return whole_message.take();
    }

  private:
    bytes memory_;  // operator new aligns it well enough for words
    std::vector<std::vector<std::uint64_t>> more_;
    bool handed_out_ = false;
};

template <class Root, class Fill>
bytes build_root(std::size_t words, const Fill& fill) {
    constexpr std::size_t root_words = 1 + Root::_capnpPrivate::dataWordSize +
                                       Root::_capnpPrivate::pointerCount;
    try {
        arena message(root_words + words);
        fill(message.initRoot<Root>());
        return message.take();
    } catch (const kj::Exception& e) {
        throw error(errc::too_large,
                    std::string("a message cannot be built: ") + e.getDescription().cStr());
    }
}

/// Words of a Text: its octets and a final zero.
std::size_t words_of_text(std::string_view text) { return words_of_octets(text.size() + 1); }

capnp::Text::Reader text_of(const std::string& text) { return {text.c_str(), text.size()}; }

}  // namespace

bytes build(std::size_t words, fill_datum fill, const void* context) {
    return build_root<wire::Datum>(words, [&](wire::Datum::Builder root) {
        fill(datum_access::wrap<datum_writer>(root, 0), context);
    });
}

bytes build_request(std::size_t words, std::uint64_t id, std::string_view method,
                    std::size_t arguments, fill_list fill, const void* context) {
    words += words_of_text(method) + words_of_list(arguments);
    return build_root<wire::Request>(words, [&](wire::Request::Builder root) {
        root.setId(id);
        root.setMethod(text_of(std::string(method)));
        fill(datum_access::wrap<datum_list_writer>(root.initArguments(counted(arguments)), 0),
             context);
    });
}

bytes build_reply(std::size_t words, std::uint64_t id, fill_datum fill, const void* context) {
    return build_root<wire::Reply>(datum_words + words, [&](wire::Reply::Builder root) {
        root.setId(id);
        fill(datum_access::wrap<datum_writer>(root.initResult(), 0), context);
    });
}

bytes build_error_reply(std::uint64_t id, std::string_view text) {
    return build_root<wire::Reply>(words_of_text(text), [&](wire::Reply::Builder root) {
        root.setId(id);
        root.setError(text_of(std::string(text)));
    });
}

namespace {

/// The one place where foreign bytes meet Cap'n Proto.
template <class Root, class Visit>
result<void> visit_root(std::span<const std::byte> message, const Visit& visit) {
    constexpr std::size_t word_bytes = sizeof(capnp::word);
    const std::size_t words = message.size() / word_bytes;
    if (words == 0 || message.size() % word_bytes != 0 || words > message_words_max) {
        return make_error_code(errc::corrupt);
    }
    const auto* start = reinterpret_cast<const capnp::word*>(message.data());
    std::vector<std::uint64_t> aligned;
    if (reinterpret_cast<std::uintptr_t>(start) % alignof(std::uint64_t) != 0) {
        aligned.resize(words);
        std::memcpy(aligned.data(), message.data(), message.size());
        start = reinterpret_cast<const capnp::word*>(aligned.data());
    }

    capnp::ReaderOptions options;
    // Every part is read at most twice; pointers that share a target cannot make it more.
    options.traversalLimitInWords = std::max<std::uint64_t>(2 * words, 1024);
    // depth_max is counted by our handles; one level of ours is up to three of Cap'n Proto's.
    options.nestingLimit = 4 * depth_max;
    try {
        const kj::ArrayPtr<const capnp::word> segment(start, words);
        capnp::SegmentArrayMessageReader reader({&segment, 1}, options);
        if (visit(reader.getRoot<Root>()) == match::no) return make_error_code(errc::wrong_type);
        return {};
    } catch (const kj::Exception&) {
        return make_error_code(errc::corrupt);
    }
}

}  // namespace

result<void> parse(std::span<const std::byte> message, visit_datum visit, void* context) {
    return visit_root<wire::Datum>(message, [&](wire::Datum::Reader root) {
        return visit(datum_access::wrap<datum_reader>(root, 0), context);
    });
}

result<void> parse_arguments(std::span<const std::byte> message, visit_list visit,
                             void* context) {
    return visit_root<wire::Request>(message, [&](wire::Request::Reader root) {
        return visit(datum_access::wrap<datum_list_reader>(root.getArguments(), 0), context);
    });
}

result<void> parse_result(std::span<const std::byte> message, visit_datum visit, void* context) {
    return visit_root<wire::Reply>(message, [&](wire::Reply::Reader root) {
        if (!root.isResult()) return match::no;
        return visit(datum_access::wrap<datum_reader>(root.getResult(), 0), context);
    });
}

result<request_head> parse_request_head(std::span<const std::byte> message) {
    request_head head{};
    const result<void> parsed = visit_root<wire::Request>(message, [&](wire::Request::Reader r) {
        const auto method = r.getMethod();
        head = {r.getId(), {method.begin(), method.size()}, r.getArguments().size()};
        return match::yes;
    });
    if (parsed.has_error()) return parsed.error();
    return head;
}

result<reply_head> parse_reply_head(std::span<const std::byte> message) {
    reply_head head{};
    const result<void> parsed = visit_root<wire::Reply>(message, [&](wire::Reply::Reader r) {
        head.id = r.getId();
        head.is_error = r.isError();
        if (head.is_error) {
            const auto text = r.getError();
            head.error_text.assign(text.begin(), text.size());
        }
        return match::yes;
    });
    if (parsed.has_error()) return parsed.error();
    return head;
}

// -- values --

value to_value(const number& n, match& fits) {
    fits = match::yes;
    switch (n.kind) {
        case number::form::boolean: return n.integer != 0;
        case number::form::character: return static_cast<char32_t>(n.integer);
        case number::form::integer: return n.integer;
        case number::form::real: return n.real;
        case number::form::natural: break;
    }
    fits = match::no;
    return {};
}

match values_of(const packed_view& packed, std::vector<value>& out) {
    const raw_type* known = nullptr;
    std::size_t size = packed.number_bytes();
    if (size == 0 && (known = find_raw_type(packed.type))) size = known->size;
    if (size == 0 || packed.elements.size() % size != 0) return match::no;
    std::vector<value> items(packed.elements.size() / size);
    for (std::size_t i = 0; i < items.size(); ++i) {
        match fits = match::yes;
        if (known) {
            fits = known->read(packed.elements.data() + i * size, items[i]);
        } else {
            items[i] = to_value(packed.at(i), fits);
        }
        if (fits == match::no) return match::no;
    }
    out = std::move(items);
    return match::yes;
}

match value_of(const packed_view& packed, value& out) {
    match fits = match::no;
    if (const auto size = packed.number_bytes(); size != 0) {
        if (packed.elements.size() == size) out = to_value(packed.at(0), fits);
    } else if (const auto* known = find_raw_type(packed.type)) {
        if (packed.elements.size() == known->size) fits = known->read(packed.elements.data(), out);
    }
    return fits;
}

std::size_t words_of(const value& v) {
    std::size_t words = 0;
    switch (v.kind()) {
        case value_kind::symbol:
        case value_kind::string:
        case value_kind::octets: return words_of_octets(v.size());
        case value_kind::list:
            for (const value& item : v.as_list()) words += words_of(item);
            return words + words_of_list(v.size());
        case value_kind::vector:
            for (const value& item : v.as_vector()) words += words_of(item);
            return words + words_of_list(v.size());
        case value_kind::hash:
            for (const auto& [key, held] : v.as_hash()) words += words_of(key) + words_of(held);
            return words + words_of_list(2 * v.size());
        default: return 0;
    }
}

void write(datum_writer to, const value& v) {
    const auto write_items = [](datum_list_writer list, const std::vector<value>& items) {
        for (std::size_t i = 0; i < items.size(); ++i) write(list[i], items[i]);
    };
    switch (v.kind()) {
        case value_kind::void_: return to.set_nothing();
        case value_kind::boolean: return to.set_boolean(v.as_bool());
        case value_kind::integer: return to.set_integer(v.as_integer());
        case value_kind::real: return to.set_real(v.as_real());
        case value_kind::character: return to.set_character(v.as_char());
        case value_kind::symbol: return to.set_symbol(v.as_symbol().name);
        case value_kind::string: return to.set_text(v.as_string());
        case value_kind::octets: return to.set_octets(v.as_bytes());
        case value_kind::list: return write_items(to.set_list(v.size()), v.as_list());
        case value_kind::vector: return write_items(to.set_vector(v.size()), v.as_vector());
        case value_kind::hash: {
            auto list = to.set_hash(v.size());
            std::size_t i = 0;
            for (const auto& [key, held] : v.as_hash()) {
                write(list[i++], key);
                write(list[i++], held);
            }
        }
    }
}

namespace {

match read_items(const datum_list_reader& list, std::vector<value>& items) {
    items.resize(list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
        if (read(list[i], items[i]) == match::no) return match::no;
    }
    return match::yes;
}

match read_packed(const packed_view& packed, value& out) {
    std::vector<value> items;
    if (values_of(packed, items) == match::no) return match::no;
    out = value::vector_of(std::move(items));
    return match::yes;
}

/// A record is a hash from symbols.
match read_fields(const record_view& record, value& out) {
    std::vector<value::entry> entries;
    std::string_view rest = record.names;
    for (std::size_t i = 0; i < record.fields.size(); ++i) {
        const std::size_t end = rest.find('\0');
        KJ_REQUIRE(end != std::string_view::npos, "a field without a name");
        value held;
        if (read(record.fields[i], held) == match::no) return match::no;
        entries.emplace_back(symbol{std::string(rest.substr(0, end))}, std::move(held));
        rest.remove_prefix(end + 1);
    }
    out = value::hash_of(std::move(entries));
    return match::yes;
}

}  // namespace

match read(datum_reader from, value& out) {
    switch (from.kind()) {
        case datum_kind::nothing: out = {}; return match::yes;
        case datum_kind::boolean:
        case datum_kind::integer:
        case datum_kind::natural:
        case datum_kind::real:
        case datum_kind::character: {
            match fits;
            out = to_value(from.as_number(), fits);
            return fits;
        }
        case datum_kind::symbol: out = symbol{std::string(from.as_text())}; return match::yes;
        case datum_kind::text: out = from.as_text(); return match::yes;
        case datum_kind::octets: {
            const auto octets = from.as_octets();
            out = bytes(octets.begin(), octets.end());
            return match::yes;
        }
        case datum_kind::list:
        case datum_kind::vector: {
            std::vector<value> items;
            if (read_items(from.as_list(), items) == match::no) return match::no;
            out = from.kind() == datum_kind::list ? value::list_of(std::move(items))
                                                  : value::vector_of(std::move(items));
            return match::yes;
        }
        case datum_kind::hash: {
            const datum_list_reader list = from.as_list();
            std::vector<value::entry> entries(list.size() / 2);
            for (std::size_t i = 0; i < entries.size(); ++i) {
                if (read(list[2 * i], entries[i].first) == match::no ||
                    read(list[2 * i + 1], entries[i].second) == match::no) {
                    return match::no;
                }
            }
            out = value::hash_of(std::move(entries));
            return match::yes;
        }
        case datum_kind::packed: return read_packed(from.as_packed(), out);
        case datum_kind::record: return read_fields(from.as_record(), out);
        case datum_kind::variant: return read(from.as_variant().held, out);
    }
    return match::no;  // a kind that a later version added
}

// -- C strings --

std::string string_of(const char* text) {
    if (!text) {
        throw error(errc::bad_argument,
                    "a null const char* is no string: send \"\" or an empty std::optional");
    }
    return text;
}

// -- fingerprints --

std::uint16_t hashed_name(const char* name) noexcept {
    std::uint32_t hash = 2166136261U;
    for (; *name != '\0'; ++name) {
        hash = (hash ^ static_cast<unsigned char>(*name)) * 16777619U;
    }
    const auto folded = static_cast<std::uint16_t>((hash >> 16) ^ hash);
    return folded < first_hashed ? static_cast<std::uint16_t>(folded + first_hashed) : folded;
}

// -- raw types --

namespace {

// Edge:
//   [known]  first_raw_type  registration release -> search acquire   the entry is complete
// As with the table of entries, whatever is linked in says so before main; a library's say so when
// a place loads it, while other threads may search.
std::atomic<const raw_type*> first_raw_type = nullptr;

}  // namespace

raw_type::raw_type(const std::type_info& its_type, std::size_t its_size,
                   match (*reader)(const std::byte*, value&)) noexcept
    : type(its_type),
      fingerprint(hashed_name(its_type.name())),
      size(its_size),
      read(reader),
      // relaxed: the exchange below looks again.
      next(first_raw_type.load(std::memory_order_relaxed)) {
    // release [known]; relaxed: after a failure it is only compared again.
    while (!first_raw_type.compare_exchange_weak(next, this, std::memory_order_release,
                                                 std::memory_order_relaxed)) {
    }
}

const raw_type* find_raw_type(std::uint16_t fingerprint) noexcept {
    const raw_type* found = nullptr;
    // acquire [known]
    for (const auto* each = first_raw_type.load(std::memory_order_acquire); each;
         each = each->next) {
        if (each->fingerprint != fingerprint) continue;
        if (found && found->type != each->type) return nullptr;
        found = each;
    }
    return found;
}

}  // namespace places::detail
