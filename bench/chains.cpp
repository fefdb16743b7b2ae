// SPDX-License-Identifier: Apache-2.0
#include "bench/chains.hpp"

namespace places::bench {

contestant chained(const peer& p, const chain& c, const link_options& o) {
    const auto count = static_cast<std::size_t>(c.count);
    auto links = std::make_shared<std::vector<std::unique_ptr<link>>>();
    for (std::size_t i = 0; i + (c.closed ? 0 : 1) < count; ++i) links->push_back(p.make(o));

    std::vector<std::function<void()>> stages;
    // The last first: who opens the near side finds the far one open.
    for (auto i = count - 1; i > 0; --i) {
        stages.push_back([links, c, i] {
            pin_to_first(c.cores);
            const auto from = (*links)[i - 1]->open(side::far);
            const auto to = i < links->size() ? (*links)[i]->open(side::near) : nullptr;
            c.stage(*from, to.get());
        });
    }
    auto all = std::make_shared<process_pair>(
        [links, c]() -> slice_body {
            pin_to_first(c.cores);
            const std::shared_ptr<end> last = c.closed ? links->back()->open(side::far) : nullptr;
            const std::shared_ptr<end> next = links->front()->open(side::near);
            return [=](report& r) { c.near(next.get(), last.get(), r); };
        },
        std::move(stages));
    return {p.name, false, [links, all]() -> const report& { return all->run(); }};
}

void add_chains(harness& h, contest& to, const chain& c, const link_options& o) {
    auto ring = chained({"ring", make_link_over<ring_end, ring_memory>}, c, o);
    ring.is_subject = true;
    to.entries.push_back(std::move(ring));
    for (const auto& p : peers()) {
        if (!h.wants_peer(p.name)) continue;
        if (!p.can_chain) {
            h.miss(p.name, "cannot chain: a process holds the ends of one link only");
            continue;
        }
        h.try_add(to, p.name, [&] { return chained(p, c, o); });
    }
    for (const auto& m : missing_peers()) h.miss(m.name, m.why);
}

}  // namespace places::bench
