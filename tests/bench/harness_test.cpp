// SPDX-License-Identifier: Apache-2.0
// Who takes turns when, what is compared with what, and how it is printed.
#include "bench/harness.hpp"

#include "tests/bench/fixture.hpp"
#include "tests/support/content_of.hpp"
#include "tests/support/process_cost.hpp"
#include "bench/build_info.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/value_to.hpp>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <ctime>
#include <memory>
#include <sched.h>
#include <semaphore>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/utsname.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace places::bench {
namespace {

using boost::json::object;

std::string text_of(const object& line, std::string_view key) {
    return boost::json::value_to<std::string>(line.at(key));
}

/// Finds in each slice, the warm-up first, what is listed, and writes its name into a log.
/// Shape: one more than there are rounds.
struct script {
    std::string name;
    bool is_subject;
    std::vector<double> per_second;
    std::vector<std::uint64_t> times{};
    std::size_t size = 0;
};
contestant follows(const script& s, std::string* log = nullptr) {
    auto found = std::make_shared<report>();
    auto next = std::make_shared<std::size_t>(0);
    return {s.name, s.is_subject,
            [=]() -> const report& {
                if (log) *log += s.name;
                const auto i = (*next)++;
                found->times.clear();
                if (!s.times.empty()) found->times.record(s.times.at(i));
                found->per_second = s.per_second.at(i);
                return *found;
            },
            s.size};
}

/// The lines of JSON after that of the machine.
std::vector<object> told_of(figure compared, const std::vector<script>& scripts, int rounds) {
    captured out;
    fixture f{asked(rounds, true)};
    contest c{64, compared, {}};
    for (const auto& s : scripts) c.entries.push_back(follows(s));
    f.measuring.measure(std::move(c));
    EXPECT_EQ(f.measuring.finish(), 0);
    std::istringstream lines(out.take());
    std::vector<object> found;
    for (std::string line; std::getline(lines, line);) {
        auto parsed = boost::json::parse(line).as_object();
        if (parsed.count("machine") == 0) found.push_back(std::move(parsed));
    }
    return found;
}

/// The one summary line.
object summary_of(figure compared, const std::vector<script>& scripts, int rounds) {
    object found;
    int count = 0;
    for (auto& line : told_of(compared, scripts, rounds)) {
        if (line.count("versus") == 0) continue;
        found = std::move(line);
        ++count;
    }
    EXPECT_EQ(count, 1);
    return found;
}

void expect_ratio(const object& summary, double least, double middle, double most) {
    EXPECT_EQ(text_of(summary, "subject"), "places");
    EXPECT_EQ(text_of(summary, "versus"), "limit");
    EXPECT_DOUBLE_EQ(summary.at("ratio_min").to_number<double>(), least);
    EXPECT_DOUBLE_EQ(summary.at("ratio").to_number<double>(), middle);
    EXPECT_DOUBLE_EQ(summary.at("ratio_max").to_number<double>(), most);
}

TEST(bench_harness, every_round_begins_with_another) {
    captured out;
    fixture f{asked(4, false)};
    std::string log;
    contest c{0, figure::rate, {}};
    for (const auto* name : {"a", "b", "c"}) {
        c.entries.push_back(follows({name, false, {1, 1, 1, 1, 1}}, &log));
    }
    f.measuring.measure(std::move(c));
    EXPECT_EQ(log,
              "abc"
              "abc"
              "bca"
              "cab"
              "abc");
}

TEST(bench_harness, rates_are_compared_ours_over_theirs_round_by_round) {
    // The warm-up's counts for nothing. The medians alone would make 3.
    const auto s = summary_of(
        figure::rate, {{"places", true, {900, 10, 30, 80}}, {"limit", false, {1, 10, 5, 20}}}, 3);
    expect_ratio(s, 1, 4, 6);
    EXPECT_EQ(s.at("rounds").to_number<int>(), 3);
    EXPECT_EQ(s.at("size").to_number<std::size_t>(), 64u);
    EXPECT_EQ(s.count("ratio_p99"), 0u);
    EXPECT_EQ(s.count("ratio_p99_all"), 0u);
}

TEST(bench_harness, times_are_compared_ours_over_theirs_round_by_round) {
    const auto s = summary_of(figure::time,
                              {{"places", true, {1, 1, 1, 1}, {900, 10, 30, 80}},
                               {"limit", false, {7, 7, 7, 7}, {1, 10, 5, 20}}},
                              3);
    expect_ratio(s, 1, 4, 6);
    EXPECT_DOUBLE_EQ(s.at("ratio_p99").to_number<double>(), 4);
}

TEST(bench_harness, the_99th_percentiles_are_compared_by_round_and_of_all_rounds) {
    const std::vector<script> both{{"places", true, {1, 1, 1, 1}, {900, 10, 60, 30}},
                                   {"limit", false, {7, 7, 7, 7}, {1, 10, 5, 20}}};
    const auto s = summary_of(figure::time, both, 3);
    EXPECT_DOUBLE_EQ(s.at("ratio_p99").to_number<double>(), 1.5);
    EXPECT_DOUBLE_EQ(s.at("ratio_p99_all").to_number<double>(), 3);
    captured out;
    fixture f{asked(3, false)};
    contest c{64, figure::time, {}};
    for (const auto& each : both) c.entries.push_back(follows(each));
    f.measuring.measure(std::move(c));
    EXPECT_EQ(f.measuring.finish(), 0);
    const auto text = out.take();
    EXPECT_NE(text.find("[1.000 .. 12.000]  p99 1.500, of all rounds 3.000\n"), text.npos) << text;
}

TEST(bench_harness, an_even_number_of_rounds_has_its_median_between_two) {
    expect_ratio(
        summary_of(figure::rate,
                   {{"places", true, {1, 1, 2, 4, 8}}, {"limit", false, {1, 1, 1, 1, 1}}}, 4),
        1, 3, 8);
}

TEST(bench_harness, rates_of_two_sizes_are_compared_in_bytes) {
    expect_ratio(summary_of(figure::rate,
                            {{"places", true, {1, 32}}, {"limit", false, {1, 1}, {}, 1024}}, 1),
                 2, 2, 2);
}

TEST(bench_harness, a_subject_is_not_compared_with_another) {
    const auto lines = told_of(figure::rate,
                               {{"places", true, {1, 1}},
                                {"ring", true, {1, 1}},
                                {"limit", false, {1, 1}},
                                {"pipe", false, {1, 1}}},
                               1);
    std::string pairs;
    for (const auto& line : lines) {
        if (line.count("versus") == 0) continue;
        pairs += text_of(line, "subject") + "/" + text_of(line, "versus") + " ";
    }
    EXPECT_EQ(pairs, "places/limit places/pipe ring/limit ring/pipe ");
}

TEST(bench_harness, columns_stay_apart_whatever_is_in_them) {
    captured out;
    fixture f{asked(1, false)};
    contest c{1 << 20, figure::time, {}};
    // A minute, in us with three digits behind the point: wider than its column.
    constexpr std::uint64_t minute = 60'000'000'000;
    c.entries.push_back(follows({"places_cold", true, {1e15, 1e15}, {minute, minute}}));
    f.measuring.measure(std::move(c));
    std::istringstream lines(out.take());
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with("places_cold")) continue;
        std::istringstream words(line);
        int count = 0;
        for (std::string word; words >> word;) ++count;
        EXPECT_EQ(count, 8) << line;
        return;
    }
    ADD_FAILURE() << "no line";
}

