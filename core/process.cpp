// SPDX-License-Identifier: Apache-2.0
#include "core/process.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
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

exit_status status_of(const control::died& d) { return {d.signalled, d.value}; }

}  // namespace

suspender* current_suspender() noexcept { return suspender_of_thread; }
void set_current_suspender(suspender* s) noexcept { suspender_of_thread = s; }

shm::deadline deadline_after(std::chrono::nanoseconds limit) noexcept {
    if (limit <= limit.zero()) return shm::deadline::min();
    const auto now = std::chrono::steady_clock::now();
    return limit >= shm::no_deadline - now ? shm::no_deadline : now + limit;
}

void poll_until(std::span<pollfd> fds, shm::deadline until) {
    using std::chrono::milliseconds;
    if (auto* body = current_suspender()) return body->poll(fds, until);
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
        // relaxed: as in death_count().
        death_count_.fetch_add(1, std::memory_order_relaxed);
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
    const std::lock_guard lock(polling_mutex_);
    --polling_count_;
    give_core_back();
}

/// Where nobody polls, or asks to: a core granted to who asks would be gone again.
void process::give_core_back() noexcept {
    if (polling_count_ == 0 && polling_asked_ == 0) tell(control::busy_poll{false});
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
