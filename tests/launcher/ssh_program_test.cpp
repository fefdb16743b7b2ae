// SPDX-License-Identifier: Apache-2.0
#include "launcher/ssh_program.hpp"
#include "tests/support/scratch.hpp"

#include <places/shm/unique_fd.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

using namespace places::launcher;
using namespace std::chrono_literals;

namespace {

constexpr auto watchdog = 60s;  // of several processes

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
    step_clock clock(watchdog, -1);
    clock.hush();
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

}  // namespace
