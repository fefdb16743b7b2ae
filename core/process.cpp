// SPDX-License-Identifier: Apache-2.0
#include "core/process.hpp"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sys/socket.h>
#include <utility>

namespace places::detail {
namespace {

// The one process-wide word: as there is one pid, there is one membership of a node. It lets a
// plain function call places::spawn as Racket's dynamic-place is called from anywhere.
process* current_process = nullptr;

thread_local suspender* suspender_of_thread = nullptr;

constexpr std::size_t dead_remembered = 4096;

// The board's word and the news are watched besides.
static_assert(interests_max + 2 <= shm::watched_words_max);

// Memory that a channel keeps for the next large message.
constexpr std::size_t kept_bytes_max = 1 << 20;

std::uint16_t number_of(kind k) noexcept { return static_cast<std::uint16_t>(k); }

exit_status status_of(const control::died& d) { return {d.signalled, d.value}; }

shm::endpoint::seal seal_of(const control::granted& g) {
    return g.keeps_memory ? shm::endpoint::seal::kept : shm::endpoint::seal::sealed;
}

}  // namespace

suspender* current_suspender() noexcept { return suspender_of_thread; }
void set_current_suspender(suspender* s) noexcept { suspender_of_thread = s; }

shm::deadline deadline_after(std::chrono::nanoseconds limit) noexcept {
    if (limit <= limit.zero()) return shm::deadline::min();
    const auto now = std::chrono::steady_clock::now();
    return limit >= shm::no_deadline - now ? shm::no_deadline : now + limit;
}

// -- channel_state --

channel_state::channel_state(process& home, const control::granted& grant,
                             std::vector<unique_fd> fds)
    : home_(home),
      peer_id_(grant.peer_id),
      peer_pid_(grant.peer_pid),
      peer_is_bridge_(grant.peer_is_bridge),
      peer_doorbell_(home.doorbell_of(grant.peer_id, std::move(fds.at(2)))),
      end_(std::move(fds.at(0)), std::move(fds.at(1)), seal_of(grant)) {
    end_.set_peer_doorbell(peer_doorbell_->get());
    home_.add(*this);
}

channel_state::~channel_state() {
    if (attendant_) std::exchange(attendant_, {})(attention::gone);
    if (polls_) home_.end_polling();
    end_.shut(shm::half_state::closed);
    home_.remove(*this);
    home_.tell(control::channel_closed{id()});
}

// -- receiving --

/// The next message if it is there; takes in the parts of one that is not yet whole, at most a
/// ring of them: others wait for this thread.
shm::peeked channel_state::next_now() {
    std::uint64_t taken = 0;
    while (taken <= end_.in().capacity_bytes()) {
        if (incoming_.is_broken) return {status::corrupt, {}};
        if (incoming_.is_complete) {
            return {status::ok, {incoming_.what, incoming_.type, incoming_.octets}};
        }
        const auto next = end_.in().try_peek();
        if (next.state == status::empty) return next;
        if (next.state != status::ok) {
            drop_incoming();  // whoever has gone will not finish it
            return next;
        }
        const auto what = next.record.kind;
        const bool is_part = (what & shm::continues) != 0 || what == number_of(kind::part);
        const bool is_report = peer_is_bridge_ && what == number_of(kind::died);
        // Taking one in would give back what the caller still looks at.
        if ((is_part || is_report) && holds_skipped_) return {status::empty, {}};
        if (is_part) {
            taken += next.record.payload.size() + sizeof(shm::record_header);
            if (!take_in(next.record)) return fail();
            continue;
        }
        drop_incoming();  // nor will whoever sends another
        if (is_report) {
            bridge_reported(next.record);
            continue;
        }
        if (next.record.payload.size() > message_bytes_max_) return fail();
        return next;
    }
    return {status::empty, {}};
}

void channel_state::drop_incoming() {
    incoming_.expected_bytes = 0;
    // One large message is no reason to hold its memory.
    if (incoming_.octets.capacity() > kept_bytes_max) incoming_.octets = {};
}

/// Shape:   the first part begins with the whole message's size.
/// Returns: false when the parts make no message.
bool channel_state::take_in(const shm::record_view& part) {
    auto& in = incoming_;
    auto payload = part.payload;
    const bool ends = (part.kind & shm::continues) == 0;
    if ((part.kind & ~shm::continues) != number_of(kind::part)) {
        std::uint64_t whole = 0;
        if (payload.size() < sizeof whole) return false;
        std::memcpy(&whole, payload.data(), sizeof whole);
        payload = payload.subspan(sizeof whole);
        if (whole > message_bytes_max_) return false;
        in.octets.clear();
        // Not all at once: a size is easily said.
        in.octets.reserve(std::min<std::uint64_t>(whole, kept_bytes_max));
        in.what = part.kind & ~shm::continues;
        in.type = part.flags;
        in.expected_bytes = whole;
    } else if (in.expected_bytes == 0) {
        return false;
    }
    if (payload.size() >
        in.expected_bytes - std::min<std::uint64_t>(in.expected_bytes, in.octets.size())) {
        return false;
    }
    if (payload.empty() && !ends) return false;
    in.octets.insert(in.octets.end(), payload.begin(), payload.end());
    if ((in.octets.size() == in.expected_bytes) != ends) return false;
    in.is_complete = ends;
    if (!ends) end_.in().release();
    return true;
}

shm::peeked channel_state::fail() {
    incoming_.is_broken = true;
    end_.shut(shm::half_state::corrupt);
    return {status::corrupt, {}};
}

bool channel_state::has_message() {
    if (incoming_.is_complete || incoming_.is_broken) return true;
    if (!end_.in().is_ready()) return false;
    // Empty although the ring is not: there are more parts than one call takes in.
    return next_now().state != status::empty || (!holds_skipped_ && end_.in().is_ready());
}

shm::peeked channel_state::next_message(shm::deadline until) {
    while (true) {
        if (home_.is_notified()) home_.pump();
        const auto next = next_now();
        if (next.state != status::empty || until == shm::deadline::min()) return next;
        // Most waits between two that are awake are this short: nothing but the tag is looked at.
        const auto has_come = [this] { return end_.in().has_come(); };
        if (!current_suspender() && shm::spin_budget::poll(has_come)) continue;
        const interest on{.channel = this, .record = true};
        if (!home_.wait(
                {&on, 1}, [this] { return has_message(); }, until, spin_)) {
            return {status::timeout, {}};
        }
    }
}

message channel_state::take(const shm::record_view& shown) {
    std::vector<std::byte> octets;
    if (incoming_.is_complete) {
        octets = std::move(incoming_.octets);
    } else {
        octets.assign(shown.payload.begin(), shown.payload.end());
    }
    message m{static_cast<kind>(shown.kind), shown.flags, std::move(octets)};
    consume();
    return m;
}

void channel_state::consume() {
    skip();
    release_skipped();
}

void channel_state::release() {
    // What was looked at since is for whoever asks next.
    if (!holds_skipped_) skip();
    release_skipped();
}

void channel_state::skip() {
    end_.in().skip();
    holds_skipped_ = true;
    if (!incoming_.is_complete) return;
    incoming_.is_complete = false;
    drop_incoming();
}

void channel_state::release_skipped() {
    holds_skipped_ = false;
    end_.in().release_skipped();
}

// -- sending --

void channel_state::set_polls(bool on) {
    if (on == polls_) return;
    if (on) home_.begin_polling();
    if (!on) home_.end_polling();
    polls_ = on;
}

status channel_state::await_room(std::size_t bytes, shm::deadline until) {
    const interest on{.channel = this, .room = true, .room_bytes = bytes};
    const auto ready = [&] { return end_.out().has_room(bytes) != status::full; };
    return home_.wait({&on, 1}, ready, until, spin_) ? status::ok : status::timeout;
}

/// Waits while another body's message goes out in parts.
inline status channel_state::await_turn(shm::deadline until) {
    if (home_.is_notified()) home_.pump();
    return is_sending_parts_ ? await_end_of_parts(until) : status::ok;
}

status channel_state::await_end_of_parts(shm::deadline until) {
    if (until == shm::deadline::min()) return status::full;
    const auto ready = [this] { return !is_sending_parts_; };
    const bool in_time = home_.wait({}, ready, until, spin_);
    // Without a limit only the nursery's end cuts it short; the ring says what follows from that.
    return in_time || until == shm::no_deadline ? status::ok : status::timeout;
}

shm::loan channel_state::loan(std::size_t bytes, shm::deadline until) {
    while (true) {
        if (const auto turn = await_turn(until); turn != status::ok) return {turn, {}};
        const auto room = end_.out().try_loan(bytes);
        if (room.state != status::full || until == shm::deadline::min()) return room;
        if (await_room(bytes, until) != status::ok) return {status::timeout, {}};
    }
}

status channel_state::put(kind k, std::uint16_t type, std::span<const std::byte> payload,
                          shm::deadline until) {
    if (payload.size() > message_bytes_max_) return status::too_large;
    auto& out = end_.out();
    if (payload.size() > out.record_bytes_max()) {
        return put_parts({.what = k, .type = type, .payload = payload}, until);
    }
    while (true) {
        if (const auto turn = await_turn(until); turn != status::ok) return turn;
        const auto sent = out.try_put(number_of(k), type, payload);
        if (sent != status::full || until == shm::deadline::min()) return sent;
        if (await_room(payload.size(), until) != status::ok) return status::timeout;
    }
}

status channel_state::add(kind k, std::uint16_t type, std::span<const std::byte> payload,
                          shm::deadline until) {
    auto& out = end_.out();
    if (payload.size() > std::min(out.record_bytes_max(), message_bytes_max_)) {
        out.publish_batch();
        return put(k, type, payload, until);
    }
    while (true) {
        if (const auto turn = await_turn(until); turn != status::ok) return turn;
        const auto added = out.try_add(number_of(k), type, payload);
        // Early enough that the other side reads while we write.
        if (added == status::full || out.batched_bytes() >= out.capacity_bytes() / 8) {
            out.publish_batch();
        }
        if (added != status::full || until == shm::deadline::min()) return added;
        if (await_room(payload.size(), until) != status::ok) return status::timeout;
    }
}

shm::loan channel_state::add_loan(std::size_t bytes) {
    if (is_sending_parts_) return {status::full, {}};
    return end_.out().try_add_loan(0, 0, bytes);
}

bool channel_state::can_advance(const outgoing& m) {
    const bool is_next = m.has_begun || !is_sending_parts_;
    const auto room = end_.out().has_room(is_next ? next_record_bytes(m) : 0);
    return is_next ? room != status::full : room != status::full && room != status::ok;
}

std::size_t channel_state::next_record_bytes(const outgoing& m) noexcept {
    const auto most = end_.out().record_bytes_max();
    if (m.has_begun) return std::min(most, m.payload.size() - m.sent);
    return m.payload.size() <= most ? m.payload.size() : most;
}

status channel_state::advance(outgoing& m) {
    auto& out = end_.out();
    if (m.payload.size() > message_bytes_max_) return status::too_large;
    const bool in_parts = m.payload.size() > out.record_bytes_max();
    if (!can_advance(m)) return status::full;
    while (true) {
        const auto room = out.try_loan(next_record_bytes(m));
        if (room.state != status::ok) {
            if (room.state != status::full) give_up(m);
            return room.state;
        }
        auto into = room.payload;
        const auto what = m.has_begun ? kind::part : m.what;
        if (in_parts && !m.has_begun) {
            const std::uint64_t whole = m.payload.size();
            std::memcpy(into.data(), &whole, sizeof whole);
            into = into.subspan(sizeof whole);
        }
        const auto some = m.payload.subspan(m.sent, into.size());
        std::copy(some.begin(), some.end(), into.begin());
        m.sent += some.size();
        m.has_begun = true;
        const bool ends = m.sent == m.payload.size();
        const auto goes_on = ends ? std::uint16_t{0} : shm::continues;
        out.publish(number_of(what) | goes_on, m.type, room.payload.size());
        is_sending_parts_ = !ends;
        if (!ends) continue;
        if (in_parts) home_.wake_waits();
        return status::ok;
    }
}

void channel_state::give_up(const outgoing& m) noexcept {
    if (!m.has_begun || m.sent == m.payload.size()) return;
    is_sending_parts_ = false;
    home_.wake_waits();
}

status channel_state::put_parts(outgoing m, shm::deadline until) {
    if (until == shm::deadline::min()) {
        // All at once or not at all, as whoever does not wait expects.
        auto& out = end_.out();
        const auto most = out.record_bytes_max();
        const auto octets = m.payload.size() + sizeof(std::uint64_t);
        const auto span = octets / most * shm::span_of(most) + shm::span_of(octets % most);
        if (m.payload.size() > message_bytes_max_ || span > out.capacity_bytes()) {
            return status::too_large;
        }
        if (const auto open = out.has_room(0); open != status::ok) return open;
        if (out.limit() - out.head() < span) return status::full;
    }
    // Also when a router unwinds this body: what was begun is dropped, and others may send.
    const auto end = [this](outgoing* given_up) { give_up(*given_up); };
    const std::unique_ptr<outgoing, decltype(end)> guard{&m, end};
    while (true) {
        const auto sent = advance(m);
        if (sent != status::full) return sent;
        const bool is_next = m.has_begun || !is_sending_parts_;
        const auto waited = is_next ? await_room(next_record_bytes(m), until) : await_turn(until);
        if (waited != status::ok) return waited;
    }
}

void channel_state::bridge_reported(const shm::record_view& record) {
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
    if (!peer_is_bridge_) {
        const std::lock_guard lock(mutex_);
        // The first word stands: a nursery that ends later says nothing of the place.
        if (!peer_status_) peer_status_ = how;
    }
    end_.peer_died();
}

// -- process --

process::process(birth b)
    : control_(std::move(b.control)),
      calls_(std::move(b.calls)),
      board_(shm::map_memory(b.board, shm::access::read_only)),
      word_(&static_cast<const control::board_slot*>(board_.get_address())[b.slot].word),
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
    const std::lock_guard lock(watches_mutex_);
    for (const auto& handler : watches_) handler();
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
        throw error(errc_of(failure->code), failure->text);
    }
    return std::move(**answer);
}

