// SPDX-License-Identifier: Apache-2.0
// A server for tests that are about something else.
#pragma once

#include <places/places.hpp>

struct adder {
    int add(int a) { return total_ += a; }

  private:
    int total_ = 0;
};
PLACES_NAMED_SERVER(adder, (rpc, add))
