// SPDX-License-Identifier: Apache-2.0
// Named places, servers and what their callers are told.
#include "tests/support/halt.hpp"
#include "tests/support/node_main.hpp"
#include "tests/support/process_state.hpp"
#include "processes.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <sched.h>
#include <string>
#include <thread>
#include <vector>

using places::channel;
using places::connect_to_named_place;
using places::errc;
using places::inbox;
using places::spawn;
using places::spawn_server;
using places::status;

struct tally {
    int add(int n) { return total_ += n; }
    int total() const { return total_; }
    int fail(const std::string& why) { throw std::runtime_error(why); }
    int fail_strangely() { throw 5; }
    void reset() { total_ = 0; }
    void check() const noexcept {}
    std::string join(std::string a, const std::string& b) const { return a + b; }
    std::string large(std::size_t size) const { return std::string(size, 'x'); }
    std::size_t descriptors() const { return count_descriptors(::getpid()); }
    void end() { ::_exit(4); }
    void throw_in_cast() { throw std::runtime_error("thrown in a cast"); }

  private:
    int total_ = 0;
};
PLACES_NAMED_SERVER(tally, (rpc, add), (rpc, total), (rpc, fail), (rpc, fail_strangely),
                    (cast, reset), (rpc, check), (rpc, join), (rpc, large), (rpc, descriptors),
                    (rpc, end), (cast, throw_in_cast))

/// Answers with what it keeps, by reference.
struct shelf {
    void put(const std::string& title) { titles_.push_back(title); }
    const std::string& first() const { return titles_.front(); }
    std::vector<std::string>& all() { return titles_; }
    const int& count() {
        count_ = static_cast<int>(titles_.size());
        return count_;
    }

  private:
    std::vector<std::string> titles_;
    int count_ = 0;
};
PLACES_SERVER(shelf, (cast, put), (rpc, first), (rpc, all), (rpc, count))

namespace a::b {
struct counter {
    int next() { return ++count_; }

  private:
    int count_ = 0;
};
PLACES_SERVER(counter, (rpc, next))
}  // namespace a::b

// As many methods as a server may well have.
#define COUNT_ONE(start, one) +1
static_assert(0 PLACES_DETAIL_FOR_EACH(COUNT_ONE, , 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6,
                                       7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6,
                                       7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6,
                                       7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6,
                                       7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6,
                                       7, 8, 9, 0) == 100);
#undef COUNT_ONE

template <class Client>
concept adds_text = requires(Client c) {
    c.add(std::string("text"));
};
template <class Client>
concept adds_two = requires(Client c) {
    c.add(1, 2);
};
template <class Client>
concept adds_one = requires(Client c) {
    c.add(1);
};
static_assert(adds_one<places::client<tally>>);
static_assert(!adds_text<places::client<tally>>, "a wrong argument must not compile");
static_assert(!adds_two<places::client<tally>>, "one argument too many must not compile");

namespace {

void reply_to_sender(inbox& in) {
    while (auto item = in.get()) (void)item->from.send(item->content);
}

/// Owns a named place, which would live on otherwise.
struct killed_at_end {
    places::place it;
    ~killed_at_end() { it.kill(); }
};

}  // namespace

TEST(server, answers_a_reference_with_a_copy_of_what_it_refers_to) {
    auto books = spawn_server<shelf>();
    books.put("one");
    books.put("two");
    EXPECT_EQ(books.first(), "one");
    EXPECT_EQ(books.all(), (std::vector<std::string>{"one", "two"}));
    EXPECT_EQ(books.count(), 2);
    static_assert(std::is_same_v<decltype(books.first()), std::string>);
}

TEST(named_place, answers_each_connection_what_that_one_asked) {
    const killed_at_end server{spawn({.named = "replies"}, reply_to_sender)};
    std::vector<channel> connections;
    for (int i = 0; i < 10; ++i) connections.push_back(connect_to_named_place("replies"));
    for (int round = 0; round < 10; ++round) {
        for (std::size_t i = 0; i < 10; ++i) {
            ASSERT_EQ(connections[i].put(i * 100 + 1), status::ok);
        }
        for (std::size_t i = 10; i-- > 0;) {
            ASSERT_EQ(connections[i].get<std::size_t>().value(), i * 100 + 1);
            ASSERT_EQ(connections[i].try_get<std::size_t>().error(), errc::empty);
        }
    }
}

