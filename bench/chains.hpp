// SPDX-License-Identifier: Apache-2.0
// Contestants of many processes, each of which has a link to the next: pipeline and token.
#pragma once

#include "bench/harness.hpp"
#include "bench/peers/peer.hpp"
#include "bench/process_pair.hpp"
#include "bench/subjects.hpp"

#include <functional>
#include <memory>

namespace places::bench {

/// What is measured in pairs, as a link of a chain.
template <class End, class Memory>
class link_over final : public link {
  public:
    explicit link_over(const link_options& o) : memory_(o) {}
    std::unique_ptr<end> open(side which) override {
        return std::make_unique<adapter>(memory_, which);
    }

  private:
    class adapter final : public end {
      public:
        adapter(const Memory& memory, side which) : end_(memory, which) {}
        void send(std::span<const std::byte> message) override { end_.send(message); }
        void receive(std::span<std::byte> message) override { end_.receive(message); }

      private:
        End end_;
    };
    Memory memory_;
};

template <class End, class Memory>
std::unique_ptr<link> make_link_over(const link_options& o) {
    return std::make_unique<link_over<End, Memory>>(o);
}

/// `count` processes and the links between them, from each to the next; `closed`: also from the
/// last to the first. `near` runs in the first process, with the ends to its next and from its
/// last; `stage` in each other, with the ends from the one before and to the one behind. An end
/// that there is not is null.
struct chain {
    int count;
    bool closed;
    int cores;
    std::function<void(end* next, end* last, report&)> near;
    std::function<void(end& from, end* to)> stage;
};

contestant chained(const peer& p, const chain& c, const link_options& o);

/// Bare rings, and all peers that can and were asked for.
void add_chains(harness& h, contest& to, const chain& c, const link_options& o);

}  // namespace places::bench
