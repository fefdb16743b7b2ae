// SPDX-License-Identifier: Apache-2.0
// Run by tests/support/with_far.sh: the far host is in another network and has no build tree.
#include "launcher/bundle_file.hpp"
#include "tests/node/by_command.hpp"
#include "tests/node/entries.hpp"
#include "tests/node/heard.hpp"
#include "tests/node/newer_object.hpp"
#include "tests/node/processes.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/node_main.hpp"
#include "tests/support/scratch.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gnu/libc-version.h>
#include <poll.h>
#include <sstream>
#include <string>
#include <sys/mount.h>
#include <sys/stat.h>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using places::errc;
namespace files = std::filesystem;

extern "C" const char* program_outer();

/// What the program's shared objects say over there, and whence they are.
struct part_server {
    std::string say() { return program_outer(); }
    std::string loaded_from(const std::string& name) {
        std::ifstream maps("/proc/self/maps");
        for (std::string line; std::getline(maps, line);) {
            if (line.ends_with("/" + name)) return line.substr(line.find('/'));
        }
        return "nowhere";
    }
};
PLACES_NAMED_SERVER(part_server, (rpc, say), (rpc, loaded_from))

namespace {

using clock_type = std::chrono::steady_clock;

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

/// As seen from here as well: only the build tree is hidden over there.
std::string far_home() {
    return files::path(variable("FAR_CONFIG")).parent_path().string() + "/home";
}
std::string cache() { return far_home() + "/.cache/places"; }

class two_hosts : public ::testing::Test {
  protected:
    void SetUp() override {
        if (variable("FAR_CONFIG").empty()) GTEST_SKIP() << "run it by tests/support/with_far.sh";
    }
    void TearDown() override {
        // Also after SetUp has skipped.
        if (!variable("FAR_LINK").empty()) set_link("up");
    }
    static places::node_options options() {
        return {.listen_port = 0, .ssh_config = variable("FAR_CONFIG"), .tunnel = true};
    }
    static void set_link(const std::string& state) {
        const auto command = "ip link set " + variable("FAR_LINK") + " " + state;
        ASSERT_EQ(std::system(command.c_str()), 0);
    }
};

TEST_F(two_hosts, the_program_and_its_module_run_where_there_is_no_build_tree) {
    auto with_module = options();
    with_module.modules = {NODE_MODULE};
    auto node = test_runtime().spawn_remote_node("far", with_module);
    auto place = node.supervise_place(echo_entry);
    EXPECT_EQ(echoed(place, "hello"), "hello");
    auto by_library = node.supervise_place(places::library{NODE_MODULE, "module_greet"});
    EXPECT_EQ(echoed(by_library, "hello"), "module says hello");
    auto facts = node.supervise_place<facts_server>();
    EXPECT_EQ(facts.count_entries(variable("FAR_HIDDEN")), 0);
    EXPECT_EQ(facts.variable("SSH_CONNECTION").find("10.213.7.1 "), 0U);
    node.send_exit(4);
    EXPECT_EQ(node.wait(), (places::exit_status{false, 4}));
}

/// What lies in the cache over there, without the lines that start it, and what a guard that is
/// still on its way out removes.
std::vector<std::string> cached() {
    std::vector<std::string> found;
    for (const auto& folder : files::directory_iterator(cache())) {
        if (folder.path().filename().string().starts_with('.')) continue;
        for (const auto& each : files::directory_iterator(folder.path())) {
            if (!each.path().filename().string().starts_with("start."))
                found.push_back(each.path());
        }
    }
    std::sort(found.begin(), found.end());
    return found;
}

TEST_F(two_hosts, shared_objects_that_only_this_one_has_go_there_with_those_that_they_need) {
    auto with_module = options();
    with_module.modules = {LINKED_MODULE};
    auto node = test_runtime().spawn_remote_node("far", with_module);
    auto parts = node.supervise_place<part_server>();
    EXPECT_EQ(parts.say(), "first");
    auto module = node.supervise_place(places::library{LINKED_MODULE, "module_reads"});
    EXPECT_EQ(echoed(module, "?"), "first");
    for (const char* each : {"libnode_program_outer.so", "libnode_program_inner.so",
                             "libnode_module_outer.so", "libnode_module_inner.so"}) {
        const auto from = parts.loaded_from(each);
        EXPECT_TRUE(from.starts_with(cache() + "/")) << from;
    }
}

/// Where this host's loader looks first, for what is started meanwhile: this process has loaded
/// what it needs.
class first_folder {
  public:
    explicit first_folder(const std::string& path) {
        EXPECT_EQ(::setenv("LD_LIBRARY_PATH", path.c_str(), 1), 0);
    }
    ~first_folder() { ::unsetenv("LD_LIBRARY_PATH"); }
    first_folder(const first_folder&) = delete;
    first_folder& operator=(const first_folder&) = delete;
};

TEST_F(two_hosts, a_shared_object_that_has_changed_is_sent_and_used_and_no_other_is_sent) {
    const scratch_folder here;
    const first_folder loaded_first(here.path());
    auto with_module = options();
    with_module.modules = {LINKED_MODULE};
    const auto said = [&] {
        auto node = test_runtime().spawn_remote_node("far", with_module);
        auto module = node.supervise_place(places::library{LINKED_MODULE, "module_reads"});
        return node.supervise_place<part_server>().say() + " " + echoed(module, "?");
    };
    const auto put = [&](const std::string& text, const std::string& name) {
        files::copy_file(PARTS "/" + text + "/" + name, here.path() + "/" + name,
                         files::copy_options::overwrite_existing);
    };
    const std::string program = "libnode_program_inner.so";
    const std::string module = "libnode_module_inner.so";
    put("first", program);
    put("first", module);
    EXPECT_EQ(said(), "first first");
    const auto before = cached();
    for (const auto& [name, expected] :
         {std::pair(program, "other first"), std::pair(module, "other other")}) {
        const auto path = here.path() + "/" + name;
        const auto size = files::file_size(path);
        const auto time = files::last_write_time(path);
        put("other", name);
        // As after a build that sets all times alike.
        files::last_write_time(path, time);
        ASSERT_EQ(files::file_size(path), size);
        EXPECT_EQ(said(), expected);
    }
    const auto after = cached();
    EXPECT_EQ(after.size(), before.size() + 2);
    files::last_write_time(here.path() + "/" + program, files::file_time_type::clock::now());
    EXPECT_EQ(said(), "other other");
    EXPECT_EQ(cached(), after);
}

/// Another file where one lies; on this host alone.
class covered_file {
  public:
    covered_file(const std::string& path, const std::string& by) : path_(path) {
        EXPECT_EQ(::mount(by.c_str(), path_.c_str(), nullptr, MS_BIND, nullptr), 0);
    }
    ~covered_file() { ::umount2(path_.c_str(), MNT_DETACH); }
    covered_file(const covered_file&) = delete;
    covered_file& operator=(const covered_file&) = delete;