TEST(named_place, talks_to_its_caller_while_the_nursery_is_stopped) {
    const killed_at_end server{spawn({.named = "direct"}, reply_to_sender)};
    auto c = connect_to_named_place("direct");
    const auto nursery = nursery_pid();
    halt(nursery);
    const std::unique_ptr<const int, void (*)(const int*)> goes_on{
        &nursery, [](const int* pid) { (void)::kill(*pid, SIGCONT); }};
    for (int i = 0; i < 1000; ++i) {
        ASSERT_EQ(c.put(i), status::ok);
        ASSERT_EQ(c.get<int>().value(), i);
    }
}

/// Tells whoever asks in words how many numbers it has taken. At the first it waits at the gate.
void count_numbers(inbox& in) {
    int numbers = 0;
    while (auto next = in.get()) {
        if (next->content.as<std::string>()) {
            (void)next->from.put(numbers);
        } else if (++numbers == 1) {
            auto gate = connect_to_named_place("gate");
            (void)gate.put(0);
            (void)gate.get<int>();
        }
    }
}
/// Tells its creator of the first who comes, and lets it go when told to.
void keep_gate(inbox& in) {
    auto first = in.get();
    (void)in.creator().put(true);
    (void)in.creator().get<bool>();
    (void)first->from.put(0);
}

TEST(named_place, answers_whoever_calls_while_another_keeps_it_busy) {
    constexpr int plenty = 100'000;
    killed_at_end gate{spawn({.named = "gate"}, keep_gate)};
    killed_at_end server{spawn({.named = "busy", .ring_bytes = 16 << 20}, count_numbers)};
    auto c = connect_to_named_place("busy");
    ASSERT_EQ(c.put(std::string("how many?")), status::ok);
    ASSERT_EQ(c.get<int>().value(), 0);
    // When it sleeps, both have to call it; and no call is heard at the gate.
    const auto folder = "/proc/" + std::to_string(server.it.pid());
    while (process_state(folder) != 'S') ::sched_yield();
    for (int i = 0; i < plenty; ++i) ASSERT_EQ(server.it.put(i), status::ok);
    ASSERT_TRUE(gate.it.get<bool>().value());
    ASSERT_EQ(c.put(std::string("how many?")), status::ok);
    ASSERT_EQ(gate.it.put(true), status::ok);
    const auto before = c.get<int>().value();
    std::printf("%d numbers before it was heard\n", before);
    EXPECT_LT(before, plenty);
}

TEST(named_place, serves_three_hundred_connections) {
    const killed_at_end server{spawn({.named = "many"}, reply_to_sender)};
    std::vector<channel> connections;
    for (int i = 0; i < 300; ++i) connections.push_back(connect_to_named_place("many", 4096));
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 300; ++i) {
            ASSERT_EQ(connections[static_cast<std::size_t>(i)].put(i), status::ok);
        }
        for (int i = 0; i < 300; ++i) {
            ASSERT_EQ(connections[static_cast<std::size_t>(i)].get<int>().value(), i);
        }
        // One alone, while all others have gone cold.
        ASSERT_EQ(connections[7].put(round), status::ok);
        ASSERT_EQ(connections[7].get<int>().value(), round);
    }
}

TEST(named_place, gives_every_connection_an_id_of_its_own) {
    const killed_at_end server{spawn({.named = "ids"}, [](inbox& in) {
        while (auto item = in.get()) (void)item->from.put(item->from.connection_id());
    })};
    auto a = connect_to_named_place("ids");
    auto b = connect_to_named_place("ids");
    ASSERT_EQ(a.put(1), status::ok);
    ASSERT_EQ(b.put(1), status::ok);
    const auto id = a.get<std::uint64_t>().value();
    EXPECT_NE(id, b.get<std::uint64_t>().value());
    ASSERT_EQ(a.put(1), status::ok);
    EXPECT_EQ(id, a.get<std::uint64_t>().value());
}

TEST(named_place, can_still_be_heard_by_its_creator_after_it_waited_on_that_channel_alone) {
    const auto serve = [](inbox& in) {
        while (auto item = in.get()) {
            // The creator's end is cold by now: only the other connection has spoken.
            (void)item->from.put(std::string("ready"));
            const auto asked = in.creator().get<int>().value();
            (void)item->from.put(asked);
        }
    };
    killed_at_end server{spawn({.named = "both"}, serve)};
    auto c = connect_to_named_place("both");
    for (int i = 0; i < 100; ++i) {
        ASSERT_EQ(c.put(0), status::ok);
        ASSERT_EQ(c.get<std::string>().value(), "ready");
        ASSERT_EQ(server.it.put(i), status::ok);
        ASSERT_EQ(c.get<int>().value(), i);
    }
    // Now through the inbox.
    ASSERT_EQ(server.it.put(7), status::ok);
    ASSERT_EQ(server.it.get<std::string>().value(), "ready");
    ASSERT_EQ(server.it.put(8), status::ok);
    EXPECT_EQ(server.it.get<int>().value(), 8);
}

