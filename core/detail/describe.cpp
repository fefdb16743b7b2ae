// SPDX-License-Identifier: Apache-2.0
// What a message holds, as a short text for people.
#include <places/core/message.hpp>

#include <places/core/detail/call.hpp>

#include <boost/core/demangle.hpp>

#include <algorithm>
#include <array>
#include <charconv>

namespace places {
namespace {

using detail::datum_kind;
using detail::datum_list_reader;
using detail::datum_reader;
using detail::match;

constexpr std::size_t text_bytes_max = 200;
constexpr std::size_t quoted_bytes_max = 60;  // of one string
constexpr std::size_t items_max = 8;          // of one list
constexpr unsigned levels_max = 4;

/// Text that stays short and printable, whatever is added.
class short_text {
  public:
    bool is_full() const noexcept { return is_full_; }
    std::string take() { return std::move(text_); }

    /// Shape: printable.
    void add(std::string_view more) {
        if (is_full_) return;
        constexpr std::string_view rest = "...";
        if (text_.size() + more.size() > text_bytes_max - rest.size()) {
            more = more.substr(0, text_bytes_max - rest.size() - text_.size());
            is_full_ = true;
        }
        text_ += more;
        if (is_full_) text_ += rest;
    }
    void add(std::integral auto number) { add(std::to_string(number)); }
    void add_real(double d) {
        std::array<char, 32> digits;
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), d).ptr;
        add(std::string_view(digits.data(), static_cast<std::size_t>(end - digits.data())));
    }
    void add_character(char32_t c) {
        std::array<char, 8> digits;
        const auto end =
            std::to_chars(digits.data(), digits.data() + digits.size(), std::uint32_t{c}, 16).ptr;
        add("U+");
        for (auto size = end - digits.data(); size < 4; ++size) add("0");
        std::transform(digits.data(), end, digits.data(),
                       [](char d) { return d >= 'a' ? static_cast<char>(d - 'a' + 'A') : d; });
        add(std::string_view(digits.data(), static_cast<std::size_t>(end - digits.data())));
    }
    /// Octets of any text: what is not printable ASCII is written as \xNN.
    void add_foreign(std::string_view text) {
        constexpr std::string_view digits = "0123456789abcdef";
        for (const char c : text.substr(0, quoted_bytes_max)) {
            const auto octet = static_cast<unsigned char>(c);
            if (c == '"' || c == '\\') {
                add(std::array<char, 2>{'\\', c});
            } else if (octet >= 0x20 && octet < 0x7f) {
                add(std::string_view(&c, 1));
            } else {
                add(std::array<char, 4>{'\\', 'x', digits[octet >> 4], digits[octet & 15]});
            }
        }
    }
    void add_quoted(std::string_view text) {
        add("\"");
        add_foreign(text);
        add("\"");
        if (text.size() <= quoted_bytes_max) return;
        add("... (");
        add(text.size());
        add(" bytes)");
    }

  private:
    template <std::size_t n>
    void add(const std::array<char, n>& text) {
        add(std::string_view(text.data(), n));
    }
    std::string text_;
    bool is_full_ = false;
};

/// Writes the items that there is room for, and dots for the rest.
template <class Each>
void add_items(short_text& to, std::size_t count, unsigned level, const Each& each) {
    if (count != 0 && level >= levels_max) return to.add("...");
    for (std::size_t i = 0; i < count && !to.is_full(); ++i) {
        if (i != 0) to.add(", ");
        if (i == items_max) return to.add("...");
        each(i);
    }
}

void add_bytes(short_text& to, std::size_t size) {
    to.add(size);
    to.add(size == 1 ? " byte" : " bytes");
}

// -- values --

void add_value(short_text& to, const value& v, unsigned level);

void add_values(short_text& to, std::string_view open, const std::vector<value>& items,
                std::string_view close, unsigned level) {
    to.add(open);
    add_items(to, items.size(), level, [&](std::size_t i) { add_value(to, items[i], level + 1); });
    to.add(close);
}

void add_value(short_text& to, const value& v, unsigned level) {
    switch (v.kind()) {
        case value_kind::void_: return to.add("nothing");
        case value_kind::boolean: return to.add(v.as_bool() ? "true" : "false");
        case value_kind::integer: return to.add(v.as_integer());
        case value_kind::real: return to.add_real(v.as_real());
        case value_kind::character: return to.add_character(v.as_char());
        case value_kind::symbol: return to.add_foreign(v.as_symbol().name);
        case value_kind::string: return to.add_quoted(v.as_string());
        case value_kind::octets: return add_bytes(to, v.size());
        case value_kind::list: return add_values(to, "(", v.as_list(), ")", level);
        case value_kind::vector: return add_values(to, "[", v.as_vector(), "]", level);
        case value_kind::hash:
            to.add("{");
            add_items(to, v.size(), level, [&](std::size_t i) {
                add_value(to, v.as_hash()[i].first, level + 1);
                to.add(": ");
                add_value(to, v.as_hash()[i].second, level + 1);
            });
            return to.add("}");
    }
}

// -- raw memory --

