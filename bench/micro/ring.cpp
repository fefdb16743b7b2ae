// SPDX-License-Identifier: Apache-2.0 - What does a record cost the two roles, in one process?
#include <places/shm/endpoint.hpp>
#include <places/shm/sealed_memory.hpp>

#include <benchmark/benchmark.h>

#include <vector>

namespace places::shm {
namespace {

constexpr std::size_t capacity_bytes = 64 * 1024;

/// Both ends in this process; the memories outlive their mapping.
struct both_ends {
    unique_fd one = create_half(1, capacity_bytes);
    unique_fd two = create_half(1, capacity_bytes);
    unique_fd one_read = reopen_read_only(one);
    unique_fd two_read = reopen_read_only(two);
    endpoint a{std::move(one), std::move(two_read)};
    endpoint b{std::move(two), std::move(one_read)};
};

void put_and_peek(benchmark::State& state) {
    both_ends ends;
    const std::vector<std::byte> payload(static_cast<std::size_t>(state.range(0)));
    for (auto _ : state) {
        if (ends.a.out().try_put(0, 0, payload) != status::ok) state.SkipWithError("no room");
        benchmark::DoNotOptimize(ends.b.in().try_peek().record.payload.data());
        ends.b.in().release();
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(put_and_peek)->Arg(8)->Arg(48)->Arg(64)->Arg(1024)->Arg(16 * 1024);

/// The consumer releases once for many.
void put_and_peek_span(benchmark::State& state) {
    both_ends ends;
    const std::vector<std::byte> payload(48);
    const auto count = state.range(0);
    for (auto _ : state) {
        for (std::int64_t i = 0; i < count; ++i) {
            if (ends.a.out().try_put(0, 0, payload) != status::ok) state.SkipWithError("no room");
        }
        const auto run = ends.b.in().try_peek_span(capacity_bytes);
        ends.b.in().release_to(run.position + run.records.size());
    }
    state.SetItemsProcessed(state.iterations() * count);
}
BENCHMARK(put_and_peek_span)->Arg(1)->Arg(64)->Arg(512);

void loan_and_drop(benchmark::State& state) {
    both_ends ends;
    for (auto _ : state) {
        benchmark::DoNotOptimize(ends.a.out().try_loan(48).payload.data());
        ends.a.out().drop_loan();
    }
}
BENCHMARK(loan_and_drop);

}  // namespace
}  // namespace places::shm
