// SPDX-License-Identifier: Apache-2.0
// Nodes that are started by SSH.
#include "launcher/bundle_file.hpp"
#include "launcher/node.hpp"
#include "launcher/spawned.hpp"
#include "tests/node/by_ssh.hpp"
#include "tests/node/entries.hpp"
#include "tests/node/heard.hpp"
#include "tests/node/processes.hpp"
#include "tests/support/content_of.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/line_from.hpp"
#include "tests/support/missing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sstream>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using places::errc;

namespace {

namespace files = std::filesystem;

class ssh : public both_ways {
  protected:
    static places::remote_node start(const test_sshd& far) {
        return test_runtime().spawn_remote_node("far", options_for(far));
    }
};

/// Where the host has this very program without its having been copied there by a start.
std::string copy_of_this_program(const test_sshd& far, const char* name) {
    auto program = far.folder() + "/" + name;
    files::copy_file(files::read_symlink("/proc/self/exe"), program);
    return program;
}

/// Files below the cache, without those of the folders' names.
std::vector<std::string> cached(const test_sshd& far) {
    std::vector<std::string> found;
    if (!files::exists(far.cache())) return found;
    for (const auto& each : files::recursive_directory_iterator(far.cache())) {
        if (each.is_regular_file()) found.push_back(each.path());
    }
    std::sort(found.begin(), found.end());
    return found;
}
bool is_start(const std::string& path) {
    return files::path(path).filename().string().starts_with("start.");
}
std::size_t copies_under_way(const test_sshd& far) {
    std::size_t count = 0;
    if (!files::exists(far.cache())) return 0;
    for (const auto& each : files::directory_iterator(far.cache())) {
        count += each.path().filename().string().starts_with(".copy.");
    }
    return count;
}

std::size_t lines_of(const std::string& path) {
    std::ifstream in(path);
    return static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>(in), {}, '\n'));
}

TEST_P(ssh, starts_a_node_and_its_places_are_used_like_local_ones) {
    const test_sshd far;
    auto node = start(far);
    EXPECT_EQ(node.name(), "far:" + std::to_string(node.port()));
    auto place = node.supervise_place(echo_entry);
    EXPECT_EQ(echoed(place, "hello"), "hello");
    node.supervise_place<table_server>({.named = "table"}).set("x", 7);
    auto table = node.connect_to_named_place<table_server>("table");
    EXPECT_EQ(table.get("x"), 7);
    table.say("said over there");
    EXPECT_FALSE(heard("[" + node.name() + "/table] said over there").empty());
    // It runs from what has been copied.
    EXPECT_TRUE(files::read_symlink("/proc/" + std::to_string(table.pid()) + "/exe")
                    .string()
                    .starts_with(far.cache()));
    node.send_exit(7);
    EXPECT_EQ(node.wait(), (places::exit_status{false, 7}));
    EXPECT_TRUE(far.is_left_alone());
}

TEST_P(ssh, needs_no_configuration_where_all_is_said) {
    const test_sshd far;
    const places::node_options said{.listen_port = 0,
                                    .identity_files = {far.user_key()},
                                    .known_hosts_files = {far.known_hosts()},
                                    .ssh_config = "none",
                                    .ssh_command = GetParam()};
    {
        auto node = test_runtime().spawn_remote_node(far.host(), said);
        EXPECT_EQ(node.name(), "127.0.0.1:" + std::to_string(node.port()));
        auto place = node.supervise_place(echo_entry);
        EXPECT_EQ(echoed(place, "hello"), "hello");
    }
    auto wrong = said;
    test_sshd::run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", far.folder() + "/other"});
    wrong.identity_files = {far.folder() + "/other"};
    EXPECT_EQ(error_of([&] { (void)test_runtime().spawn_remote_node(far.host(), wrong); }).code(),
              errc::auth_refused);
    wrong = said;
    test_sshd::write_file(far.folder() + "/nobody", "");
    wrong.known_hosts_files = {far.folder() + "/nobody"};
    EXPECT_EQ(error_of([&] { (void)test_runtime().spawn_remote_node(far.host(), wrong); }).code(),
              errc::host_key_unknown);
}

TEST_P(ssh, takes_the_node_with_the_last_handle) {
    const test_sshd far;
    {
        auto node = start(far);
        node.supervise_place<table_server>({.named = "table"});
        EXPECT_FALSE(far.running().empty());
    }
    EXPECT_TRUE(far.is_left_alone());
}

TEST_P(ssh, copies_the_program_once_whole_and_by_its_digest) {
    const test_sshd far;
    (void)start(far);
    const auto once = cached(far);
    ASSERT_EQ(once.size(), 2U);
    EXPECT_EQ(copies_under_way(far), 0U);
    const auto& program = is_start(once[0]) ? once[1] : once[0];
    const auto content = [](const std::string& path) {
        std::ostringstream all;
        all << std::ifstream(path, std::ios::binary).rdbuf();
        return all.str();
    };
    EXPECT_TRUE(content("/proc/self/exe") == content(program));  // too much of it to be printed
    EXPECT_EQ(files::path(program).parent_path().filename().string().size(), 64U);
    const auto written = files::last_write_time(program);
    (void)start(far);
    EXPECT_EQ(cached(far), once);
    EXPECT_EQ(files::last_write_time(program), written);
}

