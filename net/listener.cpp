// SPDX-License-Identifier: Apache-2.0
#include "net/listener.hpp"

#include <boost/asio/error.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>

#include <array>
#include <exception>
#include <optional>
#include <sstream>
#include <unordered_set>
#include <utility>
#include <vector>

namespace places::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds accept_pause{100};

constexpr std::byte tls_handshake_record{0x16};

constexpr const char* loopback_only =
    "insecure is for loopback only (127.0.0.1, ::1): it would carry messages in the clear";

std::string to_string(const tcp::endpoint& endpoint) {
    std::ostringstream text;
    text << endpoint;
    return std::move(text).str();
}

std::string to_string(const std::string& host, std::uint16_t port) {
    const bool is_v6 = host.find(':') != host.npos;
    return (is_v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

bool is_loopback(const asio::ip::address& address) {
    if (address.is_v6() && address.to_v6().is_v4_mapped())
        return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).is_loopback();
    return address.is_loopback();
}

// A socket that is closed with something unread takes back what it has just sent.
void drop_what_came(tcp::socket& socket) {
    std::array<std::byte, 4096> unread;
    error_code ignored;
    (void)socket.receive(asio::buffer(unread), 0, ignored);
}

// -- one handshake over one connection --

// Owns the connection until the handshake is over, within a deadline and a budget of bytes; keeps
// itself alive meanwhile. `done` is called once, or never after drop().
class greeting : public std::enable_shared_from_this<greeting> {
  public:
    greeting(stream connection, const tcp::endpoint& peer, handshake shake,
             std::function<void(dial_result)> done)
        : stream_(std::move(connection)),
          timer_(stream_.get_executor()),
          peer_(peer),
          handshake_(std::move(shake)),
          done_(std::move(done)) {}

    void start(clock::time_point deadline) {
        timer_.expires_at(deadline);
        timer_.async_wait([self = shared_from_this()](error_code ec) {
            if (!ec) self->fail(errc::node_unreachable, "no whole handshake within the deadline");
        });
        stream_.allow(handshake_limits.frame_bytes_max);
        if (!stream_.is_secure()) return act(handshake_.start());
        if (stream_.side().is_dialing()) return shake();
        stream_.socket().async_wait(tcp::socket::wait_read,
                                    [self = shared_from_this()](error_code ec) {
                                        self->guarded([&] { self->on_first_octet(ec); });
                                    });
    }

    void drop() {
        over_ = true;
        done_ = nullptr;
        timer_.cancel();
        stream_.close();
    }

  private:
    // OpenSSL would wait for a whole header of a record, however little it looks like one.
    void on_first_octet(error_code ec) {
        if (over_) return;
        std::byte first{};
        if (!ec) {
            stream_.socket().non_blocking(true, ec);
            const auto got = stream_.socket().receive(asio::buffer(&first, 1),
                                                      asio::socket_base::message_peek, ec);
            if (!ec && got == 0) ec = asio::error::eof;
        }
        if (ec) return on_error("reading", ec);
        if (first == tls_handshake_record) return shake();
        // In the clear, since whoever is there does not speak TLS; a places node understands it.
        const auto word = handshake_.breach(
            errc::protocol, "it speaks TLS only, and was dialed as insecure: leave that out");
        out_ = encode(*word.send);
        asio::async_write(stream_.socket(), asio::buffer(out_),
                          [self = shared_from_this()](error_code, std::size_t) {
                              if (self->over_) return;
                              drop_what_came(self->stream_.socket());
                              self->fail(errc::protocol,
                                         "not the places protocol: bytes that are not TLS; a "
                                         "node that dials as insecure, perhaps");
                          });
    }

    void shake() {
        stream_.async_shake([self = shared_from_this()](error_code ec) {
            self->guarded([&] { self->on_shaken(ec); });
        });
    }

    void on_shaken(error_code ec) {
        if (over_) return;
        if (ec) {
            auto why = stream_.side().explain(ec, !stream_.has_read());
            return fail(why.code, std::move(why.text));
        }
        auto proved = stream_.side().proof();
        if (!proved) return fail(errc::bad_key, wrong_key_text());
        handshake_.secure(std::move(proved->key), proved->binding);
        act(handshake_.start());
    }

    void act(handshake::step step) {
        if (!step.send) return conclude(std::move(step.then));
        out_ = encode(*step.send);
        asio::async_write(stream_, asio::buffer(out_),
                          [self = shared_from_this(), then = std::move(step.then)](
                              error_code ec, std::size_t) mutable {
                              if (self->over_) return;
                              // A peer that is gone misses its last word, not its place in the log.
                              if (ec && !std::holds_alternative<failure>(then))
                                  return self->on_error("writing", ec);
                              self->guarded([&] { self->conclude(std::move(then)); });
                          });
    }

    void conclude(handshake::outcome then) {
        if (auto* f = std::get_if<failure>(&then)) return fail(f->code, std::move(f->text));
        if (auto* peer = std::get_if<peer_info>(&then)) {
            peer->address = to_string(peer_);
            peer->is_loopback = is_loopback(peer_.address());
            peer->is_secure = stream_.is_secure();
            stream_.allow_all();
            return finish(std::make_shared<link>(std::move(stream_), std::move(*peer)));
        }
        read_length();
    }

    // Exactly one frame at a time: what follows the last one belongs to the link.
    void read_length() {
        asio::async_read(stream_, asio::buffer(prefix_),
                         [self = shared_from_this()](error_code ec, std::size_t bytes) {
                             self->guarded([&] { self->on_length(ec, bytes); });
                         });
    }

    void on_length(error_code ec, std::size_t bytes) {
        if (over_) return;
        bytes_read_ += bytes;
        if (ec) return on_error("reading", ec);
        const std::size_t left = handshake_limits.frame_bytes_max - bytes_read_;
        const auto length = decode_length(prefix_, {left});
        if (!length && is_tls_hello())
            return fail(errc::protocol,
                        "not the places protocol: a TLS hello, but this node is insecure");
        if (!length) return not_ours(length.error());
        body_.resize(*length);
        asio::async_read(stream_, asio::buffer(body_),
                         [self = shared_from_this()](error_code read_ec, std::size_t read) {
                             self->guarded([&] { self->on_body(read_ec, read); });
                         });
    }

    void on_body(error_code ec, std::size_t bytes) {
        if (over_) return;
        bytes_read_ += bytes;
        if (ec) return on_error("reading", ec);
        if (handshake_limits.frame_bytes_max - bytes_read_ < length_prefix_bytes)
            return not_ours(errc::too_large);
        const auto f = decode(body_);
        if (!f) return not_ours(f.error());
        act(handshake_.feed(*f));
    }

    // A record of TLS that begins a handshake.
    bool is_tls_hello() const noexcept {
        return !stream_.is_secure() && prefix_[0] == tls_handshake_record &&
               prefix_[1] == std::byte{3};
    }

    void not_ours(error_code ec) {
        act(handshake_.breach(errc::protocol,
                              ec == errc::too_large
                                  ? "not the places protocol: more bytes than a handshake has"
                                  : "not the places protocol: bytes that are no frame"));
    }

    // What memory or the crypto library refuse ends this handshake only.
    template <class Body>
    void guarded(Body body) {
        try {
            body();
        } catch (const std::exception& e) {
            fail(errc::start_failed, e.what());
        }
    }

    void on_error(const char* where, error_code ec) {
        if (ec == asio::error::eof || ec == asio::ssl::error::stream_truncated ||
            ec == asio::error::connection_reset || ec == asio::error::broken_pipe)
            return fail(errc::node_unreachable, stream_.has_read() ? "hung up during the handshake"
                                                                   : "hung up without a word");
        if (ec == errc::too_large)
            return fail(errc::protocol, "not the places protocol: more bytes than a handshake has");
        fail(errc::node_unreachable, std::string{where} + ": " + ec.message());
    }

    void fail(errc code, std::string text) {
        if (over_) return;
        error_code ignored;
        stream_.socket().shutdown(tcp::socket::shutdown_both, ignored);
        stream_.close();
        finish(failure{code, std::move(text)});
    }

    void finish(dial_result r) {
        over_ = true;
        timer_.cancel();
        // `done` may own whoever owns this.
        const auto done = std::exchange(done_, nullptr);
        if (done) done(std::move(r));
    }

    stream stream_;
    asio::steady_timer timer_;
    const tcp::endpoint peer_;
    handshake handshake_;
    std::function<void(dial_result)> done_;
    bool over_ = false;
    std::array<std::byte, length_prefix_bytes> prefix_{};
    std::vector<std::byte> body_;
    std::vector<std::byte> out_;
    std::size_t bytes_read_ = 0;
};

}  // namespace

