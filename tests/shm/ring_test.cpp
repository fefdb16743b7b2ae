// SPDX-License-Identifier: Apache-2.0
// White-box tests: one side is the ring's, the other is played by hand on the same memory.
#include "tests/shm/traffic.hpp"

#include <functional>
#include <iterator>

namespace places::shm {
namespace {

constexpr std::uint16_t some_kind = 3;

struct ring : testing::Test {
    open_pair pair;
    producer& out = pair.a.out();
    consumer& in = pair.b.in();
    const std::size_t capacity = out.capacity_bytes();
    const std::size_t largest = out.record_bytes_max();

    status put(std::size_t size, int fill_byte = 1) {
        return out.try_put(some_kind, 0, bytes_of(size, fill_byte));
    }
    void fill_ring(std::size_t size) {
        while (put(size) == status::ok) {
        }
    }
    record_header& header_at(std::uint64_t position) {
        return *reinterpret_cast<record_header*>(pair.one.data() + (position & (capacity - 1)));
    }
    std::uint64_t tag(std::uint64_t position) const {
        return tag_at(position, pair.one.id().nonce);
    }
    /// Lays a record by hand; the tag makes it visible.
    void lay(std::uint64_t position, std::uint32_t length, std::uint64_t with_tag) {
        auto& header = header_at(position);
        header.length.store(length);
        header.kind.store(some_kind);
        header.tag.store(with_tag);
    }
    void set_released(std::uint64_t position) { pair.two.header()->released.store(position); }
};

// -- what fits --

TEST_F(ring, keeps_kind_flags_and_bytes) {
    ASSERT_EQ(out.try_put(7, 9, as_bytes("hello")), status::ok);
    const auto r = in.try_peek();
    ASSERT_EQ(r.state, status::ok);
    EXPECT_EQ(r.record.kind, 7);
    EXPECT_EQ(r.record.flags, 9);
    EXPECT_EQ(text_of(r.record.payload), "hello");
}

TEST_F(ring, carries_an_empty_record) {
    ASSERT_EQ(put(0), status::ok);
    const auto r = in.try_peek();
    ASSERT_EQ(r.state, status::ok);
    EXPECT_TRUE(r.record.payload.empty());
    in.release();
    EXPECT_EQ(in.try_peek().state, status::empty);
    EXPECT_EQ(in.delivered(), 1U);
}

TEST_F(ring, refuses_more_than_a_quarter_and_stays_usable) {
    EXPECT_EQ(put(largest + 1), status::too_large);
    EXPECT_EQ(out.try_loan(std::size_t{1} << 40).state, status::too_large);
    EXPECT_EQ(out.has_room(~std::size_t{0}), status::too_large);
    EXPECT_EQ(out.head(), 0U);
    EXPECT_EQ(put(largest), status::ok);
    EXPECT_EQ(in.try_peek().record.payload.size(), largest);
}

TEST_F(ring, is_full_to_the_last_line_and_no_further) {
    for (std::uint64_t n = 0; n < capacity / line_bytes; ++n) ASSERT_EQ(put(48), status::ok);
    EXPECT_EQ(put(0), status::full);
    EXPECT_EQ(out.has_room(0), status::full);
    EXPECT_EQ(out.head(), capacity);
    EXPECT_EQ(out.limit(), capacity);
    ASSERT_EQ(in.try_peek().state, status::ok);
    in.release();
    EXPECT_EQ(put(49), status::full);
    EXPECT_EQ(put(48), status::ok);
}

TEST_F(ring, has_ample_room_when_an_eighth_of_it_is_free) {
    fill_ring(48);
    for (std::uint64_t freed = 0; freed < capacity / 8; freed += line_bytes) {
        EXPECT_EQ(out.has_room(out.ample_bytes()), status::full) << freed;
        ASSERT_EQ(in.try_peek().state, status::ok);
        in.release();
        EXPECT_EQ(out.has_room(48), status::ok);
    }
    EXPECT_EQ(out.has_room(out.ample_bytes()), status::ok);
    EXPECT_EQ(out.has_room(out.ample_bytes() + 1), status::full);
}

TEST_F(ring, a_ring_of_unreleased_records_is_not_read_twice) {
    fill_ring(48);
    while (in.try_peek().state == status::ok) in.skip();
    EXPECT_EQ(in.read(), capacity);
    EXPECT_FALSE(in.is_ready());
    EXPECT_EQ(in.count().undelivered, capacity / line_bytes);
    in.rewind();
    EXPECT_EQ(in.read(), 0U);
    EXPECT_EQ(in.try_peek().state, status::ok);
}

TEST_F(ring, a_record_across_the_end_is_contiguous) {
    for (int n = 0; n < 3; ++n) ASSERT_EQ(put(largest - 128), status::ok);
    while (in.try_peek().state == status::ok) in.release();
    ASSERT_EQ(put(largest, 5), status::ok);
    const auto r = in.try_peek();
    ASSERT_EQ(r.state, status::ok);
    const auto* begin = pair.one.data();
    ASSERT_EQ(put(largest, 6), status::ok);
    in.release();
    const auto across = in.try_peek();
    EXPECT_LT(across.record.payload.data(), begin + capacity);
    EXPECT_GT(across.record.payload.data() + largest, begin + capacity);
    EXPECT_EQ(std::memcmp(across.record.payload.data(), bytes_of(largest, 6).data(), largest), 0);
}

// -- loans --

TEST_F(ring, a_loan_is_invisible_until_published) {
    const auto room = out.try_loan(100);
    ASSERT_EQ(room.state, status::ok);
    ASSERT_EQ(room.payload.size(), 100U);
    std::fill(room.payload.begin(), room.payload.end(), std::byte{4});
    EXPECT_EQ(in.try_peek().state, status::empty);
    out.publish(some_kind, 1, 10);
    EXPECT_EQ(in.try_peek().record.payload.size(), 10U);
    EXPECT_EQ(out.head(), span_of(10));
}

TEST_F(ring, publish_sends_no_more_than_was_lent) {
    ASSERT_EQ(out.try_loan(10).state, status::ok);
    out.publish(some_kind, 0, 1000);
    EXPECT_EQ(in.try_peek().record.payload.size(), 10U);
}

TEST_F(ring, publish_without_a_loan_overwrites_nothing) {
    out.publish(some_kind, 0, 10);
    EXPECT_EQ(out.accepted(), 0U);
    fill_ring(48);
    const auto accepted = out.accepted();
    EXPECT_EQ(out.try_loan(48).state, status::full);
    out.publish(some_kind, 0, 48);
    EXPECT_EQ(out.accepted(), accepted);
    EXPECT_EQ(in.count().undelivered, accepted);
}

TEST_F(ring, a_loan_ends_with_whatever_is_put_after_it) {
    ASSERT_EQ(out.try_loan(largest).state, status::ok);
    std::vector<std::byte> span;
    for (std::uint64_t n = 0; n < capacity / line_bytes; ++n) lay_record(span, some_kind, 0, {});
    ASSERT_EQ(out.try_put_span(span), status::ok);
    out.publish(some_kind, 0, largest);  // there is no room for it any more
    EXPECT_EQ(out.head(), capacity);
    EXPECT_EQ(in.count().undelivered, capacity / line_bytes);
}

// -- batches, and messages of several records --

TEST_F(ring, a_batch_is_invisible_until_it_is_published_whole) {
    for (int n = 0; n < 5; ++n) ASSERT_EQ(out.try_add(some_kind, 0, bytes_of(100, n)), status::ok);
    EXPECT_EQ(in.try_peek().state, status::empty);
    EXPECT_EQ(out.accepted(), 0U);
    EXPECT_EQ(out.head(), 0U);
    out.publish_batch();
    EXPECT_EQ(out.accepted(), 5U);
    for (int n = 0; n < 5; ++n) {
        EXPECT_EQ(text_of(in.try_peek().record.payload), text_of(bytes_of(100, n)));
        in.release();
    }
    EXPECT_EQ(in.try_peek().state, status::empty);
}

TEST_F(ring, a_dropped_batch_leaves_nothing_that_passes_for_a_record) {
    for (int n = 0; n < 5; ++n) ASSERT_EQ(out.try_add(some_kind, 0, bytes_of(100, n)), status::ok);
    ASSERT_EQ(put(100, 9), status::ok);  // where the first of them lay
    EXPECT_EQ(in.try_peek().record.payload[0], std::byte{9});
    in.release();
    EXPECT_EQ(in.try_peek().state, status::empty);
    out.publish_batch();
    EXPECT_EQ(out.accepted(), 1U);
}

TEST_F(ring, a_batch_takes_what_fits_and_says_full_to_the_rest) {
    std::uint64_t added = 0;
    while (out.try_add(some_kind, 0, bytes_of(48, 1)) == status::ok) ++added;
    // Three packs of 18 in 17 lines each, and one of 14 in the 13 that are left.
    ASSERT_EQ(capacity, 4096U);
    EXPECT_EQ(added, 68U);
    EXPECT_EQ(out.batched_bytes(), capacity);
    out.publish_batch();
    EXPECT_EQ(in.count().undelivered, added);
    EXPECT_EQ(out.try_add(some_kind, 0, bytes_of(largest + 1, 1)), status::too_large);
}

// -- packs: small messages of a batch in one record --

TEST_F(ring, small_messages_of_a_batch_share_a_record) {
    for (int n = 0; n < 10; ++n) ASSERT_EQ(out.try_add(7, 9, bytes_of(64, n)), status::ok);
    out.publish_batch();
    EXPECT_EQ(out.accepted(), 10U);
    EXPECT_EQ(out.head(), span_of(sizeof(pack_header) + 10 * item_span_of(64)));
    for (int n = 0; n < 10; ++n) {
        const auto r = in.try_peek();
        ASSERT_EQ(r.state, status::ok);
        EXPECT_EQ(r.record.kind, 7);
        EXPECT_EQ(r.record.flags, 9);
        EXPECT_EQ(text_of(r.record.payload), text_of(bytes_of(64, n)));
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(r.record.payload.data()) % 8, 0U);
        in.release();
    }
    EXPECT_EQ(in.try_peek().state, status::empty);
    EXPECT_EQ(in.released(), out.head());
}

TEST_F(ring, a_pack_holds_one_kind_and_nothing_large) {
    const auto add = [&](std::uint16_t kind, std::uint16_t flags, std::size_t size) {
        ASSERT_EQ(out.try_add(kind, flags, bytes_of(size, 1)), status::ok);
    };
    add(1, 1, 8);
    add(1, 2, 8);
    add(2, 2, 8);
    add(2, 2, 600);
    add(static_cast<std::uint16_t>(2 | continues), 2, 8);
    add(static_cast<std::uint16_t>(2 | aside), 2, 8);
    add(static_cast<std::uint16_t>(2 | aside), 2, 8);
    add(2, 2, 8);
    out.publish_batch();
    EXPECT_EQ(in.try_peek_span(capacity).count, 8U);
    EXPECT_EQ(out.accepted(), 5U);
}

TEST_F(ring, a_message_alone_in_a_batch_lies_as_if_it_had_been_put) {
    ASSERT_EQ(out.try_add(some_kind, 0, bytes_of(48, 1)), status::ok);
    out.publish_batch();
    EXPECT_EQ(out.head(), line_bytes);
    EXPECT_EQ(text_of(in.try_peek().record.payload), text_of(bytes_of(48, 1)));
}

TEST_F(ring, a_batch_takes_whatever_a_put_has_room_for) {
    for (std::uint64_t n = 1; n < capacity / line_bytes; ++n) ASSERT_EQ(put(48), status::ok);
    ASSERT_EQ(out.has_room(48), status::ok);
    // In a pack it would need two lines.
    EXPECT_EQ(out.try_add(some_kind, 0, bytes_of(48, 1)), status::ok);
    EXPECT_EQ(out.try_add(some_kind, 0, bytes_of(0, 1)), status::full);
    out.publish_batch();
    EXPECT_EQ(out.head(), capacity);
}

TEST_F(ring, a_pack_comes_back_with_its_last_message) {
    for (int n = 0; n < 3; ++n) ASSERT_EQ(out.try_add(some_kind, 0, bytes_of(8, n)), status::ok);
    out.publish_batch();
    for (std::uint64_t n = 1; n <= 2; ++n) {
        ASSERT_EQ(in.try_peek().state, status::ok);
        in.release();
        EXPECT_EQ(in.delivered(), n);
        EXPECT_EQ(in.count().undelivered, 3 - n);
        EXPECT_EQ(in.count().accepted, 3U);
        EXPECT_EQ(in.released(), 0U);
        // To the other side all of it is undelivered.
        EXPECT_EQ(out.count().undelivered, 3U);
        EXPECT_TRUE(in.is_ready());
        EXPECT_EQ(in.try_peek_span(capacity).state, status::full);
    }
    in.rewind();
    EXPECT_EQ(in.delivered(), 0U);
    EXPECT_EQ(in.try_peek().record.payload[0], std::byte{0});
    for (int n = 0; n < 3; ++n) {
        ASSERT_EQ(in.try_peek().state, status::ok);
        in.skip();
        EXPECT_EQ(in.count().undelivered, 3U);
    }
    in.release_skipped();
    EXPECT_EQ(in.delivered(), 3U);
    EXPECT_EQ(out.count().delivered, 3U);
    EXPECT_EQ(in.released(), out.head());
}

TEST_F(ring, a_pack_crosses_to_another_ring_as_the_record_it_is) {
    for (int n = 0; n < 3; ++n) ASSERT_EQ(out.try_add(some_kind, 5, bytes_of(20, n)), status::ok);
    out.publish_batch();
    ASSERT_EQ(in.try_peek().state, status::ok);  // shown, not begun
    const auto some = in.try_peek_span(capacity);
    ASSERT_EQ(some.count, 1U);
    open_pair other;
    ASSERT_EQ(other.a.out().try_put_span(some.records), status::ok);
    EXPECT_EQ(other.a.out().accepted(), 3U);
    in.release_to(in.read());
    EXPECT_EQ(in.delivered(), 3U);
    for (int n = 0; n < 3; ++n) {
        const auto r = other.b.in().try_peek();
        EXPECT_EQ(r.record.flags, 5);
        EXPECT_EQ(text_of(r.record.payload), text_of(bytes_of(20, n)));
        other.b.in().release();
    }
}

TEST_F(ring, a_message_that_was_shown_is_forgotten_by_a_look_at_the_span) {
    for (int n = 0; n < 3; ++n) ASSERT_EQ(out.try_add(some_kind, 0, bytes_of(8, n)), status::ok);
    out.publish_batch();
    ASSERT_EQ(in.try_peek().state, status::ok);
    header_at(0).tag.store(0);
    EXPECT_EQ(in.try_peek_span(capacity).state, status::empty);
    in.release();
    EXPECT_EQ(in.read(), 0U);
    EXPECT_EQ(in.released(), 0U);
}

TEST_F(ring, nothing_of_older_records_lies_between_the_messages_of_a_pack) {
    fill_ring(48);
    while (in.try_peek().state == status::ok) in.release();
    for (int n = 0; n < 10; ++n) ASSERT_EQ(out.try_add(some_kind, 0, bytes_of(1, 7)), status::ok);
    out.publish_batch();
    const auto some = in.try_peek_span(capacity);
    const auto begin = sizeof(record_header) + sizeof(pack_header);
    ASSERT_EQ(some.records.size(), span_of(sizeof(pack_header) + 10 * item_span_of(1)));
    for (std::size_t n = 0; n < 10; ++n) {
        const auto item = some.records.subspan(begin + n * item_span_of(1), item_span_of(1));
        EXPECT_EQ(item[sizeof(pack_item)], std::byte{7});
        for (auto at = sizeof(pack_item) + 1; at < item.size(); ++at) {
            EXPECT_EQ(item[at], std::byte{0}) << n << ", " << at;
        }
    }
}

TEST_F(ring, a_pack_that_cannot_be_is_reported_not_followed) {
    struct forged {
        const char* what;
        std::uint16_t kind;
        std::uint16_t count;
        std::uint32_t length;
        std::vector<std::uint32_t> items;
        std::size_t good;  // messages before the wrong one
    };
    const auto pack = static_cast<std::uint16_t>(some_kind | packed);
    for (const auto& f : std::vector<forged>{
             {"of no message", pack, 0, 8, {}, 0},
             {"without room for its own header", pack, 1, 4, {}, 0},
             {"of more than fit", pack, 3, 24, {0, 0}, 0},
             {"of more than fit in any", pack, 0xffff, 1024, {}, 0},
             {"that goes on", static_cast<std::uint16_t>(pack | continues), 1, 16, {0}, 0},
             {"whose message is longer", pack, 1, 16, {1}, 0},
             {"whose message is as long as can be said", pack, 1, 16, {0xffffffff}, 0},
             {"whose message is longer by a little less", pack, 1, 16, {0xfffffff4}, 0},
             {"whose second is longer", pack, 2, 32, {8, 1}, 1},
             {"that goes on behind its last", pack, 1, 24, {0}, 0},
             {"that ends before its last", pack, 2, 24, {8, 0}, 1},
         }) {
        SCOPED_TRACE(f.what);
        open_pair fresh;
        auto* at = fresh.one.data();
        auto& header = *reinterpret_cast<record_header*>(at);
        header.length.store(f.length);
        header.kind.store(f.kind);
        header.flags.store(f.count);
        at += sizeof(record_header) + sizeof(pack_header);
        for (const auto length : f.items) {
            reinterpret_cast<pack_item*>(at)->length.store(length);
            at += std::min<std::uint64_t>(item_span_of(length), 512);
        }
        header.tag.store(tag_at(0, fresh.one.id().nonce));
        auto& reader = fresh.b.in();
        for (std::size_t n = 0; n < f.good; ++n) {
            ASSERT_EQ(reader.try_peek().state, status::ok);
            reader.release();
        }
        EXPECT_EQ(reader.try_peek().state, status::corrupt);
        EXPECT_EQ(reader.corrupt_at(), 0U);
        EXPECT_EQ(reader.try_peek_span(capacity).state, status::corrupt);
        EXPECT_EQ(fresh.a.out().has_room(0), status::corrupt);
        const auto c = reader.count();
        EXPECT_EQ(c.accepted, c.delivered + c.undelivered);
    }
}

TEST_F(ring, what_is_said_aside_is_read_in_its_place_and_not_counted) {
    const auto said = static_cast<std::uint16_t>(some_kind | aside);
    ASSERT_EQ(put(10), status::ok);
    ASSERT_EQ(out.try_put(said, 3, bytes_of(10, 1)), status::ok);
    ASSERT_EQ(put(10), status::ok);
    EXPECT_EQ(out.accepted(), 2U);
    EXPECT_EQ(out.count().undelivered, 2U);
    EXPECT_EQ(in.count().undelivered, 2U);
    const std::array kinds{some_kind, said, some_kind};
    const std::array<std::uint64_t, 3> delivered{1, 1, 2};
    for (std::size_t i = 0; i < kinds.size(); ++i) {
        EXPECT_EQ(in.try_peek().record.kind, kinds[i]);
        in.release();
        EXPECT_EQ(in.count().delivered, delivered[i]);
    }
    EXPECT_EQ(in.count().accepted, 2U);
}

TEST_F(ring, a_message_of_several_records_counts_where_its_last_one_is) {
    const auto part = static_cast<std::uint16_t>(some_kind | continues);
    ASSERT_EQ(out.try_put(part, 0, bytes_of(10, 1)), status::ok);
    ASSERT_EQ(out.try_put(part, 0, bytes_of(10, 1)), status::ok);
    EXPECT_EQ(out.accepted(), 0U);
    EXPECT_EQ(in.count().undelivered, 0U);
    ASSERT_EQ(put(10), status::ok);
    EXPECT_EQ(out.accepted(), 1U);
    EXPECT_EQ(in.count().undelivered, 1U);
    for (int n = 0; n < 2; ++n) {
        ASSERT_EQ(in.try_peek().state, status::ok);
        in.release();
        EXPECT_EQ(in.delivered(), 0U);
        EXPECT_EQ(out.count().undelivered, 1U);
    }
    ASSERT_EQ(in.try_peek_span(1000).count, 1U);
    in.release_to(in.read());
    EXPECT_EQ(in.delivered(), 1U);
    EXPECT_EQ(out.count().delivered, 1U);
    EXPECT_EQ(out.count().undelivered, 0U);
}

// -- what is not a record --

/// Payload as a peer of a peer could make it, whichever way it takes: zeroes, ones, plain
/// positions, the tags of other nonces, the channel's id among them, and, worst of all, the true
/// tags of positions that have gone by. In a lap another one in every line, in every line another
/// one in the next lap.
struct guesses : ring {
    std::uint64_t lap = 0;

