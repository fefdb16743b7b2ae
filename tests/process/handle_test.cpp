// SPDX-License-Identifier: Apache-2.0
// Handles that hold nothing: made so, or moved from.
#include "tests/support/error_of.hpp"
#include "tests/support/node_main.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using places::channel;
using places::errc;
using places::place;
using places::remote_place;
using places::status;

struct adder {
    int add(int n) { return total_ += n; }
    void reset() { total_ = 0; }

  private:
    int total_ = 0;
};
PLACES_SERVER(adder, (rpc, add), (cast, reset))

namespace {

void waits(channel& c) { (void)c.get(); }

place moved_from_place() {
    auto p = places::spawn(waits);
    const auto other = std::move(p);
    return p;  // NOLINT: it is what is tested
}

/// Each call of a channel that answers a status, and the status that it has answered.
std::vector<std::pair<std::string, boost::system::error_code>> statuses_of(channel& c) {
    const int number = 1;
    const std::string text = "text";
    std::vector<int> numbers(2);
    std::vector<std::string> texts(2);
    std::vector<std::span<const std::byte>> shown(2);
    const auto of = [](status s) { return make_error_code(s); };
    const auto error_in = [](const auto& r) { return r.error(); };
    std::vector<std::pair<std::string, boost::system::error_code>> all{
        {"put", of(c.put(number))},
        {"put of a tree", of(c.put(text))},
        {"try_put", of(c.try_put(number))},
        {"put_for", of(c.put_for(number, 1ms))},
        {"get", error_in(c.get<int>())},
        {"get of a value", error_in(c.get())},
        {"try_get", error_in(c.try_get<int>())},
        {"get_for", error_in(c.get_for<int>(1ms))},
        {"receive", error_in(c.receive())},
        {"send", of(c.send(places::message::of(number)))},
        {"put_batch", of(c.put_batch(std::span<const int>(numbers)).state)},
        {"put_batch of nothing", of(c.put_batch(std::span<const std::string>()).state)},
        {"try_put_batch", of(c.try_put_batch(std::span<const std::string>(texts)).state)},
        {"get_batch", error_in(c.get_batch(std::span(numbers)))},
        {"get_batch of nothing", error_in(c.get_batch(std::span<int>()))},
        {"try_get_batch", error_in(c.try_get_batch(std::span(texts)))},
        {"add_loan", error_in(c.add_loan(8))},
        {"peek_batch", error_in(c.peek_batch(shown))},
        {"loan", error_in(c.loan(8))},
        {"peek", error_in(c.peek())},
        {"set_busy_poll", error_in(c.set_busy_poll(true))},
    };
    return all;
}

void expect_no_end(channel& c) {
    for (const auto& [call, answer] : statuses_of(c)) EXPECT_EQ(answer, errc::closed) << call;
    c.publish_batch();
    c.publish(0);
    c.release();
    c.set_message_bytes_max(1);
    c.close();
    EXPECT_FALSE(c);
    EXPECT_FALSE(c.is_open());
    EXPECT_FALSE(c.is_busy_polling());
    EXPECT_FALSE(c.corrupt_at());
    EXPECT_FALSE(c.peer_status());
    EXPECT_EQ(c.message_bytes_max(), 0U);
    EXPECT_EQ(c.record_bytes_max(), 0U);
    EXPECT_EQ(c.sent().accepted + c.received().accepted, 0U);
}

constexpr const char* no_place = "this handle has no place: it was made without one, or moved from";

TEST(handle, of_a_channel_without_an_end_answers_closed_to_every_call) {
    channel made;
    expect_no_end(made);
    auto p = places::spawn(waits);
    channel moved{std::move(p)};
    const channel end = std::move(moved);
    expect_no_end(moved);
    expect_no_end(p);
}

TEST(handle, of_no_place_says_so_to_every_call) {
    std::vector<place> handles(2);
    handles[1] = moved_from_place();
    for (auto& p : handles) {
        expect_no_end(p);
        EXPECT_EQ(p.id(), 0U);
        EXPECT_EQ(p.pid(), 0);
        EXPECT_FALSE(p.is_dead());
        EXPECT_EQ(text_of_error(errc::bad_argument, [&] { (void)p.wait(); }), no_place);
        EXPECT_EQ(text_of_error(errc::bad_argument, [&] { (void)p.wait_for(1ms); }), no_place);
        EXPECT_EQ(text_of_error(errc::bad_argument, [&] { p.kill(); }), no_place);
    }
}

TEST(handle, of_no_remote_place_says_so_to_every_call) {
    remote_place made;
    remote_place moved{channel{places::spawn(waits)}};
    const auto other = std::move(moved);
    for (auto* p : {&made, &moved}) {
        expect_no_end(*p);
        EXPECT_FALSE(p->is_dead());
        EXPECT_EQ(text_of_error(errc::bad_argument, [&] { (void)p->wait(); }), no_place);
        EXPECT_EQ(text_of_error(errc::bad_argument, [&] { (void)p->wait_for(1ms); }), no_place);
    }
}

TEST(handle, of_no_server_says_so_to_every_call) {
    places::client<adder> made{channel{}};
    auto moved = places::spawn_server<adder>();
    const auto other = std::move(moved);
    const auto says = [](const std::string& method, const std::function<void()>& call) {
        EXPECT_EQ(text_of_error(errc::bad_argument, call),
                  "adder::" + method +
                      ": this client has no server: it was moved from, or made of a handle without "
                      "a channel");
    };
    says("add", [&] { (void)made.add(1); });
    says("reset", [&] { made.reset(); });
    says("add", [&] { (void)moved.add(1); });
    says("reset", [&] { moved.reset(); });
}

/// Answers with what it moved its reply_end out of says to put.
void answers_by_moved_end(places::inbox& in) {
    auto next = in.get();
    auto end = std::move(next->from);
    (void)end.put(next->from.put(1) == status::closed);
}
TEST(handle, of_a_reply_end_that_was_moved_from_answers_closed) {
    auto p = places::spawn(answers_by_moved_end);
    ASSERT_EQ(p.put(1), status::ok);
    EXPECT_TRUE(p.get<bool>().value());
}

TEST(runtime, is_refused_a_second_time_in_a_process) {
    char name[] = "program";
    char* arguments[] = {name, nullptr};
    const auto text = text_of_error(errc::bad_argument, [&] { places::runtime{1, arguments}; });
    EXPECT_NE(text.find("this process has a places::runtime already"), text.npos) << text;
}

void makes_runtime(channel& c) {
    char name[] = "program";
    char* arguments[] = {name, nullptr};
    try {
        places::runtime again{1, arguments};
        (void)c.put(std::string("made"));
    } catch (const places::error& e) {
        (void)c.put(std::string(e.what()));
    }
}
TEST(runtime, is_refused_in_a_place) {
    auto p = places::spawn(makes_runtime);
    const auto text = p.get<std::string>().value();
    EXPECT_NE(text.find("this process is a place"), text.npos) << text;
}

}  // namespace
