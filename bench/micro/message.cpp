// SPDX-License-Identifier: Apache-2.0 - What does it cost to make a message of a value, and back?
#include <places/core/message.hpp>
#include <places/core/value.hpp>

#include <benchmark/benchmark.h>

#include <map>
#include <string>
#include <vector>

namespace places {
namespace {

struct point {
    double x;
    double y;
    double z;
};

template <class T>
void encode(benchmark::State& state, const T& v) {
    std::size_t bytes = 0;
    for (auto _ : state) {
        const auto m = message::of(v);
        bytes = m.bytes().size();
        benchmark::DoNotOptimize(m.bytes().data());
    }
    state.counters["bytes"] = static_cast<double>(bytes);
}

template <class T>
void decode(benchmark::State& state, const T& v) {
    const message m = message::of(v);
    for (auto _ : state) {
        const auto back = m.as<T>();
        if (!back) state.SkipWithError("not what it was");
        benchmark::DoNotOptimize(&back);
    }
}

const point plain{1, 2, 3};
const std::string text(40, 'a');
const std::vector<std::int64_t> numbers(100, 7);
const std::map<std::string, std::int64_t> table{{"one", 1}, {"two", 2}, {"three", 3}};
const value tree = value::list(1, "two", 3.0);

BENCHMARK_CAPTURE(encode, struct_of_24, plain);
BENCHMARK_CAPTURE(decode, struct_of_24, plain);
BENCHMARK_CAPTURE(encode, string_of_40, text);
BENCHMARK_CAPTURE(decode, string_of_40, text);
BENCHMARK_CAPTURE(encode, hundred_numbers, numbers);
BENCHMARK_CAPTURE(decode, hundred_numbers, numbers);
BENCHMARK_CAPTURE(encode, map_of_three, table);
BENCHMARK_CAPTURE(decode, map_of_three, table);
BENCHMARK_CAPTURE(encode, list_of_three, tree);
BENCHMARK_CAPTURE(decode, list_of_three, tree);

}  // namespace
}  // namespace places
