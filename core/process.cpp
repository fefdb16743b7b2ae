// SPDX-License-Identifier: Apache-2.0
#include "core/process.hpp"

#include "core/text.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

namespace places::detail {
namespace {

// The one process-wide word: as there is one pid, there is one membership of a node. It lets a
// plain function call places::spawn as Racket's dynamic-place is called from anywhere.
process* current_process = nullptr;

thread_local waiter* waiter_of_thread = nullptr;

constexpr std::size_t dead_remembered = 4096;

// The board's word and the news are watched besides.
static_assert(interests_max + 2 <= shm::watched_words_max);

exit_status status_of(const control::died& d) { return {d.signalled, d.value, d.text}; }

/// Whether a packet could not be sent since there is no nursery any more, not for want of memory.
bool is_end_of_nursery(const std::error_code& why) noexcept {
    return why == std::errc::broken_pipe || why == std::errc::connection_reset ||
           why == std::errc::not_connected;
}

}  // namespace

waiter* current_waiter() noexcept { return waiter_of_thread; }
void set_current_waiter(waiter* s) noexcept { waiter_of_thread = s; }

shm::deadline deadline_after(std::chrono::nanoseconds limit) noexcept {
    if (limit <= limit.zero()) return shm::deadline::min();
    const auto now = std::chrono::steady_clock::now();
    return limit >= shm::no_deadline - now ? shm::no_deadline : now + limit;
}

void poll_until(std::span<pollfd> fds, shm::deadline until) {
    using std::chrono::milliseconds;
    if (auto* body = current_waiter()) return body->poll(fds, until);
    constexpr milliseconds longest = std::chrono::hours{1};  // poll counts in int
    while (true) {
        const auto now = std::chrono::steady_clock::now();
        const auto left = until <= now            ? milliseconds{0}
                          : until - now > longest ? longest
                                                  : std::chrono::ceil<milliseconds>(until - now);
        const int got = ::poll(fds.data(), fds.size(), static_cast<int>(left.count()));
        if (got < 0 && errno != EINTR) checked(got, "poll");
        if (got > 0 || until <= now) return;
    }
}

process::process(birth&& b)
    : wakeups_(std::move(b.wakeups)),
      board_(shm::map_memory(b.board, shm::access::read_only)),
      word_(&static_cast<const control::board_slot*>(board_.get_address())[b.slot].word),
      place_id_(b.place_id),
      name_(std::move(b.name)) {
    // One less than the word, so that a packet sent before we were here is noticed.
    // relaxed: nobody else knows us yet.
    seen_.store(word().load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
    control_ = std::move(b.control);
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
    current_process->origin_.check();
    return *current_process;
}

process* process::current_or_null() noexcept { return is_in_fork() ? nullptr : current_process; }

bool process::is_in_fork() noexcept {
    return current_process && current_process->origin_.is_forked();
}

bool process::is_orphan() const noexcept {
    // acquire [orphan]
    return orphan_word_.load(std::memory_order_acquire) == orphan_known;
}

void process::orphaned() noexcept {
    std::uint32_t living = 0;
    // relaxed: look at the control socket, whose end of stream is the news itself.
    orphan_word_.compare_exchange_strong(living, orphan_reported, std::memory_order_relaxed);
    report_news();
}

void process::report_news() noexcept {
    // release [news]: what the packet has changed is visible to those this wakes.
    news_.fetch_add(1, std::memory_order_release);
    shm::wake_all(news_);
    const std::lock_guard lock(watches_mutex_);
    for (const auto& handler : watches_) handler();
}

void process::close_control() noexcept {
    if (!origin_.is_forked()) ::shutdown(control_.get(), SHUT_RDWR);
}

void process::retire() noexcept {
    if (current_process == this) current_process = nullptr;
    try {
        on_log({});
        on_died({});
        // How the last places have ended, and then the end of the nursery.
        pump();
    } catch (const std::exception&) {
        // A malformed packet, or no memory: later calls look again.
    }
}

/// The kernel ends a place with its nursery, but maybe a moment later. A place that used that
/// moment to close its channels would tell its peers of an end in order.
void process::end_with_nursery() const noexcept {
    if (place_id_ == control::root_place_id) return;
    pollfd life{control_.get(), POLLRDHUP, 0};
    if (::poll(&life, 1, 0) == 1) ::kill(::getpid(), SIGKILL);
}

void process::send(control::body what) noexcept {
    if (origin_.is_forked()) return;  // the nursery would take it for its parent's word
    try {
        control::send(control_.get(), {0, std::move(what)}, {});
    } catch (const std::exception&) {
        // The nursery has ended; there is no receiver.
        end_with_nursery();
    }
}

std::uint64_t process::request_async(control::body what, const std::vector<int>& fds,
                                     std::function<void(control::received)> on_answer) {
    origin_.check();
    std::uint64_t id;
    {
        const std::lock_guard lock(mutex_);
        id = next_request_++;
        requests_.emplace(id, std::move(on_answer));
    }
    try {
        control::send(control_.get(), {id, std::move(what)}, fds);
    } catch (...) {
        end_with_nursery();
        {
            const std::lock_guard lock(mutex_);
            requests_.erase(id);
        }
        try {
            throw;
        } catch (const std::system_error& e) {
            if (is_end_of_nursery(e.code())) {
                throw error(errc::node_down,
                            std::string("the node's nursery has ended: ") + e.what());
            }
            throw error(errc::start_failed,
                        "sendmsg of a request to the node's nursery: " + e.code().message());
        }
    }
    return id;
}

control::received process::request(control::body what, const std::vector<int>& fds) {
    enum class progress { asked, answered, abandoned };
    struct question {
        std::atomic<progress> at = progress::asked;
        control::received answer;
    };
    const auto q = std::make_shared<question>();
    // The nursery takes back what it grants; an end that nobody opens is not expected any more.
    const auto dispose = [this](const question& of) {
        const auto* grant = std::get_if<control::granted>(&of.answer.packet.body);
        if (!grant) return;
        const std::lock_guard lock(mutex_);
        expected_.erase({grant->channel_id, grant->end});
    };
    const auto id = request_async(std::move(what), fds, [q, dispose](control::received r) {
        q->answer = std::move(r);
        // acq_rel [answer]: the answer is complete, or the asker has gone.
        const auto before = q->at.exchange(progress::answered, std::memory_order_acq_rel);
        if (before == progress::abandoned) dispose(*q);
    });
    // Also when the wait throws: a router unwinds this body, or the kernel refuses a sleep. Told at
    // once, since this process may never take another packet.
    const auto leave = [this, id, &dispose](question* of) {
        send(control::withdraw{id});
        // acq_rel [answer]: as above.
        const auto before = of->at.exchange(progress::abandoned, std::memory_order_acq_rel);
        if (before == progress::answered) dispose(*of);
    };
    std::unique_ptr<question, decltype(leave)> guard{q.get(), leave};
    // acquire [answer]
    const auto ready = [&] { return q->at.load(std::memory_order_acquire) == progress::answered; };
    shm::spin_budget spin;
    wait({}, ready, shm::no_deadline, spin);
    if (!ready()) throw error(errc::node_down, "the node's nursery has ended");
    (void)guard.release();
    if (auto* failure = std::get_if<control::failed>(&q->answer.packet.body)) {
        throw error(errc_of(failure->code), failure->text);
    }
    return std::move(q->answer);
}

std::unique_ptr<channel_state> process::open(const control::granted& grant,
                                             std::vector<unique_fd> fds,
                                             std::function<void()> on_shared) {
    // Destroyed after give_up(), since the nursery goes by the first reason that it receives.
    std::unique_ptr<channel_state> end;
    try {
        if (fds.empty()) throw error(errc::start_failed, no_descriptor_for_channel);
        const auto memory = shm::create_half(grant.channel_id, grant.ring_bytes);
        end = std::make_unique<channel_state>(*this, grant, memory, std::move(fds.front()));
        share(*end, memory, std::move(on_shared));
        return end;
    } catch (const std::exception& e) {
        give_up(grant, e.what());
        throw;
    }
}

/// The memory is sealed: no process that has the descriptor can write it.
void process::share(channel_state& end, const unique_fd& memory, std::function<void()> on_shared) {
    const control::share_memory what{end.id(), end.number()};
    if (on_shared) {
        request_async(
            what, {memory.get()},
            [on_shared = std::move(on_shared)](const control::received&) { on_shared(); });
        return end.was_shared();
    }
    try {
        control::send(control_.get(), {0, what}, {memory.get()});
    } catch (const std::system_error& e) {
        // The end of the nursery is found by pump(). Any other error is the kernel's refusal.
        if (!is_end_of_nursery(e.code())) throw;
    }
    end.was_shared();
}

/// The end is of no use here, and the process at the other end is told why.
void process::give_up(const control::granted& grant, const std::string& why) noexcept {
    {
        const std::lock_guard lock(mutex_);
        expected_.erase({grant.channel_id, grant.end});
    }
    send(control::channel_closed{grant.channel_id, grant.end, true, why});
}

void process::pump() {
    origin_.check();
    bool acted = false;
    try {
        while (take_packet()) acted = true;
    } catch (...) {
        // What still waits in the socket is looked for again.
        // relaxed: a hint for this process.
        seen_.fetch_sub(1, std::memory_order_relaxed);
        report_news();
        throw;
    }
    if (acted) report_news();
}

/// Returns: whether there was one, or the end of the nursery.
bool process::take_packet() {
    std::optional<control::received> next;
    request_table unanswered;
    bool has_ended = false;
    std::optional<std::system_error> unread;
    std::function<void(const std::system_error&)> on_unread;
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
            end_with_nursery();
            has_ended = true;
            unanswered.swap(requests_);
            lose_nursery();
        } catch (const std::system_error& e) {
            if (!on_unread_) throw;
            on_unread = on_unread_;
            unread = e;
            // relaxed: a hint for this process. What still waits in the socket is looked for again.
            seen_.fetch_sub(1, std::memory_order_relaxed);
        }
        // Under the lock, in the order of the packets: another thread may act on the next one
        // before this thread acts on this one.
        if (next) take_news(*next);
    }
    if (unread) {
        on_unread(*unread);
        return false;
    }
    if (has_ended) {
        fail_requests(std::move(unanswered));
        return true;
    }
    if (!next) return false;
    act_on(std::move(*next));
    return true;
}

