# SPDX-License-Identifier: Apache-2.0
# Writes OUT, a header that says how this build was made; run at every build, for the commit.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude *
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT commit)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUT} @ONLY CONTENT [[
// SPDX-License-Identifier: Apache-2.0
#pragma once
#define PLACES_BENCH_COMMIT "@commit@"
#define PLACES_BENCH_COMPILER "@COMPILER@"
#define PLACES_BENCH_FLAGS "@FLAGS@"
#define PLACES_BENCH_SANITIZE "@SANITIZE@"
]])
