// SPDX-License-Identifier: Apache-2.0
#include "launcher/cli/conversation.hpp"

#include "launcher/address.hpp"
#include "launcher/key_file.hpp"
#include "net/listener.hpp"

#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace places::cli {

bool ask(const target& to, const net::frame& question, std::chrono::milliseconds deadline,
         const std::function<bool(const net::frame&)>& on_frame) {
    const auto where = launcher::parse_address(to.address);
    const auto held = launcher::read_key_file(to.key_file);
    const auto until = std::chrono::steady_clock::now() + deadline;
    auto owner = std::make_unique<boost::asio::io_context>(1);
    auto& io = *owner;
    std::optional<net::dial_result> dialed;
    net::dial(io,
              {.host = where.host,
               .port = where.port,
               .insecure = to.insecure,
               .key = held.key,
               .name = held.owner,
               .incarnation = net::make_incarnation_id(),
               .deadline = std::min<std::chrono::milliseconds>(deadline, answer_deadline)},
              [&](net::dial_result r) { dialed = std::move(r); });
    while (!dialed && io.run_one() > 0) {
    }
    if (!dialed) throw error{errc::node_unreachable, "no link to " + to.address};
    if (!*dialed) {
        io.poll();
        // What is left then is a look-up on Asio's thread, which the destructor would wait for.
        // It touches nothing but what it has been given, so the process may end beside it.
        if (!io.stopped()) (void)owner.release();
    }
    const auto link = std::move(*dialed).value();

    bool is_answered = false;
    bool is_closed = false;
    boost::system::error_code ended;
    std::string why_ended;
    std::exception_ptr thrown;
    link->start({.on_frame =
                     [&](net::frame&& f) {
                         try {
                             if (!is_answered && on_frame(f)) is_answered = true;
                         } catch (const std::exception&) {
                             thrown = std::current_exception();
                         }
                         if (is_answered || thrown) link->finish("answered");
                     },
                 .on_closed =
                     [&](boost::system::error_code ec, std::string why) {
                         is_closed = true;
                         ended = ec;
                         why_ended = std::move(why);
                     }});
    link->send(question);
    while (!is_closed && io.run_one_until(until) > 0) {
    }
    const bool is_late = !is_closed && !is_answered && !thrown;
    link->close("over");
    while (!is_closed && io.run_one() > 0) {
    }
    if (thrown) std::rethrow_exception(thrown);
    if (is_late) {
        throw error{errc::node_unreachable,
                    "the node at " + to.address + " has not answered in " +
                        std::to_string(std::chrono::ceil<std::chrono::seconds>(deadline).count()) +
                        " s"};
    }
    if (!is_answered && ended != boost::asio::error::eof)
        throw error{errc::node_unreachable, "the connection was lost: " + why_ended};
    return is_answered;
}

}  // namespace places::cli
