// SPDX-License-Identifier: Apache-2.0
// TLS as a listener speaks it, against clients made by hand.
#include "net/listener.hpp"

#include "tests/net/event_loop.hpp"

#include <boost/asio/read.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <netinet/tcp.h>
#include <optional>
#include <random>
#include <string>

namespace places::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != text.npos;
}

class tls : public testing::Test {
  protected:
    ~tls() override {
        node.reset();
        for (const auto& each : accepted) each->close("the test is over");
        loop.run_ready();
    }

    listen_options options() {
        return {.address = "127.0.0.1",
                .port = 0,
                .keys = {known_key{launcher, std::string(launcher_name), all_rights,
                                   key_kind::launcher},
                         known_key{peer, "b", connect_only}},
                .name = "node",
                .incarnation = make_incarnation_id(),
                .log = [this](std::string line) { lines.push_back(std::move(line)); },
                .on_link = [this](std::shared_ptr<link> one,
                                  peer_info) { accepted.push_back(std::move(one)); }};
    }
    void listen(const std::string& address = "127.0.0.1") {
        auto with = options();
        with.address = address;
        node.emplace(loop.context, std::move(with));
    }
    dial_result dialed(const std::string& name, const node_key& key,
                       const std::string& host = "127.0.0.1", bool insecure = false) {
        std::optional<dial_result> outcome;
        dial_options with{.host = host,
                          .port = node->port(),
                          .insecure = insecure,
                          .key = key,
                          .name = name,
                          .incarnation = make_incarnation_id()};
        dial(loop.context, std::move(with), [&](dial_result r) { outcome = std::move(r); });
        EXPECT_TRUE(loop.run_until([&] { return outcome.has_value(); }));
        if (!outcome) std::abort();
        return std::move(*outcome);
    }
    void expect_in(const std::string& name, const node_key& key, const rights& given) {
        const auto before = accepted.size();
        auto r = dialed(name, key);
        ASSERT_TRUE(r) << r.error().text;
        ASSERT_TRUE(loop.run_until([&] { return accepted.size() == before + 1; }));
        EXPECT_EQ(accepted.back()->peer().name, name);
        EXPECT_EQ(accepted.back()->peer().rights, given);
        EXPECT_TRUE(accepted.back()->peer().is_secure);
        EXPECT_TRUE((*r)->peer().is_secure);
        EXPECT_EQ((*r)->peer().rights, rights{});
    }
    void expect_line(const std::string& cause) {
        ASSERT_TRUE(loop.run_until([&] { return !lines.empty(); }));
        loop.run_ready();
        ASSERT_EQ(lines.size(), 1u);
        EXPECT_TRUE(contains(lines[0], "refused a connection from 127.0.0.1:")) << lines[0];
        EXPECT_TRUE(contains(lines[0], cause)) << lines[0];
        lines.clear();
        expect_in("launcher", launcher, all_rights);
        EXPECT_TRUE(lines.empty());
    }

    tcp::socket raw() {
        tcp::socket socket{loop.context};
        socket.connect({asio::ip::address_v4::loopback(), node->port()});
        return socket;
    }
    // A client whose settings are its own.
    struct client {
        std::shared_ptr<asio::ssl::context> context;
        asio::ssl::stream<tcp::socket> connection;
        std::optional<boost::system::error_code> outcome{};
    };
    std::unique_ptr<client> shaken(std::shared_ptr<asio::ssl::context> context,
                                   tls_side* side = nullptr) {
        auto one = std::make_unique<client>(client{context, {raw(), *context}});
        if (side) side->attach(one->connection.native_handle());
        one->connection.async_handshake(asio::ssl::stream_base::client,
                                        [&, o = one.get()](auto ec) { o->outcome = ec; });
        EXPECT_TRUE(loop.run_until([&] { return one->outcome.has_value(); }));
        return one;
    }

    const node_key launcher = make_node_key();
    const node_key peer = make_node_key();
    event_loop loop;
    std::vector<std::string> lines;
    std::vector<std::shared_ptr<link>> accepted;
    std::optional<listener> node;
};

