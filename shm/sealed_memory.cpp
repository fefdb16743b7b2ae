// SPDX-License-Identifier: Apache-2.0
#include <places/shm/sealed_memory.hpp>

#include "shm/map_refusal.hpp"

#include <bit>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace places::shm {
namespace {

namespace ipc = boost::interprocess;

/// What mapped_region wants of a mappable object.
struct mappable {
    int fd;
    ipc::mapping_handle_t get_mapping_handle() const noexcept {
        return ipc::ipcdetail::mapping_handle_from_file_handle(fd);
    }
};

ipc::mode_t mode_of(access mode) {
    return mode == access::read_write ? ipc::read_write : ipc::read_only;
}

/// Boost reports through its own exception, which says neither call nor errno text.
ipc::mapped_region map_at(int fd, access mode, std::size_t offset, std::size_t size,
                          void* address) {
    try {
        return {mappable{fd}, mode_of(mode), static_cast<ipc::offset_t>(offset),
                size,         address,       address ? MAP_FIXED : ipc::default_map_options};
    } catch (const ipc::interprocess_exception& e) {
        throw map_refusal(e.get_native_error(), "map", size);
    }
}

std::size_t size_of(const unique_fd& memory) {
    struct stat info {};
    checked(::fstat(memory.get(), &info), "fstat shared memory");
    return static_cast<std::size_t>(info.st_size);
}

[[noreturn]] void refuse(const std::string& why) {
    throw std::runtime_error("shared memory refused: " + why);
}

identity checked_identity(const unique_fd& memory) {
    const int seals = ::fcntl(memory.get(), F_GET_SEALS);
    // EINVAL: a file that knows no seals.
    if (seals < 0 && errno != EINVAL) checked(seals, "look at the seals of shared memory");
    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW)) {
        refuse("it is not sealed against shrinking and growing");
    }
    identity id{};
    if (::pread(memory.get(), &id, sizeof id, 0) != sizeof id) refuse("it has no header");
    if (id.magic != layout_magic) refuse("it is not a channel's memory (wrong magic)");
    if (id.major != layout_major) {
        refuse("layout version " + std::to_string(id.major) + "." + std::to_string(id.minor) +
               ", this program understands " + std::to_string(layout_major) +
               ".x; build both "
               "sides from the same release");
    }
    if (id.header_bytes != header_bytes || !std::has_single_bit(id.capacity_bytes) ||
        id.capacity_bytes < ring_bytes_min || id.capacity_bytes > ring_bytes_max ||
        size_of(memory) != header_bytes + id.capacity_bytes) {
        refuse("its header and its size disagree");
    }
    return id;
}

/// Memory without a name has no limit of its own: what is too much would call the OOM killer on
/// everybody. Less than this is not worth the question.
constexpr std::size_t large_bytes = std::size_t{16} << 20;

/// What the machine could give now; a control group may allow less.
std::uint64_t available_bytes() {
    std::ifstream info{"/proc/meminfo"};
    std::uint64_t kib = 0;
    bool known = false;
    for (std::string key, rest; info >> key; std::getline(info, rest)) {
        std::uint64_t value = 0;
        if (key != "MemAvailable:" && key != "SwapFree:") continue;
        if (info >> value) kib += value;
        known = known || key == "MemAvailable:";
    }
    return known ? kib * 1024 : std::numeric_limits<std::uint64_t>::max();
}

}  // namespace

unique_fd create_memory(std::size_t size_bytes, const char* label) {
    if (size_bytes >= large_bytes && size_bytes > available_bytes()) {
        throw std::system_error(
            ENOMEM, std::generic_category(),
            "allocate " + std::to_string(size_bytes) + " bytes of shared memory");
    }
    auto memory =
        checked_fd(::memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING), "memfd_create");
    checked(::ftruncate(memory.get(), static_cast<off_t>(size_bytes)), "size shared memory");
    // Sparse pages would turn a full machine into a SIGBUS at first touch.
    int allocated;
    do {
        allocated = ::fallocate(memory.get(), 0, 0, static_cast<off_t>(size_bytes));
    } while (allocated < 0 && errno == EINTR);
    checked(allocated, "allocate shared memory");
    checked(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), "seal shared memory");
    return memory;
}

