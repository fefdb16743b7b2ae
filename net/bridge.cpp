// SPDX-License-Identifier: Apache-2.0
#include "net/bridge.hpp"

#include "net/command_channel.hpp"
#include "net/directory.hpp"
#include "net/output.hpp"
#include "net/session.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <tuple>
#include <unistd.h>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace places::net {
namespace {

namespace asio = boost::asio;

// What a node prints after this has passed since it was told to finish is not waited for.
constexpr std::chrono::seconds drain_limit{1};
// Nor are those who have not hung up in answer after this.
constexpr std::chrono::milliseconds peers_hang_up_limit{250};
// After a failure of the kernel's that passes, as for want of memory.
constexpr std::chrono::milliseconds retry_interval{100};

// Of links refused to places within this time, so many each have a line of the log.
constexpr std::size_t denials_logged_max = 10;
constexpr std::chrono::seconds denial_window{1};

/// The keys and tokens in the pipe that goes with a command, if they come that way.
/// Throws: error{start_failed} where one of them is missing: without it the command would be
/// another.
void take_keys(command& c, std::vector<unique_fd>& fds) {
    const auto keys = keys_of(c);
    if (keys.empty() || !keys.front()->empty() || fds.empty()) return;
    const auto pipe = std::move(fds.back());
    fds.pop_back();
    // Written before the command was: a read that would wait finds no key.
    ::fcntl(pipe.get(), F_SETFL, O_NONBLOCK);
    for (bytes* const key : keys) {
        key->resize(std::tuple_size_v<node_key>);
        const auto got = ::read(pipe.get(), key->data(), key->size());
        if (got != static_cast<ssize_t>(key->size()))
            throw error{errc::start_failed, "the keys that go with a command did not come"};
    }
}

/// What the kernel says of it, in a word; empty when it has ended or cannot be looked at.
std::string state_of_process(std::int32_t pid) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(in, text);
    const auto end_of_name = text.rfind(')');
    if (end_of_name == text.npos || end_of_name + 2 >= text.size()) return {};
    switch (text[end_of_name + 2]) {
        case 'R': return "running";
        case 'S': return "sleeping";
        case 'D': return "waiting";
        case 'T':
        case 't': return "stopped";
        case 'Z':
        case 'X': return "ended";
        default: return {};
    }
}

using command_channel_ptr = std::shared_ptr<command_channel>;
using session_ptr = std::shared_ptr<session>;

/// The token as a key of a map: g++ 12 warns of how it compares vectors of bytes.
std::string key_of(const link_token& token) {
    return {reinterpret_cast<const char*>(token.data()), token.size()};
}

/// The loop: takes the offers and wakeups of this node's processes, and hands each to the
/// command_channel or the session that it belongs to. Owns these, the table of channels, and the
/// io_context. A local channel belongs to a command_channel or to a relay, never to both. What is
/// posted about a channel names its id, so a wakeup that comes too late finds nothing.
/// Dying:   a place's death is a wakeup on each of its channels. A lost link ends its session. Only
///          the end of the nursery, or of the process that made us listen, ends the bridge.
class bridge {
  public:
    explicit bridge(detail::process& self);
    ~bridge();
    bridge(const bridge&) = delete;
    bridge& operator=(const bridge&) = delete;
    int run();

  private:
    void watch_wakeups();
    void watch_control();
    void retry_control();
    void fail(const char* what, boost::system::error_code ec);
    void on_wakeup(std::uint64_t channel_id);
    void on_peer_died(std::uint64_t place_id);
    void on_log(const control::log_note& note);

    void take_offers();
    void take(control::received offer);
    void open_remote(std::unique_ptr<detail::channel_state> end, const link_token& token,
                     open_frame request, bool place_announces);
    void deny_link(std::unique_ptr<detail::channel_state> end);
    void obey(std::unique_ptr<detail::channel_state> end, command first,
              std::vector<unique_fd> fds);
    bool is_listening() const;
    void serve(const command_channel_ptr& c);

