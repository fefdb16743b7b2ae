// SPDX-License-Identifier: Apache-2.0
// What the ring's tests send and how they check it: one sender and one receiver that never block,
// for drivers that run them in turns, in two threads, or in two processes. Record number n of a
// seed has one size, kind, flags and content, so the receiver knows every byte to expect.
#pragma once

#include "tests/shm/pair.hpp"

#include <algorithm>
#include <cstring>

namespace places::shm {

inline std::uint64_t mixed(std::uint64_t n) { return tag_at(n, 0x9e3779b97f4a7c15); }

struct record_plan {
    std::size_t size;
    std::uint16_t kind;
    std::uint16_t flags;
    std::uint64_t noise;
};

inline record_plan plan_of(std::uint64_t seed, std::uint64_t n, std::size_t size_max) {
    const auto noise = mixed(seed ^ mixed(n));
    const auto draw = mixed(noise);
    std::size_t size = draw % 49;  // what shares its header's line
    if (draw >> 62 == 1) size = (draw >> 8) % (size_max + 1);
    if (draw >> 54 == 0) size = size_max;
    // The same for some, so that batches have packs.
    constexpr std::uint64_t bits = continues | packed | aside;
    const auto kind = static_cast<std::uint16_t>(n / 8 & ~bits);
    return {size, kind, static_cast<std::uint16_t>(n >> 17), noise};
}

inline void fill(std::span<std::byte> payload, const record_plan& plan) {
    for (std::size_t at = 0; at < payload.size(); at += 8) {
        const auto word = plan.noise + at * 0xbf58476d1ce4e5b9;
        std::memcpy(payload.data() + at, &word, std::min<std::size_t>(8, payload.size() - at));
    }
}

inline bool is_whole(std::span<const std::byte> payload, const record_plan& plan) {
    if (payload.size() != plan.size) return false;
    for (std::size_t at = 0; at < payload.size(); at += 8) {
        const auto word = plan.noise + at * 0xbf58476d1ce4e5b9;
        const auto size = std::min<std::size_t>(8, payload.size() - at);
        if (std::memcmp(payload.data() + at, &word, size) != 0) return false;
    }
    return true;
}

inline bool is_record(const record_view& r, const record_plan& plan) {
    return r.kind == plan.kind && r.flags == plan.flags && is_whole(r.payload, plan);
}

/// Appends a record as some other ring would have laid it, with a tag that means nothing here.
inline void lay_record(std::vector<std::byte>& span, std::uint16_t kind, std::uint16_t flags,
                       std::span<const std::byte> payload) {
    const auto at = span.size();
    span.resize(at + span_of(payload.size()));
    const auto length = static_cast<std::uint32_t>(payload.size());
    const auto tag = mixed(at);
    std::memcpy(span.data() + at, &tag, sizeof tag);
    std::memcpy(span.data() + at + offsetof(record_header, length), &length, sizeof length);
    std::memcpy(span.data() + at + offsetof(record_header, kind), &kind, sizeof kind);
    std::memcpy(span.data() + at + offsetof(record_header, flags), &flags, sizeof flags);
    if (length > 0) {
        std::memcpy(span.data() + at + sizeof(record_header), payload.data(), payload.size());
    }
}

/// Sends records 0..count-1 by every form of put, chosen at random.
class sender {
  public:
    sender(producer& out, std::uint64_t seed, std::uint64_t count)
        : out_(out),
          seed_(seed),
          count_(count),
          random_(seed) {}

    bool is_done() const { return next_ == count_; }
    /// What the record or span that did not fit needs.
    std::size_t wanted_bytes() const { return wanted_; }

    /// Returns: false when there was no room; the next call tries the same again.
    bool step() {
        if (!chosen_) choose();
        const auto outcome = act();
        if (outcome == status::full) return false;
        EXPECT_EQ(outcome, status::ok) << to_string(outcome) << " at record " << next_;
        next_ = outcome == status::ok ? next_ + batch_ : count_;
        chosen_ = false;
        return true;
    }

  private:
    enum class form { put, loan, dropped_loan, span, batch };

