// SPDX-License-Identifier: Apache-2.0
#include "net/output.hpp"
#include "tests/net/event_loop.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <csignal>
#include <fcntl.h>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace places::net {
namespace {

/// Ours to read, and theirs to write to.
struct ends {
    unique_fd reader;
    unique_fd writer;
};
ends make_ends(bool is_socket) {
    std::array<int, 2> made{-1, -1};
    if (is_socket) {
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, made.data()), 0);
    } else {
        EXPECT_EQ(::pipe2(made.data(), O_CLOEXEC), 0);
    }
    return {unique_fd{made[0]}, unique_fd{made[1]}};
}

std::string numbered(int i) { return std::to_string(i) + std::string(1000, '.'); }

// Standard error is a pipe, or a socket where sshd has made it.
class lines : public testing::TestWithParam<bool> {
  protected:
    /// Runs the loop and reads until a line has `text`. Returns: all lines until then.
    std::vector<std::string> read_until(const std::string& text) {
        std::vector<std::string> all(1);
        const auto is_over = [&] {
            return all.size() > 1 && all[all.size() - 2].find(text) != text.npos;
        };
        EXPECT_EQ(::fcntl(both.reader.get(), F_SETFL, O_NONBLOCK), 0);
        while (!is_over()) {
            loop.context.run_for(std::chrono::milliseconds{1});
            char c = 0;
            while (!is_over() && ::read(both.reader.get(), &c, 1) == 1) {
                if (c == '\n') {
                    all.emplace_back();
                } else {
                    all.back() += c;
                }
            }
        }
        all.pop_back();
        return all;
    }

    event_loop loop;
    ends both = make_ends(GetParam());
    std::optional<line_printer> printer{std::in_place, loop.context, both.writer.get()};
};
INSTANTIATE_TEST_SUITE_P(to, lines, testing::Bool(),
                         [](const auto& which) { return which.param ? "a_socket" : "a_pipe"; });

TEST_P(lines, that_nobody_reads_are_kept_or_counted_and_hold_nobody_up) {
    constexpr int count = 5000;
    for (int i = 0; i < count; ++i) printer->print("label", numbered(i));
    const auto seen = read_until("were lost");
    const int kept = static_cast<int>(seen.size()) - 1;
    ASSERT_GT(kept, 1000);
    ASSERT_LT(kept, count);
    for (int i = 0; i < kept; ++i) {
        ASSERT_EQ(seen[static_cast<std::size_t>(i)], "[label] " + numbered(i));
    }
    EXPECT_EQ(seen.back(), "[bridge] " + std::to_string(count - kept) +
                               " lines before this one were lost: nobody read");
    printer->print("label", "and on");
    EXPECT_EQ(read_until("and on").size(), 1U);
}

TEST_P(lines, that_wait_leave_the_flags_that_others_share_alone) {
    const int before = ::fcntl(both.writer.get(), F_GETFL);
    for (int i = 0; i < 1000; ++i) printer->print("label", numbered(i));
    EXPECT_EQ(::fcntl(both.writer.get(), F_GETFL), before);
    EXPECT_EQ(before & O_NONBLOCK, 0);
}

TEST_P(lines, are_all_read_where_somebody_reads) {
    constexpr std::size_t count = 900;  // what a slow reader has not taken yet fits where it waits
    std::atomic<std::size_t> taken = 0;
    std::thread reader([&] {
        for (char c = 0; ::read(both.reader.get(), &c, 1) == 1;) taken += c == '\n';
    });
    for (std::size_t i = 0; i < count; ++i) printer->print("label", numbered(static_cast<int>(i)));
    while (taken < count) loop.context.run_for(std::chrono::milliseconds{1});
    printer.reset();
    both.writer.reset();
    reader.join();
    EXPECT_EQ(taken, count);
}

TEST_P(lines, show_nothing_that_a_terminal_obeys) {
    printer->print("node\x1B[1m/p\xC2\x9B", "a\tb\x1B]0;title\a\rc\xE2\x80\xAE\xFF\r");
    printer->print("label", std::string(1 << 20, '\x1B') + "!");
    const auto seen = read_until("!");
    ASSERT_EQ(seen.size(), 2U);
    EXPECT_EQ(seen[0], "[node?[1m/p?] a\tb?]0;title??c??");
    EXPECT_EQ(seen[1], "[label] " + std::string(1 << 20, '?') + "!");
}

TEST(output, of_one_long_line_is_cut_between_two_characters) {
    event_loop loop;
    auto both = make_ends(false);
    std::string whole;
    std::size_t parts = 0;
    bool is_over = false;
    (void)output::follow(loop.context, std::move(both.reader),
                         {[&](std::string_view part) {
                              whole += part;
                              ++parts;
                              EXPECT_EQ(part.size() % 3, 0U);
                          },
                          [&] { is_over = true; }});
    std::string text;
    while (text.size() < (1 << 20)) text += "\xE2\x82\xAC";
    std::thread writer([&] {
        for (std::size_t at = 0; at < text.size();) {
            const auto written = ::write(both.writer.get(), text.data() + at, text.size() - at);
            if (written <= 0) break;
            at += static_cast<std::size_t>(written);
        }
        both.writer.reset();
    });
    ASSERT_TRUE(loop.run_until([&] { return is_over; }));
    writer.join();
    EXPECT_GT(parts, 50U);
    EXPECT_EQ(whole, text);
}

TEST_P(lines, whose_reader_has_gone_are_gone_with_it) {
    const auto before = ::signal(SIGPIPE, SIG_IGN);
    both.reader.reset();
    for (int i = 0; i < 5000; ++i) printer->print("label", numbered(i));
    printer->finish();
    // None of them is tried again.
    EXPECT_EQ(loop.context.run_for(std::chrono::milliseconds{5}), 0U);
    ::signal(SIGPIPE, before);
}

}  // namespace
}  // namespace places::net
