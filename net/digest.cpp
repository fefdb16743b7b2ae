// SPDX-License-Identifier: Apache-2.0
#include "net/digest.hpp"

#include <places/core/error.hpp>

#include <boost/algorithm/hex.hpp>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <iterator>

namespace places::net {
namespace {

const EVP_MD* algorithm_of(hash which) noexcept {
    return which == hash::sha1 ? EVP_sha1() : EVP_sha256();
}

void check(bool is_done, const char* what) {
    if (!is_done)
        throw error{errc::start_failed, std::string{what} + " failed in the crypto library"};
}

unsigned char* octets_of(std::string& bytes) noexcept {
    return reinterpret_cast<unsigned char*>(bytes.data());
}

}  // namespace

void digest::free_context::operator()(evp_md_ctx_st* context) const noexcept {
    EVP_MD_CTX_free(context);
}

digest::digest(hash which) : context_(EVP_MD_CTX_new()) {
    check(context_ && EVP_DigestInit_ex(context_.get(), algorithm_of(which), nullptr) == 1,
          "a digest");
}

void digest::add(std::string_view bytes) {
    check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1, "a digest");
}

std::string digest::finish() {
    std::string made(EVP_MAX_MD_SIZE, '\0');
    unsigned size = 0;
    check(EVP_DigestFinal_ex(context_.get(), octets_of(made), &size) == 1, "a digest");
    made.resize(size);
    return made;
}

std::string digest_of(hash which, std::string_view bytes) {
    digest d(which);
    d.add(bytes);
    return d.finish();
}

std::string hmac_of(hash which, std::string_view key, std::string_view bytes) {
    std::string made(EVP_MAX_MD_SIZE, '\0');
    unsigned size = 0;
    const auto* from = reinterpret_cast<const unsigned char*>(bytes.data());
    // OpenSSL refuses a null pointer even for an empty key.
    const auto* done =
        HMAC(algorithm_of(which), key.empty() ? "" : key.data(), static_cast<int>(key.size()), from,
             bytes.size(), octets_of(made), &size);
    check(done != nullptr, "HMAC");
    made.resize(size);
    return made;
}

std::string to_hex(std::string_view bytes) {
    std::string digits;
    boost::algorithm::hex_lower(bytes, std::back_inserter(digits));
    return digits;
}

}  // namespace places::net