/// Marks every peer dead: the kernel ends every place with its nursery.  Shape: mutex_ is held.
void process::lose_nursery() noexcept {
    for (auto& [id, c] : channels_) c->peer_died({.signalled = true, .value = SIGKILL}, false);
    // relaxed: as in death_count().
    death_count_.fetch_add(1, std::memory_order_relaxed);
    // release [orphan]: another thread that sees this sees the deaths too.
    orphan_word_.store(orphan_known, std::memory_order_release);
}

void process::fail_requests(request_table unanswered) {
    for (auto& [id, on_answer] : unanswered) {
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
            handler = on_died_;
        }
        if (handler) handler(news->place_id, status_of(*news));
    } else if (const auto* lost = std::get_if<control::hung_up>(&r.packet.body)) {
        report_peer_news(lost->channel_id);
    } else if (const auto* memory = std::get_if<control::peer_memory>(&r.packet.body)) {
        report_peer_news(memory->channel_id);
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
            std::fprintf(stderr, "places: the log's handler threw: %s\n",
                         printable_text(e.what()).c_str());
        }
    }
}

/// What a packet says of ends, deaths, offers and a stop; its handlers run later.
/// Shape: mutex_ is held.
void process::take_news(control::received& r) {
    const auto& body = r.packet.body;
    // From now on there may be news of that end, which is to be opened or given up.
    const auto* grant = std::get_if<control::granted>(&body);
    if (const auto* offer = std::get_if<control::offered>(&body)) grant = &offer->end;
    if (grant) expected_.try_emplace({grant->channel_id, grant->end});
    if (std::holds_alternative<control::offered>(body)) {
        offers_.push_back(std::move(r));
        return;
    }
    if (const auto* news = std::get_if<control::died>(&body)) {
        dead_[news->place_id] = status_of(*news);
        dead_order_.push_back(news->place_id);
        if (dead_order_.size() > dead_remembered) {
            dead_.erase(dead_order_.front());
            dead_order_.pop_front();
        }
        for (auto& [key, c] : channels_) {
            if (c->peer_id() == news->place_id) c->peer_died(status_of(*news));
        }
    } else if (const auto* memory = std::get_if<control::peer_memory>(&body)) {
        const end_key key{memory->channel_id, memory->end};
        auto fd = r.fds.empty() ? unique_fd() : std::move(r.fds.front());
        if (const auto open = channels_.find(key); open != channels_.end()) {
            open->second->peer_memory_came(std::move(fd));
            // relaxed: as in memory_count().
            memory_count_.fetch_add(1, std::memory_order_relaxed);
        } else if (const auto early = expected_.find(key); early != expected_.end()) {
            early->second.memory = std::move(fd);
        }
        return;
    } else if (const auto* lost = std::get_if<control::hung_up>(&body)) {
        const end_key key{lost->channel_id, lost->end};
        if (const auto open = channels_.find(key); open != channels_.end()) {
            open->second->peer_hung_up(lost->why, lost->may_have_read);
        } else if (const auto early = expected_.find(key); early != expected_.end()) {
            early->second.refusal = lost->why;
            early->second.may_have_read = lost->may_have_read;
        }
    } else if (const auto* stop = std::get_if<control::stop_asked>(&body)) {
        const auto until = deadline_after(std::chrono::nanoseconds{stop->grace_ns / 2});
        // relaxed: as in is_stop_asked().
        stop_until_.store(until.time_since_epoch().count(), std::memory_order_relaxed);
    } else if (const auto* end = std::get_if<control::peer_ended>(&body)) {
        const end_key key{end->channel_id, end->end};
        const exit_status how{end->signalled, end->value, end->text};
        if (const auto open = channels_.find(key); open != channels_.end()) {
            open->second->place_behind_ended(how);
        } else if (const auto early = expected_.find(key); early != expected_.end()) {
            early->second.ended = how;
        }
    } else {
        return;
    }
    // relaxed: as in death_count().
    death_count_.fetch_add(1, std::memory_order_relaxed);
}

