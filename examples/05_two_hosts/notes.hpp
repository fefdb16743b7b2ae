// SPDX-License-Identifier: Apache-2.0
// A notice board: any place of any node reads and writes it by its name.
#pragma once

#include <places/places.hpp>

#include <string>
#include <utility>
#include <vector>

struct notice_board {
    void add(std::string note) { notes_.push_back(std::move(note)); }
    std::vector<std::string> all() { return notes_; }

  private:
    std::vector<std::string> notes_;
};
PLACES_NAMED_SERVER(notice_board, (rpc, add), (rpc, all))