TEST_P(ssh, keeps_its_copies_where_xdg_cache_home_says_if_that_is_absolute) {
    const test_sshd far;
    const auto elsewhere = far.folder() + "/else where";
    const auto runs_from = [&] {
        auto node = start(far);
        auto facts = node.supervise_place<facts_server>();
        return files::read_symlink("/proc/" + std::to_string(facts.pid()) + "/exe").string();
    };
    test_sshd::write_file(far.home() + "/.bashrc", "export XDG_CACHE_HOME='" + elsewhere + "'\n");
    const auto copy = runs_from();
    EXPECT_TRUE(copy.starts_with(elsewhere + "/places/")) << copy;
    const auto written = files::last_write_time(copy);
    EXPECT_EQ(runs_from(), copy);
    EXPECT_EQ(files::last_write_time(copy), written);
    EXPECT_FALSE(files::exists(far.cache()));
    test_sshd::write_file(far.home() + "/.bashrc", "export XDG_CACHE_HOME=relative\n");
    EXPECT_TRUE(runs_from().starts_with(far.cache() + "/"));
    EXPECT_FALSE(files::exists(far.home() + "/relative"));
}

TEST_P(ssh, copies_again_what_has_gone_from_the_cache) {
    const test_sshd far;
    (void)start(far);
    for (const auto& each : cached(far)) {
        if (!is_start(each)) files::remove(each);
    }
    auto node = start(far);
    EXPECT_TRUE(node.is_up());
    EXPECT_EQ(cached(far).size(), 2U);
}

TEST_P(ssh, copies_for_each_host_of_a_shared_home_what_it_runs_there) {
    if (!uses_library()) return;
    const test_sshd far;
    (void)start(far);
    far.put_program("uname", "case $1 in -n) echo other;; *) exec /bin/uname \"$@\";; esac");
    (void)start(far);
    const auto all = cached(far);
    EXPECT_EQ(all.size(), 3U);
    EXPECT_EQ(std::count_if(all.begin(), all.end(), is_start), 2);
}

TEST_P(ssh, copies_again_what_does_not_start) {
    const test_sshd far;
    (void)start(far);
    for (const auto& each : cached(far)) {
        if (is_start(each)) continue;
        // Another file: the one that is there may still be run by a node that is ending.
        std::filesystem::remove(each);
        test_sshd::write_file(each, "#!/no/such/loader\n");
        std::filesystem::permissions(each, std::filesystem::perms::owner_all);
    }
    const auto text = text_of_error(errc::node_unreachable, [&] { (void)start(far); });
    EXPECT_NE(text.find("not found"), text.npos) << text;
    EXPECT_NE(text.find("start again"), text.npos) << text;
    EXPECT_TRUE(start(far).is_up());
}

TEST_P(ssh, copies_through_the_shell_where_the_host_has_no_sftp) {
    const test_sshd far({.has_sftp = false});
    auto node = start(far);
    auto place = node.supervise_place(echo_entry);
    EXPECT_EQ(echoed(place, "hello"), "hello");
    EXPECT_EQ(cached(far).size(), 2U);
    EXPECT_EQ(copies_under_way(far), 0U);
}

TEST_P(ssh, copies_for_longer_than_its_guard_waits_in_silence) {
    if (!uses_library()) return;  // the other way has no SFTP, and much of a copy in its buffers
    constexpr const char* server = "/usr/lib/openssh/sftp-server";
    if (!files::exists(server)) return lacks(std::string("no sftp-server at ") + server);
    const test_sshd far({.lines = {"Subsystem sftp slow-sftp"}, .has_sftp = false});
    // A step and 15 s are what the guard waits; the time itself is what is waited for.
    far.put_program("slow-sftp",
                    "until=$(($(date +%s) + 20)); { while [ $(date +%s) -lt $until ]; do "
                    "dd bs=16384 count=1 status=none; sleep 0.1; done; exec cat; } | " +
                        std::string(server));
    auto options = options_for(far);
    options.stage_deadline = 2s;
    const auto begun = std::chrono::steady_clock::now();
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
    EXPECT_GE(std::chrono::steady_clock::now() - begun, 18s) << "too fast to prove it";
    EXPECT_EQ(copies_under_way(far), 0U);
}

/// As on a disk that is slow: the time itself is what is waited for.
void slow_down_first_check(const test_sshd& far, int seconds) {
    far.put_program("sha256sum", "mkdir '" + far.folder() + "/once' 2>/dev/null && /bin/sleep " +
                                     std::to_string(seconds) + "; exec /usr/bin/sha256sum \"$@\"");
}

TEST_P(ssh, a_copy_whose_check_takes_longer_than_a_step_is_waited_for) {
    const test_sshd far;
    slow_down_first_check(far, 4);
    auto options = options_for(far);
    options.stage_deadline = 2s;
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
    EXPECT_TRUE(files::exists(far.folder() + "/once"));
}

TEST_P(ssh, a_copy_whose_check_takes_longer_than_half_a_step_is_not_made_by_others_too) {
    const test_sshd far({.has_sftp = false});
    const auto copies = far.folder() + "/copies";
    far.put_program("cat", "echo copy >>'" + copies + "'; exec /bin/cat \"$@\"");
    // Whose octets are all there by then.
    slow_down_first_check(far, 5);
    auto options = options_for(far);
    options.stage_deadline = 6s;
    const std::vector<places::node_request> requests(3, {"far", options});
    EXPECT_EQ(test_runtime().spawn_nodes_join(requests).size(), 3U);
    EXPECT_EQ(lines_of(copies), 1U);
    EXPECT_TRUE(far.is_left_alone());
    EXPECT_EQ(cached(far).size(), 2U) << "nothing of the copy is left behind";
}

