// SPDX-License-Identifier: Apache-2.0
// A node whose processes have no descriptors left, or may not pass them on: nothing is lost without
// a word, and the node goes on. As an ordinary user, for the kernel passes any number on for root.
// Says nothing of a kernel without memory: that cannot be had on order.
#include "core/control.hpp"
#include "core/process.hpp"
#include "tests/support/sanitized.hpp"
#include "processes.hpp"

#include <places/places.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <linux/sockios.h>
#include <sched.h>
#include <set>
#include <sstream>
#include <string>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <vector>

namespace control = places::control;
using places::channel;
using places::errc;
using places::unique_fd;

namespace {

rlimit limit_of(int pid) {
    rlimit limit{};
    places::checked(::prlimit(pid, RLIMIT_NOFILE, nullptr, &limit), "read a limit");
    return limit;
}
void set_limit(int pid, const rlimit& limit) {
    places::checked(::prlimit(pid, RLIMIT_NOFILE, &limit, nullptr), "set a limit");
}

/// While it lives, a process gets no new descriptor at or above `end`. Those it has stay.
class descriptor_limit {
  public:
    descriptor_limit(int pid, rlim_t end) : pid_(pid), before_(limit_of(pid)) {
        set_limit(pid, {end, before_.rlim_max});
    }
    ~descriptor_limit() { set_limit(pid_, before_); }
    descriptor_limit(const descriptor_limit&) = delete;
    descriptor_limit& operator=(const descriptor_limit&) = delete;

  private:
    int pid_;
    rlimit before_;
};

/// The limit under which the process gets `count` new descriptors.
rlim_t limit_that_leaves(std::size_t count, int pid) {
    std::set<std::string> used;
    for (const auto& each :
         std::filesystem::directory_iterator{"/proc/" + std::to_string(pid) + "/fd"}) {
        used.insert(each.path().filename());
    }
    rlim_t end = 0;
    for (std::size_t unused = 0;; ++end) {
        if (!used.contains(std::to_string(end)) && ++unused > count) return end;
    }
}

/// More descriptors of this user on their way through sockets than `nursery_limit`: whoever has
/// that limit can send no other.
constexpr rlim_t nursery_limit = 64;
class descriptors_in_flight {
  public:
    descriptors_in_flight() {
        std::array<int, 2> fds{};
        places::checked(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()),
                        "make sockets");
        here_ = unique_fd{fds[0]};
        there_ = unique_fd{fds[1]};
        const std::vector<int> many(control::packet_fds_max, here_.get());
        for (std::size_t sent = 0; sent <= nursery_limit; sent += many.size()) {
            control::send(here_.get(), {0, control::done{}}, many);
        }
    }

  private:
    unique_fd here_;
    unique_fd there_;
};

void expect_start_failed_for(const places::error& e, int cause) {
    EXPECT_EQ(e.code(), errc::start_failed);
    EXPECT_TRUE(std::strstr(e.what(), std::strerror(cause))) << e.what();
}

/// Answers every connection with its own message.
void serve(places::inbox& in) {
    while (auto each = in.get()) {
        if (each->content.bytes().empty()) continue;
        if (each->from.send(each->content) != places::status::ok) return;
    }
}

bool answers(channel& c) { return c.put(5) == places::status::ok && c.get<int>().value() == 5; }

/// Opens its connections when its creator says so, and tells it how many messages it has received.
void counts_to_three(places::inbox& in) {
    (void)in.creator().put(0);  // it has begun
    (void)in.creator().get<int>();
    int count = 0;
    while (count < 3 && in.get()) ++count;
    (void)in.creator().put(count);
    never_ends();
}

places::place start_counting() {
    auto server = places::spawn({.named = "limits-server"}, counts_to_three);
    EXPECT_EQ(server.get<int>().value(), 0);
    return server;
}

/// Puts three messages into a channel that nobody has opened at its other end.
void put_three(channel& c) {
    for (int n = 0; n < 3; ++n) ASSERT_EQ(c.put(n), places::status::ok);
}

std::string text_of(const places::delivery& d) {
    std::ostringstream out;
    out << d;
    return out.str();
}

