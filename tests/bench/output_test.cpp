// SPDX-License-Identifier: Apache-2.0
// The shape of what places-bench prints; no figure in it is looked at.
#include "tests/support/missing.hpp"
#include "tests/support/scratch.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/value_to.hpp>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <pty.h>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

using boost::json::object;

std::string text_of(const object& line, std::string_view key) {
    return boost::json::value_to<std::string>(line.at(key));
}

struct answer {
    std::vector<object> lines;
    int exit_code = -1;
};

answer ask(const std::string& arguments) {
    const auto command = std::string(PLACES_BENCH) + " " + arguments + " --quick --json";
    auto* out = ::popen(command.c_str(), "r");
    if (!out) throw std::runtime_error("popen");
    std::string text;
    char part[4096];
    for (std::size_t n; (n = std::fread(part, 1, sizeof part, out)) > 0;) text.append(part, n);
    answer a;
    a.exit_code = WEXITSTATUS(::pclose(out));
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        // Throws for what is no JSON.
        a.lines.push_back(boost::json::parse(line).as_object());
    }
    return a;
}

bool is_summary(const object& line) { return line.count("versus") != 0; }

/// Checks what every answer has; returns "subject/versus" of its summary lines.
std::set<std::string> checked_summary(const answer& a, const std::string& question) {
    EXPECT_EQ(a.exit_code, 0);
    if (a.lines.empty()) {
        ADD_FAILURE() << "no line";
        return {};
    }
    const auto& machine = a.lines.front().at("machine").as_object();
    for (const auto* key : {"cpu", "kernel", "compiler", "flags", "commit", "clock"}) {
        EXPECT_FALSE(text_of(machine, key).empty()) << key;
    }
    EXPECT_GT(machine.at("cores").to_number<int>(), 0);
    std::set<std::string> found;
    for (auto line = a.lines.begin() + 1; line != a.lines.end(); ++line) {
        EXPECT_EQ(text_of(*line, "question"), question);
        if (!is_summary(*line)) {
            EXPECT_TRUE(found.empty()) << "a line after the summary has begun";
            continue;
        }
        const auto subject = text_of(*line, "subject");
        EXPECT_TRUE(subject.starts_with("places") || subject == "ring") << subject;
        found.insert(subject + "/" + text_of(*line, "versus"));
        line->at("size").to_number<std::size_t>();
        const auto ratio = line->at("ratio").to_number<double>();
        EXPECT_LE(line->at("ratio_min").to_number<double>(), ratio);
        EXPECT_GE(line->at("ratio_max").to_number<double>(), ratio);
        EXPECT_GT(line->at("rounds").to_number<int>(), 0);
    }
    return found;
}

TEST(places_bench, latency_compares_channel_and_ring_with_limit_and_peers) {
    const auto a = ask("latency --size 48 --peers pipe,unix");
    const auto found = checked_summary(a, "latency");
    EXPECT_EQ(found, (std::set<std::string>{"places/limit", "places/pipe", "places/unix",
                                            "ring/limit", "ring/pipe", "ring/unix"}));
    int rows = 0;
    for (const auto& line : a.lines) {
        if (line.count("contestant") == 0) continue;
        ++rows;
        EXPECT_LE(line.at("p50_ns").to_number<double>(), line.at("p99_ns").to_number<double>());
        EXPECT_LE(line.at("p99_ns").to_number<double>(), line.at("p999_ns").to_number<double>());
        EXPECT_LE(line.at("p999_ns").to_number<double>(), line.at("max_ns").to_number<double>());
        EXPECT_GT(line.at("per_second").to_number<double>(), 0);
    }
    EXPECT_EQ(rows, 5);
}

TEST(places_bench, latency_with_the_other_side_asleep_is_answered) {
    const auto found = checked_summary(ask("latency --blocking --size 8 --peers none"), "latency");
    EXPECT_EQ(found, (std::set<std::string>{"places/limit", "ring/limit"}));
}

TEST(places_bench, throughput_of_small_messages_is_compared_with_larger_ones) {
    const auto found = checked_summary(ask("throughput --size 64 --peers none"), "throughput");
    EXPECT_TRUE(found.contains("places/limit"));
    EXPECT_TRUE(found.contains("places/places_1024"));
}

TEST(places_bench, throughput_in_place_is_answered) {
    const auto found =
        checked_summary(ask("throughput --api loan --size 65536 --peers pipe"), "throughput");
    EXPECT_TRUE(found.contains("places/limit"));
    EXPECT_TRUE(found.contains("places/pipe"));
}

