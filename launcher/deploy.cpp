// SPDX-License-Identifier: Apache-2.0
#include "launcher/deploy.hpp"

#include "launcher/node.hpp"
#include "launcher/spawned.hpp"
#include "launcher/text_parts.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <map>
#include <poll.h>
#include <string_view>
#include <system_error>
#include <unistd.h>

namespace places::launcher {
namespace {

// Libraries that need libraries that need…; beyond this something turns in a circle.
constexpr int loader_rounds_max = 16;
constexpr std::size_t read_bytes = 256 * 1024;

/// What the loader here makes of files.
loader_report loader_report_of(const std::vector<std::string>& paths) {
    std::vector<std::string> words{"ldd"};
    words.insert(words.end(), paths.begin(), paths.end());
    auto process = spawn_program(words);
    process.in.reset();
    process.err.reset();
    std::string text;
    std::array<char, 4096> part;
    for (ssize_t got; (got = ::read(process.out.get(), part.data(), part.size())) != 0;) {
        if (got < 0 && errno != EINTR) break;
        if (got > 0) text.append(part.data(), static_cast<std::size_t>(got));
    }
    (void)reap(process.pid, process.pidfd, -1);
    return parse_loader_report(text);
}

// -- how it gets there --

// A guard that hears nothing for a stage and so long ends, and the copy with it: the connection may
// have been cut without a word. While octets move it hears of it, in between.
constexpr std::chrono::seconds guard_slack{15};
constexpr std::chrono::seconds guard_interval{3};

// How long a try for the lock takes, in the script.
constexpr std::chrono::milliseconds lock_interval{200};

// A disk over there that is slower than this while a copy is checked does not work.
constexpr std::uint64_t slowest_bytes_a_second = 1024 * 1024;

// More often than this nobody sees a bar move.
constexpr std::chrono::milliseconds progress_interval{100};

// What becomes start.<h> comes by this name, which deployed_name() gives no file.
constexpr const char* start_file = ".start";

// $c is the cache, and $h names the host in it: several may share a home. As in the XDG
// specification a path that is not absolute does not count.
constexpr const char* cache_script =
    "case ${XDG_CACHE_HOME-} in /*) c=$XDG_CACHE_HOME/places;; *) c=$HOME/.cache/places;; esac; "
    "h=$(uname -m).$(uname -n); ";
// What is there is run: it must be of nobody else's making.
constexpr const char* is_ours_script =
    "[ -n \"$(find -H \"$c\" -prune -user \"$(id -u)\" ! -perm -020 ! -perm -002 2>/dev/null)\" ]";
// Messages are looked into. Not for what becomes the node, whose own they would be.
constexpr const char* english_script = "LC_ALL=C; export LC_ALL; ";

/// Which error the words of a shell or of its commands are.
errc code_of_words(std::string_view words) {
    const auto has = [&](std::string_view text) { return words.find(text) != words.npos; };
    if (has("No space left") || has("Disk quota exceeded")) return errc::no_space;
    if (has("Permission denied") || has("Operation not permitted") ||
        has("Read-only file system") || has("Not a directory")) {
        return errc::no_permission;
    }
    return errc::ssh_lost;
}

[[noreturn]] void copying_failed(const std::string& what, const far_shell& shell,
                                 const std::string& host_output) {
    auto words = shell.noise();
    if (words.empty()) words = host_output;
    const auto code = code_of_words(words);
    throw error(code, "the host does not take " + what + ": " +
                          (words.empty() ? "it does not say why" : words) +
                          std::string(advice_for(code)));
}

/// As a path for the loader; $c is the cache.
std::string folders_of(const std::vector<bundle_file>& libraries) {
    std::string folders;
    for (const auto& each : libraries) {
        folders += (folders.empty() ? "$c/" : ":$c/") + each.digest;
    }
    return folders;
}

/// Speaks with a script on the remote host that owns a folder for copies under way, checks and
/// renames them, and removes the folder when its input ends, for whatever reason.
class copier {
  public:
    /// Waits while another copies the same `set`, and what it copies grows or is checked.
    /// `directory`: the node's.
    copier(remote_host& far, const std::string& set, const std::string& directory,
           bool show_progress)
        : far_(far),
          shell_(far, guard_script(set, directory, far.clock().limit())),
          show_progress_(show_progress) {
        auto answer = shell_.read_line();
        for (; answer == "waiting"; answer = shell_.read_line()) far_.clock().moved();
        if (!answer.starts_with("folder ")) copying_failed("a copy", shell_, far_.error_output());
        folder_ = answer.substr(7);
    }

