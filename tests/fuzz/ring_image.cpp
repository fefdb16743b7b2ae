// SPDX-License-Identifier: Apache-2.0
// Our roles on a half that a hostile peer writes. The input is a script: what the peer stores
// where, and what our producer and consumer do in between. No status may be wrong, no byte outside
// of the data area be read or given out, and nothing that the peer has not released be overwritten.
//
// The peer stores between our calls, never during one: that a header is read once is not shown.
#include "tests/fuzz/script.hpp"

#include <places/shm/endpoint.hpp>

#include <array>
#include <stdexcept>
#include <sys/mman.h>
#include <system_error>
#include <unistd.h>
#include <vector>

namespace places::shm {
namespace {

using fuzz::require;
using fuzz::script;

constexpr std::size_t capacity = ring_bytes_min;
constexpr std::size_t largest = capacity / 4;
constexpr std::uint64_t channel_id = 7;

identity identity_with(std::uint64_t nonce) {
    identity id{};
    id.magic = layout_magic;
    id.major = layout_major;
    id.minor = layout_minor;
    id.header_bytes = header_bytes;
    id.capacity_bytes = capacity;
    id.nonce = nonce;  // fixed: an input does the same every time
    id.channel_id = channel_id;
    return id;
}

unique_fd memory_of(const identity& id) {
    auto memory = create_memory(header_bytes + capacity, "fuzz");
    require(::pwrite(memory.get(), &id, sizeof id, 0) == sizeof id, "pwrite");
    return memory;
}

/// A half as half_mapping lays it, with nothing mapped around it: a step outside is a SIGSEGV.
class guarded_half {
  public:
    explicit guarded_half(std::uint64_t nonce) : id_(identity_with(nonce)) {
        constexpr std::size_t guard = 1U << 20;
        constexpr std::size_t first = header_bytes + capacity;
        const auto memory = memory_of(id_);
        void* room = ::mmap(nullptr, guard + first + capacity + guard, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        require(room != MAP_FAILED, "mmap");
        base_ = static_cast<std::byte*>(room) + guard;
        constexpr int both = PROT_READ | PROT_WRITE;
        require(::mmap(base_, first, both, MAP_SHARED | MAP_FIXED, memory.get(), 0) == base_ &&
                    ::mmap(base_ + first, capacity, both, MAP_SHARED | MAP_FIXED, memory.get(),
                           header_bytes) == base_ + first,
                "mmap of a half");
    }
    // Never unmapped: there is one of each as long as the process lasts.

    const identity& id() const { return id_; }
    half_header* header() const { return reinterpret_cast<half_header*>(base_); }
    std::byte* data() const { return base_ + header_bytes; }
    void clear() { std::memset(base_ + sizeof id_, 0, header_bytes + capacity - sizeof id_); }

  private:
    identity id_;
    std::byte* base_;
};

/// Both roles of one end, the peer, and what must hold between them.
class scene final : private waker {
  public:
    scene(guarded_half& mine, guarded_half& theirs)
        : mine_(mine),
          theirs_(theirs),
          out_({mine.header(), mine.data()}, {theirs.header(), theirs.data()}, mine.id(), *this),
          in_({mine.header(), mine.data()}, {theirs.header(), theirs.data()}, theirs.id(), *this) {}

    void play(script& s) {
        while (!s.is_over()) {
            note_claim();
            const auto what = s.take<std::uint8_t>();
            switch (what % 4) {
                case 0: act_as_peer(s, what / 4); break;
                case 1: send(s, what / 4); break;
                case 2: receive(s, what / 4); break;
                case 3: live(what / 4); break;
            }
            check();
        }
        (void)out_.count();
        (void)in_.count();
        check();
    }

  private:
    void wake(std::uint32_t park_word) noexcept override {
        require(park_word != 0, "nobody who is awake is woken");
    }

    // -- the peer --

