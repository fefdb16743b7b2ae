// SPDX-License-Identifier: Apache-2.0
#include "net/line_reader.hpp"

#include "core/text.hpp"

#include <algorithm>
#include <utility>

namespace places::net {

void line_reader::add(std::string_view bytes) {
    text_.erase(0, taken_);
    searched_ -= std::min(searched_, taken_);
    taken_ = 0;
    text_ += bytes;
}

std::optional<std::string_view> line_reader::next() noexcept {
    const auto left = std::string_view(text_).substr(taken_);
    const auto end = text_.find('\n', std::max(searched_, taken_));
    const auto size = std::min(end, text_.size()) - taken_;
    if (size > bytes_max_) {
        const auto part = detail::whole_characters(left.substr(0, bytes_max_));
        taken_ += part.size();
        return part;
    }
    searched_ = taken_ + size;
    if (end == text_.npos) return std::nullopt;
    taken_ = end + 1;
    return left.substr(0, size);
}

std::string line_reader::rest() {
    text_.erase(0, std::exchange(taken_, 0));
    searched_ = 0;
    return std::exchange(text_, {});
}

}  // namespace places::net
