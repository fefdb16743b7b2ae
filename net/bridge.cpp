// SPDX-License-Identifier: Apache-2.0
#include "net/bridge.hpp"

#include "core/child.hpp"
#include "net/link.hpp"
#include "net/listener.hpp"
#include "net/output.hpp"
#include "net/relay.hpp"

#include <places/core/place.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <fcntl.h>
#include <memory>
#include <system_error>
#include <unistd.h>
#include <unordered_map>
#include <utility>

namespace places::net {
namespace {

namespace asio = boost::asio;

// Above this the rings wait: their memory is the queue, not ours.
constexpr std::size_t link_queue_bytes_max = 256 * 1024;
// What places print waits in their pipes above this, so that it never fills the queue alone.
constexpr std::size_t output_queue_bytes_max = 64 * 1024;
// Lines of the log above this are counted instead of sent.
constexpr std::size_t log_queue_bytes_max = 1024 * 1024;
// Only a peer that asks and asks and never reads gets us here.
constexpr std::size_t answer_queue_bytes_max = 4 * 1024 * 1024;
// What a node prints after this has passed since it was told to finish is not waited for.
constexpr std::chrono::seconds drain_limit{1};
// How long the `close` of a place's channel waits for the place's end.
constexpr std::chrono::seconds obituary_limit{1};

using relay_ptr = std::shared_ptr<relay>;

/// One authenticated link and the channels it carries.
struct session {
    std::uint64_t id = 0;
    std::shared_ptr<net::link> link;
    bool dialed = false;  ///< we are the launcher's side: we start, the other is started on
    std::string label;
    std::uint64_t controller = 0;    ///< local channel of the dial_command; 0 when accepted
    std::uint64_t next_channel = 1;  ///< odd: chosen by the side that dialed
    std::uint64_t last_opened = 0;   ///< by the other side
    std::size_t opening = 0;         ///< asked for by the other side, not answered yet
    std::unordered_map<std::uint64_t, relay_ptr> relays;  ///< by id on the wire
    std::deque<relay_ptr> ready;                          ///< may have something to send
    std::unordered_map<std::uint64_t, std::shared_ptr<output>> outputs;
    std::uint64_t dropped_logs = 0;
};
using session_ptr = std::shared_ptr<session>;

/// A channel to a process that commands us: the root of this node.
struct controller {
    std::unique_ptr<detail::channel_state> channel;
    std::weak_ptr<session> dialed;  ///< for dial_command
    bool listens = false;           ///< for listen_command
};
using controller_ptr = std::shared_ptr<controller>;

std::string hexadecimal(const incarnation_id& id) {
    std::string text;
    for (const auto b : id) {
        char two[3];
        std::snprintf(two, sizeof two, "%02x", std::to_integer<unsigned>(b));
        text += two;
    }
    return text;
}

node_key key_of(const bytes& octets) {
    node_key key{};
    if (octets.size() != key.size()) {
        throw error(errc::bad_argument,
                    "a node's key has 32 octets, not " + std::to_string(octets.size()));
    }
    std::copy(octets.begin(), octets.end(), key.begin());
    return key;
}

bool fits_wire(const open_frame& f) {
    if (const auto* e = std::get_if<start_entry>(&f.target)) {
        return can_travel(e->entry) && can_travel(e->named);
    }
    if (const auto* m = std::get_if<start_module>(&f.target)) {
        return can_travel(m->library) && can_travel(m->symbol) && can_travel(m->named);
    }
    return can_travel(std::get<connect_name>(f.target).name);
}

// Severities on the wire are those of syslog.
std::uint8_t to_syslog(std::uint8_t s) {
    constexpr std::array<std::uint8_t, 4> levels{7, 6, 4, 3};
    return levels[std::min<std::size_t>(s, 3)];
}
std::uint8_t from_syslog(std::uint8_t level) {
    return level >= 7 ? 0 : level >= 5 ? 1 : level == 4 ? 2 : 3;
}

class bridge {
  public:
    explicit bridge(detail::process& home);
    int run();

  private:
    // Local side.
    void watch_calls();
    void watch_control();
    void take_offers();
    void on_call(std::uint64_t channel_id);
    void on_peer_died(std::uint64_t place_id);

