// SPDX-License-Identifier: Apache-2.0
#include "net/frame.hpp"

#include "core/text.hpp"
#include "net/wire.capnp.h"

#include <boost/endian/conversion.hpp>
#include <capnp/message.h>
#include <capnp/serialize.h>
#include <kj/exception.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

namespace places::net {
namespace {

// -- numbers --

using boost::endian::load_little_u32;
using boost::endian::load_little_u64;
using boost::endian::store_little_u32;
using boost::endian::store_little_u64;

// As Boost.Endian takes them.
const unsigned char* octets(const std::byte* bytes) noexcept {
    return reinterpret_cast<const unsigned char*>(bytes);
}

constexpr std::size_t round_up_8(std::size_t bytes) noexcept { return (bytes + 7) / 8 * 8; }

// The index is the code on the wire, as wire.capnp lists them: append only, whatever becomes of
// errc.
constexpr std::array code_table{
    errc{},
    errc::empty,
    errc::full,
    errc::timeout,
    errc::closed,
    errc::peer_dead,
    errc::too_large,
    errc::corrupt,
    errc::wrong_type,
    errc::name_not_found,
    errc::name_taken,
    errc::entry_not_found,
    errc::load_failed,
    errc::remote_error,
    errc::node_unreachable,
    errc::address_in_use,
    errc::bad_key,
    errc::protocol,
    errc::node_down,
    errc::not_a_connection,
    errc::bad_argument,
    errc::start_failed,
    errc::no_core,
    errc::host_key_unknown,
    errc::host_key_changed,
    errc::auth_refused,
    errc::key_unsupported,
    errc::host_unreachable,
    errc::port_refused,
    errc::ssh_lost,
    errc::no_space,
    errc::no_permission,
    errc::wrong_architecture,
    errc::wrong_version,
    errc::program_not_found,
    errc::permission_denied,
    errc::bad_key_file,
    errc::refused,
    errc::misuse,
};
constexpr std::uint16_t protocol_code = 17;
static_assert(code_table[protocol_code] == errc::protocol);

std::uint16_t code_to_wire(errc code) noexcept {
    const auto found = std::find(code_table.begin(), code_table.end(), code);
    if (found == code_table.end()) return protocol_code;  // newer than this protocol
    return static_cast<std::uint16_t>(found - code_table.begin());
}

errc code_from_wire(std::uint16_t code) noexcept {
    return code < code_table.size() ? code_table[code] : errc::protocol;
}

// -- writing --

capnp::Data::Reader as_data(std::span<const std::byte> bytes) noexcept {
    return {reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()};
}

capnp::Text::Reader as_text(const std::string& whole, std::string& room) {
    if (whole.size() <= text_bytes_max) return {whole.c_str(), whole.size()};
    room = detail::shortened(whole, text_bytes_max);
    return {room.c_str(), room.size()};
}

capnp::Text::Reader as_name(const std::string& name) {
    if (name.size() > name_bytes_max)
        throw error{errc::too_large, "a name of " + std::to_string(name.size()) +
                                         " bytes cannot travel; the limit is " +
                                         std::to_string(name_bytes_max)};
    return {name.c_str(), name.size()};
}

void check_records(std::size_t bytes) {
    if (bytes > records_bytes_max)
        throw error{errc::too_large, std::to_string(bytes) +
                                         " bytes of records do not fit into one frame of " +
                                         std::to_string(records_bytes_max)};
}

// Fills the message for one kind of frame; `room` holds a text that had to be cut.
struct writer {
    wire::Frame::Builder root;
    std::string room{};