std::unique_ptr<channel_state> process::open(const control::granted& grant,
                                             std::vector<unique_fd> fds) {
    try {
        if (fds.size() < 3) {
            throw error(errc::start_failed,
                        "a new channel came without its memory: this process has no descriptor "
                        "free for it; raise RLIMIT_NOFILE or close channels");
        }
        return std::make_unique<channel_state>(*this, grant, std::move(fds));
    } catch (...) {
        tell(control::channel_closed{grant.channel_id, true});
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
    } else if (const auto* lost = std::get_if<control::hung_up>(&r.packet.body)) {
        const std::lock_guard lock(mutex_);
        if (const auto found = channels_.find(lost->channel_id); found != channels_.end()) {
            found->second->peer_hung_up();
            // relaxed: as in death_count().
            death_count_.fetch_add(1, std::memory_order_relaxed);
        } else {
            hung_up_.insert(lost->channel_id);
        }
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
    const bool polls =
        std::ranges::any_of(on, [](const interest& i) { return i.channel->polls(); });
    std::array<shm::watched_word, shm::watched_words_max> words;
    while (true) {
        // acquire [news]: what it tells of is looked at below; a change after this ends the sleep.
        const auto news_seen = news_.load(std::memory_order_acquire);
        // relaxed: as above; pump() raises it before it looks.
        const auto notice_seen = seen_.load(std::memory_order_relaxed);
        if (is_notified()) pump();
        if (ready()) return true;
        if (is_orphan() && on.empty()) return false;
        if (until != shm::no_deadline && std::chrono::steady_clock::now() >= until) return false;
        const auto has_news = [&] { return ready() || is_notified(); };
        if (polls) {
            (void)shm::spin_budget::poll(has_news);
            continue;
        }
        if (spin.spin(has_news)) continue;

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
            i.channel->was_unparked();
        }
    }
}

