#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Proves that each configure decides anew what depends on installed packages, with a CLI11, ccache and
# mold that come and go.
#   configure_test.sh CASE
set -eu
. "$(dirname "$0")/expect.sh"
top=$here/../..
cmake=${CMAKE:-cmake}

# Stand-ins: what is configured is not built.
mkdir "$scratch/cli11" "$scratch/fmt" "$scratch/bin"
stand_in() { printf 'if(NOT TARGET %s)\n  add_library(%s INTERFACE IMPORTED)\nendif()\n' "$1" "$1"; }
stand_in CLI11::CLI11 >"$scratch/cli11/CLI11Config.cmake"
stand_in fmt::fmt >"$scratch/fmt/fmtConfig.cmake"

configures() { expect 0 "$1" configure "$@"; }
# configure TEXT [cmake argument…]
configure() {
    shift
    CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja} "$cmake" -S "$top" -B "$scratch/build" \
        -DPLACES_TESTS=OFF -DPLACES_EXAMPLES=OFF "$@"
}
with_cli11="-DCMAKE_DISABLE_FIND_PACKAGE_CLI11=OFF"
without_cli11="-DCMAKE_DISABLE_FIND_PACKAGE_CLI11=ON"
here_is_cli11() { configures '' "$with_cli11" "-DCLI11_DIR=$scratch/cli11" "-Dfmt_DIR=$scratch/fmt" "$@"; }

# builds yes|no TARGET
builds() {
    found=no
    "$cmake" --build "$scratch/build" --target help | grep -qE "(^|[ .])$2(:|\$)" && found=yes
    [ "$found" = "$1" ] && return
    echo "builds $2: $found, not $1"
    exit 1
}

case_the_command_and_the_benchmark_come_with_cli11_and_go_with_it() {
    configures 'The places command is not built: it needs libcli11-dev' $without_cli11
    builds no places_cli
    builds no places-bench
    here_is_cli11
    builds yes places_cli
    builds yes places-bench
    configures 'The places command is not built' $without_cli11
    builds no places_cli
    builds no places-bench
}
case_what_the_user_asks_for_stays() {
    here_is_cli11 -DPLACES_CLI=OFF -DPLACES_BENCH=OFF
    builds no places_cli
    here_is_cli11
    builds no places_cli
    expect 1 'PLACES_CLI=ON: the places command needs CLI11, which is not found' \
        configure '' $without_cli11 -DPLACES_CLI=ON
    here_is_cli11
    builds yes places_cli
}
case_a_compiler_cache_and_a_linker_that_have_gone_are_not_used() {
    for tool in ccache mold; do
        printf '%s\n' '#!/bin/sh' 'exec "$@"' >"$scratch/bin/$tool"
        chmod +x "$scratch/bin/$tool"
    done
    configures '' -DPLACES_BENCH=OFF "-DPLACES_CCACHE=$scratch/bin/ccache" \
        "-DPLACES_MOLD=$scratch/bin/mold"
    for tool in ccache mold; do grep -qF "$scratch/bin/$tool" "$scratch/build/CMakeCache.txt"; done
    grep -rqF --include='*.ninja' --include='*.make' "$scratch/bin/ccache" "$scratch/build"
    rm "$scratch/bin/ccache" "$scratch/bin/mold"
    configures ''
    if grep -rF "$scratch/bin/" "$scratch/build"; then exit 1; fi
}

run_case "$@"