void process::report_peer_news(std::uint64_t channel_id) {
    std::function<void(std::uint64_t)> handler;
    {
        const std::lock_guard lock(mutex_);
        handler = on_peer_news_;
    }
    if (handler) handler(channel_id);
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
    origin_.check();
    const std::lock_guard lock(mutex_);
    on_log_ = std::move(handler);
}

void process::on_died(std::function<void(std::uint64_t, exit_status)> handler) {
    origin_.check();
    const std::lock_guard lock(mutex_);
    on_died_ = std::move(handler);
}

void process::on_peer_news(std::function<void(std::uint64_t)> handler) {
    const std::lock_guard lock(mutex_);
    on_peer_news_ = std::move(handler);
}

void process::on_unread(std::function<void(const std::system_error&)> handler) {
    const std::lock_guard lock(mutex_);
    on_unread_ = std::move(handler);
}

bool process::wait(std::span<const interest> on, const std::function<bool()>& ready,
                   shm::deadline until, shm::spin_budget& spin) {
    origin_.check();
    if (auto* body = current_waiter()) return body->wait(on, ready, until);
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
        for (const auto& i : on) i.channel->take_up_peer();
        if (ready()) return true;
        // The end of the nursery may be just what it waits for.
        if (is_orphan() && on.empty()) return ready();
        if (until != shm::no_deadline && std::chrono::steady_clock::now() >= until) return false;
        // A sender of parts without end: the next look takes in what nobody calls for.
        const auto must_look = [&] {
            return std::ranges::any_of(
                on, [](const interest& i) { return i.record && i.channel->was_cut_short(); });
        };
        if (must_look()) continue;
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
        if (!ready() && !is_notified() && !must_look()) {
            shm::sleep_until_changed({words.data(), count}, until);
        }
        // Only what was parked here: an inbox keeps its own ends parked meanwhile.
        for (const auto& i : on) {
            if (i.record) i.channel->end().in().unpark();
            if (i.room) i.channel->end().out().unpark();
            i.channel->was_unparked();
        }
    }
}

