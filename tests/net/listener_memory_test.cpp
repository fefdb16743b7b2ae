// SPDX-License-Identifier: Apache-2.0
// What a connection without a key costs a listener, and that it goes on where memory is refused.
// The allocations of this program are counted, and one of them can be made to fail.
#include "net/listener.hpp"

#include "tests/net/event_loop.hpp"

#include <places/shm/unique_fd.hpp>
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <sys/socket.h>

#include <cstdlib>
#include <new>
#include <optional>
#include <string>
#include <vector>

namespace {

// One thread allocates.
struct {
    std::size_t bytes = 0;
    std::size_t until_failure = 0;  // 0: none fails
} allocations;

void* allocate(std::size_t size) {
    allocations.bytes += size;
    if (allocations.until_failure > 0 && --allocations.until_failure == 0) throw std::bad_alloc{};
    if (void* const memory = std::malloc(size == 0 ? 1 : size)) return memory;
    throw std::bad_alloc{};
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace places::net {
namespace {

/// A connection that is made without an allocation.
class silent_client {
  public:
    explicit silent_client(std::uint16_t port)
        : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(port);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
    }

  private:
    unique_fd socket_;
};

class memory_of_a_listener : public testing::TestWithParam<bool> {
  protected:
    ~memory_of_a_listener() override {
        node.reset();
        if (accepted) accepted->close("the test is over");
        loop.run_ready();
    }
    void listen(std::size_t pending_max) {
        node.emplace(
            loop.context,
            listen_options{.insecure = !is_secure,
                           .keys = keys,
                           .name = "node",
                           .log = [this](std::string line) { lines.push_back(std::move(line)); },
                           .on_link = [this](std::shared_ptr<link> one,
                                             peer_info) { accepted = std::move(one); },
                           .pending_max = pending_max});
    }
    void expect_that_a_good_client_works() {
        std::optional<dial_result> outcome;
        dial(loop.context,
             {.host = "127.0.0.1",
              .port = node->port(),
              .insecure = !is_secure,
              .key = keys.front().key,
              .name = "client"},
             [&](dial_result r) { outcome = std::move(r); });
        ASSERT_TRUE(loop.run_until([&] { return outcome.has_value(); }));
        ASSERT_TRUE(*outcome) << outcome->error().text;
        (**outcome)->close("it has joined");
        if (accepted) accepted->close("it has joined");
        loop.run_ready();
    }

    const bool is_secure = GetParam();
    std::vector<known_key> keys{known_key{make_node_key(), "client"}};
    event_loop loop;
    std::vector<std::string> lines;
    std::shared_ptr<link> accepted;
    std::optional<listener> node;
};
std::string name_of(const testing::TestParamInfo<bool>& info) { return info.param ? "tls" : "tcp"; }
INSTANTIATE_TEST_SUITE_P(over, memory_of_a_listener, testing::Bool(), name_of);

TEST_P(memory_of_a_listener, does_not_grow_by_its_keys_with_each_connection) {
    for (int i = 0; i < 1000; ++i) keys.push_back({make_node_key(), "owner " + std::to_string(i)});
    listen(100);
    const auto first = std::make_unique<silent_client>(node->port());
    loop.run_ready();
    std::vector<std::unique_ptr<silent_client>> more;
    const auto before = allocations.bytes;
    for (int i = 0; i < 10; ++i) {
        more.push_back(std::make_unique<silent_client>(node->port()));
        loop.run_ready();
    }
    EXPECT_LT((allocations.bytes - before) / 10, keys.size() * sizeof(node_key));
    expect_that_a_good_client_works();
}

TEST_P(memory_of_a_listener, that_is_refused_at_any_one_place_ends_no_more_than_a_handshake) {
    listen(1);
    lines.reserve(10'000);
    std::size_t failures = 0;
    for (std::size_t n = 1; failures + 1 == n; ++n) {
        SCOPED_TRACE(n);
        const silent_client first{node->port()};
        loop.run_ready();
        allocations.until_failure = n;
        // This one makes the first go, after 10 ms.
        const silent_client second{node->port()};
        const auto before = lines.size();
        try {
            (void)loop.run_until(
                [&] { return allocations.until_failure == 0 || lines.size() > before; });
            loop.run_ready();
        } catch (const std::bad_alloc&) {
            ADD_FAILURE() << "thrown out of a handler";
        }
        if (allocations.until_failure == 0) ++failures;
        allocations.until_failure = 0;
    }
    EXPECT_GT(failures, 5u);
    expect_that_a_good_client_works();
}

}  // namespace
}  // namespace places::net
