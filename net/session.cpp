// SPDX-License-Identifier: Apache-2.0
#include "net/session.hpp"

#include "net/bridge.hpp"

#include <places/shm/assert.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <variant>

namespace places::net {
namespace {

// Above this the rings wait: their memory is the queue, not ours.
constexpr std::size_t link_queue_bytes_max = 256 * 1024;
// Lines of the log above this are counted instead of sent.
constexpr std::size_t log_queue_bytes_max = 1024 * 1024;
// Only a peer that asks and asks and never reads gets us here.
constexpr std::size_t answer_queue_bytes_max = 4 * 1024 * 1024;
// Of a link and within this time, each on a line of its own; whoever goes on asking fills no log.
constexpr std::size_t denials_logged_max = 10;
constexpr std::chrono::seconds denial_window{1};
// How long the `close` of a place's channel waits for the place's end.
constexpr std::chrono::seconds death_report_limit{1};
// How long an anonymous place may go on once its channel is closed; as ~place waits for a local
// one.
constexpr std::chrono::seconds place_grace{2};

bool fits_wire(const open_frame& f) {
    if (const auto* e = std::get_if<start_entry>(&f.target)) {
        return can_travel(e->entry) && can_travel(e->named);
    }
    if (const auto* m = std::get_if<start_module>(&f.target)) {
        return can_travel(m->library) && can_travel(m->symbol) && can_travel(m->named);
    }
    return can_travel(std::get<connect_name>(f.target).name);
}

/// Whether the place that is asked for belongs to the channel that asks, and ends with it.
bool asks_for_anonymous_place(const open_frame& f) {
    if (const auto* e = std::get_if<start_entry>(&f.target)) return e->named.empty();
    if (const auto* m = std::get_if<start_module>(&f.target)) return m->named.empty();
    return false;
}

// Severities on the wire are those of syslog.
std::uint8_t to_syslog(std::uint8_t s) {
    constexpr std::array<std::uint8_t, 4> levels{7, 6, 4, 3};
    return levels[std::min<std::size_t>(s, 3)];
}
std::uint8_t from_syslog(std::uint8_t level) {
    return level >= 7 ? 0 : level >= 5 ? 1 : level == 4 ? 2 : 3;
}

}  // namespace

session::session(session_context shared, std::shared_ptr<net::link> link, role own_role,
                 std::string label, handlers h)
    : shared_(shared),
      link_(std::move(link)),
      role_(own_role),
      label_(std::move(label)),
      handlers_(std::move(h)),
      next_channel_(has_dialed() ? 1 : 2) {}

void session::start() {
    // By `this`, or the link would own its owner; it calls nothing after on_closed.
    link_->start(
        {.on_frame = [this](frame&& f) { on_frame(std::move(f)); },
         .on_written = [this] { on_written(); },
         .on_closed = [this](boost::system::error_code ec,
                             std::string why) { on_closed(why, ec == boost::asio::error::eof); }});
}

// -- local side --

void session::open(std::unique_ptr<detail::channel_state> local, open_frame request,
                   bool place_announces) {
    if (!fits_wire(request)) {
        relay{std::move(local), 0}.refuse(errc::bad_argument,
                                          "a name, symbol or path over 4 KiB or with a NUL in it");
        return;
    }
    request.channel = next_channel_;
    next_channel_ += 2;
    const auto r = std::make_shared<relay>(std::move(local), request.channel);
    r->far_place_announces = place_announces;
    add(r);
    link_->send(request);
}

void session::on_wakeup(const relay_ptr& r) {
    if (r->was_asked_for && !r->is_open()) return answer_open(r);
    r->report_death(*link_);
    r->send_credit(*link_);
    make_ready(r);
    send_ready();
    forget_if_over(r);
}

void session::send_log(const control::log_note& note) {
    if (link_->queued_bytes() > log_queue_bytes_max) {
        ++dropped_logs_;
        return;
    }
    auto text = note.text;
    if (const auto dropped = std::exchange(dropped_logs_, 0)) {
        text += " [" + std::to_string(dropped) + " log lines before this one were dropped]";
    }
    link_->send(log_frame{printable(note.place), to_syslog(note.severity), note.time_ns, text});
}

void session::lose_channels(const std::string& why) {
    log_unlogged_denials();
    for (auto& [id, r] : relays_) {
        r->lose(why);
        shared_.channels.erase(r->local().id());
    }
    relays_.clear();
    ready_.clear();
}

// -- the link --

void session::on_frame(frame&& f) {
    if (link_->queued_bytes() > answer_queue_bytes_max) {
        return breach("it asks and does not read the answers");
    }
    std::visit([&](auto& each) { handle(each); }, f);
    send_ready();
}

void session::on_written() {
    send_ready();
    shared_.outputs.resume();
}

void session::on_closed(const std::string& why, bool in_order) {
    const auto self = shared_from_this();  // whose owner is about to let it go
    lose_channels("the link to the node has ended: " + why);
    shared_.outputs.resume();
    handlers_.on_closed(why, in_order);
}

void session::breach(const char* what) {
    const std::string why = std::string("the other side broke the protocol: ") + what;
    shared_.lines.print("bridge", "hung up on " + shown_peer() + ": " + why);
    link_->close(why);
}

void session::handle(const open_frame& f) {
    if (is_root()) {
        link_->send(
            refused_frame{f.channel, errc::bad_argument,
                          "a root takes no places and no connections from a node it has dialed"});
        return;
    }
    // Rising, so none is used twice, and nothing has to be remembered for that.
    if (f.channel % 2 == next_channel_ % 2 || f.channel <= last_opened_) {
        return breach("a channel's number");
    }
    last_opened_ = f.channel;
    if (relays_.size() + opening_ >= channels_max) {
        link_->send(refused_frame{f.channel, errc::full,
                                  "there are " + std::to_string(channels_max) +
                                      " channels on this link already, the most it can have"});
        return;
    }
    if (f.ring_bytes > remote_ring_bytes_max) {
        link_->send(refused_frame{
            f.channel, errc::bad_argument,
            "ring_bytes of " + std::to_string(f.ring_bytes) + "; between nodes at most 128 KiB"});
        return;
    }
    if (const auto why = denied(f)) {
        link_->send(refused_frame{f.channel, errc::permission_denied, *why});
        return;
    }
    const auto answered = [self = shared_from_this(), f](control::received answer) {
        self->accept(f, std::move(answer));
    };
    try {
        if (const auto* c = std::get_if<connect_name>(&f.target)) {
            shared_.self.request_async(control::connect{c->name, f.ring_bytes}, {}, answered);
            ++opening_;
        } else {
            start_place(f, answered);
        }
    } catch (const error& e) {
        link_->send(refused_frame{f.channel, code_of(e), e.what()});
    } catch (const std::exception& e) {
        link_->send(refused_frame{f.channel, errc::start_failed, e.what()});
    }
}

std::optional<std::string> session::denied(const open_frame& f) {
    const auto& may = link_->peer().rights;
    if (const auto* c = std::get_if<connect_name>(&f.target)) {
        if (may.connect) return std::nullopt;
        return deny("connect to \"" + printable(c->name) + "\"");
    }
    if (const auto* e = std::get_if<start_entry>(&f.target)) {
        if (may.start) return std::nullopt;
        return deny("start \"" + printable(e->entry) + "\"");
    }
    const auto& m = std::get<start_module>(f.target);
    if (!may.start) return deny("start a place from " + printable(m.library));
    const auto& known = shared_.modules;
    if (std::ranges::find(known, m.library) != known.end()) return std::nullopt;
    return deny("load " + printable(m.library) +
                ": the node was not started with that module, which node_options::modules or "
                "--module names");
}

std::string session::shown_peer() const {
    const auto& peer = link_->peer();
    return std::string("'").append(printable(peer.name)).append("' at ").append(peer.address);
}

std::string session::deny(const std::string& what) {
    auto why = shown_peer() + " may not " + what +
               " (its key allows: " + to_string(link_->peer().rights) + ")";
    const auto now = std::chrono::steady_clock::now();
    if (now - denials_since_ >= denial_window) {
        log_unlogged_denials();
        denials_since_ = now;
    }
    if (++denials_ <= denials_logged_max) {
        shared_.lines.print("bridge", "denied: " + why);
    } else {
        last_unlogged_ = why;
    }
    return why;
}

void session::log_unlogged_denials() {
    const auto all = std::exchange(denials_, 0);
    if (all <= denials_logged_max) return;
    shared_.lines.print("bridge", std::to_string(all - denials_logged_max) +
                                      " more denied; the last: " + last_unlogged_);
}

void session::start_place(const open_frame& f, std::function<void(control::received)> answered) {
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
    // Before the place is asked for: where one of these fails there is none. What is followed by
    // then comes to its end.
    const auto follow = [&](std::uint8_t stream) {
        int ends[2];
        checked(::pipe2(ends, O_CLOEXEC), "no pipe for a place's output");
        unique_fd reader{ends[0]};
        unique_fd writer{ends[1]};
        shared_.outputs.follow(link_, std::move(reader), shown, stream);
        return writer;
    };
    const auto out = follow(1);
    const auto err = follow(2);
    shared_.self.request_async(std::move(what), {out.get(), err.get()}, std::move(answered));
    ++opening_;
}

void session::accept(const open_frame& f, control::received answer) {
    --opening_;
    if (const auto* failed = std::get_if<control::failed>(&answer.packet.body)) {
        link_->send(refused_frame{f.channel, errc_of(failed->code), failed->text});
        return;
    }
    const auto& grant = std::get<control::granted>(answer.packet.body);
    const bool is_place_new = !std::holds_alternative<connect_name>(f.target);
    std::function<void()> on_shared;
    if (is_place_new) {
        on_shared = [weak_self = weak_from_this(), &io = shared_.io, channel = f.channel] {
            // Not from inside pump(): it may be the channel's own, and this may end the channel.
            boost::asio::post(io, [weak_self, channel] {
                if (const auto self = weak_self.lock()) self->on_shared(channel);
            });
        };
    }
    std::unique_ptr<detail::channel_state> end;
    try {
        end = shared_.self.open(grant, std::move(answer.fds), std::move(on_shared));
    } catch (const std::exception& e) {
        link_->send(refused_frame{f.channel, errc::start_failed, e.what()});
        return;
    }
    const bool is_owned = asks_for_anonymous_place(f);
    // The asker has gone: dropping our end tells the place.
    if (!link_->is_open()) {
        if (is_owned) end_after_grace(grant.peer_id);
        return;
    }
    auto r = std::make_shared<relay>(std::move(end), f.channel);
    r->awaits_death_report = true;
    r->local_place_announces = std::holds_alternative<start_module>(f.target);
    r->local_was_started = is_place_new;
    r->was_asked_for = true;
    if (is_owned) {
        // By `this`: the session calls its relays, and lets go of them before it goes.
        r->on_far_end = [this, id = grant.peer_id] { end_after_grace(id); };
    }
    add(r);
    answer_open(r);
}

void session::on_shared(std::uint64_t channel) {
    const auto found = relays_.find(channel);
    if (found == relays_.end() || !found->second->was_asked_for) return;
    const auto r = found->second;
    r->is_shared = true;
    if (!r->is_open()) answer_open(r);
}

/// A new place has begun once its memory has come and ours is on its way to it, as one that is
/// started from this node. A named place takes a connection up when it likes.
void session::answer_open(const relay_ptr& r) {
    auto& local = r->local();
    local.attach_if_come();
    if (r->local_was_started) {
        const auto state = local.end().in().peer_state();
        const bool has_failed = !local.is_attached() && state != status::ok;
        if (state == status::refused || has_failed) return refuse_open(r);
        if (!local.is_attached() || !r->is_shared) return;
    }
    r->open(false);
    link_->send(opened_frame{r->wire_id(), r->first_limit(), local.peer_id()});
    r->report_death(*link_);
    make_ready(r);
    send_ready();
}

namespace {

void kill_place(detail::process& self, std::uint64_t place_id) {
    try {
        // Of a place that has ended the nursery knows nothing more.
        self.request_async(control::kill{place_id}, {}, [](const control::received&) {});
    } catch (const error&) {
        // The nursery has ended, and every place with it.
    }
}

}  // namespace

/// A place that nobody is given ends at once.
void session::refuse_open(const relay_ptr& r) {
    kill_place(shared_.self, r->local().peer_id());
    link_->send(refused_frame{r->wire_id(), errc::start_failed, r->local().why_not_begun()});
    relays_.erase(r->wire_id());
    shared_.channels.erase(r->local().id());
}

/// Kills the place in a while, unless it has ended by then. That may be after the end of the
/// session; if the bridge ends first, the nursery does the same.
void session::end_after_grace(std::uint64_t place_id) {
    auto timer = std::make_shared<boost::asio::steady_timer>(shared_.io, place_grace);
    timer->async_wait([timer, &self = shared_.self, place_id](boost::system::error_code ec) {
        if (!ec) kill_place(self, place_id);
    });
}

void session::handle(const opened_frame& f) {
    const auto found = relays_.find(f.channel);
    if (found == relays_.end() || found->second->is_open() || found->second->was_asked_for) {
        return breach("opened");
    }
    const auto r = found->second;
    r->open(!r->far_place_announces);
    if (!r->on_credit({f.channel, 0, f.limit})) return breach("opened with a wrong limit");
    r->report_death(*link_);
    r->send_credit(*link_);
    make_ready(r);
}

void session::handle(const refused_frame& f) {
    const auto found = relays_.find(f.channel);
    if (found == relays_.end()) return;
    const auto r = found->second;
    if (r->is_open()) return breach("refused after opened");
    if (r->was_asked_for) return breach("the side that has asked for a channel refuses it");
    r->refuse(f.code, f.text);
    forget_if_over(r);
}

void session::handle(const data_frame& f) {
    const auto found = relays_.find(f.channel);
    if (found == relays_.end()) return;  // our end has gone; the peer node learns it from `close`
    const auto r = found->second;
    if (!r->on_data(f)) {
        return breach("data beyond credit, out of order, or not a place's to send");
    }
    r->send_credit(*link_);
    r->settle();
    if (r->is_given_up()) make_ready(r);
    forget_if_over(r);
}

void session::handle(const credit_frame& f) {
    const auto found = relays_.find(f.channel);
    if (found == relays_.end()) return;
    const auto r = found->second;
    if (!r->on_credit(f)) return breach("credit");
    make_ready(r);
}

void session::handle(const close_frame& f) {
    const auto found = relays_.find(f.channel);
    if (found == relays_.end()) return;
    const auto r = found->second;
    if (!r->on_close(f)) return breach("close");
    make_ready(r);
    forget_if_over(r);
}

void session::handle(const place_died_frame& f) {
    const auto found = relays_.find(f.channel);
    if (found == relays_.end()) return;
    const auto r = found->second;
    if (const auto how = r->on_died(f)) send_text(r, *how);
}

/// The ring waits for the nursery's answer, so the relay lives until then, the session perhaps not.
/// Dying: a bridge that is killed meanwhile has sent the packet, which tells all of it; the nursery
///        takes it before it tells of the bridge's death.
void session::send_text(const relay_ptr& r, const exit_status& how) {
    const auto& end = r->local();
    const auto on_answer = [&io = shared_.io, weak_self = weak_from_this(),
                            r](const control::received& answer) {
        const bool is_sent = std::holds_alternative<control::done>(answer.packet.body);
        // Not from inside pump(): it may be the channel's own, and this may end the channel.
        boost::asio::post(io, [weak_self, r, is_sent] {
            r->on_text_sent(is_sent);
            if (const auto self = weak_self.lock()) self->go_on(r);
        });
    };
    try {
        shared_.self.request_async(
            control::peer_ended{end.id(), end.number(), how.signalled, how.value, how.text}, {},
            on_answer);
    } catch (const error&) {
        r->on_text_sent(false);  // the nursery has ended, and this bridge ends with it
    }
}

void session::go_on(const relay_ptr& r) {
    const auto found = relays_.find(r->wire_id());
    if (found == relays_.end() || found->second != r) return;  // the link is lost
    make_ready(r);
    send_ready();
    forget_if_over(r);
}

void session::handle(const log_frame& f) {
    if (!is_root()) return breach("a log is for the controller of a node");
    control::log_note note;
    note.severity = from_syslog(f.severity);
    note.time_ns = f.time_ns;
    note.node = label_;
    note.place = printable(f.place);
    note.text = f.text;
    shared_.self.send(std::move(note));
}

void session::handle(const output_frame& f) {
    if (!is_root()) return breach("output is for the controller of a node");
    if (f.line.find('\n') != f.line.npos) return breach("two lines in one");
    shared_.lines.print(label_ + "/" + printable(f.place), f.line);
}

void session::handle(const exit_frame& f) {
    if (has_dialed()) return breach("whoever was dialed may not end who has dialed");
    if (!link_->peer().rights.stop) {
        link_->send(exit_refused_frame{errc::permission_denied, deny("stop the node")});
        return;
    }
    handlers_.on_exit(f.status);
}

bool session::ask_exit(std::int32_t status) {
    if (!link_->is_open()) return false;
    ++exits_asked_;
    link_->send(exit_frame{status});
    return true;
}

void session::handle(const exit_refused_frame& f) {
    if (exits_asked_ == 0) return breach("an exit that was not asked for is refused");
    --exits_asked_;
    handlers_.on_exit_refused(f.code, printable(f.text));
}

// -- introductions --

void session::ask_introduction(const std::string& node) {
    introducing_.push_back(node);
    link_->send(introduce_frame{node});
}

void session::handle(const introduce_frame& f) {
    if (role_ != role::controller) return breach("only its controller introduces a node");
    if (!is_node_name(f.node)) return breach("a node's name");
    link_->send(handlers_.on_introduce(*this, f.node));
}

void session::handle(const introduction_frame& f) {
    if (introducing_.empty() || introducing_.front() != f.node) {
        return breach("an introduction that was not asked for");
    }
    const bool is_elsewhere = f.code == errc{} && !f.host.empty();
    if (is_elsewhere && (f.port == 0 || !is_node_name(f.asker))) {
        return breach("an introduction's port or name");
    }
    introducing_.pop_front();
    handlers_.on_introduction(f);
}

// -- lists --

void session::handle(const list_ask_frame&) {
    if (has_dialed()) return breach("whoever was dialed may not list who has dialed");
    if (is_listing_) return breach("a second list is asked for before the first has come");
    if (!link_->peer().rights.list) {
        link_->send(
            list_answer_frame{errc::permission_denied, deny("list the node"), true, {}, {}, {}});
        return;
    }
    is_listing_ = true;
    handlers_.on_list_asked(shared_from_this());
}

void session::answer_list(const list_answer_frame& f) {
    if (f.is_last) is_listing_ = false;
    link_->send(f);
}

list_answer_frame::link session::listed_link(std::uint64_t number) const {
    using std::chrono::milliseconds;
    const auto age =
        std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - since_);
    const auto& peer = link_->peer();
    return {number,
            peer.name,
            peer.address,
            static_cast<std::uint64_t>(age.count()),
            to_string(peer.rights),
            peer.is_secure};
}

