// SPDX-License-Identifier: Apache-2.0
// What start_sweep_test runs with one failing call:
//   start_victim [SSH_COMMAND]
// It starts a place and a node, talks to both, and ends. The node is a local one, or one by
// SSH_COMMAND. What fails is tried once more, as the call that fails does so once. It prints a line
// for each error: "error <step>: <text>", where the second of a step is "again <step>: <text>".
// Exit codes: 0 for no error, 3 for errors, 4 where its own processes are left.
#include <places/places.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unistd.h>

namespace {

bool has_failed = false;

void say(const char* which, const char* step, const char* text) {
    has_failed = true;
    std::printf("%s %s: %s\n", which, step, text);
    std::fflush(stdout);
}

/// Returns: whether it has worked.
bool works(const char* which, const char* step, const std::function<void()>& f) {
    try {
        f();
        return true;
    } catch (const std::exception& e) {
        say(which, step, e.what());
        return false;
    }
}

void attempt(const char* step, const std::function<void()>& f) {
    if (!works("error", step, f)) (void)works("again", step, f);
}

/// Sends, and expects the answer.
template <class T>
void ask(places::channel& c, const T& what, const T& expected) {
    const auto how_it_ended = [&] {
        const auto how = c.peer_status();
        return how ? " (" + to_string(*how) + ")" : std::string();
    };
    const auto why_refused = [&] {
        const auto why = c.refusal();
        return why.empty() ? std::string() : ": " + why;
    };
    if (const auto sent = c.put(what); sent != places::status::ok) {
        throw places::error(make_error_code(sent),
                            to_string(sent) + why_refused() + how_it_ended());
    }
    const auto got = c.template get<T>();
    if (!got) throw places::error(got.error(), got.error().message() + how_it_ended());
    if (*got != expected) throw std::runtime_error("another answer came");
}

void add_one(places::channel& c) {
    while (auto n = c.get<int>()) (void)c.put(*n + 1);
}

void echo(places::inbox& in) {
    while (auto next = in.get()) (void)next->from.send(next->content);
}
const auto echo_entry = places::register_entry<echo>("echo");

void use_a_place() {
    auto p = places::spawn(add_one);
    ask(p, 1, 2);
}

void use_a_node(places::runtime& runtime, const char* ssh_command) {
    places::node_options options{.listen_port = 0};
    if (ssh_command) {
        options.ssh_command = ssh_command;
        options.program = std::filesystem::read_symlink("/proc/self/exe").string();
    }
    auto node = runtime.spawn_remote_node(ssh_command ? "far" : "localhost", options);
    auto server = node.supervise_place(echo_entry, {.named = "echo"});
    auto c = node.connect_to_named_place("echo");
    ask<std::string>(c, "hello", "hello");
}

std::string children() {
    std::ifstream list("/proc/thread-self/children");
    return {std::istreambuf_iterator<char>(list), {}};
}

}  // namespace

int main(int argc, char** argv) {
    const bool is_root = argc < 2 || std::string_view(argv[1]).substr(0, 2) != "--";
    const auto run = [&] {
        places::runtime runtime{argc, argv};
        attempt("place", use_a_place);
        attempt("node", [&] { use_a_node(runtime, argc > 1 ? argv[1] : nullptr); });
    };
    if (!is_root) {
        run();  // as in a program that catches nothing
        return 1;
    }
    if (!works("error", "runtime", run)) {
        // "made" again, as a program may that goes on.
        if (const auto left = children(); !left.empty()) {
            say("left", "after the runtime's constructor", left.c_str());
            return 4;
        }
        (void)works("again", "runtime", run);
    }
    if (const auto left = children(); !left.empty()) {
        say("left", "at the end", left.c_str());
        return 4;
    }
    return has_failed ? 3 : 0;
}