TEST_P(ssh, a_host_at_which_a_second_takes_two_says_within_a_short_step_that_it_checks) {
    const test_sshd far;
    far.put_program("sleep", "/bin/sleep \"$@\"; exec /bin/sleep \"$@\"");
    slow_down_first_check(far, 6);
    auto options = options_for(far);
    options.stage_deadline = 3s;
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
}

TEST_P(ssh, several_at_once_copy_what_is_not_there_once) {
    for (const bool has_locks : {true, false}) {
        SCOPED_TRACE(has_locks);
        const test_sshd far({.has_sftp = false});
        const auto copies = far.folder() + "/copies";
        far.put_program("cat", "echo copy >>'" + copies + "'; exec /bin/cat \"$@\"");
        if (!has_locks) far.put_program("flock", "echo no locks here >&2; exit 71");
        auto options = options_for(far);
        options.stage_deadline = 60s;  // half of it without growth, and each would copy
        std::vector<places::node_request> requests(4, {"far", options});
        EXPECT_EQ(test_runtime().spawn_nodes_join(requests).size(), 4U);
        const auto count = lines_of(copies);
        std::printf("%zu copies for 4 nodes\n", count);
        EXPECT_GE(count, 1U);
        EXPECT_LE(count, has_locks ? 1U : 4U);
        EXPECT_TRUE(far.is_left_alone());
        EXPECT_EQ(cached(far).size(), 2U) << "no lock is left behind";
    }
}

TEST_P(ssh, a_start_that_waits_for_another_s_copy_makes_its_own_when_that_does_not_come) {
    for (const bool is_given_up : {true, false}) {
        SCOPED_TRACE(is_given_up);
        const test_sshd far({.has_sftp = false});
        const auto copying = far.folder() + "/copying";
        const auto waiting = far.folder() + "/waiting";
        test_sshd::run({"mkfifo", copying, waiting});
        // The first copy does not grow, and comes to no end but that of its input; it leaves the
        // cores to the second.
        far.put_program("cat", "mkdir '" + far.folder() +
                                   "/once' 2>/dev/null || exec /bin/cat; echo >'" + copying +
                                   "'; renice -n 19 -p $$ >/dev/null; while [ -n \"$(dd bs=1024 "
                                   "count=1 status=none | od -An -tx1)\" ]; "
                                   "do :; done");
        far.put_program("flock", "[ \"$1\" = -n ] || ! mkdir '" + far.folder() +
                                     "/told' 2>/dev/null || echo >'" + waiting +
                                     "'; exec /usr/bin/flock \"$@\"");
        const places::unique_fd news[] = {
            places::unique_fd{::open(copying.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)},
            places::unique_fd{::open(waiting.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)}};
        const auto comes = [](const places::unique_fd& fifo) {
            pollfd word{fifo.get(), POLLIN, 0};
            return ::poll(&word, 1, watchdog_ms) == 1 && (word.revents & POLLIN) != 0;
        };
        {
            std::optional first = test_runtime().spawn_remote_node_async("far", options_for(far));
            ASSERT_TRUE(comes(news[0]));
            auto options = options_for(far);
            if (!is_given_up) options.stage_deadline = 4s;  // it waits for half of that
            auto second = test_runtime().spawn_remote_node_async("far", options);
            ASSERT_TRUE(comes(news[1]));
            if (is_given_up) first.reset();
            EXPECT_TRUE(second.get().is_up());
        }
        EXPECT_TRUE(far.is_left_alone());
        EXPECT_EQ(copies_under_way(far), 0U);
    }
}

TEST_P(ssh, shows_on_a_terminal_how_far_a_copy_is) {
    const test_sshd far;
    places::unique_fd terminal{::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)};
    ASSERT_TRUE(terminal && ::grantpt(terminal.get()) == 0 && ::unlockpt(terminal.get()) == 0);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, 2, ::ptsname(terminal.get()), O_RDWR | O_NOCTTY,
                                       0);
    std::vector<std::string> words{DOOMED_ROOT, "far", far.config(), "0", "attached", GetParam()};
    std::vector<char*> argv;
    for (auto& each : words) argv.push_back(each.data());
    argv.push_back(nullptr);
    pid_t root = 0;
    ASSERT_EQ(::posix_spawn(&root, DOOMED_ROOT, &actions, nullptr, argv.data(), environ), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    std::string text;
    const std::string last = "] 100% node_doomed_root to far\r\n";
    for (char c = 0; text.find(last) == text.npos && ::read(terminal.get(), &c, 1) == 1;) text += c;
    EXPECT_NE(text.find("\r[" + std::string(30, '#') + last), text.npos) << text;
    ::kill(root, SIGKILL);
    ::waitpid(root, nullptr, 0);
    EXPECT_TRUE(far.is_left_alone());
}

TEST_P(ssh, refuses_what_has_been_damaged_on_the_way) {
    const test_sshd far;
    far.put_program("sha256sum", "echo 0123456789 -");
    const auto text = text_of_error(errc::ssh_lost, [&] { (void)start(far); });
    EXPECT_NE(text.find("0123456789"), text.npos) << text;
    EXPECT_TRUE(far.is_left_alone());
    EXPECT_TRUE(cached(far).empty());
    EXPECT_EQ(copies_under_way(far), 0U);
}

