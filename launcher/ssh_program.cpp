// SPDX-License-Identifier: Apache-2.0
#include "launcher/ssh_program.hpp"

#include "launcher/text_parts.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sstream>
#include <sys/socket.h>
#include <unistd.h>

namespace places::launcher {
namespace {

constexpr std::size_t output_bytes_max = 4 * 1024;
constexpr std::string_view host_key_marker = "places-host-key HOSTNAME ";
constexpr int failed_status = 255;  // of ssh itself, not of the remote command
constexpr int end_wait_ms = 200;

void make_non_blocking(int fd) { checked(::fcntl(fd, F_SETFL, O_NONBLOCK), "fcntl"); }

/// Whether it is one address, and no name that may stand for several.
bool is_address(const std::string& host) {
    in_addr ignored{};
    return host.find(':') != host.npos || ::inet_aton(host.c_str(), &ignored) != 0;
}

/// Whether no route leads to the address that it has tried last.
bool lacks_route(std::string_view words) noexcept {
    return words.find("No route to host") != words.npos ||
           words.find("Network is unreachable") != words.npos;
}

class ssh_program;

class program_stream final : public far_stream {
  public:
    program_stream(ssh_program& owner, spawned process)
        : owner_(owner),
          process_(std::move(process)) {
        for (const auto* each : {&process_.in, &process_.out, &process_.err}) {
            make_non_blocking(each->get());
        }
    }
    ~program_stream() override;
    program_stream(const program_stream&) = delete;
    program_stream& operator=(const program_stream&) = delete;

    std::size_t write(std::string_view octets) override {
        if (!process_.in) return octets.size();
        const without_sigpipe guard;
        const auto taken = ::write(process_.in.get(), octets.data(), octets.size());
        if (taken >= 0) return static_cast<std::size_t>(taken);
        if (errno == EAGAIN || errno == EINTR) {
            is_full_ = true;
            return 0;
        }
        process_.in.reset();
        return octets.size();
    }
    void end_input() override { process_.in.reset(); }
    void let_go() override {
        if (!status_) ::kill(-process_.pid, SIGTERM);
    }
    std::size_t read(int stream, std::span<char> into) override;
    void listen_to(int stream, bool is_news) override { (stream == 1 ? out_ : err_) = is_news; }
    bool has_ended() override;
    bool has_answered() const noexcept { return !process_.out; }
    bool has_exited() noexcept {
        if (!status_) status_ = launcher::reap(process_);
        return status_.has_value();
    }
    std::optional<exit_status> status() override { return status_; }

    /// Whoever has more to write does so at any news, and is told again whether there is room.
    void look() noexcept { is_full_ = false; }
    void add_interests(std::vector<pollfd>& to) const {
        if (process_.in && is_full_) to.push_back({process_.in.get(), POLLOUT, 0});
        if (process_.out && out_) to.push_back({process_.out.get(), POLLIN, 0});
        if (process_.err && err_) to.push_back({process_.err.get(), POLLIN, 0});
        if (!status_) to.push_back({process_.pidfd.get(), POLLIN, 0});
    }

  private:
    /// Whether octets are there; an end that others may still keep open is nothing to wait for.
    bool has_unread() const noexcept;

    ssh_program& owner_;
    spawned process_;
    std::optional<exit_status> status_;
    bool is_in_ = false;  // ssh itself writes nothing to standard output
    bool out_ = true;     // listened to
    bool err_ = true;
    bool is_full_ = false;  // the last write took nothing
};

class ssh_program final : public remote_host {
  public:
    ssh_program(ssh_program_settings settings, stage_deadline& clock)
        : remote_host(clock),
          settings_(std::move(settings)) {}

    /// Sees to it that a changed key is refused. Throws: error.
    void settle_checking();

    std::unique_ptr<far_stream> start(const std::string& command) override {
        auto argv = arguments();
        argv.push_back(command);
        return keep(spawn_program(argv));
    }
    std::unique_ptr<far_stream> connect(const std::string& to, std::uint16_t port) override {
        return keep(spawn_program(arguments({"-W", "[" + to + "]:" + std::to_string(port)})));
    }
    bool put_file(int, std::uint64_t, const std::string&, const progress&) override {
        return false;
    }
    std::vector<pollfd> interests() override {
        std::vector<pollfd> all;
        for (const auto* each : streams_) each->add_interests(all);
        return all;
    }
    void look() override {
        for (auto* each : streams_) each->look();
    }
    std::string address() const override { return {}; }
    std::string error_output() const override { return error_output_; }