void process::begin_polling() {
    {
        const std::lock_guard lock(polling_mutex_);
        if (polling_count_ > 0) {
            ++polling_count_;
            return;
        }
        ++polling_asked_;
    }
    // Whoever asks meanwhile is answered too: the nursery grants a place its core once.
    bool is_granted = false;
    const auto answered = [&is_granted](process* self) {
        const std::lock_guard lock(self->polling_mutex_);
        --self->polling_asked_;
        if (is_granted) ++self->polling_count_;
        self->give_core_back();
    };
    const std::unique_ptr<process, decltype(answered)> guard{this, answered};
    (void)request(control::busy_poll{true});
    is_granted = true;
}

void process::end_polling() noexcept {
    if (origin_.is_forked()) return;  // nor is the mutex whole, if a thread held it at the fork
    const std::lock_guard lock(polling_mutex_);
    --polling_count_;
    give_core_back();
}

/// Where nobody polls, or asks to: a core granted to who asks would be gone again.
void process::give_core_back() noexcept {
    if (polling_count_ == 0 && polling_asked_ == 0) send(control::busy_poll{false});
}

void process::add(channel_state& c) {
    const std::lock_guard lock(mutex_);
    const end_key key{c.id(), c.number()};
    channels_.emplace(key, &c);
    if (const auto early = expected_.extract(key)) {
        auto& news = early.mapped();
        if (news.memory) c.peer_memory_came(std::move(*news.memory));
        if (news.refusal) c.peer_hung_up(*news.refusal, news.may_have_read);
        if (news.ended) c.place_behind_ended(*news.ended);
    }
    if (const auto dead = dead_.find(c.peer_id()); dead != dead_.end()) c.peer_died(dead->second);
    // Granted just before the nursery ended, which has ended the peer.
    if (is_orphan()) c.peer_died({.signalled = true, .value = SIGKILL}, false);
}

