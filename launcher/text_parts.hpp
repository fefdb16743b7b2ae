// SPDX-License-Identifier: Apache-2.0
// Lines and words of the files that SSH reads, and strings of its keys. Not installed.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace places::launcher {

/// Words between blanks.
std::vector<std::string> words_of(std::string_view line);
/// The same of a line in which a word may hold blanks: in quotes of either kind, or after a
/// backslash, which stands for itself before all but a quote, a backslash and, outside of quotes, a
/// blank. A quote that does not end lasts as long as the line.
/// Source: the rules are those of argv_split() in OpenSSH.
std::vector<std::string> quoted_words_of(std::string_view line);

/// Whether `text` matches `pattern`, in which * stands for any octets and ? for one.
bool matches_pattern(std::string_view pattern, std::string_view text) noexcept;
/// Whether one pattern matches and none that begins with ! does.
bool matches_any(std::span<const std::string> patterns, std::string_view text) noexcept;

std::string to_lower(std::string_view text);
std::string to_base64(std::string_view octets);
/// Returns: empty for what is no base64.
std::string from_base64(std::string_view text);

/// Takes the first string off `from`: four octets say how long it is, the highest first.
/// Returns: nothing where it is not there as a whole.
/// Source: RFC 4251, 5.
std::optional<std::string_view> take_string(std::string_view& from) noexcept;

/// `text` as one word of a POSIX shell.
std::string shell_word(std::string_view text);

}  // namespace places::launcher