    void receive(std::string_view words) {
        error_output_ += words;
        if (error_output_.size() > output_bytes_max)
            error_output_.erase(0, error_output_.size() - output_bytes_max);
    }
    /// A command has run there.
    void note_in(program_stream* stream) noexcept {
        if (std::ranges::find(streams_, stream) != streams_.end()) has_been_in_ = true;
    }
    void forget(program_stream* stream) { std::erase(streams_, stream); }
    /// `is_in`: what the stream's command says is not ssh's.
    [[noreturn]] void lost(bool is_in) {
        std::string words;
        for (const char c : error_output_) words += c == '\n' || c == '\r' ? ' ' : c;
        auto code = is_in ? errc::ssh_lost : code_of_ssh_words(words);
        const bool may_have_others = !has_one_address_ && !has_been_in_;
        if (code == errc::host_unreachable && may_have_others && lacks_route(words)) {
            if (const auto refused = ask_refusal(); !refused.empty()) {
                code = errc::port_refused;
                words += "; " + refused;
            }
        }
        auto advice = std::string(advice_for(code));
        if (code == errc::host_key_unknown) {
            // Of a host that it does not know ssh says no more than that.
            const auto key = reported_host_key(ask_again(host_key_arguments()));
            advice = key.empty() ? advice + ": " + ssh_by_hand(settings_) : key;
        }
        throw error(code, settings_.command + " " + settings_.host + ": " +
                              (words.empty() ? "it has ended without a word" : words) + advice);
    }

  private:
    int deadline_s() {
        return static_cast<int>(std::chrono::ceil<std::chrono::seconds>(clock().limit()).count());
    }
    std::vector<std::string> arguments(const std::vector<std::string>& options = {}) {
        return ssh_arguments(settings_, deadline_s(), options);
    }
    /// What the configuration says; empty: the command does not tell.
    struct in_force {
        std::string checking;   ///< StrictHostKeyChecking
        std::string host_name;  ///< HostName
    };
    in_force ask_in_force();
    /// Of a host with several addresses ssh tells what the last one led to, which may be one that
    /// no route leads to. Returns: its words of another one, where nobody listens; or empty.
    std::string ask_refusal();
    /// What the command says to standard error with these options, which make it tell more of what
    /// has failed. Empty: that cannot be had.
    std::string ask_again(const std::vector<std::string>& options);
    struct output {
        std::string out;
        std::string err;
    };
    /// Runs the command with these options until it ends its standard output or exits: what it has
    /// started may keep the other stream, or both. Throws: error, launch_unwanted.
    output ask(const std::vector<std::string>& options);
    std::unique_ptr<far_stream> keep(spawned process) {
        auto stream = std::make_unique<program_stream>(*this, std::move(process));
        streams_.push_back(stream.get());
        return stream;
    }