TEST(named_place, is_heard_on_a_connection_whose_reply_had_to_wait_for_room) {
    // The reply end of one connection is used from another's turn, with a full ring.
    const auto serve = [](inbox& in) {
        auto first = in.get().value();
        (void)first.from.put(std::string("first"));
        while (auto item = in.get()) {
            if (item->from.connection_id() == first.from.connection_id()) {
                (void)item->from.put(std::string("again"));
                continue;
            }
            for (int i = 0; i < 200; ++i) (void)first.from.put(i);
            (void)item->from.put(std::string("done"));
        }
    };
    const killed_at_end server{spawn({.named = "slow"}, serve)};
    auto a = connect_to_named_place("slow", 4096);
    auto b = connect_to_named_place("slow", 4096);
    ASSERT_EQ(a.put(1), status::ok);
    ASSERT_EQ(a.get<std::string>().value(), "first");
    ASSERT_EQ(b.put(1), status::ok);
    for (int i = 0; i < 200; ++i) ASSERT_EQ(a.get<int>().value(), i);
    EXPECT_EQ(b.get<std::string>().value(), "done");
    ASSERT_EQ(a.put(2), status::ok);
    EXPECT_EQ(a.get<std::string>().value(), "again");
}

TEST(named_place, that_nobody_has_is_named_in_the_error) {
    const auto text =
        text_of_error(errc::name_not_found, [] { (void)connect_to_named_place("no-such-place"); });
    EXPECT_NE(text.find("no-such-place"), std::string::npos) << text;
    (void)text_of_error(errc::name_not_found, [] { (void)connect_to_named_place(""); });
}