// -- listener --

class listener::state : public std::enable_shared_from_this<listener::state> {
  public:
    state(asio::io_context& context, listen_options options)
        : options_(std::move(options)),
          acceptor_(context),
          pause_(context),
          window_(context) {
        open();
        if (!options_.insecure) tls_ = make_tls_context();
    }

    std::uint16_t port() const noexcept { return endpoint_.port(); }
    const std::string& name() const noexcept { return options_.name; }

    void accept() {
        acceptor_.async_accept(peer_endpoint_,
                               [self = shared_from_this()](error_code ec, tcp::socket socket) {
                                   if (self->closed_) return;
                                   if (ec) return self->on_error(ec);
                                   self->failing_ = false;
                                   self->greet(std::move(socket), self->peer_endpoint_);
                                   self->accept();
                               });
    }

    void close() {
        if (closed_) return;
        summarise();
        closed_ = true;
        error_code ignored;
        acceptor_.close(ignored);
        pause_.cancel();
        window_.cancel();
        for (const auto& one : std::exchange(pending_, {})) one->drop();
    }

  private:
    void open() {
        const std::string where = to_string(options_.address, options_.port);
        const auto refuse = [&](errc code, const std::string& why) {
            throw error{code, "cannot listen on " + where + ": " + why};
        };
        error_code ec;
        // By RFC 6761 always this machine, whatever a name server says.
        const auto address = options_.address == "localhost"
                                 ? asio::ip::address{asio::ip::address_v4::loopback()}
                                 : asio::ip::make_address(options_.address, ec);
        if (ec)
            refuse(errc::bad_argument,
                   "no address as numbers, such as 127.0.0.1 or ::1, and a name is not looked up");
        if (options_.insecure && !is_loopback(address)) refuse(errc::bad_argument, loopback_only);
        const bool has_name = !options_.name.empty();
        if (!has_name) options_.name = where;
        // What no peer accepts is refused here, not at the first peer.
        make_handshake();

        endpoint_ = {address, options_.port};
        acceptor_.open(endpoint_.protocol(), ec);
        if (!ec) acceptor_.set_option(tcp::acceptor::reuse_address{true}, ec);
        if (!ec) acceptor_.bind(endpoint_, ec);
        if (!ec) acceptor_.listen(asio::socket_base::max_listen_connections, ec);
        if (!ec) endpoint_ = acceptor_.local_endpoint(ec);
        if (ec == asio::error::address_in_use)
            refuse(errc::address_in_use,
                   ec.message() + "; choose another port, or 0 for any that is free");
        if (ec == boost::system::errc::address_not_available)
            refuse(errc::node_unreachable,
                   ec.message() +
                       "; it is not, or not yet an address of this host: choose one that is, or "
                       "0.0.0.0 or [::] for all");
        if (ec == asio::error::access_denied)
            refuse(errc::node_unreachable,
                   ec.message() + "; low ports take CAP_NET_BIND_SERVICE: choose one from 1024 on");
        if (ec) refuse(errc::node_unreachable, ec.message());
        if (!has_name) options_.name = to_string(options_.address, endpoint_.port());
    }