std::string_view number_name(std::uint16_t type) {
    switch (type) {
        case detail::packed_bool: return "bool";
        case detail::packed_char: return "char32_t";
        case detail::packed_int8: return "signed char";
        case detail::packed_int16: return "short";
        case detail::packed_int32: return "int";
        case detail::packed_int64: return "long";
        case detail::packed_uint8: return "unsigned char";
        case detail::packed_uint16: return "unsigned short";
        case detail::packed_uint32: return "unsigned int";
        case detail::packed_uint64: return "unsigned long";
        case detail::packed_float: return "float";
        case detail::packed_double: return "double";
        default: return {};
    }
}

void add_number(short_text& to, const detail::number& n) {
    using form = detail::number::form;
    switch (n.kind) {
        case form::boolean: return to.add(n.integer != 0 ? "true" : "false");
        case form::character: return to.add_character(static_cast<char32_t>(n.integer));
        case form::integer: return to.add(n.integer);
        case form::natural: return to.add(n.natural);
        case form::real: return to.add_real(n.real);
    }
}

void add_raw(short_text& to, const detail::packed_view& one) {
    const auto size = one.elements.size();
    if (one.number_bytes() == size && size != 0) {
        to.add(number_name(one.type));
        to.add(" ");
        return add_number(to, one.at(0));
    }
    const auto* known = detail::find_raw_type(one.type);
    if (known && known->size == size) {
        to.add(detail::readable_name(known->type));
        value v;
        if (known->read(one.elements.data(), v) == match::yes) {
            to.add(" ");
            return add_value(to, v, 0);
        }
        to.add(" of ");
    }
    to.add(size);
    to.add(size == 1 ? " raw byte" : " raw bytes");
}

/// Elements of a block, without what says that it is one.
void add_block(short_text& to, const detail::packed_view& block, unsigned level) {
    const auto size = block.number_bytes();
    if (size != 0 && block.elements.size() % size == 0) {
        return add_items(to, block.elements.size() / size, level,
                         [&](std::size_t i) { add_number(to, block.at(i)); });
    }
    const auto* known = detail::find_raw_type(block.type);
    if (!known || block.elements.size() % known->size != 0) {
        to.add(block.elements.size());
        return to.add(" raw bytes");
    }
    add_items(to, block.elements.size() / known->size, level, [&](std::size_t i) {
        value v;
        if (known->read(&block.elements[i * known->size], v) == match::yes) {
            add_value(to, v, level + 1);
        } else {
            to.add(detail::readable_name(known->type));
        }
    });
}

std::size_t count_in(const detail::packed_view& block) {
    const auto* known = detail::find_raw_type(block.type);
    const auto size = block.number_bytes() != 0 ? block.number_bytes() : known ? known->size : 0;
    return size == 0 ? 0 : block.elements.size() / size;
}

// -- trees --

void add_part(short_text& to, const datum_reader& from, unsigned level);

void add_list(short_text& to, const datum_list_reader& list, unsigned level) {
    add_items(to, list.size(), level, [&](std::size_t i) { add_part(to, list[i], level + 1); });
}

void add_pairs(short_text& to, const datum_list_reader& list, unsigned level) {
    add_items(to, list.size() / 2, level, [&](std::size_t i) {
        add_part(to, list[2 * i], level + 1);
        to.add(": ");
        add_part(to, list[2 * i + 1], level + 1);
    });
}

void add_fields(short_text& to, const detail::record_view& record, unsigned level) {
    std::string_view names = record.names;
    to.add("{");
    add_items(to, record.fields.size(), level, [&](std::size_t i) {
        const auto end = std::min(names.find('\0'), names.size());
        to.add_foreign(names.substr(0, end));
        names.remove_prefix(std::min(end + 1, names.size()));
        to.add(": ");
        add_part(to, record.fields[i], level + 1);
    });
    to.add("}");
}

/// A part of a tree, without the name of its kind.
void add_part(short_text& to, const datum_reader& from, unsigned level) {
    const auto enclosed = [&](std::string_view open, const auto& inside, std::string_view close) {
        to.add(open);
        inside();
        to.add(close);
    };
    switch (from.kind()) {
        case datum_kind::nothing: return to.add("nothing");
        case datum_kind::boolean:
        case datum_kind::integer:
        case datum_kind::natural:
        case datum_kind::real:
        case datum_kind::character: return add_number(to, from.as_number());
        case datum_kind::symbol: return to.add_foreign(from.as_text());
        case datum_kind::text: return to.add_quoted(from.as_text());
        case datum_kind::octets: return add_bytes(to, from.as_octets().size());
        case datum_kind::list:
            return enclosed(
                "(", [&] { add_list(to, from.as_list(), level); }, ")");
        case datum_kind::vector:
            return enclosed(
                "[", [&] { add_list(to, from.as_list(), level); }, "]");
        case datum_kind::hash:
            return enclosed(
                "{", [&] { add_pairs(to, from.as_list(), level); }, "}");
        case datum_kind::packed:
            return enclosed(
                "[", [&] { add_block(to, from.as_packed(), level); }, "]");
        case datum_kind::record: return add_fields(to, from.as_record(), level);
        case datum_kind::variant: return add_part(to, from.as_variant().held, level);
    }
    to.add("something that a later version added");
}

