// SPDX-License-Identifier: Apache-2.0
// A process that gets no more memory from its allocator: the ring goes on without.
#include "tests/shm/pair.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

namespace {
bool has_memory = true;
}

void* operator new(std::size_t size) {
    void* const at = has_memory ? std::malloc(size) : nullptr;
    if (!at) throw std::bad_alloc{};
    return at;
}
void operator delete(void* at) noexcept { std::free(at); }
void operator delete(void* at, std::size_t) noexcept { std::free(at); }

namespace places::shm {
namespace {

struct without_memory {
    without_memory() { has_memory = false; }
    ~without_memory() { has_memory = true; }
};

}  // namespace

// A full batch is published, and the next message is then taken: nobody waits for room that is
// there already.
TEST(no_memory, takes_each_message_of_a_batch_once_those_before_it_are_published) {
    open_pair pair{1 << 16};
    auto& out = pair.a.out();
    const auto large = bytes_of(600, 1);  // a record each
    auto state = status::ok;
    {
        const without_memory now;
        for (int n = 0; n < 1000 && state == status::ok; ++n) {
            state = out.try_add(3, 0, large);
            if (state != status::full) continue;
            out.publish_batch();
            while (pair.b.in().try_peek().state == status::ok) pair.b.in().release();
            state = out.try_add(3, 0, large);
        }
    }
    EXPECT_EQ(state, status::ok);
    out.publish_batch();
    while (pair.b.in().try_peek().state == status::ok) pair.b.in().release();
    EXPECT_EQ(pair.b.in().delivered(), 1000U);
}

// Full, it would be taken for a breach of the rules by who knows that there is room.
TEST(no_memory, a_span_of_more_records_than_can_be_listed_is_too_large_not_full) {
    open_pair from{1 << 16};
    for (int n = 0; n < 1000; ++n) ASSERT_EQ(from.a.out().try_put(3, 0, {}), status::ok);
    const auto span = from.b.in().try_peek_span(1 << 16).records;
    open_pair to{1 << 16};
    auto all = status::ok;
    auto some = status::ok;
    {
        const without_memory now;
        all = to.a.out().try_put_span(span);
        some = to.a.out().try_put_span(span.first(8 * line_bytes));
    }
    EXPECT_EQ(all, status::too_large);
    EXPECT_EQ(some, status::ok);
    EXPECT_EQ(to.a.out().try_put_span(span.subspan(8 * line_bytes)), status::ok);
    EXPECT_EQ(to.a.out().accepted(), 1000U);
}

}  // namespace places::shm
