// SPDX-License-Identifier: Apache-2.0
// Open MPI, whose two processes mpirun starts: see peers/mpi_pair.cpp for what they do.
#include "bench/peers/peer.hpp"

#include <places/shm/unique_fd.hpp>

#include <boost/interprocess/file_mapping.hpp>
#include <boost/interprocess/mapped_region.hpp>

#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <memory>
#include <new>
#include <poll.h>
#include <string>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace places::bench {
namespace {

std::string as_hex(std::span<const std::byte> bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (const auto b : bytes) {
        text += digits[std::to_integer<unsigned>(b) >> 4];
        text += digits[std::to_integer<unsigned>(b) & 15];
    }
    return text;
}

/// mpirun and its pair: a line on its standard input orders a slice, a line on its standard output
/// says that the report lies in the file.
class mpi_pair {
  public:
    mpi_pair(const packed_body& body, int near_core)
        : file_("/tmp/places_bench_mpi_" + std::to_string(::getpid())) {
        const auto made =
            checked_fd(::open(file_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), "open");
        checked(::ftruncate(made.get(), sizeof(report)), "ftruncate");
        const boost::interprocess::file_mapping mapping(file_.c_str(),
                                                        boost::interprocess::read_only);
        page_ = boost::interprocess::mapped_region(mapping, boost::interprocess::read_only, 0,
                                                   sizeof(report));
        const auto program =
            std::filesystem::read_symlink("/proc/self/exe").parent_path() / "places-bench-mpi";
        int orders[2];
        int answers[2];
        checked(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, orders), "socketpair");
        checked(::pipe2(answers, O_CLOEXEC), "pipe2");
        orders_ = unique_fd{orders[1]};
        answers_ = unique_fd{answers[0]};
        pid_ = static_cast<pid_t>(checked(::fork(), "fork"));
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGTERM);
            ::dup2(orders[0], STDIN_FILENO);
            ::dup2(answers[1], STDOUT_FILENO);
            ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
            // It counts cores whole and not those it may use: whether each has one, we know better.
            const auto* yields = near_core < 0 ? "1" : "0";
            ::execlp("mpirun", "mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to",
                     "none", "--mca", "mpi_yield_when_idle", yields, "-n", "2", program.c_str(),
                     std::string(1, body.kind).c_str(), as_hex(body.bytes).c_str(), file_.c_str(),
                     std::to_string(near_core).c_str(), static_cast<char*>(nullptr));
            ::_exit(127);
        }
        ::close(orders[0]);
        ::close(answers[1]);
        try {
            await_line(30'000);
        } catch (...) {
            end();
            throw;
        }
    }
    ~mpi_pair() { end(); }
    mpi_pair(const mpi_pair&) = delete;
    mpi_pair& operator=(const mpi_pair&) = delete;

    const report& run() {
        // Where mpirun has ended meanwhile, this fails, and no signal ends us.
        checked(::send(orders_.get(), "go\n", 3, MSG_NOSIGNAL), "order a slice of mpirun");
        await_line(60'000);
        return *static_cast<const report*>(page_.get_address());
    }

  private:
    void await_line(int timeout_ms) {
        for (char c = 0; c != '\n';) {
            pollfd fd{answers_.get(), POLLIN, 0};
            if (::poll(&fd, 1, timeout_ms) <= 0 || ::read(answers_.get(), &c, 1) != 1) {
                throw std::runtime_error("mpirun does not run here");
            }
        }
    }
    void end() noexcept {
        ::kill(pid_, SIGTERM);
        ::waitpid(pid_, nullptr, 0);
        std::error_code ignored;
        std::filesystem::remove(file_, ignored);
    }

    std::string file_;
    boost::interprocess::mapped_region page_;
    unique_fd orders_;
    unique_fd answers_;
    pid_t pid_ = -1;
};

}  // namespace

std::function<const report&()> launch_mpi(const packed_body& body, int near_core) {
    auto both = std::make_shared<mpi_pair>(body, near_core);
    return [both]() -> const report& { return both->run(); };
}

}  // namespace places::bench
