// SPDX-License-Identifier: Apache-2.0
// What a test of bad input looks at.
#pragma once

#include <places/core/error.hpp>

#include <gtest/gtest.h>

#include <string>

/// The error that `f` throws; fails the test when it throws none.
template <class F>
places::error error_of(F f) {
    try {
        f();
    } catch (const places::error& e) {
        return e;
    }
    ADD_FAILURE() << "nothing was thrown";
    return places::error(places::errc::protocol, "nothing was thrown");
}

/// Expects a places::error with `code`. Returns: its text.
template <class F>
std::string text_of_error(places::errc code, F&& f) {
    const auto e = error_of(f);
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
}