    handshake make_handshake() const {
        return {handshake::role::accepting,
                {options_.keys, options_.name, options_.incarnation, options_.protocols}};
    }

    void greet(tcp::socket socket, const tcp::endpoint& peer) {
        const auto address = to_string(peer);
        if (pending_.size() >= options_.pending_max) return turn_away(socket, address);
        try {
            auto shared = std::make_shared<std::weak_ptr<greeting>>();
            auto connection =
                tls_ ? stream{std::move(socket), std::make_unique<tls_side>(tls_, options_.keys)}
                     : stream{std::move(socket)};
            auto one = std::make_shared<greeting>(
                std::move(connection), peer, make_handshake(),
                [self = shared_from_this(), shared, address](dial_result r) {
                    self->pending_.erase(shared->lock());
                    self->on_greeted(address, std::move(r));
                });
            *shared = one;
            pending_.insert(one);
            one->start(clock::now() + options_.handshake_deadline);
        } catch (const std::exception& e) {
            refused(address, e.what());
        }
    }

    void turn_away(tcp::socket& socket, const std::string& address) {
        const auto why =
            std::to_string(pending_.size()) + " handshakes are under way already; try again later";
        // TLS has no such word before its handshake.
        if (!tls_) {
            const auto [min, max] = options_.protocols;
            const auto word = encode(reject_frame{errc::full, why, min, max});
            error_code ignored;
            socket.non_blocking(true, ignored);
            (void)socket.send(asio::buffer(word), 0, ignored);
            drop_what_came(socket);
        }
        refused(address, why);
    }

