// SPDX-License-Identifier: Apache-2.0
#include "core/child.hpp"

#include "core/text.hpp"

#include <places/core/entry.hpp>

#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <exception>
#include <iostream>
#include <link.h>
#include <map>
#include <string_view>
#include <tuple>
#include <unistd.h>

namespace places::detail {
namespace {

const registration*& registrations() noexcept {
    static const registration* first = nullptr;
    return first;
}

void* resolve(const control::code_address& a) {
    // Objects that were loaded before the nursery was forked lie where they lay in the sender.
    auto* object = static_cast<link_map*>(
        ::dlopen(a.module.empty() ? nullptr : a.module.c_str(), RTLD_NOW | RTLD_GLOBAL));
    if (!object) throw error(errc::load_failed, ::dlerror());
    return reinterpret_cast<void*>(object->l_addr + a.offset);
}

struct runnable {
    thunk run;
    void* function;
};

int run_library_function(void* function, inbox& in) {
    reinterpret_cast<void (*)(inbox&)>(function)(in);
    return 0;
}

runnable load(const control::library_entry& e) {
    auto* object = ::dlopen(e.path.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (!object) throw error(errc::load_failed, ::dlerror());
    check_registrations();
    ::dlerror();
    auto* symbol = ::dlsym(object, e.symbol.c_str());
    if (!symbol) {
        const char* why = ::dlerror();
        throw error(errc::load_failed, why ? why : e.symbol + " is a null symbol in " + e.path);
    }
    return {run_library_function, symbol};
}

runnable runnable_of(const control::entry_ref& entry) {
    if (const auto* f = std::get_if<control::function_entry>(&entry)) {
        return {reinterpret_cast<thunk>(resolve(f->thunk)), resolve(f->function)};
    }
    if (const auto* r = std::get_if<control::registered_entry>(&entry)) {
        const auto* found = find_registration(r->name);
        if (!found) throw error(errc::entry_not_found, "no entry " + r->name);
        return {found->run, found->function};
    }
    return load(std::get<control::library_entry>(entry));
}

/// A library's entry is not known to work until it is loaded here: report it either way.
runnable begin(const control::entry_ref& entry, channel& creator) {
    if (!std::holds_alternative<control::library_entry>(entry)) return runnable_of(entry);
    try {
        auto found = runnable_of(entry);
        (void)creator.send(message{message_kind::opened, 0, {}});
        return found;
    } catch (const error& e) {
        // The caller is told in full; here the place just ends, with 1.
        (void)creator.send(make_refused(errc::load_failed, e.what(), creator.record_bytes_max()));
        return {[](void*, inbox&) { return 1; }, nullptr};
    }
}

int run(child_start& start, process& self) {
    inbox in{self, self.open(start.creator, std::move(start.fds)), start.takes_connections};
    const auto entry = begin(start.entry, in.creator());
    return entry.run(entry.function, in);
}

}  // namespace

registration::registration(const char* n, thunk r, void* f, bool takes, const char* in,
                           int at) noexcept
    : name(n),
      run(r),
      function(f),
      takes_connections(takes),
      file(in),
      line(at),
      next(registrations()) {
    registrations() = this;
}

const registration* find_registration(std::string_view name) noexcept {
    for (const auto* r = registrations(); r; r = r->next) {
        if (name == r->name) return r;
    }
    return nullptr;
}

std::string registered_names() {
    std::string names;
    for (const auto* r = registrations(); r; r = r->next) {
        names += (names.empty() ? "" : ", ") + std::string(r->name);
    }
    return names.empty() ? "none" : names;
}

namespace {

/// The program or shared object that holds the registration.
std::string object_of(const registration& r) {
    Dl_info info{};
    link_map* object = nullptr;
    if (!::dladdr1(&r, &info, reinterpret_cast<void**>(&object), RTLD_DL_LINKMAP) || !object) {
        return "an unknown file";
    }
    return *object->l_name ? object->l_name : "the program";
}

bool is_one_entry(const registration& a, const registration& b) {
    return a.line == b.line && std::string_view(a.file) == b.file && object_of(a) == object_of(b);
}

std::string place_of(const registration& r) {
    return std::string(r.file) + ":" + std::to_string(r.line) + " in " + object_of(r);
}

}  // namespace

void check_registrations() {
    std::map<std::string_view, const registration*> seen;
    for (const auto* later = registrations(); later; later = later->next) {
        const auto [at, is_new] = seen.emplace(later->name, later);
        if (is_new || is_one_entry(*at->second, *later)) continue;
        throw error(errc::bad_argument, "two entries are registered as \"" +
                                            std::string(later->name) + "\", at " +
                                            place_of(*later) + " and at " + place_of(*at->second) +
                                            ": give one of them another name");
    }
}

control::code_address code_address_of(const void* code) {
    Dl_info info{};
    link_map* object = nullptr;
    if (!::dladdr1(code, &info, reinterpret_cast<void**>(&object), RTLD_DL_LINKMAP) || !object) {
        throw error(errc::bad_argument, "an entry that lies in no loaded object");
    }
    return {object->l_name, reinterpret_cast<std::uintptr_t>(code) - object->l_addr};
}

namespace {

/// Not exit(): the destructors of the program's statics belong to the process that made them.
[[noreturn]] void end_process(int code) {
    std::cout.flush();
    ::fcloseall();  // which waits for no other thread's lock, as exit() does not
    ::_exit(code);
}

/// Tells people, on standard error, and the nursery by which exception this place ends. `self` may
/// be null: it could not be made, and the nursery is told by `control`. `what` may be null: nobody
/// knows.
void report_exception(process* self, int control, const std::string& name,
                      const char* what) noexcept {
    try {
        // A line of any length may find no reader, and the place ends when it is written.
        const auto text = what ? printable_text(what, control::exception_text_bytes_max)
                               : std::string("an unknown exception");
        std::fprintf(stderr, "place %s ended by %s%s\n", name.c_str(), what ? "an exception: " : "",
                     text.c_str());
        control::exception_text words{text};
        if (self) return self->send(std::move(words));
        control::send(control, {0, std::move(words)}, {});
    } catch (const std::exception&) {
        // Out of memory, or the nursery has ended: the place ends all the same.
    }
}

template <class Main>
[[noreturn]] void run_and_end(process::birth birth, Main&& main) {
    const auto name = printable(birth.name);
    int code = 1;
    // Handlers run from the last to the first: those of the place, then this, and none of the
    // program's, which belong to its root.
    static pid_t own_pid = 0;
    own_pid = ::getpid();  // what a place forks by itself ends as it likes
    (void)::on_exit(
        [](int value, void*) {
            if (::getpid() == own_pid) end_process(completion_value(value));
        },
        nullptr);
    // A place may be killed at any time; the lines it has printed are not to go with it.
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
    process* self = nullptr;
    try {
        // Never destroyed: the process ends with it, and a signal may come at any time.
        self = new process(std::move(birth));
        code = main(*self);
    } catch (const std::exception& e) {
        report_exception(self, birth.control.get(), name, e.what());
    } catch (...) {
        report_exception(self, birth.control.get(), name, nullptr);
    }
    end_process(code);
}

}  // namespace

void run_child(child_start start) {
    run_and_end(std::move(start.birth), [&](process& self) { return run(start, self); });
}

void run_child(process::birth birth, int (*main)(process& self)) {
    run_and_end(std::move(birth), main);
}

message make_refused(errc code, const std::string& text, std::size_t bytes_max) {
    const auto encoded = [&](std::string_view part) {
        return encode_datum(std::make_tuple(static_cast<std::int32_t>(code), std::string(part)));
    };
    auto whole = encoded(text);
    if (whole.size() > bytes_max) {
        // Words of eight octets are what a string takes.
        const auto over = whole.size() - bytes_max + 8;
        whole = encoded(shortened(text, text.size() - std::min(over, text.size())));
    }
    return message{message_kind::refused, 0, std::move(whole)};
}

message await_opened(channel& c) {
    auto first = c.receive();
    if (!first && first.error() == errc::refused) {
        throw error(errc::start_failed, first.error().message());
    }
    if (!first) {
        const auto& state = *state_of::get(c);
        if (const auto how = state.process_status(); how && state.peer_is_bridge()) {
            throw error(errc::node_down, "the bridge of this node has ended: " + to_string(*how));
        }
        const auto how = c.peer_status();
        throw error(errc::start_failed, "ended before it had begun: " + first.error().message() +
                                            (how ? " (" + to_string(*how) + ")" : std::string()));
    }
    if (first->kind() == message_kind::opened) return std::move(*first);
    if (first->kind() == message_kind::refused) {
        const auto why = decode_datum<std::tuple<std::int32_t, std::string>>(first->bytes());
        if (why) throw error(errc_of(std::get<0>(*why)), std::get<1>(*why));
    }
    throw error(errc::protocol, "the first record of a new place is not what it must be");
}

}  // namespace places::detail
