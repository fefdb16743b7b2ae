// SPDX-License-Identifier: Apache-2.0
#include "launcher/ssh_program.hpp"
#include "tests/support/scratch.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <sys/stat.h>

using namespace places::launcher;
using namespace std::chrono_literals;

namespace {

TEST(ssh_program, tells_whoever_waits_that_its_input_has_room_again) {
    const scratch_folder folder;
    const auto go_on = folder.path() + "/go_on";
    ASSERT_EQ(::mkfifo(go_on.c_str(), 0600), 0);
    const auto command = folder.put("command",
                                    "#!/bin/sh\ncase $* in *-G*) exit;; esac\nread -r line <'" +
                                        go_on + "'\ncat >/dev/null; exit\n",
                                    0700);
    step_clock clock(2s, -1);
    clock.hush();
    const auto far = open_ssh_program({.command = command, .host = "far"}, clock);
    clock.begin(places::errc::ssh_lost, "writing");
    const auto stream = far->start("");
    const std::string octets(16 * 1024, 'x');
    while (stream->write(octets) > 0) {
    }
    std::ofstream(go_on) << "\n";
    far->wait();
    EXPECT_GT(stream->write(octets), 0U);
    clock.end();
}

}  // namespace
