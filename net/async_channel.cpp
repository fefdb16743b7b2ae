// SPDX-License-Identifier: Apache-2.0
#include <places/net/async_channel.hpp>

#include "core/async_waits.hpp"

#include <boost/asio/error.hpp>
#include <boost/asio/execution_context.hpp>

#include <functional>
#include <iterator>
#include <list>
#include <optional>
#include <vector>

namespace places {
namespace {

namespace asio = boost::asio;

/// What the async_channels of one io_context share: its waits, while any of them lives.
/// Dying: with the io_context; the operations under way go with it, their handlers uncalled.
class channel_service final : public asio::execution_context::service {
  public:
    using key_type = channel_service;
    inline static asio::execution_context::id id;

    explicit channel_service(asio::execution_context& c) : asio::execution_context::service(c) {}

    /// Drops what an async_channel has under way.
    using dropper = std::function<std::vector<std::unique_ptr<detail::async_operation>>()>;
    using user = std::list<dropper>::iterator;

    user enter(detail::process& self, dropper d) {
        if (users_.empty()) {
            // The io_context may outlive a runtime, and serve the next one.
            if (!waits || &waits->self() != &self) {
                auto& io = static_cast<asio::io_context&>(context());
                waits.emplace(self, io.get_executor(), detail::async_waits::when_empty::rest);
            }
            waits->start();
        } else if (&waits->self() != &self) {
            throw error(errc::bad_argument,
                        "this io_context still has an async_channel of a runtime that has ended: "
                        "destroy that one first, or give this one an io_context of its own");
        }
        return users_.insert(users_.end(), std::move(d));
    }
    void leave(user u) {
        users_.erase(u);
        if (users_.empty()) waits->stop();
    }

    std::optional<detail::async_waits> waits;  // since the first user

  private:
    void shutdown() noexcept override {
        // A handler may own its async_channel: none is destroyed while we look at users_.
        std::vector<std::unique_ptr<detail::async_operation>> all;
        for (auto& drop : users_) {
            auto some = drop();
            std::move(some.begin(), some.end(), std::back_inserter(all));
        }
    }

    std::list<dropper> users_;
};

channel& with_end(channel& c) {
    auto* end = detail::state_of::get(c);
    if (!end) throw error(errc::bad_argument, "an async_channel of a channel without an end");
    end->check_caller();
    if (end->has_park_observer()) {
        throw error(errc::bad_argument,
                    "this channel is in a channel_set, or an inbox or async_channel reads it: take "
                    "it out of there before an async_channel has it");
    }
    return c;
}

}  // namespace

/// Owns the operations under way. An end is parked for those that wait, and taken out of its sleep
/// before they are looked at again: each park is answered once.
class async_channel::state : public std::enable_shared_from_this<state> {
  public:
    state(asio::io_context& io, channel* borrowed, channel owned)
        : io_(io),
          owned_(std::move(owned)),
          link_(with_end(borrowed ? *borrowed : owned_)),
          end_(*detail::state_of::get(link_)),
          service_(asio::use_service<channel_service>(io)),
          user_(service_.enter(end_.self(), [this] { return drop(); })) {
        end_.set_park_observer([this](detail::channel_state::attention what) {
            using attention = detail::channel_state::attention;
            // A wait of another kind has taken the park word.
            if (what == attention::unparked && !is_moving_) wake();
            // Another thread may run the loop now; one outside of it uses what waits in there.
            if (what == attention::another_thread && !is_in_loop()) loop_waits_.check(end_.id());
        });
    }
    ~state() {
        (void)drop();
        service_.leave(user_);
        end_.set_park_observer({});
    }
    state(const state&) = delete;
    state& operator=(const state&) = delete;

    channel& link() noexcept { return link_; }

    std::uint64_t start(std::unique_ptr<detail::async_operation> op, std::optional<message> m) {
        end_.check_caller();
        const auto id = ++last_id_;
        if (m) {
            puts_.push_back({id, std::move(op), std::move(*m), {}});
            auto& p = puts_.back();
            p.sending = {
                .kind = p.content.kind(), .type = p.content.type(), .payload = p.content.bytes()};
        } else {
            gets_.push_back({id, std::move(op), {}, {}});
        }
        run();
        const auto& mine = m ? puts_ : gets_;
        return !mine.empty() && mine.back().id == id ? id : 0;
    }

    void cancel(std::uint64_t id) {
        cancel_in(gets_, id);
        cancel_in(puts_, id);
        rest();
        run();
    }
    void cancel_all() {
        while (!gets_.empty()) cancel_in(gets_, gets_.front().id);
        while (!puts_.empty()) cancel_in(puts_, puts_.front().id);
        rest();
    }

  private:
    struct entry {
        std::uint64_t id;
        std::unique_ptr<detail::async_operation> op;
        message content;
        detail::channel_state::outgoing sending;  // of a put
    };
    using queue = std::list<entry>;

    void cancel_in(queue& in, std::uint64_t id) {
        for (auto each = in.begin(); each != in.end(); ++each) {
            if (each->id != id) continue;
            end_.give_up(each->sending);
            each->op->complete(asio::error::operation_aborted);
            in.erase(each);
            return;
        }
    }