    void choose() {
        chosen_ = true;
        form_ = static_cast<form>(random_() % 5);
        const auto plan = plan_of(seed_, next_, out_.record_bytes_max());
        payload_.resize(plan.size);
        fill(payload_, plan);
        batch_ = 1;
        wanted_ = plan.size;
        if (form_ != form::span) return;
        span_.clear();
        batch_ = 0;
        // A waiter asks for room by the size of one record, so a span is no larger than that.
        const auto most = span_of(out_.record_bytes_max());
        for (auto left = 1 + random_() % 6; left > 0 && next_ + batch_ < count_; --left) {
            const auto p = plan_of(seed_, next_ + batch_, out_.record_bytes_max());
            if (span_.size() + span_of(p.size) > most) break;
            payload_.resize(p.size);
            fill(payload_, p);
            lay_record(span_, p.kind, p.flags, payload_);
            ++batch_;
        }
        wanted_ = std::min(span_.size() - sizeof(record_header), out_.record_bytes_max());
    }

    status act() {
        if (form_ == form::span) return out_.try_put_span(span_);
        if (form_ == form::batch) return add_and_publish();
        const auto plan = plan_of(seed_, next_, out_.record_bytes_max());
        if (form_ == form::put) return out_.try_put(plan.kind, plan.flags, payload_);
        // More room than is used then, where there is more.
        auto room = out_.try_loan(std::min(2 * plan.size, out_.record_bytes_max()));
        if (room.state == status::full) room = out_.try_loan(plan.size);
        if (room.state != status::ok) return room.state;
        if (form_ == form::dropped_loan) {
            std::fill(room.payload.begin(), room.payload.end(), std::byte{0xee});
            return out_.try_put(plan.kind, plan.flags, payload_);
        }
        std::copy(payload_.begin(), payload_.end(), room.payload.begin());
        out_.publish(plan.kind, plan.flags, plan.size);
        return status::ok;
    }

    /// As many as there is room for, after a batch that is dropped.
    status add_and_publish() {
        (void)out_.try_add(1, 2, std::span{payload_}.first(payload_.size() / 2));
        out_.drop_loan();
        const auto most = 1 + random_() % 6;
        for (batch_ = 0; batch_ < most && next_ + batch_ < count_; ++batch_) {
            const auto p = plan_of(seed_, next_ + batch_, out_.record_bytes_max());
            payload_.resize(p.size);
            fill(payload_, p);
            const auto added = out_.try_add(p.kind, p.flags, payload_);
            if (added == status::full && batch_ > 0) break;
            if (added != status::ok) return added;
        }
        out_.publish_batch();
        return status::ok;
    }

    producer& out_;
    const std::uint64_t seed_;
    const std::uint64_t count_;
    std::mt19937_64 random_;
    std::uint64_t next_ = 0;
    bool chosen_ = false;
    form form_ = form::put;
    std::uint64_t batch_ = 0;
    std::size_t wanted_ = 0;
    std::vector<std::byte> payload_;
    std::vector<std::byte> span_;
};

/// Reads messages by every form of peek and release, chosen at random, and checks each byte.
class receiver {
  public:
    receiver(consumer& in, std::uint64_t seed) : in_(in), seed_(seed), random_(~seed) {}

    /// Messages given back so far.
    std::uint64_t released() const { return delivered_; }
    std::uint64_t next() const { return next_; }
    status last() const { return last_; }

    /// Returns: false when no record is there; last() says why. Holds no space then.
    bool step() {
        switch (random_() % 8) {
            case 0:
                if (next_ == record_begin_) return take_span();
                EXPECT_EQ(in_.try_peek_span(in_.capacity_bytes()).state, status::full);
                break;
            case 1:
                in_.rewind();
                next_ = record_begin_ = delivered_ = unreleased_begin_;
                ends_.clear();
                break;
            case 2: check_count(); break;
            default: break;
        }
        const auto r = in_.try_peek();
        last_ = r.state;
        if (r.state != status::ok) return give_all();
        expect(r.record);
        const auto before = in_.read();
        in_.skip();
        ++next_;
        if (in_.read() != before) note_end(in_.read());
        if (random_() % 4 != 0) give_all();
        return true;
    }

  private:
    struct record_end {
        std::uint64_t position;
        std::uint64_t message;  // the first behind it
    };

