// SPDX-License-Identifier: Apache-2.0
#include "net/listener.hpp"

#include "net/pending_handshakes.hpp"
#include "net/tls_hello.hpp"

#include <boost/asio/error.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <exception>
#include <new>
#include <optional>
#include <poll.h>
#include <random>
#include <span>
#include <sstream>
#include <sys/resource.h>
#include <sys/socket.h>
#include <utility>
#include <vector>

namespace places::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds accept_pause{100};

// Handshakes take at most one in so many of the process's descriptors, or pending_min; the rest is
// for links and channels.
constexpr std::size_t descriptors_divisor = 4;
constexpr std::size_t pending_min = 64;

using receive_low_watermark = asio::socket_base::receive_low_watermark;

constexpr const char* loopback_only =
    "insecure is for loopback only (127.0.0.1, ::1): it would carry messages in the clear";

constexpr const char* too_long = "not the places protocol: more bytes than a handshake has";

std::size_t room_for_pending(std::size_t wanted) noexcept {
    rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return std::min(wanted, pending_min);
    return std::min<rlim_t>(wanted,
                            std::max<rlim_t>(files.rlim_cur / descriptors_divisor, pending_min));
}

std::string to_string(const tcp::endpoint& endpoint) {
    std::ostringstream text;
    text << endpoint;
    return std::move(text).str();
}