    void on_greeted(const std::string& address, dial_result r) {
        if (closed_) return;
        if (!r) return refused(address, r.error().text);
        try {
            const peer_info peer = (*r)->peer();
            if (options_.on_link) options_.on_link(std::move(*r), peer);
        } catch (const std::exception& e) {
            log("dropped the link from " + address + ": " + e.what());
        }
    }

    // Descriptors or memory have run out: whoever frees some is not helped by our spinning.
    void on_error(error_code ec) {
        if (!std::exchange(failing_, true))
            log("cannot accept connections on " + to_string(endpoint_) + ": " + ec.message() +
                "; trying again every " + std::to_string(accept_pause.count()) + " ms");
        pause_.expires_after(accept_pause);
        pause_.async_wait([self = shared_from_this()](error_code wait_ec) {
            if (!wait_ec && !self->closed_) self->accept();
        });
    }

    void refused(const std::string& address, const std::string& cause) {
        std::string line = "refused a connection from " + address + ": " + cause;
        if (refused_in_window_++ == 0) {
            window_.expires_after(options_.log_window);
            window_.async_wait([self = shared_from_this()](error_code ec) {
                if (!ec && !self->closed_) self->summarise();
            });
        }
        if (refused_in_window_ > options_.refusals_logged_max)
            last_unlogged_ = std::move(line);
        else
            log(std::move(line));
    }

    void summarise() {
        const std::size_t refused = std::exchange(refused_in_window_, 0);
        if (refused <= options_.refusals_logged_max) return;
        const std::size_t unlogged = refused - options_.refusals_logged_max;
        log(std::to_string(unlogged) + " more refused; the last: " + last_unlogged_);
    }

    void log(std::string line) {
        if (options_.log) options_.log(std::move(line));
    }

    listen_options options_;
    std::shared_ptr<asio::ssl::context> tls_;  // none when insecure
    tcp::acceptor acceptor_;
    tcp::endpoint endpoint_;
    tcp::endpoint peer_endpoint_;  // of the accept under way
    std::unordered_set<std::shared_ptr<greeting>> pending_;
    asio::steady_timer pause_;
    asio::steady_timer window_;
    std::size_t refused_in_window_ = 0;
    std::string last_unlogged_;
    bool failing_ = false;
    bool closed_ = false;
};

listener::listener(asio::io_context& context, listen_options options)
    : state_(std::make_shared<state>(context, std::move(options))) {
    state_->accept();
}

listener::~listener() { close(); }
std::uint16_t listener::port() const noexcept { return state_->port(); }
const std::string& listener::name() const noexcept { return state_->name(); }
void listener::close() { state_->close(); }

bool is_loopback(const std::string& host) {
    error_code ec;
    const auto address = asio::ip::make_address(host, ec);
    return ec ? host == "localhost" : is_loopback(address);
}

// -- dial --

namespace {

// Of many addresses each has at least this, and at most half of what is left: the kernel asks for a
// connection for the second time after a second.
constexpr clock::duration share_min = std::chrono::milliseconds{1200};

// One attempt, which keeps itself alive until `done` was called.
class attempt : public std::enable_shared_from_this<attempt> {
  public:
    attempt(asio::io_context& context, dial_options options, std::function<void(dial_result)> done)
        : options_(std::move(options)),
          where_(to_string(options_.host, options_.port)),
          deadline_(clock::now() + options_.deadline),
          resolver_(context),
          socket_(context),
          timer_(context),
          done_(std::move(done)) {}

    void start() {
        error_code ec;
        const auto address = asio::ip::make_address(options_.host, ec);
        if (!ec) return connect({{address, options_.port}});
        // By RFC 6761 always this machine, whatever a name server says.
        if (options_.host == "localhost")
            return connect({{asio::ip::address_v4::loopback(), options_.port},
                            {asio::ip::address_v6::loopback(), options_.port}});
        look_up();
    }

  private:
    void look_up() {
        timer_.expires_at(deadline_);
        timer_.async_wait([self = shared_from_this()](error_code ec) {
            if (!ec && self->endpoints_.empty())
                self->fail(errc::node_unreachable,
                           "the name was not looked up in time; does the name server answer? An "
                           "address as numbers needs none");
        });
        resolver_.async_resolve(
            options_.host, std::to_string(options_.port),
            [self = shared_from_this()](error_code ec, tcp::resolver::results_type found) {
                if (ec) return self->fail(errc::node_unreachable, ec.message());
                self->connect({found.begin(), found.end()});
            });
    }