std::vector<list_answer_frame::channel> session::listed_channels(std::uint64_t number) const {
    std::vector<list_answer_frame::channel> rows;
    for (const auto& [id, r] : relays_) {
        rows.push_back(
            {number, id, r->local().peer_id(), r->sent(), r->acknowledged(), r->placed()});
    }
    std::ranges::sort(rows, {}, &list_answer_frame::channel::number);
    return rows;
}

// -- turns --

void session::add(const relay_ptr& r) {
    r->on_given_up = [&lines = shared_.lines](const std::string& line) {
        lines.print("bridge", line);
    };
    const bool is_new_here = relays_.emplace(r->wire_id(), r).second;
    PLACES_ASSERT(is_new_here, r->wire_id());
    const auto to = route{weak_from_this(), r};
    const bool is_new_to_all = shared_.channels.emplace(r->local().id(), to).second;
    PLACES_ASSERT(is_new_to_all, r->local().id());
}

void session::make_ready(const relay_ptr& r) {
    if (std::find(ready_.begin(), ready_.end(), r) == ready_.end()) ready_.push_back(r);
}

void session::send_ready() {
    while (!ready_.empty() && link_->is_open() && link_->queued_bytes() < link_queue_bytes_max) {
        const auto r = ready_.front();
        ready_.pop_front();
        const auto outcome = r->send_some(*link_);
        if (outcome == relay::progress::sent) ready_.push_back(r);
        if (outcome == relay::progress::closing) await_death_report(r);
        forget_if_over(r);
    }
}

void session::await_death_report(const relay_ptr& r) {
    auto timer = std::make_shared<boost::asio::steady_timer>(shared_.io, death_report_limit);
    timer->async_wait([timer, weak_self = weak_from_this(),
                       weak_r = std::weak_ptr{r}](boost::system::error_code ec) {
        const auto self = weak_self.lock();
        const auto one = weak_r.lock();
        if (ec || !self || !one || one->is_over()) return;
        one->stop_waiting();
        self->make_ready(one);
        self->send_ready();
    });
}

void session::forget_if_over(const relay_ptr& r) {
    if (!r->is_over()) return;
    relays_.erase(r->wire_id());
    shared_.channels.erase(r->local().id());
    std::erase(ready_, r);
}

}  // namespace places::net
