// SPDX-License-Identifier: Apache-2.0
// What a place and its nursery say to each other, and the socket they say it on. Not installed.
#pragma once

#include <places/core/error.hpp>
#include <places/core/message.hpp>
#include <places/shm/unique_fd.hpp>

#include <boost/describe/class.hpp>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace places::control {

/// The node's root; every other place has a higher number.
inline constexpr std::uint64_t root_place_id = 1;

/// A function of this program, good in every process forked from it.
struct code_address {
    std::string module;  ///< path of a shared object; empty for the executable
    std::uint64_t offset = 0;
};
BOOST_DESCRIBE_STRUCT(code_address, (), (module, offset))

struct function_entry {
    code_address thunk;
    code_address function;
};
BOOST_DESCRIBE_STRUCT(function_entry, (), (thunk, function))

struct registered_entry {
    std::string name;
};
BOOST_DESCRIBE_STRUCT(registered_entry, (), (name))

/// The new place loads `path` and reports `opened` or `refused` as its first record.
struct library_entry {
    std::string path;
    std::string symbol;
};
BOOST_DESCRIBE_STRUCT(library_entry, (), (path, symbol))

using entry_ref = std::variant<function_entry, registered_entry, library_entry>;

/// Largest rings of a connection to a place that does not say otherwise. To make its memory the
/// place stands still for some 7 ms then, at another's word.
inline constexpr std::uint64_t connection_ring_bytes_default = 16 << 20;
/// And of a channel to a bridge.
inline constexpr std::uint64_t bridge_ring_bytes_max = 16 << 20;

// -- a place asks --

/// Starts a place. Descriptors: none, or standard output and standard error of the new place.
struct spawn {
    entry_ref entry;
    std::string named;  ///< empty: anonymous
    std::uint64_t ring_bytes = 0;
    bool takes_connections = false;
    std::uint64_t connection_ring_bytes_max = 0;  ///< 0: connection_ring_bytes_default
};
BOOST_DESCRIBE_STRUCT(spawn, (),
                      (entry, named, ring_bytes, takes_connections, connection_ring_bytes_max))

/// A channel straight to the local place of that name.
struct connect {
    std::string name;
    std::uint64_t ring_bytes = 0;
};
BOOST_DESCRIBE_STRUCT(connect, (), (name, ring_bytes))

/// A channel to this node's bridge, which is started when there is none. `payload` and the
/// descriptors are for the bridge alone.
struct open_bridge {
    bytes payload;
    std::uint64_t ring_bytes = 0;
};
BOOST_DESCRIBE_STRUCT(open_bridge, (), (payload, ring_bytes))

struct kill {
    std::uint64_t place_id = 0;
};
BOOST_DESCRIBE_STRUCT(kill, (), (place_id))

/// Asks the place to end in order. The nursery sends it `stop_asked`. Every process that may kill
/// the place may ask.
struct request_stop {
    std::uint64_t place_id = 0;
    std::int64_t grace_ns = 0;  ///< after which the asker kills the place
};
BOOST_DESCRIBE_STRUCT(request_stop, (), (place_id, grace_ns))

/// The call that made that request is given up: the channel that it was granted, if any, is given
/// back, and a place that was started with it ends. Also where the asker never reads the answer. No
/// answer.
struct withdraw {
    std::uint64_t request_id = 0;
};
BOOST_DESCRIBE_STRUCT(withdraw, (), (request_id))

/// From now on this place keeps a core while it waits, or does no longer. The first is refused
/// where there are as many such places as cores; the second has no answer.
struct busy_poll {
    bool on = false;
};
BOOST_DESCRIBE_STRUCT(busy_poll, (), (on))

/// The memory that this end of a channel writes, for the other end to read. Descriptor: the memory,
/// sealed against every later writable map. Once for each end. Answer, where one is asked for:
/// `done`, after `hung_up` where the nursery cannot pass the memory on.
struct share_memory {
    std::uint64_t channel_id = 0;
    std::uint8_t end = 0;  ///< as in `granted`
};
BOOST_DESCRIBE_STRUCT(share_memory, (), (channel_id, end))

