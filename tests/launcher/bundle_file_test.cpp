// SPDX-License-Identifier: Apache-2.0
#include "launcher/bundle_file.hpp"

#include "tests/node/newer_object.hpp"
#include "tests/support/content_of.hpp"
#include "tests/support/error_of.hpp"
#include "tests/support/missing.hpp"
#include "tests/support/scratch.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <filesystem>
#include <link.h>
#include <random>
#include <string>
#include <sys/stat.h>
#include <vector>

using places::errc;
using namespace places::launcher;

namespace {

TEST(bundle_file, is_a_file_with_the_digest_of_its_content_and_a_plain_name) {
    const scratch_folder folder;
    const auto c = bundle_file_of(folder.put("a b'c.so", "abc"));
    EXPECT_EQ(c.digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(c.bytes, 3U);
    EXPECT_EQ(c.name, "a_b_c.so");
    EXPECT_EQ(deployed_name("/a/.start"), "_.start");
    EXPECT_EQ(sha256_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    const auto text =
        text_of_error(errc::load_failed, [&] { (void)bundle_file_of(folder.path()); });
    EXPECT_NE(text.find(folder.path()), text.npos);
    EXPECT_EQ(error_of([] { (void)bundle_file_of("/no/such"); }).code(), errc::load_failed);
}

TEST(bundle_file, that_cannot_be_read_to_its_end_is_refused_naming_it) {
    // A file by all appearance, and at its start there is no memory.
    const std::string broken = "/proc/self/mem";
    const auto text = text_of_error(errc::load_failed, [&] { (void)bundle_file_of(broken); });
    EXPECT_NE(text.find(broken + ": Input/output error"), text.npos) << text;
}

TEST(bundle_file, that_is_large_tells_while_it_is_read_that_it_moves) {
    const scratch_folder folder;
    const auto large = folder.put("large", "");
    std::filesystem::resize_file(large, 8 * 1024 * 1024);
    int times = 0;
    EXPECT_EQ(bundle_file_of(large, [&] { ++times; }).bytes, 8U * 1024 * 1024);
    EXPECT_GE(times, 8);
}

TEST(facts, of_two_files_differ_though_size_and_times_do_not) {
    const scratch_folder folder;
    std::string one;
    std::string other;
    struct stat of_one {};
    struct stat of_other {};
    const auto put = [&](const std::string& name) {
        auto path = folder.put(name, "abc");
        const timespec times[] = {{1, 0}, {1, 0}};
        EXPECT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
        return path;
    };
    // Until both have changed last in one tick of the file system's clock.
    for (int i = 0; one.empty() || of_one.st_ctim.tv_sec != of_other.st_ctim.tv_sec ||
                    of_one.st_ctim.tv_nsec != of_other.st_ctim.tv_nsec;
         ++i) {
        if (i == 10'000) return lacks("a file system whose clock ticks");
        one = put("one" + std::to_string(i));
        other = put("other" + std::to_string(i));
        ASSERT_EQ(::stat(one.c_str(), &of_one), 0);
        ASSERT_EQ(::stat(other.c_str(), &of_other), 0);
    }
    EXPECT_EQ(facts_of(one), facts_of(one));
    EXPECT_NE(facts_of(one), facts_of(other));
}

TEST(platform, that_differs_is_refused_naming_both) {
    const platform here{"x86_64", "glibc 2.36", "/lib64/ld.so"};
    EXPECT_EQ(mismatch(here, {"x86_64", "glibc 2.39", "/lib64/ld.so"}), "");
    EXPECT_EQ(mismatch(here, {"x86_64", "glibc 2.9", "/lib64/ld.so"}), "");
    const auto machine = mismatch(here, {"aarch64", "glibc 2.36", "/lib64/ld.so"});
    EXPECT_NE(machine.find("x86_64"), machine.npos);
    EXPECT_NE(machine.find("aarch64"), machine.npos);
    const auto musl = mismatch(here, {"x86_64", "musl", ""});
    EXPECT_NE(musl.find("musl"), musl.npos);
    EXPECT_NE(mismatch(here, {"x86_64", "", "/lib64/ld.so"}), "");
}

TEST(platform, without_the_loader_that_a_program_names_is_refused_naming_it) {
    const platform here{"x86_64", "glibc 2.36", "/lib64/ld.so"};
    const auto text = mismatch(here, {"x86_64", "glibc 2.36", ""});
    EXPECT_NE(text.find("/lib64/ld.so"), text.npos) << text;
    const platform needs_none{"x86_64", "glibc 2.36", ""};
    EXPECT_EQ(mismatch(needs_none, here), "");
}

TEST(platform, of_this_program_runs_this_program) {
    EXPECT_EQ(mismatch(this_platform(), this_platform()), "");
    const auto self = bundle_file_of("/proc/self/exe");
    EXPECT_FALSE(glibc_needed(self.path).empty());
    EXPECT_EQ(mismatch(self, this_platform()), "");
    EXPECT_TRUE(std::filesystem::exists(this_platform().loader));
}

TEST(platform, that_is_older_than_what_a_file_needs_is_refused_naming_all_three) {
    auto there = this_platform();
    there.c_library = "glibc 2.0";
    const auto self = bundle_file_of(std::filesystem::read_symlink("/proc/self/exe"));
    auto text = mismatch(self, there);
    EXPECT_NE(text.find(self.path + " needs glibc " + glibc_needed(self.path)), text.npos) << text;
    EXPECT_NE(text.find("the host has glibc 2.0;"), text.npos) << text;
    // As where the file is gone.
    const auto gone = bundle_file_of("/proc/self/exe");
    text = mismatch(gone, there);
    EXPECT_TRUE(text.starts_with(gone.name + " needs glibc ")) << text;
}

TEST(platform, is_not_refused_for_what_is_newer_than_the_one_here_calls_itself) {
    const scratch_folder folder;
    const auto newer =
        bundle_file_of(for_a_newer_c_library(SHARED_OBJECT, folder.path() + "/newer.so"));
    EXPECT_TRUE(glibc_needed(newer.path).starts_with("9."));
    EXPECT_EQ(mismatch(newer, this_platform()), "");
}

TEST(platform, needed_by_a_file_is_read_within_its_bounds_where_it_is_cut_or_changed) {
    const scratch_folder folder;
    EXPECT_EQ(glibc_needed("/no/such"), "");
    EXPECT_EQ(glibc_needed(folder.put("text", "no program")), "");
    EXPECT_EQ(loader_needed("/no/such"), "");
    EXPECT_EQ(loader_needed(folder.put("text", "no program")), "");
    EXPECT_EQ(loader_needed(SHARED_OBJECT), "");
    const auto whole = content_of(SHARED_OBJECT);
    ASSERT_FALSE(glibc_needed(SHARED_OBJECT).empty());
    for (std::size_t size = 0; size < whole.size(); size += whole.size() / 64) {
        (void)glibc_needed(folder.put("cut", whole.substr(0, size)));
        (void)loader_needed(folder.path() + "/cut");
        (void)needed_by_path(folder.path() + "/cut");
    }
    const auto seed = std::random_device{}();
    std::printf("seed %u\n", seed);
    std::mt19937 random{seed};
    // Where the tables are found, and in them.
    for (int i = 0; i < 200; ++i) {
        auto changed = whole;
        const auto span = i % 2 == 0 ? 64 : changed.size();
        for (int j = 0; j < 4; ++j) changed[random() % span] = static_cast<char>(random());
        (void)glibc_needed(folder.put("changed", changed));
        (void)loader_needed(folder.path() + "/changed");
        (void)needed_by_path(folder.path() + "/changed");
    }
}

/// An object that has nothing but these versions, which it needs of one library.
std::string object_that_needs(const std::vector<std::string>& versions) {
    const auto octets_of = [](const auto& part) {
        return std::string(reinterpret_cast<const char*>(&part), sizeof part);
    };
    std::string names(1, '\0');
    ElfW(Verneed) library{};
    library.vn_cnt = static_cast<ElfW(Half)>(versions.size());
    library.vn_aux = sizeof library;
    auto needs = octets_of(library);
    for (std::size_t i = 0; i < versions.size(); ++i) {
        ElfW(Vernaux) version{};
        version.vna_name = static_cast<ElfW(Word)>(names.size());
        version.vna_next = i + 1 < versions.size() ? sizeof version : 0;
        names.append(versions[i]).push_back('\0');
        needs += octets_of(version);
    }
    ElfW(Ehdr) header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = sizeof(void*) == 8 ? ELFCLASS64 : ELFCLASS32;
    header.e_shentsize = sizeof(ElfW(Shdr));
    header.e_shnum = 2;
    header.e_shoff = sizeof header;
    std::array<ElfW(Shdr), 2> sections{};
    sections[0].sh_type = SHT_GNU_verneed;
    sections[0].sh_link = 1;
    sections[0].sh_offset = sizeof header + sizeof sections;
    sections[0].sh_size = needs.size();
    sections[1].sh_offset = sections[0].sh_offset + needs.size();
    sections[1].sh_size = names.size();
    return octets_of(header) + octets_of(sections) + needs + names;
}

TEST(platform, needed_by_a_file_is_the_newest_that_it_names_and_of_packed_relocations_2_36) {
    const scratch_folder folder;
    const auto needed = [&](const std::vector<std::string>& versions) {
        return glibc_needed(folder.put("object", object_that_needs(versions)));
    };
    EXPECT_EQ(needed({"GLIBC_2.4", "GLIBC_2.34", "GLIBC_2.9", "OTHER_9.9"}), "2.34");
    EXPECT_EQ(needed({"GLIBC_2.34", "GLIBC_ABI_DT_RELR", "GLIBC_2.4"}), "2.36");
    EXPECT_EQ(needed({"GLIBC_ABI_DT_RELR", "GLIBC_2.38"}), "2.38");
}

TEST(bundle_file, that_needs_another_by_its_path_is_told_from_one_that_needs_it_by_name) {
    const std::vector<std::string> none;
    EXPECT_EQ(needed_by_path(PATH_MODULE), std::vector<std::string>{NO_SONAME});
    EXPECT_FALSE(glibc_needed(SHARED_OBJECT).empty());
    EXPECT_EQ(needed_by_path(SHARED_OBJECT), none);
    EXPECT_EQ(needed_by_path("/proc/self/exe"), none);
    EXPECT_EQ(needed_by_path("/no/such"), none);
}

TEST(platform, c_library_is_found_in_what_programs_print) {
    EXPECT_EQ(c_library_in("glibc 2.36"), "glibc 2.36");
    EXPECT_EQ(c_library_in("ldd (Debian GLIBC 2.36-9+deb12u7) 2.36"), "glibc 2.36");
    EXPECT_EQ(c_library_in("musl libc (x86_64)"), "musl");
}

TEST(loader_report, tells_what_is_there_what_is_not_and_what_is_too_old) {
    const auto r = parse_loader_report(
        "./p: /lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required "
        "by "
        "./p)\n"
        "\tlinux-vdso.so.1 (0x00007ffd)\n"
        "\tlibssh2.so.1 => not found\n"
        "\tlibfmt.so.9 => not found\n"
        "\tlibstdc++.so.6 => /lib/x86_64-linux-gnu/libstdc++.so.6 (0x00007f)\n"
        "\tlibfmt.so.9 => not found\n"
        "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)");
    EXPECT_EQ(r.missing,
              (std::vector<std::string>{"libstdc++.so.6", "libssh2.so.1", "libfmt.so.9"}));
    EXPECT_EQ(r.found.at("libstdc++.so.6"), "/lib/x86_64-linux-gnu/libstdc++.so.6");
    EXPECT_EQ(r.c_library_too_old, "");
    const auto old = parse_loader_report(
        "./p: /lib/libc.so.6: version `GLIBC_2.38' not found (required by ./p)\n");
    EXPECT_NE(old.c_library_too_old.find("GLIBC_2.38"), std::string::npos);
    EXPECT_TRUE(old.missing.empty());
    EXPECT_TRUE(parse_loader_report("\tnot a dynamic executable\n").missing.empty());
}

}  // namespace