    std::uint64_t adopt(std::shared_ptr<link> link, session::role own_role, std::string label,
                        std::uint64_t command_channel_id);
    void on_exit_asked(std::int32_t status);
    void report_listening(const bridge_event& e);
    void report_links();
    void list(const session_ptr& to, std::uint64_t after);
    void list_locals(const session_ptr& to, std::uint64_t after);
    void list_links(const session_ptr& to);
    void on_lost(std::uint64_t link_id, std::uint64_t command_channel_id, const std::string& why,
                 bool in_order);

    void begin_finish();
    void give_up_output();
    void end_if_done();

    detail::process& self_;
    asio::io_context io_{1};
    asio::posix::stream_descriptor wakeups_;
    asio::posix::stream_descriptor control_;
    asio::steady_timer drain_timer_{io_};
    asio::steady_timer retry_timer_{io_};
    bool has_failed_ = false;
    bool control_is_unread_ = false;  // what waits in its socket could not be read
    detail::news_watch news_;
    detail::wakeup_claim wakeup_claim_;
    const incarnation_id incarnation_ = make_incarnation_id();
    channel_table channels_;
    std::vector<std::string> modules_;  // that may be loaded for peers
    line_printer lines_{io_};
    forwarded_outputs outputs_{io_, lines_, [this] { end_if_done(); }};
    std::unordered_map<std::uint64_t, command_channel_ptr> command_channels_;  // by local channel
    session_table sessions_;
    /// Who may use a link: whoever has dialed it.
    struct link_grant {
        std::uint64_t link_id = 0;
        std::uint64_t place_id = 0;
    };
    std::map<std::string, link_grant> grants_;  // by key_of() the token
    std::chrono::steady_clock::time_point denials_since_{};
    std::size_t denials_ = 0;  // from then on
    directory directory_{
        io_,
        sessions_,
        incarnation_,
        {[this](std::shared_ptr<link> link, std::string label) {
             return sessions_.at(
                 adopt(std::move(link), session::role::dialing_peer, std::move(label), 0));
         },
         [this] { return is_listening(); }}};
    std::uint64_t next_link_;
    bool finishing_ = false;
    bool output_is_given_up_ = false;
};

bridge::bridge(detail::process& self)
    : self_(self),
      wakeups_(io_, self.wakeups().native_handle()),
      control_(io_, self.control_handle()),
      // A put on a channel takes packets too, and then no descriptor says that offers wait.
      news_(self, [this] { asio::post(io_, [this] { take_offers(); }); }),
      wakeup_claim_(self, this),
      // Our number in the node is nobody else's, so a link's is not that of an earlier bridge.
      next_link_(self.place_id() << 32 | 1) {
    self_.on_died([this](std::uint64_t id, exit_status) { on_peer_died(id); });
    self_.on_peer_news([this](std::uint64_t id) {
        asio::post(io_, [this, id] { on_wakeup(id); });  // as for the dead
    });
    self_.on_log([this](const control::log_note& note) { on_log(note); });
    // Wherever it comes up: it is no fault of the link or channel that is being served.
    self_.on_unread([this](const std::system_error& e) {
        if (!std::exchange(control_is_unread_, true)) lines_.print("bridge", e.what());
    });
}

bridge::~bridge() {
    // The descriptors belong to the process object.
    wakeups_.release();
    control_.release();
}

int bridge::run() {
    watch_wakeups();
    watch_control();
    self_.pump();
    take_offers();
    io_.run();
    for (auto& [id, s] : sessions_) s->lose_channels("the bridge has ended");
    lines_.finish();
    return has_failed_ ? 1 : 0;
}

// -- wakeups --

