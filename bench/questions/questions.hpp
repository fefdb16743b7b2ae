// SPDX-License-Identifier: Apache-2.0
// The questions that places-bench answers, one file each.
#pragma once

#include "bench/harness.hpp"

namespace places::bench {

void latency(harness& h);
void throughput(harness& h);
void pipeline(harness& h);
void token(harness& h);
void fanin(harness& h);
void idle(harness& h);
void spawn_time(harness& h);
void spawn_remote(harness& h);

}  // namespace places::bench