TEST_F(tls, gives_each_key_its_rights) {
    listen();
    expect_in("launcher", launcher, all_rights);
    expect_in("b", peer, connect_only);
    expect_in("c", make_peer_key(launcher, "c"), connect_only);
    const std::string longest(255, 'n');
    expect_in(longest, make_peer_key(launcher, longest), connect_only);
    expect_in("c", make_guest_key(launcher, "c"), connect_only);
}

TEST_F(tls, refuses_a_key_under_the_name_of_somebody_else) {
    listen();
    const auto r = dialed("root", peer);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::bad_key);
    expect_line("the name 'root' and the key " + key_id(peer) + ", which is another owner's");
    EXPECT_FALSE(dialed("root", launcher));
    expect_line("the name 'root' and the key " + key_id(launcher) + ", which is another owner's");
    const auto made = make_peer_key(launcher, "c");
    EXPECT_FALSE(dialed("root", made));
    expect_line("the name 'root' and the key " + key_id(made));
    // Nobody but the holder of the node's own key is called so.
    EXPECT_FALSE(dialed("launcher", make_peer_key(launcher, "launcher")));
    expect_line("the name 'launcher' and the key " + key_id(make_peer_key(launcher, "launcher")));
    // Only the keys that are said to make some do.
    EXPECT_FALSE(dialed("b", make_peer_key(peer, "b")));
    expect_line("the name 'b' and the key " + key_id(make_peer_key(peer, "b")));
}

TEST_F(tls, refuses_a_hello_with_another_name_than_the_key_was_shown_under) {
    listen();
    // TLS as "b", which the key is for; then a hello as "root".
    auto context = make_tls_context();
    tls_side side{context, peer, "b"};
    auto one = shaken(context, &side);
    ASSERT_FALSE(*one->outcome) << one->outcome->message();
    std::array<std::byte, 4> length{};
    asio::async_read(one->connection, asio::buffer(length), [&](auto, auto) {});
    ASSERT_TRUE(loop.run_until([&] { return length[0] != std::byte{}; }));
    std::vector<std::byte> body(std::to_integer<std::size_t>(length[0]));
    std::optional<frame> challenge;
    asio::async_read(one->connection, asio::buffer(body),
                     [&](auto, auto) { challenge = decode(body).value(); });
    ASSERT_TRUE(loop.run_until([&] { return challenge.has_value(); }));
    handshake shake{handshake::role::dialing,
                    {{known_key{peer, {}, {}}}, "root", make_incarnation_id(), {}, {}}};
    shake.secure(known_key{peer, {}, {}}, side.proof()->binding);
    (void)shake.start();
    const auto hello = encode(*shake.feed(*challenge).send);
    asio::async_write(one->connection, asio::buffer(hello), [](auto, auto) {});
    expect_line("the key it has is not that of 'root'");
}

TEST_F(tls, refuses_a_key_that_it_does_not_know_naming_its_id) {
    listen();
    const auto stranger = make_node_key();
    const auto r = dialed("root", stranger);
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, errc::bad_key);
    EXPECT_TRUE(contains(r.error().text, "127.0.0.1:")) << r.error().text;
    expect_line("it has shown the name 'root' and the key " + key_id(stranger));
}

TEST_F(tls, refuses_a_key_whose_id_is_right_and_whose_secret_is_not) {
    listen();
    // A side that shows one identity and computes with another key.
    auto context = make_tls_context();
    static tls_side* shown;
    static tls_side* used;
    tls_side right{context, launcher, "launcher"};
    tls_side wrong{context, make_node_key(), "launcher"};
    shown = &right;
    used = &wrong;
    SSL_CTX_set_psk_use_session_callback(
        context->native_handle(), [](SSL*, const EVP_MD*, const unsigned char** id,
                                     std::size_t* size, SSL_SESSION** session) {
            *id = reinterpret_cast<const unsigned char*>(shown->own_identity().data());
            *size = shown->own_identity().size();
            *session = used->own_session();
            return 1;
        });
    auto one = shaken(context, &wrong);
    EXPECT_TRUE(*one->outcome);
    expect_line("does not hold the node's key");
}

