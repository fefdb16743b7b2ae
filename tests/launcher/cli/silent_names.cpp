// SPDX-License-Identifier: Apache-2.0
// To be loaded ahead of the C library: a name server that never answers.
#include <netdb.h>
#include <unistd.h>

extern "C" int getaddrinfo(const char*, const char*, const addrinfo*, addrinfo**) {
    while (true) ::pause();
}
