// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <places/places.hpp>

/// The runtime that main() has made. Process: the root of the test, never a place of it.
places::runtime& test_runtime();
