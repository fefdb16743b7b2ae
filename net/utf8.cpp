// SPDX-License-Identifier: Apache-2.0
#include "net/utf8.hpp"

#include <boost/locale/utf.hpp>

namespace places::net {

utf8_character first_character(std::string_view text) noexcept {
    namespace utf = boost::locale::utf;
    const auto* at = text.begin();
    const auto code = utf::utf_traits<char>::decode(at, text.end());
    if (!utf::is_valid_codepoint(code)) return {};
    return {code, static_cast<std::size_t>(at - text.begin())};
}

}  // namespace places::net
