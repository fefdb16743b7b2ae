// SPDX-License-Identifier: Apache-2.0
// What every question shares: who takes part, rounds in turn, and how the answer is told.
#pragma once

#include "bench/clock.hpp"
#include "bench/end.hpp"
#include "bench/report.hpp"

#include <boost/json/object.hpp>
#include <fmt/core.h>

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace places {
class runtime;
}

namespace places::bench {

/// What the command line has asked for; 0 and empty: the question's own choice.
struct settings {
    std::string question;
    std::vector<std::size_t> sizes;
    std::string api = "copy";    ///< copy | loan | batch
    std::string peers = "auto";  ///< auto | none | names between commas
    int rounds = 9;
    int cores = 0;
    int count = 0;
    int seconds = 0;
    bool blocking = false;
    bool quick = false;
    bool json = false;
    std::string plot;
    std::string hgrm;
};

/// `value` with the digits that `format` shows; those beyond them are noise.
double rounded(fmt::format_string<double&> format, double value);

/// One who takes part. `run` measures a slice; what it returns is valid until the next call.
struct contestant {
    std::string name;
    bool is_subject = false;  ///< ours: compared with all that are not
    std::function<const report&()> run;
    std::size_t size = 0;  ///< bytes of a message, where not the contest's
    bool is_peer = false;  ///< may be missing or fail; all others must not
};

/// In every round the one of two forms that was faster: of lower median, or of higher rate where it
/// has no times; both are measured.
contestant faster_of(contestant one, contestant other);

/// What is compared: the median time of one, or bytes (of messages that have none, how many) per
/// second.
enum class figure { time, rate };

struct contest {
    std::size_t size = 0;
    figure compared = figure::time;
    std::vector<contestant> entries;
};

/// Runs contests and prints them; owns what is known of the machine.
/// Thread: one.
class harness {
  public:
    /// `root` is the program's, and lives as long.
    harness(settings s, const tick_clock& clock, runtime& root);

    const settings& asked() const noexcept { return settings_; }
    const tick_clock& clock() const noexcept { return clock_; }
    runtime& root() const noexcept { return root_; }
    /// Cores for the two processes of a pair; -1 where there are not two.
    int near_core() const noexcept { return cores_.size() > 1 ? cores_[0] : -1; }
    int far_core() const noexcept { return cores_.size() > 1 ? cores_[1] : -1; }
    /// The first of those this process may use.
    const std::vector<int>& cores() const noexcept { return cores_; }
    std::chrono::nanoseconds slice() const noexcept;
    /// The sizes asked for, or these.
    std::vector<std::size_t> sizes_or(std::vector<std::size_t> usual) const;
    bool wants_peer(const std::string& name) const;

    /// Adds the peer that `make` makes, unless it throws: then its name is listed with the reason.
    void try_add(contest& to, const std::string& name, const std::function<contestant()>& make);
    /// A peer that is not there, and why; told once, and only when it is asked for.
    void miss(const std::string& name, const std::string& why);

    /// Runs one slice of each unrecorded, then rounds of one slice each in an order that turns.
    /// A peer that throws is dropped and listed.
    /// Throws: std::runtime_error when another does.
    void measure(contest c);

    /// A line of the answer that is no contest: members of a JSON object after "question".
    void print(const boost::json::object& members, const std::string& text);
    /// A summary line of such. Shape: as many ratios as rounds, unless `rounds` says otherwise.
    void summarise(const std::string& subject, const std::string& versus, std::size_t size,
                   std::vector<double> ratios, const boost::json::object& more_members = {},
                   std::size_t rounds = 0);

    /// Draws how far it is, on a terminal only; `rounds` 0 takes the bar away.
    void progress(int round, int rounds, const std::string& name) const;

    /// Prints the summary, writes the files asked for.
    /// Returns: the exit code.
    int finish();

  private:
    struct sample {
        double p50 = 0;
        double p99 = 0;
        double per_second = 0;
    };
    struct result {
        std::string name;
        bool is_subject = false;
        std::size_t size = 0;
        std::vector<sample> rounds;
        histogram times{};
    };
    void print_machine() const;
    void print_results(const contest& c, const std::vector<result>& results) const;
    void compare(const contest& c, const std::vector<result>& results);

    settings settings_;
    tick_clock clock_;
    runtime& root_;
    std::vector<int> cores_;
    std::map<std::string, std::string> missing_;
    std::vector<boost::json::object> summary_json_;
    std::vector<std::string> summary_text_;
    struct curve {
        std::string name;
        std::size_t size;
        double bytes_per_second;
        std::vector<histogram::step> steps;
        std::string hgrm;
    };
    std::vector<curve> curves_;
    figure last_compared_ = figure::time;
    bool is_terminal_;
};

}  // namespace places::bench
