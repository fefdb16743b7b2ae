// SPDX-License-Identifier: Apache-2.0
#include "tests/shm/pair.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace places::shm {
namespace {

constexpr std::size_t whole_bytes = header_bytes + ring_bytes_min;

/// errno of a shared map, 0 when it succeeds.
int map_errno(const unique_fd& memory, int protection) {
    void* at = ::mmap(nullptr, whole_bytes, protection, MAP_SHARED, memory.get(), 0);
    if (at == MAP_FAILED) return errno;
    ::munmap(at, whole_bytes);
    return 0;
}

std::string refusal_of(const std::function<void()>& attach) {
    try {
        attach();
    } catch (const std::runtime_error& e) {
        return e.what();
    }
    return "accepted";
}

/// That of a ring of whole_bytes.
identity right_identity() {
    identity id{};
    const auto model = create_half(7, ring_bytes_min);
    EXPECT_EQ(::pread(model.get(), &id, sizeof id, 0), static_cast<ssize_t>(sizeof id));
    return id;
}

std::string refusal_of_memory(const unique_fd& memory, const identity& id) {
    EXPECT_EQ(::pwrite(memory.get(), &id, sizeof id, 0), static_cast<ssize_t>(sizeof id));
    return refusal_of([&] { half_mapping{memory, access::read_only}; });
}

/// Why memory with this identity, of this size, is refused.
std::string refusal(const std::function<void(identity&)>& change,
                    std::size_t size_bytes = whole_bytes) {
    auto id = right_identity();
    change(id);
    return refusal_of_memory(create_memory(size_bytes, "test"), id);
}

TEST(sealed_memory, cannot_be_resized) {
    const auto memory = create_half(7, ring_bytes_min);
    EXPECT_EQ(::ftruncate(memory.get(), header_bytes), -1);
    EXPECT_EQ(errno, EPERM);
    EXPECT_EQ(::ftruncate(memory.get(), 2 * whole_bytes), -1);
    EXPECT_EQ(errno, EPERM);
}

TEST(sealed_memory, has_every_page_before_it_is_used) {
    const auto memory = create_memory(1 << 20, "test");
    struct stat info {};
    ASSERT_EQ(::fstat(memory.get(), &info), 0);
    EXPECT_GE(info.st_blocks * 512, 1 << 20);
}

TEST(sealed_memory, is_written_by_the_attached_end_only) {
    channel_memory m;
    const auto copy = m.first.duplicate();
    const auto read_only = reopen_read_only(m.first);
    EXPECT_EQ(map_errno(read_only, PROT_READ | PROT_WRITE), EACCES);
    endpoint end{std::move(m.first), reopen_read_only(m.second)};

    EXPECT_EQ(map_errno(copy, PROT_READ | PROT_WRITE), EPERM);
    EXPECT_EQ(map_errno(copy, PROT_READ), 0);
    EXPECT_EQ(::pwrite(copy.get(), "x", 1, 0), -1);
    EXPECT_EQ(errno, EPERM);
    // By another open file too, and for good.
    const auto path = "/proc/self/fd/" + std::to_string(copy.get());
    const unique_fd again{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
    EXPECT_NE(map_errno(again, PROT_READ | PROT_WRITE), 0);
    void* at = ::mmap(nullptr, whole_bytes, PROT_READ, MAP_SHARED, copy.get(), 0);
    ASSERT_NE(at, MAP_FAILED);
    EXPECT_EQ(::mprotect(at, whole_bytes, PROT_READ | PROT_WRITE), -1);
    ::munmap(at, whole_bytes);
    EXPECT_EQ(::fcntl(copy.get(), F_ADD_SEALS, F_SEAL_WRITE), -1);
}

TEST(sealed_memory, maps_its_data_twice_in_a_row) {
    const auto memory = create_half(7, ring_bytes_min);
    const half_mapping mapping{memory, access::read_write};
    std::memcpy(mapping.data() + ring_bytes_min - 4, "12345678", 8);
    EXPECT_EQ(std::memcmp(mapping.data(), "5678", 4), 0);
    EXPECT_EQ(std::memcmp(mapping.data() + 2 * ring_bytes_min - 4, "1234", 4), 0);
}

TEST(sealed_memory, leaves_no_maps_and_no_descriptors) {
    const auto count = [](const char* folder) {
        return std::distance(std::filesystem::directory_iterator{folder},
                             std::filesystem::directory_iterator{});
    };
    const auto fds = count("/proc/self/fd");
    const auto rings_mapped = [] {
        std::ifstream maps{"/proc/self/maps"};
        int found = 0;
        for (std::string line; std::getline(maps, line);) {
            if (line.find("memfd:places-ring") != line.npos) ++found;
        }
        return found;
    };
    {
        channel_memory m;
        const endpoint end{std::move(m.first), reopen_read_only(m.second)};
        EXPECT_EQ(count("/proc/self/fd"), fds + 2);  // m's
        EXPECT_EQ(rings_mapped(), 4);
        EXPECT_NE(refusal_of([&] {
                      endpoint{m.second.duplicate(), create_half(8, ring_bytes_min)};
                  }),
                  "accepted");
        EXPECT_EQ(rings_mapped(), 4);
    }
    EXPECT_EQ(rings_mapped(), 0);
    EXPECT_EQ(count("/proc/self/fd"), fds);
}

TEST(sealed_memory, needs_no_name) {
    const auto memory = create_half(7, ring_bytes_min);
    const auto link =
        std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(memory.get())).string();
    EXPECT_EQ(link, "/memfd:places-ring (deleted)");
    struct stat info {};
    ASSERT_EQ(::fstat(memory.get(), &info), 0);
    EXPECT_EQ(info.st_nlink, 0U);
}

TEST(sealed_memory, refuses_what_is_not_a_ring_and_says_why) {
    EXPECT_EQ(refusal([](identity&) {}), "accepted");
    EXPECT_NE(refusal([](identity& id) { id.magic ^= 1; }).find("wrong magic"), std::string::npos);
    const auto newer = refusal([](identity& id) { id.major = 9, id.minor = 4; });
    EXPECT_NE(newer.find("layout version 9.4, this program understands " +
                         std::to_string(layout_major) + ".x"),
              std::string::npos)
        << newer;
    EXPECT_EQ(refusal([](identity& id) { id.minor = 4; }), "accepted");
    const std::string disagree = "shared memory refused: its header and its size disagree";
    for (const auto wrong : {std::uint64_t{0}, std::uint64_t{ring_bytes_min} / 2,
                             std::uint64_t{ring_bytes_min} + 1, std::uint64_t{ring_bytes_min} * 2,
                             std::uint64_t{ring_bytes_max} * 2, std::uint64_t{1} << 63}) {
        EXPECT_EQ(refusal([&](identity& id) { id.capacity_bytes = wrong; }), disagree) << wrong;
    }
    EXPECT_EQ(refusal([](identity& id) { id.header_bytes = 64; }), disagree);
    EXPECT_EQ(refusal([](identity&) {}, whole_bytes + 4096), disagree);
    EXPECT_EQ(refusal([](identity&) {}, 4096), disagree);
}

TEST(sealed_memory, refuses_memory_that_could_shrink_or_grow) {
    const auto refusal_with = [](int seals) {
        const unique_fd memory{::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
        EXPECT_EQ(::ftruncate(memory.get(), whole_bytes), 0);
        EXPECT_EQ(::fcntl(memory.get(), F_ADD_SEALS, seals), 0);
        return refusal_of_memory(memory, right_identity());
    };
    for (const int seals : {F_SEAL_GROW, F_SEAL_SHRINK, 0}) {
        EXPECT_EQ(refusal_with(seals),
                  "shared memory refused: it is not sealed against shrinking and growing")
            << seals;
    }
    EXPECT_EQ(refusal_with(F_SEAL_GROW | F_SEAL_SHRINK), "accepted");
}

TEST(sealed_memory, refuses_a_file_whoever_owns_it_may_cut_short) {
    // One on a disk knows no seals, one in memory has none.
    for (const std::string folder : {"/tmp", "/dev/shm"}) {
        auto path = folder + "/places-test-XXXXXX";
        const unique_fd file{::mkostemp(path.data(), O_CLOEXEC)};
        ASSERT_TRUE(file) << path;
        ASSERT_EQ(::unlink(path.c_str()), 0);
        ASSERT_EQ(::ftruncate(file.get(), whole_bytes), 0);
        EXPECT_EQ(refusal_of_memory(file, right_identity()),
                  "shared memory refused: it is not sealed against shrinking and growing")
            << folder;
    }
}

TEST(sealed_memory, refuses_halves_of_two_channels) {
    const auto why = refusal_of([] {
        const channel_memory one{ring_bytes_min, 1};
        const channel_memory two{ring_bytes_min, 2};
        endpoint{one.first.duplicate(), reopen_read_only(two.second)};
    });
    EXPECT_NE(why.find("two channels"), std::string::npos) << why;
}

TEST(sealed_memory, refuses_a_capacity_that_is_no_ring) {
    for (const std::size_t wrong :
         {std::size_t{0}, ring_bytes_min / 2, ring_bytes_min + 1, ring_bytes_max * 2}) {
        EXPECT_THROW(create_half(1, wrong), std::invalid_argument) << wrong;
    }
}

// With a file size limit as a net: were the memory really asked for, it would be refused too, for
// another reason, instead of ending everything on this machine.
TEST(sealed_memory, refuses_more_than_the_machine_has_before_it_touches_a_page) {
    child asker{[] {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit net{64 << 20, 64 << 20};
        ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &net), 0);
        const auto refused_with = [](std::size_t size_bytes) {
            try {
                (void)create_memory(size_bytes, "test");
            } catch (const std::system_error& e) {
                EXPECT_NE(std::string{e.what()}.find("shared memory"), std::string::npos);
                return e.code().value();
            }
            return 0;
        };
        EXPECT_EQ(refused_with(std::size_t{1} << 60), ENOMEM);
        EXPECT_EQ(refused_with(65 << 20), EFBIG);
        EXPECT_EQ(refused_with(17 << 20), 0);
    }};
    EXPECT_EQ(asker.wait(), 0);
}

