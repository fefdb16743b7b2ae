// SPDX-License-Identifier: Apache-2.0
// One authenticated link and the channels it carries: what each frame asks for, what its sender
// may ask, and whose turn it is to send.
#pragma once

#include "core/process.hpp"
#include "net/frame.hpp"
#include "net/link.hpp"
#include "net/output.hpp"
#include "net/relay.hpp"

#include <boost/asio/io_context.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace places::net {

class session;

/// Where the wakeups of a local channel go.
struct route {
    std::weak_ptr<session> over;
    std::shared_ptr<net::relay> relay;
};
/// By the local channel's id. The bridge's; each session enters what it carries, and takes it out.
using channel_table = std::unordered_map<std::uint64_t, route>;

/// What the sessions of a bridge share. All of it outlives them.
struct session_context {
    detail::process& self;
    boost::asio::io_context& io;
    channel_table& channels;
    line_printer& lines;
    forwarded_outputs& outputs;
    const std::vector<std::string>& modules;  // that may be loaded for peers
};

/// Owns the link and the relays. Whoever owns the session keeps it from start() until on_closed, or
/// until the io_context runs no more: the link calls it without owning it.
/// A relay is in relays_ and in the table of channels, or in neither. What the peer breaks costs
/// the link; what a local process breaks costs its channel.
/// Thread:  the bridge's.
/// Dying:   with the link, for whatever reason, every channel ends with peer_dead, or is refused
///          with node_down where it was still being opened; then on_closed. A place that is still
///          being started for the peer is told by the end that is dropped.
class session : public std::enable_shared_from_this<session> {
  public:
    /// The controller, or whoever else has the node's own key, opens channels; the node says what
    /// the places that it has started for them print and log. A guest has dialed with another key:
    /// the same, but that neither tells the other of other nodes. Peers are two nodes of one
    /// controller: each may connect to the named places of the other.
    enum class role { controller, guest, started, dialing_peer, accepting_peer };
    struct handlers {
        /// Our controller wants our node to end.
        std::function<void(std::int32_t status)> on_exit;
        /// The node that we have asked to end refuses to.
        std::function<void(errc code, const std::string& text)> on_exit_refused;
        /// The peer may ask for a list, and waits for answer_list().
        std::function<void(const std::shared_ptr<session>&)> on_list_asked;
        /// The node whose own key we have asks where another is. Returns: the answer.
        std::function<introduction_frame(const session&, const std::string& node)> on_introduce;
        /// The answer to an ask_introduction().
        std::function<void(const introduction_frame&)> on_introduction;
        /// Once, last of all, never from inside another call; `why` as link says it, `in_order`
        /// where the other side has hung up. Must not throw.
        std::function<void(const std::string& why, bool in_order)> on_closed;
    };

    /// `label`: how the node there is called in our log.
    session(session_context shared, std::shared_ptr<net::link> link, role own_role,
            std::string label, handlers h);

    /// Starts the link. Once.
    void start();

    role own_role() const noexcept { return role_; }
    bool is_peer_link() const noexcept {
        return role_ == role::dialing_peer || role_ == role::accepting_peer;
    }
    /// Whether our controller calls the node there so. What the node calls itself counts only where
    /// its key proves it.
    bool is_peer_link_to(const std::string& node) const noexcept {
        return (role_ == role::dialing_peer && node == label_) ||
               (role_ == role::accepting_peer && node == link_->peer().name);
    }
    const std::string& label() const noexcept { return label_; }
    const peer_info& peer() const noexcept { return link_->peer(); }
    /// Whether what the places here log is for the peer: it has started them.
    bool wants_log() const noexcept {
        return role_ == role::started && link_->peer().rights.start && last_opened_ > 0;
    }
    /// Whether the peer has our node's own key.
    bool is_to_launcher() const noexcept {
        return role_ == role::started && link_->peer().key == key_kind::launcher;
    }
    /// Whether it has, and has started places here.
    bool is_to_controller() const noexcept { return is_to_launcher() && wants_log(); }
    /// Asks the node there to end. Returns: whether that is on its way.
    bool ask_exit(std::int32_t status);
    /// A part of the list that the peer has asked for.
    void answer_list(const list_answer_frame& f);
    list_answer_frame::link listed_link(std::uint64_t number) const;
    std::vector<list_answer_frame::channel> listed_channels(std::uint64_t number) const;
    bool may_open() const noexcept { return role_ != role::started && link_->is_open(); }
    /// Asks whoever has started us for a node. The answer may never come: the caller bounds the
    /// wait.
    void ask_introduction(const std::string& node);
    /// Asks for a channel and carries it when may_open(); `local` reads the answer.
    /// `request.channel` is chosen here. `place_announces`: see relay::far_place_announces.
    void open(std::unique_ptr<detail::channel_state> local, open_frame request,
              bool place_announces);
    /// The local process of a channel has done something, or died.
    void on_wakeup(const std::shared_ptr<relay>& r);
    /// Beyond what may wait in the link, notes are counted instead.
    void send_log(const control::log_note& note);