    /// Whether something lies there at that very path.
    bool has_at(const std::string& path) {
        far_.clock().begin(errc::ssh_lost, "looking for " + path + " there");
        shell_.say("at - - " + path);
        const auto answer = shell_.read_line();
        if (answer != "yes" && answer != "no") {
            copying_failed("a question for " + path, shell_, far_.error_output());
        }
        return answer == "yes";
    }
    /// A file here that is to be put there.
    bundle_file read(const std::string& path) {
        far_.clock().begin(errc::load_failed, "reading " + path);
        return bundle_file_of(path, [&] {
            far_.clock().moved();
            hold_guard();
        });
    }
    /// `folder`: below the cache.
    void put(const bundle_file& what, const std::string& folder) {
        far_.clock().begin(errc::ssh_lost, "looking for " + what.name + " there");
        shell_.say("has " + folder + " " + what.name);
        if (hear_after(what.bytes) == "yes") return;
        far_.clock().begin(errc::ssh_lost, "copying " + what.name);
        const unique_fd file{::open(what.path.c_str(), O_RDONLY | O_CLOEXEC)};
        if (!file) throw error(errc::load_failed, what.path + ": " + std::strerror(errno));
        const auto path = folder_ + "/" + what.name;
        std::chrono::steady_clock::time_point told{};
        const progress tell = [&](std::uint64_t done) {
            hold_guard();
            if (!show_progress_) return;
            const auto now = std::chrono::steady_clock::now();
            if (done < what.bytes && now - told < progress_interval) return;
            told = now;
            // Nobody reads: the copy does not wait for that.
            pollfd room{STDOUT_FILENO, POLLOUT, 0};
            if (::poll(&room, 1, 0) <= 0) return;
            write_line(std::string(progress_marker) + std::to_string(done) + " " +
                       std::to_string(what.bytes) + " " + what.name);
        };
        // Where this way fails, the other one says why.
        if (!far_.put_file(file.get(), what.bytes, path, tell))
            put_through_shell(file, what, path, tell);
        keep(what, folder);
    }
    void put_text(const std::string& text, const std::string& name, const std::string& folder) {
        const bundle_file what{{}, name, sha256_of(text), text.size()};
        far_.clock().begin(errc::ssh_lost, "copying " + name);
        shell_.say("text " + name);
        shell_.say(text);  // one line
        keep(what, folder);
    }

    /// What the loader there makes of a file that is there. The program is loaded where the login
    /// is, and modules in the node's directory: relative paths in them are from there.
    loader_report report_on(const bundle_file& file, bool is_module,
                            const std::vector<bundle_file>& libraries) {
        const auto folders = folders_of(libraries);
        far_.clock().begin(errc::ssh_lost, "asking for the libraries of " + file.name);
        shell_.say((is_module ? "loads " : "needs ") + file.digest + " " + file.name + " " +
                   folders);
        std::string text;
        for (std::string line; (line = hear_after(file.bytes)) != "done";) {
            if (line.empty()) copying_failed("its loader's words", shell_, far_.error_output());
            if (line.starts_with("ldd ")) text += line.substr(4) + "\n";
        }
        return parse_loader_report(text);
    }