// A hello of OpenSSL's that shows `identities` in place of its own one, each with a binder that
// proves nothing.
std::string hello_that_shows(const std::vector<std::string>& identities) {
    const auto u16 = [](std::size_t n) {
        return std::string{static_cast<char>(n >> 8), static_cast<char>(n & 0xFF)};
    };
    auto context = make_tls_context();
    tls_side side{context, make_node_key(), "x"};
    const std::unique_ptr<SSL, decltype(&SSL_free)> one{SSL_new(context->native_handle()),
                                                        SSL_free};
    side.attach(one.get());
    SSL_set_connect_state(one.get());
    BIO* const out = BIO_new(BIO_s_mem());
    SSL_set_bio(one.get(), BIO_new(BIO_s_mem()), out);
    (void)SSL_do_handshake(one.get());
    char* bytes = nullptr;
    const auto size = BIO_get_mem_data(out, &bytes);
    std::string hello{bytes, static_cast<std::size_t>(size)};

    // The identity and its age, a binder of SHA-256, and each list after its length.
    const auto list_bytes = 2 + side.own_identity().size() + 4;
    const auto keys_bytes = 2 + list_bytes + 2 + 1 + 32;
    hello.resize(hello.size() - keys_bytes - 2);
    std::string shown;
    std::string binders;
    for (const auto& each : identities) {
        shown += u16(each.size()) + each + std::string(4, '\0');
        binders += std::string(1, '\x20') + std::string(32, '\0');
    }
    const auto lists = u16(shown.size()) + shown + u16(binders.size()) + binders;
    hello += u16(lists.size()) + lists;
    // Where the extensions begin: behind the headers of record and hello, version, random, session,
    // suites and compression.
    const auto at = [&](std::size_t i) { return static_cast<unsigned char>(hello[i]); };
    std::size_t extensions = 5 + 4 + 2 + 32;
    extensions += 1U + at(extensions);
    extensions += 2U + at(extensions) * 256U + at(extensions + 1);
    extensions += 1U + at(extensions);
    hello.replace(3, 2, u16(hello.size() - 5));
    hello.replace(7, 2, u16(hello.size() - 9));
    hello.replace(extensions, 2, u16(hello.size() - extensions - 2));
    return hello;
}

TEST_F(tls, looks_at_no_more_than_two_of_the_keys_that_one_client_shows) {
    listen();
    const auto good = psk_identity("launcher", launcher);
    const auto unknown = psk_identity("launcher", make_node_key());
    auto two = raw();
    asio::write(two, asio::buffer(hello_that_shows({unknown, unknown})));
    expect_line("it has shown the name 'launcher' and the key ");
    auto three = raw();
    asio::write(three, asio::buffer(hello_that_shows({unknown, unknown, good})));
    expect_line("shows key after key, which no node does");
}

TEST_F(tls, lets_in_whoever_it_had_to_ask_for_another_hello) {
    listen();
    auto context = make_tls_context();
    SSL_CTX_set1_groups_list(context->native_handle(), "P-521:X25519");  // a share of the first
    tls_side side{context, launcher, "launcher"};
    auto one = shaken(context, &side);
    ASSERT_FALSE(*one->outcome) << one->outcome->message();
    EXPECT_EQ(SSL_get_negotiated_group(one->connection.native_handle()), NID_X25519);
    EXPECT_TRUE(lines.empty());
}

TEST_F(tls, refuses_a_client_without_a_key) {
    listen();
    auto one = shaken(std::make_shared<asio::ssl::context>(asio::ssl::context::tlsv13_client));
    EXPECT_TRUE(*one->outcome);
    expect_line("it has shown none");
}

// -- certificates in place of the key --