void bridge::watch_wakeups() {
    wakeups_.async_wait(asio::posix::stream_descriptor::wait_read,
                        [this](boost::system::error_code ec) {
                            if (ec) return fail("watch the wakeups of this node's processes", ec);
                            const auto taken = self_.wakeups().take();
                            for (const auto id : taken.channel_ids) on_wakeup(id);
                            if (taken.overflowed) {
                                std::vector<std::uint64_t> all;
                                for (auto& [id, c] : command_channels_) all.push_back(id);
                                for (auto& [id, r] : channels_) all.push_back(id);
                                for (const auto id : all) on_wakeup(id);
                            }
                            watch_wakeups();
                        });
}

void bridge::watch_control() {
    control_.async_wait(asio::posix::stream_descriptor::wait_read,
                        [this](boost::system::error_code ec) {
                            if (ec) return fail("watch the control socket", ec);
                            control_is_unread_ = false;
                            self_.pump();  // which ends us with the nursery
                            take_offers();
                            if (control_is_unread_) return retry_control();
                            watch_control();
                        });
}

/// The packet is still there.
void bridge::retry_control() {
    retry_timer_.expires_after(retry_interval);
    retry_timer_.async_wait([this](boost::system::error_code ec) {
        if (!ec) watch_control();
    });
}

/// Without what has failed the bridge would hear nothing more.
void bridge::fail(const char* what, boost::system::error_code ec) {
    if (ec == asio::error::operation_aborted) return;
    lines_.print("bridge", std::string("the bridge ends: ") + what + ": " + ec.message());
    has_failed_ = true;
    io_.stop();
}

void bridge::on_wakeup(std::uint64_t channel_id) {
    if (const auto c = command_channels_.find(channel_id); c != command_channels_.end()) {
        return serve(command_channel_ptr{c->second});
    }
    const auto found = channels_.find(channel_id);
    if (found == channels_.end()) return;
    const auto [over, relay] = found->second;
    relay->local().take_up_peer();
    if (const auto s = over.lock()) s->on_wakeup(relay);
}

void bridge::on_peer_died(std::uint64_t place_id) {
    std::vector<std::uint64_t> touched;
    for (auto& [id, c] : command_channels_) {
        if (c->peer_id() == place_id) touched.push_back(id);
    }
    for (auto& [id, r] : channels_) {
        if (r.relay->local().peer_id() == place_id) touched.push_back(id);
    }
    // Not from inside pump(): the handlers destroy channels.
    asio::post(io_, [this, touched] {
        for (const auto id : touched) on_wakeup(id);
    });
}

void bridge::on_log(const control::log_note& note) {
    for (auto& [id, s] : sessions_) {
        if (s->wants_log()) return s->send_log(note);
    }
    lines_.print(printable(note.place), note.text);
}

// -- offers --

void bridge::take_offers() {
    for (auto& offer : self_.take_offers()) {
        try {
            take(std::move(offer));
        } catch (const std::exception& e) {
            // Its other end has been told by process::open; the rest of them are good.
            lines_.print("bridge", std::string("a channel could not be taken: ") + e.what());
        }
    }
}

void bridge::take(control::received offer) {
    auto& offered = std::get<control::offered>(offer.packet.body);
    // The first is the channel's own: the doorbell.
    const auto own =
        offer.fds.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(offer.fds.size(), 1));
    std::vector<unique_fd> extra(std::make_move_iterator(own),
                                 std::make_move_iterator(offer.fds.end()));
    offer.fds.erase(own, offer.fds.end());
    auto end = self_.open(offered.end, std::move(offer.fds));
    auto parsed = detail::decode_datum<command>(offered.payload);
    if (!parsed) return;
    const bool is_root = end->peer_id() == control::root_place_id;
    // Another process's descriptors may be anything, also what blocks.
    try {
        if (is_root) take_keys(*parsed, extra);
    } catch (const error& e) {
        return relay{std::move(end), 0}.refuse(code_of(e), e.what());
    }
    const auto ring_bytes = end->end().out().capacity_bytes();
    if (auto* start = std::get_if<start_command>(&*parsed)) {
        open_frame f{.channel = 0, .ring_bytes = ring_bytes, .target = {}};
        const auto* library = std::get_if<control::library_entry>(&start->entry);
        if (library) {
            f.target = start_module{library->path, library->symbol, start->named};
        } else {
            f.target =
                start_entry{std::get<control::registered_entry>(start->entry).name, start->named};
        }
        open_remote(std::move(end), start->link, std::move(f), library != nullptr);
    } else if (auto* connect = std::get_if<connect_command>(&*parsed)) {
        open_frame f{.channel = 0, .ring_bytes = ring_bytes, .target = connect_name{connect->name}};
        if (connect->link.empty()) {
            directory_.connect(connect->node, std::move(end), std::move(f));
        } else {
            open_remote(std::move(end), connect->link, std::move(f), false);
        }
    } else if (!is_root) {
        relay{std::move(end), 0}.refuse(errc::bad_argument,
                                        "only the root of a node may listen and dial for it");
    } else {
        obey(std::move(end), std::move(*parsed), std::move(extra));
    }
}