void process::begin_polling() {
    // relaxed: one thread's call is what a process's count goes up and down by.
    if (polling_count_.fetch_add(1, std::memory_order_relaxed) > 0) return;
    try {
        (void)request(control::busy_poll{true});
    } catch (...) {
        polling_count_.fetch_sub(1, std::memory_order_relaxed);  // relaxed: as above
        throw;
    }
}

void process::end_polling() noexcept {
    // relaxed: as in begin_polling()
    const auto before = polling_count_.fetch_sub(1, std::memory_order_relaxed);
    if (before == 1) tell(control::busy_poll{false});
}

void process::add(channel_state& c) {
    const std::lock_guard lock(mutex_);
    channels_.emplace(c.id(), &c);
    if (const auto dead = dead_.find(c.peer_id()); dead != dead_.end()) c.peer_died(dead->second);
    if (hung_up_.erase(c.id()) > 0) c.peer_hung_up();
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

// -- those who wait by other means --

news_watch::news_watch(process& home, std::function<void()> handler) : home_(home) {
    const std::lock_guard lock(home_.watches_mutex_);
    place_ = home_.watches_.insert(home_.watches_.end(), std::move(handler));
}

news_watch::~news_watch() {
    const std::lock_guard lock(home_.watches_mutex_);
    home_.watches_.erase(place_);
}

calls_claim::calls_claim(process& home, const void* owner) : home_(home) {
    const std::lock_guard lock(home_.mutex_);
    if (home_.calls_owner_) {
        throw error(errc::bad_argument,
                    "a router or an inbox waits in this process already; a process has one at a "
                    "time, and bodies of a running router may use others");
    }
    home_.calls_owner_ = owner;
    may_have_missed_ = std::exchange(home_.last_calls_owner_, owner) != owner;
}

calls_claim::~calls_claim() {
    const std::lock_guard lock(home_.mutex_);
    home_.calls_owner_ = nullptr;
}

}  // namespace places::detail