TEST(bench_harness, the_head_tells_machine_and_build) {
    captured out;
    const fixture f{asked(1, false)};
    const auto head = out.take();
    const auto of = [&](const std::string& key) {
        const auto at = head.find("# " + key + " ");
        if (at == head.npos) return std::string();
        const auto value = head.find_first_not_of(' ', at + 2 + key.size());
        return head.substr(value, head.find('\n', value) - value);
    };
    cpu_set_t set;
    ASSERT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
    const auto cpu = of("cpu");
    const auto cores = ", " + std::to_string(CPU_COUNT(&set)) + " cores";
    ASSERT_TRUE(cpu.ends_with(cores)) << cpu;
    const auto model = cpu.substr(0, cpu.size() - cores.size());
    EXPECT_TRUE(model == "unknown" ||
                content_of("/proc/cpuinfo").find(": " + model + "\n") != std::string::npos);
    utsname kernel{};
    ASSERT_EQ(::uname(&kernel), 0);
    EXPECT_EQ(of("kernel"),
              std::string(kernel.sysname) + " " + kernel.release + " " + kernel.machine);
    EXPECT_EQ(of("compiler"), PLACES_BENCH_COMPILER);
    EXPECT_EQ(of("flags"), PLACES_BENCH_FLAGS);
    EXPECT_EQ(of("commit"), PLACES_BENCH_COMMIT);
    EXPECT_FALSE(of("clock").empty());
}