void bridge::open_remote(std::unique_ptr<detail::channel_state> end, const link_token& token,
                         open_frame request, bool place_announces) {
    const auto grant = grants_.find(key_of(token));
    // Only the root dials; a token of a link that has ended is one of none.
    const auto owner = grant == grants_.end() ? control::root_place_id : grant->second.place_id;
    if (end->peer_id() != owner) return deny_link(std::move(end));
    const auto found =
        grant == grants_.end() ? sessions_.end() : sessions_.find(grant->second.link_id);
    if (found == sessions_.end() || !found->second->may_open()) {
        relay{std::move(end), 0}.refuse(errc::node_down, "the link to the node has ended");
        return;
    }
    found->second->open(std::move(end), std::move(request), place_announces);
}

/// Whoever goes on trying fills no log.
void bridge::deny_link(std::unique_ptr<detail::channel_state> end) {
    const auto now = std::chrono::steady_clock::now();
    if (now - denials_since_ >= denial_window) {
        denials_since_ = now;
        denials_ = 0;
    }
    if (++denials_ <= denials_logged_max) {
        lines_.print("bridge", "refused a link to another node to place " +
                                   std::to_string(end->peer_id()) +
                                   ", which has not made it: only the root of this node has links");
    }
    relay{std::move(end), 0}.refuse(
        errc::permission_denied,
        "a link to another node is only for the process that has made it, the root of this node; "
        "connect_to_named_place(node, place) reaches a place there by the names of both");
}

void bridge::obey(std::unique_ptr<detail::channel_state> end, command first,
                  std::vector<unique_fd> fds) {
    const auto id = end->id();
    const auto owner = end->peer_id();
    const auto on_accepted = [this](std::shared_ptr<link> link, std::string label) {
        const bool is_peer = link->peer().key == key_kind::peer;
        // It dials again when it has lost the link that still stands here.
        for (const auto& [number, s] : sessions_) {
            const bool is_its = s->own_role() == session::role::accepting_peer &&
                                s->peer().name == link->peer().name;
            if (!is_peer || !is_its) continue;
            lines_.print("bridge", "hung up on '" + printable(label) + "' at " + s->peer().address +
                                       ": the same node has dialed again");
            s->hang_up("the same node has dialed again");
        }
        adopt(std::move(link), is_peer ? session::role::accepting_peer : session::role::started,
              std::move(label), 0);
    };
    const auto on_dialed = [this, id, owner](std::shared_ptr<link> link, std::string label,
                                             std::optional<known_node> node,
                                             const link_token& token) {
        const auto own_role = node ? session::role::controller : session::role::guest;
        const auto link_id = adopt(std::move(link), own_role, std::move(label), id);
        if (node) directory_.add(link_id, *std::move(node));
        grants_.emplace(key_of(token), link_grant{link_id, owner});
        return link_id;
    };
    const auto on_end_node = [this](std::uint64_t link_id, std::int32_t status) {
        const auto found = sessions_.find(link_id);
        return found != sessions_.end() && found->second->ask_exit(status);
    };
    const auto c = std::make_shared<command_channel>(
        io_, incarnation_, lines_, std::move(end),
        command_channel::handlers{on_accepted, on_dialed, on_end_node, [this] { begin_finish(); }});
    command_channels_.emplace(id, c);
    try {
        if (const auto* listen = std::get_if<listen_command>(&first)) {
            if (is_listening()) throw error(errc::bad_argument, "this node listens already");
            c->listen(*listen);
            modules_ = c->modules();
        } else {
            fds.resize(2);
            c->dial(std::get<dial_command>(first), std::move(fds[0]), std::move(fds[1]));
        }
    } catch (const error& e) {
        c->refuse(code_of(e), e.what());
    } catch (const std::exception& e) {
        c->refuse(errc::start_failed, e.what());
    }
    serve(c);
}

