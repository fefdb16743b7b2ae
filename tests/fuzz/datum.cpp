// SPDX-License-Identifier: Apache-2.0
// Foreign bytes as a datum of several types: refused, or a value that survives being sent on.
#include "core/control.hpp"
#include "tests/fuzz/script.hpp"

#include <places/core/message.hpp>

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace places {
namespace {

template <class T>
void send_on(std::span<const std::byte> bytes) {
    const auto first = detail::decode_datum<T>(bytes);
    if (!first) return;
    const auto again = detail::encode_datum(*first);
    const auto second = detail::decode_datum<T>(again);
    fuzz::require(second.has_value(), "what was read can be written and read");
    // By its bytes: a NaN differs from itself.
    fuzz::require(detail::encode_datum(*second) == again, "and is the same then");
}

}  // namespace
}  // namespace places

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace places;
    fuzz::script s{std::as_bytes(std::span{data, size})};
    const auto type = s.take<std::uint8_t>();
    const auto message = s.take_bytes(size);
    switch (type % 5) {
        case 0: send_on<value>(message); break;
        case 1: send_on<control::packet>(message); break;
        case 2: send_on<std::map<std::string, std::vector<double>>>(message); break;
        case 3: send_on<std::tuple<bool, std::int32_t, std::optional<std::string>>>(message); break;
        default: send_on<std::vector<std::uint16_t>>(message);
    }
    return 0;
}
