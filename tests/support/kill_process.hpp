// SPDX-License-Identifier: Apache-2.0
// kill() for tests that look the process up: 0 means that there is none, and would be a signal to
// the test and all tests beside it.
#pragma once

#include <gtest/gtest.h>

#include <csignal>
#include <sys/types.h>

inline void kill_process(pid_t pid, int signal = SIGKILL) {
    ASSERT_GT(pid, 0) << "there is no such process";
    ::kill(pid, signal);
}