TEST(named_place, with_an_endless_name_is_an_error_and_no_silence) {
    (void)text_of_error(errc::name_not_found,
                        [] { (void)connect_to_named_place(std::string(65'000, 'n')); });
}

TEST(named_place, keeps_its_name_against_a_second) {
    const killed_at_end server{spawn({.named = "taken"}, reply_to_sender)};
    const auto text =
        text_of_error(errc::name_taken, [] { (void)spawn({.named = "taken"}, reply_to_sender); });
    EXPECT_NE(text.find("taken"), std::string::npos) << text;
    auto c = connect_to_named_place("taken");
    ASSERT_EQ(c.put(1), status::ok);
    EXPECT_EQ(c.get<int>().value(), 1);
}

TEST(named_place, frees_its_name_when_it_dies) {
    for (int i = 0; i < 20; ++i) {
        auto server = spawn({.named = "again"}, reply_to_sender);
        auto c = connect_to_named_place("again");
        ASSERT_EQ(c.put(i), status::ok);
        ASSERT_EQ(c.get<int>().value(), i);
        server.kill();
        EXPECT_EQ(c.get<int>().error(), errc::peer_dead);
    }
    (void)text_of_error(errc::name_not_found, [] { (void)connect_to_named_place("again"); });
}

TEST(named_place, is_no_entry_that_takes_no_connections) {
    (void)text_of_error(errc::not_a_connection,
                        [] { (void)spawn({.named = "x"}, [](channel&) {}); });
    (void)text_of_error(errc::not_a_connection,
                        [] { (void)spawn_server<a::b::counter>({.named = "x"}); });
    (void)text_of_error(errc::name_not_found, [] { (void)connect_to_named_place("x"); });
}

TEST(named_place, lives_on_when_its_creator_is_gone) {
    auto creator = spawn([](channel& c) {
        auto server = spawn({.named = "orphan"}, reply_to_sender);
        (void)c.put(server.pid());
    });
    const auto life = pidfd_of(creator.get<int>().value());
    EXPECT_EQ(creator.wait().value, 0);
    auto c = connect_to_named_place("orphan");
    ASSERT_EQ(c.put(5), status::ok);
    EXPECT_EQ(c.get<int>().value(), 5);
    EXPECT_FALSE(has_ended(life));
}

TEST(named_place, tells_every_connection_of_its_death) {
    auto server = spawn({.named = "mortal"}, reply_to_sender);
    std::vector<channel> connections;
    for (int i = 0; i < 20; ++i) connections.push_back(connect_to_named_place("mortal"));
    auto killer = spawn([](int pid) { (void)::kill(pid, SIGKILL); }, server.pid());
    for (auto& c : connections) {
        EXPECT_EQ(c.get<int>().error(), errc::peer_dead);
        EXPECT_TRUE(c.peer_status()->signalled);
    }
    EXPECT_EQ(server.wait().value, SIGKILL);
}

TEST(named_place, can_be_connected_to_by_places_and_by_itself) {
    killed_at_end server{spawn({.named = "self"}, [](inbox& in) {
        auto mine = connect_to_named_place("self");
        (void)mine.put(std::string("to myself"));
        auto own = in.get();
        (void)in.creator().put(0);
        while (auto item = in.get()) (void)item->from.put(own->content.as<std::string>().value());
    })};
    ASSERT_TRUE(server.it.get<int>());
    auto p = spawn([](channel& c) {
        auto there = connect_to_named_place("self");
        (void)there.put(1);
        (void)c.put(there.get<std::string>().value());
    });
    EXPECT_EQ(p.get<std::string>().value(), "to myself");
}

TEST(named_place, leaves_no_descriptor_behind_in_a_thousand_connections) {
    const int nursery = nursery_pid();
    auto server = spawn_server<tally>({.named = "connected"});
    const auto in_server = server.descriptors();
    const auto connect = [] {
        auto c = connect_to_named_place<tally>("connected", 4096);
        return c.add(1);
    };
    (void)connect();
    await_nursery();
    const auto in_root = count_descriptors(::getpid());
    const auto in_nursery = count_descriptors(nursery);
    for (int i = 0; i < 1000; ++i) ASSERT_EQ(connect(), i + 2);
    (void)server.total();
    await_nursery();
    EXPECT_EQ(count_descriptors(::getpid()), in_root);
    EXPECT_EQ(count_descriptors(nursery), in_nursery);
    // Connections to one process share its doorbell.
    EXPECT_LE(server.descriptors(), in_server + 1);
    server.link().kill();
}

TEST(server, answers_calls_with_values_references_and_nothing) {
    auto c = spawn_server<tally>();
    EXPECT_EQ(c.add(3), 3);
    EXPECT_EQ(c.add(4), 7);
    EXPECT_EQ(c.total(), 7);
    c.check();
    EXPECT_EQ(c.join("ab", "cd"), "abcd");
}

TEST(server, has_done_a_cast_before_the_call_that_follows) {
    auto c = spawn_server<tally>();
    for (int i = 0; i < 100; ++i) {
        ASSERT_EQ(c.add(3), 3);
        c.reset();
        ASSERT_EQ(c.total(), 0);
    }
}

TEST(server, tells_the_caller_what_a_method_threw_and_lives_on) {
    auto c = spawn_server<tally>();
    (void)c.add(1);
    try {
        (void)c.fail("the reason");
        ADD_FAILURE() << "nothing was thrown";
    } catch (const places::remote_error& e) {
        EXPECT_NE(std::string(e.what()).find("the reason"), std::string::npos) << e.what();
    }
    EXPECT_THROW((void)c.fail_strangely(), places::remote_error);
    EXPECT_THROW((void)c.fail(std::string(15'000, 'x')), places::remote_error);
    EXPECT_EQ(c.total(), 1);
}

TEST(server, lives_on_after_an_exception_in_a_cast) {
    auto c = spawn_server<tally>();
    (void)c.add(1);
    c.throw_in_cast();
    EXPECT_EQ(c.total(), 1);
}

TEST(server, takes_and_gives_what_is_larger_than_the_ring) {
    auto c = spawn_server<tally>({.ring_bytes = 4096});
    EXPECT_EQ(c.large(1'000'000), std::string(1'000'000, 'x'));
    EXPECT_EQ(c.join(std::string(100'000, 'a'), std::string(100'000, 'b')),
              std::string(100'000, 'a') + std::string(100'000, 'b'));
}

TEST(server, tells_the_caller_when_the_result_is_too_large) {
    auto c = spawn_server<tally>();
    EXPECT_THROW((void)c.large(places::max_message_bytes_default), places::remote_error);
    EXPECT_EQ(c.large(10), std::string(10, 'x'));
}

TEST(server, tells_the_caller_when_the_arguments_are_too_large) {
    auto c = spawn_server<tally>({.ring_bytes = 4096});
    c.link().set_message_bytes_max(4000);
    (void)text_of_error(errc::too_large, [&] { (void)c.join(std::string(5000, 'x'), ""); });
    EXPECT_EQ(c.join("a", "b"), "ab");
}

TEST(server, ends_the_call_of_a_client_when_it_dies) {
    auto c = spawn_server<tally>();
    const auto text = text_of_error(errc::peer_dead, [&] { c.end(); });
    EXPECT_NE(text.find("tally::end"), std::string::npos) << text;
    (void)text_of_error(errc::peer_dead, [&] { (void)c.total(); });
}

TEST(server, refuses_an_unknown_method_and_lives_on) {
    auto p = spawn(places::registered{"tally"});
    ASSERT_EQ(p.send(places::detail::make_request(1, "subtract", 5)), status::ok);
    auto reply = places::detail::reply::parse(p.receive().value()).value();
    EXPECT_EQ(reply.id(), 1U);
    EXPECT_TRUE(reply.is_error());
    EXPECT_NE(reply.error_text().find("subtract"), std::string::npos) << reply.error_text();
    ASSERT_EQ(p.send(places::detail::make_request(2, "add", 5)), status::ok);
    reply = places::detail::reply::parse(p.receive().value()).value();
    EXPECT_EQ(reply.as<int>().value(), 5);
}

TEST(server, refuses_arguments_of_another_number_or_type_and_lives_on) {
    auto p = spawn(places::registered{"tally"});
    const auto ask = [&p](const places::message& m) {
        EXPECT_EQ(p.send(m), status::ok);
        return places::detail::reply::parse(p.receive().value()).value();
    };
    EXPECT_TRUE(ask(places::detail::make_request(1, "add")).is_error());
    EXPECT_TRUE(ask(places::detail::make_request(2, "add", 1, 2)).is_error());
    EXPECT_EQ(ask(places::detail::make_request(3, "add", std::string("five"))).error_text(),
              "call of add(\"five\"): the arguments do not fit the parameters (int)");
    EXPECT_TRUE(ask(places::detail::make_request(4, std::string(9000, 'm'))).is_error());
    EXPECT_EQ(ask(places::detail::make_request(5, "add", 5)).as<int>().value(), 5);
}

TEST(server, refuses_what_is_no_call_and_lives_on) {
    auto p = spawn(places::registered{"tally"});
    const auto ask = [&p](const places::message& m) {
        EXPECT_EQ(p.send(m), status::ok);
        return places::detail::reply::parse(p.receive().value()).value();
    };
    EXPECT_TRUE(ask(places::message::of(std::string("hello"))).is_error());
    const std::vector<std::byte> noise(100, std::byte{0xff});
    EXPECT_TRUE(ask({places::message_kind::request, 0, noise}).is_error());
    EXPECT_EQ(ask(places::detail::make_request(5, "add", 5)).as<int>().value(), 5);
}

TEST(server, in_a_namespace_is_a_server_like_any_other) {
    auto c = spawn_server<a::b::counter>();
    EXPECT_EQ(c.next(), 1);
    EXPECT_EQ(c.next(), 2);
}

TEST(server, shares_its_state_among_connections) {
    auto owner = spawn_server<tally>({.named = "shared"});
    auto c = connect_to_named_place<tally>("shared");
    auto d = connect_to_named_place<tally>("shared");
    EXPECT_EQ(c.add(1), 1);
    EXPECT_EQ(d.add(1), 2);
    EXPECT_EQ(owner.total(), 2);
    owner.link().kill();
}

TEST(server, ends_when_its_only_caller_has_gone) {
    places::unique_fd life;
    {
        auto c = spawn_server<tally>();
        life = pidfd_of(c.link().pid());
        EXPECT_FALSE(has_ended(life));
    }
    EXPECT_TRUE(has_ended(life));
}

TEST(server, serves_others_while_one_client_reads_no_answers) {
    auto c = spawn_server<tally>({.named = "patient", .ring_bytes = 4096});
    const auto descriptors = c.descriptors();
    std::uint64_t asked = 0;
    {
        auto deaf = connect_to_named_place("patient", 4096);
        // An answer that fits no ring is kept as well, and goes part by part.
        EXPECT_EQ(deaf.send(places::detail::make_request(++asked, "large", 20'000)), status::ok);
        // Full twice, with an answer to somebody else in between: the server has stopped reading.
        for (int round = 0; round < 2; ++round) {
            while (deaf.send(places::detail::make_request(asked + 1, "join", std::string(100, 'x'),
                                                          std::string()),
                             channel::clock::time_point::min()) == status::ok) {
                ++asked;
            }
            (void)c.total();
        }
        EXPECT_EQ(c.add(1), 1);
        // Nothing was dropped meanwhile, and every answer comes in its turn.
        for (std::uint64_t id = 1; id <= asked; ++id) {
            const auto reply = places::detail::reply::parse(deaf.receive().value()).value();
            ASSERT_EQ(reply.id(), id);
        }
        while (deaf.send(places::detail::make_request(1, "total"),
                         channel::clock::time_point::min()) == status::ok) {
        }
        EXPECT_EQ(c.add(1), 2);
    }
    // It has gone with answers unread.
    EXPECT_EQ(c.add(1), 3);
    EXPECT_EQ(c.descriptors(), descriptors);
    c.link().kill();
}

TEST(server, serves_others_after_a_client_has_gone_in_the_midst_of_an_answer) {
    auto c = spawn_server<tally>({.named = "halfway", .ring_bytes = 4096});
    for (int i = 1; i <= 20; ++i) {
        auto going = connect_to_named_place("halfway", 4096);
        ASSERT_EQ(going.send(places::detail::make_request(1, "large", 20'000)), status::ok);
        ASSERT_EQ(going.send(places::detail::make_request(2, "large", 20'000)), status::ok);
        (void)c.total();  // by now the first part of an answer has gone, or will soon
        going = {};
        ASSERT_EQ(c.add(1), i);
    }
    c.link().kill();
}

TEST(server, in_a_router_body_serves_others_while_one_client_reads_no_answers) {
    const auto serve = [](inbox& in) {
        places::router router;
        router.add(places::after(std::chrono::seconds{0}, [&] {
            (void)places::detail::serve(
                in, "echo",
                [](void*, const places::detail::request& call) {
                    return places::detail::make_reply(
                        call.id(), std::get<0>(call.arguments<std::string>().value()));
                },
                nullptr);
        }));
        router.run();
    };
    const killed_at_end server{spawn({.named = "routed"}, serve)};
    auto deaf = connect_to_named_place("routed", 4096);
    auto c = connect_to_named_place("routed", 4096);
    std::uint64_t asked = 0;
    const auto ask = [](channel& to, std::uint64_t id) {
        return to.send(places::detail::make_request(id, "echo", std::string(100, 'x')),
                       channel::clock::time_point::min());
    };
    for (std::uint64_t round = 1; round <= 3; ++round) {
        while (ask(deaf, asked + 1) == status::ok) ++asked;
        ASSERT_EQ(ask(c, round), status::ok);
        EXPECT_EQ(places::detail::reply::parse(c.receive().value()).value().id(), round);
    }
    for (std::uint64_t id = 1; id <= asked; ++id) {
        ASSERT_EQ(places::detail::reply::parse(deaf.receive().value()).value().id(), id);
    }
}

TEST(named_place, hears_of_a_connection_that_another_of_its_threads_was_told_of) {
    const killed_at_end server{spawn({.named = "threads"}, [](inbox& in) {
        std::thread other([] {
            while (true) await_nursery();
        });
        reply_to_sender(in);
        ::_exit(0);
    })};
    for (int i = 0; i < 300; ++i) {
        auto c = connect_to_named_place("threads", 4096);
        ASSERT_EQ(c.put(i), status::ok);
        ASSERT_EQ(c.get<int>().value(), i);
    }
}

TEST(named_place, hears_of_what_came_while_a_router_ran) {
    killed_at_end server{spawn({.named = "routing"}, [](inbox& in) {
        auto first = in.get().value();  // the other connections are cold from here on
        (void)first.from.put(std::string("in the router"));
        places::router router;
        router.add(places::after(std::chrono::seconds{0}, [&] {
            // Waits for a call, and takes with it those that are not its own.
            (void)in.creator().get<int>();
            router.stop();
        }));
        router.run();
        reply_to_sender(in);
    })};
    auto a = connect_to_named_place("routing");
    auto b = connect_to_named_place("routing");
    ASSERT_EQ(a.put(1), status::ok);
    ASSERT_EQ(a.get<std::string>().value(), "in the router");
    ASSERT_EQ(b.put(2), status::ok);
    ASSERT_EQ(server.it.put(3), status::ok);
    EXPECT_EQ(b.get<int>().value(), 2);
}
