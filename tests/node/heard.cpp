// SPDX-License-Identifier: Apache-2.0
// Standard error becomes a pipe before main() forks the first process; what comes out of it is kept
// and goes where standard error went.
#include "tests/node/heard.hpp"

#include "net/line_reader.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <fcntl.h>
#include <mutex>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

int reader = -1;
int before = -1;

__attribute__((constructor)) void take_over(int argc, char** argv) {
    // A node's standard error is its owner's to read.
    if (argc == 2 && std::strcmp(argv[1], "--places-node") == 0) return;
    if (argc == 2 && std::strcmp(argv[1], "--places-ssh") == 0) return;
    std::array<int, 2> ends;
    if (::pipe2(ends.data(), O_CLOEXEC) < 0) return;
    before = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    (void)::dup2(ends[1], STDERR_FILENO);
    (void)::close(ends[1]);
    reader = ends[0];
}

class ear {
  public:
    ear() {
        std::thread([this] { listen(); }).detach();
    }

    std::string wait(const std::string& text, std::size_t times) {
        std::unique_lock lock(mutex_);
        std::string last;
        std::size_t looked_at = 0;
        const auto found = [&] {
            for (; looked_at < lines_.size() && times > 0; ++looked_at) {
                if (lines_[looked_at].find(text) == text.npos) continue;
                last = lines_[looked_at];
                --times;
            }
            return times == 0;
        };
        return changed_.wait_for(lock, std::chrono::seconds{60}, found) ? last : "";
    }

    std::size_t count(const std::string& text) {
        const std::lock_guard lock(mutex_);
        std::size_t result = 0;
        for (const auto& line : lines_) result += line.find(text) != line.npos;
        return result;
    }

  private:
    void listen() {
        std::array<char, 4096> buffer;
        // A part of a cut line, with its label, is longer than line_bytes_max.
        places::net::line_reader text{1 << 20};
        while (true) {
            const auto got = ::read(reader, buffer.data(), buffer.size());
            if (got <= 0) return;
            if (::write(before, buffer.data(), static_cast<std::size_t>(got)) < 0) continue;
            const std::lock_guard lock(mutex_);
            text.add({buffer.data(), static_cast<std::size_t>(got)});
            while (const auto line = text.next()) lines_.emplace_back(*line);
            changed_.notify_all();
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> lines_;
};

// Never destroyed: its thread reads until the process ends.
ear& the_ear() {
    static auto* one = new ear;
    return *one;
}

// From the first test on: before that, main() must have made its processes, and no thread.
class begin_listening : public ::testing::Environment {
    void SetUp() override { (void)the_ear(); }
};
const auto* const registered = ::testing::AddGlobalTestEnvironment(new begin_listening);

}  // namespace

std::string heard(const std::string& text, std::size_t times) {
    return the_ear().wait(text, times);
}
std::size_t times_heard(const std::string& text) { return the_ear().count(text); }
