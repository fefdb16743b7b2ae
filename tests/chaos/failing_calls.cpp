// SPDX-License-Identifier: Apache-2.0
// Preloaded into a program of places, it makes one system call of one of its processes fail: the
// n-th call of one function in one role. The variable PLACES_FAIL says which:
//   PLACES_FAIL="<program> <role> <function> <n> <errno> <file>"
// <program>  The name of the program's file. Other programs with this object are left alone.
// <role>     See role_of_process(). A process counts its calls from the moment it has that role.
// <function> A function of libc from the list below, or the name of a call that goes by syscall().
// <file>     Is created as the call fails. It fails once: where the file exists, none fails.
// The functions here have names of their own for C++ and the replaced ones' for the linker, since
// the headers' declarations differ in exception specifications and types.
#include <asm/unistd.h>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <utility>

namespace {

template <class F>
F* next_of(const char* name) {
    return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

long kernel(long number, long a = 0, long b = 0, long c = 0, long d = 0) {
    static auto* const next = next_of<long(long, long, long, long, long, long, long)>("syscall");
    return next(number, a, b, c, d, 0, 0);
}

// -- what is to fail --

struct {
    char program[64];
    char role[32];
    char function[32];
    long n;
    int error;
    char file[256];
} wanted;
bool is_armed = false;

// -- the role of this process --

/// What the program was started as. A fork inherits it.
enum class kind { other, root, node, remote_launcher };
kind started_as = kind::other;
/// How many forks lie between that start and this process.
int forks = 0;
/// Whether this process has named itself since it was forked.
bool is_named = false;
std::atomic<long> calls{0};

struct named_role {
    const char* process_name;
    const char* role;
};
constexpr named_role named_roles[] = {
    {"places-nursery", "nursery"},
    {"places-bridge", "bridge"},
    {"places-reaper", "reaper"},
};

/// root, nursery, bridge, reaper, place; of a node the same after "node-"; remote launcher.
void role_of_process(char* role, std::size_t size) {
    const char* prefix = started_as == kind::node ? "node-" : "";
    const char* what = "root";
    if (forks == 0 && started_as == kind::remote_launcher) what = "remote-launcher";
    if (forks == 1) what = "reaper";
    if (forks == 2) what = "nursery";
    if (forks > 2) what = "place";
    if (forks > 0 && is_named) {
        char name[16] = {};
        kernel(__NR_prctl, PR_GET_NAME, reinterpret_cast<long>(name));
        what = "place";
        for (const auto& each : named_roles) {
            if (std::strcmp(name, each.process_name) == 0) what = each.role;
        }
    }
    std::snprintf(role, size, "%s%s", prefix, what);
}

__attribute__((constructor)) void arm() {
    const char* text = std::getenv("PLACES_FAIL");
    if (!text || std::sscanf(text, "%63s %31s %31s %ld %d %255s", wanted.program, wanted.role,
                             wanted.function, &wanted.n, &wanted.error, wanted.file) != 6) {
        return;
    }
    // The name and the first argument, each with its NUL.
    char line[4096] = {};
    const long fd = kernel(__NR_openat, AT_FDCWD, reinterpret_cast<long>("/proc/self/cmdline"),
                           O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    kernel(__NR_read, fd, reinterpret_cast<long>(line), sizeof line - 2);
    kernel(__NR_close, fd);
    const char* slash = std::strrchr(line, '/');
    if (std::strcmp(slash ? slash + 1 : line, wanted.program) != 0) return;
    const char* argument = line + std::strlen(line) + 1;
    started_as = std::strcmp(argument, "--places-node") == 0  ? kind::node
                 : std::strcmp(argument, "--places-ssh") == 0 ? kind::remote_launcher
                                                              : kind::root;
    is_armed = true;
}

bool fails(const char* function) {
    if (!is_armed || std::strcmp(function, wanted.function) != 0) return false;
    const int before = errno;
    char role[32];
    role_of_process(role, sizeof role);
    // relaxed: a count and nothing else.
    if (std::strcmp(role, wanted.role) != 0 ||
        calls.fetch_add(1, std::memory_order_relaxed) + 1 != wanted.n) {
        errno = before;
        return false;
    }
    const long fd = kernel(__NR_openat, AT_FDCWD, reinterpret_cast<long>(wanted.file),
                           O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    errno = before;
    if (fd < 0) return false;
    kernel(__NR_close, fd);
    errno = wanted.error;
    return true;
}

const char* name_of(long number) {
    switch (number) {
        case __NR_pidfd_open: return "pidfd_open";
        case __NR_pidfd_send_signal: return "pidfd_send_signal";
        case __NR_close_range: return "close_range";
        case __NR_futex: return "futex";
        case __NR_futex_waitv: return "futex_waitv";
        default: return "syscall";
    }
}

}  // namespace

// -- the functions --

// With their arguments in registers, whether declared or variadic.
#define PLACES_REPLACES(Result, name, parameters)     \
    extern "C" __attribute__((visibility("default"))) \
    Result failing_##name parameters __asm__(#name);  \
    extern "C" Result failing_##name parameters
#define PLACES_FAILING_AS(Result, name, counted, failure, parameters, arguments) \
    PLACES_REPLACES(Result, name, parameters) {                                  \
        static auto* const next = next_of<Result parameters>(#name);             \
        if (fails(counted)) return failure;                                      \
        return next arguments;                                                   \
    }
#define PLACES_FAILING(Result, name, parameters, arguments) \
    PLACES_FAILING_AS(Result, name, #name, static_cast<Result>(-1), parameters, arguments)

PLACES_FAILING(int, socketpair, (int a, int b, int c, int* d), (a, b, c, d))
PLACES_FAILING(int, socket, (int a, int b, int c), (a, b, c))
PLACES_FAILING(int, bind, (int a, const void* b, unsigned c), (a, b, c))
PLACES_FAILING(int, listen, (int a, int b), (a, b))
PLACES_FAILING(int, accept, (int a, void* b, unsigned* c), (a, b, c))
PLACES_FAILING(int, connect, (int a, const void* b, unsigned c), (a, b, c))
PLACES_FAILING(int, setsockopt, (int a, int b, int c, const void* d, unsigned e), (a, b, c, d, e))
PLACES_FAILING(int, getsockname, (int a, void* b, unsigned* c), (a, b, c))
PLACES_FAILING(long, sendmsg, (int a, const void* b, int c), (a, b, c))
PLACES_FAILING(long, recvmsg, (int a, void* b, int c), (a, b, c))
PLACES_FAILING(int, pipe2, (int* a, int b), (a, b))
PLACES_FAILING(int, dup2, (int a, int b), (a, b))
PLACES_FAILING(int, fcntl, (int a, int b, long c), (a, b, c))
PLACES_FAILING_AS(int, fcntl64, "fcntl", -1, (int a, int b, long c), (a, b, c))
PLACES_FAILING(int, ioctl, (int a, unsigned long b, long c), (a, b, c))
PLACES_FAILING(int, open, (const char* a, int b, unsigned c), (a, b, c))
PLACES_FAILING_AS(int, open64, "open", -1, (const char* a, int b, unsigned c), (a, b, c))
PLACES_FAILING_AS(int, __open_2, "open", -1, (const char* a, int b), (a, b))
PLACES_FAILING(long, readlink, (const char* a, char* b, std::size_t c), (a, b, c))
PLACES_FAILING_AS(long, __readlink_chk, "readlink", -1,
                  (const char* a, char* b, std::size_t c, std::size_t d), (a, b, c, d))
PLACES_FAILING(int, memfd_create, (const char* a, unsigned b), (a, b))
PLACES_FAILING(int, ftruncate, (int a, long b), (a, b))
PLACES_FAILING_AS(int, ftruncate64, "ftruncate", -1, (int a, long b), (a, b))
PLACES_FAILING(int, fallocate, (int a, int b, long c, long d), (a, b, c, d))
PLACES_FAILING_AS(int, fallocate64, "fallocate", -1, (int a, int b, long c, long d), (a, b, c, d))
PLACES_FAILING(long, pwrite, (int a, const void* b, std::size_t c, long d), (a, b, c, d))
PLACES_FAILING_AS(long, pwrite64, "pwrite", -1, (int a, const void* b, std::size_t c, long d),
                  (a, b, c, d))
PLACES_FAILING_AS(void*, mmap, "mmap", reinterpret_cast<void*>(-1),
                  (void* a, std::size_t b, int c, int d, int e, long f), (a, b, c, d, e, f))
PLACES_FAILING_AS(void*, mmap64, "mmap", reinterpret_cast<void*>(-1),
                  (void* a, std::size_t b, int c, int d, int e, long f), (a, b, c, d, e, f))
PLACES_FAILING(int, madvise, (void* a, std::size_t b, int c), (a, b, c))
PLACES_FAILING(int, epoll_create1, (int a), (a))
PLACES_FAILING(int, epoll_ctl, (int a, int b, int c, void* d), (a, b, c, d))
PLACES_FAILING(int, epoll_wait, (int a, void* b, int c, int d), (a, b, c, d))
PLACES_FAILING(int, eventfd, (unsigned a, int b), (a, b))
PLACES_FAILING(int, signalfd, (int a, const void* b, int c), (a, b, c))
PLACES_FAILING(int, timerfd_create, (int a, int b), (a, b))
PLACES_FAILING(int, poll, (void* a, unsigned long b, int c), (a, b, c))
PLACES_FAILING_AS(int, __poll_chk, "poll", -1, (void* a, unsigned long b, int c, std::size_t d),
                  (a, b, c, d))
PLACES_FAILING(int, sigaction, (int a, const void* b, void* c), (a, b, c))
PLACES_FAILING(int, sigprocmask, (int a, const void* b, void* c), (a, b, c))
PLACES_FAILING(int, setsid, (), ())
PLACES_FAILING(int, waitpid, (int a, int* b, int c), (a, b, c))
PLACES_FAILING(int, waitid, (int a, unsigned b, void* c, int d), (a, b, c, d))
PLACES_FAILING(long, getrandom, (void* a, std::size_t b, unsigned c), (a, b, c))
// These return the error itself.
PLACES_FAILING_AS(int, pthread_create, "pthread_create", wanted.error,
                  (unsigned long* a, const void* b, void* (*c)(void*), void* d), (a, b, c, d))
PLACES_FAILING_AS(int, posix_spawnp, "posix_spawnp", wanted.error,
                  (int* a, const char* b, const void* c, const void* d, char* const* e,
                   char* const* f),
                  (a, b, c, d, e, f))

PLACES_REPLACES(int, fork, ()) {
    static auto* const next = next_of<int()>("fork");
    if (fails("fork")) return -1;
    const int pid = next();
    if (pid == 0) {
        ++forks;
        is_named = false;
        calls = 0;
    }
    return pid;
}

PLACES_REPLACES(int, prctl,
                (int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)) {
    static auto* const next =
        next_of<int(int, unsigned long, unsigned long, unsigned long, unsigned long)>("prctl");
    const int result = next(option, a, b, c, d);
    if (option == PR_SET_NAME && !std::exchange(is_named, true)) calls = 0;
    return result;
}

PLACES_REPLACES(long, syscall, (long number, long a, long b, long c, long d, long e, long f)) {
    static auto* const next = next_of<long(long, long, long, long, long, long, long)>("syscall");
    if (fails(name_of(number))) return -1;
    return next(number, a, b, c, d, e, f);
}