TEST(places_bench, throughput_in_batches_is_answered) {
    const auto found =
        checked_summary(ask("throughput --api batch --size 64 --peers pipe"), "throughput");
    EXPECT_TRUE(found.contains("places/places_1024"));
    EXPECT_TRUE(found.contains("ring/limit"));
    EXPECT_TRUE(found.contains("places/pipe"));
}

TEST(places_bench, pipeline_is_answered) {
    const auto found = checked_summary(ask("pipeline --peers pipe"), "pipeline");
    EXPECT_TRUE(found.contains("places/pipe"));
}

TEST(places_bench, token_moves_on_two_cores_and_on_one) {
    for (const auto* cores : {"2", "1"}) {
        const auto found = checked_summary(
            ask(std::string("token --count 6 --peers none --cores ") + cores), "token");
        EXPECT_EQ(found, (std::set<std::string>{"places/limit", "places/two_places", "ring/limit",
                                                "ring/two_places"}));
    }
}

TEST(places_bench, fanin_is_answered) {
    const auto a = ask("fanin");
    EXPECT_EQ(checked_summary(a, "fanin"),
              (std::set<std::string>{"places/single", "places/median_wait"}));
    for (const auto& line : a.lines) {
        if (!is_summary(line)) continue;
        const bool is_fairness = text_of(line, "versus") == "median_wait";
        EXPECT_EQ(line.contains("figure") ? text_of(line, "figure") : "median",
                  is_fairness ? "longest_wait" : "median");
    }
}

TEST(places_bench, idle_is_answered) {
    EXPECT_TRUE(checked_summary(ask("idle --count 3"), "idle").contains("places/limit"));
}

TEST(places_bench, spawn_is_answered) {
    EXPECT_TRUE(checked_summary(ask("spawn"), "spawn").contains("places/limit"));
}

TEST(places_bench, spawn_remote_is_answered) {
    if (::access("/usr/sbin/sshd", X_OK) != 0) return lacks("there is no sshd");
    const auto found = checked_summary(ask("spawn_remote"), "spawn_remote");
    EXPECT_EQ(found, (std::set<std::string>{"places/ssh", "places_cold/ssh"}));
}

TEST(places_bench, a_peer_that_is_not_asked_for_is_not_listed) {
    for (const auto& line : ask("latency --size 8 --peers none").lines) {
        EXPECT_EQ(line.count("missing"), 0u);
    }
}

/// Names told to be missing.
std::set<std::string> missing_of(const answer& a) {
    std::set<std::string> names;
    for (const auto& line : a.lines) {
        if (line.count("missing") == 0) continue;
        EXPECT_FALSE(text_of(line, "missing").empty());
        names.insert(text_of(line, "peer"));
    }
    return names;
}

TEST(places_bench, every_peer_is_compared_or_told_to_be_missing) {
    const auto a = ask("latency --size 64 --peers auto");
    const auto found = checked_summary(a, "latency");
    const auto missing = missing_of(a);
    for (const auto* peer :
         {"pipe", "unix", "tcp", "boost_mq", "zeromq", "nng", "iceoryx", "mpi"}) {
        EXPECT_NE(found.contains(std::string("places/") + peer), missing.contains(peer)) << peer;
    }
}

TEST(places_bench, a_peer_that_cannot_is_told_to_be_missing) {
    for (const auto* question :
         {"pipeline --count 3 --peers iceoryx,mpi", "token --count 3 --peers iceoryx,mpi"}) {
        EXPECT_EQ(missing_of(ask(question)), (std::set<std::string>{"iceoryx", "mpi"}));
    }
    EXPECT_EQ(missing_of(ask("latency --blocking --size 8 --peers mpi")),
              std::set<std::string>{"mpi"});
}

/// What there is of peers in the folders where they leave things.
std::set<std::string> left_by_peers() {
    std::set<std::string> found;
    for (const auto* folder : {"/tmp", "/dev/shm"}) {
        for (const auto& each : std::filesystem::directory_iterator(folder)) {
            const auto name = each.path().filename().string();
            for (const auto* part : {"places-bench-", "places_bench_", "roudi", "iceoryx"}) {
                if (name.find(part) != std::string::npos) found.insert(each.path().string());
            }
        }
    }
    return found;
}

