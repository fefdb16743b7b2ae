// SPDX-License-Identifier: Apache-2.0
#include "launcher/exit_signal.hpp"

#include <csignal>
#include <cstring>

namespace places::launcher {

// Source: signal(7), "Standard signals": the dispositions Stop, Cont and Ign.
bool ends_process(int signal) noexcept {
    switch (signal) {
        case SIGSTOP:
        case SIGTSTP:
        case SIGTTIN:
        case SIGTTOU:
        case SIGCONT:
        case SIGCHLD:
        case SIGURG:
        case SIGWINCH: return false;
        default: return signal > 0 && signal < NSIG;
    }
}

std::optional<int> ending_signal(std::string_view name) noexcept {
    for (int number = 1; number < NSIG; ++number) {
        const char* each = ::sigabbrev_np(number);
        if (each && name == each && ends_process(number)) return number;
    }
    return std::nullopt;
}

}  // namespace places::launcher