/// A place with a child that outlives it.
void has_a_child(channel& c) {
    const int child = ::fork();
    if (child == 0) never_ends();
    (void)c.put(child);
    never_ends();
}

void expect_the_child_is_ended_when_its_place_dies(places::place& p) {
    const int child = p.get<int>().value();
    const auto life = pidfd_of(child);
    ::kill(p.pid(), SIGKILL);
    EXPECT_EQ(p.get<int>().error(), errc::peer_dead);
    await_end(life);
    while (::kill(child, 0) == 0) ::sched_yield();  // until it is reaped
}

/// Asks so much that the answers fill the control socket, and takes none before SIGUSR1.
void reads_nothing_for_a_while(places::inbox& in) {
    auto& self = places::detail::process::current();
    sigset_t wake;
    ::sigemptyset(&wake);
    ::sigaddset(&wake, SIGUSR1);
    ::sigprocmask(SIG_BLOCK, &wake, nullptr);
    const std::string name(4000, 'x');
    constexpr int requests = 200;
    for (int i = 0; i < requests; ++i) {
        self.request_async(control::connect{name, 4096}, {}, [](const control::received&) {});
    }
    int unread = 1;
    while (unread > 0) {
        places::checked(::ioctl(self.control_handle(), SIOCOUTQ, &unread), "look at a socket");
        ::sched_yield();
    }
    places::log_to_parent(places::severity::info, "full");  // a put would take the answers
    int which = 0;
    ::sigwait(&wake, &which);
    serve(in);
}

}  // namespace

TEST(limits, a_spawn_whose_answer_cannot_carry_its_descriptors_fails_and_leaves_no_place) {
    const int nursery = nursery_pid();
    const auto before = children_of(nursery);
    {
        const descriptors_in_flight many;
        const descriptor_limit limit{nursery, nursery_limit};
        expect_start_failed_for(error_of([] { (void)places::spawn(never_ends); }), ETOOMANYREFS);
    }
    while (children_of(nursery) != before) ::sched_yield();
    EXPECT_EQ(places::spawn([] { return 3; }).wait().value, 3);
}

TEST(limits, a_connect_whose_offer_cannot_be_sent_fails_and_the_next_one_is_served) {
    auto server = places::spawn({.named = "limits-server"}, serve);
    {
        const descriptors_in_flight many;
        const descriptor_limit limit{nursery_pid(), nursery_limit};
        const auto e = error_of([] { (void)places::connect_to_named_place("limits-server"); });
        expect_start_failed_for(e, ETOOMANYREFS);
        EXPECT_TRUE(std::strstr(e.what(), "RLIMIT_NOFILE")) << e.what();
    }
    auto c = places::connect_to_named_place("limits-server");
    EXPECT_TRUE(answers(c));
    server.kill();
}

TEST(limits, a_client_hears_that_its_offer_was_lost_after_it_had_been_queued) {
    auto& self = places::detail::process::current();
    bool is_full = false;
    self.on_log([&](const control::log_note&) { is_full = true; });
    auto server = places::spawn({.named = "limits-server"}, reads_nothing_for_a_while);
    while (!is_full) await_nursery();
    self.on_log([](const control::log_note&) {});
    auto lost = places::connect_to_named_place("limits-server");
    {
        const descriptors_in_flight many;
        const descriptor_limit limit{nursery_pid(), nursery_limit};
        ::kill(server.pid(), SIGUSR1);
        const auto got = lost.get<int>();
        EXPECT_EQ(got.error(), errc::refused);
        EXPECT_TRUE(strstr(got.error().message().c_str(), std::strerror(ETOOMANYREFS)))
            << got.error().message();
    }
    EXPECT_FALSE(server.is_dead());
    auto c = places::connect_to_named_place("limits-server");
    EXPECT_TRUE(answers(c));
    server.kill();
}

