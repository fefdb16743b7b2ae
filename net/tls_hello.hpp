// SPDX-License-Identifier: Apache-2.0
// The first bytes of a TLS connection, read before there is any TLS state for it.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <optional>
#include <set>
#include <span>

namespace places::net {

/// A TLS record that is part of a handshake begins so.
inline constexpr std::byte tls_handshake_record{0x16};
/// Its type, two bytes of version, two of length.
inline constexpr std::size_t tls_record_header_bytes = 5;
/// As much of the start of a connection as is looked at here.
inline constexpr std::size_t hello_start_bytes = 43;

/// Bytes of the whole first record.
/// Returns: those of its header where `start` has less than that.
std::size_t first_record_bytes(std::span<const std::byte> start) noexcept;

/// Random bytes that a dialing side puts into each of its hellos.
using hello_random = std::array<std::byte, 32>;
/// Those of the hello that is the first record.
/// Returns: nothing where the record does not hold all of a hello.
/// Source:  RFC 8446, 4 (a message's type and three bytes of length) and 4.1.2.
std::optional<hello_random> random_of_hello(std::span<const std::byte> start) noexcept;

/// The hellos that a listener has answered. A hello can be recorded on its way and sent again by
/// somebody that has no key; TLS takes it again.
class seen_hellos {
  public:
    static constexpr std::size_t hellos_max = 4096;  ///< the last so many

    bool has(const hello_random& hello) const { return seen_.count(hello) != 0; }
    /// Throws: std::bad_alloc, and nothing was added then.
    void add(const hello_random& hello);

  private:
    std::set<hello_random> seen_;
    std::deque<std::set<hello_random>::const_iterator> oldest_first_;
};

}  // namespace places::net
