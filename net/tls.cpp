// SPDX-License-Identifier: Apache-2.0
#include "net/tls.hpp"

#include <boost/asio/error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <exception>
#include <string_view>
#include <utility>

namespace places::net {
namespace {

namespace ssl = boost::asio::ssl;

// Both are of SHA-256, as the session of a key has to be.
constexpr const char* cipher_suites = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
constexpr std::array<unsigned char, 2> session_suite{0x13, 0x01};  // the first of them
constexpr std::string_view binding_label = "EXPORTER-places-1-hello";
// A node shows one in its hello, and again where it is asked for another hello.
constexpr std::size_t identities_max = 2;
constexpr const char* too_many_keys =
    "not the places protocol: it shows key after key, which no node does";

// Where a connection keeps its tls_side; OpenSSL numbers such places once for the process. Asio has
// taken the one that needs no number.
int side_index() {
    static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    return index;
}

tls_side& side_of(SSL* connection) {
    return *static_cast<tls_side*>(SSL_get_ex_data(connection, side_index()));
}

// OpenSSL is C: nothing may be thrown through it. 0 ends the handshake.
int find_session(SSL* connection, const unsigned char* identity, std::size_t size,
                 SSL_SESSION** found) {
    try {
        *found = side_of(connection).find_session({reinterpret_cast<const char*>(identity), size});
        return 1;
    } catch (const std::exception&) {
        return 0;
    }
}

int use_session(SSL* connection, const EVP_MD* digest, const unsigned char** identity,
                std::size_t* size, SSL_SESSION** used) {
    try {
        *identity = nullptr;
        *size = 0;
        *used = nullptr;
        // After a retry the hash is known; with another than ours there is no key to offer.
        if (digest && !EVP_MD_is_a(digest, "SHA256")) return 1;
        const auto& side = side_of(connection);
        *used = side.own_session();
        *identity = reinterpret_cast<const unsigned char*>(side.own_identity().data());
        *size = side.own_identity().size();
        return 1;
    } catch (const std::exception&) {
        return 0;
    }
}

// The accepting side writes its part of the handshake only after it has checked the hello.
void on_message(int is_written, int, int content, const void* bytes, std::size_t size,
                SSL* connection, void*) {
    const bool is_hello = is_written == 1 && content == SSL3_RT_HANDSHAKE && size > 0 &&
                          *static_cast<const unsigned char*>(bytes) == SSL3_MT_SERVER_HELLO;
    if (is_hello) side_of(connection).on_answered();
}

[[noreturn]] void tls_failed() {
    throw error{errc::start_failed, "TLS could not be set up by the crypto library"};
}

SSL_SESSION* session_of(SSL* connection, const node_key& key) {
    auto secret = tls_secret(key);
    SSL_SESSION* made = SSL_SESSION_new();
    const auto* cipher = SSL_CIPHER_find(connection, session_suite.data());
    const bool done =
        made && cipher &&
        SSL_SESSION_set1_master_key(made, reinterpret_cast<const unsigned char*>(secret.data()),
                                    secret.size()) == 1 &&
        SSL_SESSION_set_cipher(made, cipher) == 1 &&
        SSL_SESSION_set_protocol_version(made, TLS1_3_VERSION) == 1;
    OPENSSL_cleanse(secret.data(), secret.size());
    if (!done) {
        SSL_SESSION_free(made);
        tls_failed();
    }
    return made;
}

}  // namespace

std::shared_ptr<ssl::context> make_tls_context() {
    auto context = std::make_shared<ssl::context>(ssl::context::tls);
    SSL_CTX* const raw = context->native_handle();
    SSL_CTX_clear_options(raw, SSL_OP_ALLOW_NO_DHE_KEX);
    SSL_CTX_set_options(raw, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
    const bool done = SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION) == 1 &&
                      SSL_CTX_set_max_proto_version(raw, TLS1_3_VERSION) == 1 &&
                      SSL_CTX_set_ciphersuites(raw, cipher_suites) == 1 &&
                      SSL_CTX_set1_groups_list(raw, "X25519:P-256") == 1 &&
                      SSL_CTX_set_num_tickets(raw, 0) == 1 &&
                      SSL_CTX_set_max_early_data(raw, 0) == 1 &&
                      SSL_CTX_set_recv_max_early_data(raw, 0) == 1;
    if (!done) tls_failed();
    SSL_CTX_set_psk_find_session_callback(raw, find_session);
    SSL_CTX_set_psk_use_session_callback(raw, use_session);
    return context;
}

tls_side::tls_side(std::shared_ptr<ssl::context> context,
                   std::shared_ptr<const std::vector<known_key>> keys,
                   std::function<void()> on_claimed)
    : context_(std::move(context)),
      is_dialing_(false),
      keys_(std::move(keys)),
      on_claimed_(std::move(on_claimed)) {}

tls_side::tls_side(std::shared_ptr<ssl::context> context, const node_key& key, std::string name)
    : context_(std::move(context)),
      is_dialing_(true),
      keys_(std::make_shared<const std::vector<known_key>>(1, known_key{key, {}, {}})),
      own_identity_(psk_identity(name, key)) {}

void tls_side::attach(SSL* connection) {
    connection_ = connection;
    if (SSL_set_ex_data(connection, side_index(), this) != 1) tls_failed();
    // A node that shows a certificate instead of the key has nothing that it could be checked by.
    SSL_set_verify(connection, is_dialing_ ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
    if (!is_dialing_) SSL_set_msg_callback(connection, on_message);
}

SSL_SESSION* tls_side::find_session(std::string_view identity) {
    if (++identities_ > identities_max) throw error{errc::protocol, too_many_keys};
    used_.reset();
    const auto parts = parse_identity(identity);
    if (!parts) {
        shown_ = "an identity that is none of ours";
        return nullptr;
    }
    shown_ = "the name '" + printable(parts->name) + "' and the key " + printable(parts->key_id);
    const auto found = find_key(*keys_, parts->name,
                                [&](const node_key& key) { return key_id(key) == parts->key_id; });
    if (!found) return nullptr;
    if (!is_owned_by(*found, parts->name)) {
        shown_ += ", which is another owner's";
        return nullptr;
    }
    used_ = found;
    shown_name_ = parts->name;
    return session_of(connection_, found->key);
}

void tls_side::on_answered() noexcept {
    SSL_set_msg_callback(connection_, nullptr);
    if (const auto on_claimed = std::exchange(on_claimed_, nullptr)) on_claimed();
}

SSL_SESSION* tls_side::own_session() const { return session_of(connection_, keys_->front().key); }

std::optional<tls_side::proved> tls_side::proof() const {
    if (SSL_session_reused(connection_) != 1 || (!is_dialing_ && !used_)) return std::nullopt;
    proved p{is_dialing_ ? keys_->front() : *used_, {}};
    if (!is_dialing_) p.key.owner = shown_name_;
    if (SSL_export_keying_material(connection_, reinterpret_cast<unsigned char*>(p.binding.data()),
                                   p.binding.size(), binding_label.data(), binding_label.size(),
                                   nullptr, 0, 0) != 1)
        tls_failed();
    return p;
}

failure tls_side::explain(boost::system::error_code ec, bool nothing_came) const {
    if (ec == boost::asio::error::eof || ec == ssl::error::stream_truncated ||
        ec == boost::asio::error::connection_reset)
        return {errc::node_unreachable,
                !nothing_came ? "hung up during the TLS handshake"
                : is_dialing_ ? "hung up without a word (so does a node with more handshakes "
                                "under way than it takes)"
                              : "hung up without a word"};
    if (identities_ > identities_max) return {errc::protocol, too_many_keys};
    if (ec == errc::too_large)
        return {errc::protocol, "not the places protocol: more bytes than a handshake has"};
    if (ec.category() != boost::asio::error::get_ssl_category())
        return {errc::node_unreachable, "TLS handshake: " + ec.message()};
    switch (ERR_GET_REASON(static_cast<unsigned long>(ec.value()))) {
        case SSL_R_HTTP_REQUEST:
        case SSL_R_HTTPS_PROXY_REQUEST:
        case SSL_R_WRONG_VERSION_NUMBER:
        case SSL_R_WRONG_SSL_VERSION:
        case SSL_R_UNKNOWN_PROTOCOL:
        case SSL_R_BAD_RECORD_TYPE:
        case SSL_R_UNEXPECTED_MESSAGE:
        case SSL_R_RECORD_LENGTH_MISMATCH:
        case SSL_R_PACKET_LENGTH_TOO_LONG:
            return {errc::protocol,
                    is_dialing_ ? "not the places protocol: not TLS, or a node that is insecure; "
                                  "both sides have to say insecure, or neither"
                                : "not the places protocol: bytes that are not TLS"};
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_VERSION_TOO_LOW:
        case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
            return {errc::protocol, "an older TLS; links use TLS 1.3 only"};
        case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
        case SSL_R_NO_SHARED_CIPHER:
        case SSL_R_NO_SUITABLE_KEY_SHARE:
        case SSL_R_BINDER_DOES_NOT_VERIFY:
            if (is_dialing_) break;
            return {errc::bad_key,
                    make_error_code(errc::bad_key).message() +
                        (shown_.empty() ? "; it has shown none" : "; it has shown " + shown_)};
        case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
        case SSL_AD_REASON_OFFSET + SSL_AD_UNKNOWN_PSK_IDENTITY:  // older 3.0 has no name for it
        case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
        case SSL_R_CERTIFICATE_VERIFY_FAILED: return {errc::bad_key, wrong_key_text()};
        default: break;
    }
    return {errc::protocol, "TLS handshake: " + ec.message()};
}

}  // namespace places::net