/// Shows a certificate that its own key has signed, good for a day, or until a day ago.
std::shared_ptr<asio::ssl::context> with_certificate(asio::ssl::context::method side,
                                                     bool is_expired) {
    constexpr long day = 24 * 60 * 60;
    auto context = std::make_shared<asio::ssl::context>(side);
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> own{EVP_EC_gen("P-256"),
                                                                  EVP_PKEY_free};
    const std::unique_ptr<X509, decltype(&X509_free)> shown{X509_new(), X509_free};
    const auto text = [](const char* t) { return reinterpret_cast<const unsigned char*>(t); };
    EXPECT_TRUE(own && shown);
    EXPECT_EQ(X509_set_version(shown.get(), X509_VERSION_3), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(shown.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(shown.get()), is_expired ? -2 * day : 0);
    X509_gmtime_adj(X509_getm_notAfter(shown.get()), is_expired ? -day : day);
    X509_NAME* const name = X509_get_subject_name(shown.get());
    EXPECT_EQ(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, text("127.0.0.1"), -1, -1, 0),
              1);
    EXPECT_EQ(X509_set_issuer_name(shown.get(), name), 1);
    EXPECT_EQ(X509_set_pubkey(shown.get(), own.get()), 1);
    EXPECT_NE(X509_sign(shown.get(), own.get(), EVP_sha256()), 0);
    EXPECT_EQ(SSL_CTX_use_certificate(context->native_handle(), shown.get()), 1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey(context->native_handle(), own.get()), 1);
    return context;
}

TEST_F(tls, refuses_a_client_that_shows_a_certificate_in_place_of_the_key) {
    listen();
    for (const bool is_expired : {false, true}) {
        SCOPED_TRACE(is_expired ? "expired" : "self-signed");
        auto one = shaken(with_certificate(asio::ssl::context::tlsv13_client, is_expired));
        ASSERT_TRUE(*one->outcome);
        EXPECT_TRUE(contains(one->outcome->message(), "alert")) << one->outcome->message();
        expect_line("does not hold the node's key; it has shown none");
    }
}

TEST_F(tls, refuses_a_node_that_shows_a_certificate_in_place_of_the_key) {
    for (const bool is_expired : {false, true}) {
        SCOPED_TRACE(is_expired ? "expired" : "self-signed");
        tcp::acceptor listening{loop.context, {asio::ip::address_v4::loopback(), 0}};
        std::optional<dial_result> outcome;
        dial(loop.context,
             {.host = "127.0.0.1",
              .port = listening.local_endpoint().port(),
              .key = launcher,
              .name = "launcher",
              .incarnation = make_incarnation_id()},
             [&](dial_result r) { outcome = std::move(r); });
        const auto context = with_certificate(asio::ssl::context::tlsv13_server, is_expired);
        std::optional<asio::ssl::stream<tcp::socket>> there;
        std::optional<boost::system::error_code> shaken_there;
        // A server of TLS 1.3 is done before it hears of a refusal: by its first read it knows.
        char c = 0;
        listening.async_accept([&](auto, tcp::socket socket) {
            there.emplace(std::move(socket), *context);
            there->async_handshake(asio::ssl::stream_base::server, [&](auto ec) {
                if (ec) shaken_there = ec;
                if (!ec)
                    there->async_read_some(asio::buffer(&c, 1),
                                           [&](auto read, std::size_t) { shaken_there = read; });
            });
        });
        ASSERT_TRUE(loop.run_until([&] { return outcome && shaken_there; }));
        ASSERT_FALSE(*outcome);
        EXPECT_EQ(outcome->error().code, errc::bad_key);
        EXPECT_TRUE(contains(outcome->error().text, "does not hold the node's key"))
            << outcome->error().text;
        EXPECT_TRUE(contains(shaken_there->message(), "alert")) << shaken_there->message();
    }
}

TEST_F(tls, refuses_an_older_version) {
    listen();
    auto one = shaken(std::make_shared<asio::ssl::context>(asio::ssl::context::tlsv12_client));
    EXPECT_TRUE(*one->outcome);
    expect_line("an older TLS; links use TLS 1.3 only");
}

TEST_F(tls, refuses_a_key_exchange_without_ephemeral_keys) {
    listen();
    auto context = make_tls_context();
    SSL_CTX_set_options(context->native_handle(), SSL_OP_ALLOW_NO_DHE_KEX);
    tls_side side{context, launcher, "launcher"};
    auto one = shaken(context, &side);
    ASSERT_FALSE(*one->outcome);
    // Offered both ways, the exchange was made all the same.
    EXPECT_NE(SSL_get_negotiated_group(one->connection.native_handle()), 0);
    EXPECT_EQ(SSL_version(one->connection.native_handle()), TLS1_3_VERSION);
}