    void operator()(const challenge_frame& f) {
        auto to = root.initChallenge();
        to.setProtocolMin(f.protocol_min);
        to.setProtocolMax(f.protocol_max);
        to.setNonce(as_data(f.nonce));
    }
    void operator()(const hello_frame& f) {
        auto to = root.initHello();
        to.setProtocolMin(f.protocol_min);
        to.setProtocolMax(f.protocol_max);
        to.setNodeName(as_name(f.node_name));
        to.setIncarnation(as_data(f.incarnation));
        to.setNonce(as_data(f.nonce));
        to.setProof(as_data(f.proof));
    }
    void operator()(const welcome_frame& f) {
        auto to = root.initWelcome();
        to.setProtocol(f.protocol);
        to.setNodeName(as_name(f.node_name));
        to.setIncarnation(as_data(f.incarnation));
        to.setProof(as_data(f.proof));
    }
    void operator()(const reject_frame& f) {
        auto to = root.initReject();
        to.setCode(code_to_wire(f.code));
        to.setText(as_text(f.text, room));
        to.setProtocolMin(f.protocol_min);
        to.setProtocolMax(f.protocol_max);
    }
    void operator()(const open_frame& f) {
        auto to = root.initOpen();
        to.setChannel(f.channel);
        to.setRingBytes(f.ring_bytes);
        if (const auto* entry = std::get_if<start_entry>(&f.target)) {
            auto start = to.initStartPlace();
            start.setNamed(as_name(entry->named));
            start.setEntry(as_name(entry->entry));
        } else if (const auto* module = std::get_if<start_module>(&f.target)) {
            auto start = to.initStartPlace();
            start.setNamed(as_name(module->named));
            auto code = start.initModule();
            code.setLibrary(as_name(module->library));
            code.setSymbol(as_name(module->symbol));
        } else {
            to.setConnectName(as_name(std::get<connect_name>(f.target).name));
        }
    }
    void operator()(const opened_frame& f) {
        auto to = root.initOpened();
        to.setChannel(f.channel);
        to.setLimit(f.limit);
        to.setPlace(f.place);
    }
    void operator()(const refused_frame& f) {
        auto to = root.initRefused();
        to.setChannel(f.channel);
        to.setCode(code_to_wire(f.code));
        to.setText(as_text(f.text, room));
    }
    void operator()(const data_frame& f) {
        check_records(f.records.size());
        auto to = root.initData();
        to.setChannel(f.channel);
        to.setPosition(f.position);
        to.setRecords(as_data(f.records));
    }
    void operator()(const credit_frame& f) {
        auto to = root.initCredit();
        to.setChannel(f.channel);
        to.setPlaced(f.placed);
        to.setLimit(f.limit);
        to.setDropped(f.dropped);
        to.setMessageBytesMax(f.message_bytes_max);
    }
    void operator()(const close_frame& f) {
        auto to = root.initClose();
        to.setChannel(f.channel);
        to.setPosition(f.position);
        to.setReason(code_to_wire(f.reason));
        to.setText(as_text(f.text, room));
    }
    void operator()(const place_died_frame& f) {
        auto to = root.initPlaceDied();
        to.setPlace(f.place);
        to.setChannel(f.channel);
        to.setReason(static_cast<wire::DeathReason>(f.reason));
        to.setStatus(f.status);
        to.setText(as_text(f.text, room));
    }
    void operator()(const log_frame& f) {
        auto to = root.initLog();
        to.setPlace(as_name(f.place));
        to.setSeverity(f.severity);
        to.setTime(f.time_ns);
        to.setText(as_text(f.text, room));
    }
    void operator()(const output_frame& f) {
        auto to = root.initOutput();
        to.setPlace(as_name(f.place));
        to.setStream(f.stream);
        const std::size_t size = std::min(f.line.size(), text_bytes_max);
        to.setLine(as_data(std::as_bytes(std::span{f.line.data(), size})));
    }
    void operator()(const exit_frame& f) { root.initExit().setStatus(f.status); }
    void operator()(const ping_frame& f) { root.initPing().setSequence(f.sequence); }
    void operator()(const pong_frame& f) { root.initPong().setSequence(f.sequence); }
    void operator()(const list_ask_frame&) { root.initListAsk(); }
    void operator()(const list_answer_frame& f) {
        auto to = root.initListAnswer();
        to.setCode(code_to_wire(f.code));
        to.setText(as_text(f.text, room));
        to.setIsLast(f.is_last);
        auto places = to.initPlaces(static_cast<kj::uint>(f.places.size()));
        for (kj::uint i = 0; i < places.size(); ++i) {
            places[i].setNumber(f.places[i].number);
            places[i].setPid(f.places[i].pid);
            places[i].setName(as_name(f.places[i].name));
            places[i].setEntry(as_name(f.places[i].entry));
            places[i].setAgeMs(f.places[i].age_ms);
            places[i].setState(as_name(f.places[i].state));
        }
        auto channels = to.initChannels(static_cast<kj::uint>(f.channels.size()));
        for (kj::uint i = 0; i < channels.size(); ++i) {
            channels[i].setLink(f.channels[i].link);
            channels[i].setNumber(f.channels[i].number);
            channels[i].setPlace(f.channels[i].place);
            channels[i].setSent(f.channels[i].sent);
            channels[i].setAcknowledged(f.channels[i].acknowledged);
            channels[i].setPlaced(f.channels[i].placed);
        }
        auto links = to.initLinks(static_cast<kj::uint>(f.links.size()));
        for (kj::uint i = 0; i < links.size(); ++i) {
            links[i].setNumber(f.links[i].number);
            links[i].setPeer(as_name(f.links[i].peer));
            links[i].setAddress(as_name(f.links[i].address));
            links[i].setAgeMs(f.links[i].age_ms);
            links[i].setRights(as_name(f.links[i].rights));
            links[i].setIsSecure(f.links[i].is_secure);
        }
        auto locals = to.initLocals(static_cast<kj::uint>(f.locals.size()));
        for (kj::uint i = 0; i < locals.size(); ++i) {
            locals[i].setNumber(f.locals[i].number);
            locals[i].setFirst(f.locals[i].first);
            locals[i].setSecond(f.locals[i].second);
            locals[i].setIsHeldByFirst(f.locals[i].is_held_by_first);
            locals[i].setIsHeldBySecond(f.locals[i].is_held_by_second);
            locals[i].setRingBytes(f.locals[i].ring_bytes);
        }
    }
    void operator()(const exit_refused_frame& f) {
        auto to = root.initExitRefused();
        to.setCode(code_to_wire(f.code));
        to.setText(as_text(f.text, room));
    }
    void operator()(const introduce_frame& f) { root.initIntroduce().setNode(as_name(f.node)); }
    void operator()(const introduction_frame& f) {
        auto to = root.initIntroduction();
        to.setNode(as_name(f.node));
        to.setCode(code_to_wire(f.code));
        to.setText(as_text(f.text, room));
        to.setAsker(as_name(f.asker));
        to.setHost(as_name(f.host));
        to.setPort(f.port);
        to.setKey(as_data(f.key));
        to.setInsecure(f.insecure);
    }
};
static_assert(static_cast<int>(wire::DeathReason::UNKNOWN) ==
              static_cast<int>(death_reason::unknown));

// Enough for the message in one segment, so that it never needs a second.
struct size_hint_bytes {
    std::size_t operator()(const hello_frame& f) const { return f.node_name.size(); }
    std::size_t operator()(const welcome_frame& f) const { return f.node_name.size(); }
    std::size_t operator()(const reject_frame& f) const { return f.text.size(); }
    std::size_t operator()(const refused_frame& f) const { return f.text.size(); }
    std::size_t operator()(const data_frame& f) const { return f.records.size(); }
    std::size_t operator()(const place_died_frame& f) const { return f.text.size(); }
    std::size_t operator()(const close_frame& f) const { return f.text.size(); }
    std::size_t operator()(const log_frame& f) const { return f.place.size() + f.text.size(); }
    std::size_t operator()(const output_frame& f) const { return f.place.size() + f.line.size(); }
    std::size_t operator()(const exit_refused_frame& f) const { return f.text.size(); }
    std::size_t operator()(const introduce_frame& f) const { return f.node.size(); }
    std::size_t operator()(const introduction_frame& f) const {
        return f.node.size() + f.text.size() + f.asker.size() + f.host.size();
    }
    std::size_t operator()(const list_answer_frame& f) const {
        constexpr std::size_t row_bytes = 128;  // numbers, pointers and the ends of three texts
        std::size_t bytes = f.text.size() + row_bytes * (f.places.size() + f.channels.size() +
                                                         f.links.size() + f.locals.size());
        for (const auto& p : f.places) bytes += p.name.size() + p.entry.size() + p.state.size();
        for (const auto& l : f.links) bytes += l.peer.size() + l.address.size() + l.rights.size();
        return bytes;
    }
    std::size_t operator()(const open_frame& f) const {
        if (const auto* entry = std::get_if<start_entry>(&f.target))
            return entry->named.size() + entry->entry.size();
        if (const auto* module = std::get_if<start_module>(&f.target))
            return module->named.size() + module->library.size() + module->symbol.size();
        return std::get<connect_name>(f.target).name.size();
    }
    template <class Fixed>
    std::size_t operator()(const Fixed&) const {
        return 0;
    }
};
constexpr std::size_t fixed_bytes_max = 256;  // pointers, numbers, digests, padding of any frame
constexpr std::size_t variable_bytes_max = records_bytes_max + name_bytes_max + fixed_bytes_max;

// -- a data frame's first words, which come before its records --

constexpr std::size_t body_at = length_prefix_bytes;
constexpr std::size_t channel_at = body_at + 3 * 8;
constexpr std::size_t position_at = body_at + 4 * 8;
constexpr std::size_t list_pointer_at = body_at + 5 * 8;
constexpr std::size_t list_size_at = list_pointer_at + 4;  // (bytes << 3) | 2, "list of bytes"
constexpr std::size_t prefix_bytes = sizeof(data_prefix::bytes);
static_assert(list_pointer_at + 8 == prefix_bytes);

// A real frame's beginning; the four fields above are patched or read, all else is the same for
// all.
const std::array<std::byte, prefix_bytes>& data_template() {
    static const std::array<std::byte, prefix_bytes> made = [] {
        std::array<std::byte, prefix_bytes> first{};
        const auto whole = encode(data_frame{});
        std::copy_n(whole.begin(), first.size(), first.begin());
        return first;
    }();
    return made;
}

// Data frames come by the thousand and at addresses that are not multiples of 8. One that looks
// exactly as ours do is read without Cap'n Proto and without a copy; whatever else it may be,
// decode() finds out.
std::optional<data_frame> read_usual_data(std::span<const std::byte> body) {
    constexpr std::size_t head_bytes = prefix_bytes - body_at;
    if (body.size() < head_bytes) return std::nullopt;
    const std::byte* usual = data_template().data() + body_at;
    const auto same = [&](std::size_t from, std::size_t to) {
        const std::size_t at = from - body_at;
        return std::memcmp(body.data() + at, usual + at, to - from) == 0;
    };
    if (!same(body_at, channel_at) || !same(list_pointer_at, list_size_at)) return std::nullopt;
    const auto size = load_little_u32(octets(body.data()) + (list_size_at - body_at));
    const std::size_t record_bytes = size >> 3;
    if ((size & 7) != 2 || record_bytes > records_bytes_max ||
        head_bytes + round_up_8(record_bytes) != body.size())
        return std::nullopt;
    return data_frame{load_little_u64(octets(body.data()) + (channel_at - body_at)),
                      load_little_u64(octets(body.data()) + (position_at - body_at)),
                      body.subspan(head_bytes, record_bytes)};
}

// -- reading --

// Thrown and caught in this file: a part that is well-formed Cap'n Proto and still not allowed.
struct refusal {
    errc code;
};

template <std::size_t Size>
std::array<std::byte, Size> exactly(capnp::Data::Reader data) {
    if (data.size() != Size) throw refusal{errc::protocol};
    std::array<std::byte, Size> bytes;
    std::memcpy(bytes.data(), data.begin(), Size);
    return bytes;
}

std::string bounded_text(capnp::Text::Reader text) {
    if (text.size() > text_bytes_max) throw refusal{errc::too_large};
    return {text.begin(), text.size()};
}

std::string bounded_name(capnp::Text::Reader text) {
    if (text.size() > name_bytes_max) throw refusal{errc::too_large};
    const std::string_view view{text.begin(), text.size()};
    // A path that ends where C's strings do is another path than the one whose rights were checked.
    if (!can_travel(view)) throw refusal{errc::protocol};
    return std::string{view};
}

open_frame read_open(wire::Open::Reader from) {
    open_frame f{from.getChannel(), from.getRingBytes(), {}};
    if (from.isConnectName()) {
        f.target = connect_name{bounded_name(from.getConnectName())};
        return f;
    }
    if (!from.isStartPlace()) throw refusal{errc::protocol};
    const auto start = from.getStartPlace();
    if (start.isEntry()) {
        f.target = start_entry{bounded_name(start.getEntry()), bounded_name(start.getNamed())};
    } else if (start.isModule()) {
        const auto module = start.getModule();
        f.target = start_module{bounded_name(module.getLibrary()), bounded_name(module.getSymbol()),
                                bounded_name(start.getNamed())};
    } else {
        throw refusal{errc::protocol};
    }
    return f;
}

data_frame read_data(wire::Records::Reader from) {
    const auto records = from.getRecords();
    if (records.size() > records_bytes_max) throw refusal{errc::too_large};
    return {from.getChannel(),
            from.getPosition(),
            {reinterpret_cast<const std::byte*>(records.begin()), records.size()}};
}

place_died_frame read_place_died(wire::PlaceDied::Reader from) {
    place_died_frame f{from.getPlace(), from.getChannel(), death_reason::unknown, from.getStatus(),
                       bounded_text(from.getText())};
    if (from.getReason() == wire::DeathReason::EXITED) f.reason = death_reason::exited;
    if (from.getReason() == wire::DeathReason::SIGNALLED) f.reason = death_reason::signalled;
    return f;
}

output_frame read_output(wire::Output::Reader from) {
    const auto line = from.getLine();
    if (line.size() > text_bytes_max) throw refusal{errc::too_large};
    if (from.getStream() != 1 && from.getStream() != 2) throw refusal{errc::protocol};
    return {bounded_name(from.getPlace()), from.getStream(),
            std::string{reinterpret_cast<const char*>(line.begin()), line.size()}};
}

std::string listed_text(capnp::Text::Reader text) {
    if (text.size() > listed_text_bytes_max) throw refusal{errc::too_large};
    return bounded_name(text);
}

list_answer_frame read_list_answer(wire::ListAnswer::Reader from) {
    list_answer_frame f{
        code_from_wire(from.getCode()), bounded_text(from.getText()), from.getIsLast(), {}, {}, {}};
    const auto rows = std::uint64_t{from.getPlaces().size()} + from.getChannels().size() +
                      from.getLinks().size() + from.getLocals().size();
    if (rows > listed_rows_max) throw refusal{errc::too_large};
    for (const auto p : from.getPlaces())
        f.places.push_back({p.getNumber(), p.getPid(), listed_text(p.getName()),
                            listed_text(p.getEntry()), p.getAgeMs(), listed_text(p.getState())});
    for (const auto c : from.getChannels())
        f.channels.push_back({c.getLink(), c.getNumber(), c.getPlace(), c.getSent(),
                              c.getAcknowledged(), c.getPlaced()});
    for (const auto l : from.getLinks())
        f.links.push_back({l.getNumber(), listed_text(l.getPeer()), listed_text(l.getAddress()),
                           l.getAgeMs(), listed_text(l.getRights()), l.getIsSecure()});
    for (const auto l : from.getLocals())
        f.locals.push_back({l.getNumber(), l.getFirst(), l.getSecond(), l.getIsHeldByFirst(),
                            l.getIsHeldBySecond(), l.getRingBytes()});
    return f;
}

introduction_frame read_introduction(wire::Introduction::Reader from) {
    return {bounded_name(from.getNode()), code_from_wire(from.getCode()),
            bounded_text(from.getText()), bounded_name(from.getAsker()),
            bounded_name(from.getHost()), from.getPort(),
            exactly<32>(from.getKey()),   from.getInsecure()};
}

frame read(wire::Frame::Reader root) {
    switch (root.which()) {
        case wire::Frame::CHALLENGE: {
            const auto from = root.getChallenge();
            return challenge_frame{from.getProtocolMin(), from.getProtocolMax(),
                                   exactly<32>(from.getNonce())};
        }
        case wire::Frame::HELLO: {
            const auto from = root.getHello();
            return hello_frame{from.getProtocolMin(),
                               from.getProtocolMax(),
                               bounded_name(from.getNodeName()),
                               exactly<16>(from.getIncarnation()),
                               exactly<32>(from.getNonce()),
                               exactly<32>(from.getProof())};
        }
        case wire::Frame::WELCOME: {
            const auto from = root.getWelcome();
            return welcome_frame{from.getProtocol(), bounded_name(from.getNodeName()),
                                 exactly<16>(from.getIncarnation()), exactly<32>(from.getProof())};
        }
        case wire::Frame::REJECT: {
            const auto from = root.getReject();
            return reject_frame{code_from_wire(from.getCode()), bounded_text(from.getText()),
                                from.getProtocolMin(), from.getProtocolMax()};
        }
        case wire::Frame::OPEN: return read_open(root.getOpen());
        case wire::Frame::OPENED: {
            const auto from = root.getOpened();
            return opened_frame{from.getChannel(), from.getLimit(), from.getPlace()};
        }
        case wire::Frame::REFUSED: {
            const auto from = root.getRefused();
            return refused_frame{from.getChannel(), code_from_wire(from.getCode()),
                                 bounded_text(from.getText())};
        }
        case wire::Frame::DATA: return read_data(root.getData());
        case wire::Frame::CREDIT: {
            const auto from = root.getCredit();
            return credit_frame{from.getChannel(), from.getPlaced(), from.getLimit(),
                                from.getDropped(), from.getMessageBytesMax()};
        }
        case wire::Frame::CLOSE: {
            const auto from = root.getClose();
            return close_frame{from.getChannel(), from.getPosition(),
                               code_from_wire(from.getReason()), bounded_text(from.getText())};
        }
        case wire::Frame::PLACE_DIED: return read_place_died(root.getPlaceDied());
        case wire::Frame::LOG: {
            const auto from = root.getLog();
            return log_frame{bounded_name(from.getPlace()),
                             std::min<std::uint8_t>(from.getSeverity(), 7), from.getTime(),
                             bounded_text(from.getText())};
        }
        case wire::Frame::OUTPUT: return read_output(root.getOutput());
        case wire::Frame::EXIT: return exit_frame{root.getExit().getStatus()};
        case wire::Frame::PING: return ping_frame{root.getPing().getSequence()};
        case wire::Frame::PONG: return pong_frame{root.getPong().getSequence()};
        case wire::Frame::LIST_ASK: return list_ask_frame{};
        case wire::Frame::LIST_ANSWER: return read_list_answer(root.getListAnswer());
        case wire::Frame::EXIT_REFUSED: {
            const auto from = root.getExitRefused();
            return exit_refused_frame{code_from_wire(from.getCode()), bounded_text(from.getText())};
        }
        case wire::Frame::INTRODUCE:
            return introduce_frame{bounded_name(root.getIntroduce().getNode())};
        case wire::Frame::INTRODUCTION: return read_introduction(root.getIntroduction());
    }
    throw refusal{errc::protocol};
}

}  // namespace

errc code_of(const error& e) noexcept {
    const auto& code = e.code();
    return code.category() == places_category() ? errc_of(code.value()) : errc::start_failed;
}

bool can_travel(std::string_view name) noexcept {
    return name.size() <= name_bytes_max && name.find('\0') == name.npos;
}

bool operator==(const data_frame& a, const data_frame& b) noexcept {
    return a.channel == b.channel && a.position == b.position &&
           std::ranges::equal(a.records, b.records);
}

std::vector<std::byte> encode(const frame& f) {
    const std::size_t hint = std::visit(size_hint_bytes{}, f);
    const std::size_t room_bytes = std::min(hint + fixed_bytes_max, variable_bytes_max);
    capnp::MallocMessageBuilder message{static_cast<kj::uint>(room_bytes / sizeof(capnp::word) + 1),
                                        capnp::AllocationStrategy::FIXED_SIZE};
    std::visit(writer{message.initRoot<wire::Frame>()}, f);
    const auto segments = message.getSegmentsForOutput();
    if (segments.size() != 1)
        throw error{errc::too_large, "a frame's texts do not fit into one frame together"};
    const auto body = std::as_bytes(std::span{segments[0].begin(), segments[0].size()});
    std::vector<std::byte> bytes(length_prefix_bytes + body.size());
    store_little_u32(reinterpret_cast<unsigned char*>(bytes.data()),
                     static_cast<std::uint32_t>(body.size()));
    std::ranges::copy(body, bytes.begin() + length_prefix_bytes);
    return bytes;
}

result<frame> decode(std::span<const std::byte> body) {
    if (body.size() < 16 || body.size() % 8 != 0) return errc::protocol;
    if (body.size() > session_limits.frame_bytes_max) return errc::too_large;
    if (auto data = read_usual_data(body)) return frame{*data};

    const std::size_t words = body.size() / sizeof(capnp::word);
    const auto* first = reinterpret_cast<const capnp::word*>(body.data());
    std::vector<std::uint64_t> aligned;
    if (reinterpret_cast<std::uintptr_t>(body.data()) % alignof(std::uint64_t) != 0) {
        aligned.resize(words);
        std::memcpy(aligned.data(), body.data(), body.size());
        first = reinterpret_cast<const capnp::word*>(aligned.data());
    }
    try {
        const kj::ArrayPtr<const capnp::word> segment{first, words};
        capnp::ReaderOptions options;
        options.traversalLimitInWords = std::max<std::uint64_t>(2 * words, 1024);
        options.nestingLimit = 16;
        capnp::SegmentArrayMessageReader message{kj::arrayPtr(&segment, 1), options};
        frame f = read(message.getRoot<wire::Frame>());
        if (auto* data = std::get_if<data_frame>(&f)) {
            // An absent list is not in the message at all; a present one is, and so it is in
            // `body`.
            const auto at = data->records.data() - reinterpret_cast<const std::byte*>(first);
            data->records = data->records.empty()
                                ? body.first(0)
                                : body.subspan(static_cast<std::size_t>(at), data->records.size());
        }
        return f;
    } catch (const refusal& r) {
        return r.code;
    } catch (const kj::Exception&) {
        return errc::protocol;
    }
}

result<std::size_t> decode_length(std::span<const std::byte, length_prefix_bytes> prefix,
                                  frame_limits limits) noexcept {
    const std::size_t bytes = load_little_u32(octets(prefix.data()));
    if (bytes > limits.frame_bytes_max) return errc::too_large;
    if (bytes < 16 || bytes % 8 != 0) return errc::protocol;
    return bytes;
}

data_prefix encode_data_prefix(std::uint64_t channel, std::uint64_t position,
                               std::size_t record_bytes) {
    check_records(record_bytes);
    const std::size_t padded_bytes = round_up_8(record_bytes);
    data_prefix prefix{data_template(), padded_bytes - record_bytes};
    auto* bytes = reinterpret_cast<unsigned char*>(prefix.bytes.data());
    store_little_u32(bytes, static_cast<std::uint32_t>(prefix_bytes - body_at + padded_bytes));
    store_little_u64(bytes + channel_at, channel);
    store_little_u64(bytes + position_at, position);
    store_little_u32(bytes + list_size_at, static_cast<std::uint32_t>(record_bytes << 3 | 2));
    return prefix;
}

}  // namespace places::net