TEST_P(ssh, carries_modules_and_finds_them_by_the_same_path_and_by_name) {
    const test_sshd far;
    auto options = options_for(far);
    options.modules = {NODE_MODULE};
    auto node = test_runtime().spawn_remote_node("far", options);
    const auto name = files::path(NODE_MODULE).filename().string();
    for (const auto& path : {std::string(NODE_MODULE), name}) {
        auto place = node.supervise_place(places::library{path, "module_greet"});
        EXPECT_EQ(echoed(place, "hello"), "module says hello");
        std::string all;
        for (const pid_t each : far.running()) {
            all += content_of("/proc/" + std::to_string(each) + "/maps");
        }
        EXPECT_NE(all.find("/" + name + "\n"), all.npos);
        EXPECT_EQ(all.find(NODE_MODULE), all.npos) << "the one of the build tree is loaded";
    }
    auto by_entry = node.supervise_place(places::registered{"module-greet"});
    EXPECT_EQ(echoed(by_entry, "hello"), "module says hello");
    // A relative one is found from here, as on this host.
    options.modules = {"./" + files::relative(NODE_MODULE).string()};
    options.working_directory = "/proc";
    auto other = test_runtime().spawn_remote_node("far", options);
    auto by_relative = other.supervise_place(places::library{options.modules[0], "module_greet"});
    EXPECT_EQ(echoed(by_relative, "hello"), "module says hello");
    // What did not go with the program is code that nobody chose for the node.
    const auto text = text_of_error(errc::permission_denied, [&] {
        (void)node.supervise_place(places::library{"./" + name, "module_greet"});
    });
    EXPECT_NE(text.find("was not started with that module"), text.npos) << text;
}

TEST_P(ssh, takes_no_silence_of_the_host_for_a_library_that_it_lacks) {
    const test_sshd far;
    // Without it nobody there hears a question.
    far.put_program("timeout", "echo no timeout here >&2; exit 1");
    auto options = options_for(far);
    options.modules = {PATH_MODULE};
    const auto text = text_of_error(
        errc::ssh_lost, [&] { (void)test_runtime().spawn_remote_node("far", options); });
    EXPECT_NE(text.find("no timeout here"), text.npos) << text;
    EXPECT_NE(text.find(NO_SONAME), text.npos) << text;
    EXPECT_EQ(text.find("lacks"), text.npos) << text;
}

TEST_P(ssh, looks_for_a_library_that_is_needed_by_its_path_where_the_loader_there_will) {
    const test_sshd far;
    const auto folder = far.folder() + "/of the node";
    files::create_directories(folder);
    files::create_directories(far.cache());
    files::copy_file(NO_SONAME, folder + "/n.so");
    files::copy_file(NO_SONAME, far.cache() + "/n.so");
    const auto octets = content_of(PATH_MODULE);
    auto options = options_for(far);
    options.working_directory = folder;
    const auto needing = [&](std::string path) {
        const std::string known = NO_SONAME;
        path.resize(known.size());
        auto changed = octets;
        changed.replace(changed.find(known), known.size(), path);
        options.modules = {far.folder() + "/module.so"};
        test_sshd::write_file(options.modules[0], changed);
        return test_runtime().spawn_remote_node("far", options);
    };
    EXPECT_TRUE(needing("./n.so").is_up());
    EXPECT_TRUE(needing("$ORIGIN/../n.so").is_up());
    files::remove(folder + "/n.so");
    far.put_program("ldd", "echo no library is asked for");
    const auto text = text_of_error(errc::load_failed, [&] { (void)needing("./././n.so"); });
    EXPECT_NE(text.find("needs " + folder + "/./././n.so by that path"), text.npos) << text;
}

/// doomed_root tells of its node there; then it is killed, and takes that with it.
void expect_a_node_of(const places::launcher::spawned& root, const test_sshd& far) {
    const auto printed = line_from(root.out.get());
    EXPECT_NE(std::atoi(printed.c_str()), 0) << printed;
    ::kill(root.pid, SIGKILL);
    EXPECT_TRUE(places::launcher::reap(root.pid, root.pidfd, watchdog_ms));
    EXPECT_TRUE(far.is_left_alone());
}

TEST_P(ssh, carries_the_program_that_runs_though_its_file_is_gone) {
    if (!uses_library()) return;  // what is copied does not depend on the way
    const test_sshd far;
    const auto program = far.folder() + "/gone";
    files::copy_file(DOOMED_ROOT, program);
    const auto root =
        places::launcher::spawn_program({program, "wait", "far", far.config(), "100", "attached"});
    files::remove(program);
    // Another program by that name is not what runs.
    test_sshd::write_file(program, "no program");
    places::launcher::write_all(root.in.get(), "\n", 1);
    expect_a_node_of(root, far);
}

TEST_P(ssh, calls_a_program_whose_file_is_gone_by_its_name_where_it_is_refused) {
    if (!uses_library()) return;  // what is copied does not depend on the way
    const test_sshd far;
    const std::string known = "libssh2.so.1";
    auto needed = std::string("./ssh2.so");
    files::copy_file(places::launcher::loaded_libraries().at(known), far.folder() + "/ssh2.so");
    needed.resize(known.size());
    auto octets = content_of(DOOMED_ROOT);
    ASSERT_NE(octets.find(known), octets.npos);
    octets.replace(octets.find(known), known.size(), needed);
    const auto program = far.folder() + "/gone";
    test_sshd::write_file(program, octets);
    files::permissions(program, files::perms::owner_all);
    const auto root = places::launcher::spawn_program(
        {"sh", "-c", "cd \"$0\" && ulimit -c 0 && exec \"$@\"", far.folder(), program, "wait",
         "far", far.config(), "100", "attached"});
    // Once it runs.
    while (files::read_symlink("/proc/" + std::to_string(root.pid) + "/exe") != program) {
        ::sched_yield();
    }
    files::remove(program);
    places::launcher::write_all(root.in.get(), "\n", 1);
    std::string words;
    for (char c = 0; ::read(root.err.get(), &c, 1) == 1;) words += c;
    EXPECT_NE(words.find(": gone needs ./ssh2.so by that path"), words.npos) << words;
    EXPECT_TRUE(places::launcher::reap(root.pid, root.pidfd, watchdog_ms));
}

