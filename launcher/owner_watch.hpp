// SPDX-License-Identifier: Apache-2.0
// What holds a node to whoever started it. Not installed.
#pragma once

#include <places/shm/unique_fd.hpp>

#include <chrono>
#include <cstddef>
#include <mutex>
#include <string_view>

namespace places::launcher {

/// The octets that come on a node's standard input after its orders. Of a local node none do.
inline constexpr char still_wanted = '.';
inline constexpr char may_stay = 's';   ///< still wanted, and the root has the link
inline constexpr char ask_stays = 'S';  ///< the same; stays_line is what it answers
inline constexpr std::string_view stays_line = "\nplaces-node-stays\n";
inline constexpr char wanted_no_more = 'q';
inline constexpr std::chrono::milliseconds beat_interval{1000};
/// Without an octet for so long the SSH connection was cut, though nobody has said so.
inline constexpr std::chrono::milliseconds silence_max{3000};

/// A local node ends with its standard input, which its owner holds. One on another host loses
/// that to a cut cable as well, and its links too, and either may be all that is left: it ends when
/// both have been gone for the grace. Where the links go through SSH too, only its input counts: at
/// the far end of a cut tunnel they seem to stand. Detached, it does not, once it has heard that it
/// may stay: before that nobody but its owner knows of it.
/// Thread: hold() has one of its own; the rest: any.
class owner_watch {
  public:
    struct rules {
        bool is_remote = false;
        bool is_detached = false;
        std::chrono::milliseconds grace{};
        std::chrono::milliseconds silence = silence_max;
        bool is_tunnelled = false;
    };
    /// `output`: for stays_line; the line is left out where there is no room now.
    /// Throws: std::system_error.
    owner_watch(rules r, int input, int output);

    /// Reads the input. Returns: when the node is to end; never after let_go().
    void hold();
    /// So many nodes are linked to this one.
    void set_links(std::size_t count);
    /// The node ends in order, which limit_end() bounds; nothing here may end it before.
    void let_go();

  private:
    using clock = std::chrono::steady_clock;
    void write_stays_line() const noexcept;
    void wake() noexcept;

    const rules rules_;
    const int input_;
    const int output_;
    unique_fd waker_;
    std::mutex mutex_;
    std::size_t links_ = 0;
    bool let_go_ = false;
};

}  // namespace places::launcher