/// This process no longer holds that end of the channel. No answer.
struct channel_closed {
    std::uint64_t channel_id = 0;
    std::uint8_t end = 0;
    bool unusable = false;  ///< it never could use it
    std::string why{};      ///< it is unusable
};
BOOST_DESCRIBE_STRUCT(channel_closed, (), (channel_id, end, unusable, why))

/// For the node's log. No answer; forwarded to whoever takes the log: the root, or the bridge. Of a
/// place only severity and text count: the nursery enters the rest, as it knows it. A bridge also
/// tells of other nodes' places, with a node that is not empty.
struct log_note {
    std::uint8_t severity = 0;
    std::int64_t time_ns = 0;  ///< since the epoch
    std::string node;          ///< empty: this one
    std::string place;
    std::string text;
};
BOOST_DESCRIBE_STRUCT(log_note, (), (severity, time_ns, node, place, text))

/// The sender takes the node's log from now on.
struct take_log {};
BOOST_DESCRIBE_STRUCT(take_log, (), ())

/// Only from the root: ends every place, the bridge included unless it is kept, and answers when
/// they are gone. The nursery itself ends when the root's socket closes.
struct end_places {
    bool keep_bridge = false;
};
BOOST_DESCRIBE_STRUCT(end_places, (), (keep_bridge))

/// Only from the root, whose node is called so, for the words of an error. No answer.
struct node_called {
    std::string name;
};
BOOST_DESCRIBE_STRUCT(node_called, (), (name))

/// Only from root and bridge. Answer: places_listed, with as many as a packet holds.
struct list_places {
    std::uint64_t after = 0;  ///< those with a higher number
};
BOOST_DESCRIBE_STRUCT(list_places, (), (after))

/// Only from root and bridge. Answer: channels_listed, with as many as a packet holds.
struct list_channels {
    std::uint64_t after = 0;  ///< those with a higher number
};
BOOST_DESCRIBE_STRUCT(list_channels, (), (after))

/// Most that is kept of the text of an exception.
inline constexpr std::size_t exception_text_bytes_max = 4096;

/// An exception has left the entry of this place, or it cannot begin: it ends now with 1. No
/// answer.
struct exception_text {
    std::string text;
};
BOOST_DESCRIBE_STRUCT(exception_text, (), (text))

/// The place of another node behind this channel has ended, with a text, for which a ring has no
/// room. Only from a bridge, for an end that it holds; `done` once it is on its way to the holder
/// of the other end, as a packet without a number.
struct peer_ended {
    std::uint64_t channel_id = 0;
    std::uint8_t end = 0;  ///< the bridge's; in the packet to the holder, the holder's
    bool signalled = false;
    std::int32_t value = 0;  ///< as in `died`
    std::string text{};      ///< as in exit_status; from the bridge, as the other node has sent it
};
BOOST_DESCRIBE_STRUCT(peer_ended, (), (channel_id, end, signalled, value, text))

// -- the nursery answers or tells --

struct listed_place {
    std::uint64_t place_id = 0;
    std::int32_t pid = 0;
    std::string name;   ///< empty: anonymous
    std::string entry;  ///< as people call it; empty for the root and the bridge
    std::uint64_t age_ms = 0;
};
BOOST_DESCRIBE_STRUCT(listed_place, (), (place_id, pid, name, entry, age_ms))

struct places_listed {
    std::vector<listed_place> places;  ///< by number
    bool is_last = false;
};
BOOST_DESCRIBE_STRUCT(places_listed, (), (places, is_last))

/// Of its two ends, `first` is that of whoever was started or connected to.
struct listed_channel {
    std::uint64_t channel_id = 0;
    std::uint64_t first_place = 0;
    std::uint64_t second_place = 0;
    bool first_holds = false;  ///< its end; a place that has ended holds none
    bool second_holds = false;
    std::uint64_t ring_bytes = 0;  ///< each way
};
BOOST_DESCRIBE_STRUCT(listed_channel, (),
                      (channel_id, first_place, second_place, first_holds, second_holds,
                       ring_bytes))

struct channels_listed {
    std::vector<listed_channel> channels;  ///< by number
    bool is_last = false;
};
BOOST_DESCRIBE_STRUCT(channels_listed, (), (channels, is_last))