TEST_P(ssh, carries_a_program_and_a_module_whatever_they_are_called) {
    const test_sshd far;
    const auto name = far.folder() + "/start";
    files::copy_file(NODE_MODULE, name);
    auto options = options_for(far);
    options.modules = {name};
    {
        auto node = test_runtime().spawn_remote_node("far", options);
        auto place = node.supervise_place(places::library{name, "module_greet"});
        EXPECT_EQ(echoed(place, "hello"), "module says hello");
    }
    files::copy_file(DOOMED_ROOT, name, files::copy_options::overwrite_existing);
    const auto root =
        places::launcher::spawn_program({name, "far", far.config(), "100", "attached", GetParam()});
    expect_a_node_of(root, far);
}

TEST_P(ssh, tells_a_root_that_was_started_to_ignore_its_children_how_they_end) {
    const test_sshd far;
    const auto status_of = [&](const std::string& config, std::string& words) {
        const auto root = places::launcher::spawn_program(
            {"sh", "-c", "ulimit -c 0; exec env --ignore-signal=CHLD \"$0\" exit \"$@\"",
             DOOMED_ROOT, "far", config, "100", "attached", GetParam()});
        for (char c = 0; ::read(root.err.get(), &c, 1) == 1;) words += c;
        return places::launcher::reap(root.pid, root.pidfd, watchdog_ms);
    };
    std::string words;
    EXPECT_EQ(status_of(far.config(), words), (places::exit_status{false, 3})) << words;
    const auto config = far.folder() + "/nobody";
    test_sshd::write_file(config, "Host far\n HostName 127.0.0.1\n Port 1\n");
    words.clear();
    EXPECT_EQ(status_of(config, words), (places::exit_status{true, SIGABRT}));
    EXPECT_NE(words.find("does sshd run there"), words.npos) << words;
}

TEST_P(ssh, a_module_that_is_not_there_is_refused_naming_it) {
    const test_sshd far;
    auto options = options_for(far);
    options.modules = {"/no/such/module.so"};
    const auto text = text_of_error(
        errc::load_failed, [&] { (void)test_runtime().spawn_remote_node("far", options); });
    EXPECT_NE(text.find("/no/such/module.so"), text.npos) << text;
}

TEST_P(ssh, gives_directory_and_environment_to_the_node_and_its_places) {
    const test_sshd far;
    auto options = options_for(far);
    options.working_directory = far.home();
    options.environment = {"GREETING=it's = \"me\"", "EMPTY="};
    auto node = test_runtime().spawn_remote_node("far", options);
    auto facts = node.supervise_place<facts_server>();
    EXPECT_EQ(facts.directory(), far.home());
    EXPECT_EQ(facts.variable("GREETING"), "it's = \"me\"");
    EXPECT_EQ(facts.variable("EMPTY"), "");
    EXPECT_EQ(facts.variable("PLACES_NO_SUCH"), "unset");
    options.working_directory = "/no/such/folder";
    const auto text = text_of_error(
        errc::bad_argument, [&] { (void)test_runtime().spawn_remote_node("far", options); });
    EXPECT_NE(text.find("/no/such/folder"), text.npos) << text;
    EXPECT_NE(text.find("No such file"), text.npos) << text;
}

TEST_P(ssh, noise_of_the_hosts_rc_files_is_passed_on_and_breaks_nothing) {
    const test_sshd far;
    test_sshd::write_file(far.home() + "/.bashrc",
                          "echo noisy standard output\necho noisy error >&2\n"
                          "printf 'no line feed'\n");
    auto node = start(far);
    auto place = node.supervise_place(echo_entry);
    EXPECT_EQ(echoed(place, "hello"), "hello");
    for (const char* line : {"noisy standard output", "noisy error", "no line feed"}) {
        EXPECT_FALSE(heard(std::string("[far] ") + line).empty());
    }
}

TEST_P(ssh, a_line_that_the_remote_launcher_has_begun_is_passed_on_and_breaks_nothing) {
    const test_sshd far;
    ::setenv("BROKEN_NODE", "unfinished", 1);
    auto pending = test_runtime().spawn_remote_node_async("far", options_for(far));
    ::unsetenv("BROKEN_NODE");
    EXPECT_TRUE(pending.get().is_up());
    EXPECT_EQ(heard("[far] no line feed"), "[far] no line feed");
}

TEST_P(ssh, a_tunnel_carries_the_link) {
    const test_sshd far;
    auto options = options_for(far);
    options.tunnel = true;
    auto node = test_runtime().spawn_remote_node("far", options);
    auto place = node.supervise_place(echo_entry);
    const std::string large(1'000'000, 'x');
    // The ssh command waits for acknowledgements: each 64 KiB take it 40 ms.
    const int count = uses_library() ? 20 : 2;
    for (int i = 0; i < count; ++i) ASSERT_EQ(echoed(place, large), large);
    EXPECT_EQ(echoed(place, "hello"), "hello");
    node.send_exit(3);
    EXPECT_EQ(node.wait(), (places::exit_status{false, 3}));
}