TEST(bench_harness, a_line_of_json_begins_with_the_question_and_holds_any_words_of_others) {
    captured out;
    auto all = asked(1, true);
    all.peers = "auto";
    fixture f{all};
    const std::string words = "it said \"no\\\x01\n";
    f.measuring.print({{"subject", "places"}, {"seconds", rounded("{:.1f}", 2.26)}}, "");
    f.measuring.miss("peer", words);
    std::istringstream lines(out.take());
    std::string line;
    std::getline(lines, line);
    EXPECT_TRUE(boost::json::parse(line).as_object().contains("machine"));
    std::getline(lines, line);
    EXPECT_EQ(line, R"({"question":"test","subject":"places","seconds":2.3E0})");
    std::getline(lines, line);
    EXPECT_TRUE(line.starts_with(R"({"question":"test","peer":"peer","missing":)")) << line;
    EXPECT_EQ(text_of(boost::json::parse(line).as_object(), "missing"), words);
    EXPECT_FALSE(std::getline(lines, line));
}

/// Measures two contestants of which the second fails.
std::string told_when_one_fails(bool is_peer) {
    captured out;
    fixture f{asked(2, false)};
    contest c{0, figure::rate, {}};
    c.entries.push_back(follows({"places", true, {1, 1, 1}}));
    c.entries.push_back(
        {"limit", false, []() -> const report& { throw std::runtime_error("is gone"); }});
    c.entries.back().is_peer = is_peer;
    try {
        f.measuring.measure(std::move(c));
    } catch (const std::runtime_error& e) {
        return e.what();
    }
    return {};
}

TEST(bench_harness, a_limit_that_fails_fails_the_run_without_peers_too) {
    EXPECT_EQ(told_when_one_fails(false), "limit fails: is gone");
}

TEST(bench_harness, a_peer_that_fails_leaves_the_others) {
    EXPECT_EQ(told_when_one_fails(true), "");
}

TEST(bench_harness, the_faster_of_two_forms_has_the_lower_times_or_the_higher_rate) {
    for (const bool first_is_faster : {true, false}) {
        const auto quick = follows({"limit", false, {1}, {10}});
        const auto slow = follows({"limit", false, {2}, {20}});
        const auto timed = first_is_faster ? faster_of(quick, slow) : faster_of(slow, quick);
        EXPECT_EQ(timed.run().times.max(), 10u);
        const auto many = follows({"limit", false, {2}});
        const auto few = follows({"limit", false, {1}});
        const auto rated = first_is_faster ? faster_of(many, few) : faster_of(few, many);
        EXPECT_EQ(rated.run().per_second, 2);
    }
}

TEST(process_cost, is_that_of_all_threads) {
    const auto spent_ns = [] {
        timespec t{};
        ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
    };
    constexpr double much_ns = 40e6;
    const std::array self{::getpid()};
    const auto before = cost_of(self);
    std::binary_semaphore has_worked{0};
    std::binary_semaphore may_end{0};
    std::thread other([&] {
        while (spent_ns() < much_ns) {
        }
        has_worked.release();
        may_end.acquire();
    });
    has_worked.acquire();
    const auto after = cost_of(self);
    may_end.release();
    other.join();
    // It may not have been counted to its last tick, and this thread slept.
    EXPECT_GT(after.cpu_ns - before.cpu_ns, much_ns / 2);
}

}  // namespace
}  // namespace places::bench
