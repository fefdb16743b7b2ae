// SPDX-License-Identifier: Apache-2.0
#include <places/core/error.hpp>

#include "core/text.hpp"

#include <ostream>
#include <utility>

namespace places {
namespace {

class category final : public boost::system::error_category {
  public:
    const char* name() const noexcept override { return "places"; }
    std::string message(int code) const override {
        switch (static_cast<errc>(code)) {
            case errc::empty: return "no message is there";
            case errc::full: return "the channel is full";
            case errc::timeout: return "the deadline passed";
            case errc::closed: return "the channel is closed";
            case errc::peer_dead: return "the process at the other end has ended";
            case errc::too_large: return "the message is over the channel's limit";
            case errc::corrupt:
                return "the other end broke the channel's rules; the channel is shut";
            case errc::wrong_type: return "the message is of another type than the one asked for";
            case errc::name_not_found: return "no place of that name";
            case errc::name_taken: return "a living place already has that name";
            case errc::entry_not_found: return "no entry is registered under that name";
            case errc::load_failed: return "the shared object or its symbol could not be loaded";
            case errc::remote_error: return "the body of a remote call threw";
            case errc::node_unreachable: return "no connection to the node";
            case errc::address_in_use: return "the address is in use";
            case errc::bad_key: return "the other side does not hold the node's key";
            case errc::protocol: return "the other side broke the protocol";
            case errc::node_down: return "the node has ended";
            case errc::not_a_connection: return "the place takes no named connections";
            case errc::bad_argument: return "a value the call cannot take";
            case errc::start_failed:
                return "the operating system refused a new process or its memory";
            case errc::no_core: return "as many places poll as there are cores";
            case errc::host_key_unknown: return "the host's key is not known";
            case errc::host_key_changed: return "the host's key is not the one that is known";
            case errc::auth_refused: return "the host accepts none of the keys";
            case errc::key_unsupported: return "the SSH library cannot use a key of this kind";
            case errc::host_unreachable: return "no connection to the host";
            case errc::port_refused: return "no SSH server listens on that port of the host";
            case errc::ssh_lost: return "the SSH connection was lost";
            case errc::no_space: return "no space is left on the host";
            case errc::no_permission: return "the host permits no writing there";
            case errc::wrong_architecture: return "the host cannot run this program";
            case errc::wrong_version: return "the other side is of another version";
            case errc::program_not_found: return "the program is not on the host";
            case errc::permission_denied: return "the key that was shown does not allow that";
            case errc::bad_key_file: return "the key's file cannot be used";
            case errc::refused:
                return "one of the two processes had no descriptor or memory for its end of the "
                       "channel";
            case errc::misuse:
                return "another thread waits on this channel, or this process was forked and the "
                       "channel is its parent's";
        }
        return "unknown error";
    }
};

}  // namespace

const boost::system::error_category& places_category() noexcept {
    static const category instance;
    return instance;
}

errc errc_of(std::int32_t foreign) noexcept {
    const bool is_ours = foreign >= static_cast<std::int32_t>(errc::empty) &&
                         foreign <= static_cast<std::int32_t>(errc::misuse);
    return is_ours ? static_cast<errc>(foreign) : errc::protocol;
}

boost::system::error_code make_error_code(status s) noexcept {
    // Its number was taken when it came.
    if (s == status::refused) return make_error_code(errc::refused);
    return {static_cast<int>(s), places_category()};
}

const char* to_string(errc e) noexcept {
    switch (e) {
        case errc::empty: return "empty";
        case errc::full: return "full";
        case errc::timeout: return "timeout";
        case errc::closed: return "closed";
        case errc::peer_dead: return "peer_dead";
        case errc::too_large: return "too_large";
        case errc::corrupt: return "corrupt";
        case errc::wrong_type: return "wrong_type";
        case errc::name_not_found: return "name_not_found";
        case errc::name_taken: return "name_taken";
        case errc::entry_not_found: return "entry_not_found";
        case errc::load_failed: return "load_failed";
        case errc::remote_error: return "remote_error";
        case errc::node_unreachable: return "node_unreachable";
        case errc::address_in_use: return "address_in_use";
        case errc::bad_key: return "bad_key";
        case errc::protocol: return "protocol";
        case errc::node_down: return "node_down";
        case errc::not_a_connection: return "not_a_connection";
        case errc::bad_argument: return "bad_argument";
        case errc::start_failed: return "start_failed";
        case errc::no_core: return "no_core";
        case errc::host_key_unknown: return "host_key_unknown";
        case errc::host_key_changed: return "host_key_changed";
        case errc::auth_refused: return "auth_refused";
        case errc::key_unsupported: return "key_unsupported";
        case errc::host_unreachable: return "host_unreachable";
        case errc::port_refused: return "port_refused";
        case errc::ssh_lost: return "ssh_lost";
        case errc::no_space: return "no_space";
        case errc::no_permission: return "no_permission";
        case errc::wrong_architecture: return "wrong_architecture";
        case errc::wrong_version: return "wrong_version";
        case errc::program_not_found: return "program_not_found";
        case errc::permission_denied: return "permission_denied";
        case errc::bad_key_file: return "bad_key_file";
        case errc::refused: return "refused";
        case errc::misuse: return "misuse";
    }
    return "unknown";
}

std::ostream& operator<<(std::ostream& out, errc e) { return out << to_string(e); }
std::ostream& operator<<(std::ostream& out, status s) { return out << to_string(s); }

reason::reason(boost::system::error_code code, std::string text)
    : error_code(code),
      text_(std::make_shared<const std::string>(std::move(text))) {}

std::string reason::message() const { return text_ ? *text_ : error_code::message(); }

void throw_exception_from_error(const reason& why, const boost::source_location&) {
    throw error(why);
}

error::error(errc code, const std::string& text) : error(make_error_code(code), text) {}
error::error(boost::system::error_code code)
    : boost::system::system_error(code),
      text_(code.message()) {}
error::error(const reason& why) : error(why, why.message()) {}
error::error(boost::system::error_code code, const std::string& text)
    : boost::system::system_error(code),
      text_(detail::printable_text(text)) {}

static_assert(static_cast<int>(errc::corrupt) == static_cast<int>(status::corrupt));

}  // namespace places
