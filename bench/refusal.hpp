// SPDX-License-Identifier: Apache-2.0
// Which builds must not measure.
#pragma once

#include <string>

namespace places::bench {

/// Why this build must not, or nothing: it is not optimised, or has sanitizers.
std::string why_refused();

/// What brings a sanitizer in among a compiler's flags, or nothing.
std::string sanitizer_among(const std::string& flags);

}  // namespace places::bench
