// SPDX-License-Identifier: Apache-2.0
// The packets between places and nursery, over a real socket, well formed and not.
#include "core/control.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <string>
#include <sys/resource.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace control = places::control;
using places::errc;
using places::unique_fd;

namespace {

struct sockets {
    sockets() {
        std::array<int, 2> fds{};
        places::checked(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds.data()),
                        "make a control socket");
        here = unique_fd{fds[0]};
        there = unique_fd{fds[1]};
    }
    unique_fd here;
    unique_fd there;
};

places::error error_of_receive(const sockets& s) {
    try {
        (void)control::receive(s.there.get());
    } catch (const places::error& e) {
        return e;
    }
    ADD_FAILURE() << "nothing was thrown";
    return {errc::empty, ""};
}

std::size_t count_descriptors() {
    std::size_t count = 0;
    for (int fd = 0; fd < 1024; ++fd) count += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
    return count;
}

}  // namespace

TEST(control, brings_a_packet_and_its_descriptors_unchanged) {
    const sockets s;
    const control::connect body{"a name", 4096};
    control::send(s.here.get(), {17, body}, {s.here.get(), s.there.get()});
    const auto r = control::receive(s.there.get());
    ASSERT_TRUE(r);
    EXPECT_EQ(r->packet.request_id, 17U);
    EXPECT_EQ(r->fds.size(), 2U);
    const auto* got = std::get_if<control::connect>(&r->packet.body);
    ASSERT_TRUE(got);
    EXPECT_EQ(got->name, body.name);
    EXPECT_EQ(got->ring_bytes, body.ring_bytes);
}

TEST(control, has_nothing_while_the_socket_is_empty) {
    const sockets s;
    EXPECT_FALSE(control::receive(s.there.get()));
}

TEST(control, says_node_down_at_the_end_of_the_stream) {
    sockets s;
    s.here.reset();
    EXPECT_EQ(error_of_receive(s).code(), errc::node_down);
}

TEST(control, refuses_noise_and_every_shortened_packet) {
    const sockets s;
    const auto whole = places::detail::encode_datum(
        control::packet{1, control::connect{"a name that takes some room", 4096}});
    for (std::size_t size = 1; size < whole.size(); ++size) {
        ASSERT_EQ(::send(s.here.get(), whole.data(), size, 0), static_cast<ssize_t>(size));
        EXPECT_EQ(error_of_receive(s).code(), errc::protocol) << size;
    }
    const std::string noise(5000, '\xff');
    ASSERT_GT(::send(s.here.get(), noise.data(), noise.size(), 0), 0);
    EXPECT_EQ(error_of_receive(s).code(), errc::protocol);
}

TEST(control, survives_a_packet_with_any_one_octet_changed) {
    const sockets s;
    const auto whole = places::detail::encode_datum(
        control::packet{1, control::log_note{1, 2, "node", "place", "text"}});
    for (std::size_t at = 0; at < whole.size(); ++at) {
        auto changed = whole;
        changed[at] ^= std::byte{0xff};
        ASSERT_GT(::send(s.here.get(), changed.data(), changed.size(), 0), 0);
        try {
            EXPECT_TRUE(control::receive(s.there.get()));
        } catch (const places::error& e) {
            EXPECT_EQ(e.code(), errc::protocol) << at;
        }
    }
}

TEST(control, refuses_a_packet_over_the_limit_at_either_side) {
    const sockets s;
    const control::connect body{std::string(control::packet_bytes_max, 'x'), 4096};
    EXPECT_THROW(control::send(s.here.get(), {1, body}, {}), places::error);
    EXPECT_THROW(control::send(s.here.get(), {1, control::done{}},
                               std::vector<int>(control::packet_fds_max + 1, 0)),
                 places::error);
    const std::string large(control::packet_bytes_max + 1, 'x');
    ASSERT_GT(::send(s.here.get(), large.data(), large.size(), 0), 0);
    EXPECT_EQ(error_of_receive(s).code(), errc::protocol);
}