bool bridge::is_listening() const {
    return std::ranges::any_of(command_channels_, [](auto& c) { return c.second->is_listening(); });
}

void bridge::serve(const command_channel_ptr& c) {
    if (c->serve() == status::empty) return;
    c->close();
    command_channels_.erase(c->id());
    if (c->is_listening()) io_.stop();
}

// -- sessions --

std::uint64_t bridge::adopt(std::shared_ptr<link> link, session::role own_role, std::string label,
                            std::uint64_t command_channel_id) {
    const auto id = next_link_++;
    const auto on_exit = [this](std::int32_t status) { on_exit_asked(status); };
    const auto on_closed = [this, id, command_channel_id](const std::string& why, bool in_order) {
        on_lost(id, command_channel_id, why, in_order);
    };
    const auto on_exit_refused = [this, command_channel_id, label](errc code,
                                                                   const std::string& text) {
        lines_.print("bridge", "'" + printable(label) + "' does not end: " + text);
        if (const auto c = command_channels_.find(command_channel_id);
            c != command_channels_.end()) {
            c->second->send(exit_denied{static_cast<std::int32_t>(code), text});
        }
    };
    const auto on_list_asked = [this](const session_ptr& asker) { list(asker, 0); };
    const auto on_introduce = [this](const session& asker, const std::string& node) {
        return directory_.answer_introduce(asker, node);
    };
    const auto on_introduction = [this](const introduction_frame& f) {
        directory_.on_introduction(f);
    };
    const auto s = std::make_shared<session>(
        session_context{self_, io_, channels_, lines_, outputs_, modules_}, std::move(link),
        own_role, std::move(label),
        session::handlers{on_exit, on_exit_refused, on_list_asked, on_introduce, on_introduction,
                          on_closed});
    sessions_.emplace(id, s);
    try {
        report_links();
        s->start();
    } catch (...) {
        sessions_.erase(id);
        throw;
    }
    if (finishing_) end_if_done();
    return id;
}

void bridge::on_exit_asked(std::int32_t status) { report_listening(exit_asked{status}); }

void bridge::report_listening(const bridge_event& e) {
    for (auto& [id, c] : command_channels_) {
        if (c->is_listening()) c->send(e);
    }
}

// A node is held by those who command it: its peers are held by others, its guests by nobody.
void bridge::report_links() {
    const auto holding =
        std::ranges::count_if(sessions_, [](auto& s) { return s.second->is_to_launcher(); });
    report_listening(links_changed{static_cast<std::uint64_t>(holding)});
}

namespace {

void send_no_list(session& to) {
    list_answer_frame none;
    none.code = errc::node_down;
    none.text = "the nursery of the node has ended";
    to.answer_list(none);
}

}  // namespace

// The nursery knows the places and their channels; a packet holds some of them.
void bridge::list(const session_ptr& to, std::uint64_t after) {
    const auto on_listed = [this, to](control::received answer) {
        const auto* listed = std::get_if<control::places_listed>(&answer.packet.body);
        if (!listed) return send_no_list(*to);
        list_answer_frame part;
        part.is_last = false;
        for (const auto& p : listed->places) {
            part.places.push_back(
                {p.place_id, p.pid, p.name, p.entry, p.age_ms, state_of_process(p.pid)});
        }
        to->answer_list(part);
        if (listed->is_last || listed->places.empty()) return list_locals(to, 0);
        list(to, listed->places.back().place_id);
    };
    self_.request_async(control::list_places{after}, {}, on_listed);
}

