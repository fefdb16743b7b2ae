// SPDX-License-Identifier: Apache-2.0
#include "bench/peers/descriptor_end.hpp"
#include "bench/peers/peer.hpp"

#include <sys/socket.h>

namespace places::bench {

std::unique_ptr<link> make_unix(const link_options& options) {
    int both[2];
    checked(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both), "socketpair");
    unique_fd near{both[0]};
    unique_fd far{both[1]};
    return std::make_unique<descriptor_link>(descriptor_link::both_ways(std::move(near)),
                                             descriptor_link::both_ways(std::move(far)),
                                             options.spins);
}

}  // namespace places::bench