  private:
    static std::string guard_script(const std::string& set, const std::string& directory,
                                    std::chrono::milliseconds stage) {
        const auto silence = std::chrono::ceil<std::chrono::seconds>(stage) + guard_slack;
        return std::string("umask 077; ") + english_script + cache_script +
               "echo; mkdir -p \"$c\" || exit 1; " + is_ours_script +
               " || { echo \"$c: Permission denied: others own it, or may write there\" >&2; "
               "exit 1; }; k=; t=; w=; trap \"exit 1\" HUP INT TERM PIPE; "
               // What makes the copy grow is over before that goes.
               "end() { kill -USR1 $w; wait $w; w=; } 2>/dev/null; "
               "trap \"[ -z \\\"\\$w\\\" ] || end; rm -rf \\\"\\$t\\\" \\\"\\$k\\\"\" EXIT; " +
               lock_script(set, stage) + "t=$(mktemp -d \"$c/.copy." + set +
               ".XXXXXX\") || exit 1; "
               // Of guards that were killed.
               "find \"$c\" -maxdepth 1 \\( -name \".copy.*\" -o -name \".lock.*\" \\) -mmin +1440 "
               "-exec rm -rf {} + "
               "2>/dev/null; "
               "echo \"places-folder $t\"; "
               // read alone has no limit.
               "line() { timeout " +
               std::to_string(silence.count()) +
               " sh -c \"IFS= read -r l && printf %s \\\"\\$l\\\"\"; }; "
               // A slow disk is no silence, here nor to those who see the copy grow. Whoever says
               // so ends with the work, and by itself where the guard is killed; by a signal that
               // the guard has no trap for, since a new subshell may lose one of those.
               "begin() { { s=; trap \"kill \\$s 2>/dev/null; exit\" USR1; while kill -0 $$; do "
               "sleep " +
               busy_interval(stage) +
               " & s=$!; wait $s || sleep 1; s=; printf . >>\"$t/.busy\"; echo places-busy; done "
               "2>/dev/null; } "
               "9>&- & w=$!; }; "
               "while l=$(line); do "
               "verb=${l%% *}; l=${l#* }; a=${l%% *}; l=${l#* }; b=${l%% *}; d=${l#* }; "
               "case $verb in "
               "has) s=; if [ -f \"$c/$a/$b\" ]; then begin; s=$(sha256sum <\"$c/$a/$b\"); end; "
               "fi; "
               "if [ \"${s%% *}\" = \"$a\" ]; then echo places-yes; else echo places-no; fi;; "
               "at) if [ -e \"$d\" ]; then echo places-yes; else echo places-no; fi;; "
               "text) l=$(line) && printf \"%s\" \"$l\" >\"$t/$a\";; "
               "keep) begin; s=$(sha256sum <\"$t/$d\") && s=${s%% *}; "
               "if [ \"$s\" != \"$b\" ]; then r=\"damaged $s\"; "
               "elif n=$d && { [ \"$d\" != " +
               start_file +
               " ] || n=start.$h; } && chmod 700 \"$t/$d\" && "
               "{ sync \"$t/$d\" 2>/dev/null || sync; } && mkdir -p \"$c/$a\" && "
               "mv \"$t/$d\" \"$c/$a/$n\"; "
               "then r=kept; else r=refused; fi; end; echo \"places-$r\";; "
               "needs|loads) begin; eval \"l=\\\"$d\\\"\"; "
               "r=$([ $verb = needs ] || cd -- " +
               shell_word(directory.empty() ? "." : directory) +
               " >/dev/null 2>&1; LD_LIBRARY_PATH=\"$l${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\" "
               "ldd \"$c/$a/$b\" 2>&1); end; "
               "printf \"%s\\n\" \"$r\" | sed \"s/^/places-ldd /\"; echo places-done;; "
               "esac; done";
    }

    /// In seconds: a sixth of a stage, so that who looks for half of one sees it; at most one,
    /// which every sleep can: it may know no parts of one.
    static std::string busy_interval(std::chrono::milliseconds stage) {
        const auto ms = std::clamp<std::chrono::milliseconds::rep>(stage.count() / 6, 1, 1000);
        return ms == 1000 ? "1" : "0." + std::to_string(1000 + ms).substr(1);
    }

    /// Whoever copies holds a lock. Whoever finds it held waits for it, and lets go of it at once
    /// where all is there by then; and goes on without it where nothing has grown for half a stage.
    /// Where there is no flock, or none on that file system, each copies.
    static std::string lock_script(const std::string& set, std::chrono::milliseconds stage) {
        // The one that sees growth counts as the first.
        const auto tries =
            1 + std::max(stage / 2 / lock_interval, std::chrono::milliseconds::rep{1});
        return "l=\"$c/.lock." + set +
               "\"; if command -v flock >/dev/null; then exec 9<>\"$l\"; flock -n 9 2>/dev/null; "
               "s=$?; if [ $s = 0 ]; then k=$l; elif [ $s = 1 ]; then o=; i=0; "
               "while flock -w 0.2 -E 75 9 2>/dev/null; s=$?; [ $s = 75 ] && [ $i -lt " +
               std::to_string(tries) + " ]; do i=$((i + 1)); n=$(ls -AlnR \"$c/.copy." + set +
               "\".* 2>/dev/null); "
               "if [ \"$n\" != \"$o\" ]; then o=$n; i=1; echo places-waiting; fi; done; "
               "echo places-waiting; "
               "if [ $s = 0 ] && [ ! -f \"$c/" +
               set +
               "/start.$h\" ]; then k=$l; else exec 9>&-; fi; "
               "else k=$l; fi; if [ \"$k\" ]; then touch \"$k\"; fi; fi; ";
    }

