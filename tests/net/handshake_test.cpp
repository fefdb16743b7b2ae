// SPDX-License-Identifier: Apache-2.0
#include "net/handshake.hpp"

#include "net/digest.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <set>
#include <span>
#include <string>

namespace places::net {
namespace {

node_key key_of(int byte) {
    node_key key;
    key.fill(static_cast<std::byte>(byte));
    return key;
}

handshake::config config_of(std::string name, int key = 1, protocol_range protocols = {1, 1}) {
    return {{known_key{key_of(key), "d", all_rights}},
            std::move(name),
            make_incarnation_id(),
            protocols,
            {}};
}

struct sides {
    handshake accepting;
    handshake dialing;

    sides(handshake::config a, handshake::config d)
        : accepting(handshake::role::accepting, std::move(a)),
          dialing(handshake::role::dialing, std::move(d)) {
        const auto first = dialing.start();
        EXPECT_TRUE(first.send && std::holds_alternative<ping_frame>(*first.send));
    }
};

const peer_info* done(const handshake::step& s) { return std::get_if<peer_info>(&s.then); }
const failure* failed(const handshake::step& s) { return std::get_if<failure>(&s.then); }
bool is_pending(const handshake::step& s) {
    return std::holds_alternative<handshake::pending>(s.then);
}
const reject_frame* rejected(const handshake::step& s) {
    return s.send ? std::get_if<reject_frame>(&*s.send) : nullptr;
}

TEST(handshake, with_the_same_key_tells_both_sides_who_is_there) {
    auto a = config_of("a");
    auto d = config_of("d");
    sides both{a, d};
    auto challenge = both.accepting.start();
    auto hello = both.dialing.feed(*challenge.send);
    ASSERT_TRUE(is_pending(hello));
    auto welcome = both.accepting.feed(*hello.send);
    ASSERT_TRUE(done(welcome));
    EXPECT_EQ(done(welcome)->name, "d");
    EXPECT_EQ(done(welcome)->incarnation, d.incarnation);
    EXPECT_EQ(done(welcome)->protocol, 1);
    auto last = both.dialing.feed(*welcome.send);
    ASSERT_TRUE(done(last));
    EXPECT_FALSE(last.send);
    EXPECT_EQ(done(last)->name, "a");
    EXPECT_EQ(done(last)->incarnation, a.incarnation);
}

TEST(handshake, with_another_key_is_rejected_with_bad_key_on_both_sides) {
    sides both{config_of("a", 1), config_of("d", 2)};
    auto hello = both.dialing.feed(*both.accepting.start().send);
    auto refusal = both.accepting.feed(*hello.send);
    ASSERT_TRUE(failed(refusal));
    EXPECT_EQ(failed(refusal)->code, errc::bad_key);
    ASSERT_TRUE(rejected(refusal));
    auto last = both.dialing.feed(*refusal.send);
    ASSERT_TRUE(failed(last));
    EXPECT_EQ(failed(last)->code, errc::bad_key);
    EXPECT_FALSE(last.send);
}

/// What the accepting side says of a dialing one called `name`, which holds the peer key for
/// `owner`.
handshake::step dialed_with_peer_key(handshake::config accepting, const char* name,
                                     const char* owner) {
    auto dialing = config_of(name);
    dialing.keys[0].key = make_peer_key(key_of(1), owner);
    sides both{std::move(accepting), std::move(dialing)};
    const auto hello = both.dialing.feed(*both.accepting.start().send);
    return both.accepting.feed(*hello.send);
}

TEST(handshake, with_a_peer_key_lets_its_owner_connect_and_nobody_else) {
    auto a = config_of("a");
    a.keys[0].kind = key_kind::launcher;
    const auto welcome = dialed_with_peer_key(a, "b", "b");
    ASSERT_TRUE(done(welcome));
    EXPECT_EQ(done(welcome)->rights, connect_only);
    EXPECT_EQ(done(welcome)->key, key_kind::peer);
    const auto refusal = dialed_with_peer_key(a, "c", "b");
    ASSERT_TRUE(rejected(refusal));
    EXPECT_EQ(rejected(refusal)->code, errc::bad_key);
    // Where the key makes none.
    EXPECT_TRUE(rejected(dialed_with_peer_key(config_of("a"), "b", "b")));
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A field of a proof, written out as wire.capnp says.
std::string proof_field(const std::string& bytes) {
    return std::string{static_cast<char>(bytes.size()), 0, 0, 0} + bytes;
}
std::string proof_number(char low, char high) { return proof_field({low, high}); }

TEST(handshake, proof_covers_the_fields_and_has_the_byte_order_that_wire_capnp_says) {
    const auto d = config_of("d", 1, {0x0102, 0x0304});
    sides both{config_of("a", 1, {0x0001, 0x0203}), d};
    const auto challenge = both.accepting.start();
    const auto hello = both.dialing.feed(*challenge.send);
    const auto& asked = std::get<challenge_frame>(*challenge.send);
    const auto& said = std::get<hello_frame>(*hello.send);
    const auto fields =
        proof_field("dialing") + proof_field("places/1") + proof_number(0x01, 0x00) +
        proof_number(0x03, 0x02) + proof_number(0x02, 0x01) + proof_number(0x04, 0x03) +
        proof_field(text_of(asked.nonce)) + proof_field(text_of(said.nonce)) + proof_field("d") +
        proof_field(text_of(d.incarnation)) + proof_field(std::string(32, '\0'));
    EXPECT_EQ(text_of(said.proof), hmac_of(hash::sha256, text_of(key_of(1)), fields));
}

TEST(handshake, impostor_that_accepts_every_hello_is_found_out) {
    sides both{config_of("a"), config_of("d")};
    auto hello = both.dialing.feed(*both.accepting.start().send);
    // Without the key the best proof it has is the one it was just given.
    const auto& seen = std::get<hello_frame>(*hello.send);
    auto last = both.dialing.feed(welcome_frame{1, "a", make_incarnation_id(), seen.proof});
    ASSERT_TRUE(failed(last));
    EXPECT_EQ(failed(last)->code, errc::bad_key);
    EXPECT_FALSE(last.send) << "an impostor gets no word";
}

TEST(handshake, replayed_hello_does_not_open_a_second_connection) {
    const auto a = config_of("a");
    sides both{a, config_of("d")};
    auto hello = both.dialing.feed(*both.accepting.start().send);
    ASSERT_TRUE(done(both.accepting.feed(*hello.send)));
    handshake second{handshake::role::accepting, a};
    second.start();
    auto replayed = second.feed(*hello.send);
    ASSERT_TRUE(failed(replayed));
    EXPECT_EQ(failed(replayed)->code, errc::bad_key);
}

TEST(handshake, hello_and_welcome_altered_on_the_way_fail_their_proof) {
    const auto alter_hello = [](auto change) {
        sides both{config_of("a", 1, {1, 3}), config_of("d", 1, {1, 3})};
        auto hello = both.dialing.feed(*both.accepting.start().send);
        change(std::get<hello_frame>(*hello.send));
        auto answer = both.accepting.feed(*hello.send);
        return failed(answer) && failed(answer)->code == errc::bad_key;
    };
    EXPECT_FALSE(alter_hello([](hello_frame&) {}));
    EXPECT_TRUE(alter_hello([](hello_frame& f) { f.node_name = "somebody-else"; }));
    EXPECT_TRUE(alter_hello([](hello_frame& f) { f.incarnation[0] ^= std::byte{1}; }));
    EXPECT_TRUE(alter_hello([](hello_frame& f) { f.nonce[31] ^= std::byte{1}; }));
    EXPECT_TRUE(alter_hello([](hello_frame& f) { f.proof[31] ^= std::byte{1}; }));
    EXPECT_TRUE(alter_hello([](hello_frame& f) { f.protocol_max = 1; })) << "talked down";

    const auto alter_welcome = [](auto change) {
        sides both{config_of("a", 1, {1, 3}), config_of("d", 1, {1, 3})};
        auto hello = both.dialing.feed(*both.accepting.start().send);
        auto welcome = both.accepting.feed(*hello.send);
        change(std::get<welcome_frame>(*welcome.send));
        auto answer = both.dialing.feed(*welcome.send);
        return failed(answer) && failed(answer)->code == errc::bad_key;
    };
    EXPECT_FALSE(alter_welcome([](welcome_frame&) {}));
    EXPECT_TRUE(alter_welcome([](welcome_frame& f) { f.node_name = "somebody-else"; }));
    EXPECT_TRUE(alter_welcome([](welcome_frame& f) { f.incarnation[15] ^= std::byte{1}; }));
    EXPECT_TRUE(alter_welcome([](welcome_frame& f) { f.protocol = 1; }));
}

TEST(handshake, challenge_altered_on_the_way_fails_the_proof) {
    sides both{config_of("a", 1, {1, 3}), config_of("d", 1, {1, 3})};
    auto challenge = both.accepting.start();
    std::get<challenge_frame>(*challenge.send).protocol_max = 1;
    auto hello = both.dialing.feed(*challenge.send);
    auto answer = both.accepting.feed(*hello.send);
    ASSERT_TRUE(failed(answer));
    EXPECT_EQ(failed(answer)->code, errc::bad_key);
}

TEST(handshake, chooses_the_highest_protocol_that_both_speak) {
    const auto chosen = [](protocol_range a, protocol_range d) {
        sides both{config_of("a", 1, a), config_of("d", 1, d)};
        auto hello = both.dialing.feed(*both.accepting.start().send);
        auto welcome = both.accepting.feed(*hello.send);
        auto last = both.dialing.feed(*welcome.send);
        EXPECT_EQ(done(welcome)->protocol, done(last)->protocol);
        return done(last)->protocol;
    };
    EXPECT_EQ(chosen({1, 1}, {1, 1}), 1);
    EXPECT_EQ(chosen({1, 3}, {2, 5}), 3);
    EXPECT_EQ(chosen({4, 9}, {1, 4}), 4);
}

TEST(handshake, without_a_common_protocol_names_both_ranges) {
    sides both{config_of("a", 1, {3, 4}), config_of("d", 1, {1, 2})};
    auto refusal = both.dialing.feed(*both.accepting.start().send);
    ASSERT_TRUE(failed(refusal));
    EXPECT_EQ(failed(refusal)->code, errc::wrong_version);
    ASSERT_TRUE(rejected(refusal));
    EXPECT_EQ(rejected(refusal)->protocol_max, 2);
    auto report = both.accepting.feed(*refusal.send);
    ASSERT_TRUE(failed(report));
    EXPECT_EQ(failed(report)->code, errc::wrong_version);
    for (const auto* text : {&failed(refusal)->text, &failed(report)->text}) {
        EXPECT_NE(text->find("1..2"), text->npos) << *text;
        EXPECT_NE(text->find("3..4"), text->npos) << *text;
    }

    // The accepting side checks for itself too.
    sides again{config_of("a", 1, {3, 4}), config_of("d")};
    again.accepting.start();
    auto answer = again.accepting.feed(hello_frame{1, 2, "d", {}, {}, {}});
    ASSERT_TRUE(failed(answer));
    EXPECT_EQ(failed(answer)->code, errc::wrong_version);
    EXPECT_NE(failed(answer)->text.find("3..4"), std::string::npos);
}

TEST(handshake, node_of_another_name_than_expected_is_not_accepted) {
    auto d = config_of("d");
    d.expected_name = std::string("b");
    sides both{config_of("a"), d};
    auto hello = both.dialing.feed(*both.accepting.start().send);
    auto welcome = both.accepting.feed(*hello.send);
    auto last = both.dialing.feed(*welcome.send);
    ASSERT_TRUE(failed(last));
    EXPECT_NE(failed(last)->text.find("'a', not 'b'"), std::string::npos) << failed(last)->text;
}

TEST(handshake, frame_out_of_turn_is_rejected) {
    const std::vector<frame> others{pong_frame{1}, challenge_frame{1, 1, {}}, exit_frame{0},
                                    welcome_frame{1, "x", {}, {}}};
    for (const frame& f : others) {
        handshake accepting{handshake::role::accepting, config_of("a")};
        accepting.start();
        auto answer = accepting.feed(f);
        ASSERT_TRUE(failed(answer)) << f.index();
        EXPECT_EQ(failed(answer)->code, errc::protocol);
        EXPECT_TRUE(rejected(answer));
        EXPECT_TRUE(failed(accepting.feed(f))) << "used up";
    }
    handshake dialing{handshake::role::dialing, config_of("d")};
    dialing.start();
    EXPECT_TRUE(failed(dialing.feed(welcome_frame{1, "x", {}, {}})));
}

TEST(handshake, without_tls_takes_one_word_ahead_of_the_hello) {
    sides both{config_of("a"), config_of("d")};
    auto hello = both.dialing.feed(*both.accepting.start().send);
    auto nothing = both.accepting.feed(ping_frame{0});
    EXPECT_TRUE(is_pending(nothing));
    EXPECT_FALSE(nothing.send);
    EXPECT_TRUE(done(both.accepting.feed(*hello.send)));

    handshake twice{handshake::role::accepting, config_of("a")};
    twice.start();
    EXPECT_TRUE(is_pending(twice.feed(ping_frame{0})));
    EXPECT_TRUE(failed(twice.feed(ping_frame{0})));

    handshake with_tls{handshake::role::accepting, config_of("a")};
    with_tls.secure(known_key{key_of(1), "d", all_rights}, {});
    with_tls.start();
    EXPECT_TRUE(failed(with_tls.feed(ping_frame{0})));
    handshake dialing_tls{handshake::role::dialing, config_of("d")};
    dialing_tls.secure(known_key{key_of(1), "d", all_rights}, {});
    EXPECT_FALSE(dialing_tls.start().send);
}

TEST(handshake, name_that_is_none_is_refused_at_either_end) {
    for (const std::string& bad : {std::string{}, std::string(256, 'n'), std::string{"a\nb"}})
        EXPECT_THROW((handshake{handshake::role::dialing, config_of(bad)}), error) << bad.size();
    EXPECT_THROW((handshake{handshake::role::dialing, config_of("d", 1, {2, 1})}), error);
    handshake accepting{handshake::role::accepting, config_of("a")};
    accepting.start();
    auto answer = accepting.feed(hello_frame{1, 1, "two\nlines", {}, {}, {}});
    ASSERT_TRUE(failed(answer));
    EXPECT_EQ(failed(answer)->text.find('\n'), std::string::npos);
}

TEST(handshake, text_of_a_reject_cannot_forge_a_second_log_line) {
    handshake dialing{handshake::role::dialing, config_of("d")};
    dialing.start();
    auto last = dialing.feed(reject_frame{errc::protocol, "no\nroot: all is well\x1b[2J", 1, 1});
    ASSERT_TRUE(failed(last));
    for (char c : failed(last)->text) EXPECT_GE(static_cast<unsigned char>(c), 0x20);
}

TEST(handshake, keys_incarnations_and_nonces_are_never_the_same_twice) {
    std::set<node_key> keys;
    std::set<incarnation_id> ids;
    for (int i = 0; i < 100; ++i) {
        keys.insert(make_node_key());
        ids.insert(make_incarnation_id());
    }
    EXPECT_EQ(keys.size(), 100u);
    EXPECT_EQ(ids.size(), 100u);
}

}  // namespace
}  // namespace places::net
