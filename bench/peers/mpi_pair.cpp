// SPDX-License-Identifier: Apache-2.0
// The two processes of the peer `mpi`: mpirun -n 2 places-bench-mpi KIND BODY FILE NEAR_CORE
// Rank 0 measures a slice for every line it reads, writes the report into FILE and answers with a
// line; between slices rank 1, which would spin, is stopped.
#include "bench/bodies.hpp"
#include "bench/end.hpp"
#include "bench/process_pair.hpp"

#define OMPI_SKIP_MPICXX 1
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <mpi.h>
#pragma GCC diagnostic pop

#include <boost/interprocess/file_mapping.hpp>
#include <boost/interprocess/mapped_region.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>

namespace {

using namespace places::bench;

/// Blocking calls, which poll.
class mpi_end final : public end {
  public:
    explicit mpi_end(int other) : other_(other) {}
    void send(std::span<const std::byte> message) override {
        MPI_Send(message.data(), static_cast<int>(message.size()), MPI_BYTE, other_, 0,
                 MPI_COMM_WORLD);
    }
    void receive(std::span<std::byte> message) override {
        MPI_Recv(message.data(), static_cast<int>(message.size()), MPI_BYTE, other_, 0,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }

  private:
    int other_;
};

template <class Body>
Body unpacked(const std::string& hex) {
    std::vector<std::byte> bytes;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    }
    std::array<std::byte, sizeof(Body)> memory{};
    if (bytes.size() != sizeof(Body)) throw std::runtime_error("a body of another build");
    std::copy(bytes.begin(), bytes.end(), memory.begin());
    return std::bit_cast<Body>(memory);
}

template <class Body>
int run(const Body& body, const char* file, int near_core) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    int pid = ::getpid();
    mpi_end end{1 - rank};
    if (rank == 1) {
        pin_to(body.far_core);
        MPI_Send(&pid, 1, MPI_INT, 0, 1, MPI_COMM_WORLD);
        body.far(end);
    }
    pin_to(near_core);
    MPI_Recv(&pid, 1, MPI_INT, 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    const boost::interprocess::file_mapping mapping(file, boost::interprocess::read_write);
    const boost::interprocess::mapped_region page(mapping, boost::interprocess::read_write);
    auto& found = *static_cast<report*>(page.get_address());
    char line[16];
    while (true) {
        ::kill(pid, SIGSTOP);
        std::puts("done");
        std::fflush(stdout);
        if (!std::fgets(line, sizeof line, stdin)) break;
        ::kill(pid, SIGCONT);
        found.per_second = 0;
        found.times.clear();
        body.near(end, found);
    }
    ::kill(pid, SIGKILL);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    MPI_Init(&argc, &argv);
    if (argc != 5) return 2;
    const std::string hex = argv[2];
    const int near_core = std::atoi(argv[4]);
    return argv[1][0] == round_trips::kind ? run(unpacked<round_trips>(hex), argv[3], near_core)
                                           : run(unpacked<struct stream>(hex), argv[3], near_core);
}
