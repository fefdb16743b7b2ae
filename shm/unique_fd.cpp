// SPDX-License-Identifier: Apache-2.0
#include <places/shm/unique_fd.hpp>

#include <cerrno>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>

namespace places {

void unique_fd::reset(int fd) noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
}

unique_fd unique_fd::duplicate() const {
    const int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
    // Where the limit is 0 the kernel calls the least number wrong.
    if (copy < 0 && errno == EINVAL) errno = EMFILE;
    return checked_fd(copy, "duplicate a file descriptor");
}

unique_fd checked_fd(int result, const char* what) {
    return unique_fd{static_cast<int>(checked(result, what))};
}

long checked(long result, const char* what) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), what);
    return result;
}

}  // namespace places