TEST_F(tls, gives_no_ticket_and_takes_no_early_data) {
    listen();
    auto context = make_tls_context();
    static int tickets;
    tickets = 0;
    SSL_CTX_set_session_cache_mode(context->native_handle(), SSL_SESS_CACHE_CLIENT);
    SSL_CTX_clear_options(context->native_handle(), SSL_OP_NO_TICKET);
    SSL_CTX_sess_set_new_cb(context->native_handle(), [](SSL*, SSL_SESSION*) {
        ++tickets;
        return 0;
    });
    tls_side side{context, launcher, "launcher"};
    auto one = shaken(context, &side);
    ASSERT_FALSE(*one->outcome);
    std::array<char, 4> challenge;  // behind which a ticket would have come
    bool came = false;
    asio::async_read(one->connection, asio::buffer(challenge), [&](auto, auto) { came = true; });
    ASSERT_TRUE(loop.run_until([&] { return came; }));
    EXPECT_EQ(tickets, 0);
    EXPECT_NE(SSL_get_early_data_status(one->connection.native_handle()), SSL_EARLY_DATA_ACCEPTED);
}

tls_side* early = nullptr;  // for a callback of C, which has room for no more

TEST_F(tls, refuses_early_data_and_goes_on_without_it) {
    listen();
    // The session claims that early data is welcome, and the client sends some.
    auto context = make_tls_context();
    SSL_CTX_set_psk_use_session_callback(
        context->native_handle(), [](SSL*, const EVP_MD*, const unsigned char** id,
                                     std::size_t* size, SSL_SESSION** session) {
            *session = early->own_session();
            SSL_SESSION_set_max_early_data(*session, 1000);
            *id = reinterpret_cast<const unsigned char*>(early->own_identity().data());
            *size = early->own_identity().size();
            return 1;
        });
    tls_side side{context, launcher, "launcher"};
    early = &side;
    auto socket = raw();
    const std::unique_ptr<SSL, decltype(&SSL_free)> one{SSL_new(context->native_handle()),
                                                        SSL_free};
    side.attach(one.get());
    SSL_set_connect_state(one.get());
    BIO* from = BIO_new(BIO_s_mem());
    BIO* to = BIO_new(BIO_s_mem());
    SSL_set_bio(one.get(), from, to);
    std::size_t written = 0;
    ASSERT_EQ(SSL_write_early_data(one.get(), "early", 5, &written), 1);
    socket.non_blocking(true);
    const auto exchanged = [&] {
        char* bytes = nullptr;
        const auto size = BIO_get_mem_data(to, &bytes);
        if (size > 0) asio::write(socket, asio::buffer(bytes, static_cast<std::size_t>(size)));
        (void)BIO_reset(to);
        std::array<char, 4096> room;
        boost::system::error_code ec;
        const auto got = socket.read_some(asio::buffer(room), ec);
        if (got > 0) BIO_write(from, room.data(), static_cast<int>(got));
        (void)SSL_do_handshake(one.get());
        loop.context.poll();
        return SSL_is_init_finished(one.get()) == 1 || (ec && ec != asio::error::would_block);
    };
    const auto watchdog = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (!exchanged() && std::chrono::steady_clock::now() < watchdog) {
    }
    ASSERT_EQ(SSL_is_init_finished(one.get()), 1);
    EXPECT_EQ(SSL_get_early_data_status(one.get()), SSL_EARLY_DATA_REJECTED);
}

TEST_F(tls, and_plain_tcp_do_not_understand_each_other_and_say_so) {
    listen();
    const auto plain = dialed("launcher", launcher, "127.0.0.1", true);
    ASSERT_FALSE(plain);
    EXPECT_EQ(plain.error().code, errc::protocol);
    EXPECT_TRUE(contains(plain.error().text,
                         "it speaks TLS only, and was dialed as insecure: leave that out"))
        << plain.error().text;
    expect_line("bytes that are not TLS; a node that dials as insecure, perhaps");

    auto with = options();
    with.insecure = true;
    node.emplace(loop.context, std::move(with));
    const auto secure = dialed("launcher", launcher);
    ASSERT_FALSE(secure);
    EXPECT_TRUE(contains(secure.error().text,
                         "a node that is insecure; both sides have to say insecure, or neither"))
        << secure.error().text;
    ASSERT_TRUE(loop.run_until([&] { return !lines.empty(); }));
    EXPECT_TRUE(contains(lines[0], "a TLS hello, but this node is insecure")) << lines[0];
}

