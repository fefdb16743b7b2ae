#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds one example and runs it.  Only the example writes to standard output.
#   examples/run.sh [NAME [argument…]]   NAME as listed, or its number; 02_named without one
#   examples/run.sh --list
#   CXX=clang++, PLACES_INSTALL=no, CMAKE_BUILD_PARALLEL_LEVEL=1: see tests/install.sh
set -eu
cd "$(dirname "$0")/.."
. tests/install.sh

names() {
    for entry in examples/[0-9][0-9]_*.cpp examples/[0-9][0-9]_*/; do
        [ ! -e "$entry" ] || basename "$entry" .cpp
    done | sort -u
}

wanted=${1:-02_named}
case $wanted in
    -l | --list) names; exit 0 ;;
    -h | --help) sed -n '3,/^set/s/^# \{0,1\}//p' examples/run.sh; exit 0 ;;
    [0-9]) wanted=0$wanted ;;
esac
[ $# = 0 ] || shift
name=$(names | grep -E -x "[0-9]{2}_.*" | while read -r each; do
    case $each in "$wanted" | "${wanted}"_*) echo "$each"; break ;; esac
done)
if [ -z "$name" ]; then
    say "There is no example \"$wanted\". There are:"
    names >&2
    exit 2
fi

{
    install_packages build
    # A directory that tests/run.sh has configured keeps its tests, so that neither undoes the other.
    tests=OFF
    if [ -f build/release/build.ninja ] &&
        grep -qx 'PLACES_TESTS:BOOL=ON' build/release/CMakeCache.txt; then
        tests=ON
    fi
    configure release -DPLACES_EXAMPLES=ON -DPLACES_TESTS=$tests
    build release "examples/$name"
} >&2
exec "build/release/examples/$name" "$@"