/// One end of a new channel. Descriptor: the peer's doorbell. Its holder makes the memory that it
/// writes, maps and seals it, and only then gives it away (share_memory).
struct granted {
    std::uint64_t channel_id = 0;
    std::uint8_t end = 0;  ///< 0: of the place that was started or connected to; 1: the other
    std::uint64_t ring_bytes = 0;  ///< of the memory to make
    std::uint64_t peer_id = 0;
    std::int32_t peer_pid = 0;
    bool peer_is_bridge = false;  ///< speaks for a place of another node, and tells how that ended
};
BOOST_DESCRIBE_STRUCT(granted, (), (channel_id, end, ring_bytes, peer_id, peer_pid, peer_is_bridge))

struct failed {
    std::int32_t code = 0;
    std::string text;
};
BOOST_DESCRIBE_STRUCT(failed, (), (code, text))

struct done {};
BOOST_DESCRIBE_STRUCT(done, (), ())

/// Another process has connected to this place, or opened a channel to this bridge.
/// Descriptors: as granted, then those of open_bridge.
struct offered {
    granted end;
    bytes payload;
};
BOOST_DESCRIBE_STRUCT(offered, (), (end, payload))

/// A process that shares a channel with this one, or that it created, has ended.
struct died {
    std::uint64_t place_id = 0;
    bool signalled = false;
    std::int32_t value = 0;  ///< exit code or signal number
    std::string text{};      ///< as in exit_status
};
BOOST_DESCRIBE_STRUCT(died, (), (place_id, signalled, value, text))

/// To the holder of that end: the memory that the other end writes. Descriptor: that memory.
struct peer_memory {
    std::uint64_t channel_id = 0;
    std::uint8_t end = 0;
};
BOOST_DESCRIBE_STRUCT(peer_memory, (), (channel_id, end))

/// To the holder of that end: the process at the other end could never use its own, and lives.
struct hung_up {
    std::uint64_t channel_id = 0;
    std::uint8_t end = 0;
    std::string why;
    /// The other process had opened its end, so it may have read what was sent to it.
    bool may_have_read = false;
};
BOOST_DESCRIBE_STRUCT(hung_up, (), (channel_id, end, why, may_have_read))

/// This place is to end in order.
struct stop_asked {
    std::int64_t grace_ns = 0;  ///< as in request_stop
};
BOOST_DESCRIBE_STRUCT(stop_asked, (), (grace_ns))

using body =
    std::variant<spawn, connect, open_bridge, kill, channel_closed, log_note, take_log, end_places,
                 granted, failed, done, offered, died, hung_up, busy_poll, list_places,
                 places_listed, node_called, list_channels, channels_listed, share_memory,
                 peer_memory, request_stop, stop_asked, withdraw, exception_text, peer_ended>;

struct packet {
    std::uint64_t request_id = 0;  ///< an answer carries its request's; 0 where none is due
    control::body body;
};
BOOST_DESCRIBE_STRUCT(packet, (), (request_id, body))

struct received {
    control::packet packet;
    std::vector<unique_fd> fds;
};

inline constexpr std::size_t packet_bytes_max = 64 * 1024;
/// Of what goes with a new channel, or of a text to log: the rest of the packet is small, and fits
/// into the other half.
inline constexpr std::size_t payload_bytes_max = packet_bytes_max / 2;
inline constexpr std::size_t packet_fds_max = 16;

/// Sends one packet. Throws: std::system_error (EPIPE when the other side has ended).
/// Blocks: while the socket is full.
void send(int socket, const packet& p, const std::vector<int>& fds);
/// The same without blocking. Returns: false when the socket is full; nothing was sent.
bool try_send(int socket, const packet& p, const std::vector<int>& fds);
/// Takes one packet if one is there.
/// Returns: nothing when the socket is empty; fewer descriptors than were sent when this process
///          has no room for them. A socket among them does not wait in close(): received_fds().
/// Throws: error{node_down} at the end of the stream; error{protocol} for a malformed packet.
std::optional<received> receive(int socket);

/// The words on which the nursery announces that a packet waits, one line per place. Written by
/// the nursery only; places map it read-only and watch their slot with the ring's own words.
struct board_slot {
    alignas(64) std::atomic<std::uint32_t> word;
};
inline constexpr std::size_t board_slots = 4096;

}  // namespace places::control
