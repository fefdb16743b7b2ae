// SPDX-License-Identifier: Apache-2.0
#include "launcher/ssh.hpp"

#include "launcher/exit_signal.hpp"
#include "launcher/known_hosts.hpp"
#include "launcher/ssh_key.hpp"
#include "net/keys.hpp"
#include "net/output.hpp"

#include <places/shm/unique_fd.hpp>

#include <libssh2.h>
#include <libssh2_sftp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <netdb.h>
#include <netinet/tcp.h>
#include <set>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace places::launcher {
namespace {

// Name server and host: with a signal's delay and the start of two processes it is to be known in
// five seconds that nobody is there, unless more is allowed for than by default. TCP has asked
// three times by then.
constexpr std::chrono::milliseconds connect_limit{4000};
// How long a cut without a word may go unnoticed.
constexpr int silence_s = 3;
constexpr std::size_t copy_bytes = 256 * 1024;
// sshd counts a session until it has reaped what ran in it, and says nothing of that. A refused one
// is asked for so often, within the stage.
constexpr int session_tries = 6;
constexpr std::chrono::milliseconds session_interval{200};
// From this version on (1.11) RSA keys sign with SHA-2, which current servers ask for.
constexpr int rsa_sha2_version = 0x010b00;

struct session_deleter {
    void operator()(LIBSSH2_SESSION* s) const noexcept {
        // What is not closed ends with the socket; nothing is waited for.
        ::libssh2_session_free(s);
    }
};
struct agent_deleter {
    void operator()(LIBSSH2_AGENT* a) const noexcept {
        ::libssh2_agent_disconnect(a);
        ::libssh2_agent_free(a);
    }
};
using agent_pointer = std::unique_ptr<LIBSSH2_AGENT, agent_deleter>;
struct address_deleter {
    void operator()(addrinfo* a) const noexcept { ::freeaddrinfo(a); }
};

/// How a host may sign with a key of this kind, the best first.
std::vector<std::string> methods_of(const std::string& kind) {
    if (kind == "ssh-rsa") return {"rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"};
    return {kind};
}

std::string where(const ssh_settings& s) { return s.host_name + ":" + std::to_string(s.port); }

class ssh_session final : public remote_host {
  public:
    ssh_session(const ssh_settings& settings, stage_deadline& clock);

    void connect_socket();
    void shake_hands(const known_hosts& known);
    void check_host(const known_hosts& known);
    void log_in(const ask_passphrase& ask);

    std::unique_ptr<far_stream> start(const std::string& command) override;
    std::unique_ptr<far_stream> connect(const std::string& to, std::uint16_t port) override;
    bool put_file(int from, std::uint64_t size, const std::string& path,
                  const progress& on_progress) override;
    std::vector<pollfd> interests() override;
    void look() override {}
    std::string address() const override { return address_; }
    std::string error_output() const override { return disconnect_; }
    void keep_alive() override;
    std::string shown_host() const { return where(settings_); }

    /// Calls until the call would no longer block.
    template <class Call>
    auto finish(Call call) {
        while (true) {
            const auto result = call();
            if (result != LIBSSH2_ERROR_EAGAIN) return result;
            wait();
        }
    }
    /// The same for calls that return a pointer.
    template <class Call>
    auto finish_pointer(Call call) {
        while (true) {
            auto* const result = call();
            if (result || ::libssh2_session_last_errno(raw()) != LIBSSH2_ERROR_EAGAIN) {
                return result;
            }
            wait();
        }
    }
    /// A packet that is half out must be finished before anything else is sent: libssh2 takes no
    /// other one meanwhile.
    template <class Call>
    auto flush(Call call) {
        while (true) {
            const auto result = call();
            if (result != LIBSSH2_ERROR_EAGAIN ||
                !(::libssh2_session_block_directions(raw()) & LIBSSH2_SESSION_BLOCK_OUTBOUND)) {
                return result;
            }
            if (!clock().wait_for_room(socket_.get())) {
                disconnect_ =
                    "it has taken nothing for " + std::to_string(clock().limit().count()) + " ms";
                lost("sending");
            }
        }
    }

