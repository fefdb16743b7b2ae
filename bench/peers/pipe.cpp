// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/descriptor_end.hpp"
#include "bench/peers/peer.hpp"

#include <algorithm>
#include <fcntl.h>
#include <unistd.h>

namespace places::bench {

std::unique_ptr<link> make_pipe(const link_options& options) {
    int there[2];
    int back[2];
    checked(::pipe2(there, O_CLOEXEC), "pipe2");
    checked(::pipe2(back, O_CLOEXEC), "pipe2");
    // As much room as ours has, up to what an ordinary user may ask for.
    const auto room = static_cast<int>(std::min<std::size_t>(options.room, 1 << 20));
    for (const int fd : {there[1], back[1]}) (void)::fcntl(fd, F_SETPIPE_SZ, room);
    return std::make_unique<descriptor_link>(
        descriptor_link::ends{unique_fd{back[0]}, unique_fd{there[1]}},
        descriptor_link::ends{unique_fd{there[0]}, unique_fd{back[1]}}, options.spins);
}

}  // namespace places::bench
