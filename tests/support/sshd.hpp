// SPDX-License-Identifier: Apache-2.0
// A real sshd for tests: own configuration, keys made for it, a port of its own on loopback.
#pragma once

#include "tests/support/scratch.hpp"

#include <places/shm/unique_fd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

/// Owns the process and a folder in TMPDIR with keys, configurations and a home for whoever logs
/// in. Everything that starts there gets this process's PLACES_RUN, so that what is left of it is
/// found. Its destructor ends all of it: sessions, what they have started, and the folder.
class test_sshd {
  public:
    struct options {
        std::vector<std::string> lines{};  ///< of sshd_config, before the fixture's own
        std::string host_key_type = "ed25519";
        std::string user_key_type = "ed25519";
        std::string address = "127.0.0.1";
        bool has_sftp = true;
    };
    test_sshd() : test_sshd(options{}) {}
    /// Throws: std::runtime_error with sshd's words.
    explicit test_sshd(const options& o);
    ~test_sshd();
    test_sshd(const test_sshd&) = delete;
    test_sshd& operator=(const test_sshd&) = delete;

    /// Why there can be none here; empty: there can.
    static std::string why_not();

    std::uint16_t port() const noexcept { return port_; }
    /// `user@127.0.0.1:port`
    std::string host() const;
    const std::string& folder() const noexcept { return scratch_.path(); }
    /// First in the PATH of whatever is run there: programs in it stand for the host's own.
    std::string bin() const { return folder() + "/bin"; }
    void put_program(const std::string& name, const std::string& script) const;
    std::string home() const { return folder() + "/home"; }
    std::string cache() const { return home() + "/.cache/places"; }
    std::string user_key() const { return folder() + "/user"; }
    std::string known_hosts() const { return folder() + "/known_hosts"; }
    /// For the ssh command and for places: an alias `far` for this host, with key and known_hosts.
    std::string config() const { return folder() + "/ssh_config"; }

    /// What has been started there and has not ended.
    std::vector<pid_t> running() const;
    /// Waits until nothing runs there any more. Returns: false when the watchdog barked first.
    bool is_left_alone() const;
    /// Processes of the connections that stand now.
    std::vector<pid_t> sessions() const;
    /// As of a machine that fails: the connections' processes, not what they have started.
    void kill_sessions() const;

    /// Runs a program to its end. Throws: std::runtime_error when it fails.
    static void run(const std::vector<std::string>& argv);
    static void write_file(const std::string& path, const std::string& text);

  private:
    std::string try_start();
    bool knows(const std::string& line) const;
    void remember_host() const;
    void end() noexcept;

    options options_;
    scratch_folder scratch_;
    std::string marker_;
    std::uint16_t port_ = 0;
    pid_t pid_ = 0;
    places::unique_fd log_;
};
