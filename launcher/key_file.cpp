// SPDX-License-Identifier: Apache-2.0
#include "launcher/key_file.hpp"

#include "net/digest.hpp"

#include <places/shm/unique_fd.hpp>

#include <boost/algorithm/hex.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace places::launcher {
namespace {

constexpr std::size_t digits_count = 64;
constexpr std::size_t file_bytes_max = 1024;
constexpr std::string_view owner_word = "owner ";
constexpr std::string_view allows_word = "allows ";

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
    throw error{errc::bad_key_file, "key file " + path + ": " + why};
}

std::string last_error() { return std::generic_category().message(errno); }

bool is_digits(std::string_view text) {
    constexpr std::string_view digits = "0123456789abcdefABCDEF";
    return text.find_first_not_of(digits) == text.npos;
}

/// Takes the first line off `rest`, which ends with a line feed or at the end.
std::string_view take_line(std::string_view& rest) {
    const auto line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    return line;
}

std::optional<net::known_key> key_of(std::string_view content) {
    net::known_key made{
        {}, std::string(net::launcher_name), net::all_rights, net::key_kind::launcher};
    // Digits that are cut off would be a key of half the length.
    if (content.size() == made.key.size() && !is_digits(content.substr(0, content.size() - 1))) {
        std::memcpy(made.key.data(), content.data(), made.key.size());
        return made;
    }
    const auto digits = take_line(content);
    if (digits.size() != digits_count || !is_digits(digits)) return std::nullopt;
    boost::algorithm::unhex(digits, reinterpret_cast<unsigned char*>(made.key.data()));
    if (content.empty()) return made;
    const auto owner = take_line(content);
    if (!owner.starts_with(owner_word)) return std::nullopt;
    made.owner = owner.substr(owner_word.size());
    made.kind = net::key_kind::granted;
    made.rights = net::connect_only;
    if (!net::is_owner_name(made.owner)) return std::nullopt;
    if (content.empty()) return made;
    const auto allows = take_line(content);
    if (!allows.starts_with(allows_word) || !content.empty()) return std::nullopt;
    const auto rights = net::parse_rights(allows.substr(allows_word.size()));
    if (!rights) return std::nullopt;
    made.rights = *rights;
    return made;
}

}  // namespace

net::known_key read_key_file(const std::string& path) {
    // Not blocking: a pipe is refused, not waited for.
    const unique_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (!file) refuse(path, last_error());
    struct stat facts {};
    if (::fstat(file.get(), &facts) != 0) refuse(path, last_error());
    if (!S_ISREG(facts.st_mode)) refuse(path, "is no regular file");
    if (facts.st_uid != ::geteuid() && facts.st_uid != 0) refuse(path, "belongs to another user");
    if ((facts.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        refuse(path, "may be read or written by others; take that away with: chmod 600 " + path);
    std::array<char, file_bytes_max> content{};
    std::size_t size = 0;
    while (size < content.size()) {
        const auto got = ::read(file.get(), content.data() + size, content.size() - size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) refuse(path, last_error());
        if (got == 0) break;
        size += static_cast<std::size_t>(got);
    }
    auto key = key_of({content.data(), size});
    if (!key)
        refuse(path,
               "holds no key, which is 32 octets, or 64 hexadecimal digits and perhaps an owner "
               "and what is allowed; make one with: places key FILE");
    return *std::move(key);
}

void write_key_file(const std::string& path, const net::known_key& key) {
    auto content =
        net::to_hex({reinterpret_cast<const char*>(key.key.data()), key.key.size()}) + "\n";
    if (key.kind != net::key_kind::launcher) {
        content.append(owner_word).append(key.owner).append("\n");
        content.append(allows_word).append(net::to_string(key.rights)).append("\n");
    }
    const unique_fd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
    if (!file) refuse(path, last_error());
    const auto give_up = [&](const std::string& why) {
        ::unlink(path.c_str());
        refuse(path, why);
    };
    // As short as it is, it is written whole or not at all.
    const auto written = ::write(file.get(), content.data(), content.size());
    if (written < 0) give_up(last_error());
    if (written != static_cast<ssize_t>(content.size())) give_up("could not be written whole");
    if (::fsync(file.get()) != 0) give_up(last_error());
}

}  // namespace places::launcher