TEST_F(tls, closes_at_the_first_octet_that_begins_no_record) {
    listen();
    for (const char octet : {'\0', 'G', '\x15', '\x17'}) {
        lines.clear();
        auto socket = raw();
        asio::write(socket, asio::buffer(&octet, 1));
        expect_line("bytes that are not TLS");
        std::string seen;
        boost::system::error_code ec;
        asio::read(socket, asio::dynamic_buffer(seen), ec);
        EXPECT_EQ(ec, asio::error::eof);
        EXPECT_TRUE(contains(seen, "TLS only"));
    }
}

TEST_F(tls, reads_no_more_than_16_kib_of_a_handshake) {
    listen();
    auto socket = raw();
    // A good hello, and then a record that is as long as TLS allows.
    auto bytes = loop.hello_of(launcher, "launcher");
    const std::array header{std::byte{0x17}, std::byte{3}, std::byte{3}, std::byte{0x41},
                            std::byte{0}};
    bytes.insert(bytes.end(), header.begin(), header.end());
    bytes.resize(bytes.size() + 0x4100);
    boost::system::error_code ignored;
    asio::write(socket, asio::buffer(bytes), ignored);
    expect_line("more bytes than a handshake has");
}

TEST_F(tls, reads_no_hello_that_is_longer_than_its_record) {
    listen();
    auto socket = raw();
    // A hello of TLS that says it has 100,000 bytes, in records of 4 KiB.
    std::string bytes;
    for (int i = 0; i < 5; ++i) {
        std::string record(4096, '\0');
        if (i == 0) record.replace(0, 4, std::string{"\x01\x01\x86\xa0", 4});
        bytes += std::string{"\x16\x03\x01\x10\x00", 5} + record;
    }
    boost::system::error_code ignored;
    asio::write(socket, asio::buffer(bytes), ignored);
    expect_line("a TLS record that does not hold all of a hello");
}

TEST_F(tls, is_what_a_listener_on_any_address_speaks) {
    for (const char* address : {"0.0.0.0", "::1", "::", "localhost"}) {
        SCOPED_TRACE(address);
        listen(address);
        const auto r = dialed("launcher", launcher, contains(address, ":") ? "::1" : "127.0.0.1");
        EXPECT_TRUE(r) << r.error().text;
    }
}

TEST_F(tls, outlives_ten_thousand_random_connections) {
    const auto seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    std::mt19937 random{seed};
    auto with = options();
    with.log_window = std::chrono::milliseconds{100};
    node.emplace(loop.context, std::move(with));
    const auto refused = [&] {
        std::size_t sum = 0;
        for (const auto& line : lines)
            sum += contains(line, " more refused; the last: ") ? std::stoul(line) : 1;
        return sum;
    };
    constexpr std::size_t connections = 10'000;
    for (std::size_t i = 0; i < connections; ++i) {
        auto socket = raw();
        std::string bytes(random() % 200, '\0');
        for (auto& b : bytes) b = static_cast<char>(random());
        // Half of them begin like a record of TLS, or they would all end at the same line.
        if (random() % 2 && bytes.size() > 5)
            bytes.replace(0, 5, std::string{"\x16\x03\x01\x00", 4} + static_cast<char>(random()));
        boost::system::error_code ignored;
        asio::write(socket, asio::buffer(bytes), ignored);
        socket.close(ignored);
        loop.run_ready();
    }
    ASSERT_TRUE(loop.run_until([&] { return refused() == connections; }));
    std::printf("%zu lines for %zu connections\n", lines.size(), connections);
    EXPECT_LT(lines.size(), connections / 2);
    lines.clear();
    expect_in("launcher", launcher, all_rights);
}

}  // namespace
}  // namespace places::net
