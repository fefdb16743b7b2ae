// SPDX-License-Identifier: Apache-2.0
// Digests, message authentication codes, and bytes as hexadecimal digits. Not installed.
#pragma once

#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace places::net {

enum class hash {
    sha1,  ///< only where a format of OpenSSH demands it; it is no protection against forgery
    sha256,
};

/// Computes the digest of bytes that arrive in parts. The digest is 20 bytes for sha1 and 32 for
/// sha256.
/// Throws: error{start_failed} from every function when the crypto library fails.
/// Thread: one at a time.
/// Source: FIPS 180-4, by OpenSSL's EVP_Digest functions.
class digest {
  public:
    explicit digest(hash which);
    void add(std::string_view bytes);
    /// Returns: the digest of all bytes added so far. This is the last call.
    std::string finish();

  private:
    struct free_context {
        void operator()(evp_md_ctx_st* context) const noexcept;
    };
    std::unique_ptr<evp_md_ctx_st, free_context> context_;
};

/// Returns: the digest of `bytes`. Throws: as digest.
std::string digest_of(hash which, std::string_view bytes);

/// Returns: the HMAC of `bytes` under `key`, as long as the digest. Throws: as digest.
/// Source: FIPS 198-1, by OpenSSL's HMAC().
std::string hmac_of(hash which, std::string_view key, std::string_view bytes);

/// Returns: two lowercase hexadecimal digits for each byte.
std::string to_hex(std::string_view bytes);

}  // namespace places::net
