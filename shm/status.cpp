// SPDX-License-Identifier: Apache-2.0
#include <places/shm/status.hpp>

namespace places {

const char* to_string(status s) noexcept {
    switch (s) {
        case status::ok: return "ok";
        case status::empty: return "empty";
        case status::full: return "full";
        case status::timeout: return "timeout";
        case status::closed: return "closed";
        case status::peer_dead: return "peer_dead";
        case status::too_large: return "too_large";
        case status::corrupt: return "corrupt";
        case status::refused: return "refused";
    }
    return "unknown";
}

}  // namespace places
