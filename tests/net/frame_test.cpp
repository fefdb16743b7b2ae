// SPDX-License-Identifier: Apache-2.0
#include "net/frame.hpp"

#include "net/wire.capnp.h"

#include <capnp/message.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>

namespace places::net {
namespace {

using bytes = std::vector<std::byte>;

template <std::size_t Size>
std::array<std::byte, Size> counting(int first) {
    std::array<std::byte, Size> made;
    for (std::byte& b : made) b = static_cast<std::byte>(first++);
    return made;
}

bytes noise(std::size_t size, unsigned seed) {
    std::mt19937 random{seed};
    bytes made(size);
    for (auto& b : made) b = static_cast<std::byte>(random());
    return made;
}

// Lives as long as the program, since data frames only point at it.
std::span<const std::byte> some_records(std::size_t size) {
    static const bytes all = noise(records_bytes_max, 7);
    return std::span{all}.first(size);
}

// At least one of each kind, with every field away from its default.
std::vector<frame> samples() {
    return {
        challenge_frame{1, 3, counting<32>(1)},
        hello_frame{1, 2, "node-a", counting<16>(9), counting<32>(40), counting<32>(80)},
        welcome_frame{2, "b", counting<16>(3), counting<32>(5)},
        reject_frame{errc::bad_key, "no", 1, 4},
        open_frame{5, 1 << 20, start_entry{"bank", "the-bank"}},
        open_frame{7, 4096, start_module{"./libbank.so", "make_bank", ""}},
        open_frame{9, 64, connect_name{"tuple-server"}},
        opened_frame{5, 1ull << 40, 17},
        refused_frame{7, errc::load_failed, "no such file: ./libbank.so"},
        data_frame{5, 1ull << 33, some_records(64)},
        data_frame{6, 0, some_records(records_bytes_max)},
        credit_frame{5, 640, 1 << 20},
        credit_frame{5, 640, 1 << 20, 128},
        credit_frame{5, 640, 1 << 20, 128, 100},
        close_frame{5, 704, errc::peer_dead},
        close_frame{5, 704, errc::refused, "echo: map 4096 bytes: Too many open files"},
        place_died_frame{17, 5, death_reason::signalled, 9},
        place_died_frame{18, 0, death_reason::exited, 255},
        place_died_frame{19, 7, death_reason::exited, 1, "no such file: x"},
        place_died_frame{19, 7, death_reason::exited, 1, std::string(text_bytes_max, 'x')},
        log_frame{"bank", 3, 1'700'000'000'123'456'789, "an account is missing"},
        output_frame{"bank", 2, std::string{"raw \0 \xFF bytes", 13}},
        exit_frame{-1},
        ping_frame{~0ull},
        pong_frame{41},
        list_ask_frame{},
        list_answer_frame{
            errc::permission_denied,
            "no",
            false,
            {{17, 4711, "bank", "bank_server", 90'000, "sleeping"}, {18, 1, "", "", 1, ""}},
            {{3, 5, 17, 640, 576, 64}},
            {{3, "root", "[::1]:6340", 7, "start stop list connect", true}},
            {{4, 17, 18, true, false, 65536}, {5, 1, 17, false, true, 4096}}},
        exit_refused_frame{errc::permission_denied, "no"},
        introduce_frame{"node-b"},
        introduction_frame{"node-b", errc::name_not_found, "no", "node-a", "10.0.0.2", 6344,
                           counting<32>(6), true},
    };
}

std::span<const std::byte> body_of(const bytes& encoded) {
    return std::span{encoded}.subspan(length_prefix_bytes);
}

// What a receiver may rely on, whatever came.
void check_records_lie_within(const result<frame>& f, std::span<const std::byte> body) {
    if (!f) return;
    const auto* data = std::get_if<data_frame>(&*f);
    if (data == nullptr || data->records.empty()) return;
    ASSERT_GE(data->records.data(), body.data());
    ASSERT_LE(data->records.data() + data->records.size(), body.data() + body.size());
}

TEST(frame, every_kind_comes_back_as_it_went) {
    std::set<std::size_t> kinds;
    for (const frame& f : samples()) {
        const bytes encoded = encode(f);
        const auto length =
            decode_length(std::span{encoded}.first<length_prefix_bytes>(), session_limits);
        ASSERT_TRUE(length) << f.index();
        EXPECT_EQ(*length, encoded.size() - length_prefix_bytes);
        const auto back = decode(body_of(encoded));
        ASSERT_TRUE(back) << f.index() << ": " << back.error().message();
        EXPECT_TRUE(*back == f) << f.index();
        kinds.insert(f.index());
    }
    EXPECT_EQ(kinds.size(), std::variant_size_v<frame>);
}

TEST(frame, a_list_has_room_for_its_most_rows_of_the_longest_texts_and_for_no_more) {
    const std::string longest(listed_text_bytes_max, 'n');
    list_answer_frame most{{}, std::string(1000, 't'), true, {}, {}, {}};
    most.places.assign(listed_rows_max, {1, 2, longest, longest, 3, longest});
    const auto encoded = encode(most);
    const auto back = decode(body_of(encoded));
    ASSERT_TRUE(back) << back.error().message();
    EXPECT_TRUE(*back == frame{most});
    most.places = {};
    most.links.assign(listed_rows_max, {1, longest, longest, 3, longest, true});
    EXPECT_TRUE(decode(body_of(encode(most))));
    for (const bool is_local : {false, true}) {
        auto more = most;
        if (is_local) more.locals.push_back({});
        if (!is_local) more.channels.push_back({});
        EXPECT_EQ(decode(body_of(encode(more))).error(), errc::too_large);
    }
    most = {{}, "", true, {{1, 2, longest + "n", "", 3, ""}}, {}, {}};
    EXPECT_EQ(decode(body_of(encode(most))).error(), errc::too_large);
}

TEST(frame, is_read_at_any_address_and_records_are_never_copied) {
    for (const frame& f : samples()) {
        const bytes encoded = encode(f);
        const auto body = body_of(encoded);
        alignas(8) static std::byte room[records_bytes_max + 1024];
        for (std::size_t shift = 0; shift < 8; ++shift) {
            std::ranges::copy(body, room + shift);
            const std::span<const std::byte> moved{room + shift, body.size()};
            const auto back = decode(moved);
            ASSERT_TRUE(back);
            EXPECT_TRUE(*back == f) << f.index() << " at " << shift;
            check_records_lie_within(back, moved);
        }
    }
}

TEST(frame, prefix_and_records_are_byte_for_byte_the_encoded_frame) {
    std::vector<std::size_t> sizes;
    for (std::size_t size = 0; size <= 520; ++size) sizes.push_back(size);
    for (std::size_t size = 576; size <= records_bytes_max; size += 64) sizes.push_back(size);
    std::mt19937_64 random{1};
    for (std::size_t size : sizes) {
        const std::uint64_t channel = random();
        const std::uint64_t position = random();
        const auto prefix = encode_data_prefix(channel, position, size);
        bytes gathered{prefix.bytes.begin(), prefix.bytes.end()};
        std::ranges::copy(some_records(size), std::back_inserter(gathered));
        gathered.resize(gathered.size() + prefix.padding_bytes);
        ASSERT_TRUE(gathered == encode(data_frame{channel, position, some_records(size)})) << size;
        ASSERT_TRUE(size % 64 != 0 || prefix.padding_bytes == 0);
    }
}

TEST(frame, cut_short_is_never_the_same_frame_and_never_read_beyond) {
    for (const frame& f : samples()) {
        const bytes encoded = encode(f);
        const auto body = body_of(encoded);
        const std::size_t step = body.size() > 4096 ? 512 : 1;
        for (std::size_t size = 0; size < body.size(); size += step) {
            const bytes cut{body.begin(), body.begin() + static_cast<std::ptrdiff_t>(size)};
            const auto back = decode(cut);
            check_records_lie_within(back, cut);
            ASSERT_TRUE(size % 8 == 0 || back.error() == errc::protocol);
            // Trailing words may be nothing but zeros of a default; data's never are.
            ASSERT_FALSE(std::holds_alternative<data_frame>(f) && back && *back == f);
        }
    }
}

TEST(frame, flipped_bits_give_a_frame_or_an_error) {
    std::mt19937 random{20};
    std::size_t refused = 0;
    for (int round = 0; round < 2000; ++round) {
        for (const frame& f : samples()) {
            if (const auto* d = std::get_if<data_frame>(&f); d && d->records.size() > 64) continue;
            const bytes encoded = encode(f);
            bytes body{encoded.begin() + length_prefix_bytes, encoded.end()};
            for (unsigned flips = 1 + random() % 4; flips > 0; --flips) {
                // Mostly where the pointers are.
                const std::size_t at = random() % (random() % 2 ? body.size() : 48) % body.size();
                body[at] ^= static_cast<std::byte>(1u << random() % 8);
            }
            const auto back = decode(body);
            check_records_lie_within(back, body);
            if (!back) ++refused;
        }
    }
    EXPECT_GT(refused, 1000u);
}

TEST(frame, random_bytes_give_a_frame_or_an_error) {
    std::mt19937 random{21};
    for (unsigned round = 0; round < 5000; ++round) {
        const bytes body = noise(16 + 8 * (random() % 40), round);
        check_records_lie_within(decode(body), body);
    }
}

TEST(frame, length_prefix_is_compared_with_the_limit_of_the_moment) {
    const auto read = [](std::uint32_t n, frame_limits limits) {
        bytes prefix;
        for (int shift = 0; shift < 32; shift += 8)
            prefix.push_back(static_cast<std::byte>(n >> shift));
        return decode_length(std::span{prefix}.first<length_prefix_bytes>(), limits);
    };
    EXPECT_EQ(*read(16, handshake_limits), 16u);
    EXPECT_EQ(*read(16 * 1024, handshake_limits), 16u * 1024);
    EXPECT_EQ(read(16 * 1024 + 8, handshake_limits).error(), errc::too_large);
    EXPECT_EQ(*read(16 * 1024 + 8, session_limits), 16u * 1024 + 8);
    EXPECT_EQ(read(0xFFFFFFF8u, session_limits).error(), errc::too_large);
    for (std::uint32_t n : {0u, 8u, 17u, 23u, 1001u})
        EXPECT_EQ(read(n, session_limits).error(), errc::protocol) << n;
}

TEST(frame, text_for_people_is_cut_between_two_characters) {
    std::string text(text_bytes_max - 1, 'x');
    text += "\xC3\xA4 and more";  // its two bytes lie on either side of the limit
    const auto encoded = encode(refused_frame{1, errc::closed, text});
    const auto back = decode(body_of(encoded));
    ASSERT_TRUE(back);
    EXPECT_EQ(std::get<refused_frame>(*back).text, std::string(text_bytes_max - 1, 'x'));

    const auto log =
        encode(log_frame{std::string(name_bytes_max, 'p'), 7, 1, std::string(1 << 20, 'y')});
    EXPECT_LE(log.size(), session_limits.frame_bytes_max);
    EXPECT_TRUE(decode(body_of(log)));
    const auto line = encode(output_frame{"", 1, std::string(1 << 20, 'z')});
    EXPECT_EQ(std::get<output_frame>(*decode(body_of(line))).line.size(), text_bytes_max);
}

TEST(frame, name_over_its_limit_is_refused_not_cut) {
    const std::string long_name(name_bytes_max + 1, 'n');
    const auto code_of = [](const frame& f) {
        try {
            encode(f);
        } catch (const error& e) {
            return e.code();
        }
        return boost::system::error_code{};
    };
    EXPECT_EQ(code_of(open_frame{1, 64, connect_name{long_name}}), errc::too_large);
    EXPECT_EQ(code_of(open_frame{1, 64, start_module{long_name, "s", ""}}), errc::too_large);
    const bytes many(records_bytes_max + 64);
    EXPECT_EQ(code_of(data_frame{1, 0, many}), errc::too_large);
    EXPECT_THROW(encode_data_prefix(1, 0, many.size()), error);
}

// -- messages that encode() never writes --

class message {
  public:
    wire::Frame::Builder root() { return builder_.initRoot<wire::Frame>(); }
    bytes body() {
        const auto segments = builder_.getSegmentsForOutput();
        EXPECT_EQ(segments.size(), 1u);
        const auto all = std::as_bytes(std::span{segments[0].begin(), segments[0].size()});
        return {all.begin(), all.end()};
    }

  private:
    capnp::MallocMessageBuilder builder_{1 << 14};
};

TEST(frame, part_of_a_wrong_size_is_refused) {
    message short_nonce;
    short_nonce.root().initChallenge().initNonce(31);
    EXPECT_EQ(decode(short_nonce.body()).error(), errc::protocol);

    message no_nonce;
    no_nonce.root().initChallenge().setProtocolMax(1);
    EXPECT_EQ(decode(no_nonce.body()).error(), errc::protocol);

    message long_name;
    long_name.root().initOpen().initConnectName(name_bytes_max + 1);
    EXPECT_EQ(decode(long_name.body()).error(), errc::too_large);

    message long_line;
    auto output = long_line.root().initOutput();
    output.setStream(1);
    output.initLine(text_bytes_max + 1);
    EXPECT_EQ(decode(long_line.body()).error(), errc::too_large);

    message long_records;
    long_records.root().initData().initRecords(records_bytes_max + 64);
    EXPECT_EQ(decode(long_records.body()).error(), errc::too_large);
}

TEST(frame, name_with_a_nul_inside_is_refused) {
    message m;
    auto module = m.root().initOpen().initStartPlace().initModule();
    module.setLibrary({"ok.so\0/../evil.so", 17});
    module.setSymbol("f");
    EXPECT_EQ(decode(m.body()).error(), errc::protocol);
}

TEST(frame, number_of_a_newer_version_is_refused_or_reads_as_unknown) {
    message newer_kind;
    newer_kind.root().initPing().setSequence(1);
    bytes body = newer_kind.body();
    body[8] = std::byte{200};  // the union's tag is the first field of the root
    EXPECT_EQ(decode(body).error(), errc::protocol);

    message third_stream;
    third_stream.root().initOutput().setStream(3);
    EXPECT_EQ(decode(third_stream.body()).error(), errc::protocol);

    message newer_code;
    newer_code.root().initRefused().setCode(999);
    const auto refused = decode(newer_code.body());
    ASSERT_TRUE(refused);
    EXPECT_EQ(std::get<refused_frame>(*refused).code, errc::protocol);

    message newer_reason;
    newer_reason.root().initPlaceDied().setReason(static_cast<wire::DeathReason>(77));
    const auto died = decode(newer_reason.body());
    ASSERT_TRUE(died);
    EXPECT_EQ(std::get<place_died_frame>(*died).reason, death_reason::unknown);
}

// A peer in another language may lay a message out otherwise: the short cut for data must not be
// the only way.
TEST(frame, data_in_an_unusual_order_is_still_read_without_a_copy) {
    capnp::MallocMessageBuilder builder{64};
    auto orphan = builder.getOrphanage().newOrphan<capnp::Data>(64);
    std::ranges::copy(some_records(64), reinterpret_cast<std::byte*>(orphan.get().begin()));
    auto data = builder.initRoot<wire::Frame>().initData();
    data.setChannel(5);
    data.setPosition(128);
    data.adoptRecords(std::move(orphan));
    const auto segments = builder.getSegmentsForOutput();
    const auto all = std::as_bytes(std::span{segments[0].begin(), segments[0].size()});
    alignas(8) std::byte room[512];
    for (std::size_t shift : {0u, 4u}) {
        std::ranges::copy(all, room + shift);
        const std::span<const std::byte> body{room + shift, all.size()};
        const auto back = decode(body);
        ASSERT_TRUE(back);
        EXPECT_TRUE(*back == frame(data_frame{5, 128, some_records(64)}));
        ASSERT_NO_FATAL_FAILURE(check_records_lie_within(back, body));
    }
}

TEST(frame, pointer_into_another_segment_is_refused) {
    bytes body(24);
    body[0] = std::byte{2};  // far pointer, landing pad in segment 1
    body[4] = std::byte{1};
    EXPECT_EQ(decode(body).error(), errc::protocol);
}

TEST(frame, bytes_that_two_pointers_share_are_bounded_for_each) {
    // Both texts of a log are the same 20 KiB.
    message m;
    auto log = m.root().initLog();
    log.initText(20 * 1024);
    bytes body = m.body();
    const auto back = decode(body);
    ASSERT_TRUE(back);
    // Root pointer 0, Frame 1..2, Log 3..: two data words, then the pointers of place and text.
    const std::size_t place = 5 * 8;
    const std::size_t text = 6 * 8;
    std::uint64_t pointer;
    std::memcpy(&pointer, body.data() + text, 8);
    pointer += 1 << 2;  // one word further away from here
    std::memcpy(body.data() + place, &pointer, 8);
    EXPECT_EQ(decode(body).error(), errc::too_large) << "20 KiB are no name";
}

}  // namespace
}  // namespace places::net
