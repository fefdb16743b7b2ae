// SPDX-License-Identifier: Apache-2.0
// One channel between a process of this node and a place of another: its ring, seen as frames.
#pragma once

#include "core/process.hpp"
#include "net/frame.hpp"
#include "net/link.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace places::net {

/// Positions on the wire count the records that crossed; what the bridge itself puts into a ring
/// (`opened`) lies outside of them.
/// The ring is the retransmit buffer: a record is released only when the peer node has placed it.
/// Neither side is believed. A local process that forges or changes a record loses its channel, not
/// the link; a frame that breaks the protocol is reported to whoever owns the link.
/// What arrives for a local process that reads no more is dropped, and the peer node is told so.
/// Dying:   the local process counts what was handed to the link and not acknowledged as unknown,
///          see shm::consumer::take_to; net/README.md has a table for every end of a channel.
/// Thread: the bridge's.
class relay : public std::enable_shared_from_this<relay> {
  public:
    relay(std::unique_ptr<detail::channel_state> local, std::uint64_t wire_id);

    std::uint64_t wire_id() const noexcept { return wire_id_; }
    detail::channel_state& local() noexcept { return *local_; }
    /// The place itself says `opened` or `refused`, in its first record: it loads a shared object
    /// first. In no other record may these kinds cross.
    bool far_place_announces = false;
    bool local_place_announces = false;
    /// The local process is a place that this channel has started: it is to end when the channel is
    /// closed, and its `close` waits for that too.
    bool local_was_started = false;
    /// The peer node has asked for this channel, and waits for the answer until open() is called.
    bool was_asked_for = false;
    /// The nursery has passed the memory of the local end on, or has refused the channel.
    bool is_shared = false;
    /// The peer node has closed, or is lost, and the local end was shut for that. Called once.
    std::function<void()> on_far_end{};

    /// The local process has cost itself its channel; a line for the log says how.
    std::function<void(const std::string& line)> on_given_up{};

    /// The peer node has agreed: records may flow. `announce` puts an `opened` record first.
    void open(bool announce);
    /// The peer node has not: the local process reads why.
    void refuse(errc code, const std::string& text);
    bool is_open() const noexcept { return open_; }
    /// From now on a `closed` ring is reported as it is; see progress::closing.
    void stop_waiting() noexcept { awaits_death_report = false; }
    /// A place that ends closes its channels a moment before its process is gone. Set where the
    /// local process is a place: its `close` then waits to bring its completion value along.
    bool awaits_death_report = false;

    // -- ring to wire --

    enum class progress { sent, idle, closing, ended };
    /// Sends one span of records, at most 64 KiB and as far as credit goes; ahead of it how large a
    /// message the local process takes, when that is news.
    /// Returns: sent: there may be more | idle: parked until the ring or the peer node calls |
    ///          closing, once: the local end is closed, and how its process ends is not known
    ///          yet, or refused, and why is not known yet; on that news or after stop_waiting()
    ///          call again | ended: the local end is down and the peer node has been told.
    progress send_some(link& to);
    /// Tells the peer node how the local process has ended, once that is known.
    void report_death(link& to);
    /// Returns: false when the frame breaks the protocol (what it acknowledges was not sent, or is
    ///          no whole record).
    bool on_credit(const credit_frame& f);

    // -- wire to ring --

    /// Returns: false when the frame breaks the protocol (a gap, records beyond our credit, half a
    ///          record, or one of a kind that is not a place's to send).
    bool on_data(const data_frame& f);
    /// The first credit, which the side that was asked sends with `opened`.
    std::uint64_t first_limit() { return reported_limit_ = local_->end().out().limit(); }
    /// Tells the peer node how far we are, when that is news; parks for room when there is little.
    void send_credit(link& to);
    /// The far place has ended, which the local process is told by the ring's word.
    /// Returns: how, where a text goes with it, for which the word has no room: the caller has the
    ///          nursery pass that on, and calls on_text_sent(). Until then this end of the ring is
    ///          neither told nor shut, so the local process has the text before it sees the end.
    std::optional<exit_status> on_died(const place_died_frame& f);
    /// `is_sent`: the nursery has passed the text on; else the local process gets none.
    void on_text_sent(bool is_sent);
    /// Returns: false when the frame breaks the protocol.
    bool on_close(const close_frame& f);
    /// Ends the local end once everything up to the peer node's close is in its ring.
    void settle();

    /// The link is gone: the local process sees peer_dead after what has arrived, or why there
    /// will be no channel.
    void lose(const std::string& why);

    /// The local process has broken its memory, or put what may not cross: its end is shut.
    bool is_given_up() const noexcept { return is_given_up_; }
    bool is_over() const noexcept { return out_ended_ && in_ended_; }

    std::uint64_t sent() const noexcept { return sent_; }
    std::uint64_t acknowledged() const noexcept { return acknowledged_; }
    std::uint64_t placed() const noexcept { return placed_; }

  private:
    void send_span(link& to, const shm::peeked_span& some);
    void report_progress(link& to);
    progress end_sending(link& to, errc reason);
    void report_refusal(const std::string& why);
    void expect_no_more_reading();
    bool acknowledge(std::uint64_t position);
    void give_up_local(const std::string& why);
    void give_up_corrupt();
    /// Whether the local process still takes records.
    bool is_read();
    /// Whether the local process takes another size of messages than the peer node was told.
    bool has_limit_news() const noexcept {
        return open_ && !in_ended_ &&
               local_->end().peer_message_bytes_max() != reported_message_max_;
    }

    std::unique_ptr<detail::channel_state> local_;
    std::uint64_t wire_id_;
    bool open_ = false;
    // Ring to wire: what was sent, where each record of it ends that is not acknowledged yet, and
    // the position up to which the far ring has room.
    std::uint64_t sent_ = 0;
    std::uint64_t acknowledged_ = 0;
    std::deque<std::uint64_t> unplaced_ends_;
    // The far place reads no more: nothing beyond what it has acknowledged can reach it.
    bool far_reads_no_more_ = false;
    std::optional<std::uint64_t> kept_;  // up to where all has reached it, once it has dropped some
    bool is_given_up_ = false;
    std::uint64_t remote_limit_ = 0;
    // Wire to ring: what has come, and where wire position 0 lies in the local ring.
    std::uint64_t placed_ = 0;
    std::uint64_t dropped_ = 0;  // of these, the last ones
    std::uint64_t put_base_ = 0;
    bool discards_ = false;  // the local process reads no more
    bool has_reported_closing_ = false;
    bool reported_death_ = false;
    bool received_death_ = false;
    std::optional<exit_status> unreported_death_;  // its text is on its way to the local process
    std::uint64_t reported_placed_ = 0;
    std::uint64_t reported_limit_ = 0;
    std::uint64_t reported_message_max_ = 0;
    std::optional<close_frame> closing_;  // the peer node has closed; perhaps not yet passed on
    bool out_ended_ = false;
    bool in_ended_ = false;
};

}  // namespace places::net
