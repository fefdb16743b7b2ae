// SPDX-License-Identifier: Apache-2.0
// Everything a program of places needs.
#pragma once

#include <places/core/channel.hpp>
#include <places/core/channel_set.hpp>
#include <places/core/entry.hpp>
#include <places/core/error.hpp>
#include <places/core/inbox.hpp>
#include <places/core/message.hpp>
#include <places/core/place.hpp>
#include <places/core/router.hpp>
#include <places/core/server.hpp>
#include <places/core/value.hpp>
#include <places/launcher/remote_node.hpp>
#include <places/launcher/runtime.hpp>
