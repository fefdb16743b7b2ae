// SPDX-License-Identifier: Apache-2.0
#include "net/command_channel.hpp"

#include "core/child.hpp"
#include "net/digest.hpp"

#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <chrono>
#include <string_view>
#include <utility>
#include <variant>

namespace places::net {
namespace {

// A node that was told to end and has not hung up after this is hung up on.
constexpr std::chrono::seconds node_hang_up_limit{2};

}  // namespace

command_channel::command_channel(boost::asio::io_context& io, const incarnation_id& incarnation,
                                 line_printer& lines,
                                 std::unique_ptr<detail::channel_state> channel, handlers h)
    : io_(io),
      incarnation_(incarnation),
      lines_(lines),
      channel_(std::move(channel)),
      handlers_(std::move(h)) {}

namespace {

std::string hexadecimal(const incarnation_id& id) {
    return to_hex({reinterpret_cast<const char*>(id.data()), id.size()});
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

}  // namespace

void command_channel::listen(const listen_command& c) {
    listen_options options;
    options.address = c.address;
    options.port = c.port;
    options.insecure = c.insecure;
    options.keys = {
        known_key{key_of(c.key), std::string(launcher_name), all_rights, key_kind::launcher}};
    for (const auto& other : c.others) {
        if (!is_owner_name(other.owner)) {
            throw error(errc::bad_argument, "\"" + printable(other.owner) + "\" " + owner_rule);
        }
        const rights allowed{other.may_start, other.may_stop, other.may_list, other.may_connect};
        const known_key held{key_of(other.key), other.owner, allowed};
        for (const auto& each : options.keys) {
            if (each.key != held.key) continue;
            throw error(errc::bad_argument, "the key of '" + printable(held.owner) +
                                                "' is that of '" + printable(each.owner) +
                                                "' too: whoever shows one has to be one of them");
        }
        options.keys.push_back(held);
    }
    modules_ = c.modules;
    options.name = c.node_name;
    options.incarnation = incarnation_;
    options.log = [&lines = lines_](std::string line) { lines.print("bridge", line); };
    options.on_link = [this](std::shared_ptr<link> accepted, peer_info peer) {
        handlers_.on_accepted(std::move(accepted), std::move(peer.name));
    };
    listener_ = std::make_unique<listener>(io_, std::move(options));
    channel_->self().send(control::take_log{});
    answer(listening{listener_->port(), hexadecimal(incarnation_)});
}

void command_channel::dial(const dial_command& c, unique_fd out, unique_fd err) {
    const auto forward = [&](unique_fd pipe) {
        if (!pipe) return;
        const auto print = [&lines = lines_, label = c.label](std::string_view line) {
            lines.print(label, line);
        };
        (void)output::follow(io_, std::move(pipe), {print, [] {}});
    };
    forward(std::move(out));
    forward(std::move(err));
    dial_options options;
    options.host = c.host;
    options.port = c.port;
    options.insecure = c.insecure;
    options.key = key_of(c.key);
    options.name = c.own_name;
    options.incarnation = incarnation_;
    options.deadline = std::chrono::milliseconds{c.deadline_ms};
    if (options.deadline <= options.deadline.zero() || options.deadline > dial_deadline_max) {
        throw error(errc::bad_argument, "a deadline of " + std::to_string(c.deadline_ms) +
                                            " ms: at least 1 ms, at most an hour");
    }
    const known_node for_others{c.advertised.empty() ? c.host : c.advertised,
                                c.port,
                                options.key,
                                c.insecure,
                                c.is_here || (is_loopback(c.host) && !c.is_tunnelled),
                                c.is_tunnelled};
    const bool is_own_key = c.own_name == launcher_name;
    const auto random = make_node_key();
    const link_token token{random.begin(), random.end()};
    const auto done = [self = shared_from_this(), label = c.label, for_others, is_own_key,
                       token](dial_result result) {
        self->cancel_dial_ = nullptr;
        if (!result) return self->refuse(result.error().code, result.error().text);
        if (self->channel_->end().is_shut()) return (*result)->close("the launcher has gone");
        self->dialed_ = *result;
        const auto incarnation = hexadecimal((*result)->peer().incarnation);
        self->link_id_ = self->handlers_.on_dialed(
            *result, label, is_own_key ? std::optional(for_others) : std::nullopt, token);
        self->answer(linked{token, incarnation});
    };
    cancel_dial_ = net::dial(io_, std::move(options), done);
}

template <class T>
void command_channel::answer(const T& body) {
    const auto octets = detail::encode_datum(body);
    (void)channel_->put(message_kind::opened, 0, octets, shm::deadline::min());
}

void command_channel::refuse(errc code, const std::string& text) {
    const auto m = detail::make_refused(code, text, channel_->end().out().record_bytes_max());
    (void)channel_->put(m.kind(), m.type(), m.bytes(), shm::deadline::min());
}

status command_channel::serve() {
    channel_->take_up_peer();
    auto& in = channel_->end().in();
    in.unpark();
    while (true) {
        const auto next = in.try_peek();
        if (next.state == status::ok) {
            const bytes copy{next.record.payload.begin(), next.record.payload.end()};
            in.release();
            if (const auto r = detail::decode_datum<bridge_request>(copy)) request_given(*r);
            continue;
        }
        if (next.state != status::empty) return next.state;
        in.park(shm::park_mode::doorbell);
        if (!in.is_ready()) return status::empty;
        in.unpark();
    }
}

void command_channel::request_given(const bridge_request& r) {
    if (const auto* end = std::get_if<end_node>(&r)) {
        if (handlers_.on_end_node(link_id_, end->status)) asked_to_end_ = end->status;
    } else if (is_listening()) {
        listener_->close();
        handlers_.on_finish();
    }
}

void command_channel::send(const bridge_event& e) {
    const auto m = message::of(e);
    const auto told = channel_->put(m.kind(), m.type(), m.bytes(), shm::deadline::min());
    // Whoever has not read thousands of events learns the last one from the closed channel.
    if (told != status::ok) channel_->end().shut(shm::half_state::closed);
}

void command_channel::report_lost(const std::string& why, bool in_order) {
    send(node_lost{why, in_order ? asked_to_end_ : std::nullopt});
}

void command_channel::close() {
    channel_->end().shut(shm::half_state::closed);
    if (const auto cancel = std::exchange(cancel_dial_, nullptr)) cancel();
    const auto l = dialed_.lock();
    if (!l) return;
    const auto* const why = "the launcher let the node go";
    if (!asked_to_end_) return l->close(why);
    // What tells it may still be queued.
    l->finish(why);
    const auto timer = std::make_shared<boost::asio::steady_timer>(io_, node_hang_up_limit);
    timer->async_wait([timer, dialed = dialed_, why](boost::system::error_code ec) {
        const auto silent = dialed.lock();
        if (!ec && silent) silent->close(why);
    });
}

}  // namespace places::net
