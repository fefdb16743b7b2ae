// SPDX-License-Identifier: Apache-2.0
#include "launcher/exit_signal.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <string>

using namespace places::launcher;

namespace {

TEST(exit_signal, is_one_by_which_a_process_ends) {
    EXPECT_EQ(ending_signal("KILL"), SIGKILL);
    EXPECT_EQ(ending_signal("TERM"), SIGTERM);
    EXPECT_EQ(ending_signal("SEGV"), SIGSEGV);
    EXPECT_EQ(ending_signal("USR1"), SIGUSR1);
    for (const char* name : {"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "PIPE", "QUIT", "USR2"})
        EXPECT_TRUE(ending_signal(name)) << name;
}

TEST(exit_signal, that_stops_a_process_or_does_nothing_is_none) {
    for (const char* name : {"STOP", "TSTP", "TTIN", "TTOU", "CONT", "CHLD", "URG", "WINCH"})
        EXPECT_FALSE(ending_signal(name)) << name;
    for (const int number : {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGCHLD, 0, -1, NSIG})
        EXPECT_FALSE(ends_process(number)) << number;
}

TEST(exit_signal, of_another_name_is_none) {
    for (const std::string name : {"", "SIGKILL", "kill", "9", "SIG@openssh.com", "KILL\n"})
        EXPECT_FALSE(ending_signal(name)) << name;
    EXPECT_FALSE(ending_signal(std::string("KILL\0", 5)));
}

}  // namespace