/// The error that a ring's mapping gets in a process that `exhaust` has left no room.
std::string refusal_after(const std::function<void()>& exhaust) {
    const auto memory = create_half(7, ring_bytes_min);
    std::array<int, 2> ends{};
    checked(::pipe2(ends.data(), O_CLOEXEC), "pipe2");
    const unique_fd reader{ends[0]};
    unique_fd writer{ends[1]};
    child asker{[&] {
        exhaust();
        try {
            half_mapping{memory, access::read_only};
        } catch (const std::system_error& e) {
            EXPECT_EQ(e.code().value(), ENOMEM);
            const std::string_view text = e.what();
            EXPECT_EQ(::write(writer.get(), text.data(), text.size()),
                      static_cast<ssize_t>(text.size()));
        }
    }};
    writer.reset();
    EXPECT_EQ(asker.wait(), 0);
    std::string text(4096, '\0');
    const auto got = ::read(reader.get(), text.data(), text.size());
    text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return text;
}

TEST(sealed_memory, says_that_a_process_has_as_many_mappings_as_the_kernel_allows) {
    if (is_sanitized) GTEST_SKIP() << "a sanitizer needs mappings of its own";
    std::uint64_t most = 0;
    std::ifstream{"/proc/sys/vm/max_map_count"} >> most;
    if (most > 4'000'000) GTEST_SKIP() << "vm.max_map_count is " << most;
    const auto text = refusal_after([most] {
        // Each second page of another kind: no two neighbours are one mapping.
        const auto pages = static_cast<std::size_t>(most) + 2;
        const std::size_t page_bytes = 4096;
        auto* at =
            static_cast<std::byte*>(::mmap(nullptr, pages * page_bytes, PROT_NONE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        ASSERT_NE(at, MAP_FAILED);
        for (std::size_t i = 1; i < pages; i += 2) {
            if (::mprotect(at + i * page_bytes, page_bytes, PROT_READ) < 0) break;
        }
        // The last one or two.
        while (::mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                      0) != MAP_FAILED) {
        }
    });
    EXPECT_TRUE(text.find(" bytes of shared memory: this process has ") != text.npos) << text;
    EXPECT_TRUE(text.find("allows it " + std::to_string(most) + " (vm.max_map_count)") != text.npos)
        << text;
    EXPECT_TRUE(text.find("sysctl vm.max_map_count=") != text.npos) << text;
    EXPECT_TRUE(text.find("fewer channels in one process") != text.npos) << text;
}

TEST(sealed_memory, says_that_a_process_has_reached_its_limit_of_address_space) {
    if (is_sanitized) GTEST_SKIP() << "a sanitizer reserves the address space";
    const auto text = refusal_after([] {
        const rlimit none{4096, 4096};
        ASSERT_EQ(::setrlimit(RLIMIT_AS, &none), 0);
    });
    EXPECT_EQ(text.find("reserve address space for 12288 bytes of shared memory: this process "
                        "uses "),
              0U)
        << text;
    EXPECT_TRUE(text.find("may use 4096 (RLIMIT_AS); raise the limit (ulimit -v)") != text.npos)
        << text;
}

}  // namespace
}  // namespace places::shm
