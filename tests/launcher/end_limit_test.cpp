// SPDX-License-Identifier: Apache-2.0
// The end of a node in order: it waits for all that its bridge still has to forward.
#include "launcher/end_limit.hpp"

#include "tests/support/node_main.hpp"

#include <gtest/gtest.h>

#include <sched.h>
#include <string>

using places::channel;
using places::errc;

TEST(end_limit, waits_for_the_end_of_a_bridge_that_has_sent_a_message_over_the_limit) {
    auto bridge = places::spawn([](channel& c) {
        (void)c.put(std::string(1000, 'x'));
        (void)c.receive();  // the order to finish
        (void)c.put(5);
    });
    while (bridge.received().undelivered < 1) ::sched_yield();
    bridge.set_message_bytes_max(100);
    places::launcher::end_in_order([] {}, bridge);
    EXPECT_EQ(bridge.try_get<int>().error(), errc::closed);
}
