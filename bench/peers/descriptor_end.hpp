// SPDX-License-Identifier: Apache-2.0
// What pipe, Unix socket and TCP share: whole messages over descriptors that carry bytes.
#pragma once

#include "bench/end.hpp"

#include <places/shm/unique_fd.hpp>

namespace places::bench {

class descriptor_end final : public end {
  public:
    /// Spinning descriptors are put in non-blocking mode and tried again.
    descriptor_end(unique_fd in, unique_fd out, bool spins);
    void send(std::span<const std::byte> message) override;
    void receive(std::span<std::byte> message) override;

  private:
    unique_fd in_;
    unique_fd out_;
};

/// Descriptors made before the fork; each side takes its own.
class descriptor_link final : public link {
  public:
    struct ends {
        unique_fd in;
        unique_fd out;
    };
    /// Of a socket.
    static ends both_ways(unique_fd socket) {
        auto in = socket.duplicate();
        return {std::move(in), std::move(socket)};
    }
    descriptor_link(ends near, ends far, bool spins)
        : near_(std::move(near)),
          far_(std::move(far)),
          spins_(spins) {}
    std::unique_ptr<end> open(side which) override;

  private:
    ends near_;
    ends far_;
    bool spins_;
};

}  // namespace places::bench
