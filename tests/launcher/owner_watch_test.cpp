// SPDX-License-Identifier: Apache-2.0
// What holds a node, and what does not. Times are short, and only least ones are asserted.
#include "launcher/owner_watch.hpp"

#include <gtest/gtest.h>

#include <array>
#include <fcntl.h>
#include <future>
#include <poll.h>
#include <unistd.h>

using namespace std::chrono_literals;
using places::launcher::owner_watch;

namespace {

/// An owner_watch with its input, held by a thread.
class held {
  public:
    /// `said`: what is there before anybody reads.
    explicit held(owner_watch::rules r, std::initializer_list<char> said = {}) {
        std::array<int, 2> ends;
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
        reader_ = places::unique_fd{ends[0]};
        input = places::unique_fd{ends[1]};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
        output = places::unique_fd{ends[0]};
        writer_ = places::unique_fd{ends[1]};
        for (const char c : said) say(c);
        life.emplace(r, reader_.get(), writer_.get());
        end_ = std::async(std::launch::async, [this] {
            const auto begun = std::chrono::steady_clock::now();
            life->hold();
            return std::chrono::steady_clock::now() - begun;
        });
    }
    void say(char c) { ASSERT_EQ(::write(input.get(), &c, 1), 1); }
    bool ends_within(std::chrono::milliseconds time) {
        return end_.wait_for(time) == std::future_status::ready;
    }
    bool has_ended() { return ends_within(0ms); }
    std::chrono::steady_clock::duration took() { return end_.get(); }

    places::unique_fd input;
    places::unique_fd output;
    std::optional<owner_watch> life;

  private:
    places::unique_fd reader_;
    places::unique_fd writer_;
    std::future<std::chrono::steady_clock::duration> end_;
};

TEST(owner_watch, of_a_local_node_ends_with_its_input_whatever_is_linked) {
    held h({false, false, 1h, 1h});
    h.life->set_links(3);
    h.input.reset();
    (void)h.took();
}

TEST(owner_watch, of_a_remote_node_ends_at_once_when_it_is_wanted_no_more) {
    held h({true, false, 1h, 1h});
    h.life->set_links(1);
    h.say(places::launcher::wanted_no_more);
    (void)h.took();
}

TEST(owner_watch, of_a_remote_node_waits_out_the_grace_once_both_are_gone) {
    held h({true, false, 50ms, 1h});
    h.input.reset();
    EXPECT_GE(h.took(), 50ms);
}

TEST(owner_watch, of_a_remote_node_holds_by_a_link_alone) {
    held h({true, false, 0ms, 1h});
    h.life->set_links(1);
    h.say(places::launcher::still_wanted);
    h.input.reset();
    // It has seen the end of its input by the time it sees this.
    EXPECT_FALSE(h.has_ended());
    h.life->set_links(2);
    EXPECT_FALSE(h.has_ended());
    h.life->set_links(0);
    (void)h.took();
}

TEST(owner_watch, of_a_remote_node_takes_silence_for_a_cut) {
    held h({true, false, 0ms, 50ms});
    EXPECT_GE(h.took(), 50ms);
}

TEST(owner_watch, of_a_detached_node_ends_as_any_other_until_it_is_told_that_it_may_stay) {
    held h({true, true, 50ms, 1h});
    h.say(places::launcher::still_wanted);
    h.input.reset();
    EXPECT_GE(h.took(), 50ms);
}

TEST(owner_watch, of_a_detached_node_that_may_stay_ends_when_it_is_wanted_no_more) {
    held h({true, true, 0ms, 1ms}, {places::launcher::may_stay});
    // Many times its silence and its grace.
    EXPECT_FALSE(h.ends_within(100ms));
    h.say(places::launcher::wanted_no_more);
    (void)h.took();
}

TEST(owner_watch, of_a_detached_node_says_that_it_stays_when_it_is_asked) {
    held h({true, true, 0ms, 1ms}, {places::launcher::ask_stays});
    std::string said(places::launcher::stays_line.size(), '\0');
    EXPECT_EQ(::read(h.output.get(), said.data(), said.size()), static_cast<ssize_t>(said.size()));
    EXPECT_EQ(said, places::launcher::stays_line);
    // Many times its silence and its grace.
    EXPECT_FALSE(h.ends_within(100ms));
    h.say(places::launcher::wanted_no_more);
    (void)h.took();
}

TEST(owner_watch, of_a_node_that_is_not_detached_does_not_let_it_stay) {
    for (const char word : {places::launcher::may_stay, places::launcher::ask_stays}) {
        held h({true, false, 0ms, 1h});
        h.say(word);
        h.input.reset();
        (void)h.took();
        pollfd said{h.output.get(), POLLIN, 0};
        EXPECT_EQ(::poll(&said, 1, 0), 0);
    }
}

TEST(owner_watch, of_a_tunnelled_node_does_not_hold_by_a_link) {
    held h({true, false, 0ms, 50ms, true});
    h.life->set_links(1);
    EXPECT_GE(h.took(), 50ms);
}

}  // namespace