/// The whole of a tree, its kind first.
void add_tree(short_text& to, const datum_reader& from) {
    const auto counted = [&](std::string_view what, std::size_t count) {
        to.add(what);
        to.add(count);
        if (count != 0) to.add(": ");
    };
    switch (from.kind()) {
        case datum_kind::boolean: to.add("bool "); break;
        case datum_kind::integer:
        case datum_kind::natural: to.add("integer "); break;
        case datum_kind::real: to.add("real "); break;
        case datum_kind::character: to.add("character "); break;
        case datum_kind::symbol: to.add("symbol "); break;
        case datum_kind::text: to.add("string "); break;
        case datum_kind::list: {
            const auto list = from.as_list();
            counted("list of ", list.size());
            return add_list(to, list, 0);
        }
        case datum_kind::vector: {
            const auto list = from.as_list();
            counted("vector of ", list.size());
            return add_list(to, list, 0);
        }
        case datum_kind::hash: {
            const auto list = from.as_list();
            counted("hash of ", list.size() / 2);
            return add_pairs(to, list, 0);
        }
        case datum_kind::packed: {
            const auto block = from.as_packed();
            if (count_in(block) == 0 && !block.elements.empty()) return add_raw(to, block);
            counted("vector of ", count_in(block));
            if (!block.elements.empty()) add_block(to, block, 0);
            return;
        }
        case datum_kind::record: to.add("struct "); break;
        case datum_kind::variant: {
            const auto v = from.as_variant();
            to.add("alternative ");
            to.add(v.index);
            to.add(" of a variant: ");
            return add_tree(to, v.held);
        }
        default: break;
    }
    add_part(to, from, 0);
}

/// `visit` writes what it reads; of bytes that break the rules a word of that comes after it.
template <class Parse, class Visit>
void add_parsed(short_text& to, const Parse& parse, std::span<const std::byte> octets,
                Visit visit) {
    const auto parsed = parse(
        octets,
        [](auto from, void* context) {
            (*static_cast<Visit*>(context))(from);
            return match::yes;
        },
        &visit);
    if (!parsed) to.add("broken tree of " + std::to_string(octets.size()) + " bytes");
}

}  // namespace

std::string message::describe() const {
    short_text text;
    const auto tree = [&](datum_reader from) { add_tree(text, from); };
    switch (kind_) {
        case message_kind::bytes: add_bytes(text, bytes_.size()); break;
        case message_kind::raw: add_raw(text, {type_, bytes_}); break;
        case message_kind::datum: add_parsed(text, detail::parse, bytes_, tree); break;
        case message_kind::capnp:
            text.add("Cap'n Proto message of ");
            add_bytes(text, bytes_.size());
            break;
        case message_kind::request: {
            const auto head = detail::parse_request_head(bytes_);
            text.add("call of ");
            if (head) text.add_foreign(head->method);
            text.add("(");
            add_parsed(text, detail::parse_arguments, bytes_,
                       [&](datum_list_reader list) { add_list(text, list, 0); });
            text.add(")");
            break;
        }
        case message_kind::reply: {
            const auto head = detail::parse_reply_head(bytes_);
            if (head && head->is_error) {
                text.add("reply with the error ");
                text.add_quoted(head->error_text);
            } else {
                text.add("reply with ");
                add_parsed(text, detail::parse_result, bytes_, tree);
            }
            break;
        }
        default:
            text.add("message of kind ");
            text.add(static_cast<unsigned>(kind_));
            text.add(", ");
            add_bytes(text, bytes_.size());
    }
    return text.take();
}

reason message::wrong_type_for(const std::type_info& wanted) const {
    return {make_error_code(errc::wrong_type), "the message is of another type: expected " +
                                                   detail::readable_name(wanted) + ", got " +
                                                   describe()};
}

namespace {

void replace_all(std::string& in, std::string_view what, std::string_view with) {
    for (auto at = in.find(what); at != in.npos; at = in.find(what, at + with.size())) {
        in.replace(at, what.size(), with);
    }
}

/// Takes out every argument of a template that begins with `what`, and the comma before it.
void drop_argument(std::string& in, std::string_view what) {
    for (auto at = in.find(what); at != in.npos; at = in.find(what, at)) {
        auto end = at + what.size();
        for (int open = 1; end < in.size() && open > 0; ++end) {
            open += in[end] == '<' ? 1 : in[end] == '>' ? -1 : 0;
        }
        in.erase(at, end - at);
    }
}

}  // namespace

std::string detail::readable_name(const std::type_info& type) {
    auto name = boost::core::demangle(type.name());
    replace_all(name, "std::__cxx11::", "std::");
    replace_all(name, "(anonymous namespace)::", "");
    replace_all(name, "std::basic_string<char, std::char_traits<char>, std::allocator<char> >",
                "std::string");
    for (const auto* what :
         {", std::allocator<", ", std::less<", ", std::hash<", ", std::equal_to<"}) {
        drop_argument(name, what);
    }
    replace_all(name, " >", ">");
    return name;
}

}  // namespace places