    void put_through_shell(const unique_fd& file, const bundle_file& what, const std::string& path,
                           const progress& tell) {
        const auto stream = far_.start(
            far_command(english_script + ("cat >" + shell_word(path)) + " && echo places-copied"));
        std::vector<char> buffer(read_bytes);
        std::string words;
        std::uint64_t done = 0;
        const auto listen = [&] {
            bool moved = false;
            for (const int each : {1, 2}) {
                std::array<char, 4096> part;
                const auto got = stream->read(each, part);
                words.append(part.data(), got);
                moved |= got > 0;
            }
            return moved;
        };
        while (done < what.bytes) {
            const auto got =
                ::pread(file.get(), buffer.data(), buffer.size(), static_cast<off_t>(done));
            checked(got, "read a file to copy");
            if (got == 0) break;
            const auto taken = stream->write({buffer.data(), static_cast<std::size_t>(got)});
            done += taken;
            if (taken > 0) {
                far_.clock().moved();
                tell(done);
                continue;
            }
            if (listen()) continue;
            if (stream->has_ended()) break;
            if (!stream->has_new_room()) far_.wait();
        }
        stream->end_input();
        while (true) {
            if (listen()) continue;
            if (stream->has_ended()) break;
            far_.wait();
        }
        if (words.find("places-copied") != words.npos) return;
        std::replace(words.begin(), words.end(), '\n', ' ');
        const auto code = code_of_words(words);
        throw error(code, "the host does not take " + what.name + " (" +
                              std::to_string(what.bytes) + " bytes): " + words +
                              std::string(advice_for(code)));
    }
    void hold_guard() {
        const auto now = std::chrono::steady_clock::now();
        if (now - guarded_ < guard_interval) return;
        guarded_ = now;
        shell_.say("wait");
    }
    /// What it answers to a question for which it looks through so many bytes there. That it is at
    /// it, it says by the way; with a disk that hangs too, so that counts for a while only.
    std::string hear_after(std::uint64_t bytes) {
        const auto until = std::chrono::steady_clock::now() + far_.clock().limit() +
                           std::chrono::seconds(bytes / slowest_bytes_a_second);
        auto answer = shell_.read_line();
        for (; answer == "busy"; answer = shell_.read_line()) {
            if (std::chrono::steady_clock::now() < until) far_.clock().moved();
        }
        return answer;
    }
    void keep(const bundle_file& what, const std::string& folder) {
        far_.clock().begin(errc::ssh_lost, "checking " + what.name + " there");
        shell_.say("keep " + folder + " " + what.digest + " " + what.name);
        const auto answer = hear_after(what.bytes);
        if (answer == "kept") return;
        if (answer.starts_with("damaged ") && answer.size() > 8) {
            throw error(errc::ssh_lost, what.name + " arrived damaged: its SHA-256 is " +
                                            answer.substr(8) + " there and " + what.digest +
                                            " here; has it changed meanwhile?");
        }
        copying_failed(what.name, shell_, far_.error_output());
    }