    ssh_program_settings settings_;
    bool has_one_address_ = false;  // of the host
    bool has_been_in_ = false;      // by any stream that was kept
    std::vector<program_stream*> streams_;
    std::string error_output_;
};

program_stream::~program_stream() {
    owner_.forget(this);
    if (status_) return;
    process_.in.reset();
    process_.out.reset();
    process_.err.reset();
    if (launcher::reap(process_.pid, process_.pidfd, end_wait_ms)) return;
    // Its group: ssh has started another ssh for a jump host, which an end by SIGKILL leaves. Until
    // it is reaped the group's number is nobody else's.
    ::kill(-process_.pid, SIGTERM);
    pollfd life{process_.pidfd.get(), POLLIN, 0};
    (void)::poll(&life, 1, end_wait_ms);
    ::kill(-process_.pid, SIGKILL);
    (void)launcher::reap(process_.pid, process_.pidfd, -1);
}

std::size_t program_stream::read(int stream, std::span<char> into) {
    auto& from = stream == 1 ? process_.out : process_.err;
    if (!from) return 0;
    const auto got = ::read(from.get(), into.data(), into.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got <= 0) {
        from.reset();
        return 0;
    }
    const std::string_view words(into.data(), static_cast<std::size_t>(got));
    if (stream == 1) {
        is_in_ = true;
        owner_.note_in(this);
    }
    if (stream == 2) owner_.receive(words);
    return words.size();
}

bool program_stream::has_unread() const noexcept {
    std::array<pollfd, 2> all{pollfd{process_.out.get(), POLLIN, 0},
                              pollfd{process_.err.get(), POLLIN, 0}};
    if (::poll(all.data(), all.size(), 0) <= 0) return false;
    return std::ranges::any_of(all, [](const auto& each) { return each.revents & POLLIN; });
}

bool program_stream::has_ended() {
    if (!has_exited() || has_unread()) return false;
    if (!status_->signalled && status_->value == failed_status) owner_.lost(is_in_);
    return true;
}

void ssh_program::settle_checking() {
    const auto is_off = [](std::string_view how) {
        return how == "no" || how == "off" || how == "false";
    };
    clock().begin(errc::ssh_lost, "asking what " + settings_.command + " has in force");
    // Told, whatever it is: a `Match exec` may find something else by the time of the login.
    const auto all = ask_in_force();
    has_one_address_ = is_address(all.host_name.empty() ? settings_.host : all.host_name);
    const auto& how = all.checking;
    settings_.host_key_checking = is_off(how) ? "accept-new" : how.empty() ? "yes" : how;
    if (!is_off(how) || !is_off(ask_in_force().checking)) return;
    throw error(errc::bad_argument,
                settings_.command +
                    ": with this StrictHostKeyChecking it logs in where a host's key has changed; "
                    "accept-new takes unknown hosts alone");
}

ssh_program::in_force ssh_program::ask_in_force() {
    std::istringstream lines(ask({"-G"}).out);
    in_force all;
    std::string name;
    std::string value;
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        if (!(words >> name >> value)) continue;
        if (name == "stricthostkeychecking") all.checking = value;
        if (name == "hostname") all.host_name = value;
    }
    return all;
}

std::string ssh_program::ask_refusal() {
    std::istringstream lines(ask_again({"-v"}));
    for (std::string line; std::getline(lines, line);) {
        const auto at = line.find("connect to address ");
        if (at == line.npos || line.find("Connection refused") == line.npos) continue;
        return line.substr(at, line.find_last_not_of("\r\n") + 1 - at);
    }
    return {};
}

std::string ssh_program::ask_again(const std::vector<std::string>& options) {
    try {
        clock().moved();
        return ask(options).err;
    } catch (const std::exception&) {
        return {};
    }
}

ssh_program::output ssh_program::ask(const std::vector<std::string>& options) {
    auto argv = arguments(options);
    argv.push_back("exit");  // a command, as every other time
    auto before = std::exchange(error_output_, {});
    std::string out;
    program_stream asked(*this, spawn_program(argv));
    asked.end_input();
    std::array<char, 4096> buffer;
    std::size_t error_bytes = 0;
    const auto too_much = [&] {
        throw error(errc::protocol,
                    settings_.command + " " + settings_.host + ": it has printed more than " +
                        std::to_string(report_bytes_max) +
                        " bytes where a report of a few KiB was due; run " + "it with " +
                        options.front() + " by hand to see what it is");
    };
    try {
        for (bool is_over = false; !is_over;) {
            std::vector<pollfd> news;
            asked.add_interests(news);
            clock().wait(news);
            is_over = asked.has_exited();
            while (const auto got = asked.read(1, buffer)) {
                out.append(buffer.data(), got);
                if (out.size() > report_bytes_max) too_much();
            }
            is_over = is_over || asked.has_answered();
            while (const auto got = asked.read(2, buffer)) {
                error_bytes += got;
                if (error_bytes > report_bytes_max) too_much();
            }
        }
    } catch (const error& e) {
        const auto words = std::exchange(error_output_, std::move(before));
        throw error(e.code(), words.empty() ? e.what() : e.what() + ("; it has said: " + words));
    }
    return {std::move(out), std::exchange(error_output_, std::move(before))};
}

std::string known_hosts_option(const ssh_program_settings& settings) {
    std::string files;
    for (const auto& each : settings.known_hosts_files) {
        files += (files.empty() ? "\"" : " \"") + each + "\"";
    }
    return "UserKnownHostsFile=" + files;
}

/// As it is, where a shell takes it for itself.
std::string readable_shell_word(const std::string& text) {
    const auto is_plain = [](unsigned char c) {
        return std::isalnum(c) || std::strchr("@%+=:,./_-", c);
    };
    return !text.empty() && std::ranges::all_of(text, is_plain) ? text : shell_word(text);
}

}  // namespace