    std::vector<std::unique_ptr<detail::async_operation>> drop() {
        rest();
        std::vector<std::unique_ptr<detail::async_operation>> all;
        for (auto* each : {&gets_, &puts_}) {
            for (auto& e : *each) {
                end_.give_up(e.sending);
                all.push_back(std::move(e.op));
            }
            each->clear();
        }
        return all;
    }

    /// Does what can be done, and sleeps for the rest.
    void run() {
        end_.take_up_peer();
        do {
            while (!gets_.empty() && gets_.front().op->attempt(link_)) finish(gets_, {});
            while (!puts_.empty()) {
                const auto sent = end_.advance(puts_.front().sending);
                if (sent == status::full) break;
                (void)puts_.front().op->attempt(link_);
                finish(puts_, make_error_code(sent));
            }
            // Parked, they are looked at once more.
        } while (sleep());
        // Parts that came before the park are left, and nobody calls for them: the others first.
        if (!gets_.empty() && end_.was_cut_short()) wake();
    }

    static void finish(queue& in, boost::system::error_code why) {
        const auto done = std::move(in.front().op);
        in.pop_front();
        done->complete(why);
    }

    /// Returns: whether it has begun to sleep now.
    bool sleep() {
        const bool wants_room = !puts_.empty();
        const auto room_bytes = wants_room ? end_.next_record_bytes(puts_.front().sending) : 0;
        const detail::interest wanted{.channel = &end_,
                                      .record = !gets_.empty(),
                                      .room = wants_room,
                                      .room_bytes = room_bytes};
        const bool is_same = wanted.record == on_.record && wanted.room == on_.room &&
                             wanted.room_bytes == on_.room_bytes;
        if (sleeps_ && is_same) return false;
        rest();
        if (!wanted.record && !wanted.room) return false;
        on_ = wanted;
        position_ = service_.waits->add({{&on_, 1}, [this] { wake(); }});
        sleeps_ = true;
        if (is_in_loop()) {
            loop_waits_.enter("the loop of its async_channel");
            is_marked_ = true;
        }
        return true;
    }

    void rest() {
        if (!std::exchange(sleeps_, false)) return;
        is_moving_ = true;
        service_.waits->remove(position_);
        is_moving_ = false;
        if (std::exchange(is_marked_, false)) loop_waits_.leave();
    }

    bool is_in_loop() const { return io_.get_executor().running_in_this_thread(); }

    /// Soon, not now: the caller goes through the sleepers.
    void wake() {
        if (std::exchange(is_waking_, true)) return;
        asio::post(io_, [weak = weak_from_this()] {
            const auto self = weak.lock();
            if (!self) return;
            self->is_waking_ = false;
            self->rest();
            self->run();
        });
    }

    asio::io_context& io_;
    channel owned_;
    channel& link_;
    detail::channel_state& end_;
    channel_service& service_;
    channel_service::user user_;
    std::uint64_t last_id_ = 0;
    queue gets_;
    queue puts_;
    detail::interest on_;
    detail::async_waits::position position_;
    bool sleeps_ = false;
    detail::wait_mark loop_waits_;  // of the thread that ran the loop as the sleep began
    bool is_marked_ = false;
    bool is_moving_ = false;
    bool is_waking_ = false;
};

async_channel::async_channel(asio::io_context& io, channel&& owned)
    : executor_(io.get_executor()),
      state_(std::make_shared<state>(io, nullptr, std::move(owned))) {}
async_channel::async_channel(asio::io_context& io, channel& borrowed)
    : executor_(io.get_executor()),
      state_(std::make_shared<state>(io, &borrowed, channel{})) {}
async_channel::async_channel(async_channel&&) noexcept = default;
async_channel& async_channel::operator=(async_channel&& other) noexcept {
    if (this != &other) {
        leave();
        executor_ = other.executor_;
        state_ = std::move(other.state_);
    }
    return *this;
}
async_channel::~async_channel() { leave(); }

/// In a forked process all of it stays as it is: the parent's loop and end go on.
void async_channel::leave() noexcept {
    if (!state_) return;
    if (detail::process::is_in_fork()) {
        (void)new std::shared_ptr(std::move(state_));
    } else {
        state_->cancel_all();
    }
}

channel& async_channel::link() noexcept { return state_->link(); }

std::uint64_t async_channel::start(const std::weak_ptr<state>& s,
                                   std::unique_ptr<detail::async_operation> get) {
    if (const auto self = s.lock()) return self->start(std::move(get), std::nullopt);
    get->complete(asio::error::operation_aborted);
    return 0;
}

std::uint64_t async_channel::start(const std::weak_ptr<state>& s,
                                   std::unique_ptr<detail::async_operation> put, message m) {
    if (const auto self = s.lock()) return self->start(std::move(put), std::move(m));
    put->complete(asio::error::operation_aborted);
    return 0;
}

void async_channel::cancel_one(const std::weak_ptr<state>& s, std::uint64_t id) {
    if (const auto self = s.lock()) self->cancel(id);
}

void async_channel::cancel() { state_->cancel_all(); }

}  // namespace places