TEST(places_bench, no_peer_leaves_anything_behind) {
    const auto before = left_by_peers();
    EXPECT_EQ(ask("latency --size 64 --peers auto").exit_code, 0);
    for (const auto& path : left_by_peers()) EXPECT_TRUE(before.contains(path)) << path;
}

/// What a command says on both streams.
std::string said_by(const std::string& command, int& exit_code) {
    auto* out = ::popen((command + " 2>&1").c_str(), "r");
    if (!out) throw std::runtime_error("popen");
    std::string text;
    char part[4096];
    for (std::size_t n; (n = std::fread(part, 1, sizeof part, out)) > 0;) text.append(part, n);
    exit_code = WEXITSTATUS(::pclose(out));
    return text;
}

/// What it says on both streams, without --json.
std::string told(const std::string& arguments, int& exit_code) {
    return said_by(std::string(PLACES_BENCH) + " " + arguments + " --quick", exit_code);
}

/// Whether it is refused, in words that contain `why`, and before anything is measured.
testing::AssertionResult refused(const std::string& arguments, const std::string& why) {
    int exit_code = 0;
    const auto text = told(arguments, exit_code);
    if (exit_code != 0 && text.find(why) != std::string::npos &&
        text.find("# cpu") == std::string::npos) {
        return testing::AssertionSuccess();
    }
    return testing::AssertionFailure() << arguments << " ends with " << exit_code << ": " << text;
}

TEST(places_bench, an_unknown_peer_is_refused_with_the_names_there_are) {
    EXPECT_TRUE(refused("latency --peers pipe,carrier_pigeon",
                        "no peer is called 'carrier_pigeon'; there are pipe unix tcp boost_mq"));
    EXPECT_TRUE(refused("latency --peers ''", "no peer is called ''"));
}

TEST(places_bench, what_a_question_cannot_use_is_refused) {
    for (const std::string question : {"fanin", "token", "idle", "spawn"}) {
        EXPECT_TRUE(refused(question + " --size 64", question + " cannot take --size"));
    }
    for (const std::string question : {"latency", "pipeline", "token", "fanin", "idle", "spawn"}) {
        EXPECT_TRUE(refused(question + " --api loan", question + " cannot take --api"));
    }
    EXPECT_TRUE(refused("token --blocking", "token cannot take --blocking"));
    for (const std::string question : {"fanin", "idle", "spawn", "spawn_remote"}) {
        EXPECT_TRUE(refused(question + " --peers pipe", question + " cannot take --peers"));
        EXPECT_TRUE(refused(question + " --blocking", question + " cannot take --blocking"));
    }
    EXPECT_TRUE(refused("latency --count 3", "latency cannot take --count"));
    EXPECT_TRUE(refused("fanin --cores 1", "fanin cannot take --cores"));
    EXPECT_TRUE(refused("idle --rounds 9", "idle cannot take --rounds"));
    EXPECT_TRUE(refused("spawn --seconds 3", "spawn cannot take --seconds"));
    for (const std::string question : {"throughput --size 64", "pipeline", "token", "idle"}) {
        EXPECT_TRUE(refused(question + " --plot /dev/null", "cannot take --plot"));
    }
    for (const std::string question : {"throughput", "pipeline", "token", "idle"}) {
        EXPECT_TRUE(refused(question + " --hgrm /dev/null", "cannot take --hgrm"));
    }
}

TEST(places_bench, a_number_that_makes_no_sense_is_refused) {
    for (const std::string option : {"--count", "--cores", "--seconds"}) {
        for (const std::string value : {"0", "-3", "many", "99999999999"}) {
            EXPECT_TRUE(refused("token " + option + " " + value, option));
        }
    }
    for (const std::string question : {"pipeline", "token", "fanin", "idle", "spawn"}) {
        EXPECT_TRUE(refused(question + " --count -3", "--count: Value -3 not in range"));
        EXPECT_TRUE(refused(question + " --count 4001", "--count: Value 4001 not in range"));
    }
    for (const std::string question : {"pipeline", "token"}) {
        EXPECT_TRUE(refused(question + " --count 1", question + " cannot take --count 1"));
    }
}

TEST(places_bench, a_chain_of_two_is_answered) {
    for (const std::string question : {"pipeline", "token"}) {
        checked_summary(ask(question + " --count 2 --peers pipe"), question);
    }
}

