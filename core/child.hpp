// SPDX-License-Identifier: Apache-2.0
// The first steps of a new place, between fork() and its entry. Not installed.
#pragma once

#include "core/control.hpp"
#include "core/process.hpp"

namespace places::detail {

/// Where `code` lies, in words that hold in every process forked from this program.
/// Throws: error{bad_argument} when it lies in no loaded object.
control::code_address code_address_of(const void* code);

/// Throws: error{bad_argument} when two registered entries have one name, with where each is
///         registered, and in which file it lies. From one line of one file they are the same.
void check_registrations();

struct child_start {
    process::birth birth;
    control::granted creator;    ///< the channel to the creator
    std::vector<unique_fd> fds;  ///< of that channel: the creator's doorbell
    control::entry_ref entry;
    bool takes_connections = false;
};

/// Runs the entry and ends the process: with its completion value, or 1 after an exception, which
/// is printed on standard error. What the entry gives to std::exit() is a completion value too, and
/// of the handlers and destructors that exit() runs only those run that the place has registered.
/// Never returns.
/// Process: the new place, freshly forked, with its descriptors already sorted.
[[noreturn]] void run_child(child_start start);
/// The same for a process of the node itself, which has no creator: a bridge.
[[noreturn]] void run_child(process::birth birth, int (*main)(process& self));

/// Waits for the `opened` record with which a place or a bridge says that it has begun.
/// Returns: that record; a bridge tells more in its body.
/// Throws: the error in a `refused` record; error{start_failed} when the place ended instead, or
///         one of the two processes could not have the channel, with the cause; error{node_down}
///         when the bridge has ended.
message await_opened(channel& c);
/// The text is shortened so that the record has at most `bytes_max`.
message make_refused(errc code, const std::string& text, std::size_t bytes_max);

}  // namespace places::detail