  private:
    std::string path_;
};

TEST_F(two_hosts, a_c_library_that_has_been_updated_here_makes_no_other_set_over_there) {
    const auto starts = [] {
        (void)test_runtime().spawn_remote_node("far", options());
        const files::recursive_directory_iterator all(cache());
        return std::count_if(begin(all), end(all), [](const auto& each) {
            return each.path().filename().string().starts_with("start.");
        });
    };
    const auto before = starts();
    const scratch_folder scratch;
    const auto path = places::launcher::loaded_libraries().at("libm.so.6");
    files::copy_file(path, scratch.path() + "/updated");
    const covered_file updated(path, scratch.path() + "/updated");
    EXPECT_EQ(starts(), before);
}

TEST_F(two_hosts, a_shared_object_for_a_newer_c_library_is_refused_naming_it_and_both_versions) {
    const scratch_folder here;
    const first_folder loaded_first(here.path());
    (void)for_a_newer_c_library(PARTS "/other/libnode_module_inner.so",
                                here.path() + "/libnode_module_inner.so");
    auto with_module = options();
    with_module.modules = {LINKED_MODULE};
    const auto text = text_of_error(errc::wrong_architecture, [&] {
        (void)test_runtime().spawn_remote_node("far", with_module);
    });
    EXPECT_NE(text.find("/libnode_module_inner.so)"), text.npos) << text;
    EXPECT_NE(text.find("`GLIBC_9."), text.npos) << text;
    EXPECT_NE(text.find(std::string("C library, glibc ") + ::gnu_get_libc_version()), text.npos)
        << text;
}

TEST_F(two_hosts, are_linked_without_a_tunnel) {
    auto direct = options();
    direct.tunnel = false;
    auto node = test_runtime().spawn_remote_node("far", direct);
    auto place = node.supervise_place(echo_entry);
    EXPECT_EQ(echoed(place, "hello"), "hello");
    node.send_exit(4);
    EXPECT_EQ(node.wait(), (places::exit_status{false, 4}));
}

TEST_F(two_hosts, are_linked_at_the_address_that_the_node_listens_on) {
    for (const char* command : {"", "ssh"}) {
        for (const bool tunnel : {false, true}) {
            for (const auto& address :
                 {variable("FAR_SECOND"), std::string("0.0.0.0"), std::string("0::0")}) {
                SCOPED_TRACE(std::string(command) + (tunnel ? " tunnel " : " ") + address);
                auto there = options();
                there.ssh_command = command;
                there.tunnel = tunnel;
                there.listen_address = address;
                auto node = test_runtime().spawn_remote_node("far", there);
                auto place = node.supervise_place(echo_entry);
                EXPECT_EQ(echoed(place, "hello"), "hello");
            }
        }
    }
}

TEST_F(two_hosts, are_linked_at_the_address_that_is_advertised_or_not_at_all) {
    for (const char* command : {"", "ssh"}) {
        auto there = options();
        there.ssh_command = command;
        there.tunnel = false;
        there.listen_address = "0.0.0.0";
        there.advertise = variable("FAR_SECOND");
        EXPECT_TRUE(test_runtime().spawn_remote_node("far", there).is_up());
        there.listen_address = variable("FAR_ADDRESS");
        const auto text = text_of_error(
            errc::node_unreachable, [&] { (void)test_runtime().spawn_remote_node("far", there); });
        EXPECT_NE(text.find(variable("FAR_SECOND") + ":"), text.npos) << text;
    }
}

TEST_F(two_hosts, nodes_of_both_are_linked_directly_where_a_port_is_reached) {
    auto direct = options();
    direct.tunnel = false;
    direct.name = "far";
    auto far = test_runtime().spawn_remote_node("far", direct);
    auto far_echo = far.supervise_place(echo_entry, {.named = "echo"});
    auto from_far = far.supervise_place<traveller_server>();
    auto near = test_runtime().spawn_remote_node("localhost", {.listen_port = 0, .name = "near"});
    auto near_echo = near.supervise_place(echo_entry, {.named = "echo"});
    auto from_near = near.supervise_place<traveller_server>();
    const auto fails = [](auto& traveller, const std::string& node) -> std::string {
        try {
            (void)traveller.ask(node, "echo", "");
        } catch (const places::remote_error& e) {
            return e.what();
        }
        return "";
    };
    // Over there nobody reaches the loopback here, but over a link that stands, all is reached.
    auto text = fails(from_far, "near");
    EXPECT_NE(text.find("known by loopback of another host"), text.npos) << text;
    EXPECT_EQ(from_near.ask("far", "echo", "hello"), "hello");
    EXPECT_EQ(from_far.ask("near", "echo", "hello"), "hello");

    auto hidden = options();
    hidden.name = "hidden";
    auto behind = test_runtime().spawn_remote_node("far", hidden);
    text = fails(from_near, "hidden");
    EXPECT_NE(text.find(".tunnel"), text.npos) << text;
}

/// From this host, as the kernel shows them.
int connections_to(const std::string& address, std::uint16_t port) {
    in_addr octets{};
    EXPECT_EQ(::inet_pton(AF_INET, address.c_str(), &octets), 1);
    std::array<char, 32> end{};
    std::snprintf(end.data(), end.size(), "%08X:%04X", octets.s_addr, unsigned{port});
    std::ifstream in("/proc/self/net/tcp");
    int count = 0;
    std::string number;
    std::string here;
    std::string there;
    std::string state;
    for (std::string line; std::getline(in, line);) {
        std::istringstream(line) >> number >> here >> there >> state;
        count += there == end.data() && state == "01";  // established
    }
    return count;
}

TEST_F(two_hosts, a_node_dials_another_at_the_address_that_is_advertised) {
    auto direct = options();
    direct.tunnel = false;
    direct.name = "far";
    direct.listen_address = "0.0.0.0";
    direct.advertise = variable("FAR_SECOND");
    auto far = test_runtime().spawn_remote_node("far", direct);
    auto far_echo = far.supervise_place(echo_entry, {.named = "echo"});
    auto near = test_runtime().spawn_remote_node("localhost", {.listen_port = 0, .name = "near"});
    auto from_near = near.supervise_place<traveller_server>();
    EXPECT_EQ(connections_to(variable("FAR_SECOND"), far.port()), 1) << "the root's";
    from_near.go("far", "echo");
    EXPECT_EQ(from_near.say("hello"), "hello");
    EXPECT_EQ(connections_to(variable("FAR_SECOND"), far.port()), 2);
    EXPECT_EQ(connections_to(variable("FAR_ADDRESS"), far.port()), 0);
}

TEST_F(two_hosts, a_host_key_that_is_revoked_for_all_users_of_this_one_is_refused) {
    std::ifstream in(files::path(variable("FAR_CONFIG")).parent_path() / "host.pub");
    std::string key;
    ASSERT_TRUE(std::getline(in, key));
    // Seen by this test alone: with_far.sh has unshared the mounts.
    ASSERT_EQ(::mount("none", "/etc/ssh", "tmpfs", 0, nullptr), 0) << std::strerror(errno);
    for (const std::string each : {"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}) {
        SCOPED_TRACE(each);
        std::ofstream(each) << "@revoked " << variable("FAR_ADDRESS") << " " << key << "\n";
        auto by = options();
        for (const char* command : {"", "ssh"}) {
            by.ssh_command = command;
            const auto e = error_of([&] { (void)test_runtime().spawn_remote_node("far", by); });
            EXPECT_EQ(e.code(), errc::host_key_changed) << e.what();
        }
        files::remove(each);
    }
    EXPECT_EQ(::umount2("/etc/ssh", MNT_DETACH), 0);
}

TEST_F(two_hosts, are_not_linked_in_the_clear) {
    auto in_the_clear = options();
    in_the_clear.tunnel = false;
    in_the_clear.insecure = true;
    const auto text = text_of_error(
        errc::bad_argument, [&] { (void)test_runtime().spawn_remote_node("far", in_the_clear); });
    EXPECT_NE(text.find("loopback only"), text.npos) << text;
}

void expect_notice_of_a_cut(const places::node_options& options, const std::function<void()>& cut) {
    auto node = test_runtime().spawn_remote_node("far", options);
    auto facts = node.supervise_place<facts_server>();
    // All processes of both hosts are in one table.
    std::vector<places::unique_fd> lives;
    lives.push_back(watch(static_cast<pid_t>(facts.node_pid())));
    lives.push_back(watch(static_cast<pid_t>(facts.pid())));
    for (const auto& life : lives) ASSERT_TRUE(life);
    std::string reason;
    node.on_down([&](const std::string& why) {
        reason = why;
        test_runtime().stop();
    });
    const auto begun = clock_type::now();
    cut();
    test_runtime().route(node);
    std::printf("cut: noticed here after %lld ms: %s\n", ms_since(begun), reason.c_str());
    EXPECT_GE(clock_type::now() - begun, 2s) << "too soon for silence: something else ended it";
    for (const auto& life : lives) EXPECT_TRUE(ends(life));
    std::printf("cut: gone over there after %lld ms\n", ms_since(begun));
}

TEST_F(two_hosts, a_cut_cable_is_noticed_on_both_sides_in_seconds) {
    for (const bool tunnel : {true, false}) {
        SCOPED_TRACE(tunnel ? "by a tunnel" : "without a tunnel");
        auto attached = options();
        attached.tunnel = tunnel;
        attached.owner_grace = 0ms;
        expect_notice_of_a_cut(attached, [] { set_link("down"); });
        if (tunnel) {
            EXPECT_FALSE(heard("lost while").empty());
        }
        set_link("up");
    }
    // Whoever stands for the node tells nobody that it has failed to start.
    EXPECT_EQ(times_heard("places-node-failed"), 0U);
}

TEST_F(two_hosts, a_cut_cable_ends_an_attached_node_after_its_grace_and_a_detached_one_never) {
    if (!stopping_command::is_built()) GTEST_SKIP() << "built without PLACES_CLI";
    auto attached = options();
    attached.tunnel = false;
    auto detached = attached;
    detached.detach = true;
    detached.owner_grace = 0ms;
    detached.key = places::bytes(32, std::byte{7});
    auto nodes = test_runtime().spawn_nodes_join({{"far", attached}, {"far", detached}});
    std::vector<places::unique_fd> lives;
    for (auto& node : nodes) {
        auto facts = node.supervise_place<facts_server>();
        lives.push_back(watch(static_cast<pid_t>(facts.node_pid())));
        ASSERT_TRUE(lives.back());
    }
    const auto begun = clock_type::now();
    set_link("down");
    EXPECT_TRUE(ends(lives[0]));
    std::printf("cut, default grace: gone after %lld ms\n", ms_since(begun));
    // Ten, from the last word before the cut, of which one comes each second.
    EXPECT_GE(clock_type::now() - begun, 8s);
    pollfd life{lives[1].get(), POLLIN, 0};
    EXPECT_EQ(::poll(&life, 1, 0), 0) << "the detached one has ended too";
    set_link("up");
    stopping_command().stop(variable("FAR_ADDRESS") + ":" + std::to_string(nodes[1].port()));
    EXPECT_TRUE(ends(lives[1]));
}

TEST_F(two_hosts, a_cable_that_is_cut_during_the_start_is_an_error_within_the_deadline) {
    set_link("down");
    auto short_stages = options();
    short_stages.stage_deadline = 500ms;
    EXPECT_EQ(error_of([&] { (void)test_runtime().spawn_remote_node("far", short_stages); }).code(),
              errc::host_unreachable);
}

/// A file of the far user's login shell; removed with this.
class login_file {
  public:
    explicit login_file(const std::string& text) : path_(far_home() + "/.bashrc") {
        std::ofstream(path_) << text;
    }
    ~login_file() { files::remove(path_); }
    login_file(const login_file&) = delete;
    login_file& operator=(const login_file&) = delete;

  private:
    std::string path_;
};

TEST_F(two_hosts, a_cable_that_is_cut_amid_a_start_takes_what_has_been_started_and_copied) {
    const scratch_folder scratch;
    const auto fifo = scratch.path() + "/reached";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    // For writing too: opened anew for each, it could end with the writer before.
    std::fstream told(fifo);
    std::vector<places::pending_node> begun;
    std::vector<places::unique_fd> lives;
    const auto begin = [&](const places::node_options& options) {
        // Nobody looks at it, so nobody gives it its orders.
        begun.push_back(test_runtime().spawn_remote_node_async("far", options));
        pid_t reached = 0;
        ASSERT_TRUE(told >> reached);
        lives.push_back(watch(reached));
        ASSERT_TRUE(lives.back());
    };

    const auto program = scratch.path() + "/program";
    files::copy_file(files::read_symlink("/proc/self/exe"), program);
    files::copy(PARTS "/first/libnode_program_inner.so", scratch.path());
    files::copy(PARTS "/libnode_program_outer.so", scratch.path());
    auto waits = options();
    waits.program = scratch.put("waits",
                                "#!/bin/sh\nexport LD_LIBRARY_PATH='" + scratch.path() +
                                    "'\necho $$ >'" + fifo + "'\nexec '" + program + "' \"$@\"\n",
                                0700);
    begin(waits);
    waits.ssh_command = "ssh";
    begin(waits);

    // A copy as it begins, and the shell that guards it.
    const login_file rc("PATH=" + scratch.path() + ":$PATH XDG_CACHE_HOME=" + scratch.path() +
                        "\n"
                        "export XDG_CACHE_HOME\n");
    scratch.put("mktemp", "#!/bin/sh\n/bin/mktemp \"$@\" && echo $PPID >'" + fifo + "'\n", 0700);
    auto copies = options();
    copies.stage_deadline = 1s;
    begin(copies);

    set_link("down");
    const auto cut = clock_type::now();
    for (const auto& life : lives) EXPECT_TRUE(ends(life));
    std::printf("cut amid the start: gone after %lld ms\n", ms_since(cut));
    // A small file may have been copied whole by then, and stays.
    for (const auto& each : files::directory_iterator(scratch.path() + "/places")) {
        EXPECT_FALSE(each.path().filename().string().starts_with('.')) << each.path();
    }
}

TEST_F(two_hosts, an_address_that_nobody_answers_is_unreachable_within_the_deadline) {
    auto short_stages = options();
    short_stages.stage_deadline = 500ms;
    const auto begun = clock_type::now();
    const auto text = text_of_error(errc::host_unreachable, [&] {
        (void)test_runtime().spawn_remote_node("10.213.7.99", short_stages);
    });
    std::printf("no answer: reported after %lld ms\n", ms_since(begun));
    EXPECT_NE(text.find("10.213.7.99:22"), text.npos) << text;
}

}  // namespace