TEST_P(ssh, a_node_that_is_killed_is_down_and_tells_by_which_signal) {
    const test_sshd far;
    auto node = start(far);
    auto table = node.supervise_place<facts_server>();
    ::kill(table.node_pid(), SIGKILL);
    if (uses_library()) {
        EXPECT_EQ(node.wait(), (places::exit_status{true, SIGKILL}));
    } else {
        EXPECT_FALSE(node.wait().signalled);  // the ssh command does not tell
    }
    EXPECT_TRUE(far.is_left_alone());
}

TEST_P(ssh, several_are_started_at_once_and_each_answers) {
    const test_sshd far;
    const int count = uses_library() ? 16 : 4;
    std::vector<places::node_request> requests;
    for (int i = 0; i < count; ++i) {
        auto options = options_for(far);
        options.name = "node-" + std::to_string(i);
        requests.push_back({"far", options});
    }
    const auto begun = std::chrono::steady_clock::now();
    auto nodes = test_runtime().spawn_nodes_join(requests);
    std::printf("%d nodes at once: %lld ms\n", count, ms_since(begun));
    ASSERT_EQ(nodes.size(), requests.size());
    std::vector<places::remote_place> places;
    std::vector<places::client<traveller_server, places::remote_place>> travellers;
    for (int i = 0; i < count; ++i) {
        auto& node = nodes[static_cast<std::size_t>(i)];
        EXPECT_EQ(node.name(), "node-" + std::to_string(i));
        auto place = node.supervise_place(echo_entry, {.named = "echo"});
        EXPECT_EQ(echoed(place, node.name()), node.name());
        places.push_back(std::move(place));
        travellers.push_back(node.supervise_place<traveller_server>());
    }
    // Each to the next, the last to the first.
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        const auto& next = nodes[(i + 1) % nodes.size()].name();
        EXPECT_EQ(travellers[i].ask(next, "echo", next), next);
    }
    EXPECT_EQ(cached(far).size(), 2U);
    EXPECT_EQ(copies_under_way(far), 0U);
    for (auto& node : nodes) node.send_exit(5);
    for (auto& node : nodes) EXPECT_EQ(node.wait(), (places::exit_status{false, 5}));
    EXPECT_TRUE(far.is_left_alone());
}

TEST_P(ssh, of_several_all_are_started_or_none_and_every_failure_is_told) {
    const test_sshd far;
    auto wrong = options_for(far);
    wrong.program = "/no/such/program";
    auto late = options_for(far);
    late.deadline = std::chrono::milliseconds{0};
    try {
        (void)test_runtime().spawn_nodes_join(
            {{"far", options_for(far)}, {"far", wrong}, {"far", late}, {"far", options_for(far)}});
        FAIL() << "two cannot be started";
    } catch (const places::nodes_error& e) {
        ASSERT_EQ(e.failures().size(), 2U) << e.what();
        EXPECT_EQ(e.failures()[0].cause.code(), errc::bad_argument);
        EXPECT_EQ(e.failures()[1].cause.code(), errc::program_not_found);
        EXPECT_NE(std::string(e.what()).find("2 of 4"), std::string::npos) << e.what();
    }
    EXPECT_TRUE(far.is_left_alone());
}

TEST_P(ssh, a_start_that_is_given_up_leaves_nothing) {
    const test_sshd far;
    {
        auto pending = test_runtime().spawn_remote_node_async("far", options_for(far));
        (void)pending.is_ready();
    }
    EXPECT_TRUE(far.is_left_alone());
    {
        auto pending = test_runtime().spawn_remote_node_async("far", options_for(far));
        while (!pending.is_ready()) {
        }
    }
    EXPECT_TRUE(far.is_left_alone());
    EXPECT_EQ(copies_under_way(far), 0U);
}

TEST_P(ssh, a_start_that_nobody_looks_at_for_long_goes_on_when_somebody_does) {
    const test_sshd far;
    const auto program = copy_of_this_program(far, "program");
    const auto seen = far.folder() + "/seen";
    const auto now = far.folder() + "/now";
    test_sshd::run({"mkfifo", seen, now});
    // Tells when the node has been told more often that its orders are to come than it waits for a
    // word: that is one each second.
    const auto words = places::launcher::order_silence_max / 1s + 2;
    far.put_program("counted", "{ head -c " +
                                   std::to_string(words * sizeof places::launcher::order_to_come) +
                                   " >/dev/null; echo >'" + now + "'; cat >/dev/null; } <'" + seen +
                                   "' & tee '" + seen + "' | '" + program + "' \"$@\"");
    auto options = options_for(far);
    options.program = far.bin() + "/counted";
    auto pending = test_runtime().spawn_remote_node_async("far", options);
    std::ifstream told(now);
    std::string line;
    EXPECT_TRUE(std::getline(told, line));
    auto node = pending.get();
    auto facts = node.supervise_place<facts_server>();
    EXPECT_EQ(facts.variable(places::launcher::by_ssh_variable), "unset");
}

TEST_P(ssh, a_program_that_is_there_already_is_run_without_a_copy) {
    const test_sshd far;
    const auto program = copy_of_this_program(far, "it's here");
    auto options = options_for(far);
    options.program = program;
    auto node = test_runtime().spawn_remote_node("far", options);
    auto place = node.supervise_place(echo_entry);
    EXPECT_EQ(echoed(place, "hello"), "hello");
    EXPECT_TRUE(cached(far).empty());
}