TEST(limits, a_client_hears_that_the_server_had_no_descriptors_and_the_next_one_is_served) {
    auto server = places::spawn({.named = "limits-server"}, serve);
    ASSERT_TRUE(answers(server));  // it has begun, and will open nothing more by itself
    // None for its doorbell; one for that, and none for the memory that the server makes.
    for (const std::size_t arriving : {0U, 1U}) {
        const descriptor_limit limit{server.pid(), limit_that_leaves(arriving, server.pid())};
        auto c = places::connect_to_named_place("limits-server");
        const auto got = c.get<int>();
        EXPECT_EQ(got.error(), errc::refused) << arriving;
        EXPECT_EQ(c.put(1), places::status::refused) << arriving;
        // The server is named, and its own words are passed on.
        const auto why = c.refusal();
        EXPECT_EQ(why.rfind("limits-server: ", 0), 0U) << why;
        EXPECT_TRUE(
            std::strstr(why.c_str(), arriving == 0 ? "RLIMIT_NOFILE" : std::strerror(EMFILE)))
            << why;
        EXPECT_TRUE(std::strstr(got.error().message().c_str(), why.c_str()))
            << got.error().message();
    }
    EXPECT_FALSE(server.is_dead());
    auto c = places::connect_to_named_place("limits-server");
    EXPECT_TRUE(answers(c));
    server.kill();
}

TEST(limits, what_the_other_end_has_read_is_not_undelivered_where_its_memory_could_not_come) {
    const auto* all_unknown = "3 accepted, 0 delivered, 0 undelivered, 3 unknown";
    // This process has no descriptor for it, or the nursery has none to pass it on.
    for (const int without : {::getpid(), nursery_pid()}) {
        auto server = start_counting();
        auto c = places::connect_to_named_place("limits-server");
        put_three(c);
        await_nursery();  // it has passed on the memory that this end has made
        {
            const descriptor_limit limit{without, 0};
            ASSERT_EQ(server.put(0), places::status::ok);
            EXPECT_EQ(server.get<int>().value(), 3);
            EXPECT_EQ(c.get<int>().error(), errc::refused);
        }
        EXPECT_EQ(text_of(c.sent()), all_unknown);
        server.kill();
        EXPECT_EQ(text_of(c.sent()), all_unknown);
    }
}

TEST(limits, what_an_end_was_sent_that_never_opened_is_undelivered) {
    const auto* none_delivered = "3 accepted, 0 delivered, 3 undelivered, 0 unknown";
    auto server = start_counting();
    {
        auto c = places::connect_to_named_place("limits-server");
        put_three(c);
        const descriptor_limit limit{server.pid(), 0};
        ASSERT_EQ(server.put(0), places::status::ok);
        EXPECT_EQ(c.get<int>().error(), errc::refused);
        EXPECT_EQ(text_of(c.sent()), none_delivered);
    }
    server.kill();
    server = start_counting();
    auto c = places::connect_to_named_place("limits-server");
    put_three(c);
    server.kill();
    EXPECT_EQ(c.get<int>().error(), errc::peer_dead);
    EXPECT_EQ(text_of(c.sent()), none_delivered);
}

TEST(limits, a_client_hears_why_its_server_could_not_share_its_memory) {
    auto server = places::spawn({.named = "limits-server"}, serve);
    ASSERT_TRUE(answers(server));
    {
        const descriptors_in_flight many;
        const descriptor_limit limit{server.pid(), nursery_limit};
        auto c = places::connect_to_named_place("limits-server");
        EXPECT_EQ(c.get<int>().error(), errc::refused);
        const auto why = places::detail::state_of::get(c)->refusal();
        EXPECT_NE(why.find(std::strerror(ETOOMANYREFS)), why.npos) << why;
    }
    auto c = places::connect_to_named_place("limits-server");
    EXPECT_TRUE(answers(c));
    server.kill();
}

TEST(limits, a_request_that_the_kernel_does_not_send_is_no_end_of_the_nursery) {
    const unique_fd null = places::checked_fd(::open("/dev/null", O_RDWR | O_CLOEXEC), "open");
    const control::spawn with_streams{control::registered_entry{"never-ends"}, "", 4096, false};
    {
        const descriptors_in_flight many;
        const descriptor_limit limit{::getpid(), nursery_limit};
        const auto e = error_of([&] {
            (void)places::detail::process::current().request(with_streams,
                                                             {null.get(), null.get()});
        });
        expect_start_failed_for(e, ETOOMANYREFS);
        EXPECT_TRUE(std::strstr(e.what(), "sendmsg")) << e.what();
        EXPECT_FALSE(std::strstr(e.what(), "has ended")) << e.what();
    }
    EXPECT_EQ(places::spawn([] { return 3; }).wait().value, 3);
}

