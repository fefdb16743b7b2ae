// SPDX-License-Identifier: Apache-2.0
#include "launcher/ssh_program.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/scratch.hpp"

#include <places/shm/unique_fd.hpp>

#include <gtest/gtest.h>

#include <array>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

using namespace places::launcher;
using namespace std::chrono_literals;

namespace {

constexpr auto watchdog = 60s;  // of several processes

/// Runs commands by it until one fails.
void expect_end(const std::string& command, places::errc code) {
    stage_deadline clock(watchdog, -1);
    clock.silence();
    const auto far = open_ssh_program({.command = command, .host = "far"}, clock);
    const auto e = error_of([&] {
        while (true) {
            clock.begin(places::errc::ssh_lost, "starting");
            const auto stream = far->start("");
            std::array<char, 64> octets;
            while (!stream->has_ended()) {
                far->wait();
                (void)stream->read(1, octets);
                (void)stream->read(2, octets);
            }
        }
    });
    EXPECT_EQ(e.code(), code) << e.what();
    clock.end();
}

TEST(ssh_program, tells_whoever_waits_that_its_input_has_room_again) {
    const scratch_folder folder;
    const auto go_on = folder.path() + "/go_on";
    ASSERT_EQ(::mkfifo(go_on.c_str(), 0600), 0);
    // For both, so that neither side waits for another that does not come.
    const places::unique_fd signal{::open(go_on.c_str(), O_RDWR | O_CLOEXEC)};
    const auto command = folder.put("command",
                                    "#!/bin/sh\ncase $* in *-G*) exit;; esac\nread -r line <'" +
                                        go_on + "'\ncat >/dev/null; exit\n",
                                    0700);
    stage_deadline clock(watchdog, -1);
    clock.silence();
    const auto far = open_ssh_program({.command = command, .host = "far"}, clock);
    clock.begin(places::errc::ssh_lost, "writing");
    const auto stream = far->start("");
    const std::string octets(16 * 1024, 'x');
    while (stream->write(octets) > 0) {
    }
    ASSERT_EQ(::write(signal.get(), "\n", 1), 1);
    far->wait();
    EXPECT_GT(stream->write(octets), 0U);
    clock.end();
}

TEST(ssh_program, asks_what_a_name_without_a_route_leads_to_and_of_an_address_nothing_more) {
    for (const char* name : {"far.test", "192.0.2.1", "2001:db8::1", "fe80::1%eth0"}) {
        SCOPED_TRACE(name);
        const scratch_folder folder;
        const auto asked = folder.path() + "/asked";
        const auto command = folder.put("command",
                                        "#!/bin/sh\ncase \" $* \" in *' -G '*) echo hostname '" +
                                            std::string(name) + "'; exit;; *' -v '*) : >'" + asked +
                                            "';; esac\necho No route to host >&2\nexit 255\n",
                                        0700);
        expect_end(command, places::errc::host_unreachable);
        EXPECT_EQ(std::filesystem::exists(asked), name == std::string("far.test"));
    }
}

TEST(ssh_program, that_prints_without_end_for_a_report_is_an_error_that_names_it_and_the_bound) {
    for (const char* to : {"", " >&2"}) {
        SCOPED_TRACE(to);
        const scratch_folder folder;
        const auto command =
            folder.put("command", "#!/bin/sh\nyes y" + std::string(to) + "\n", 0700);
        stage_deadline clock(watchdog, -1);
        clock.silence();
        const auto e =
            error_of([&] { (void)open_ssh_program({.command = command, .host = "far"}, clock); });
        clock.end();
        EXPECT_EQ(e.code(), places::errc::protocol);
        EXPECT_NE(std::string(e.what()).find(command + " far: it has printed more than 1048576 by"),
                  std::string::npos)
            << e.what();
    }
}

TEST(far_shell, that_hears_a_flood_and_no_answer_is_an_error_that_names_the_bound) {
    // Without a line feed, in lines, in answers that mean nothing, and to the other stream.
    for (const char* flood : {"exec tr '\\\\0' x </dev/zero", "exec yes y",
                              "exec yes places-waiting", "exec yes y >&2"}) {
        SCOPED_TRACE(flood);
        const scratch_folder folder;
        const auto command = folder.put(
            "command",
            "#!/bin/sh\ncase \" $* \" in *' -G '*) exit;; esac\n" + std::string(flood) + "\n",
            0700);
        stage_deadline clock(watchdog, -1);
        clock.silence();
        const auto far = open_ssh_program({.command = command, .host = "far"}, clock);
        clock.begin(places::errc::ssh_lost, "asking");
        far_shell shell(*far, "");
        const auto e = error_of([&] {
            while (!shell.read_line().empty()) {
            }
        });
        clock.end();
        EXPECT_EQ(e.code(), places::errc::protocol);
        EXPECT_NE(std::string(e.what()).find("the host has sent more than 1048576 bytes"),
                  std::string::npos)
            << e.what();
    }
}

TEST(ssh_program, asks_nothing_more_of_a_name_that_it_has_been_at) {
    const scratch_folder folder;
    const auto asked = folder.path() + "/asked";
    const auto once = folder.path() + "/once";
    const auto command =
        folder.put("command",
                   "#!/bin/sh\ncase \" $* \" in *' -G '*) exit;; *' -v '*) : >'" + asked +
                       "';; esac\nmkdir '" + once +
                       "' 2>/dev/null && echo in && exit\necho No route to host >&2\nexit 255\n",
                   0700);
    expect_end(command, places::errc::host_unreachable);
    EXPECT_FALSE(std::filesystem::exists(asked));
}

}  // namespace