void check_ring_bytes(std::size_t capacity_bytes) {
    if (std::has_single_bit(capacity_bytes) && capacity_bytes >= ring_bytes_min &&
        capacity_bytes <= ring_bytes_max) {
        return;
    }
    throw std::invalid_argument("ring of " + std::to_string(capacity_bytes) +
                                " bytes: a ring is a power of two from 4096 to 4 GiB");
}

std::optional<std::string> why_unfit(const unique_fd& memory, std::size_t capacity_bytes) {
    constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
    const int found = ::fcntl(memory.get(), F_GET_SEALS);
    const auto failed = [](const char* what) {
        return std::string(what) + ": " + std::generic_category().message(errno);
    };
    // EINVAL: a file that knows no seals.
    if (found < 0 && errno != EINVAL) return failed("its seals cannot be looked at");
    if (found < 0 || (found & seals) != seals) return "it is not sealed against other writers";
    struct stat info {};
    if (::fstat(memory.get(), &info) < 0) return failed("it cannot be looked at");
    const auto size = static_cast<std::size_t>(info.st_size);
    if (size != header_bytes + capacity_bytes) {
        return "it has " + std::to_string(size) + " bytes, not " +
               std::to_string(header_bytes + capacity_bytes);
    }
    // A page that is not there would be taken at its first reader's cost, or kill it.
    constexpr std::size_t block_bytes = 512;
    if (static_cast<std::size_t>(info.st_blocks) * block_bytes < size) {
        return "not all of its pages are there";
    }
    return std::nullopt;
}

unique_fd create_half(std::uint64_t channel_id, std::size_t capacity_bytes) {
    check_ring_bytes(capacity_bytes);
    identity id{};
    id.magic = layout_magic;
    id.major = layout_major;
    id.minor = layout_minor;
    id.header_bytes = header_bytes;
    id.capacity_bytes = capacity_bytes;
    id.channel_id = channel_id;
    if (::getrandom(&id.nonce, sizeof id.nonce, 0) != sizeof id.nonce) {
        throw std::system_error(errno, std::generic_category(), "getrandom");
    }
    auto memory = create_memory(header_bytes + capacity_bytes, "places-ring");
    checked(::pwrite(memory.get(), &id, sizeof id, 0), "write a ring's identity");
    return memory;
}

unique_fd reopen_read_only(const unique_fd& memory) {
    char path[32];
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", memory.get());
    return checked_fd(::open(path, O_RDONLY | O_CLOEXEC), "re-open shared memory read-only");
}

void seal_against_writers(const unique_fd& memory) {
    checked(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL),
            "seal shared memory against writers");
}

half_mapping::half_mapping(const unique_fd& memory, access mode) : id_(checked_identity(memory)) {
    const std::size_t capacity = id_.capacity_bytes;
    // Reserve the room first; the two regions then replace all of it and give it back.
    void* room = ::mmap(nullptr, header_bytes + 2 * capacity, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        throw map_refusal(errno, "reserve address space for", header_bytes + 2 * capacity);
    }
    auto* base = static_cast<std::byte*>(room);
    try {
        whole_ = map_at(memory.get(), mode, 0, header_bytes + capacity, base);
        again_ = map_at(memory.get(), mode, header_bytes, capacity, base + header_bytes + capacity);
    } catch (...) {
        const std::size_t owned = whole_.get_address() ? header_bytes + capacity : 0;
        ::munmap(base + owned, header_bytes + 2 * capacity - owned);
        throw;
    }
}

half_header* half_mapping::header() const noexcept {
    return static_cast<half_header*>(whole_.get_address());
}

std::byte* half_mapping::data() const noexcept {
    return static_cast<std::byte*>(whole_.get_address()) + header_bytes;
}

ipc::mapped_region map_memory(const unique_fd& memory, access mode) {
    return map_at(memory.get(), mode, 0, size_of(memory), nullptr);
}

}  // namespace places::shm
