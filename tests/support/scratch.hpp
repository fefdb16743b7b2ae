// SPDX-License-Identifier: Apache-2.0
// A folder that ends with its test.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

class scratch_folder {
  public:
    scratch_folder() {
        const char* base = std::getenv("TMPDIR");
        path_ = std::string(base && *base ? base : "/tmp") + "/places-test.XXXXXX";
        if (!::mkdtemp(path_.data())) throw std::runtime_error("mkdtemp " + path_);
    }
    ~scratch_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    scratch_folder(const scratch_folder&) = delete;
    scratch_folder& operator=(const scratch_folder&) = delete;

    const std::string& path() const noexcept { return path_; }
    /// Returns: the path of a new file.
    std::string put(const std::string& name, const std::string& text, unsigned mode = 0600) const {
        const auto path = path_ + "/" + name;
        std::ofstream(path, std::ios::binary) << text;
        std::filesystem::permissions(path, static_cast<std::filesystem::perms>(mode));
        return path;
    }

  private:
    std::string path_;
};