    /// Any number, most often one that is nearly right.
    static std::uint64_t number_near(script& s, std::uint64_t right) {
        const auto how = s.take<std::uint8_t>();
        switch (how % 4) {
            case 0: return right;
            case 1: return right + line_bytes * s.take<std::int8_t>();
            case 2: return right + s.take<std::int16_t>();
            default: return s.take<std::uint64_t>();
        }
    }
    record_header* their_header_at(std::uint64_t position) {
        // Only whole lines: a header that wraps is what the second mapping is for.
        const auto at = position & (capacity - 1) & ~std::uint64_t{line_bytes - 1};
        return reinterpret_cast<record_header*>(theirs_.data() + at);
    }
    /// A position that was past the head may have become a right one.
    void note_claim() {
        const auto released = theirs_.header()->released.load();
        if (released <= out_.head() && released % line_bytes == 0) {
            claimed_ = std::max(claimed_, released);
        }
    }
    void act_as_peer(script& s, int what) {
        auto& header = *theirs_.header();
        switch (what % 10) {
            case 0: header.released.store(number_near(s, out_.head())); break;
            case 1: header.reader_park.store(s.take<std::uint32_t>()); break;
            case 2: header.writer_park.store(s.take<std::uint32_t>()); break;
            case 3: header.writer_wake_at.store(number_near(s, in_.released())); break;
            case 4: header.bell.store(s.take<std::uint32_t>()); break;
            case 5: header.state.store(s.take<std::uint8_t>()); break;
            case 6: {  // a record at the cursor or elsewhere, with or without the right tag
                const auto position = number_near(s, in_.read());
                auto& record = *their_header_at(position);
                record.length.store(static_cast<std::uint32_t>(number_near(s, largest)));
                record.kind.store(s.take<std::uint16_t>());
                record.flags.store(s.take<std::uint16_t>());
                record.tag.store(number_near(s, tag_at(position, theirs_.id().nonce)));
                break;
            }
            case 7: {  // an honest record, and more of them behind it
                auto at = in_.read();
                for (auto left = s.take<std::uint8_t>() % 8; left >= 0; --left) {
                    const auto length = s.take<std::uint16_t>() % (largest + 1);
                    auto& record = *their_header_at(at);
                    record.length.store(static_cast<std::uint32_t>(length));
                    record.tag.store(tag_at(at, theirs_.id().nonce));
                    at += span_of(length);
                }
                break;
            }
            case 8: {  // a length changed after it was peeked
                auto& record = *their_header_at(in_.released());
                record.length.store(static_cast<std::uint32_t>(number_near(s, 48)));
                break;
            }
            default: {
                const auto at = s.take<std::uint16_t>() % capacity;
                const auto bytes = s.take_bytes(s.take<std::uint8_t>());
                std::memcpy(theirs_.data() + at, bytes.data(), bytes.size());
            }
        }
    }

    // -- our producer --

