// SPDX-License-Identifier: Apache-2.0 - How long until a node on another host is linked to?
//
// Cold, with the program to copy, and warm; beside the ssh command that does nothing there. The
// host is an sshd of its own on loopback, so what is left out is the network.
#include "bench/questions/questions.hpp"

#include "tests/support/sshd.hpp"

#include <places/launcher/runtime.hpp>

#include <filesystem>
#include <memory>
#include <stdexcept>

namespace places::bench {
namespace {

/// One start a slice: it is long enough, and others may want the cores.
template <class Once>
contestant once_a_slice(const harness& h, const char* name, bool is_subject, Once once) {
    auto found = std::make_shared<report>();
    const auto clock = h.clock();
    return {name, is_subject, [=]() -> const report& {
                *found = {};
                const auto taken = clock.ns(once(clock));
                found->times.record(taken);
                found->per_second = 1e9 / static_cast<double>(taken);
                return *found;
            }};
}

}  // namespace

void spawn_remote(harness& h) {
    if (const auto why = test_sshd::why_not(); !why.empty()) {
        throw std::runtime_error("spawn_remote: " + why);
    }
    const auto far = std::make_shared<test_sshd>();
    const auto start = [&h, far](const tick_clock& clock) {
        const auto begun = clock.now();
        const auto node =
            h.root().spawn_remote_node("far", {.listen_port = 0, .ssh_config = far->config()});
        return clock.now() - begun;  // not the node's end
    };
    contest c{0, figure::time, {}};
    c.entries.push_back(once_a_slice(h, "ssh", false, [far](const tick_clock& clock) {
        const auto begun = clock.now();
        test_sshd::run({"ssh", "-T", "-F", far->config(), "far", "true"});
        return clock.now() - begun;
    }));
    c.entries.push_back(once_a_slice(h, "places_cold", true, [far, start](const tick_clock& clock) {
        std::filesystem::remove_all(far->cache());
        return start(clock);
    }));
    c.entries.push_back(once_a_slice(h, "places", true, start));
    (void)start(h.clock());  // so that it is warm whoever comes first
    h.measure(std::move(c));
}

}  // namespace places::bench
