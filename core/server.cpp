// SPDX-License-Identifier: Apache-2.0
#include <places/core/server.hpp>

#include "core/process.hpp"

#include <stdexcept>

namespace places::detail {
namespace {

constexpr std::size_t method_shown_max = 200;

/// `message_bytes`: of the message that was to be sent; 0 where one was to come.
[[noreturn]] void throw_outcome(const reason& outcome, const channel& to, const char* what,
                                std::size_t message_bytes = 0) {
    std::string text = std::string(what) + ": " + outcome.message();
    if (outcome == errc::too_large && message_bytes == 0) {
        text = std::string(what) + ": the answer is over this end's limit of " +
               std::to_string(to.message_bytes_max()) + " bytes";
    } else if (outcome == errc::too_large) {
        text += " (" + std::to_string(message_bytes) + " bytes, and at most " +
                std::to_string(to.sendable_bytes_max()) + ")";
    }
    if (const auto at = to.corrupt_at(); at && outcome == errc::corrupt) {
        text += " (first at position " + std::to_string(*at) + ")";
    }
    if (const auto how = to.peer_status()) text += " (" + to_string(*how) + ")";
    throw error(outcome, text);
}

/// The reply to one call; whatever the method throws becomes its text.
message answer(const request& call, const char* server_name, message (*run)(void*, const request&),
               void* server) {
    try {
        return run(server, call);
    } catch (const std::exception& e) {
        if (call.id() == 0) {
            log_to_parent(severity::error, std::string(server_name) + "::" +
                                               std::string(call.method()) + " threw: " + e.what());
        }
        return make_error_reply(call.id(), e.what());
    } catch (...) {
        return make_error_reply(call.id(), "the method threw something that is no std::exception");
    }
}

}  // namespace

void refuse_arguments(const request& call,
                      std::initializer_list<const std::type_info*> parameters) {
    std::string wanted;
    for (const auto* each : parameters) {
        wanted += (wanted.empty() ? "" : ", ") + readable_name(*each);
    }
    throw error(errc::wrong_type,
                call.describe() + ": the arguments do not fit the parameters (" + wanted + ")");
}

void refuse_result(const char* what, const reply& answer, boost::system::error_code why,
                   const std::type_info& wanted) {
    throw error(why, std::string(what) + ": the reply has another type: expected " +
                         readable_name(wanted) + ", got " + answer.describe());
}

int serve(inbox& in, const char* server_name, message (*run)(void* server, const request& call),
          void* server) {
    while (true) {
        auto next = in.get();
        if (!next) return 0;
        auto call = request::parse(std::move(next->content));
        if (!call) {
            (void)send_or_keep(
                next->from,
                make_error_reply(0, std::string(server_name) + " takes calls, not other messages"));
            continue;
        }
        auto reply = answer(*call, server_name, run, server);
        if (call->id() == 0) continue;
        // A caller that has gone, or reads no answers, is no concern of the server's.
        const auto reply_bytes = reply.bytes().size();
        if (send_or_keep(next->from, std::move(reply)) == status::too_large) {
            // Short enough for the smallest ring, whatever the caller calls its method.
            const auto method = call->method().substr(0, method_shown_max);
            (void)send_or_keep(
                next->from,
                make_error_reply(call->id(), "the result of " + std::string(method) + " is " +
                                                 std::to_string(reply_bytes) +
                                                 " bytes, and at most " +
                                                 std::to_string(message_bytes_max(next->from)) +
                                                 " go through this connection"));
        }
    }
}

namespace {

reply checked(reply r) {
    if (r.is_error()) throw remote_error(std::string(r.error_text()));
    return r;
}

/// Makes known that somebody waits for that answer, as long as it lives.
class call_under_way {
  public:
    using table = std::map<std::uint64_t, std::optional<reply>>;
    call_under_way(table& calls, std::uint64_t id)
        : calls_(calls),
          at_(calls.try_emplace(id).first) {}
    ~call_under_way() { calls_.erase(at_); }
    call_under_way(const call_under_way&) = delete;
    call_under_way& operator=(const call_under_way&) = delete;
    std::optional<reply>& answer() const noexcept { return at_->second; }

  private:
    table& calls_;
    table::iterator at_;
};

}  // namespace

reply caller::call(channel& to, const char* what, std::uint64_t id, const message& m) {
    cast(to, what, m);
    auto* state = state_of::get(to);
    const wait_mark::scope here{state->waits(), "a call of a server"};
    state->claim();
    const call_under_way mine{calls_, id};
    while (true) {
        // Another body may have taken our reply from the channel while we were suspended.
        const auto ready = [&] { return mine.answer() || state->has_message(); };
        const interest on{.channel = state, .record = true};
        state->self().wait({&on, 1}, ready, shm::no_deadline, state->spin());
        if (mine.answer()) return checked(std::move(*mine.answer()));
        auto received = to.receive(channel::clock::time_point::min());
        if (!received) {
            if (received.error() == errc::empty) continue;
            throw_outcome(received.error(), to, what);
        }
        auto parsed = reply::parse(std::move(*received));
        if (!parsed) throw error(parsed.error(), std::string(what) + ": the answer is no reply");
        if (parsed->id() == id) return checked(std::move(*parsed));
        const auto other = calls_.find(parsed->id());
        if (other != calls_.end()) other->second = std::move(*parsed);
    }
}

void caller::cast(channel& to, const char* what, const message& m) {
    if (!to) {
        throw error(errc::bad_argument,
                    std::string(what) +
                        ": this client has no server: it was moved from, or made "
                        "of a handle without a channel");
    }
    const auto sent = to.send(m);
    if (sent == status::ok) return;
    throw_outcome(state_of::get(to)->reason_of(sent), to, what, m.bytes().size());
}

}  // namespace places::detail
