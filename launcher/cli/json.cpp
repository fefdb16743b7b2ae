// SPDX-License-Identifier: Apache-2.0
// Boost.JSON, compiled once: its package for linking is one more to install.
#include <boost/json/src.hpp>
