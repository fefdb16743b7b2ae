// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

namespace places {

/// Owns one file descriptor; closes it in the destructor. -1 is empty.
class unique_fd {
  public:
    unique_fd() = default;
    explicit unique_fd(int fd) noexcept : fd_(fd) {}
    unique_fd(unique_fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    unique_fd& operator=(unique_fd&& other) noexcept {
        if (this != &other) reset(std::exchange(other.fd_, -1));
        return *this;
    }
    ~unique_fd() { reset(); }

    int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    int release() noexcept { return std::exchange(fd_, -1); }
    void reset(int fd = -1) noexcept;

    /// A second descriptor of the same open file, close-on-exec.
    /// Throws: std::system_error when the process has no descriptor left.
    unique_fd duplicate() const;

  private:
    int fd_ = -1;
};

/// `result` as returned by a system call that gives a descriptor or -1.
/// Throws: std::system_error with errno, naming `what`.
unique_fd checked_fd(int result, const char* what);

/// Throws std::system_error with errno, naming `what`, when `result` is negative.
long checked(long result, const char* what);

}  // namespace places
