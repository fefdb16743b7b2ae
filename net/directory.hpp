// SPDX-License-Identifier: Apache-2.0
// Other nodes by name: those this one has started, and those that whoever has started it can tell
// it about.
#pragma once

#include "core/process.hpp"
#include "net/bridge.hpp"
#include "net/frame.hpp"
#include "net/handshake.hpp"
#include "net/keys.hpp"
#include "net/listener.hpp"
#include "net/session.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace places::net {

/// By link id; the bridge's.
using session_table = std::map<std::uint64_t, std::shared_ptr<session>>;

/// How other nodes reach one that we have dialed.
struct known_node {
    std::string host;
    std::uint16_t port = 0;
    node_key key{};
    bool insecure = false;
    bool is_here = false;  // it reaches what listens on loopback of this host
    bool is_tunnelled = false;
};

/// Gives a channel to a place of a node known by its name: over a link that stands, or one that is
/// dialed, once, for all who wait for it. A node is called as its controller calls it, and only its
/// controller, the holder of its own key, tells it about others.
/// Owns the channels that wait for a node, and what is known of the nodes that we have started.
/// Thread:  the bridge's.
/// Dying:   when the controller's link is lost, each channel that waits for its answer is refused.
///          When the node there dies during the dial, dial says what happens. Links that stand
///          belong to their sessions.
class directory {
  public:
    struct handlers {
        /// Takes a link to a peer. Returns: its session, started.
        std::function<std::shared_ptr<session>(std::shared_ptr<link>, std::string label)> on_dialed;
        /// Whether this node was started by another.
        std::function<bool()> is_started;
    };
    directory(boost::asio::io_context& io, const session_table& sessions,
              const incarnation_id& incarnation, handlers h);

    /// Carries `local` to the place that `request` names; `local` reads the outcome, a here_answer
    /// where `node` is this one.
    void connect(const std::string& node, std::unique_ptr<detail::channel_state> local,
                 open_frame request);
    /// The answer to a session::ask_introduction(); ignored when it comes too late.
    void on_introduction(const introduction_frame& f);
    /// The link has ended: nobody is told about the node there, nobody waits for its answer.
    void on_lost(std::uint64_t link_id);

    // -- for the nodes whose own key we have: those that we have started, or joined by it --

    /// Until on_lost().
    void add(std::uint64_t link_id, known_node node) { known_[link_id] = std::move(node); }
    /// What `asker` is told about the node that we call so.
    /// Throws: as make_peer_key.
    introduction_frame answer_introduce(const session& asker, const std::string& node) const;

  private:
    struct waiting {
        std::unique_ptr<detail::channel_state> local;
        open_frame request;
    };
    /// A node that is asked about or dialed.
    struct wanted {
        std::uint64_t asked = 0;  // link; 0 once the answer is here
        std::vector<waiting> all;
        std::unique_ptr<boost::asio::steady_timer> limit;
    };
    session_table::const_iterator find_session(
        const std::function<bool(const session&)>& is_it) const;
    session_table::const_iterator find_peer_link(const std::string& node) const;
    /// Those whose own key we have and that we call so; or where we are a guest.
    std::vector<session_table::const_iterator> called(const std::string& node,
                                                      bool or_guest = false) const;
    void ask(const std::string& node);
    void dial(const introduction_frame& f);
    std::vector<waiting> take(const std::string& node);
    void open_all(const std::string& node, session& over);
    void refuse_all(const std::string& node, errc code, const std::string& text);
    std::string names_of_started() const;

    boost::asio::io_context& io_;
    const session_table& sessions_;
    const incarnation_id incarnation_;
    handlers handlers_;
    std::unordered_map<std::uint64_t, known_node> known_;  // by link id
    std::unordered_map<std::string, wanted> wanted_;       // by the name that was asked for
};

}  // namespace places::net
