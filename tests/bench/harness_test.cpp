// SPDX-License-Identifier: Apache-2.0
// Who takes turns when, what is compared with what, and how it is printed.
#include "bench/harness.hpp"

#include "tests/support/content_of.hpp"
#include "tests/support/process_cost.hpp"
#include "bench/build_info.hpp"
#include "bench/crowd.hpp"
#include "bench/pairs.hpp"

#include <places/core/place.hpp>
#include <places/launcher/runtime.hpp>

#include <boost/interprocess/anonymous_shared_memory.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <boost/property_tree/json_parser.hpp>
#include <boost/property_tree/ptree.hpp>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <ctime>
#include <memory>
#include <new>
#include <sched.h>
#include <semaphore>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <sys/utsname.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace places::bench {
namespace {

using boost::property_tree::ptree;

/// What is printed while this lives.
class captured {
  public:
    captured() { testing::internal::CaptureStdout(); }
    ~captured() {
        if (!is_taken_) testing::internal::GetCapturedStdout();
    }
    std::string take() {
        is_taken_ = true;
        return testing::internal::GetCapturedStdout();
    }

  private:
    bool is_taken_ = false;
};

/// A harness, which prints what machine this is, in a program that is at home nowhere else.
struct fixture {
    explicit fixture(settings s) : measuring(std::move(s), tick_clock{}, home) {}

