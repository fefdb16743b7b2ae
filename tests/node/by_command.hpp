// SPDX-License-Identifier: Apache-2.0
// Nodes that the places command ends, for tests that have let go of them.
#pragma once

#include "tests/support/scratch.hpp"
#include "tests/support/sshd.hpp"

#include <string>
#include <string_view>

/// Stops nodes whose key is 32 times 7 by the places command.
class stopping_command {
  public:
    static bool is_built() { return !std::string_view(PLACES_COMMAND).empty(); }
    /// Throws: std::runtime_error where none listens there, or it does not end in order.
    void stop(const std::string& address) const {
        test_sshd::run({PLACES_COMMAND, "stop", address, "--key-file", key_file_});
    }

  private:
    static std::string digits() {
        std::string all;
        for (int i = 0; i < 32; ++i) all += "07";
        return all + "\n";
    }
    scratch_folder scratch_;
    std::string key_file_ = scratch_.put("key", digits());
};
