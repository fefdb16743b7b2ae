// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace places {

/// Ordinary outcomes of a hot call. Only `ok` has changed anything, but for `too_large` of a call
/// that receives.
enum class [[nodiscard]] status : std::uint8_t{
    ok,
    empty,      ///< try_get: no complete record is there
    full,       ///< try_put: no room until the consumer reads on
    timeout,    ///< the deadline passed first
    closed,     ///< this end is closed, or the other is and all it published was read
    peer_dead,  ///< the other process ended; everything it published was read
    too_large,  ///< over the limit: not sent, or passed over by the call that receives
    corrupt,    ///< the other side broke the ring's rules; this end is shut
    refused,    ///< one of the two processes had no descriptor or memory for its end; both live
};

/// A short English word for `s`, never null.
const char* to_string(status s) noexcept;

}  // namespace places