TEST(places_bench, a_rate_of_two_sizes_is_drawn) {
    const scratch_folder folder;
    const auto file = folder.path() + "/rate.svg";
    EXPECT_EQ(ask("throughput --size 64,128 --peers none --plot " + file).exit_code, 0);
    std::ifstream drawn(file);
    EXPECT_NE(std::string(std::istreambuf_iterator<char>(drawn), {}).find("<polyline"),
              std::string::npos);
}

TEST(places_bench, a_table_has_percentiles_for_times_only) {
    int exit_code = 1;
    const auto times = told("latency --size 8 --peers none", exit_code);
    EXPECT_EQ(exit_code, 0);
    EXPECT_NE(times.find("p99.9"), std::string::npos);
    EXPECT_NE(times.find("places / limit"), std::string::npos);
    const auto rates = told("throughput --size 64 --peers none", exit_code);
    EXPECT_EQ(exit_code, 0);
    EXPECT_EQ(rates.find("p99.9"), std::string::npos);
    EXPECT_NE(rates.find("places / limit"), std::string::npos);
}

/// What a terminal gets to see of its standard error.
std::string shown_on_a_terminal(const std::string& arguments) {
    const auto command = std::string(PLACES_BENCH) + " " + arguments + " --quick >/dev/null";
    int terminal = -1;
    const pid_t pid = ::forkpty(&terminal, nullptr, nullptr, nullptr);
    if (pid < 0) throw std::runtime_error("forkpty");
    if (pid == 0) {
        ::execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
        ::_exit(127);
    }
    std::string text;
    char part[4096];
    // Its last reader is told of the end by an error.
    for (ssize_t n; (n = ::read(terminal, part, sizeof part)) > 0;) {
        text.append(part, static_cast<std::size_t>(n));
    }
    ::close(terminal);
    int how = -1;
    EXPECT_EQ(::waitpid(pid, &how, 0), pid);
    EXPECT_EQ(how, 0);
    return text;
}

TEST(places_bench, a_terminal_sees_how_far_it_is_until_it_has_ended) {
    const auto text = shown_on_a_terminal("latency --size 8 --peers none");
    const std::string none(30, ' ');
    const std::string half = std::string(15, '#') + std::string(15, ' ');
    EXPECT_NE(text.find("[" + none + "] 0/2 warm-up limit"), std::string::npos) << text;
    EXPECT_NE(text.find("[" + half + "] 1/2 places"), std::string::npos) << text;
    EXPECT_TRUE(text.ends_with("\r\033[K")) << text;
}

TEST(places_bench, what_is_no_terminal_sees_no_bar) {
    int exit_code = 1;
    const auto text = told("latency --size 8 --peers none", exit_code);
    EXPECT_EQ(exit_code, 0);
    EXPECT_EQ(text.find('\r'), std::string::npos);
    EXPECT_EQ(text.find("warm-up"), std::string::npos);
}

TEST(places_bench, drawing_and_distribution_are_written) {
    const scratch_folder folder;
    const auto a = ask("latency --size 8 --peers none --plot " + folder.path() +
                       "/out.svg --hgrm " + folder.path() + "/out");
    EXPECT_EQ(a.exit_code, 0);
    const auto content = [&](const char* name) {
        std::ifstream file(folder.path() + "/" + name);
        return std::string(std::istreambuf_iterator<char>(file), {});
    };
    EXPECT_TRUE(content("out.svg").starts_with("<svg "));
    EXPECT_NE(content("out.places.8.hgrm").find("#[Max "), std::string::npos);
}

TEST(places_bench, a_remote_start_without_an_sshd_fails_and_says_why) {
    const std::string hiding = "unshare -rm sh -c 'mount --bind /dev/null /usr/sbin/sshd && ";
    const bool is_there = ::access("/usr/sbin/sshd", X_OK) == 0;
    if (is_there && std::system((hiding + "true' 2>/dev/null").c_str()) != 0) {
        return lacks("a namespace in which the sshd can be hidden");
    }
    const auto command = std::string(PLACES_BENCH) + " spawn_remote --quick";
    int exit_code = 0;
    const auto text = said_by(is_there ? hiding + command + "'" : command, exit_code);
    EXPECT_NE(exit_code, 0);
    EXPECT_NE(text.find("places-bench: spawn_remote: no sshd at"), std::string::npos) << text;
}

TEST(places_bench, an_unknown_question_is_refused) {
    const auto command = std::string(PLACES_BENCH) + " fastest >/dev/null 2>&1";
    EXPECT_NE(std::system(command.c_str()), 0);
}

}  // namespace