std::unique_ptr<remote_host> open_ssh_program(ssh_program_settings settings,
                                              stage_deadline& clock) {
    auto program = std::make_unique<ssh_program>(std::move(settings), clock);
    program->settle_checking();
    return program;
}

std::vector<std::string> ssh_arguments(const ssh_program_settings& settings, int deadline_s,
                                       const std::vector<std::string>& options) {
    auto argv = quoted_words_of(settings.command);
    if (argv.empty()) throw error(errc::bad_argument, "the ssh command is empty");
    const auto add = [&](std::initializer_list<std::string> words) {
        argv.insert(argv.end(), words);
    };
    const auto option = [&](const std::string& text) { add({"-o", text}); };
    add({"-T"});
    option("BatchMode=yes");
    option("LogLevel=ERROR");  // less does not say what is wrong, more says what is not
    option("ConnectTimeout=" + std::to_string(deadline_s));
    // A cut without a word ends it after three seconds.
    option("ServerAliveInterval=1");
    option("ServerAliveCountMax=3");
    option("ForwardX11=no");
    option("ForwardAgent=no");
    // A connection of somebody else's would end with theirs, and the command is ours.
    option("ControlPath=none");
    option("ClearAllForwardings=yes");
    option("RemoteCommand=none");
    // A changed key is refused: at this host, and whatever a name server says of it.
    option("NoHostAuthenticationForLocalhost=no");
    option("VerifyHostKeyDNS=no");
    if (!settings.config.empty()) add({"-F", settings.config});
    if (settings.port != 0) add({"-p", std::to_string(settings.port)});
    if (!settings.user.empty()) add({"-l", settings.user});
    // These are tried first; those of its configuration ssh adds whatever is said here.
    if (!settings.identity_files.empty()) option("IdentitiesOnly=yes");
    for (const auto& each : settings.identity_files) add({"-i", each});
    if (!settings.known_hosts_files.empty()) option(known_hosts_option(settings));
    if (!settings.host_key_checking.empty()) {
        option("StrictHostKeyChecking=" + settings.host_key_checking);
    }
    argv.insert(argv.end(), options.begin(), options.end());
    add({"--", settings.host});
    return argv;
}

std::string ssh_by_hand(const ssh_program_settings& settings) {
    auto line = settings.command;
    const auto add = [&](const std::string& word) {
        line.append(1, ' ').append(readable_shell_word(word));
    };
    if (!settings.config.empty()) {
        add("-F");
        add(settings.config);
    }
    if (settings.port != 0) {
        add("-p");
        add(std::to_string(settings.port));
    }
    if (!settings.known_hosts_files.empty()) {
        add("-o");
        add(known_hosts_option(settings));
    }
    add((settings.user.empty() ? "" : settings.user + "@") + settings.host);
    return line;
}

std::vector<std::string> host_key_arguments() {
    return {"-o",
            "KnownHostsCommand=/bin/sh -c 'echo \"places-host-key $*\" >&2' sh %I %f %H %t %K"};
}

std::string reported_host_key(std::string_view words) {
    const auto at = words.find(host_key_marker);
    if (at == words.npos) return {};
    words.remove_prefix(at + host_key_marker.size());
    std::istringstream line(std::string(words.substr(0, words.find_first_of("\r\n"))));
    std::string fingerprint;
    std::string host;
    std::string kind;
    std::string key;
    if (!(line >> fingerprint >> host >> kind >> key)) return {};
    return "; it shows the " + kind + " key " + fingerprint +
           ", which is in no known_hosts file; if the fingerprint is right, add this line: " +
           host + " " + kind + " " + key;
}

errc code_of_ssh_words(std::string_view words) noexcept {
    const auto has = [&](std::string_view text) { return words.find(text) != words.npos; };
    if (has("IDENTIFICATION HAS CHANGED") || has("REVOKED HOST KEY")) return errc::host_key_changed;
    if (has("Host key verification failed")) return errc::host_key_unknown;
    if (has("Permission denied (") && has("UNPROTECTED PRIVATE KEY FILE")) {
        return errc::bad_key_file;
    }
    if (has("Permission denied (") || has("Too many authentication failures")) {
        return errc::auth_refused;
    }
    if (has("Connection refused")) return errc::port_refused;
    if (lacks_route(words) || has("Could not resolve hostname") || has("Connection timed out") ||
        has("Operation timed out")) {
        return errc::host_unreachable;
    }
    return errc::ssh_lost;
}

}  // namespace places::launcher