    void send(script& s, int what) {
        const auto head = out_.head();
        const auto accepted = out_.accepted();
        const auto batched = out_.batched_bytes();
        if (batched == 0) batch_.clear();
        std::memcpy(before_.data(), mine_.data(), capacity);
        const auto form = what % 16;
        switch (form < 11 ? form : form % 8) {
            case 0: {
                const auto bytes = s.take_bytes(s.take<std::uint8_t>());
                const auto outcome = out_.try_put(1, 2, bytes);
                expect_send(outcome, bytes.size());
                if (outcome != status::ok) break;
                const auto* payload =
                    mine_.data() + (head & (capacity - 1)) + sizeof(record_header);
                require(out_.head() == head + span_of(bytes.size()), "a put moves the head");
                require(bytes.empty() || std::memcmp(payload, bytes.data(), bytes.size()) == 0,
                        "a put copies its bytes");
                break;
            }
            case 1: {
                const auto bytes = s.take<std::uint16_t>() % (2 * largest);
                expect_send(out_.try_put(1, 2, std::span{zeroes_}.first(bytes)), bytes);
                break;
            }
            case 2: {
                const std::size_t bytes = number_near(s, largest);
                const auto room = out_.try_loan(bytes);
                expect_send(room.state, bytes);
                require(room.payload.size() == (room.state == status::ok ? bytes : 0),
                        "a loan is of the size asked for");
                std::fill(room.payload.begin(), room.payload.end(), std::byte{0xee});
                break;
            }
            case 3: out_.publish(3, 4, number_near(s, largest)); break;
            case 4: out_.drop_loan(); break;
            case 5: {  // bytes as another machine may send them
                std::vector<std::byte> records(s.take<std::uint16_t>() %
                                               (capacity + 2 * line_bytes));
                const auto bytes = s.take_bytes(records.size());
                std::copy(bytes.begin(), bytes.end(), records.begin());
                expect_send_span(records);
                break;
            }
            case 6: {  // what lies in the other ring, as a bridge forwards it
                const auto some = in_.try_peek_span(capacity);
                if (some.state == status::ok) expect_send_span(some.records);
                break;
            }
            case 8: add(s, false); break;
            case 9: add(s, true); break;
            case 10: {
                out_.publish_batch();
                const auto ended = std::count_if(batch_.begin(), batch_.end(), [](const added& a) {
                    return (a.kind & continues) == 0;
                });
                require(out_.batched_bytes() == 0, "a batch is published once");
                require(out_.accepted() == accepted + static_cast<std::uint64_t>(ended),
                        "a batch counts its messages");
                expect_batch_at(head);
                break;
            }
            default: {
                const std::size_t bytes = number_near(s, largest);
                const auto room = out_.has_room(bytes);
                require((room == status::too_large) == (bytes > largest), "too_large is that");
            }
        }
        require(
            out_.batched_bytes() == 0 || form == 8 || form == 9 || out_.batched_bytes() == batched,
            "a batch grows by what is added, or is dropped");
        require(out_.accepted() >= accepted && out_.head() >= head, "positions only grow");
        require(out_.accepted() == accepted || out_.head() != head, "no count without a record");
        for (auto at = claimed_; at < head; at += line_bytes) {
            const auto index = at & (capacity - 1);
            require(std::memcmp(&before_[index], mine_.data() + index, line_bytes) == 0,
                    "what is not released is not touched");
        }
    }
    /// Of few kinds, so that some share a pack, and of any size.
    void add(script& s, bool in_place) {
        const auto type = s.take<std::uint8_t>();
        const auto kind = static_cast<std::uint16_t>(1 + type % 2 + (type & 4 ? continues : 0));
        const auto flags = static_cast<std::uint16_t>(type >> 3 & 1);
        const std::size_t size = type & 16 ? number_near(s, largest) : s.take<std::uint8_t>();
        std::vector<std::byte> bytes(std::min(size, 2 * largest), std::byte{type});
        const auto begun = out_.head();
        const auto batched = out_.batched_bytes();
        const auto accepted = out_.accepted();
        status outcome;
        if (in_place) {
            const auto room = out_.try_add_loan(kind, flags, bytes.size());
            outcome = room.state;
            require(room.payload.size() == (outcome == status::ok ? bytes.size() : 0),
                    "a loan is of the size asked for");
            std::copy(bytes.begin(),
                      bytes.begin() + static_cast<std::ptrdiff_t>(room.payload.size()),
                      room.payload.begin());
        } else {
            outcome = out_.try_add(kind, flags, bytes);
        }
        expect_send(outcome, bytes.size());
        require(out_.head() == begun && out_.accepted() == accepted, "what is added is not put");
        if (outcome == status::ok) {
            batch_.push_back({kind, flags, std::move(bytes)});
        } else {
            require(out_.batched_bytes() == batched, "what is refused leaves the batch");
        }
    }
    /// The records from there to the head are what was added, packed or not.
    void expect_batch_at(std::uint64_t at) {
        std::size_t count = 0;
        const auto expect_next = [&](std::uint16_t kind, std::uint16_t flags,
                                     const std::byte* bytes, std::size_t size) {
            require(count < batch_.size(), "no more than was added");
            const auto& a = batch_[count++];
            require(a.kind == kind && a.flags == flags && a.bytes.size() == size &&
                        std::equal(a.bytes.begin(), a.bytes.end(), bytes),
                    "a batch holds what was added");
        };
        while (at < out_.head()) {
            const auto* bytes = mine_.data() + (at & (capacity - 1));
            const auto& record = *reinterpret_cast<const record_header*>(bytes);
            const auto* payload = bytes + sizeof(record_header);
            const std::uint16_t kind = record.kind;
            require(record.tag == tag_at(at, mine_.id().nonce), "every record is published");
            if ((kind & packed) == 0) {
                expect_next(kind, record.flags, payload, record.length);
            } else {
                const auto& pack = *reinterpret_cast<const pack_header*>(payload);
                auto next = sizeof(pack_header);
                for (int left = record.flags; left > 0; --left) {
                    const auto& item = *reinterpret_cast<const pack_item*>(payload + next);
                    expect_next(kind & ~packed, pack.flags, payload + next + sizeof item,
                                item.length);
                    next += item_span_of(item.length);
                }
                require(next == record.length, "a pack ends with its last message");
            }
            at += span_of(record.length);
        }
        require(at == out_.head() && count == batch_.size(), "a batch is published whole");
    }
    void expect_send(status outcome, std::size_t bytes) {
        require(outcome != status::empty && outcome != status::timeout, "a status of try_put");
        require((outcome == status::too_large) == (bytes > largest), "too_large is that");
    }
    void expect_send_span(std::span<const std::byte> records) {
        const auto head = out_.head();
        const auto outcome = out_.try_put_span(records);
        require(
            outcome != status::empty && outcome != status::timeout && outcome != status::too_large,
            "a status of try_put_span");
        require(out_.head() == head + (outcome == status::ok ? records.size() : 0),
                "a span is all in or not at all");
    }

