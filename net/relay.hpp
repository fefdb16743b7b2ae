// SPDX-License-Identifier: Apache-2.0
// One channel between a process of this node and a place of another: its ring, seen as frames.
#pragma once

#include "core/process.hpp"
#include "net/frame.hpp"
#include "net/link.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace places::net {

/// Positions on the wire count the records that crossed; what the bridge itself puts into a ring
/// (`opened`, `died`) lies outside of them.
/// The ring is the retransmit buffer: a record is released only when the far side has placed it.
/// Thread: the bridge's.
class relay : public std::enable_shared_from_this<relay> {
  public:
    relay(std::unique_ptr<detail::channel_state> local, std::uint64_t wire_id);

    std::uint64_t wire_id() const noexcept { return wire_id_; }
    detail::channel_state& local() noexcept { return *local_; }
    /// The place itself will say `opened`: it loads a shared object first.
    bool announced_by_place = false;

    /// The far side has agreed: records may flow. `announce` puts an `opened` record first.
    void open(bool announce);
    /// The far side has not: the local process reads why.
    void refuse(errc code, const std::string& text);
    bool is_open() const noexcept { return open_; }

    // -- ring to wire --

    enum class progress { sent, idle, ended };
    /// Sends one span of records, at most 64 KiB and as far as credit goes.
    /// Returns: sent: there may be more | idle: parked until the ring or the far side calls |
    ///          ended: the local end is down and the far side has been told.
    progress send_some(link& to, std::function<void()> when_written);
    /// Returns: false when the frame breaks the protocol.
    bool on_credit(const credit_frame& f);

    // -- wire to ring --

    /// Returns: false when the frame breaks the protocol (a gap, records beyond our credit).
    bool on_data(const data_frame& f);
    /// Tells the far side how far we are, when that is news; parks for room when there is little.
    void send_credit(link& to);
    void on_died(exit_status how) { died_ = how; }
    void on_close(const close_frame& f);
    /// Ends the local end once everything up to the far side's close is in its ring.
    void settle();

    /// The link is gone: the local process sees peer_dead after what has arrived.
    void lose();

    bool is_over() const noexcept { return out_ended_ && in_ended_; }

  private:
    std::unique_ptr<detail::channel_state> local_;
    std::uint64_t wire_id_;
    bool open_ = false;
    std::uint64_t remote_limit_ = 0;  // position on the wire up to which the far ring has room
    std::uint64_t put_base_ = 0;      // where wire position 0 lies in the local ring
    std::uint64_t told_placed_ = 0;
    std::uint64_t told_limit_ = 0;
    std::optional<exit_status> died_;
    std::optional<close_frame> closing_;  // the far side has closed; not yet passed on
    bool out_ended_ = false;
    bool in_ended_ = false;
};

}  // namespace places::net
