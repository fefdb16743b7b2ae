// SPDX-License-Identifier: Apache-2.0
// Fifty clients add to one number, each addition under a lock. Every fifth client is killed while
// it owns the lock; the server gives the lock to the next one.
#include "locks.hpp"

#include <places/places.hpp>

#include <csignal>
#include <iostream>
#include <vector>

constexpr int client_count = 50;
constexpr int rounds = 20;

// One number that all clients use. get and set are two calls: without the lock, additions of two
// clients at the same time would be lost.
struct number_server {
    int get() { return number_; }
    void set(int n) { number_ = n; }

  private:
    int number_ = 0;
};
PLACES_NAMED_SERVER(number_server, (rpc, get), (rpc, set))

void run_client(places::channel&, int dies_in_round) {
    lock_client locks;
    auto number = places::connect_to_named_place<number_server>("number");
    for (int round = 0; round < rounds; ++round) {
        locks.lock("number");
        if (round == dies_in_round) std::raise(SIGKILL);
        number.set(number.get() + 1);
        locks.unlock("number");
    }
}

int main(int argc, char** argv) {
    places::runtime runtime{argc, argv};
    auto locks = places::spawn({.named = "locks"}, serve_locks);
    auto number = places::spawn_server<number_server>({.named = "number"});

    std::vector<places::place> clients;
    for (int i = 0; i < client_count; ++i) {
        clients.push_back(places::spawn(run_client, i % 5 == 4 ? 10 : -1));
    }
    int killed = 0;
    for (auto& each : clients) killed += each.wait().signalled ? 1 : 0;

    std::cout << killed << " clients of " << client_count << " were killed.\n"
              << "The number is " << number.get() << '.' << std::endl;  // 40 * 20 + 10 * 10
    locks.close();
    return locks.wait() == places::exit_status{} ? 0 : 1;
}
