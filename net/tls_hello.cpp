// SPDX-License-Identifier: Apache-2.0
#include "net/tls_hello.hpp"

#include <boost/endian/conversion.hpp>

#include <algorithm>
#include <new>
#include <tuple>

namespace places::net {
namespace {

constexpr std::byte client_hello{1};
constexpr std::size_t message_header_bytes = 4;
constexpr std::size_t version_bytes = 2;
static_assert(hello_start_bytes == tls_record_header_bytes + message_header_bytes + version_bytes +
                                       std::tuple_size_v<hello_random>);

// As Boost.Endian takes them.
const unsigned char* octets(std::span<const std::byte> bytes) noexcept {
    return reinterpret_cast<const unsigned char*>(bytes.data());
}

}  // namespace

std::size_t first_record_bytes(std::span<const std::byte> start) noexcept {
    if (start.size() < tls_record_header_bytes) return tls_record_header_bytes;
    return tls_record_header_bytes + boost::endian::load_big_u16(octets(start.subspan(3, 2)));
}

std::optional<hello_random> random_of_hello(std::span<const std::byte> start) noexcept {
    if (start.size() < hello_start_bytes) return std::nullopt;
    const auto message = start.subspan(tls_record_header_bytes);
    const auto message_bytes =
        message_header_bytes + boost::endian::load_big_u24(octets(message.subspan(1, 3)));
    if (start[0] != tls_handshake_record || message[0] != client_hello ||
        tls_record_header_bytes + message_bytes > first_record_bytes(start))
        return std::nullopt;
    hello_random random{};
    const auto from = message.begin() + message_header_bytes + version_bytes;
    std::copy_n(from, random.size(), random.begin());
    return random;
}

void seen_hellos::add(const hello_random& hello) {
    const auto [at, is_new] = seen_.insert(hello);
    if (!is_new) return;
    try {
        oldest_first_.push_back(at);
    } catch (const std::bad_alloc&) {
        seen_.erase(at);
        throw;
    }
    if (oldest_first_.size() <= hellos_max) return;
    seen_.erase(oldest_first_.front());
    oldest_first_.pop_front();
}

}  // namespace places::net