    // -- our consumer --

    void receive(script& s, int what) {
        const auto read = in_.read();
        switch (what % 10) {
            case 0:
            case 1: {
                const auto next = in_.try_peek();
                expect_receive(next.state);
                require(next.state == status::ok || next.record.payload.empty(), "ok has bytes");
                require(next.record.payload.size() <= in_.record_bytes_max(),
                        "no longer than that");
                touch(next.record.payload);
                break;
            }
            case 2: in_.skip(); break;
            case 3: in_.release(); break;
            case 4: {
                const std::size_t most = number_near(s, capacity);
                const auto some = in_.try_peek_span(most);
                expect_receive(some.state);
                require(some.position == read && some.records.size() <= most, "a span's size");
                require((some.state == status::ok) == (some.count > 0), "ok has records");
                touch(some.records);
                std::uint64_t count = 0;
                std::uint64_t at = 0;
                for (; at < some.records.size(); ++count) {
                    std::uint32_t length;
                    std::memcpy(&length, some.records.data() + at + offsetof(record_header, length),
                                sizeof length);
                    require(length <= largest, "a record of a span is bounded");
                    at += span_of(length);
                }
                require(at == some.records.size() && count == some.count, "whole records");
                break;
            }
            case 5: in_.release_to(number_near(s, in_.read())); break;
            case 6: in_.rewind(); break;
            case 7: (void)in_.is_ready(); break;
            case 8: {
                const auto left = in_.count();
                require(left.accepted == left.delivered + left.undelivered, "accounts add up");
                require(in_.read() == read, "counting moves nothing");
                break;
            }
            default: {
                const auto left = out_.count();
                require(left.accepted == left.delivered + left.undelivered, "accounts add up");
                require(left.accepted == out_.accepted(), "accepted is ours to know");
            }
        }
    }
    void expect_receive(status outcome) {
        require(outcome != status::timeout && outcome != status::too_large, "a status of try_peek");
    }
    void touch(std::span<const std::byte> bytes) {
        const auto* begin = theirs_.data();
        require(bytes.empty() || (bytes.data() >= begin && bytes.data() < begin + capacity &&
                                  bytes.size() <= capacity),
                "a view lies in the data area");
        unsigned sum = 0;
        for (const auto b : bytes) sum += static_cast<unsigned>(b);
        sum_ = sum_ + sum;
    }

    // -- both --

