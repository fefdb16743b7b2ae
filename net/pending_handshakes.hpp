// SPDX-License-Identifier: Apache-2.0
// Which handshake of a listener ends when there is no room for one more. No socket here, and no
// clock: the caller passes the time.
#pragma once

#include <boost/asio/ip/address.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <string>

namespace places::net {

/// What the other side of a handshake has shown of a key, in the order in which it does.
enum class key_proof {
    none,
    claimed,  ///< a TLS hello that a holder of the key has made; its sender may have copied it
    given,    ///< an answer to what this side has sent
};

/// What pending_handshakes asks of a handshake.
class pending_handshake {
  public:
    virtual ~pending_handshake() = default;
    /// Whether all bytes of its next step have come and this process has not read them yet.
    virtual bool has_news() = 0;
    /// Ends the handshake for another one, and says so to its caller.
    virtual void make_room(const std::string& why) = 0;
    /// Ends the handshake and says so to nobody.
    virtual void drop() = 0;
};

/// What connections from `address` are counted as: an IPv6 address as its network of 64 bits, since
/// one host has all of that; an IPv4 address within IPv6 as itself.
boost::asio::ip::address origin_of(const boost::asio::ip::address& address);

/// The handshakes of one listener. Addresses here are those of origin_of(). An address is known
/// once a key was proved from it.
/// At most `unknown_max` handshakes are from unknown addresses. A quarter more is reserved for
/// known ones. Thread:  one at a time.
class pending_handshakes {
  public:
    using address = boost::asio::ip::address;
    using time_point = std::chrono::steady_clock::time_point;

    /// What each handshake has before it can be ended for another: since its last step, which is
    /// its accept, the last news, or what it has shown of a key.
    static constexpr std::chrono::milliseconds time_min(key_proof shown) noexcept {
        switch (shown) {
            case key_proof::none: return std::chrono::milliseconds{10};
            case key_proof::claimed: return std::chrono::milliseconds{250};  // one round trip
            case key_proof::given: break;
        }
        return std::chrono::milliseconds{1000};
    }
    static constexpr std::size_t known_max = 256;  // the addresses that are known; the last

    struct entry;
    using handle = std::list<entry>::iterator;

    /// Shape:   `unknown_max` is at least 1.
    explicit pending_handshakes(std::size_t unknown_max) noexcept;

    std::size_t size() const noexcept;
    /// Of the whole, those reserved for known addresses included.
    std::size_t size_max() const noexcept { return unknown_max_ + reserve(); }
    std::size_t reserve() const noexcept { return unknown_max_ / reserve_divisor; }

    bool is_known(const address& origin) const { return known_.count(origin) != 0; }
    /// A key was proved from `origin`. Throws: std::bad_alloc.
    void remember(const address& origin, time_point now);

    /// Throws: std::bad_alloc, and nothing was added then.
    handle add(std::shared_ptr<pending_handshake> one, const address& origin, time_point now);
    /// The other side has shown that much of a key.
    void advance(handle which, key_proof shown, time_point now) noexcept;
    void remove(handle which) noexcept;
    /// Ends all of them. Each must not call back.
    void drop_all();

    /// The handshake that is in the way of one more, and from when on it may be ended.
    struct obstacle {
        pending_handshake* handshake = nullptr;  // none: there is room
        time_point ends_at{};
    };
    /// For one more from `origin`. Of the handshakes that have shown least, this is one of the
    /// address with most handshakes, and of these the one with the oldest last step. Unknown
    /// addresses beyond `unknown_max` are in the way of each other only. A handshake with news has
    /// its time anew: it waits for this process, and not this process for it.
    obstacle find_obstacle(const address& origin, time_point now);

  private:
    static constexpr std::size_t reserve_divisor = 4;
    using counts = std::map<address, std::size_t>;

    handle choose(bool unknown_only);
    std::list<entry>& list_of(key_proof shown) noexcept {
        return by_proof_[static_cast<std::size_t>(shown)];
    }

    const std::size_t unknown_max_;
    std::array<std::list<entry>, 3> by_proof_;  // each by its entries' last steps
    counts origins_;                            // of all entries
    std::size_t unknown_ = 0;                   // among them
    std::map<address, time_point> known_;       // and when at last
};

struct pending_handshakes::entry {
    std::shared_ptr<pending_handshake> one;
    counts::iterator origin;
    bool is_known;
    key_proof shown;
    time_point since;  // its last step
};

}  // namespace places::net