    void connect(std::vector<tcp::endpoint> endpoints) {
        if (over_) return;
        if (endpoints.empty()) return fail(errc::node_unreachable, "its name has no address");
        if (options_.insecure) {
            std::erase_if(endpoints, [](const auto& e) { return !is_loopback(e.address()); });
            if (endpoints.empty()) return fail(errc::bad_argument, loopback_only);
        }
        endpoints_ = std::move(endpoints);
        connect_next();
    }

    // An address that leads nowhere, or to who says nothing, leaves time for those behind it.
    void connect_next() {
        const auto behind = static_cast<std::int64_t>(endpoints_.size() - tried_);
        const auto left = std::max(deadline_ - clock::now(), clock::duration::zero());
        const auto until = clock::now() + std::max(left / behind, std::min(left / 2, share_min));
        const auto to = endpoints_[tried_];
        // One that a greeting has taken is none.
        socket_ = tcp::socket{resolver_.get_executor()};
        timer_.expires_at(until);
        timer_.async_wait([self = shared_from_this(), at = tried_](error_code ec) {
            if (!ec && self->tried_ == at) self->close_socket();
        });
        socket_.async_connect(to, [self = shared_from_this(), to, until](error_code ec) {
            if (self->over_) return;
            ++self->tried_;
            if (!ec) return self->greet(to, until);
            const bool is_late = ec == asio::error::operation_aborted;
            const bool is_refused = ec == asio::error::connection_refused;
            self->on_mute(to, is_late ? "no answer in time" : ec.message(),
                          is_late      ? "; is the host up, and is the port open in its firewall?"
                          : is_refused ? "; is the node running?"
                                       : "");
        });
    }

    void on_mute(const tcp::endpoint& to, const std::string& why, const char* advice) {
        note(to, why);
        if (tried_ < endpoints_.size()) return connect_next();
        fail(errc::node_unreachable, causes_ + advice);
    }

    void note(const tcp::endpoint& to, const std::string& why) {
        if (!causes_.empty()) causes_ += ", ";
        if (to_string(to) != where_) causes_ += to_string(to) + ": ";
        causes_ += why;
    }

    void greet(const tcp::endpoint& to, clock::time_point until) {
        if (over_) return;
        timer_.cancel();
        const auto done = [self = shared_from_this(), to](dial_result r) {
            if (r) return self->finish(std::move(r));
            const auto& [code, text] = r.error();
            if (code == errc::node_unreachable)
                return self->on_mute(to, text, "; is it a node that listens there?");
            self->note(to, text);
            self->fail(code, self->causes_);
        };
        try {
            handshake shake{handshake::role::dialing,
                            {{known_key{options_.key, {}, {}}},
                             options_.name,
                             options_.incarnation,
                             options_.protocols,
                             options_.expected_name,
                             options_.granted}};
            const auto one = std::make_shared<greeting>(connection(), to, std::move(shake), done);
            one->start(until);
        } catch (const error& e) {
            fail(code_of(e), e.what());
        } catch (const std::exception& e) {
            fail(errc::start_failed, e.what());
        }
    }

    stream connection() {
        if (options_.insecure) return stream{std::move(socket_)};
        return {std::move(socket_),
                std::make_unique<tls_side>(make_tls_context(), options_.key, options_.name)};
    }

    void fail(errc code, const std::string& text) {
        if (over_) return;
        resolver_.cancel();
        close_socket();
        finish(failure{code, "no link to " + where_ + ": " + text});
    }

    void close_socket() {
        error_code ignored;
        socket_.close(ignored);
    }

    void finish(dial_result r) {
        over_ = true;
        timer_.cancel();
        const auto done = std::exchange(done_, nullptr);
        if (done) done(std::move(r));
    }

    dial_options options_;
    std::string where_;
    clock::time_point deadline_;
    tcp::resolver resolver_;
    tcp::socket socket_;
    asio::steady_timer timer_;
    std::vector<tcp::endpoint> endpoints_;  // of the host; empty until its name is looked up
    std::size_t tried_ = 0;                 // of them
    std::string causes_;                    // why there is no connection to those
    std::function<void(dial_result)> done_;
    bool over_ = false;
};

}  // namespace

void dial(asio::io_context& context, dial_options options, std::function<void(dial_result)> done) {
    auto one = std::make_shared<attempt>(context, std::move(options), std::move(done));
    asio::post(context, [one] { one->start(); });
}

}  // namespace places::net
