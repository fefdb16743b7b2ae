// SPDX-License-Identifier: Apache-2.0
#include "core/process.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <sys/socket.h>
#include <utility>

namespace places::detail {
namespace {

// The one process-wide word: as there is one pid, there is one membership of a node. It lets a
// plain function call places::spawn as Racket's dynamic-place is called from anywhere.
process* current_process = nullptr;

thread_local suspender* suspender_of_thread = nullptr;

constexpr std::size_t dead_remembered = 4096;

// As select promises; the board's word and the news are watched besides.
constexpr std::size_t interests_max = 120;
static_assert(interests_max + 2 <= shm::watched_words_max);

// Of orphan_word_: 0 while the nursery lives, then these two in turn, the first of which may be
// left out.
constexpr std::uint32_t orphan_told = 1;   // somebody saw it end; pump() will find out
constexpr std::uint32_t orphan_known = 2;  // requests have failed, peers are marked dead

exit_status status_of(const control::died& d) { return {d.signalled, d.value}; }

shm::endpoint::seal seal_of(const control::granted& g) {
    return g.keeps_memory ? shm::endpoint::seal::kept : shm::endpoint::seal::sealed;
}

}  // namespace

suspender* current_suspender() noexcept { return suspender_of_thread; }
void set_current_suspender(suspender* s) noexcept { suspender_of_thread = s; }

// -- channel_state --

channel_state::channel_state(process& home, const control::granted& grant,
                             std::vector<unique_fd> fds)
    : home_(home),
      peer_id_(grant.peer_id),
      peer_pid_(grant.peer_pid),
      peer_doorbell_(home.doorbell_of(grant.peer_id, std::move(fds.at(2)))),
      end_(std::move(fds.at(0)), std::move(fds.at(1)), seal_of(grant)) {
    end_.set_peer_doorbell(peer_doorbell_->get());
    home_.add(*this);
}

channel_state::~channel_state() {
    end_.shut(shm::half_state::closed);
    home_.remove(*this);
    home_.tell(control::channel_closed{id()});
}

shm::peeked channel_state::next_record(shm::deadline until) {
    while (true) {
        if (home_.is_notified()) home_.pump();
        const auto next = end_.in().try_peek();
        if (next.state == status::ok &&
            next.record.kind == static_cast<std::uint16_t>(kind::died)) {
            peer_reported(next.record);
            continue;
        }
        if (next.state != status::empty || until == shm::deadline::min()) return next;
        const interest on{.channel = this, .record = true};
        if (!home_.wait(
                {&on, 1}, [this] { return end_.in().is_ready(); }, until, spin_)) {
            return {status::timeout, {}};
        }
    }
}

shm::loan channel_state::loan(std::size_t bytes, shm::deadline until) {
    while (true) {
        if (home_.is_notified()) home_.pump();
        const auto room = end_.out().try_loan(bytes);
        if (room.state != status::full || until == shm::deadline::min()) return room;
        const interest on{.channel = this, .room = true, .room_bytes = bytes};
        const auto ready = [&] { return end_.out().has_room(bytes) != status::full; };
        if (!home_.wait({&on, 1}, ready, until, spin_)) return {status::timeout, {}};
    }
}

status channel_state::put(kind k, std::uint16_t type, std::span<const std::byte> payload,
                          shm::deadline until) {
    const auto room = loan(payload.size(), until);
    if (room.state != status::ok) return room.state;
    std::copy(payload.begin(), payload.end(), room.payload.begin());
    end_.out().publish(static_cast<std::uint16_t>(k), type, payload.size());
    return status::ok;
}

void channel_state::peer_reported(const shm::record_view& record) {
    const bytes news{record.payload.begin(), record.payload.end()};
    const auto how = decode_datum<std::tuple<bool, std::int32_t>>(news);
    end_.in().release();
    if (!how) return;
    const std::lock_guard lock(mutex_);
    peer_status_ = exit_status{std::get<0>(*how), std::get<1>(*how)};
}

std::optional<exit_status> channel_state::peer_status() const {
    const std::lock_guard lock(mutex_);
    return peer_status_;
}

void channel_state::peer_died(exit_status how) {
    {
        const std::lock_guard lock(mutex_);
        // The first word stands: a nursery or bridge that dies later says nothing of the place.
        if (!peer_status_) peer_status_ = how;
    }
    end_.peer_died();
}

// -- process --

process::process(birth b)
    : control_(std::move(b.control)),
      calls_(std::move(b.calls)),
      board_(shm::map_memory(b.board, shm::access::read_only)),
      slot_(b.slot),
      place_id_(b.place_id),
      name_(std::move(b.name)) {
    // One less than the word, so that a packet sent before we were here is noticed.
    // relaxed: nobody else knows us yet.
    seen_.store(word().load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    current_process = this;
}

process::~process() {
    if (current_process == this) current_process = nullptr;
}

process& process::current() {
    if (!current_process) {
        throw error(errc::bad_argument,
                    "no place runs here yet; make a places::runtime on the first line of main");
    }
    return *current_process;
}

process* process::current_or_null() noexcept { return current_process; }

const std::atomic<std::uint32_t>& process::word() const noexcept {
    return static_cast<const control::board_slot*>(board_.get_address())[slot_].word;
}

bool process::is_notified() const noexcept {
    // acquire [notice]: the packet was sent before the word changed.
    // relaxed: seen_ is a hint; pump() looks again under the lock.
    return word().load(std::memory_order_acquire) != seen_.load(std::memory_order_relaxed) ||
           orphan_word_.load(std::memory_order_relaxed) == orphan_told;
}

bool process::is_orphan() const noexcept {
    // relaxed: only this one bit of news.
    return orphan_word_.load(std::memory_order_relaxed) == orphan_known;
}

void process::orphaned() noexcept {
    std::uint32_t living = 0;
    // relaxed: look at the control socket, whose end of stream is the news itself.
    orphan_word_.compare_exchange_strong(living, orphan_told, std::memory_order_relaxed);
    tell_news();
}

void process::tell_news() noexcept {
    // release [news]: what the packet has changed is visible to those this wakes.
    news_.fetch_add(1, std::memory_order_release);
    shm::wake_all(news_);
    const std::lock_guard lock(news_mutex_);
    if (on_news_) on_news_();
}

void process::on_news(std::function<void()> handler) {
    const std::lock_guard lock(news_mutex_);
    on_news_ = std::move(handler);
}

void process::close_control() noexcept { ::shutdown(control_.get(), SHUT_RDWR); }

void process::tell(control::body what) noexcept {
    try {
        control::send(control_.get(), {0, std::move(what)}, {});
    } catch (const std::exception&) {
        // The nursery has ended, and with it everybody who could have wanted to know.
    }
}

void process::request_async(control::body what, const std::vector<int>& fds,
                            std::function<void(control::received)> on_answer) {
    std::uint64_t id;
    {
        const std::lock_guard lock(mutex_);
        id = next_request_++;
        requests_.emplace(id, std::move(on_answer));
    }
    try {
        control::send(control_.get(), {id, std::move(what)}, fds);
    } catch (...) {
        {
            const std::lock_guard lock(mutex_);
            requests_.erase(id);
        }
        try {
            throw;
        } catch (const std::system_error& e) {
            throw error(errc::node_down, std::string("the node's nursery has ended: ") + e.what());
        }
    }
}

control::received process::request(control::body what, const std::vector<int>& fds) {
    auto answer = std::make_shared<std::optional<control::received>>();
    auto arrived = std::make_shared<std::atomic<bool>>(false);
    request_async(std::move(what), fds, [answer, arrived](control::received r) {
        *answer = std::move(r);
        // release [answer]: the answer is complete.
        arrived->store(true, std::memory_order_release);
    });
    // acquire [answer]
    const auto ready = [&] { return arrived->load(std::memory_order_acquire); };
    shm::spin_budget spin;
    wait({}, ready, shm::no_deadline, spin);
    if (!ready()) throw error(errc::node_down, "the node's nursery has ended");
    if (auto* failure = std::get_if<control::failed>(&(*answer)->packet.body)) {
        throw error(static_cast<errc>(failure->code), failure->text);
    }
    return std::move(**answer);
}

std::unique_ptr<channel_state> process::open(const control::granted& grant,
                                             std::vector<unique_fd> fds) {
    if (fds.size() < 3) throw error(errc::protocol, "a channel was granted without its memory");
    try {
        return std::make_unique<channel_state>(*this, grant, std::move(fds));
    } catch (...) {
        tell(control::channel_closed{grant.channel_id});
        throw;
    }
}

void process::pump() {
    bool acted = false;
    try {
        while (take_packet()) acted = true;
    } catch (...) {
        // What still waits in the socket is looked for again.
        // relaxed: a hint for this process.
        seen_.fetch_sub(1, std::memory_order_relaxed);
        tell_news();
        throw;
    }
    if (acted) tell_news();
}

/// Returns: whether there was one, or the end of the nursery.
bool process::take_packet() {
    std::optional<control::received> next;
    {
        const std::lock_guard lock(mutex_);
        // relaxed: set before the read, so that a packet that comes in between is seen again.
        seen_.store(word().load(std::memory_order_acquire), std::memory_order_relaxed);
        // acquire [notice] above: the word first, then the socket.
        if (is_orphan()) return false;
        try {
            next = control::receive(control_.get());
        } catch (const error& e) {
            if (e.code() != errc::node_down) throw;
            // relaxed: from here on there is no nursery; everything after is reported by it.
            orphan_word_.store(orphan_known, std::memory_order_relaxed);
        }
    }
    if (is_orphan()) {
        fail_requests();
        return true;
    }
    if (!next) return false;
    act_on(std::move(*next));
    return true;
}

void process::fail_requests() {
    decltype(requests_) open;
    {
        const std::lock_guard lock(mutex_);
        open.swap(requests_);
        // The kernel ends every place with its nursery.
        for (auto& [id, c] : channels_) c->peer_died({.signalled = true, .value = SIGKILL});
    }
    for (auto& [id, on_answer] : open) {
        control::failed failure{static_cast<std::int32_t>(errc::node_down),
                                "the node's nursery has ended"};
        on_answer({{id, failure}, {}});
    }
}

void process::act_on(control::received r) {
    if (r.packet.request_id != 0) {
        std::function<void(control::received)> on_answer;
        {
            const std::lock_guard lock(mutex_);
            const auto found = requests_.find(r.packet.request_id);
            if (found == requests_.end()) return;
            on_answer = std::move(found->second);
            requests_.erase(found);
        }
        return on_answer(std::move(r));
    }
    if (auto* news = std::get_if<control::died>(&r.packet.body)) {
        std::function<void(std::uint64_t, exit_status)> handler;
        {
            const std::lock_guard lock(mutex_);
            dead_[news->place_id] = status_of(*news);
            dead_order_.push_back(news->place_id);
            if (dead_order_.size() > dead_remembered) {
                dead_.erase(dead_order_.front());
                dead_order_.pop_front();
            }
            for (auto& [id, c] : channels_) {
                if (c->peer_id() == news->place_id) c->peer_died(status_of(*news));
            }
            // relaxed: as in death_count().
            death_count_.fetch_add(1, std::memory_order_relaxed);
            handler = on_died_;
        }
        if (handler) handler(news->place_id, status_of(*news));
    } else if (std::holds_alternative<control::offered>(r.packet.body)) {
        const std::lock_guard lock(mutex_);
        offers_.push_back(std::move(r));
    } else if (auto* note = std::get_if<control::log_note>(&r.packet.body)) {
        std::function<void(const control::log_note&)> handler;
        {
            const std::lock_guard lock(mutex_);
            handler = on_log_;
        }
        // The packets after this one are other people's answers: no handler's exception loses them.
        try {
            if (handler) handler(*note);
        } catch (const std::exception& e) {
            std::fprintf(stderr, "places: the log's handler threw: %s\n", e.what());
        }
    }
}

std::deque<control::received> process::take_offers() {
    const std::lock_guard lock(mutex_);
    return std::exchange(offers_, {});
}

bool process::has_offers() const {
    const std::lock_guard lock(mutex_);
    return !offers_.empty();
}

void process::on_log(std::function<void(const control::log_note&)> handler) {
    const std::lock_guard lock(mutex_);
    on_log_ = std::move(handler);
}

void process::on_died(std::function<void(std::uint64_t, exit_status)> handler) {
    const std::lock_guard lock(mutex_);
    on_died_ = std::move(handler);
}

bool process::wait(std::span<const interest> on, const std::function<bool()>& ready,
                   shm::deadline until, shm::spin_budget& spin) {
    if (auto* body = current_suspender()) return body->wait(on, ready, until);
    if (on.size() > interests_max) {
        throw error(errc::bad_argument, "a wait on " + std::to_string(on.size()) + " channels");
    }
    std::array<shm::watched_word, shm::watched_words_max> words;
    while (true) {
        // acquire [news]: what it tells of is looked at below; a change after this ends the sleep.
        const auto news_seen = news_.load(std::memory_order_acquire);
        // relaxed: as above; pump() raises it before it looks.
        const auto notice_seen = seen_.load(std::memory_order_relaxed);
        if (is_notified()) pump();
        if (ready()) return true;
        if (is_orphan() && on.empty()) return false;
        if (std::chrono::steady_clock::now() >= until) return false;
        if (spin.spin([&] { return ready() || is_notified(); })) continue;

        std::size_t count = 0;
        for (const auto& i : on) {
            words[count++] = i.channel->end().bell();
            if (i.record) i.channel->end().in().park(shm::park_mode::futex);
            if (i.room) i.channel->end().out().park(shm::park_mode::futex, i.room_bytes);
        }
        words[count++] = {&word(), notice_seen};
        words[count++] = {&news_, news_seen};
        if (!ready() && !is_notified()) shm::sleep_until_changed({words.data(), count}, until);
        // Only what was parked here: an inbox keeps its own ends parked meanwhile.
        for (const auto& i : on) {
            if (i.record) i.channel->end().in().unpark();
            if (i.room) i.channel->end().out().unpark();
        }
    }
}

void process::add(channel_state& c) {
    const std::lock_guard lock(mutex_);
    channels_.emplace(c.id(), &c);
    if (const auto dead = dead_.find(c.peer_id()); dead != dead_.end()) c.peer_died(dead->second);
    // Granted just before the nursery ended, which has ended the peer.
    if (is_orphan()) c.peer_died({.signalled = true, .value = SIGKILL});
}

void process::remove(channel_state& c) noexcept {
    const std::lock_guard lock(mutex_);
    // Both ends may be ours: a place may connect to its own name.
    const auto found = channels_.find(c.id());
    if (found != channels_.end() && found->second == &c) channels_.erase(found);
    if (c.is_last_user_of_doorbell()) doorbells_.erase(c.peer_id());
}

std::shared_ptr<unique_fd> process::doorbell_of(std::uint64_t peer_id, unique_fd offered) {
    const std::lock_guard lock(mutex_);
    auto& known = doorbells_[peer_id];
    auto doorbell = known.lock();
    if (!doorbell) {
        doorbell = std::make_shared<unique_fd>(std::move(offered));
        known = doorbell;
    }
    return doorbell;
}

}  // namespace places::detail