    char name[13] = "harness_test";
    char* argv[2] = {name, nullptr};
    runtime home{1, argv};
    harness measuring;
};

settings asked(int rounds, bool json) {
    settings s;
    s.question = "test";
    s.peers = "none";
    s.rounds = rounds;
    s.json = json;
    return s;
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
std::vector<ptree> told_of(figure compared, const std::vector<script>& scripts, int rounds) {
    captured out;
    fixture f{asked(rounds, true)};
    contest c{64, compared, {}};
    for (const auto& s : scripts) c.entries.push_back(follows(s));
    f.measuring.measure(std::move(c));
    EXPECT_EQ(f.measuring.finish(), 0);
    std::istringstream lines(out.take());
    std::vector<ptree> found;
    for (std::string line; std::getline(lines, line);) {
        std::istringstream one(line);
        ptree tree;
        boost::property_tree::read_json(one, tree);
        if (tree.count("machine") == 0) found.push_back(std::move(tree));
    }
    return found;
}

/// The one summary line.
ptree summary_of(figure compared, const std::vector<script>& scripts, int rounds) {
    ptree found;
    int count = 0;
    for (auto& line : told_of(compared, scripts, rounds)) {
        if (line.count("versus") == 0) continue;
        found = std::move(line);
        ++count;
    }
    EXPECT_EQ(count, 1);
    return found;
}

void expect_ratio(const ptree& summary, double least, double middle, double most) {
    EXPECT_EQ(summary.get<std::string>("subject"), "places");
    EXPECT_EQ(summary.get<std::string>("versus"), "limit");
    EXPECT_DOUBLE_EQ(summary.get<double>("ratio_min"), least);
    EXPECT_DOUBLE_EQ(summary.get<double>("ratio"), middle);
    EXPECT_DOUBLE_EQ(summary.get<double>("ratio_max"), most);
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
    EXPECT_EQ(s.get<int>("rounds"), 3);
    EXPECT_EQ(s.get<std::size_t>("size"), 64u);
    EXPECT_EQ(s.count("ratio_p99"), 0u);
    EXPECT_EQ(s.count("ratio_p99_all"), 0u);
}

TEST(bench_harness, times_are_compared_ours_over_theirs_round_by_round) {
    const auto s = summary_of(figure::time,
                              {{"places", true, {1, 1, 1, 1}, {900, 10, 30, 80}},
                               {"limit", false, {7, 7, 7, 7}, {1, 10, 5, 20}}},
                              3);
    expect_ratio(s, 1, 4, 6);
    EXPECT_DOUBLE_EQ(s.get<double>("ratio_p99"), 4);
}

TEST(bench_harness, the_99th_percentiles_are_compared_by_round_and_of_all_rounds) {
    const std::vector<script> both{{"places", true, {1, 1, 1, 1}, {900, 10, 60, 30}},
                                   {"limit", false, {7, 7, 7, 7}, {1, 10, 5, 20}}};
    const auto s = summary_of(figure::time, both, 3);
    EXPECT_DOUBLE_EQ(s.get<double>("ratio_p99"), 1.5);
    EXPECT_DOUBLE_EQ(s.get<double>("ratio_p99_all"), 3);
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
        pairs += line.get<std::string>("subject") + "/" + line.get<std::string>("versus") + " ";
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

/// The cores that a thread may use.
struct usable {
    std::atomic<int> count;  // 0: it has not told yet
    std::atomic<int> first;
    void tell() {
        cpu_set_t set;
        CPU_ZERO(&set);
        (void)::sched_getaffinity(0, sizeof set, &set);
        int core = 0;
        while (core < CPU_SETSIZE && !CPU_ISSET(static_cast<unsigned>(core), &set)) ++core;
        first = core;
        count = CPU_COUNT(&set);
    }
};
/// Those of who calls an end and of the thread that the end has started.
struct usable_pair {
    struct {
        usable caller;
        usable own_thread;
    } near, far;
};
/// In memory that forked processes share.
usable_pair& told() {
    static const boost::interprocess::mapped_region page =
        boost::interprocess::anonymous_shared_memory(sizeof(usable_pair));
    return *static_cast<usable_pair*>(page.get_address());
}

class threaded_end final : public end {
  public:
    explicit threaded_end(usable& own) {
        std::thread([&own] { own.tell(); }).join();
    }
    void send(std::span<const std::byte>) override {}
    void receive(std::span<std::byte>) override {}
};

class threaded_link final : public link {
  public:
    std::unique_ptr<end> open(side which) override {
        return std::make_unique<threaded_end>(
            (which == side::near ? told().near : told().far).own_thread);
    }
};

struct telling {
    int far_core;
    std::size_t size = 64;

    template <class End>
    void near(End&, report&) const {
        told().near.caller.tell();
        while (told().far.caller.count == 0) std::this_thread::yield();
    }
    template <class End>
    [[noreturn]] void far(End& end) const {
        told().far.caller.tell();
        std::vector<std::byte> message(size);
        while (true) end.receive(message);
    }
};

void expect_own_cores(const harness& h, const usable& near, const usable& far) {
    EXPECT_EQ(near.count, 1);
    EXPECT_EQ(far.count, 1);
    EXPECT_EQ(near.first, h.near_core());
    EXPECT_EQ(far.first, h.far_core());
}

int usable_count() {
    usable mine{};
    mine.tell();
    return mine.count;
}

TEST(bench_pairs, limit_and_places_have_a_core_a_side) {
    const int all = usable_count();
    if (all < 2) GTEST_SKIP() << "one core";
    told();  // before the nursery is forked
    captured out;
    const fixture f{asked(1, true)};
    (void)out.take();
    const auto& h = f.measuring;
    const telling body{h.far_core()};
    new (&told()) usable_pair{};
    forked<ring_end, ring_memory>(h, "limit", body, {}).run();
    expect_own_cores(h, told().near.caller, told().far.caller);
    new (&told()) usable_pair{};
    placed(h, "places", body, {}).run();
    expect_own_cores(h, told().near.caller, told().far.caller);
}

TEST(bench_pairs, a_peer_has_a_core_a_side_with_its_threads_or_without_them_or_is_free) {
    const int all = usable_count();
    if (all < 2) GTEST_SKIP() << "one core";
    captured out;
    const fixture f{asked(1, true)};
    (void)out.take();
    const auto& h = f.measuring;
    const peer threaded{.name = "threaded",
                        .make = [](const link_options&) -> std::unique_ptr<link> {
                            return std::make_unique<threaded_link>();
                        }};
    const auto& near = told().near;
    const auto& far = told().far;
    for (const auto what : {pins::all, pins::caller, pins::none}) {
        new (&told()) usable_pair{};
        linked(h, threaded, telling{h.far_core()}, {}, what).run();
        if (what == pins::none) {
            EXPECT_EQ(near.caller.count, all);
            EXPECT_EQ(far.caller.count, all);
        } else {
            expect_own_cores(h, near.caller, far.caller);
        }
        if (what == pins::all) {
            expect_own_cores(h, near.own_thread, far.own_thread);
        } else {
            EXPECT_EQ(near.own_thread.count, all);
            EXPECT_EQ(far.own_thread.count, all);
        }
    }
}

TEST(bench_pairs, a_chain_has_as_many_cores_as_were_asked_for) {
    const int all = usable_count();
    for (const int count : {0, 1, 2, all + 1}) {
        int found = 0;
        std::thread([&] {
            pin_to_first(count);
            found = usable_count();
        }).join();
        EXPECT_EQ(found, count == 0 ? all : std::min(all, count));
    }
}

TEST(bench_pairs, who_was_pinned_for_a_while_may_go_where_it_could_before) {
    usable mine{};
    mine.tell();
    const int all = mine.count;
    {
        const pinned here{mine.first};
        EXPECT_EQ(usable_count(), 1);
    }
    EXPECT_EQ(usable_count(), all);
}

TEST(bench_pairs, who_has_measured_a_place_may_go_where_it_could_before) {
    captured out;
    const fixture f{asked(1, true)};
    (void)out.take();
    const auto& h = f.measuring;
    const int all = usable_count();
    const round_trips body{64, h.clock(), 1, 0, h.far_core()};
    placed(h, "places", body, {}).run();
    EXPECT_EQ(usable_count(), all);
}

/// How the links of one peer were to wait, in any order: p spins, s sleeps.
std::string& ways_to_wait() {
    static std::string ways;
    return ways;
}

TEST(bench_pairs, who_has_threads_sleeps_too_where_others_spin) {
    captured out;
    const fixture f{asked(1, true)};
    (void)out.take();
    const auto ways_of = [&](bool has_threads, bool spins) {
        ways_to_wait().clear();
        const peer p{.name = "peer",
                     .make = [](const link_options& o) -> std::unique_ptr<link> {
                         ways_to_wait() += o.spins ? 'p' : 's';
                         return std::make_unique<threaded_link>();
                     },
                     .has_threads = has_threads};
        const round_trips body{64, f.measuring.clock(), 1, 0, f.measuring.far_core()};
        peer_pair(f.measuring, p, body, link_options{.spins = spins});
        std::sort(ways_to_wait().begin(), ways_to_wait().end());
        return ways_to_wait();
    };
    EXPECT_EQ(ways_of(false, true), "p");
    EXPECT_EQ(ways_of(false, false), "s");
    EXPECT_EQ(ways_of(true, true), "pss");
    EXPECT_EQ(ways_of(true, false), "s");
}

void take_three(inbox& in) {
    for (int i = 0; i < 3; ++i) (void)in.get();
}

TEST(bench_crowd, who_waits_for_a_server_that_has_ended_is_told) {
    captured out;
    const fixture f{asked(1, true)};
    (void)out.take();
    const auto server = spawn({.named = "brief"}, &take_three);
    std::vector<channel> clients;
    for (int i = 0; i < 3; ++i) clients.push_back(connect_to_named_place("brief"));
    const auto found = std::make_unique<report>();
    EXPECT_THROW(ask_all(clients, f.measuring.clock(), 0, *found), link_closed);
    EXPECT_EQ(found->times.total(), 0u);
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