TEST_P(ssh, a_program_that_is_there_already_loads_its_modules_from_there) {
    const test_sshd far;
    const auto program = copy_of_this_program(far, "program");
    const auto module = far.folder() + "/module.so";
    files::copy_file(NODE_MODULE, module);
    auto options = options_for(far);
    options.program = program;
    options.modules = {module};
    auto node = test_runtime().spawn_remote_node("far", options);
    auto by_library = node.supervise_place(places::library{module, "module_greet"});
    EXPECT_EQ(echoed(by_library, "hello"), "module says hello");
    auto by_entry = node.supervise_place(places::registered{"module-greet"});
    EXPECT_EQ(echoed(by_entry, "hello"), "module says hello");
    EXPECT_TRUE(cached(far).empty());
    const auto text = text_of_error(errc::permission_denied, [&] {
        (void)node.supervise_place(places::library{NODE_MODULE, "module_greet"});
    });
    EXPECT_NE(text.find("was not started with that module"), text.npos) << text;
}

TEST_P(ssh, a_program_that_is_there_already_says_which_module_is_not) {
    const test_sshd far;
    const auto program = copy_of_this_program(far, "program");
    auto options = options_for(far);
    options.program = program;
    options.modules = {far.folder() + "/module.so"};
    const auto text = text_of_error(
        errc::load_failed, [&] { (void)test_runtime().spawn_remote_node("far", options); });
    EXPECT_NE(text.find("module " + options.modules[0]), text.npos) << text;
    EXPECT_NE(text.find("No such file"), text.npos) << text;
    EXPECT_TRUE(far.is_left_alone());
}

INSTANTIATE_TEST_SUITE_P(by, ssh, ::testing::Values("", "ssh"), [](const auto& each) {
    return std::string(*each.param == '\0' ? "library" : "command");
});

// -- keys --

class ssh_login : public ssh {};

TEST_P(ssh_login, asks_for_the_passphrase_of_a_locked_key) {
    const test_sshd far;
    test_sshd::run({"ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", far.user_key()});
    auto options = options_for(far);
    std::vector<std::string> asked;
    std::string answer = "open sesame";
    options.passphrase = [&](const std::string& file) {
        asked.push_back(file);
        return answer;
    };
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
    EXPECT_EQ(asked, (std::vector<std::string>{far.user_key()}));
    for (const std::string wrong : {"", "wrong"}) {
        answer = wrong;
        EXPECT_EQ(error_of([&] { (void)test_runtime().spawn_remote_node("far", options); }).code(),
                  errc::auth_refused);
    }
}

TEST_P(ssh_login, that_waits_for_a_passphrase_costs_no_other_node_its_time) {
    const test_sshd far;
    test_sshd::run({"ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", far.user_key()});
    auto local =
        test_runtime().spawn_remote_node_async("localhost", {.listen_port = 0, .deadline = 400ms});
    auto options = options_for(far);
    const auto late = std::chrono::steady_clock::now() + 500ms;
    options.passphrase = [&](const std::string&) {
        // Typed when the other node's deadline has passed: the time itself is what is waited for.
        std::this_thread::sleep_until(late);
        return "open sesame";
    };
    EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
    EXPECT_TRUE(local.get().is_up());
}

/// A real agent that holds keys, and that whoever looks for one finds meanwhile.
class key_agent {
  public:
    /// `confirming`: the program that it asks before it uses the key; empty: it asks nobody.
    key_agent(const test_sshd& far, const std::string& key, const std::string& confirming = {})
        : key_agent(far, std::vector{key}, confirming) {}
    key_agent(const test_sshd& far, const std::vector<std::string>& keys,
              const std::string& confirming = {})
        : end_(far.folder() + "/end") {
        const auto socket = far.folder() + "/agent";
        const auto added = far.folder() + "/added";
        test_sshd::run({"mkfifo", added, end_});
        // It ends with the shell that it runs.
        std::string script = std::string("ssh-add -q") + (confirming.empty() ? "" : " -c");
        for (const auto& each : keys) script += " '" + each + "'";
        script += " && echo > '" + added + "' && cat '" + end_ + "'";
        test_sshd::run({"sh", "-c",
                        "SSH_ASKPASS='" + confirming +
                            "' SSH_ASKPASS_REQUIRE=force ssh-agent -a '" + socket + "' sh -c \"" +
                            script + "\" >/dev/null 2>&1 &"});
        std::string line;
        std::ifstream in(added);
        std::getline(in, line);
        ::setenv("SSH_AUTH_SOCK", socket.c_str(), 1);
    }
    ~key_agent() {
        ::unsetenv("SSH_AUTH_SOCK");
        std::ofstream(end_) << "\n";
    }
    key_agent(const key_agent&) = delete;
    key_agent& operator=(const key_agent&) = delete;

  private:
    std::string end_;
};

/// `lines` instead of what the configuration says of keys.
void write_config(const test_sshd& far, const std::string& lines) {
    test_sshd::write_file(far.config(), "Host far\n HostName 127.0.0.1\n Port " +
                                            std::to_string(far.port()) + "\n UserKnownHostsFile " +
                                            far.known_hosts() + "\n" + lines);
}