    std::uint64_t guess(std::uint64_t there) const {
        const auto next = there + capacity;
        const std::uint64_t words[] = {0,
                                       ~std::uint64_t{0},
                                       there,
                                       next,
                                       tag_at(next, 0),
                                       tag_at(next, pair.two.id().nonce),
                                       tag_at(next, pair.one.id().channel_id),
                                       tag(there - capacity * (lap % 5 + 1))};
        return words[(there / line_bytes + lap) % std::size(words)];
    }
    void fill(std::span<std::byte> payload, std::uint64_t position) const {
        for (std::size_t at = 0; at + 8 <= payload.size(); at += 8) {
            const auto word = guess(position + at);
            std::memcpy(&payload[at], &word, sizeof word);
        }
    }
    /// A payload that is going to lie at this position.
    std::vector<std::byte> payload_at(std::uint64_t position, std::size_t size) const {
        std::vector<std::byte> payload(size);
        fill(payload, position);
        return payload;
    }
    /// Where it lies that is next put alone.
    std::uint64_t next_payload() const { return out.head() + sizeof(record_header); }

    /// Sends and reads for so many laps that every line has held every guess.
    void expect_no_record_but_what_was_sent(const std::function<void()>& send) {
        for (lap = 0; lap < 80; ++lap) {
            const auto accepted = out.accepted();
            send();
            ASSERT_GT(out.accepted(), accepted) << "lap " << lap;
            while (in.try_peek().state == status::ok) in.release();
            ASSERT_EQ(in.read(), out.head()) << "lap " << lap;
            for (std::uint64_t ahead = 0; ahead < capacity; ahead += line_bytes) {
                const auto at = in.read() + ahead;
                ASSERT_NE(header_at(at).tag.load(), tag(at)) << "forged at " << at;
            }
            ASSERT_EQ(in.try_peek().state, status::empty) << "lap " << lap;
        }
    }
    /// That a guess lies where it was meant for: else the test would show less than it says.
    void expect_word_at(std::uint64_t position) const {
        std::uint64_t word;
        std::memcpy(&word, pair.one.data() + (position & (capacity - 1)), sizeof word);
        ASSERT_EQ(word, guess(position));
    }
};

TEST_F(guesses, in_a_loan_never_pass_for_a_record) {
    expect_no_record_but_what_was_sent([&] {
        const auto room = out.try_loan(largest);
        ASSERT_EQ(room.state, status::ok);
        fill(room.payload, next_payload());
        out.publish(some_kind, 0, largest - lap);
    });
}

TEST_F(guesses, in_a_put_never_pass_for_a_record) {
    expect_no_record_but_what_was_sent([&] {
        const auto there = next_payload();
        ASSERT_EQ(out.try_put(some_kind, 0, payload_at(there, largest - lap)), status::ok);
        expect_word_at(there + line_bytes - sizeof(record_header));
    });
}

TEST_F(guesses, in_the_parts_of_a_message_never_pass_for_a_record) {
    expect_no_record_but_what_was_sent([&] {
        for (const auto more : {continues, continues, std::uint16_t{0}}) {
            const auto there = next_payload();
            const auto type = static_cast<std::uint16_t>(some_kind | more);
            ASSERT_EQ(out.try_put(type, 0, payload_at(there, largest - lap)), status::ok);
            expect_word_at(there + line_bytes - sizeof(record_header));
        }
    });
}

TEST_F(guesses, in_a_pack_never_pass_for_a_record) {
    for (const bool in_place : {false, true}) {
        expect_no_record_but_what_was_sent([&] {
            const auto begin = next_payload();
            std::uint64_t used = sizeof(pack_header);
            for (const std::size_t size : {200U, 96U, 8U, 248U}) {
                const auto there = begin + used + sizeof(pack_item);
                if (in_place) {
                    const auto room = out.try_add_loan(some_kind, 0, size - lap % 8);
                    ASSERT_EQ(room.state, status::ok);
                    fill(room.payload, there);
                } else {
                    const auto payload = payload_at(there, size - lap % 8);
                    ASSERT_EQ(out.try_add(some_kind, 0, payload), status::ok);
                }
                if (lap % 8 == 0) expect_word_at(there);
                used += item_span_of(size - lap % 8);
            }
            out.publish_batch();
            ASSERT_EQ(out.head(), begin - sizeof(record_header) + span_of(used));
        });
    }
}

TEST_F(guesses, in_records_from_another_ring_never_pass_for_a_record) {
    expect_no_record_but_what_was_sent([&] {
        const auto begin = out.head();
        std::vector<std::byte> records;
        for (const std::size_t size : {300U, 0U, 48U, 700U}) {
            const auto at = begin + records.size();
            const auto before = records.size();
            const auto payload = payload_at(at + sizeof(record_header), size);
            lay_record(records, some_kind, 0, payload);
            // The tag it had there, and what fills up its last line.
            fill(std::span{records}.subspan(before, 8), at);
            const auto end = before + sizeof(record_header) + size;
            fill(std::span{records}.subspan(end), begin + end);
        }
        ASSERT_EQ(out.try_put_span(records), status::ok);
        expect_word_at(begin + line_bytes);
    });
}

TEST_F(ring, every_position_has_a_tag_of_its_own) {
    std::vector<std::uint64_t> tags;
    for (std::uint64_t at = 0; at < 200'000 * line_bytes; at += line_bytes) tags.push_back(tag(at));
    std::sort(tags.begin(), tags.end());
    EXPECT_EQ(std::adjacent_find(tags.begin(), tags.end()), tags.end());
}

TEST_F(ring, a_header_without_its_tag_is_invisible) {
    lay(0, 10, tag(capacity));  // of the next lap
    EXPECT_EQ(in.try_peek().state, status::empty);
    lay(0, 10, tag(0) ^ 1);
    EXPECT_EQ(in.try_peek().state, status::empty);
    lay(0, 10, tag(0));
    EXPECT_EQ(in.try_peek().state, status::ok);
}

TEST_F(ring, corrupt_length_is_reported_not_followed) {
    for (const std::uint32_t length : {static_cast<std::uint32_t>(largest) + 1, 0x7fffffffU,
                                       0x80000000U, 0xffffffc0U, 0xffffffffU}) {
        open_pair fresh;
        auto& header = *reinterpret_cast<record_header*>(fresh.one.data());
        header.length.store(length);
        header.tag.store(tag_at(0, fresh.one.id().nonce));
        auto& reader = fresh.b.in();
        EXPECT_TRUE(reader.is_ready());
        EXPECT_EQ(reader.corrupt_at(), std::nullopt);
        EXPECT_EQ(reader.try_peek().state, status::corrupt) << length;
        EXPECT_EQ(reader.corrupt_at(), 0U);
        EXPECT_EQ(reader.try_peek_span(capacity).state, status::corrupt);
        EXPECT_EQ(reader.read(), 0U);
        reader.release();
        EXPECT_EQ(reader.released(), 0U);
        // This end is shut in both directions, and the other side is told.
        EXPECT_EQ(fresh.b.out().has_room(0), status::corrupt);
        EXPECT_EQ(fresh.a.out().has_room(0), status::corrupt);
        EXPECT_EQ(fresh.a.in().try_peek().state, status::corrupt);
    }
}

TEST_F(ring, the_first_corrupt_position_is_kept) {
    for (int n = 0; n < 3; ++n) ASSERT_EQ(put(100), status::ok);
    const auto second = span_of(100);
    header_at(second).length.store(~0U);
    ASSERT_EQ(in.try_peek().state, status::ok);
    in.release();
    EXPECT_EQ(in.try_peek().state, status::corrupt);
    EXPECT_EQ(in.corrupt_at(), second);
    // Whatever happens later, and if the record comes right again.
    header_at(second).length.store(100);
    in.rewind();
    in.release_to(second + 1);
    (void)in.count();
    EXPECT_EQ(in.try_peek().state, status::corrupt);
    EXPECT_EQ(in.corrupt_at(), second);
    // Who is only told knows no position.
    EXPECT_EQ(out.has_room(0), status::corrupt);
    EXPECT_EQ(out.corrupt_at(), std::nullopt);
}

TEST_F(ring, more_than_a_ring_of_records_is_corrupt) {
    std::uint64_t at = 0;
    for (; at + span_of(largest) <= capacity; at += span_of(largest)) {
        lay(at, static_cast<std::uint32_t>(largest), tag(at));
        ASSERT_EQ(in.try_peek().state, status::ok);
        in.skip();
    }
    lay(at, static_cast<std::uint32_t>(largest), tag(at));  // reaches into the first one
    EXPECT_EQ(in.try_peek().state, status::corrupt);
}

TEST_F(ring, a_span_ends_before_the_corrupt_record) {
    ASSERT_EQ(put(10), status::ok);
    ASSERT_EQ(put(10), status::ok);
    lay(2 * line_bytes, 0xffffffff, tag(2 * line_bytes));
    const auto some = in.try_peek_span(capacity);
    EXPECT_EQ(some.state, status::ok);
    EXPECT_EQ(some.count, 2U);
    EXPECT_EQ(some.records.size(), in.read());
    EXPECT_EQ(in.try_peek_span(capacity).state, status::corrupt);
}

TEST_F(ring, whoever_sleeps_is_woken_when_the_ring_is_found_corrupt) {
    out.park(park_mode::futex, 10);
    pair.a.in().park(park_mode::futex);
    const auto bell = pair.a.bell();
    lay(0, 0xffffffff, tag(0));
    EXPECT_EQ(in.try_peek().state, status::corrupt);
    EXPECT_EQ(pair.b.wakes(), 2);
    EXPECT_NE(bell.word->load(), bell.expected);
}

// -- a broken consumer --

TEST_F(ring, a_position_that_no_consumer_may_report_is_detected) {
    fill_ring(48);
    const auto fair = 2 * line_bytes;
    set_released(fair);
    EXPECT_EQ(out.limit(), fair + capacity);
    fill_ring(48);
    const auto head = out.head();
    for (const std::uint64_t wrong :
         {fair - line_bytes, std::uint64_t{0}, head + line_bytes, fair + 1, fair + 8,
          fair + (std::uint64_t{1} << 63), fair - (std::uint64_t{1} << 63), ~std::uint64_t{0}}) {
        open_pair fresh;
        auto& writer = fresh.a.out();
        while (writer.try_put(0, 0, bytes_of(48, 1)) == status::ok) {
        }
        fresh.two.header()->released.store(fair);
        while (writer.try_put(0, 0, bytes_of(48, 1)) == status::ok) {
        }
        fresh.two.header()->released.store(wrong);
        const auto oldest = reinterpret_cast<record_header*>(fresh.one.data() + fair)->tag.load();

        EXPECT_EQ(writer.try_put(0, 0, bytes_of(48, 1)), status::corrupt) << wrong;
        EXPECT_EQ(writer.head(), head);
        EXPECT_EQ(writer.corrupt_at(), fair);
        EXPECT_EQ(reinterpret_cast<record_header*>(fresh.one.data() + fair)->tag.load(), oldest);
        // For good, even if it comes to its senses; and the other side is told.
        fresh.two.header()->released.store(head);
        EXPECT_EQ(writer.try_put(0, 0, bytes_of(48, 1)), status::corrupt);
        EXPECT_EQ(fresh.b.out().has_room(0), status::corrupt);
    }
}

TEST_F(ring, a_position_inside_a_record_reports_nothing_delivered_that_was_not) {
    ASSERT_EQ(put(40), status::ok);
    ASSERT_EQ(put(400, 0), status::ok);
    ASSERT_EQ(put(40), status::ok);
    set_released(3 * line_bytes);
    const auto c = out.count();
    EXPECT_EQ(c.accepted, 3U);
    EXPECT_EQ(c.delivered, 1U);
    EXPECT_EQ(c.undelivered, 2U);
    EXPECT_EQ(put(0), status::corrupt);
}

// -- what a bridge has taken --

TEST_F(ring, what_a_bridge_has_taken_and_not_released_is_unknown) {
    for (int n = 0; n < 4; ++n) ASSERT_EQ(put(40), status::ok);
    ASSERT_EQ(in.try_peek_span(3 * line_bytes).count, 3U);
    EXPECT_EQ(out.count(), (account{4, 0, 4, 0}));
    in.take_to(in.read());
    EXPECT_EQ(out.count(), (account{4, 0, 1, 3}));
    in.release_to(line_bytes);
    EXPECT_EQ(out.count(), (account{4, 1, 1, 2}));
    // It learns that no more has arrived.
    in.take_to(in.released());
    EXPECT_EQ(out.count(), (account{4, 1, 3, 0}));
}

TEST_F(ring, what_is_unknown_is_counted_in_messages) {
    for (int n = 0; n < 5; ++n) ASSERT_EQ(out.try_add(some_kind, 0, bytes_of(8, n)), status::ok);
    out.publish_batch();  // one record
    ASSERT_EQ(out.try_put(some_kind | continues, 0, bytes_of(100, 1)), status::ok);
    const auto half_way = out.head();
    ASSERT_EQ(out.try_put(some_kind, 0, bytes_of(100, 2)), status::ok);
    ASSERT_EQ(put(0), status::ok);
    while (in.try_peek_span(capacity).state == status::ok) {
    }
    in.take_to(half_way);
    // A message is where its last record is.
    EXPECT_EQ(out.count(), (account{7, 0, 2, 5}));
    in.release_to(half_way);
    EXPECT_EQ(out.count(), (account{7, 5, 2, 0}));
    in.take_to(out.head());
    EXPECT_EQ(out.count(), (account{7, 5, 0, 2}));
}

TEST_F(ring, what_a_bridge_has_dropped_is_undelivered_though_its_space_is_back) {
    for (int n = 0; n < 3; ++n) ASSERT_EQ(put(40), status::ok);
    ASSERT_EQ(in.try_peek_span(capacity).count, 3U);
    in.take_to(in.read());
    in.release_to(line_bytes);
    in.take_to(in.released());
    in.drop_to(3 * line_bytes);
    EXPECT_EQ(out.count(), (account{3, 1, 2, 0}));
    EXPECT_EQ(out.limit(), 3 * line_bytes + capacity);
    // Round after round of the ring.
    for (std::uint64_t n = 3; n < 3 * capacity / line_bytes; ++n) {
        ASSERT_EQ(put(40), status::ok);
        EXPECT_EQ(out.count(), (account{n + 1, 1, n, 0}));
        ASSERT_EQ(in.try_peek_span(capacity).count, 1U);
        in.drop_to(in.read());
        EXPECT_EQ(out.count(), (account{n + 1, 1, n, 0}));
    }
}

TEST_F(ring, a_bridge_killed_between_counting_what_it_drops_and_releasing_it_counts_it_once) {
    for (std::uint64_t n = 0; n < 100; ++n) {
        ASSERT_EQ(put(40), status::ok);
        ASSERT_EQ(in.try_peek_span(capacity).count, 1U);
        in.release_to(in.read());
    }
    for (int n = 0; n < 4; ++n) ASSERT_EQ(put(40), status::ok);
    ASSERT_EQ(in.try_peek_span(3 * line_bytes).count, 3U);
    in.take_to(in.released());
    pair.two.header()->dropped.store(dropped_word(3, in.read()));
    EXPECT_EQ(out.count(), (account{104, 100, 4, 0}));
    in.drop_to(in.read());
    EXPECT_EQ(out.count(), (account{104, 100, 4, 0}));
}

TEST(large_ring, a_bridge_killed_between_the_words_of_a_large_drop_leaves_it_counted_once) {
    constexpr std::size_t capacity = 16 << 20;  // as large as the ring of a bridge may be
    for (std::size_t count = 4; count <= 16; count *= 2) {
        open_pair pair{capacity};
        auto& out = pair.a.out();
        auto& in = pair.b.in();
        const auto span = capacity / count;
        const auto bytes = bytes_of(span - sizeof(record_header), 1);
        for (std::size_t n = 0; n < count; ++n) {
            ASSERT_EQ(out.try_put(some_kind, 0, bytes), status::ok);
            ASSERT_EQ(in.try_peek().state, status::ok);
            in.skip();
        }
        in.release_to(span);
        in.drop_to(in.read());
        // As if it had been killed before it gave the space back.
        pair.two.header()->released.store(span);
        EXPECT_EQ(out.count(), (account{count, 1, count - 1, 0})) << count;
    }
}

TEST_F(ring, a_taken_or_dropped_that_cannot_be_is_bounded) {
    for (int n = 0; n < 3; ++n) ASSERT_EQ(put(100), status::ok);
    ASSERT_EQ(in.try_peek().state, status::ok);
    in.release();
    auto& peer = *pair.two.header();
    for (const std::uint64_t taken : {std::uint64_t{0}, std::uint64_t{64}, std::uint64_t{191},
                                      out.head() + 64, ~std::uint64_t{0}}) {
        for (const std::uint64_t dropped : {std::uint64_t{0}, std::uint64_t{1}, dropped_word(1, 0),
                                            dropped_word(9, 128), ~std::uint64_t{0}}) {
            peer.taken.store(taken);
            peer.dropped.store(dropped);
            const auto c = out.count();
            EXPECT_EQ(c.accepted, 3U);
            EXPECT_EQ(c.delivered + c.undelivered + c.unknown, 3U) << taken << " " << dropped;
        }
    }
    peer.dropped.store(0);
    peer.taken.store(~std::uint64_t{0});
    EXPECT_EQ(out.count(), (account{3, 1, 0, 2}));
    EXPECT_EQ(put(100), status::ok);
}

// -- giving back --

TEST_F(ring, release_to_takes_only_ends_of_records_stepped_over) {
    for (int n = 0; n < 4; ++n) ASSERT_EQ(put(100), status::ok);
    const auto span = span_of(100);
    ASSERT_EQ(in.try_peek_span(3 * span).count, 3U);
    in.release_to(span);
    EXPECT_EQ(in.delivered(), 1U);
    in.release_to(0);         // below
    in.release_to(span);      // again
    in.release_to(4 * span);  // beyond the cursor
    in.release_to(~std::uint64_t{0});
    EXPECT_EQ(in.released(), span);
    EXPECT_EQ(in.delivered(), 1U);
    in.release_to(3 * span);
    EXPECT_EQ(in.delivered(), 3U);
    EXPECT_EQ(pair.two.header()->released.load(), 3 * span);
}

TEST_F(ring, release_to_the_inside_of_a_record_is_corrupt_and_moves_nothing) {
    for (int n = 0; n < 3; ++n) ASSERT_EQ(put(100), status::ok);
    ASSERT_EQ(in.try_peek_span(capacity).count, 3U);
    in.release_to(span_of(100) + line_bytes);
    EXPECT_EQ(in.try_peek().state, status::corrupt);
    EXPECT_EQ(in.released(), 0U);
    EXPECT_EQ(in.delivered(), 0U);
}

TEST_F(ring, lengths_changed_after_they_were_peeked_do_not_spoil_the_accounts) {
    ASSERT_EQ(put(300), status::ok);
    ASSERT_EQ(put(300), status::ok);
    ASSERT_EQ(in.try_peek_span(capacity).count, 2U);
    std::memset(pair.one.data(), 0, capacity);  // every line is now an empty record
    in.release_to(span_of(300));
    EXPECT_EQ(in.try_peek().state, status::corrupt);
    EXPECT_EQ(in.delivered(), 0U);
    const auto c = in.count();
    EXPECT_EQ(c.accepted, c.delivered + c.undelivered);
}

TEST_F(ring, counting_leaves_the_cursor_and_the_peeked_record_alone) {
    for (int n = 0; n < 3; ++n) ASSERT_EQ(put(10, n), status::ok);
    ASSERT_EQ(in.try_peek().state, status::ok);
    in.skip();
    ASSERT_EQ(in.try_peek().state, status::ok);
    EXPECT_EQ(in.count().undelivered, 3U);
    in.release();
    EXPECT_EQ(in.delivered(), 2U);
    EXPECT_EQ(in.try_peek().record.payload[0], std::byte{2});
}

TEST_F(ring, a_span_of_no_room_says_full_and_steps_over_nothing) {
    ASSERT_EQ(put(100), status::ok);
    EXPECT_EQ(in.try_peek_span(64).state, status::full);
    in.release();
    EXPECT_EQ(in.released(), 0U);
    EXPECT_EQ(in.try_peek_span(0).state, status::full);
    EXPECT_EQ(in.try_peek_span(128).count, 1U);
    EXPECT_EQ(in.try_peek_span(128).state, status::empty);
}

// -- spans from elsewhere --

TEST_F(ring, a_foreign_span_with_a_wrong_header_is_refused_whole) {
    std::vector<std::byte> good;
    lay_record(good, 1, 2, bytes_of(100, 1));
    lay_record(good, 3, 4, bytes_of(0, 0));
    lay_record(good, 5, 6, bytes_of(200, 2));
    const auto last = span_of(100) + span_of(0);
    const auto with_length = [&](std::size_t header, std::uint32_t length) {
        auto bad = good;
        std::memcpy(bad.data() + header + offsetof(record_header, length), &length, sizeof length);
        return bad;
    };
    const auto cut = [&](std::size_t size) {
        auto bad = good;
        bad.resize(size);
        return bad;
    };
    const std::vector<std::vector<std::byte>> bad{
        with_length(0, 0xffffffff),
        with_length(0, 0x80000000),
        with_length(last, 0xffffffc0),
        with_length(last, 300),
        with_length(last, static_cast<std::uint32_t>(largest) + 1),
        with_length(0, 1000),
        cut(good.size() - 1),
        cut(good.size() - line_bytes),
        cut(last + 1),
        cut(last + sizeof(record_header)),
        cut(1),
        std::vector<std::byte>(capacity + line_bytes)};
    for (std::size_t n = 0; n < bad.size(); ++n) {
        EXPECT_EQ(out.try_put_span(bad[n]), status::corrupt) << "span " << n;
        EXPECT_EQ(out.head(), 0U);
        EXPECT_EQ(in.try_peek().state, status::empty);
    }
    // The bytes were at fault, not the ring.
    ASSERT_EQ(out.try_put_span(good), status::ok);
    EXPECT_EQ(out.accepted(), 3U);
    EXPECT_EQ(in.try_peek_span(capacity).count, 3U);
    EXPECT_EQ(out.try_put_span({}), status::ok);
}

TEST_F(ring, a_span_without_room_is_full_and_puts_nothing) {
    std::vector<std::byte> span;
    lay_record(span, 1, 0, bytes_of(100, 1));
    lay_record(span, 1, 0, bytes_of(100, 1));
    while (out.limit() - out.head() >= span.size()) ASSERT_EQ(put(0), status::ok);
    const auto head = out.head();
    EXPECT_EQ(out.try_put_span(span), status::full);
    EXPECT_EQ(out.head(), head);
}

// -- the end --

TEST_F(ring, closed_is_said_after_everything_was_read) {
    ASSERT_EQ(put(1), status::ok);
    pair.a.shut(half_state::closed);
    EXPECT_EQ(put(1), status::closed);
    EXPECT_EQ(pair.b.out().try_put(0, 0, {}), status::closed);
    ASSERT_EQ(in.try_peek().state, status::ok);
    in.release();
    EXPECT_EQ(in.try_peek().state, status::closed);
    EXPECT_TRUE(in.is_ready());
    EXPECT_EQ(in.try_peek_span(capacity).state, status::closed);
}

TEST_F(ring, the_first_reason_to_shut_stays) {
    pair.a.shut(half_state::peer_dead);
    pair.a.shut(half_state::closed);
    EXPECT_EQ(in.try_peek().state, status::peer_dead);
    EXPECT_EQ(put(1), status::peer_dead);
}

TEST_F(ring, an_unknown_state_closes) {
    pair.one.header()->state.store(77);
    EXPECT_EQ(in.try_peek().state, status::closed);
}

TEST_F(ring, peer_dead_is_said_after_everything_was_read) {
    ASSERT_EQ(put(1), status::ok);
    ASSERT_EQ(put(2), status::ok);
    in.peer_died();
    ASSERT_EQ(in.try_peek().state, status::ok);
    in.release();
    const auto c = in.count();
    EXPECT_EQ(c.delivered, 1U);
    EXPECT_EQ(c.undelivered, 1U);
    EXPECT_EQ(c.accepted, 2U);
    ASSERT_EQ(in.try_peek().state, status::ok);
    in.release();
    EXPECT_EQ(in.try_peek().state, status::peer_dead);
}

TEST_F(ring, a_put_to_the_dead_is_refused_and_accounted_for) {
    for (int n = 0; n < 5; ++n) ASSERT_EQ(put(100), status::ok);
    for (int n = 0; n < 2; ++n) {
        ASSERT_EQ(in.try_peek().state, status::ok);
        in.release();
    }
    ASSERT_EQ(in.try_peek().state, status::ok);  // in hand when it dies
    out.peer_died();
    EXPECT_EQ(put(1), status::peer_dead);
    const auto c = out.count();
    EXPECT_EQ(c.accepted, 5U);
    EXPECT_EQ(c.delivered, 2U);
    EXPECT_EQ(c.undelivered, 3U);
}

// -- what a hostile process could write into memory that is not its own --

TEST_F(ring, publishes_a_batch_by_its_own_lengths_whatever_is_in_memory) {
    const auto scribble = [&](std::uint64_t position) {
        auto& header = header_at(position);
        header.length.store(0xffff'ffff);
        std::memset(reinterpret_cast<std::byte*>(&header) + sizeof(record_header), 0xff, 24);
    };
    // A pack of one, a pack of several, and records of their own between them.
    ASSERT_EQ(out.try_add(some_kind, 0, bytes_of(8, 1)), status::ok);
    scribble(0);
    out.publish_batch();
    EXPECT_EQ(out.head(), line_bytes);

    for (int n = 0; n < 3; ++n) ASSERT_EQ(out.try_add(some_kind, 0, bytes_of(600, 2)), status::ok);
    for (int n = 0; n < 3; ++n) scribble(line_bytes + static_cast<unsigned>(n) * span_of(600));
    out.publish_batch();
    EXPECT_EQ(out.head(), line_bytes + 3 * span_of(600));
    for (int n = 0; n < 3; ++n) {
        const auto at = line_bytes + static_cast<unsigned>(n) * span_of(600);
        EXPECT_EQ(header_at(at).tag.load(), tag(at)) << n;
    }
    EXPECT_EQ(out.accepted(), 4U);
}

// -- parking --

TEST_F(ring, each_park_is_answered_once) {
    pair.b.in().park(park_mode::futex);
    ASSERT_EQ(put(1), status::ok);
    ASSERT_EQ(put(1), status::ok);
    EXPECT_EQ(pair.a.wakes(), 1);
    pair.b.in().unpark();
    ASSERT_EQ(put(1), status::ok);
    EXPECT_EQ(pair.a.wakes(), 1);
    pair.b.in().park(park_mode::futex);
    ASSERT_EQ(put(1), status::ok);
    EXPECT_EQ(pair.a.wakes(), 2);
}

TEST_F(ring, a_writer_is_woken_when_what_it_wants_fits) {
    fill_ring(48);
    out.park(park_mode::futex, 48 + 2 * line_bytes);
    for (int n = 0; n < 2; ++n) {
        ASSERT_EQ(in.try_peek().state, status::ok);
        in.release();
        EXPECT_EQ(pair.b.wakes(), 0);
    }
    ASSERT_EQ(in.try_peek().state, status::ok);
    in.release();
    EXPECT_EQ(pair.b.wakes(), 1);
    EXPECT_EQ(out.has_room(48 + 2 * line_bytes), status::ok);
}

TEST_F(ring, a_second_writer_that_wants_more_does_not_hide_the_first) {
    fill_ring(48);
    out.park(park_mode::futex, 48);
    out.park(park_mode::futex, largest);
    ASSERT_EQ(in.try_peek().state, status::ok);
    in.release();
    EXPECT_EQ(pair.b.wakes(), 1);
    out.unpark();
    // Alone, it is woken for what it wants.
    out.park(park_mode::futex, largest);
    ASSERT_EQ(in.try_peek().state, status::ok);
    in.release();
    EXPECT_EQ(pair.b.wakes(), 1);
}

TEST_F(ring, shutting_wakes_both_roles_of_the_other_end) {
    pair.b.in().park(park_mode::futex);
    pair.b.out().park(park_mode::futex, 1);
    pair.a.shut(half_state::closed);
    EXPECT_EQ(pair.a.wakes(), 2);
    EXPECT_TRUE(pair.b.in().is_ready());
    EXPECT_EQ(pair.b.out().has_room(1), status::closed);
}

// -- the scribbler --

// A peer that writes anything into all that it may write. Whatever comes of it lies inside the
// mapping, adds up, and comes to an end.
TEST_F(ring, survives_a_peer_that_scribbles) {
    std::mt19937_64 random{test_seed()};
    for (int round = 0; round < 400; ++round) {
        open_pair fresh;
        auto& reader = fresh.b.in();
        auto& writer = fresh.b.out();
        auto* theirs = fresh.one.header();
        const auto nonce = fresh.one.id().nonce;
        for (int n = 0; n < 60; ++n) {
            // Headers that pass for records, at the cursor and all over the ring, of any length.
            for (std::uint64_t at = 0; at < capacity; at += line_bytes) {
                if (random() % 3 == 0) continue;
                const auto position = reader.read() + at;
                auto& header = *reinterpret_cast<record_header*>(fresh.one.data() +
                                                                 (position & (capacity - 1)));
                header.length.store(
                    static_cast<std::uint32_t>(random() % 400 ? random() % 300 : random()));
                header.kind.store(random() % 2 ? packed : some_kind);
                header.flags.store(static_cast<std::uint16_t>(random() % 30));
                header.tag.store(tag_at(position, nonce));
            }
            theirs->released.store(random() % 20 ? reader.read() & ~std::uint64_t{63} : random());
            theirs->reader_park.store(static_cast<std::uint32_t>(random()));
            theirs->writer_park.store(static_cast<std::uint32_t>(random()));
            theirs->writer_wake_at.store(random());
            if (random() % 50 == 0) theirs->state.store(static_cast<std::uint32_t>(random()));

            const auto expect_inside = [&](std::span<const std::byte> bytes) {
                EXPECT_GE(bytes.data(), fresh.one.data());
                EXPECT_LE(bytes.data() + bytes.size(), fresh.one.data() + 2 * capacity);
                for (const auto b : bytes) (void)std::to_integer<int>(b);
            };
            switch (random() % 6) {
                case 0:
                    if (const auto r = reader.try_peek(); r.state == status::ok) {
                        expect_inside(r.record.payload);
                        if (random() % 3 == 0) break;
                        reader.skip();
                    }
                    break;
                case 1:
                    if (const auto s = reader.try_peek_span(random() % (2 * capacity));
                        s.state == status::ok) {
                        expect_inside(s.records);
                    }
                    break;
                case 2: reader.release(); break;
                case 3: reader.release_to(random() % (reader.read() + 65)); break;
                case 4: (void)writer.try_put(0, 0, bytes_of(random() % 200, 1)); break;
                default: reader.rewind(); break;
            }
            const auto c = reader.count();
            EXPECT_EQ(c.accepted, c.delivered + c.undelivered);
            EXPECT_LE(c.undelivered, capacity / sizeof(pack_item));
            EXPECT_EQ(reader.read() % line_bytes, 0U);
            EXPECT_LE(reader.read() - reader.released(), capacity);
            const auto w = writer.count();
            EXPECT_EQ(w.accepted, writer.accepted());
            EXPECT_EQ(w.accepted, w.delivered + w.undelivered);
            EXPECT_LE(w.undelivered, w.accepted);
        }
    }
}

}  // namespace
}  // namespace places::shm