    void command_given(const controller_ptr& from, const listen_command& c);
    void command_given(const controller_ptr& from, const dial_command& c, unique_fd out,
                       unique_fd err);
    void open_remote(std::unique_ptr<detail::channel_state> end, std::uint64_t link_id,
                     open_frame request, bool announced_by_place);
    void serve(const controller_ptr& c);
    void request_given(controller& c, const bridge_request& r);
    void drop(const controller_ptr& c);
    template <class T>
    void answer(controller& c, const T& body);
    void refuse(controller& c, errc code, const std::string& text);
    void tell(controller& c, const bridge_event& e);

    // Remote side.
    session_ptr adopt(std::shared_ptr<net::link> link, bool dialed, std::string label,
                      std::uint64_t controller_id);
    void on_frame(const session_ptr& s, frame&& f);
    void handle(const session_ptr& s, const open_frame& f);
    void handle(const session_ptr& s, const opened_frame& f);
    void handle(const session_ptr& s, const refused_frame& f);
    void handle(const session_ptr& s, const data_frame& f);
    void handle(const session_ptr& s, const credit_frame& f);
    void handle(const session_ptr& s, const close_frame& f);
    void handle(const session_ptr& s, const place_died_frame& f);
    void handle(const session_ptr& s, const log_frame& f);
    void handle(const session_ptr& s, const output_frame& f);
    void handle(const session_ptr& s, const exit_frame& f);
    void handle(const session_ptr& s, const ping_frame& f) {
        s->link->send(pong_frame{f.sequence});
    }
    void handle(const session_ptr&, const pong_frame&) {}
    template <class Other>
    void handle(const session_ptr& s, const Other&) {
        s->link->close("a frame of the handshake after the handshake");
    }
    void on_lost(const session_ptr& s, const std::string& why);
    void refuse_for_errno(const session_ptr& s, std::uint64_t channel);
    void send_log(session& s, const control::log_note& note);
    void accept_place(const session_ptr& s, const open_frame& f, control::received answer);
    void forward_output(const session_ptr& s, unique_fd pipe, std::string place,
                        std::uint8_t stream);

    // Both.
    void add(const session_ptr& s, const relay_ptr& r);
    void make_ready(const session_ptr& s, const relay_ptr& r);
    void send_ready(const session_ptr& s);
    void on_written(const session_ptr& s);
    void resume_outputs(session& s);
    void await_obituary(const session_ptr& s, const relay_ptr& r);
    void forget_if_over(const session_ptr& s, const relay_ptr& r);
    void breach(const session_ptr& s, const char* what);
    void begin_finish();
    void end_if_done();

