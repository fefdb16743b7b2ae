// SPDX-License-Identifier: Apache-2.0
// A shared object that a node loads into a new place.
#include <places/places.hpp>

#include <string>

extern "C" void module_greet(places::inbox& in) {
    while (auto next = in.get()) {
        const auto text = next->content.as<std::string>();
        (void)next->from.put("module says " + (text ? *text : std::string("nothing")));
    }
}

/// There by name where the module was loaded before the place was.
inline const auto greet_entry = places::register_entry<module_greet>("module-greet");

/// It has been announced already when this runs.
extern "C" void module_announces_again(places::inbox& in) {
    (void)in.creator().send(places::message{places::kind::opened, 0, {}});
    while (in.get()) {
    }
}