    LIBSSH2_SESSION* raw() const noexcept { return session_.get(); }
    [[noreturn]] void lost(const std::string& doing);
    /// Whether the connection has gone, of which libssh2 does not tell with every code.
    bool is_cut() const noexcept;
    /// For destructors: what fails here has ended the connection, as whoever uses it next hears.
    void close_later(LIBSSH2_CHANNEL* channel) noexcept {
        try {
            closing_.push_back(channel);
            close_some();
        } catch (...) {
        }
    }
    /// Frees what close_later() could not.
    void close_some();

  private:
    int try_address(const addrinfo& to, std::size_t addresses_left);
    LIBSSH2_CHANNEL* open_session();
    std::string last_error() const;
    bool knows_method(const std::string& method) const;
    void begin_login(errc code, const std::string& how);
    agent_pointer ask_agent();
    bool try_agent(LIBSSH2_AGENT* agent, bool named);
    bool try_key(const std::string& file, const ask_passphrase& ask);
    [[noreturn]] void refuse_auth(const std::string& methods);
    bool put_file(LIBSSH2_SFTP* sftp, int from, std::uint64_t size, const std::string& path,
                  const progress& on_progress);

    const ssh_settings& settings_;
    unique_fd socket_;
    std::unique_ptr<LIBSSH2_SESSION, session_deleter> session_;
    std::string address_;
    std::string disconnect_;
    std::set<std::string> named_;    // by the files: public halves
    std::set<std::string> refused_;  // by the host
    std::string tried_;              // for the error
    bool tried_rsa_ = false;
    bool tried_other_ = false;
    bool has_open_ = false;  // a key that others may read, and that is not tried for that
    bool has_had_session_ = false;
    std::vector<LIBSSH2_CHANNEL*> closing_;
};

class ssh_channel final : public far_stream {
  public:
    ssh_channel(ssh_session& session, LIBSSH2_CHANNEL* channel)
        : session_(session),
          channel_(channel) {}
    ~ssh_channel() override { session_.close_later(channel_); }
    ssh_channel(const ssh_channel&) = delete;
    ssh_channel& operator=(const ssh_channel&) = delete;

    std::size_t write(std::string_view octets) override {
        const auto taken = session_.flush(
            [&] { return ::libssh2_channel_write(channel_, octets.data(), octets.size()); });
        had_window_ = ::libssh2_channel_window_write(channel_) > 0;
        if (taken == LIBSSH2_ERROR_EAGAIN) return 0;
        // What the other side no longer reads is its matter; that it ended, has_ended() tells.
        if (taken == LIBSSH2_ERROR_CHANNEL_CLOSED || taken == LIBSSH2_ERROR_CHANNEL_EOF_SENT) {
            return octets.size();
        }
        if (taken < 0) session_.lost("writing");
        return static_cast<std::size_t>(taken);
    }
    bool has_new_room() override {
        return !had_window_ && ::libssh2_channel_window_write(channel_) > 0;
    }
    void end_input() override {
        (void)session_.flush([&] { return ::libssh2_channel_send_eof(channel_); });
    }
    std::size_t read(int stream, std::span<char> into) override {
        session_.close_some();
        const auto got = session_.flush([&] {
            return ::libssh2_channel_read_ex(channel_, stream == 2 ? SSH_EXTENDED_DATA_STDERR : 0,
                                             into.data(), into.size());
        });
        if (got == LIBSSH2_ERROR_EAGAIN) return 0;
        if (got == LIBSSH2_ERROR_CHANNEL_CLOSED) return 0;
        if (got < 0) session_.lost("reading");
        return static_cast<std::size_t>(got);
    }
    bool has_more(int stream) override {
        return ::libssh2_poll_channel_read(channel_, stream == 2 ? 1 : 0) > 0;
    }
    bool has_ended() override {
        if (::libssh2_channel_eof(channel_) != 1) return false;
        const int closed = ::libssh2_channel_wait_closed(channel_);
        if (closed != 0 && closed != LIBSSH2_ERROR_EAGAIN) session_.lost("closing");
        return closed == 0;
    }
    std::optional<exit_status> status() override {
        char* name = nullptr;
        std::size_t size = 0;
        ::libssh2_channel_get_exit_signal(channel_, &name, &size, nullptr, nullptr, nullptr,
                                          nullptr);
        if (name) {
            const std::string signal(name, size);
            ::libssh2_free(session_.raw(), name);
            const auto number = ending_signal(signal);
            if (number) return exit_status{true, *number};
            net::print_line("ssh", session_.shown_host() +
                                       " says that its command has ended by signal \"" +
                                       net::printable(signal) + "\", by which no process ends");
            return std::nullopt;
        }
        return exit_status{false, ::libssh2_channel_get_exit_status(channel_)};
    }