std::string to_string(const std::string& host, std::uint16_t port) {
    const bool is_v6 = host.find(':') != host.npos;
    return (is_v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

asio::ip::address unmapped(const asio::ip::address& address) {
    if (address.is_v6() && address.to_v6().is_v4_mapped())
        return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
    return address;
}

bool is_loopback(const asio::ip::address& address) { return unmapped(address).is_loopback(); }

// A socket that is closed with something unread takes back what it has just sent.
void drop_what_came(tcp::socket& socket) {
    std::array<std::byte, 4096> unread;
    error_code ignored;
    (void)socket.receive(asio::buffer(unread), 0, ignored);
}

// -- one handshake over one connection --

// Owns the connection until the handshake is over, within a deadline and a budget of bytes; keeps
// itself alive meanwhile. `done` is called once, or never after drop().
class greeting : public pending_handshake, public std::enable_shared_from_this<greeting> {
  public:
    using claimed_handler = std::function<void()>;
    /// What an accepting side has for TLS: `make` makes its state once the hello has come. Both are
    /// empty where the connection has TLS already, or no TLS is wanted.
    struct tls_maker {
        std::function<std::unique_ptr<tls_side>(claimed_handler)> make;
        std::shared_ptr<seen_hellos> seen;
    };

    greeting(stream connection, const tcp::endpoint& peer, handshake shake, tls_maker tls,
             std::function<void(key_proof)> on_proof, std::function<void(dial_result)> done)
        : stream_(std::move(connection)),
          timer_(stream_.get_executor()),
          peer_(peer),
          handshake_(std::move(shake)),
          tls_(std::move(tls)),
          on_proof_(std::move(on_proof)),
          done_(std::move(done)) {}

    void start(clock::time_point deadline) {
        timer_.expires_at(deadline);
        timer_.async_wait([self = shared_from_this()](error_code ec) {
            if (ec) return;
            self->guarded([&] {
                self->fail(errc::node_unreachable, "no whole handshake within the deadline");
            });
        });
        stream_.allow(handshake_limits.frame_bytes_max);
        if (tls_.make) return await_hello(1);
        if (stream_.is_secure()) return shake();
        act(handshake_.start());
    }

    bool has_news() override {
        error_code ec;
        return stream_.socket().available(ec) >= awaited_ && !ec;
    }

    /// Without TLS the other side is told.
    void make_room(const std::string& why) override {
        error_code ignored;
        if (tls_.make || stream_.is_secure()) {
            // The kernel keeps nothing of the connection either.
            stream_.socket().set_option(asio::socket_base::linger{true, 0}, ignored);
        } else {
            const auto word = handshake_.breach(errc::full, why + "; try again");
            const auto bytes_of_word = encode(*word.send);
            stream_.socket().non_blocking(true, ignored);
            (void)stream_.socket().send(asio::buffer(bytes_of_word), 0, ignored);
            drop_what_came(stream_.socket());
        }
        over_ = true;
        stream_.close();
        finish(failure{errc::full, why});
    }

    void drop() override {
        over_ = true;
        done_ = nullptr;
        on_proof_ = nullptr;
        timer_.cancel();
        stream_.close();
    }

  private:
    // The hello stays in the kernel until its record is complete. Until then a connection costs a
    // socket, no TLS state and no turn of this thread.
    void await_hello(std::size_t bytes) {
        error_code ec;
        stream_.socket().set_option(receive_low_watermark{static_cast<int>(bytes)}, ec);
        if (ec) return on_error("reading", ec);
        awaited_ = bytes;
        stream_.socket().async_wait(tcp::socket::wait_read,
                                    [self = shared_from_this(), bytes](error_code wait_ec) {
                                        self->guarded([&] { self->on_hello(bytes, wait_ec); });
                                    });
    }

    void on_hello(std::size_t awaited, error_code ec) {
        if (over_) return;
        std::array<std::byte, hello_start_bytes> bytes{};
        std::size_t got = 0;
        // Asked first, so that none of these bytes is missing below.
        const auto here = ec ? 0 : stream_.socket().available(ec);
        if (!ec) {
            stream_.socket().non_blocking(true, ec);
            got =
                stream_.socket().receive(asio::buffer(bytes), asio::socket_base::message_peek, ec);
            if (!ec && got == 0) ec = asio::error::eof;
        }
        if (ec) return on_error("reading", ec);
        if (bytes[0] == tls_handshake_record) {
            const auto start = std::span{bytes}.first(got);
            const auto needed = first_record_bytes(start);
            if (needed > handshake_limits.frame_bytes_max) return fail(errc::protocol, too_long);
            if (here >= needed) return on_whole_record(start);
            // Less than awaited: it has ended, and OpenSSL has the words for that.
            return needed > awaited ? await_hello(needed) : begin_tls();
        }
        // Answered without TLS, since the peer does not speak it; a places node can read this.
        const auto word = handshake_.breach(
            errc::protocol, "it speaks TLS only, and was dialed as insecure: leave that out");
        out_ = encode(*word.send);
        asio::async_write(stream_.socket(), asio::buffer(out_),
                          [self = shared_from_this()](error_code, std::size_t) {
                              if (self->over_) return;
                              drop_what_came(self->stream_.socket());
                              self->guarded([&] {
                                  self->fail(errc::protocol,
                                             "not the places protocol: bytes that are not TLS; a "
                                             "node that dials as insecure, perhaps");
                              });
                          });
    }

    void on_whole_record(std::span<const std::byte> start) {
        hello_ = random_of_hello(start);
        if (!hello_)
            return fail(errc::protocol,
                        "not the places protocol: a TLS record that does not hold all of a hello");
        if (tls_.seen->has(*hello_))
            return fail(errc::bad_key, "a copy of a TLS hello that was sent before");
        begin_tls();
    }

    void begin_tls() {
        error_code ec;
        stream_.socket().set_option(receive_low_watermark{1}, ec);
        awaited_ = 1;
        auto side = std::exchange(tls_.make, nullptr)([weak = weak_from_this()] {
            if (const auto self = weak.lock()) self->on_claimed();
        });
        stream_ = stream{std::move(stream_.socket()), std::move(side)};
        stream_.allow(handshake_limits.frame_bytes_max);
        shake();
    }

    void on_claimed() noexcept {
        try {
            if (hello_) tls_.seen->add(*hello_);
        } catch (const std::bad_alloc&) {
            // A copy of it then has the time of a hello, and no more.
        }
        show(key_proof::claimed);
    }

    void show(key_proof shown) {
        if (on_proof_) on_proof_(shown);
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
        show(key_proof::given);
        handshake_.secure(std::move(proved->key), proved->binding);
        act(handshake_.start());
    }

    void act(handshake::step step) {
        if (std::holds_alternative<peer_info>(step.then)) show(key_proof::given);
        if (!step.send) return conclude(std::move(step.then));
        out_ = encode(*step.send);
        asio::async_write(stream_, asio::buffer(out_),
                          [self = shared_from_this(), then = std::move(step.then)](
                              error_code ec, std::size_t) mutable {
                              if (self->over_) return;
                              // A peer that is gone misses its last word, not its place in the log.
                              const bool is_lost = ec && !std::holds_alternative<failure>(then);
                              self->guarded([&] {
                                  if (is_lost) return self->on_error("writing", ec);
                                  self->conclude(std::move(then));
                              });
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

    // When a read is complete: after so many bytes. What is missing is what has_news() looks for;
    // under TLS it is a record, of any length.
    auto await(std::size_t bytes) {
        return [this, bytes](error_code ec, std::size_t got) -> std::size_t {
            if (!stream_.is_secure()) awaited_ = std::max<std::size_t>(bytes - got, 1);
            return ec ? 0 : bytes - got;
        };
    }

    // Exactly one frame at a time: what follows the last one belongs to the link.
    void read_length() {
        asio::async_read(stream_, asio::buffer(prefix_), await(prefix_.size()),
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
        asio::async_read(stream_, asio::buffer(body_), await(body_.size()),
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
        act(handshake_.breach(
            errc::protocol,
            ec == errc::too_large ? too_long : "not the places protocol: bytes that are no frame"));
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
        if (ec == errc::too_large) return fail(errc::protocol, too_long);
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
        on_proof_ = nullptr;
        // `done` may own whoever owns this.
        const auto done = std::exchange(done_, nullptr);
        if (done) done(std::move(r));
    }

    stream stream_;
    asio::steady_timer timer_;
    const tcp::endpoint peer_;
    handshake handshake_;
    tls_maker tls_;
    std::function<void(key_proof)> on_proof_;
    std::function<void(dial_result)> done_;
    std::optional<hello_random> hello_;
    std::size_t awaited_ = 1;  // bytes in the kernel that make the next step
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
          pending_(room_for_pending(options_.pending_max)),
          pause_(context),
          room_(context),
          window_(context) {
        open();
        if (!options_.insecure) tls_ = make_tls_context();
    }

    std::uint16_t port() const noexcept { return endpoint_.port(); }
    const std::string& name() const noexcept { return options_.name; }

    // Waits and then accepts, since a failure inside Asio's async_accept would leave no handler.
    void accept() {
        try {
            acceptor_.async_wait(tcp::acceptor::wait_read,
                                 [self = shared_from_this()](error_code ec) {
                                     if (self->closed_) return;
                                     self->is_accepting_ = false;
                                     self->on_connection(ec);
                                 });
            is_accepting_ = true;
        } catch (const std::bad_alloc&) {
            on_error(asio::error::no_memory);
        }
    }

    void close() {
        if (closed_) return;
        summarise();
        closed_ = true;
        error_code ignored;
        acceptor_.close(ignored);
        pause_.cancel();
        room_.cancel();
        window_.cancel();
        waiting_.clear();
        pending_.drop_all();
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
        set_up_handshakes();
        (void)make_handshake();

        endpoint_ = {address, options_.port};
        acceptor_.open(endpoint_.protocol(), ec);
        if (!ec) acceptor_.set_option(tcp::acceptor::reuse_address{true}, ec);
        if (!ec) acceptor_.bind(endpoint_, ec);
        if (!ec) acceptor_.listen(asio::socket_base::max_listen_connections, ec);
        if (!ec) acceptor_.non_blocking(true, ec);
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
        if (!has_name) {
            options_.name = to_string(options_.address, endpoint_.port());
            set_up_handshakes();
        }
    }

    void set_up_handshakes() {
        for_handshakes_ = std::make_shared<const handshake::config>(handshake::config{
            options_.keys, options_.name, options_.incarnation, options_.protocols});
    }

    handshake make_handshake() const { return {handshake::role::accepting, for_handshakes_}; }

    std::shared_ptr<const std::vector<known_key>> keys() const {
        return {for_handshakes_, &for_handshakes_->keys};
    }

    // -- accepted, and waiting for a handshake to end --

    struct newcomer {
        tcp::socket socket;
        tcp::endpoint peer;
        asio::ip::address origin;
        bool is_known;
    };

    void on_connection(error_code ec) {
        try {
            tcp::socket socket{acceptor_.get_executor()};
            if (!ec) acceptor_.accept(socket, peer_endpoint_, ec);
            // It has hung up meanwhile.
            if (ec == asio::error::would_block || ec == asio::error::connection_aborted)
                return accept();
            if (!ec) {
                failing_ = false;
                return on_accepted(std::move(socket));
            }
        } catch (const std::bad_alloc&) {
            ec = asio::error::no_memory;
        }
        on_error(ec);
    }

    // Known addresses go ahead of unknown ones, so that the reserve is of use to them.
    void on_accepted(tcp::socket socket) {
        const auto origin = origin_of(peer_endpoint_.address());
        const bool is_known = pending_.is_known(origin);
        const auto at = !is_known ? waiting_.end()
                                  : std::find_if(waiting_.begin(), waiting_.end(),
                                                 [](const newcomer& n) { return !n.is_known; });
        try {
            waiting_.insert(at, {std::move(socket), peer_endpoint_, origin, is_known});
        } catch (const std::exception& e) {
            refused(peer_endpoint_, e.what());
        }
        admit();
    }

    void admit() {
        try {
            begin_handshakes();
        } catch (const std::exception& e) {
            // Nothing calls this again for them, perhaps.
            for (const auto& each : std::exchange(waiting_, {})) refused(each.peer, e.what());
        }
        if (!is_accepting_ && !failing_ && waiting_.size() <= pending_.reserve()) accept();
    }

    // Begins the handshakes of those that wait, as far as the ones in their way have had their
    // time.
    void begin_handshakes() {
        while (!waiting_.empty()) {
            const auto now = clock::now();
            const auto obstacle = pending_.find_obstacle(waiting_.front().origin, now);
            if (obstacle.handshake && obstacle.ends_at > now) {
                return admit_at(obstacle.ends_at);
            }
            if (obstacle.handshake)
                obstacle.handshake->make_room(
                    std::to_string(pending_.size()) +
                    " handshakes are under way, and this one made room for a newer one");
            auto next = std::move(waiting_.front());
            waiting_.pop_front();
            greet(std::move(next));
        }
    }

    void admit_at(clock::time_point when) {
        room_.expires_at(when);
        // Cancelled, a handshake has ended.
        room_.async_wait([self = shared_from_this()](error_code) {
            if (!self->closed_) self->admit();
        });
    }

    void greet(newcomer next) {
        const auto peer = next.peer;
        try {
            const auto at = std::make_shared<pending_handshakes::handle>();
            greeting::tls_maker tls;
            if (tls_)
                tls = {[context = tls_, keys = keys()](greeting::claimed_handler on_claimed) {
                           return std::make_unique<tls_side>(context, keys, std::move(on_claimed));
                       },
                       seen_};
            const auto one = std::make_shared<greeting>(
                stream{std::move(next.socket)}, peer, make_handshake(), std::move(tls),
                [self = shared_from_this(), at](key_proof shown) {
                    self->pending_.advance(*at, shown, clock::now());
                },
                [self = shared_from_this(), at, peer, origin = next.origin](dial_result r) {
                    self->pending_.remove(*at);
                    self->room_.cancel();
                    self->on_greeted(peer, origin, std::move(r));
                });
            *at = pending_.add(one, next.origin, clock::now());
            try {
                one->start(clock::now() + options_.handshake_deadline);
            } catch (const std::exception&) {
                one->drop();
                pending_.remove(*at);
                throw;
            }
        } catch (const std::exception& e) {
            refused(peer, e.what());
        }
    }

    void on_greeted(const tcp::endpoint& from, const asio::ip::address& origin, dial_result r) {
        if (closed_) return;
        if (!r) return refused(from, r.error().text);
        try {
            pending_.remember(origin, clock::now());
            const peer_info peer = (*r)->peer();
            if (options_.on_link) options_.on_link(std::move(*r), peer);
        } catch (const std::exception& e) {
            print([&] { return "dropped the link from " + to_string(from) + ": " + e.what(); });
        }
    }

    // No descriptor or memory is left: a busy loop would not help.
    void on_error(error_code ec) {
        if (!std::exchange(failing_, true))
            print([&] {
                return "cannot accept connections on " + to_string(endpoint_) + ": " +
                       ec.message() + "; trying again every " +
                       std::to_string(accept_pause.count()) + " ms";
            });
        pause_.expires_after(accept_pause);
        pause_.async_wait([self = shared_from_this()](error_code wait_ec) {
            if (!wait_ec && !self->closed_) self->accept();
        });
    }

    void refused(const tcp::endpoint& from, const std::string& cause) noexcept {
        try {
            if (refused_in_window_ == 0) {
                window_.expires_after(options_.log_window);
                window_.async_wait([self = shared_from_this()](error_code ec) {
                    if (!ec && !self->closed_) self->summarise();
                });
            }
            ++refused_in_window_;
            if (refused_in_window_ > options_.refusals_logged_max) last_unlogged_ = {from, cause};
        } catch (const std::exception&) {
            // No memory for the window: this line is printed, and counted in no summary.
        }
        if (refused_in_window_ <= options_.refusals_logged_max)
            print([&] { return line_of(from, cause); });
    }

    void summarise() {
        const std::size_t refused = std::exchange(refused_in_window_, 0);
        if (refused <= options_.refusals_logged_max) return;
        const std::size_t unlogged = refused - options_.refusals_logged_max;
        print([&] {
            return std::to_string(unlogged) + " more refused; the last: " +
                   line_of(last_unlogged_.first, last_unlogged_.second);
        });
    }

    static std::string line_of(const tcp::endpoint& from, const std::string& cause) {
        return "refused a connection from " + to_string(from) + ": " + cause;
    }

    // A line for which there is no memory is lost.
    template <class Line>
    void print(Line line) noexcept {
        try {
            if (options_.log) options_.log(line());
        } catch (const std::exception&) {
        }
    }

    listen_options options_;
    std::shared_ptr<asio::ssl::context> tls_;  // none when insecure
    std::shared_ptr<const handshake::config> for_handshakes_;
    const std::shared_ptr<seen_hellos> seen_ = std::make_shared<seen_hellos>();
    tcp::acceptor acceptor_;
    tcp::endpoint endpoint_;
    tcp::endpoint peer_endpoint_;   // of the accept under way
    std::deque<newcomer> waiting_;  // known addresses first
    pending_handshakes pending_;
    asio::steady_timer pause_;  // for descriptors or memory
    asio::steady_timer room_;   // for a handshake that has had its time
    asio::steady_timer window_;
    std::size_t refused_in_window_ = 0;
    std::pair<tcp::endpoint, std::string> last_unlogged_;
    bool is_accepting_ = false;
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

// Between two looks at a connection that is being made.
constexpr std::chrono::milliseconds connect_look_interval{100};

/// Whether the connection is made, or has failed.
bool is_settled(tcp::socket& socket) {
    pollfd settled{socket.native_handle(), POLLOUT, 0};
    return ::poll(&settled, 1, 0) > 0;
}

/// Of one that is settled; asked once, as the kernel forgets it.
error_code outcome_of_connect(tcp::socket& socket) {
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    return error_code{error, boost::system::system_category()};
}

// Between two rounds over all addresses, after a node has turned us away or hung up: doubled each
// time, and of that a half to the whole, so that many who wait do not come back together.
constexpr std::chrono::milliseconds again_after_min{10};
constexpr std::chrono::milliseconds again_after_max{250};

// All that dial() does; keeps itself alive until `done` was called.
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

    void cancel() {
        if (over_) return;
        over_ = true;
        resolver_.cancel();
        timer_.cancel();
        close_socket();
        if (const auto one = greeting_.lock()) one->drop();
        done_ = nullptr;
    }

    void start() {
        if (over_) return;
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
        await_connection(until);
        socket_.async_connect(to, [self = shared_from_this(), to, until](error_code ec) {
            if (self->over_) return;
            ++self->tried_;
            // Cancelled, not closed: await_connection() has found it settled.
            if (ec == asio::error::operation_aborted && self->socket_.is_open()) {
                ec = outcome_of_connect(self->socket_);
            }
            if (!ec) return self->greet(to, until);
            const bool is_late = ec == asio::error::operation_aborted;
            const bool is_refused = ec == asio::error::connection_refused;
            self->on_mute(to, is_late ? "no answer in time" : ec.message(),
                          is_late      ? "; is the host up, and is the port open in its firewall?"
                          : is_refused ? "; is the node running?"
                                       : "");
        });
    }

    // Asio ignores it where the kernel refuses to watch for the connection, and would wait for
    // nothing: so the socket itself is looked at now and then.
    void await_connection(clock::time_point until) {
        timer_.expires_at(std::min(until, clock::now() + connect_look_interval));
        timer_.async_wait([self = shared_from_this(), at = tried_, until](error_code ec) {
            if (ec || self->over_ || self->tried_ != at) return;
            if (clock::now() >= until) return self->close_socket();
            if (!is_settled(self->socket_)) return self->await_connection(until);
            self->socket_.cancel(ec);
        });
    }

    void on_mute(const tcp::endpoint& to, const std::string& why, const char* advice) {
        note(to, why);
        if (tried_ < endpoints_.size()) return connect_next();
        if (dropped_ && begin_again()) return;
        std::string text = causes_;
        if (!dropped_ && !causes_before_.empty()) text += ", before that " + causes_before_;
        if (rounds_ > 0) text += "; tried " + std::to_string(rounds_ + 1) + " times";
        fail(dropped_.value_or(errc::node_unreachable), text + advice);
    }

    // Returns: whether there is time for it.
    bool begin_again() {
        const auto longest =
            std::min(again_after_min * (1 << std::min(rounds_, 10)), again_after_max);
        std::uniform_int_distribution<std::int64_t> jitter{longest.count() / 2, longest.count()};
        const auto at = clock::now() + std::chrono::milliseconds{jitter(random_)};
        if (at >= deadline_) return false;
        ++rounds_;
        timer_.expires_at(at);
        timer_.async_wait([self = shared_from_this()](error_code ec) {
            if (ec || self->over_) return;
            self->tried_ = 0;
            self->causes_before_ = std::exchange(self->causes_, {});
            self->dropped_.reset();
            self->connect_next();
        });
        return true;
    }

    void note(const tcp::endpoint& to, const std::string& why) {
        if (!causes_.empty()) causes_ += ", ";
        if (to_string(to) != where_) causes_ += to_string(to) + ": ";
        causes_ += why;
    }

    void greet(const tcp::endpoint& to, clock::time_point until) {
        if (over_) return;
        timer_.cancel();
        const auto done = [self = shared_from_this(), to, until](dial_result r) {
            if (r) return self->finish(std::move(r));
            const auto& [code, text] = r.error();
            if (code == errc::node_unreachable || code == errc::full) {
                if (clock::now() < until) self->dropped_ = code;
                return self->on_mute(
                    to, text, code == errc::full ? "" : "; is it a node that listens there?");
            }
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
            const auto one = std::make_shared<greeting>(connection(), to, std::move(shake),
                                                        greeting::tls_maker{}, nullptr, done);
            greeting_ = one;
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
    std::string causes_before_;             // in the last round that led to another
    std::optional<errc> dropped_;           // what the last said that may say another word later
    int rounds_ = 0;                        // over all of them, given up
    std::minstd_rand random_{std::random_device{}()};
    std::weak_ptr<greeting> greeting_;  // with the node of the last address
    std::function<void(dial_result)> done_;
    bool over_ = false;
};

}  // namespace

std::function<void()> dial(asio::io_context& context, dial_options options,
                           std::function<void(dial_result)> done) {
    auto one = std::make_shared<attempt>(context, std::move(options), std::move(done));
    asio::post(context, [one] { one->start(); });
    return [weak = std::weak_ptr{one}] {
        if (const auto still = weak.lock()) still->cancel();
    };
}

}  // namespace places::net