void bridge::list_locals(const session_ptr& to, std::uint64_t after) {
    const auto on_listed = [this, to](control::received answer) {
        const auto* listed = std::get_if<control::channels_listed>(&answer.packet.body);
        if (!listed) return send_no_list(*to);
        list_answer_frame part;
        part.is_last = false;
        for (const auto& c : listed->channels) {
            // Ours go over a link, or are the root's to command us.
            if (c.first_place == self_.place_id() || c.second_place == self_.place_id()) continue;
            part.locals.push_back({c.channel_id, c.first_place, c.second_place, c.first_holds,
                                   c.second_holds, c.ring_bytes});
        }
        if (!part.locals.empty()) to->answer_list(part);
        if (listed->is_last || listed->channels.empty()) return list_links(to);
        list_locals(to, listed->channels.back().channel_id);
    };
    self_.request_async(control::list_channels{after}, {}, on_listed);
}

void bridge::list_links(const session_ptr& to) {
    list_answer_frame part;
    part.is_last = false;
    const auto send_if_full = [&] {
        if (part.channels.size() + part.links.size() < listed_rows_max) return;
        to->answer_list(part);
        part.channels.clear();
        part.links.clear();
    };
    for (const auto& [id, s] : sessions_) {
        part.links.push_back(s->listed_link(id));
        send_if_full();
        for (auto& row : s->listed_channels(id)) {
            part.channels.push_back(row);
            send_if_full();
        }
    }
    part.is_last = true;
    to->answer_list(part);
}

void bridge::on_lost(std::uint64_t link_id, std::uint64_t command_channel_id,
                     const std::string& why, bool in_order) {
    sessions_.erase(link_id);
    std::erase_if(grants_, [&](const auto& g) { return g.second.link_id == link_id; });
    directory_.on_lost(link_id);
    report_links();
    if (const auto c = command_channels_.find(command_channel_id); c != command_channels_.end()) {
        c->second->report_lost(why, in_order);
    }
    end_if_done();
}

// -- the end --

void bridge::begin_finish() {
    finishing_ = true;
    drain_timer_.expires_after(drain_limit);
    drain_timer_.async_wait([this](boost::system::error_code ec) {
        if (!ec) give_up_output();
    });
    // The nursery has told how each place ended before it let us be told to finish.
    self_.pump();
    asio::post(io_, [this] { end_if_done(); });
}

/// One peer that does not read must not cost the others the word that it was an end in order.
void bridge::give_up_output() {
    output_is_given_up_ = true;
    drain_timer_.expires_after(peers_hang_up_limit);
    drain_timer_.async_wait([this](boost::system::error_code) { io_.stop(); });
    end_if_done();
}

void bridge::end_if_done() {
    if (!finishing_ || !(outputs_.is_drained() || output_is_given_up_)) return;
    if (sessions_.empty()) return io_.stop();
    for (auto& [id, s] : sessions_) s->finish();
}

}  // namespace

std::vector<bytes*> keys_of(command& c) {
    std::vector<bytes*> keys;
    if (auto* const dial = std::get_if<dial_command>(&c)) keys.push_back(&dial->key);
    if (auto* const listen = std::get_if<listen_command>(&c)) {
        keys.push_back(&listen->key);
        for (auto& each : listen->others) keys.push_back(&each.key);
    }
    if (auto* const start = std::get_if<start_command>(&c)) keys.push_back(&start->link);
    if (auto* const connect = std::get_if<connect_command>(&c)) keys.push_back(&connect->link);
    return keys;
}

int bridge_main(detail::process& self) { return bridge{self}.run(); }

}  // namespace places::net