  private:
    ssh_session& session_;
    LIBSSH2_CHANNEL* channel_;
    bool had_window_ = true;  // after the last write
};

// -- connecting --

ssh_session::ssh_session(const ssh_settings& settings, stage_deadline& clock)
    : remote_host(clock),
      settings_(settings) {
    if (::libssh2_init(0) != 0) throw error(errc::start_failed, "libssh2 does not start");
    session_.reset(::libssh2_session_init_ex(nullptr, nullptr, nullptr, this));
    if (!session_) throw error(errc::start_failed, "libssh2 has no memory for a session");
    ::libssh2_session_set_blocking(raw(), 0);
    const auto on_disconnect = +[](LIBSSH2_SESSION*, int, const char* message, int size,
                                   const char*, int, void** abstract) {
        auto* self = static_cast<ssh_session*>(*abstract);
        self->disconnect_.assign(message, static_cast<std::size_t>(std::max(size, 0)));
    };
    ::libssh2_session_callback_set(raw(), LIBSSH2_CALLBACK_DISCONNECT,
                                   reinterpret_cast<void*>(on_disconnect));
}

// Of an address that has not answered in its part of the stage.
constexpr int too_late = -1;

/// Of two addresses' errors. Those without a route come last, and tell nothing of the others.
bool is_more_specific(int cause, int than) {
    const auto weight = [](int each) {
        return each == ECONNREFUSED ? 2 : each == ETIMEDOUT ? 1 : 0;
    };
    return weight(cause) > weight(than);
}

void ssh_session::connect_socket() {
    clock().begin(errc::host_unreachable, "asking for the address of " + settings_.host_name,
                  connect_limit);
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int failed = ::getaddrinfo(settings_.host_name.c_str(),
                                     std::to_string(settings_.port).c_str(), &hints, &found);
    if (failed) {
        throw error(errc::host_unreachable,
                    where(settings_) + ": that name leads nowhere: " + ::gai_strerror(failed) +
                        "; is it spelt right, or an alias of another "
                        "SSH configuration?");
    }
    const std::unique_ptr<addrinfo, address_deleter> list(found);
    clock().go_on("connecting to " + where(settings_));
    int cause = 0;
    std::string there;
    bool is_late = false;
    std::size_t addresses_left = 0;
    for (const auto* each = found; each; each = each->ai_next) ++addresses_left;
    for (const auto* each = found; each; each = each->ai_next, --addresses_left) {
        std::array<char, NI_MAXHOST> text{};
        ::getnameinfo(each->ai_addr, each->ai_addrlen, text.data(), text.size(), nullptr, 0,
                      NI_NUMERICHOST);
        address_ = text.data();
        const int outcome = try_address(*each, addresses_left);
        if (outcome == 0) {
            const int on = 1;
            ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            return;
        }
        is_late = outcome == too_late;
        const int how = is_late ? ETIMEDOUT : outcome;
        if (there.empty() || is_more_specific(how, cause)) {
            cause = how;
            there = address_;
        }
    }
    if (is_late && cause == ETIMEDOUT) clock().wait({});  // which says so
    const auto text = where(settings_) + (there == settings_.host_name ? "" : " (" + there + ")") +
                      ": " + std::strerror(cause);
    const auto code = cause == ECONNREFUSED ? errc::port_refused : errc::host_unreachable;
    throw error(code, text + std::string(advice_for(code)));
}

/// Returns: 0, an errno, or too_late.
int ssh_session::try_address(const addrinfo& to, std::size_t addresses_left) {
    socket_ = unique_fd{::socket(to.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!socket_) return errno;
    if (::connect(socket_.get(), to.ai_addr, to.ai_addrlen) == 0) return 0;
    if (errno != EINPROGRESS) return errno;
    std::array<pollfd, 1> done{pollfd{socket_.get(), POLLOUT, 0}};
    // One that leads nowhere leaves time for the others.
    if (!clock().wait_part(done, addresses_left)) return too_late;
    int cause = 0;
    socklen_t size = sizeof cause;
    ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &cause, &size);
    return cause;
}

void ssh_session::shake_hands(const known_hosts& known) {
    clock().begin(errc::ssh_lost, "agreeing on a key with " + where(settings_));
    // The kinds that are known go first: a host has several keys, and shows the first we like.
    auto kinds = known.kinds();
    for (const char* each : {"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
                             "ecdsa-sha2-nistp521", "ssh-rsa"}) {
        if (std::ranges::find(kinds, each) == kinds.end()) kinds.push_back(each);
    }
    std::string list;
    for (const auto& kind : kinds) {
        for (const auto& each : methods_of(kind)) {
            if (knows_method(each)) list += (list.empty() ? "" : ",") + each;
        }
    }
    ::libssh2_session_method_pref(raw(), LIBSSH2_METHOD_HOSTKEY, list.c_str());
    const int failed = finish([&] { return ::libssh2_session_handshake(raw(), socket_.get()); });
    // Where the methods are what fails, the server may have hung up for that as well.
    const bool has_failed_later = failed == LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE;
    if (failed == LIBSSH2_ERROR_KEX_FAILURE || failed == LIBSSH2_ERROR_METHOD_NONE ||
        (has_failed_later && !is_cut())) {
        throw error(errc::ssh_lost, where(settings_) +
                                        ": the SSH library and this server have no method in "
                                        "common: " +
                                        last_error() + "; .ssh_command = \"ssh\" has more");
    }
    if (failed) lost("agreeing on a key");
}

void ssh_session::check_host(const known_hosts& known) {
    std::size_t size = 0;
    int type = 0;
    const char* octets = ::libssh2_session_hostkey(raw(), &size, &type);
    if (!octets) lost("showing the host's key");
    const std::string key(octets, size);
    const auto line = known_hosts_line(settings_.host_name, settings_.port, key);
    const auto shown = kind_of_key(key) + " key " + fingerprint_of(key);
    const auto kind = kind_of_key(key);
    using verdict = known_hosts::verdict;
    using checking = ssh_settings::checking;
    switch (known.check(key)) {
        case verdict::known: return;
        case verdict::revoked:
            throw error(errc::host_key_changed, where(settings_) + " shows the " + shown +
                                                    ", which is revoked in known_hosts; ask "
                                                    "whoever runs it");
        case verdict::changed:
            throw error(errc::host_key_changed,
                        where(settings_) + " shows the " + shown + ", not the one in " +
                            known.where(kind) +
                            ": somebody may be in between; if the host has a new key, replace "
                            "that line by: " +
                            line);
        case verdict::unknown: break;
    }
    // Those that are known were asked for first: whoever shows another kind has none of them.
    const auto known_kinds = known.kinds();
    const auto asked = std::ranges::find_if(
        known_kinds, [&](const auto& each) { return knows_method(methods_of(each).front()); });
    if (asked != known_kinds.end()) {
        throw error(errc::host_key_changed,
                    where(settings_) + " shows the " + shown + ", and not the key of " +
                        known.where(*asked) +
                        ": somebody may be in between; if the host has this one as well, add this "
                        "line: " +
                        line);
    }
    // It may have that one too; nobody has asked.
    if (!known_kinds.empty()) {
        throw error(errc::host_key_unknown,
                    where(settings_) + " shows the " + shown + ", and what is known of it is the " +
                        known_kinds.front() + " key of " + known.where(known_kinds.front()) +
                        ", which libssh2 " + ::libssh2_version(0) +
                        " cannot have current servers show; .ssh_command = \"ssh\" can, or if the "
                        "fingerprint is right, add this line: " +
                        line);
    }
    const auto& files = settings_.known_hosts_files;
    // As in ssh: without a file that it could be added to, it stays unknown at every start.
    const auto strict = files.empty() ? checking::refuse : settings_.strict;
    if (strict == checking::off) return;
    std::string not_added;
    if (strict == checking::accept_new) {
        try {
            add_known_host(files.front(), line, settings_.ssh_folder);
            return;
        } catch (const std::system_error& e) {
            not_added = std::string("; to add it has failed: ") + e.what();
        }
    }
    throw error(errc::host_key_unknown,
                where(settings_) + " shows the " + shown + ", which is in no known_hosts file (" +
                    (files.empty() ? "UserKnownHostsFile none" : files.front() + "…") + ")" +
                    not_added + "; if the fingerprint is right, add this line: " + line);
}

// -- logging in --

void ssh_session::log_in(const ask_passphrase& ask) {
    begin_login(errc::ssh_lost, "");
    const char* list = finish_pointer([&] {
        return ::libssh2_userauth_list(raw(), settings_.user.c_str(),
                                       static_cast<unsigned>(settings_.user.size()));
    });
    if (!list) {
        if (::libssh2_userauth_authenticated(raw())) return;  // it asks for nothing
        lost("logging in");
    }
    const std::string methods = list;
    if (methods.find("publickey") == methods.npos) refuse_auth(methods);
    for (const auto& file : settings_.identity_files) named_.insert(public_key_of(file));
    const auto agent = ask_agent();
    const bool takes_others = !settings_.identities_only;
    if (try_agent(agent.get(), true)) return;
    if (takes_others && !settings_.files_first && try_agent(agent.get(), false)) return;
    for (const auto& file : settings_.identity_files) {
        if (try_key(file, ask)) return;
    }
    if (takes_others && settings_.files_first && try_agent(agent.get(), false)) return;
    refuse_auth(methods);
}

void ssh_session::begin_login(errc code, const std::string& how) {
    clock().begin(code, "logging in at " + where(settings_) + " as " + settings_.user + how);
}

/// Returns: nothing where there is none that answers.
agent_pointer ssh_session::ask_agent() {
    const char* socket = std::getenv("SSH_AUTH_SOCK");
    if (!socket) return {};
    clock().begin(errc::auth_refused, "asking the key agent at " + std::string(socket));
    agent_pointer agent(::libssh2_agent_init(raw()));
    if (!agent || ::libssh2_agent_connect(agent.get()) != 0 ||
        ::libssh2_agent_list_identities(agent.get()) != 0) {
        tried_ += "; the agent does not answer";
        return {};
    }
    return agent;
}

/// `named`: those that the files name too, or the others.
bool ssh_session::try_agent(LIBSSH2_AGENT* agent, bool named) {
    if (!agent) return false;
    libssh2_agent_publickey* key = nullptr;
    while (::libssh2_agent_get_identity(agent, &key, key) == 0) {
        const std::string blob(reinterpret_cast<const char*>(key->blob), key->blob_len);
        if (named_.contains(blob) != named) continue;
        (kind_of_key(blob) == "ssh-rsa" ? tried_rsa_ : tried_other_) = true;
        const auto name = kind_of_key(blob) + " \"" + key->comment + "\" of the agent";
        tried_ += "; " + name;
        begin_login(errc::auth_refused, " by " + name);  // the agent may ask somebody
        const int failed =
            finish([&] { return ::libssh2_agent_userauth(agent, settings_.user.c_str(), key); });
        if (!failed) return true;
        if (failed == LIBSSH2_ERROR_AUTHENTICATION_FAILED) {
            refused_.insert(blob);
        } else if (is_cut()) {
            lost("logging in");
        }
    }
    return false;
}

bool ssh_session::try_key(const std::string& file, const ask_passphrase& ask) {
    if (refused_.contains(public_key_of(file))) return false;
    auto facts = read_ssh_key(file);
    if (!facts.fault.empty()) {
        tried_ += "; " + file + ": " + facts.fault;
        has_open_ = has_open_ || facts.is_open;
        return false;
    }
    std::string passphrase;
    if (facts.is_locked) {
        clock().end();  // somebody may have to think
        passphrase = ask(file);
        if (passphrase.empty()) {
            tried_ += "; " + file + " has a passphrase, and .passphrase told none";
            return false;
        }
        facts = read_ssh_key(file, passphrase);
    }
    begin_login(errc::ssh_lost, " by " + file);
    (facts.is_rsa() ? tried_rsa_ : tried_other_) = true;
    tried_ += "; " + (facts.kind.empty() ? "" : facts.kind + " ") + file;
    const int failed = finish([&] {
        return ::libssh2_userauth_publickey_fromfile_ex(
            raw(), settings_.user.c_str(), static_cast<unsigned>(settings_.user.size()), nullptr,
            file.c_str(), passphrase.c_str());
    });
    ::explicit_bzero(passphrase.data(), passphrase.size());
    if (!failed) return true;
    if (failed != LIBSSH2_ERROR_AUTHENTICATION_FAILED && is_cut()) lost("logging in");
    if (failed == LIBSSH2_ERROR_FILE || failed == LIBSSH2_ERROR_METHOD_NONE) {
        tried_ += " (" + last_error() + ")";
    }
    return false;
}

void ssh_session::refuse_auth(const std::string& methods) {
    const auto text = where(settings_) + " lets " + settings_.user +
                      " in by none of our keys; it offers: " + methods +
                      (tried_.empty() ? "; we have none" : "; tried" + tried_.substr(1));
    if (tried_rsa_ && !tried_other_ && ::libssh2_version(rsa_sha2_version) == nullptr) {
        throw error(errc::key_unsupported,
                    text + ". libssh2 " + ::libssh2_version(0) +
                        " signs with RSA keys as current servers no longer accept: use an "
                        "ed25519 key (ssh-keygen -t ed25519), or .ssh_command = \"ssh\"");
    }
    if (has_open_ && !tried_rsa_ && !tried_other_) throw error(errc::bad_key_file, text);
    throw error(errc::auth_refused, text + ". Is the public key in authorized_keys there" +
                                        (tried_rsa_ ? ", and not an RSA one?" : "?"));
}

// -- what goes wrong --

std::string ssh_session::last_error() const {
    char* text = nullptr;
    (void)::libssh2_session_last_error(raw(), &text, nullptr, 0);
    return text ? text : "";
}

/// Whether libssh2 has that method for a host's key. Others it would take out of the list itself,
/// before 1.11 by a memcpy() onto what it copies.
bool ssh_session::knows_method(const std::string& method) const {
    const char** names = nullptr;
    const int count = ::libssh2_session_supported_algs(raw(), LIBSSH2_METHOD_HOSTKEY, &names);
    if (count <= 0) return false;
    const bool knows = std::find(names, names + count, method) != names + count;
    ::libssh2_free(raw(), names);
    return knows;
}

bool ssh_session::is_cut() const noexcept {
    if (!disconnect_.empty()) return true;
    const int failed = ::libssh2_session_last_errno(session_.get());
    if (failed == LIBSSH2_ERROR_SOCKET_DISCONNECT || failed == LIBSSH2_ERROR_SOCKET_RECV ||
        failed == LIBSSH2_ERROR_SOCKET_SEND) {
        return true;
    }
    char octet = 0;
    const auto got = ::recv(socket_.get(), &octet, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

void ssh_session::lost(const std::string& doing) {
    if (disconnect_.starts_with("Too many authentication failures")) {
        throw error(errc::auth_refused,
                    where(settings_) + ": " + disconnect_ + "; tried" +
                        (tried_.empty() ? " nothing" : tried_.substr(1)) +
                        ". Name one key: identity_files, and IdentitiesOnly yes");
    }
    throw error(errc::ssh_lost,
                "the SSH connection to " + where(settings_) + " was lost while " + doing + ": " +
                    (disconnect_.empty() ? last_error() : "\"" + disconnect_ + "\"") +
                    std::string(advice_for(errc::ssh_lost)));
}

// -- as a remote_host --

LIBSSH2_CHANNEL* ssh_session::open_session() {
    for (int tries_left = session_tries - 1;; --tries_left) {
        auto* channel = finish_pointer([&] { return ::libssh2_channel_open_session(raw()); });
        if (channel) {
            has_had_session_ = true;
            return channel;
        }
        if (::libssh2_session_last_errno(raw()) != LIBSSH2_ERROR_CHANNEL_FAILURE || is_cut()) {
            lost("opening a channel");
        }
        if (tries_left == 0) break;
        clock().pause(session_interval);
    }
    throw error(errc::ssh_lost,
                "the SSH connection to " + where(settings_) + " stands, and no " +
                    (has_had_session_ ? "other " : "") +
                    "session can be had on it: " + last_error() +
                    "; MaxSessions in its sshd_config has to allow for two, or .ssh_command = "
                    "\"ssh\" logs in for each");
}

std::unique_ptr<far_stream> ssh_session::start(const std::string& command) {
    auto* channel = open_session();
    auto stream = std::make_unique<ssh_channel>(*this, channel);
    const int failed = finish([&] { return ::libssh2_channel_exec(channel, command.c_str()); });
    if (failed) lost("starting a command");
    return stream;
}

std::unique_ptr<far_stream> ssh_session::connect(const std::string& to, std::uint16_t port) {
    // Out as a whole before anything is waited for: then other streams may send meanwhile.
    auto* channel = finish_pointer([&] {
        LIBSSH2_CHANNEL* opened = nullptr;
        (void)flush([&] {
            opened = ::libssh2_channel_direct_tcpip(raw(), to.c_str(), port);
            return opened ? 0 : ::libssh2_session_last_errno(raw());
        });
        return opened;
    });
    if (!channel) {
        throw error(errc::ssh_lost, where(settings_) + " opens no tunnel to " + to + " port " +
                                        std::to_string(port) + ": " + last_error() +
                                        "; AllowTcpForwarding in its sshd_config?");
    }
    return std::make_unique<ssh_channel>(*this, channel);
}

bool ssh_session::put_file(int from, std::uint64_t size, const std::string& path,
                           const progress& on_progress) {
    struct sftp_deleter {
        // One try: it may be the deadline that leads here. The session frees what is left.
        void operator()(LIBSSH2_SFTP* s) const noexcept { (void)::libssh2_sftp_shutdown(s); }
    };
    std::unique_ptr<LIBSSH2_SFTP, sftp_deleter> sftp(
        finish_pointer([&] { return ::libssh2_sftp_init(raw()); }));
    if (!sftp) return false;
    const bool copied = put_file(sftp.get(), from, size, path, on_progress);
    auto* ending = sftp.release();
    (void)finish([&] { return ::libssh2_sftp_shutdown(ending); });
    return copied;
}

bool ssh_session::put_file(LIBSSH2_SFTP* sftp, int from, std::uint64_t size,
                           const std::string& path, const progress& on_progress) {
    auto* file = finish_pointer([&] {
        return ::libssh2_sftp_open(sftp, path.c_str(),
                                   LIBSSH2_FXF_WRITE | LIBSSH2_FXF_CREAT | LIBSSH2_FXF_TRUNC,
                                   LIBSSH2_SFTP_S_IRWXU);
    });
    if (!file) return false;
    std::vector<char> buffer(copy_bytes);
    std::uint64_t done = 0;
    bool good = true;
    while (good && done < size) {
        const auto got = ::pread(from, buffer.data(), buffer.size(), static_cast<off_t>(done));
        checked(got, "read a file to copy");
        if (got == 0) break;
        std::string_view left(buffer.data(), static_cast<std::size_t>(got));
        while (good && !left.empty()) {
            const auto taken =
                finish([&] { return ::libssh2_sftp_write(file, left.data(), left.size()); });
            good = taken > 0;
            if (!good) break;
            clock().moved();
            left.remove_prefix(static_cast<std::size_t>(taken));
            done += static_cast<std::uint64_t>(taken);
            on_progress(done);
        }
    }
    const int closed = finish([&] { return ::libssh2_sftp_close(file); });
    if (::libssh2_session_last_errno(raw()) == LIBSSH2_ERROR_SOCKET_DISCONNECT) lost("copying");
    return good && closed == 0 && done == size;
}

std::vector<pollfd> ssh_session::interests() {
    const int directions = ::libssh2_session_block_directions(raw());
    short events = POLLIN;
    if (directions & LIBSSH2_SESSION_BLOCK_OUTBOUND) events |= POLLOUT;
    return {{socket_.get(), events, 0}};
}

void ssh_session::close_some() {
    // One by one: where a later one throws, those before must not be freed again.
    for (auto each = closing_.begin(); each != closing_.end();) {
        const auto freed = flush([&] { return ::libssh2_channel_free(*each); });
        each = freed == LIBSSH2_ERROR_EAGAIN ? each + 1 : closing_.erase(each);
    }
}

void ssh_session::keep_alive() {
    // Every second something is sent, so a cut shows as data that nobody acknowledges.
    const unsigned silence_ms = silence_s * 1000;
    ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof silence_ms);
}

}  // namespace

std::unique_ptr<remote_host> open_ssh(const ssh_settings& settings, stage_deadline& clock,
                                      const ask_passphrase& ask) {
    auto session = std::make_unique<ssh_session>(settings, clock);
    auto files = settings.known_hosts_files;
    // Source: ssh_config(5), GlobalKnownHostsFile.
    for (const char* each : {"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}) {
        files.push_back(each);
    }
    const known_hosts known(files, settings.host_name, settings.port);
    session->connect_socket();
    session->shake_hands(known);
    session->check_host(known);
    session->log_in(ask);
    return session;
}

}  // namespace places::launcher