    void live(int what) {
        switch (what % 10) {
            case 0: in_.park(park_mode::futex); break;
            case 1: in_.unpark(); break;
            case 2: out_.park(park_mode::futex, 48); break;
            case 3: out_.park(park_mode::doorbell, largest); break;
            case 4: out_.unpark(); break;
            case 5: {
                const auto limit = out_.limit();
                require(limit >= out_.head() && limit - out_.head() <= capacity, "a limit's range");
                break;
            }
            case 6: in_.peer_died(); break;
            case 7: out_.peer_died(); break;
            default:
                out_.drop_loan();
                shut_half({mine_.header(), mine_.data()}, {theirs_.header(), theirs_.data()},
                          static_cast<half_state>(what % 3 + 1), *this);
        }
    }

    void check() {
        require(in_.released() <= in_.read() && in_.read() - in_.released() <= capacity,
                "released <= read <= released + capacity");
        require(mine_.header()->released.load() == in_.released(), "released is what we say");
        require(out_.head() % line_bytes == 0 && in_.read() % line_bytes == 0, "lines are whole");
        require(out_.head() + out_.batched_bytes() <= claimed_ + capacity,
                "no head beyond the room");
        const auto state = static_cast<half_state>(mine_.header()->state.load());
        if (state == half_state::open) return;
        require(first_state_ == half_state::open || state == first_state_, "a state is for good");
        first_state_ = state;
        require(out_.has_room(0) != status::ok, "an end that is shut sends nothing");
    }

    guarded_half& mine_;
    guarded_half& theirs_;
    producer out_;
    consumer in_;
    std::uint64_t claimed_ = 0;  // the most that the peer has rightly released
    half_state first_state_ = half_state::open;
    struct added {
        std::uint16_t kind;
        std::uint16_t flags;
        std::vector<std::byte> bytes;
    };
    std::vector<added> batch_;
    std::array<std::byte, capacity> before_;
    std::array<std::byte, 2 * largest> zeroes_{};
    volatile unsigned sum_ = 0;
};

/// An endpoint on memory whose identity and size the peer has chosen: refused, or one that works.
void attach(script& s) {
    auto id = identity_with(2);
    const auto offset = s.take<std::uint8_t>() % sizeof id;
    const auto bytes =
        s.take_bytes(std::min<std::size_t>(s.take<std::uint8_t>() % 16, sizeof id - offset));
    std::memcpy(reinterpret_cast<std::byte*>(&id) + offset, bytes.data(), bytes.size());
    const std::size_t size = 1 + s.take<std::uint16_t>();
    auto memory = create_memory(size % 2 == 0 ? size : header_bytes + capacity, "fuzz");
    (void)!::pwrite(memory.get(), &id, std::min(sizeof id, size), 0);
    const auto theirs = memory.duplicate();
    try {
        endpoint end{memory_of(identity_with(1)), std::move(memory)};
        require(end.channel_id() == channel_id, "two halves of one channel");
        auto* writable =
            ::mmap(nullptr, header_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, theirs.get(), 0);
        require(writable != MAP_FAILED, "mmap of the peer's page");
        auto& header = *static_cast<half_header*>(writable);
        header.reader_park.store(s.take<std::uint32_t>());
        header.state.store(s.take<std::uint8_t>());
        // Not the blocking forms: they spin first, which a fuzzer has no time for.
        (void)end.out().try_put(1, 2, s.take_bytes(s.take<std::uint8_t>()));
        (void)end.in().try_peek();
        end.peer_died();
        require(end.put(1, 2, {}) != status::ok, "nothing is sent to the dead");
        ::munmap(writable, header_bytes);
    } catch (const std::system_error&) {
    } catch (const std::runtime_error&) {
    }
}

}  // namespace
}  // namespace places::shm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace places;
    static shm::guarded_half mine{1};
    static shm::guarded_half theirs{2};
    fuzz::script s{std::as_bytes(std::span{data, size})};
    if (s.take<std::uint8_t>() == 0xff) {
        shm::attach(s);
        return 0;
    }
    mine.clear();
    theirs.clear();
    shm::scene{mine, theirs}.play(s);
    return 0;
}