TEST(control, closes_the_descriptors_of_a_packet_it_refuses) {
    const sockets s;
    const auto before = count_descriptors();
    char noise = 'x';
    iovec part{&noise, 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 20)> ancillary{};
    for (const std::size_t count : {1U, 16U, 20U}) {
        msghdr header{};
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        header.msg_control = ancillary.data();
        header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        auto* entry = CMSG_FIRSTHDR(&header);
        entry->cmsg_level = SOL_SOCKET;
        entry->cmsg_type = SCM_RIGHTS;
        entry->cmsg_len = CMSG_LEN(sizeof(int) * count);
        for (std::size_t i = 0; i < count; ++i) {
            const int fd = s.here.get();
            std::memcpy(CMSG_DATA(entry) + i * sizeof(int), &fd, sizeof fd);
        }
        ASSERT_EQ(::sendmsg(s.here.get(), &header, 0), 1);
        EXPECT_EQ(error_of_receive(s).code(), errc::protocol);
        EXPECT_EQ(count_descriptors(), before);
    }
}

TEST(control, brings_a_packet_whole_when_its_descriptors_find_no_room) {
    const sockets s;
    const control::connect body{"a name", 4096};
    control::send(s.here.get(), {17, body}, {s.here.get(), s.there.get()});
    control::send(s.here.get(), {18, body}, {s.here.get(), s.there.get()});
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const auto limit_to = [&](int end) {
        const rlimit limit{static_cast<rlim_t>(end), before.rlim_max};
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    };
    limit_to(0);
    const auto none = control::receive(s.there.get());
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    const unique_fd lowest = s.here.duplicate();
    limit_to(lowest.get() + 2);
    const auto one = control::receive(s.there.get());
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);

    ASSERT_TRUE(none);
    EXPECT_EQ(none->packet.request_id, 17U);
    EXPECT_TRUE(none->fds.empty());
    ASSERT_TRUE(one);
    EXPECT_EQ(one->packet.request_id, 18U);
    EXPECT_EQ(one->fds.size(), 1U);
}

TEST(control, sends_nothing_into_a_full_socket_and_says_so) {
    const sockets s;
    std::size_t sent = 0;
    while (control::try_send(s.here.get(), {sent + 1, control::done{}}, {})) ++sent;
    EXPECT_GT(sent, 0U);
    for (std::size_t i = 1; i <= sent; ++i) {
        ASSERT_EQ(control::receive(s.there.get())->packet.request_id, i);
    }
    EXPECT_FALSE(control::receive(s.there.get()));
}

TEST(control, waits_for_room_also_where_an_event_loop_made_the_socket_non_blocking) {
    const sockets s;
    ASSERT_EQ(::fcntl(s.here.get(), F_SETFL, O_NONBLOCK), 0);
    constexpr std::uint64_t count = 5000;  // many times what the socket holds
    std::thread sender([&] {
        for (std::uint64_t i = 1; i <= count; ++i) {
            control::send(s.here.get(), {i, control::done{}}, {});
        }
    });
    for (std::uint64_t i = 1; i <= count; ++i) {
        pollfd packet{s.there.get(), POLLIN, 0};
        ASSERT_EQ(::poll(&packet, 1, -1), 1);
        ASSERT_EQ(control::receive(s.there.get())->packet.request_id, i);
    }
    sender.join();
}

TEST(error, that_another_process_has_sent_as_a_number_is_one_of_ours) {
    for (const auto code : {errc::empty, errc::corrupt, errc::name_taken, errc::no_core,
                            errc::program_not_found, errc::refused, errc::misuse}) {
        EXPECT_EQ(places::errc_of(static_cast<std::int32_t>(code)), code);
    }
    const auto last = static_cast<std::int32_t>(errc::misuse);
    for (const std::int32_t foreign : {0, -1, last + 1, INT32_MAX, INT32_MIN}) {
        EXPECT_EQ(places::errc_of(foreign), errc::protocol);
    }
}