    detail::process& home_;
    asio::io_context io_{1};
    asio::posix::stream_descriptor calls_;
    asio::posix::stream_descriptor control_;
    asio::steady_timer drain_timer_{io_};
    incarnation_id incarnation_ = make_incarnation_id();
    std::unique_ptr<listener> listener_;
    std::unordered_map<std::uint64_t, controller_ptr> controllers_;
    std::unordered_map<std::uint64_t, session_ptr> sessions_;
    std::unordered_map<std::uint64_t, std::pair<std::weak_ptr<session>, relay_ptr>> by_channel_;
    std::uint64_t next_session_;
    std::uint64_t next_output_ = 1;
    std::size_t open_outputs_ = 0;
    bool finishing_ = false;
};

bridge::bridge(detail::process& home)
    : home_(home),
      calls_(io_, home.calls().native_handle()),
      control_(io_, home.control_handle()),
      // Our number in the node is nobody else's, so a link's is not that of an earlier bridge.
      next_session_(home.place_id() << 32 | 1) {
    home_.on_died([this](std::uint64_t id, exit_status) { on_peer_died(id); });
    // A put on a channel takes packets too, and then no descriptor says that offers wait.
    home_.on_news([this] { asio::post(io_, [this] { take_offers(); }); });
    home_.on_log([this](const control::log_note& note) {
        for (auto& [id, s] : sessions_) {
            if (!s->dialed) return send_log(*s, note);
        }
        print_line(printable(note.place), note.text);
    });
}

int bridge::run() {
    watch_calls();
    watch_control();
    home_.pump();
    take_offers();
    io_.run();
    for (auto& [id, s] : sessions_) {
        for (auto& [number, r] : s->relays) r->lose("the bridge has ended");
    }
    // The descriptors belong to the process object.
    calls_.release();
    control_.release();
    return 0;
}

// -- local side --

void bridge::watch_calls() {
    calls_.async_wait(asio::posix::stream_descriptor::wait_read,
                      [this](boost::system::error_code ec) {
                          if (ec) return;
                          const auto taken = home_.calls().take();
                          for (const auto id : taken.channel_ids) on_call(id);
                          if (taken.overflowed) {
                              std::vector<std::uint64_t> all;
                              for (auto& [id, c] : controllers_) all.push_back(id);
                              for (auto& [id, r] : by_channel_) all.push_back(id);
                              for (const auto id : all) on_call(id);
                          }
                          watch_calls();
                      });
}

void bridge::watch_control() {
    control_.async_wait(asio::posix::stream_descriptor::wait_read,
                        [this](boost::system::error_code ec) {
                            if (ec) return;
                            home_.pump();
                            if (home_.is_orphan()) return io_.stop();
                            take_offers();
                            watch_control();
                        });
}

void bridge::take_offers() {
    for (auto& offer : home_.take_offers()) {
        auto& offered = std::get<control::offered>(offer.packet.body);
        std::vector<unique_fd> extra(std::make_move_iterator(offer.fds.begin() + 3),
                                     std::make_move_iterator(offer.fds.end()));
        offer.fds.resize(3);
        auto end = home_.open(offered.end, std::move(offer.fds));
        auto parsed = detail::decode_datum<command>(offered.payload);
        if (!parsed) continue;
        if (auto* start = std::get_if<start_command>(&*parsed)) {
            open_frame f{
                .channel = 0, .ring_bytes = end->end().out().capacity_bytes(), .target = {}};
            const bool is_library = std::holds_alternative<control::library_entry>(start->entry);
            if (is_library) {
                auto& e = std::get<control::library_entry>(start->entry);
                f.target = start_module{e.path, e.symbol, start->named};
            } else {
                f.target = start_entry{std::get<control::registered_entry>(start->entry).name,
                                       start->named};
            }
            open_remote(std::move(end), start->link_id, std::move(f), is_library);
        } else if (auto* connect = std::get_if<connect_command>(&*parsed)) {
            open_frame f{.channel = 0,
                         .ring_bytes = end->end().out().capacity_bytes(),
                         .target = connect_name{connect->name}};
            open_remote(std::move(end), connect->link_id, std::move(f), false);
        } else {
            auto c = std::make_shared<controller>();
            c->channel = std::move(end);
            controllers_.emplace(c->channel->id(), c);
            try {
                if (auto* listen = std::get_if<listen_command>(&*parsed)) {
                    command_given(c, *listen);
                } else {
                    extra.resize(2);
                    command_given(c, std::get<dial_command>(*parsed), std::move(extra[0]),
                                  std::move(extra[1]));
                }
            } catch (const error& e) {
                refuse(*c, static_cast<errc>(e.code().value()), e.what());
            } catch (const std::exception& e) {
                refuse(*c, errc::start_failed, e.what());
            }
            serve(c);
        }
    }
}

template <class T>
void bridge::answer(controller& c, const T& body) {
    const auto octets = detail::encode_datum(body);
    (void)c.channel->put(kind::opened, 0, octets, shm::deadline::min());
}

void bridge::refuse(controller& c, errc code, const std::string& text) {
    const auto m = detail::make_refused(code, text);
    (void)c.channel->put(m.what(), m.type(), m.bytes(), shm::deadline::min());
}

void bridge::tell(controller& c, const bridge_event& e) {
    const auto m = message::of(e);
    const auto told = c.channel->put(m.what(), m.type(), m.bytes(), shm::deadline::min());
    // Whoever has not read thousands of events learns the last one from the closed channel.
    if (told != status::ok) c.channel->end().shut(shm::half_state::closed);
}

void bridge::command_given(const controller_ptr& from, const listen_command& c) {
    if (listener_) throw error(errc::bad_argument, "this node listens already");
    listen_options options;
    options.address = c.address;
    options.port = c.port;
    options.key = key_of(c.key);
    options.name = c.node_name;
    options.incarnation = incarnation_;
    options.log = [](std::string line) { print_line("bridge", line); };
    options.on_link = [this](std::shared_ptr<net::link> link, peer_info peer) {
        adopt(std::move(link), false, peer.name, 0);
    };
    listener_ = std::make_unique<listener>(io_, std::move(options));
    from->listens = true;
    home_.tell(control::take_log{});
    answer(*from, listening{listener_->port(), hexadecimal(incarnation_)});
}

void bridge::command_given(const controller_ptr& from, const dial_command& c, unique_fd out,
                           unique_fd err) {
    const auto forward = [&](unique_fd pipe) {
        if (!pipe) return;
        const auto print = [label = c.label](std::string_view line) { print_line(label, line); };
        (void)output::follow(io_, std::move(pipe), {print, [] {}});
    };
    forward(std::move(out));
    forward(std::move(err));
    dial_options options;
    options.host = c.host;
    options.port = c.port;
    options.key = key_of(c.key);
    options.name = c.own_name;
    options.incarnation = incarnation_;
    const auto deadline_ms = std::clamp<std::int64_t>(c.deadline_ms, 1, 60'000);
    options.deadline = std::chrono::milliseconds{deadline_ms};
    dial(io_, std::move(options), [this, from, label = c.label](dial_result result) {
        if (!result) return refuse(*from, result.error().code, result.error().text);
        if (from->channel->end().is_shut()) return (*result)->close("the launcher has gone");
        auto link = *result;
        const auto name = link->peer().name;
        const auto s = adopt(std::move(link), true, label, from->channel->id());
        from->dialed = s;
        answer(*from, linked{s->id, name});
    });
}

void bridge::open_remote(std::unique_ptr<detail::channel_state> end, std::uint64_t link_id,
                         open_frame request, bool announced_by_place) {
    const auto found = sessions_.find(link_id);
    if (found == sessions_.end() || !found->second->dialed || !found->second->link->is_open()) {
        relay{std::move(end), 0}.refuse(errc::node_down, "the link to the node has ended");
        return;
    }
    if (!fits_wire(request)) {
        relay{std::move(end), 0}.refuse(errc::bad_argument,
                                        "a name, symbol or path over 4 KiB or with a NUL in it");
        return;
    }
    const auto& s = found->second;
    request.channel = s->next_channel;
    s->next_channel += 2;
    const auto r = std::make_shared<relay>(std::move(end), request.channel);
    r->announced_by_place = announced_by_place;
    add(s, r);
    s->link->send(request);
}

void bridge::serve(const controller_ptr& c) {
    auto& in = c->channel->end().in();
    in.unpark();
    while (true) {
        const auto next = in.try_peek();
        if (next.state == status::ok) {
            const bytes copy{next.record.payload.begin(), next.record.payload.end()};
            in.release();
            if (const auto r = detail::decode_datum<bridge_request>(copy)) request_given(*c, *r);
            continue;
        }
        if (next.state != status::empty) return drop(c);
        in.park(shm::park_mode::doorbell);
        if (!in.is_ready()) return;
        in.unpark();
    }
}

void bridge::request_given(controller& c, const bridge_request& r) {
    if (const auto* end = std::get_if<end_node>(&r)) {
        if (const auto s = c.dialed.lock()) s->link->send(exit_frame{end->status});
    } else if (c.listens) {
        begin_finish();
    }
}

void bridge::drop(const controller_ptr& c) {
    c->channel->end().shut(shm::half_state::closed);
    if (const auto s = c->dialed.lock()) s->link->close("the launcher let the node go");
    const bool was_listening = c->listens;
    controllers_.erase(c->channel->id());
    if (was_listening) io_.stop();
}

void bridge::on_call(std::uint64_t channel_id) {
    if (const auto c = controllers_.find(channel_id); c != controllers_.end()) {
        return serve(controller_ptr{c->second});
    }
    const auto found = by_channel_.find(channel_id);
    if (found == by_channel_.end()) return;
    const auto s = found->second.first.lock();
    const auto r = found->second.second;
    if (!s) return;
    r->send_credit(*s->link);
    r->settle();
    make_ready(s, r);
    send_ready(s);
    forget_if_over(s, r);
}

void bridge::on_peer_died(std::uint64_t place_id) {
    std::vector<std::uint64_t> touched;
    for (auto& [id, c] : controllers_) {
        if (c->channel->peer_id() == place_id) touched.push_back(id);
    }
    for (auto& [id, r] : by_channel_) {
        if (r.second->local().peer_id() == place_id) touched.push_back(id);
    }
    // Not from inside pump(): the handlers destroy channels.
    asio::post(io_, [this, touched] {
        for (const auto id : touched) on_call(id);
    });
}

// -- remote side --

session_ptr bridge::adopt(std::shared_ptr<net::link> link, bool dialed, std::string label,
                          std::uint64_t controller_id) {
    auto s = std::make_shared<session>();
    s->id = next_session_++;
    s->link = std::move(link);
    s->dialed = dialed;
    s->label = std::move(label);
    s->controller = controller_id;
    sessions_.emplace(s->id, s);
    s->link->start(
        {.on_frame = [this, s](frame&& f) { on_frame(s, std::move(f)); },
         .on_written = [this, s] { on_written(s); },
         .on_closed = [this, s](boost::system::error_code, std::string why) { on_lost(s, why); }});
    return s;
}

void bridge::on_frame(const session_ptr& s, frame&& f) {
    if (s->link->queued_bytes() > answer_queue_bytes_max) {
        return breach(s, "it asks and does not read the answers");
    }
    std::visit([&](auto& each) { handle(s, each); }, f);
    send_ready(s);
}

void bridge::breach(const session_ptr& s, const char* what) {
    s->link->close(std::string("the other side broke the protocol: ") + what);
}

void bridge::handle(const session_ptr& s, const open_frame& f) {
    if (s->dialed) {
        s->link->send(refused_frame{f.channel, errc::bad_argument,
                                    "a node that was started may not start places on its starter"});
        return;
    }
    // Rising, so none is used twice, and nothing has to be remembered for that.
    if (f.channel % 2 == 0 || f.channel <= s->last_opened) return breach(s, "a channel's number");
    s->last_opened = f.channel;
    if (s->relays.size() + s->opening >= channels_max) {
        s->link->send(refused_frame{f.channel, errc::full,
                                    "there are " + std::to_string(channels_max) +
                                        " channels on this link already, the most it can have"});
        return;
    }
    if (f.ring_bytes > remote_ring_bytes_max) {
        s->link->send(refused_frame{
            f.channel, errc::bad_argument,
            "ring_bytes of " + std::to_string(f.ring_bytes) + "; between nodes at most 128 KiB"});
        return;
    }
    const auto answered = [this, s, f](control::received a) { accept_place(s, f, std::move(a)); };
    if (const auto* c = std::get_if<connect_name>(&f.target)) {
        home_.request_async(control::connect{c->name, f.ring_bytes}, {}, answered);
        ++s->opening;
        return;
    }
    control::spawn what;
    what.ring_bytes = f.ring_bytes;
    std::string shown;
    if (const auto* e = std::get_if<start_entry>(&f.target)) {
        what.entry = control::registered_entry{e->entry};
        what.named = e->named;
        shown = e->named.empty() ? e->entry : e->named;
    } else {
        const auto& m = std::get<start_module>(f.target);
        what.entry = control::library_entry{m.library, m.symbol};
        what.named = m.named;
        what.takes_connections = true;
        shown = m.named.empty() ? m.symbol : m.named;
    }
    int out[2];
    int err[2];
    if (::pipe2(out, O_CLOEXEC) < 0) return refuse_for_errno(s, f.channel);
    const unique_fd out_writer{out[1]};
    unique_fd out_reader{out[0]};
    if (::pipe2(err, O_CLOEXEC) < 0) return refuse_for_errno(s, f.channel);
    const unique_fd err_writer{err[1]};
    unique_fd err_reader{err[0]};
    home_.request_async(std::move(what), {out_writer.get(), err_writer.get()}, answered);
    ++s->opening;
    forward_output(s, std::move(out_reader), shown, 1);
    forward_output(s, std::move(err_reader), shown, 2);
}

void bridge::refuse_for_errno(const session_ptr& s, std::uint64_t channel) {
    s->link->send(refused_frame{
        channel, errc::start_failed,
        "no pipe for a place's output: " + std::generic_category().message(errno)});
}

void bridge::accept_place(const session_ptr& s, const open_frame& f, control::received answer) {
    --s->opening;
    if (const auto* failed = std::get_if<control::failed>(&answer.packet.body)) {
        s->link->send(refused_frame{f.channel, static_cast<errc>(failed->code), failed->text});
        return;
    }
    const auto& grant = std::get<control::granted>(answer.packet.body);
    std::unique_ptr<detail::channel_state> end;
    try {
        end = home_.open(grant, std::move(answer.fds));
    } catch (const std::exception& e) {
        s->link->send(refused_frame{f.channel, errc::start_failed, e.what()});
        return;
    }
    // Whoever asked has gone: dropping our end tells the place.
    if (!s->link->is_open()) return;
    auto r = std::make_shared<relay>(std::move(end), f.channel);
    r->awaits_obituary = true;
    r->open(false);
    s->link->send(opened_frame{f.channel, r->local().end().out().limit(), grant.peer_id});
    add(s, r);
    make_ready(s, r);
    send_ready(s);
}

void bridge::forward_output(const session_ptr& s, unique_fd pipe, std::string place,
                            std::uint8_t stream) {
    const auto id = next_output_++;
    const auto on_line = [s, place, stream](std::string_view line) {
        if (s->link->is_open()) {
            s->link->send(output_frame{place, stream, std::string(line)});
        } else {
            print_line(printable(place), line);
        }
    };
    const auto on_end = [this, s, id] {
        s->outputs.erase(id);
        --open_outputs_;
        end_if_done();
    };
    const auto may_read = [s] {
        return !s->link->is_open() || s->link->queued_bytes() < output_queue_bytes_max;
    };
    s->outputs.emplace(id, output::follow(io_, std::move(pipe), {on_line, on_end, may_read}));
    ++open_outputs_;
}

void bridge::send_log(session& s, const control::log_note& note) {
    if (s.link->queued_bytes() > log_queue_bytes_max) {
        ++s.dropped_logs;
        return;
    }
    auto text = note.text;
    if (const auto dropped = std::exchange(s.dropped_logs, 0)) {
        text += " [" + std::to_string(dropped) + " log lines before this one were dropped]";
    }
    s.link->send(log_frame{printable(note.place), to_syslog(note.severity), note.time_ns, text});
}

void bridge::handle(const session_ptr& s, const opened_frame& f) {
    const auto found = s->relays.find(f.channel);
    if (found == s->relays.end() || found->second->is_open()) return breach(s, "opened");
    const auto r = found->second;
    r->open(!r->announced_by_place);
    if (!r->on_credit({f.channel, 0, f.limit})) return breach(s, "opened with a wrong limit");
    r->send_credit(*s->link);
    make_ready(s, r);
}

void bridge::handle(const session_ptr& s, const refused_frame& f) {
    const auto found = s->relays.find(f.channel);
    if (found == s->relays.end()) return;
    const auto r = found->second;
    if (r->is_open()) return breach(s, "refused after opened");
    r->refuse(f.code, f.text);
    forget_if_over(s, r);
}

void bridge::handle(const session_ptr& s, const data_frame& f) {
    const auto found = s->relays.find(f.channel);
    if (found == s->relays.end()) return;  // our end has gone; the far side learns it from `close`
    const auto r = found->second;
    if (!r->on_data(f)) return breach(s, "data beyond credit or out of order");
    r->send_credit(*s->link);
    r->settle();
    forget_if_over(s, r);
}

void bridge::handle(const session_ptr& s, const credit_frame& f) {
    const auto found = s->relays.find(f.channel);
    if (found == s->relays.end()) return;
    const auto r = found->second;
    if (!r->on_credit(f)) return breach(s, "credit");
    make_ready(s, r);
}

void bridge::handle(const session_ptr& s, const close_frame& f) {
    const auto found = s->relays.find(f.channel);
    if (found == s->relays.end()) return;
    const auto r = found->second;
    if (!r->on_close(f)) return breach(s, "close");
    make_ready(s, r);
    forget_if_over(s, r);
}

void bridge::handle(const session_ptr& s, const place_died_frame& f) {
    const auto found = s->relays.find(f.channel);
    if (found == s->relays.end()) return;
    found->second->on_died(f);
}

void bridge::handle(const session_ptr& s, const log_frame& f) {
    if (!s->dialed) return breach(s, "a log is for the starter of a node");
    control::log_note note;
    note.severity = from_syslog(f.severity);
    note.time_ns = f.time_ns;
    note.node = s->label;
    note.place = printable(f.place);
    note.text = f.text;
    home_.tell(std::move(note));
}

void bridge::handle(const session_ptr& s, const output_frame& f) {
    if (!s->dialed) return breach(s, "output is for the starter of a node");
    if (f.line.find('\n') != f.line.npos) return breach(s, "two lines in one");
    print_line(s->label + "/" + printable(f.place), f.line);
}

void bridge::handle(const session_ptr& s, const exit_frame& f) {
    if (s->dialed) return breach(s, "a started node may not end its starter");
    for (auto& [id, c] : controllers_) {
        if (c->listens) tell(*c, exit_asked{f.status});
    }
}

void bridge::on_lost(const session_ptr& s, const std::string& why) {
    sessions_.erase(s->id);
    for (auto& [id, r] : s->relays) {
        r->lose("the link to the node has ended: " + why);
        by_channel_.erase(r->local().id());
    }
    s->relays.clear();
    s->ready.clear();
    resume_outputs(*s);
    if (const auto c = controllers_.find(s->controller); c != controllers_.end()) {
        tell(*c->second, node_lost{why});
    }
    end_if_done();
}

// -- both --

void bridge::add(const session_ptr& s, const relay_ptr& r) {
    s->relays.emplace(r->wire_id(), r);
    by_channel_.emplace(r->local().id(), std::make_pair(std::weak_ptr<session>{s}, r));
}

void bridge::make_ready(const session_ptr& s, const relay_ptr& r) {
    if (std::find(s->ready.begin(), s->ready.end(), r) == s->ready.end()) s->ready.push_back(r);
}

void bridge::send_ready(const session_ptr& s) {
    while (!s->ready.empty() && s->link->is_open() &&
           s->link->queued_bytes() < link_queue_bytes_max) {
        const auto r = s->ready.front();
        s->ready.pop_front();
        // Holding the relay keeps the ring mapped while the kernel reads from it.
        const auto outcome = r->send_some(*s->link, [r] {});
        if (outcome == relay::progress::sent) s->ready.push_back(r);
        if (outcome == relay::progress::closing) await_obituary(s, r);
        forget_if_over(s, r);
    }
}

void bridge::on_written(const session_ptr& s) {
    send_ready(s);
    resume_outputs(*s);
}

void bridge::resume_outputs(session& s) {
    for (auto& [id, o] : s.outputs) o->resume();
}

void bridge::await_obituary(const session_ptr& s, const relay_ptr& r) {
    auto timer = std::make_shared<asio::steady_timer>(io_, obituary_limit);
    timer->async_wait([this, timer, weak_s = std::weak_ptr{s}, weak_r = std::weak_ptr{r}](
                          boost::system::error_code ec) {
        const auto session = weak_s.lock();
        const auto one = weak_r.lock();
        if (ec || !session || !one || one->is_over()) return;
        one->stop_waiting();
        make_ready(session, one);
        send_ready(session);
    });
}

void bridge::forget_if_over(const session_ptr& s, const relay_ptr& r) {
    if (!r->is_over()) return;
    s->relays.erase(r->wire_id());
    by_channel_.erase(r->local().id());
    std::erase(s->ready, r);
}

void bridge::begin_finish() {
    finishing_ = true;
    if (listener_) listener_->close();
    drain_timer_.expires_after(drain_limit);
    drain_timer_.async_wait([this](boost::system::error_code ec) {
        if (!ec) io_.stop();
    });
    // The nursery has told how each place ended before it let us be told to finish.
    home_.pump();
    asio::post(io_, [this] { end_if_done(); });
}

void bridge::end_if_done() {
    if (!finishing_ || open_outputs_ > 0) return;
    if (sessions_.empty()) return io_.stop();
    for (auto& [id, s] : sessions_) s->link->finish("the node has ended");
}

}  // namespace

int bridge_main(detail::process& home) { return bridge{home}.run(); }

}  // namespace places::net