TEST(limits, a_place_whose_creator_could_not_take_its_descriptors_is_ended) {
    const int nursery = nursery_pid();
    const auto before = children_of(nursery);
    {
        const descriptor_limit limit{::getpid(), 0};
        EXPECT_EQ(error_of([] { (void)places::spawn(never_ends); }).code(), errc::start_failed);
    }
    while (children_of(nursery) != before) ::sched_yield();
}

TEST(limits, a_nursery_without_descriptors_ends_what_a_dead_place_has_left) {
    auto p = places::spawn(has_a_child);
    {
        const descriptor_limit limit{nursery_pid(), 0};
        expect_the_child_is_ended_when_its_place_dies(p);
    }
    EXPECT_EQ(places::spawn([] { return 3; }).wait().value, 3);
}

TEST(limits, a_nursery_without_descriptors_fails_what_needs_some_and_spares_the_asker) {
    const unique_fd null = places::checked_fd(::open("/dev/null", O_RDWR | O_CLOEXEC), "open");
    auto server = places::spawn({.named = "limits-server"}, serve);
    {
        const descriptor_limit limit{nursery_pid(), 0};
        expect_start_failed_for(error_of([] { (void)places::spawn(never_ends); }), EMFILE);
        expect_start_failed_for(
            error_of([] { (void)places::connect_to_named_place("limits-server"); }), EMFILE);
        // Descriptors of the request do not arrive either.
        const control::spawn with_streams{control::registered_entry{"never-ends"}, "", 4096, false};
        expect_start_failed_for(error_of([&] {
                                    (void)places::detail::process::current().request(
                                        with_streams, {null.get(), null.get()});
                                }),
                                EMFILE);
    }
    auto c = places::connect_to_named_place("limits-server");
    EXPECT_TRUE(answers(c));
    server.kill();
}

TEST(limits, a_spawn_and_a_connect_without_address_space_say_so_and_the_next_ones_are_served) {
    if (is_sanitized) GTEST_SKIP() << "a sanitizer reserves the address space";
    auto server = places::spawn({.named = "limits-server"}, serve);
    const std::size_t ring_bytes = std::size_t{16} << 20;
    const auto text_of = [](const std::function<void()>& f) -> std::string {
        try {
            f();
        } catch (const std::exception& e) {
            return e.what();
        }
        return "nothing was thrown";
    };
    rlimit before{};
    places::checked(::getrlimit(RLIMIT_AS, &before), "read a limit");
    std::uint64_t pages = 0;
    std::ifstream{"/proc/self/statm"} >> pages;
    const auto used = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const rlimit little{used + ring_bytes, before.rlim_max};
    places::checked(::setrlimit(RLIMIT_AS, &little), "set a limit");
    const auto spawned =
        text_of([&] { (void)places::spawn({.ring_bytes = ring_bytes}, never_ends); });
    const auto connected =
        text_of([&] { (void)places::connect_to_named_place("limits-server", ring_bytes); });
    places::checked(::setrlimit(RLIMIT_AS, &before), "set a limit");
    for (const auto& text : {spawned, connected}) {
        EXPECT_NE(text.find("(RLIMIT_AS); raise the limit (ulimit -v), or use smaller rings"),
                  text.npos)
            << text;
    }
    auto c = places::connect_to_named_place("limits-server");
    EXPECT_TRUE(answers(c));
    server.kill();
}

const auto never_ends_entry = places::register_entry<never_ends>("never-ends");

int main(int argc, char** argv) {
    if (::geteuid() == 0) {
        // A user of this process' own: descriptors in flight are counted per user.
        const auto user = static_cast<uid_t>(10'000 + ::getpid() % 50'000);
        if (::setresuid(user, user, user) < 0) std::perror("become an ordinary user");
        ::prctl(PR_SET_DUMPABLE, 1);  // or /proc/self would still be root's
    }
    places::runtime runtime{argc, argv};
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
