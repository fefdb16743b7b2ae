// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <places/shm/status.hpp>

#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>
#include <boost/system/system_error.hpp>

#include <cstdint>
#include <iosfwd>
#include <memory>
#include <string>

namespace places {

/// Everything that can go wrong between two places, as an error code.
/// The first seven have the same meaning and number as in `status`. `refused` has the same meaning
/// only.
enum class errc {
    empty = 1,
    full,
    timeout,
    closed,
    peer_dead,
    too_large,
    corrupt,
    wrong_type,        ///< the message is well formed but is not a T
    name_not_found,    ///< no place of that name on that node
    name_taken,        ///< a living place already has the name; it keeps it
    entry_not_found,   ///< no entry registered under that name
    load_failed,       ///< shared object or symbol missing
    remote_error,      ///< the body of a remote call threw; what() is its text
    node_unreachable,  ///< no connection could be made to the host and port
    address_in_use,    ///< host and port are taken
    bad_key,           ///< the other side could not prove the node's key
    protocol,          ///< the other side broke the protocol, or speaks none of ours
    node_down,         ///< the node, its nursery or its bridge has ended
    not_a_connection,  ///< the place was not written to take named connections
    bad_argument,      ///< a value the call cannot take
    start_failed,      ///< the operating system refused a new process or its memory
    no_core,           ///< as many places of the node poll as it has cores

    // Of starting a node on another host.
    host_key_unknown,    ///< the host's key is in no known_hosts file
    host_key_changed,    ///< known_hosts has another key for the host, or has revoked this one
    auth_refused,        ///< the host has accepted none of our keys
    key_unsupported,     ///< our only keys are of a kind that the SSH library cannot use there
    host_unreachable,    ///< no route, no such name, or no answer from the host
    port_refused,        ///< the host is there, and no SSH server on that port
    ssh_lost,            ///< the SSH connection ended, or was silent, half way
    no_space,            ///< no room on the host's disk
    no_permission,       ///< the program may not be written there
    wrong_architecture,  ///< another processor or C library than this program's
    wrong_version,       ///< the node speaks no version of the protocol that this side does
    program_not_found,   ///< the program that is to be the node is not on the host

    permission_denied,  ///< the key that was shown to the node does not allow what was asked for
    bad_key_file,       ///< a key's file is not there, open to others, or holds no key
    refused,            ///< a process had no descriptor or memory for its end of a channel
    misuse,             ///< two threads use one end at once, or a forked process its parent's
};

}  // namespace places

namespace boost::system {
template <>
struct is_error_code_enum<places::errc> : std::true_type {};
}  // namespace boost::system

namespace places {

const boost::system::error_category& places_category() noexcept;
inline boost::system::error_code make_error_code(errc e) noexcept {
    return {static_cast<int>(e), places_category()};
}
/// Converts a number that another process has sent into a code.
/// Returns: the code; `protocol` for a number that names no code.
errc errc_of(std::int32_t foreign) noexcept;
/// `ok` becomes the empty code.
boost::system::error_code make_error_code(status s) noexcept;

/// The name of `e` in the program, for example "wrong_type"; never null.
const char* to_string(errc e) noexcept;
/// These print the names, as to_string does.
std::ostream& operator<<(std::ostream& out, errc e);
std::ostream& operator<<(std::ostream& out, status s);

/// An error code with an optional text that gives details. Comparisons use the code alone. Copies
/// share the text.
class reason : public boost::system::error_code {
  public:
    reason() noexcept = default;
    reason(boost::system::error_code code) noexcept : error_code(code) {}
    reason(errc e) noexcept : error_code(make_error_code(e)) {}
    reason(boost::system::error_code code, std::string text);

    /// Returns: the text; without a text, the description of the code.
    std::string message() const;

  private:
    std::shared_ptr<const std::string> text_;
};
/// result::value() calls this function when the result holds no value.
/// Throws:  error with the code and message() of `why`.
[[noreturn]] void throw_exception_from_error(const reason& why, const boost::source_location& at);

/// A T, or the reason why there is none, as error().
template <class T>
using result = boost::system::result<T, reason>;

/// Set-up calls and client stubs throw this exception. code() is the kind of error. what() names
/// the object, the cause and what to try. what() is one line of printable text, even when it quotes
/// foreign text: a line feed is printed as `\n`. Any other control character, and each byte that is
/// not UTF-8, is printed as '?'.
class error : public boost::system::system_error {
  public:
    error(errc code, const std::string& text);
    explicit error(boost::system::error_code code);
    explicit error(const reason& why);
    error(boost::system::error_code code, const std::string& text);
    const char* what() const noexcept override { return text_.c_str(); }

  private:
    std::string text_;
};

/// The method of a server threw an exception. what() is the text of that exception. The server
/// continues to run.
class remote_error : public error {
  public:
    explicit remote_error(const std::string& text) : error(errc::remote_error, text) {}
};

}  // namespace places