    void expect(const record_view& r) {
        const auto plan = plan_of(seed_, next_, in_.record_bytes_max());
        EXPECT_TRUE(is_record(r, plan)) << "record " << next_ << " is torn: " << r.payload.size()
                                        << " bytes instead of " << plan.size;
    }
    void note_end(std::uint64_t position) {
        ends_.push_back({position, next_});
        record_begin_ = next_;
    }
    bool give_all() {
        in_.release_skipped();
        delivered_ = next_;
        unreleased_begin_ = record_begin_;
        ends_.clear();
        EXPECT_EQ(in_.released(), in_.read());
        return false;
    }
    bool take_span() {
        auto some = in_.try_peek_span(random_() % (2 * in_.record_bytes_max()));
        if (some.state == status::full) some = in_.try_peek_span(2 * in_.record_bytes_max());
        last_ = some.state;
        if (some.state != status::ok) return give_all();
        std::uint64_t count = 0;
        for (std::size_t at = 0; at < some.records.size(); ++count) {
            const auto* header = reinterpret_cast<const record_header*>(some.records.data() + at);
            const auto length = header->length.load(std::memory_order_relaxed);
            expect_all({header->kind.load(std::memory_order_relaxed),
                        header->flags.load(std::memory_order_relaxed),
                        some.records.subspan(at + sizeof(record_header), length)});
            at += span_of(length);
            note_end(some.position + at);
        }
        EXPECT_EQ(count, some.count);
        // Some of what is held, up to the end of a record.
        const auto given = 1 + random_() % ends_.size();
        in_.release_to(ends_[given - 1].position);
        EXPECT_EQ(in_.released(), ends_[given - 1].position);
        delivered_ = unreleased_begin_ = ends_[given - 1].message;
        ends_.erase(ends_.begin(), ends_.begin() + static_cast<std::ptrdiff_t>(given));
        return true;
    }
    /// A record, or what is in a pack.
    void expect_all(const record_view& r) {
        if ((r.kind & packed) == 0) {
            expect(r);
            ++next_;
            return;
        }
        const auto* payload = r.payload.data();
        const auto flags =
            reinterpret_cast<const pack_header*>(payload)->flags.load(std::memory_order_relaxed);
        auto at = sizeof(pack_header);
        for (unsigned n = 0; n < r.flags; ++n, ++next_) {
            const auto length = reinterpret_cast<const pack_item*>(payload + at)
                                    ->length.load(std::memory_order_relaxed);
            expect({static_cast<std::uint16_t>(r.kind & ~packed), flags,
                    r.payload.subspan(at + sizeof(pack_item), length)});
            at += item_span_of(length);
        }
        EXPECT_EQ(at, r.payload.size());
    }
    void check_count() {
        const auto c = in_.count();
        EXPECT_EQ(c.delivered, released());
        EXPECT_EQ(c.accepted, c.delivered + c.undelivered);
        EXPECT_GE(c.undelivered, next_ - released());
    }

    consumer& in_;
    const std::uint64_t seed_;
    std::mt19937_64 random_;
    std::uint64_t next_ = 0;
    std::uint64_t delivered_ = 0;
    std::uint64_t record_begin_ = 0;      // first message of the record at the read cursor
    std::uint64_t unreleased_begin_ = 0;  // and of the first record not given back
    std::vector<record_end> ends_;        // of the records stepped over and not given back
    status last_ = status::ok;
};

template <class End>
void send_blocking(End& end, const bedside& bed, std::uint64_t seed, std::uint64_t count) {
    sender s{end.out(), seed, count};
    while (!s.is_done()) {
        if (!s.step()) bed.await_room(end, s.wanted_bytes());
    }
    end.shut(half_state::closed);
}

template <class End>
void receive_blocking(End& end, const bedside& bed, std::uint64_t seed, std::uint64_t count) {
    receiver r{end.in(), seed};
    while (r.step() || r.last() == status::empty) {
        if (r.last() == status::empty) bed.await_record(end);
    }
    EXPECT_EQ(r.last(), status::closed);
    EXPECT_EQ(r.next(), count);
    EXPECT_EQ(end.in().delivered(), count);
}

}  // namespace places::shm