void process::remove(channel_state& c) noexcept {
    const std::lock_guard lock(mutex_);
    channels_.erase({c.id(), c.number()});
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

news_watch::news_watch(process& self, std::function<void()> handler) : self_(self) {
    const std::lock_guard lock(self_.watches_mutex_);
    position_ = self_.watches_.insert(self_.watches_.end(), std::move(handler));
}

news_watch::~news_watch() {
    if (self_.origin().is_forked()) return;  // a thread may have held the mutex at the fork
    const std::lock_guard lock(self_.watches_mutex_);
    self_.watches_.erase(position_);
}

wakeup_claim::wakeup_claim(process& self, const void* owner) : self_(self) {
    self_.origin().check();
    const std::lock_guard lock(self_.mutex_);
    if (self_.wakeups_owner_) {
        throw error(errc::bad_argument,
                    "a router or an inbox waits in this process already; a process has one at a "
                    "time, and bodies of a running router may use others");
    }
    self_.wakeups_owner_ = owner;
    may_have_missed_ = std::exchange(self_.last_wakeups_owner_, owner) != owner;
}

wakeup_claim::~wakeup_claim() {
    if (self_.origin().is_forked()) return;  // a thread may have held the mutex at the fork
    const std::lock_guard lock(self_.mutex_);
    self_.wakeups_owner_ = nullptr;
}

}  // namespace places::detail
