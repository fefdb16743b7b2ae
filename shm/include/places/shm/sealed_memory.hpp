// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <places/shm/layout.hpp>
#include <places/shm/unique_fd.hpp>

#include <boost/interprocess/mapped_region.hpp>

#include <cstdint>
#include <optional>
#include <string>

// Memory without a name: nothing in /dev/shm or /tmp, so nothing is left behind, whatever is
// killed.

namespace places::shm {

/// Makes a memfd of `size_bytes`, every page allocated, sealed against shrinking and growing.
/// Throws: std::system_error; no memory is an error here, never a SIGBUS later. More than the
///         machine has is refused before a page is touched; a control group's limit is not known.
unique_fd create_memory(std::size_t size_bytes, const char* label);

/// Throws: std::invalid_argument for what is no size of a ring.
void check_ring_bytes(std::size_t capacity_bytes);

/// Why memory that another process has made is not that of one side of a channel with rings of that
/// size, or may still be written by others than its maker. Maps nothing.
/// Returns: nothing when it is what it must be.
std::optional<std::string> why_unfit(const unique_fd& memory, std::size_t capacity_bytes);

/// Makes the memory of one side of a channel, its identity filled in.
/// Shape:  capacity_bytes a power of two, ring_bytes_min..ring_bytes_max.
/// Throws: std::system_error; std::invalid_argument for the shape.
unique_fd create_half(std::uint64_t channel_id, std::size_t capacity_bytes);

/// A second descriptor of the same memory that cannot be mapped writable.
unique_fd reopen_read_only(const unique_fd& memory);

/// Forbids every later writable map; existing ones stay. Only the process that writes calls it.
void seal_against_writers(const unique_fd& memory);

enum class access { read_only, read_write };

/// One side's memory in this process: the header, then the data area twice in a row, so that a
/// record never wraps. The descriptor is not needed afterwards.
class half_mapping {
  public:
    /// Checks seals, size, magic, version, and capacity before anything else is believed.
    /// Throws: std::system_error; std::runtime_error naming what is wrong with the memory.
    half_mapping(const unique_fd& memory, access mode);

    const identity& id() const noexcept { return id_; }
    half_header* header() const noexcept;
    std::byte* data() const noexcept;

  private:
    identity id_;
    boost::interprocess::mapped_region whole_;
    boost::interprocess::mapped_region again_;
};

/// Plain memory mapped whole, for words that the nursery shares with its places.
boost::interprocess::mapped_region map_memory(const unique_fd& memory, access mode);

}  // namespace places::shm
