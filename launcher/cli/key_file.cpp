// SPDX-License-Identifier: Apache-2.0
#include "launcher/cli/key_file.hpp"

#include <places/shm/unique_fd.hpp>

#include <boost/algorithm/hex.hpp>

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <iterator>
#include <optional>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace places::cli {
namespace {

constexpr std::size_t digits_count = 64;

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
    throw error{errc::bad_key_file, "key file " + path + ": " + why};
}

std::string last_error() { return std::generic_category().message(errno); }

std::optional<net::node_key> key_of(std::string_view content) {
    net::node_key key;
    if (content.size() == key.size()) {
        std::memcpy(key.data(), content.data(), key.size());
        return key;
    }
    if (content.size() == digits_count + 1 && content.back() == '\n') content.remove_suffix(1);
    if (content.size() != digits_count) return std::nullopt;
    try {
        boost::algorithm::unhex(content, reinterpret_cast<unsigned char*>(key.data()));
    } catch (const boost::algorithm::hex_decode_error&) {
        return std::nullopt;
    }
    return key;
}

}  // namespace

net::node_key read_key_file(const std::string& path) {
    // Not blocking: a pipe is refused, not waited for.
    const unique_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (!file) refuse(path, last_error());
    struct stat facts {};
    if (::fstat(file.get(), &facts) != 0) refuse(path, last_error());
    if (!S_ISREG(facts.st_mode)) refuse(path, "is no regular file");
    if (facts.st_uid != ::geteuid() && facts.st_uid != 0) refuse(path, "belongs to another user");
    if ((facts.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        refuse(path, "may be read or written by others; take that away with: chmod 600 " + path);
    std::array<char, digits_count + 2> content{};
    std::size_t size = 0;
    while (size < content.size()) {
        const auto got = ::read(file.get(), content.data() + size, content.size() - size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) refuse(path, last_error());
        if (got == 0) break;
        size += static_cast<std::size_t>(got);
    }
    const auto key = key_of({content.data(), size});
    if (!key)
        refuse(path,
               "holds no key, which is 32 octets or 64 hexadecimal digits; make one with: "
               "places key FILE");
    return *key;
}

net::node_key write_key_file(const std::string& path) {
    const auto key = net::make_node_key();
    const auto* octets = reinterpret_cast<const unsigned char*>(key.data());
    std::string content;
    boost::algorithm::hex_lower(octets, octets + key.size(), std::back_inserter(content));
    content += '\n';
    const unique_fd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
    if (!file) refuse(path, last_error());
    // As short as it is, it is written whole or not at all.
    if (::write(file.get(), content.data(), content.size()) !=
            static_cast<ssize_t>(content.size()) ||
        ::fsync(file.get()) != 0) {
        const auto why = last_error();
        ::unlink(path.c_str());
        refuse(path, why);
    }
    return key;
}

}  // namespace places::cli