    remote_host& far_;
    far_shell shell_;
    bool show_progress_;
    std::string folder_;
    std::chrono::steady_clock::time_point guarded_ = std::chrono::steady_clock::now();
};

// For the node alone, which takes it out again.
std::string by_ssh_script() {
    return std::string(by_ssh_variable) + "=yes; export " + by_ssh_variable + "; ";
}

std::string first_script(const std::string& set) {
    return std::string(cache_script) + by_ssh_script() + "echo; s=\"$c/" + set +
           "/start.$h\"; if [ -f \"$s\" ] && " + is_ours_script +
           "; then . \"$s\"; fi; "
           "echo \"places-machine $(uname -m)\"; "
           "l=" +
           shell_word(this_platform().loader) +
           "; if [ -e \"$l\" ]; then echo \"places-loader $l\"; fi; "
           "echo \"places-library $(getconf GNU_LIBC_VERSION 2>/dev/null || "
           "ldd --version 2>&1 | head -n 1)\"; echo places-absent";
}

/// One line of shell, for it is sourced and sent as one: runs the program if all of it is there,
/// else falls through.
std::string start_script(const bundle_file& program, const std::vector<bundle_file>& libraries) {
    std::string script = "p=\"$c/" + program.digest + "/" + program.name + "\"; if [ -x \"$p\" ]";
    for (const auto& each : libraries) {
        script += " && [ -f \"$c/" + each.digest + "/" + each.name + "\" ]";
    }
    script += "; then ";
    if (!libraries.empty()) {
        script += "LD_LIBRARY_PATH=\"" + folders_of(libraries) +
                  "${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\"; export LD_LIBRARY_PATH; ";
    }
    return script + "echo places-starting; exec \"$p\" " + node_argument +
           "; elif [ -f \"$p\" ]; then echo \"places-barred $p\"; fi";
}

bundle_file read_through(const std::string& path, stage_deadline& clock) {
    clock.begin(errc::load_failed, "reading " + path);
    return bundle_file_of(path, [&] { clock.moved(); });
}

/// By its name, which says where its libraries are; where another file has that name by now, or
/// none, as the kernel still has it.
bundle_file this_program(stage_deadline& clock) {
    // Not of "self": a loader that is asked about it is another process.
    const std::filesystem::path running = "/proc/" + std::to_string(::getpid()) + "/exe";
    std::string name = std::filesystem::read_symlink(running);
    std::error_code none;
    if (std::filesystem::equivalent(name, running, none)) return read_through(name, clock);
    auto program = read_through(running, clock);
    constexpr std::string_view mark = " (deleted)";
    if (name.ends_with(mark)) name.resize(name.size() - mark.size());
    program.name = deployed_name(name);
    return program;
}

/// Over there a module is found by its name alone, and so is a library.
void check_names(const bundle& what) {
    std::map<std::string, std::string> paths{{what.program.name, what.program.path}};
    for (const auto& [name, path] : what.libraries) paths.emplace(deployed_name(name), path);
    for (const auto& each : what.modules) {
        const auto& other = paths.emplace(each.name, each.path).first->second;
        std::error_code none;
        if (other == each.path || std::filesystem::equivalent(other, each.path, none)) continue;
        const auto& another = other == what.program.path ? shown(what.program) : other;
        throw error(errc::bad_argument, "the module " + each.path + " and " + another +
                                            " would both be found as " + each.name +
                                            " on another host; rename one of them");
    }
}

/// A library that has been touched and is the same makes another set, whose first start finds that
/// all is there.
std::string set_digest(const bundle& what) {
    std::string text = "places set 2\n" + what.program.digest + " " + what.program.name + "\n";
    for (const auto& each : what.modules) text += each.digest + " " + each.name + "\n";
    for (const auto& [name, path] : what.libraries) {
        if (!is_c_library(name)) text += name + " " + path + " " + facts_of(path) + "\n";
    }
    return sha256_of(text);
}

void check_c_library(const bundle_file& what, const platform& there) {
    const auto why = mismatch(what, there);
    if (!why.empty()) throw error(errc::wrong_architecture, why);
}

constexpr const char* why_by_path =
    "; a library is copied if it is needed by name: link it by -l, or give it a soname";

void copy_all(remote_host& far, const bundle& what, const platform& there, bool show_progress) {
    const auto& [program, modules, here, directory, paths, set] = what;
    far.clock().begin(errc::ssh_lost, "copying " + program.name);
    copier copies(far, set, directory, show_progress);
    for (const auto& [path, needed_by] : paths) {
        if (copies.has_at(path)) continue;
        throw error(errc::load_failed, needed_by + " needs " + path +
                                           " by that path, and the host lacks it" + why_by_path);
    }
    copies.put(program, program.digest);
    for (const auto& each : modules) copies.put(each, each.digest);

    std::vector<bundle_file> libraries = modules;
    for (int round = 0;; ++round) {
        std::vector<std::string> missing;
        std::vector<bundle_file> loaded = modules;
        loaded.push_back(program);
        for (const auto& each : loaded) {
            const auto report = copies.report_on(each, &each != &loaded.back(), libraries);
            if (!report.c_library_too_old.empty()) {
                throw error(errc::wrong_architecture,
                            "the host's C library, " + there.c_library +
                                ", is too old for this program: " + report.c_library_too_old +
                                "; build it there, and name it: "
                                ".program");
            }
            missing.insert(missing.end(), report.missing.begin(), report.missing.end());
        }
        if (missing.empty()) break;
        bool sent = false;
        for (const auto& name : missing) {
            if (name.find('/') != name.npos) {
                throw error(errc::load_failed, "the host lacks " + name +
                                                   ", which is needed by that path" + why_by_path);
            }
            const bool has_gone = std::ranges::any_of(libraries, [&](const bundle_file& each) {
                return each.name == deployed_name(name);
            });
            if (has_gone) continue;
            const auto path = here.find(name);
            if (path == here.end() || round == loader_rounds_max) {
                throw error(errc::load_failed, "the host lacks " + name +
                                                   ", and here it is not found either; "
                                                   "install it there");
            }
            auto library = copies.read(path->second);
            library.name = deployed_name(name);
            check_c_library(library, there);
            copies.put(library, library.digest);
            libraries.insert(libraries.begin(), std::move(library));
            sent = true;
        }
        if (!sent) {
            throw error(errc::load_failed, "the host's loader goes on missing " + missing.front());
        }
    }
    copies.put_text(start_script(program, libraries), start_file, set);
}

struct first_answers {
    platform there{};
    std::string barred{};  ///< a program that is there and may not be run
};
/// Hears the shell out until the node runs. Returns: whether it does.
bool is_starting(far_shell& shell, first_answers& answers) {
    while (true) {
        const auto line = shell.read_line();
        if (line == "starting") return true;
        if (line == "absent") return false;
        if (line.starts_with("machine ")) answers.there.machine = line.substr(8);
        if (line.starts_with("loader ")) answers.there.loader = line.substr(7);
        if (line.starts_with("library ")) {
            answers.there.c_library = c_library_in(line.substr(8));
        }
        if (line.starts_with("barred ")) answers.barred = line.substr(7);
        if (line.empty()) {
            throw error(errc::ssh_lost, "the host has run no command to its end" +
                                            (shell.noise().empty() ? "" : ": " + shell.noise()) +
                                            "; is the login shell a POSIX one?");
        }
    }
}

}  // namespace

bundle gather(const std::vector<std::string>& modules, const std::string& directory,
              stage_deadline& clock) {
    bundle all{this_program(clock), {}, loaded_libraries(), directory, {}, {}};
    for (const auto& each : modules) all.modules.push_back(read_through(each, clock));
    if (!modules.empty()) {
        clock.begin(errc::load_failed, "asking for the libraries of the modules");
        all.libraries.merge(loader_report_of(modules).found);
    }
    const auto add_paths = [&](const bundle_file& file, const std::filesystem::path& loaded_in) {
        for (const auto& path : needed_by_path(file.path)) {
            // What the loader there makes of $ORIGIN and the like, it alone knows.
            if (path.find('$') != path.npos) continue;
            all.paths.emplace((loaded_in / path).string(), shown(file));
        }
    };
    add_paths(all.program, {});
    for (const auto& each : all.modules) add_paths(each, directory);
    check_names(all);
    all.set = set_digest(all);
    clock.end();
    return all;
}

started_stream start_deployed(remote_host& far, const bundle& what, bool show_progress) {
    far.clock().begin(errc::ssh_lost, "looking for the program there");
    first_answers answers;
    for (const bool copied : {false, true}) {
        {
            // Gone before the copy: a host may allow for two sessions on a connection.
            far_shell shell(far, first_script(what.set));
            if (is_starting(shell, answers)) return shell.release();
        }
        if (copied && !answers.barred.empty()) {
            throw error(errc::no_permission,
                        "the host does not run " + answers.barred +
                            ": is its file system mounted noexec? XDG_CACHE_HOME says where to");
        }
        if (copied) {
            throw error(errc::ssh_lost,
                        "what was copied to the host is gone again; is somebody "
                        "clearing its cache?");
        }
        const auto why = mismatch(this_platform(), answers.there);
        if (!why.empty()) throw error(errc::wrong_architecture, why);
        check_c_library(what.program, answers.there);
        for (const auto& each : what.modules) check_c_library(each, answers.there);
        copy_all(far, what, answers.there, show_progress);
        far.clock().begin(errc::ssh_lost, "starting the program there");
    }
    return {};
}

void forget_start(remote_host& far, const bundle& what) {
    far.clock().begin(errc::ssh_lost, "removing what does not start");
    far_shell shell(far, std::string(cache_script) + "rm -f \"$c/" + what.set +
                             "/start.$h\"; echo places-removed");
    (void)shell.read_line();
    far.clock().end();
}

started_stream start_installed(remote_host& far, const std::string& program) {
    far.clock().begin(errc::ssh_lost, "starting the program there");
    const auto word = shell_word(program);
    far_shell shell(far, by_ssh_script() + "echo; if command -v " + word +
                             " >/dev/null 2>&1; then echo "
                             "places-starting; exec " +
                             word + " " + node_argument + "; fi; echo places-absent");
    first_answers ignored;
    if (is_starting(shell, ignored)) return shell.release();
    throw error(errc::program_not_found, "there is no program " + program +
                                             " on the host that may be run; without .program, "
                                             "this one is copied there");
}

}  // namespace places::launcher