    /// Sends what is queued and ends in order.
    void finish() { link_->finish("the node has ended"); }
    /// Ends at once, for a reason of ours.
    void hang_up(const std::string& why) { link_->close(why); }
    /// Ends every channel, as the link does; no handler is called.
    void lose_channels(const std::string& why);

  private:
    using relay_ptr = std::shared_ptr<relay>;

    void on_frame(frame&& f);
    void handle(const open_frame& f);
    void handle(const opened_frame& f);
    void handle(const refused_frame& f);
    void handle(const data_frame& f);
    void handle(const credit_frame& f);
    void handle(const close_frame& f);
    void handle(const place_died_frame& f);
    void handle(const log_frame& f);
    void handle(const output_frame& f);
    void handle(const exit_frame& f);
    void handle(const exit_refused_frame& f);
    void handle(const list_ask_frame& f);
    void handle(const list_answer_frame&) { breach("an answer that was not asked for"); }
    void handle(const introduce_frame& f);
    void handle(const introduction_frame& f);
    void handle(const ping_frame& f) { link_->send(pong_frame{f.sequence}); }
    void handle(const pong_frame&) {}
    template <class Other>
    void handle(const Other&) {
        link_->close("a frame of the handshake after the handshake");
    }
    void breach(const char* what);
    bool has_dialed() const noexcept { return is_root() || role_ == role::dialing_peer; }
    bool is_root() const noexcept { return role_ == role::controller || role_ == role::guest; }
    /// Why an open is not allowed, or nothing; logged.
    std::optional<std::string> denied(const open_frame& f);
    std::string deny(const std::string& what);
    /// With the first denial after their second, or at the end of the link.
    void log_unlogged_denials();
    std::string shown_peer() const;
    void on_written();
    void on_closed(const std::string& why, bool in_order);

    void start_place(const open_frame& f, std::function<void(control::received)> answered);
    void accept(const open_frame& f, control::received answer);
    void on_shared(std::uint64_t channel);
    void answer_open(const relay_ptr& r);
    void refuse_open(const relay_ptr& r);
    void end_after_grace(std::uint64_t place_id);

    void add(const relay_ptr& r);
    void make_ready(const relay_ptr& r);
    void send_ready();
    void await_death_report(const relay_ptr& r);
    void forget_if_over(const relay_ptr& r);
    void send_text(const relay_ptr& r, const exit_status& how);
    void go_on(const relay_ptr& r);

    session_context shared_;
    std::shared_ptr<net::link> link_;
    const role role_;
    const std::string label_;
    handlers handlers_;
    std::uint64_t next_channel_;     // odd: chosen by the side that dialed
    std::uint64_t last_opened_ = 0;  // by the other side
    std::size_t opening_ = 0;        // asked for by the other side, not answered yet
    std::unordered_map<std::uint64_t, relay_ptr> relays_;  // by id on the wire
    std::deque<relay_ptr> ready_;                          // may have something to send
    std::uint64_t dropped_logs_ = 0;
    std::chrono::steady_clock::time_point denials_since_{};
    std::size_t denials_ = 0;              // from then on
    std::string last_unlogged_;            // of those that were too many
    std::size_t exits_asked_ = 0;          // and not refused
    bool is_listing_ = false;              // asked for, not answered to the end
    std::deque<std::string> introducing_;  // asked by us, not answered yet
    const std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

}  // namespace places::net
