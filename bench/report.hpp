// SPDX-License-Identifier: Apache-2.0
// What one slice of measuring has found.
#pragma once

#include "bench/histogram.hpp"

namespace places::bench {

/// Plain data, filled by the process that measures; all zeroes is an empty report.
struct report {
    double per_second = 0;  ///< messages, hand-offs or replies
    histogram times;        ///< of each single one, where that is the question
};

}  // namespace places::bench
