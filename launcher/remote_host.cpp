// SPDX-License-Identifier: Apache-2.0
#include "launcher/remote_host.hpp"

#include "launcher/text_parts.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace places::launcher {
namespace {

constexpr std::size_t noise_bytes_max = 4 * 1024;
constexpr std::size_t shown_noise_bytes_max = 200;
constexpr std::string_view answer_mark = "places-";

}  // namespace

void remote_host::wait() {
    auto fds = interests();
    clock_.wait(fds);
    look();
}

std::string_view advice_for(errc code) noexcept {
    switch (code) {
        case errc::host_unreachable: return "; is the host up, and is there a route to it?";
        case errc::port_refused: return "; does sshd run there, on that port?";
        case errc::ssh_lost: return "; what does sshd's log there say?";
        case errc::host_key_unknown:
            return "; connect once by hand to look at the fingerprint and accept it";
        case errc::host_key_changed:
            return "; somebody may be in between: ask whoever runs it, and if it has a new key, "
                   "replace that line";
        case errc::bad_key_file: return "; chmod 600 takes it away from others";
        case errc::auth_refused:
            return "; nobody can type a password here: use a key, and ssh-add one that has a "
                   "passphrase";
        case errc::no_space: return "; make room there";
        case errc::no_permission: return "; XDG_CACHE_HOME says where to";
        default: return {};
    }
}

far_shell::far_shell(remote_host& far, const std::string& script)
    : far_(far),
      stream_(far.start(far_command(script))) {}

void far_shell::say(const std::string& line) {
    const auto whole = line + "\n";
    std::string_view left = whole;
    while (!left.empty()) {
        const auto taken = stream_->write(left);
        left.remove_prefix(taken);
        if (taken == 0) {
            if (stream_->has_ended()) return;  // read_line() reports it
            far_.wait();
        }
    }
}

bool far_shell::take(int stream) {
    std::array<char, 4096> buffer;
    const auto got = stream_->read(stream, buffer);
    received_bytes_ += got;
    if (received_bytes_ > report_bytes_max) {
        throw error(errc::protocol,
                    "the host has sent more than " + std::to_string(report_bytes_max) +
                        " bytes where a report of a few KiB was due; what does its login shell "
                        "print, or the command in authorized_keys? It has sent: " +
                        noise().substr(0, shown_noise_bytes_max));
    }
    lines_[static_cast<std::size_t>(stream - 1)].add({buffer.data(), got});
    return got > 0;
}

std::string far_shell::read_line() {
    const auto keep = [&](std::string_view line) {
        while (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        if (line.empty()) return;
        noise_.append(line).append("\n");
        if (noise_.size() > noise_bytes_max) noise_.erase(0, noise_.size() - noise_bytes_max);
    };
    bool looked_again = false;
    while (true) {
        while (const auto line = lines_[1].next()) keep(*line);
        if (const auto line = lines_[0].next()) {
            if (line->starts_with(answer_mark))
                return std::string(line->substr(answer_mark.size()));
            keep(*line);
            continue;
        }
        const bool has_answer = take(1);
        if (take(2) || has_answer) {
            looked_again = false;
            continue;
        }
        if (stream_->has_ended()) {
            for (auto& each : lines_) keep(each.rest());
            return {};
        }
        // Once: what lies there and cannot be read is no reason not to wait.
        const bool has_more = stream_->has_more(1) || stream_->has_more(2);
        looked_again = has_more && !looked_again;
        if (!looked_again) far_.wait();
    }
}

std::string far_shell::noise() const {
    std::string line;
    for (const char c : noise_) line += c == '\n' ? "; " : std::string(1, c);
    return line.substr(0, line.size() - std::min<std::size_t>(line.size(), 2));
}

started_stream far_shell::release() {
    return {std::move(stream_), lines_[0].rest(), std::exchange(noise_, {}) + lines_[1].rest()};
}

std::string far_command(const std::string& script) { return "exec sh -c " + shell_word(script); }

}  // namespace places::launcher
