// SPDX-License-Identifier: Apache-2.0
// A channel over which the root of this node commands the bridge: listen or dial, once and first;
// then finish or end_node.
#pragma once

#include "core/process.hpp"
#include "net/bridge.hpp"
#include "net/directory.hpp"
#include "net/handshake.hpp"
#include "net/link.hpp"
#include "net/listener.hpp"
#include "net/output.hpp"
#include "net/session.hpp"

#include <boost/asio/io_context.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace places::net {

/// Owns the bridge's end of the channel and, after listen(), the listener. Knows the dialed link
/// without owning it: that is its session's.
/// Thread:  the bridge's.
/// Dying:   when the root closes the channel or dies, serve() says so; close() then ends the dialed
///          link, in order where the node there was told to end just before. A dial that is still
///          under way ends at once.
class command_channel : public std::enable_shared_from_this<command_channel> {
  public:
    /// What is done with links that are not started yet, and how each is called in our log.
    struct handlers {
        std::function<void(std::shared_ptr<link>, std::string label)> on_accepted;
        /// `node`: how others reach it; none where our key is not its own. `token`: with which the
        /// process that has dialed uses it. Returns: the number of the link.
        std::function<std::uint64_t(std::shared_ptr<link>, std::string label,
                                    std::optional<known_node> node, const link_token& token)>
            on_dialed;
        /// Returns: whether the node behind that link is told to end.
        std::function<bool(std::uint64_t link_id, std::int32_t status)> on_end_node;
        /// Every place has ended, and no links are accepted any more.
        std::function<void()> on_finish;
    };
    command_channel(boost::asio::io_context& io, const incarnation_id& incarnation,
                    line_printer& lines, std::unique_ptr<detail::channel_state> channel,
                    handlers h);

    std::uint64_t id() const noexcept { return channel_->id(); }
    std::uint64_t peer_id() const noexcept { return channel_->peer_id(); }
    bool is_listening() const noexcept { return listener_ != nullptr; }
    /// Of the last listen().
    const std::vector<std::string>& modules() const noexcept { return modules_; }

    // -- the first command --

    /// Answers with `listening`.  Throws: error, as listener, and {bad_argument} for the key.
    void listen(const listen_command& c);
    /// Answers later, with `linked` or why not. `out` and `err`: of the node there, or none.
    /// Throws: error{bad_argument} for the key and the deadline.
    void dial(const dial_command& c, unique_fd out, unique_fd err);
    void refuse(errc code, const std::string& text);

    // -- afterwards --

    /// Acts on every request that waits.
    /// Returns: empty: and parked, the next one calls | any other: the root has let go.
    status serve();
    void send(const bridge_event& e);
    /// Of the dialed link: it has ended, in order where the node has hung up.
    void report_lost(const std::string& why, bool in_order);
    /// Lets go of the channel and of the dialed link.
    void close();

  private:
    template <class T>
    void answer(const T& body);
    void request_given(const bridge_request& r);

    boost::asio::io_context& io_;
    const incarnation_id incarnation_;  // of this bridge
    line_printer& lines_;
    std::unique_ptr<detail::channel_state> channel_;
    handlers handlers_;
    std::unique_ptr<listener> listener_;
    std::vector<std::string> modules_;
    std::function<void()> cancel_dial_;  // while it is under way
    std::weak_ptr<link> dialed_;
    std::uint64_t link_id_ = 0;                // of that link
    std::optional<std::int32_t> asked_to_end_;  // the node there, with that status
};

}  // namespace places::net