TEST_P(ssh_login, takes_a_key_from_the_agent) {
    const test_sshd far;
    const auto key = far.folder() + "/for-the-agent";
    files::rename(far.user_key(), key);
    write_config(far, "");
    const key_agent agent(far, key);
    EXPECT_TRUE(start(far).is_up());
}

TEST_P(ssh_login, by_identities_only_asks_the_agent_for_those_that_are_named) {
    const test_sshd far;
    const key_agent agent(far, far.user_key());
    test_sshd::run({"ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", far.user_key()});
    const auto other = far.folder() + "/other";
    test_sshd::run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other});
    auto options = options_for(far);
    int asked = 0;
    options.passphrase = [&](const std::string&) {
        ++asked;
        return "";
    };
    const auto try_with = [&](const std::string& lines) {
        SCOPED_TRACE(lines);
        write_config(far, lines + " IdentitiesOnly yes\n");
        EXPECT_TRUE(test_runtime().spawn_remote_node("far", options).is_up());
    };
    try_with(" IdentityFile " + far.user_key() + "\n");
    try_with(" IdentityFile " + other + "\n IdentityFile " + far.user_key() + "\n");
    // Told by the private key itself, then by the public one alone.
    const auto copy = far.folder() + "/copy";
    files::copy_file(far.user_key(), copy);
    try_with(" IdentityFile " + copy + "\n");
    try_with(" IdentityFile " + far.user_key() + ".pub\n");
    files::remove(far.user_key());
    try_with(" IdentityFile " + far.user_key() + "\n");
    EXPECT_EQ(asked, 0);

    write_config(far, " IdentityFile " + other + "\n IdentitiesOnly yes\n");
    const auto text = text_of_error(
        errc::auth_refused, [&] { (void)test_runtime().spawn_remote_node("far", options); });
    EXPECT_EQ(text.find("of the agent"), text.npos) << text;
}

TEST_P(ssh_login, that_the_host_has_cut_after_too_many_keys_says_so) {
    const test_sshd far;
    std::vector<std::string> others;
    for (int i = 0; i < 7; ++i) {
        others.push_back(far.folder() + "/other" + std::to_string(i));
        test_sshd::run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", others.back()});
    }
    const key_agent agent(far, others);
    write_config(far, " IdentityFile " + far.user_key() + "\n");
    const auto text = text_of_error(errc::auth_refused, [&] { (void)start(far); });
    EXPECT_NE(text.find("Too many authentication failures"), text.npos) << text;
    EXPECT_NE(text.find("IdentitiesOnly yes"), text.npos) << text;
    write_config(far, " IdentityFile " + far.user_key() + "\n IdentitiesOnly yes\n");
    EXPECT_TRUE(start(far).is_up());
}

TEST_P(ssh_login, that_the_host_has_refused_by_the_agent_asks_for_no_passphrase) {
    const test_sshd far;
    const auto other = far.folder() + "/other";
    test_sshd::run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other});
    const key_agent agent(far, other);
    test_sshd::run({"ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", other});
    write_config(far, " IdentityFile " + other + "\n IdentitiesOnly yes\n");
    auto options = options_for(far);
    int asked = 0;
    options.passphrase = [&](const std::string&) {
        ++asked;
        return "open sesame";
    };
    const auto text = text_of_error(
        errc::auth_refused, [&] { (void)test_runtime().spawn_remote_node("far", options); });
    EXPECT_NE(text.find("of the agent"), text.npos) << text;
    EXPECT_EQ(asked, 0);
}

TEST_P(ssh_login, by_a_key_of_the_agent_that_nobody_confirms_names_it_and_says_what_it_waits_for) {
    const test_sshd far;
    test_sshd::run({"ssh-keygen", "-q", "-c", "-P", "", "-C", "by\nhand", "-f", far.user_key()});
    const auto asked = far.folder() + "/asked";
    const auto answer = far.folder() + "/answer";
    test_sshd::run({"mkfifo", asked, answer});
    const places::unique_fd unanswered{::open(answer.c_str(), O_RDWR | O_CLOEXEC)};
    const places::unique_fd asks{::open(asked.c_str(), O_RDWR | O_CLOEXEC)};
    far.put_program("asks", "echo >'" + asked + "'; exec cat '" + answer + "'");
    const key_agent agent(far, far.user_key(), far.bin() + "/asks");
    auto options = options_for(far);
    options.stage_deadline = 2s;
    auto pending = test_runtime().spawn_remote_node_async("far", options);
    pollfd question{asks.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&question, 1, watchdog_ms), 1) << "it has asked nobody";
    const auto text = text_of_error(errc::auth_refused, [&] { (void)pending.get(); });
    EXPECT_NE(text.find("ssh-ed25519 \"by?hand\" of the agent"), text.npos) << text;
    EXPECT_NE(text.find("does it wait for somebody?"), text.npos) << text;
    EXPECT_EQ(text.find("is the host up"), text.npos) << text;
}

TEST_P(ssh_login, by_a_public_key_alone_says_that_the_agent_has_to_have_the_other) {
    const test_sshd far;
    write_config(far, " IdentityFile " + far.user_key() + ".pub\n");
    const auto text = text_of_error(errc::auth_refused, [&] { (void)start(far); });
    EXPECT_NE(text.find(far.user_key() + ".pub: "), text.npos) << text;
    EXPECT_NE(text.find("agent"), text.npos) << text;
    EXPECT_EQ(text.find("chmod"), text.npos) << text;
}

INSTANTIATE_TEST_SUITE_P(by, ssh_login, ::testing::Values(""),
                         [](const auto&) { return std::string("library"); });

}  // namespace
