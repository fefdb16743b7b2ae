#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, and tests: rings, places and links under ThreadSanitizer,
# everything under AddressSanitizer and UndefinedBehaviorSanitizer (both built by clang++, unless CXX
# says otherwise), a minute of each fuzz target, everything optimised.
# The first failure ends it.
#   tests/run.sh [--quick] [ctest argument…]
#   --quick   the optimised build only
#   CXX=clang++, PLACES_INSTALL=no, CMAKE_BUILD_PARALLEL_LEVEL=1: see tests/install.sh
# Tests with the label chaos are left out, as they make tens of thousands of calls fail, one in each
# run of a program, and take hours. They run where the arguments name the label:
#   tests/run.sh --quick -L chaos
set -eu
cd "$(dirname "$0")/.."
. tests/install.sh

quick=no
case ${1:-} in
    --quick) quick=yes; shift ;;
    -h | --help) sed -n '3,/^set/s/^# \{0,1\}//p' tests/run.sh; exit 0 ;;
esac

install_packages tests

if [ -n "${CI:-}" ]; then
    echo "kernel    $(uname -srm)"
    echo "cpu       $(nproc) x $(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)"
    echo "memory    $(sed -n 's/^MemTotal: *//p' /proc/meminfo)"
    echo "compiler  $("${CXX:-c++}" --version | head -n 1)"
    echo "cmake     $(cmake --version | head -n 1)"
fi

configure_tests() { configure "$1" -DPLACES_TESTS=ON -DPLACES_EXAMPLES=ON; }
with_clang() { (CXX=${CXX:-clang++} && export CXX && "$@"); }

# prepare PRESET [target…]
prepare() {
    echo "== $1: build"
    configure_tests "$1"
    build "$@"
}

# check PRESET [ctest argument…]
check() {
    tested=$1
    shift
    case " $* " in
        *chaos*) ;;
        *" -LE "*)
            before=
            for each; do
                shift
                [ "$before" != -LE ] || each="$each|chaos"
                set -- "$@" "$each"
                before=$each
            done
            ;;
        *) set -- "$@" -LE chaos ;;
    esac
    echo "== $tested: ctest"
    $under ctest --test-dir "build/$tested" --output-on-failure -j4 "$@"
}

# fuzz TARGET: a minute of new inputs; what breaks it is left in build/fuzz, with the file's name printed.
fuzz() {
    mkdir -p "build/fuzz/units/$1"
    # The second folder is only read.
    $under "build/fuzz/tests/fuzz/fuzz_$1" -max_total_time=60 -timeout=10 -rss_limit_mb=2048 \
        -max_len=4096 -verbosity=0 -print_final_stats=1 "-artifact_prefix=build/fuzz/$1-" \
        "build/fuzz/units/$1" "tests/fuzz/corpus/$1"
}

# build_meanwhile PRESET, once that is configured: begins to build it with what the tests leave of
# the processors, which is much, since they wait for each other.  It is a process group of its own,
# so that it can be ended, and has no files in /tmp, which is the tests' to watch.
build_meanwhile() {
    mkdir -p "build/$1/tmp"
    under=$under TMPDIR=$PWD/build/$1/tmp nice -n 19 setsid sh -c '. tests/install.sh && build "$0"' "$1" \
        >"build/$1/build.log" 2>&1 &
    builder=$!
    trap 'kill -- -$builder 2>/dev/null' EXIT
    trap 'exit 1' INT TERM
}
await_build() {
    echo "== $1: build, begun before"
    outcome=0
    wait "$builder" || outcome=$?
    trap - EXIT INT TERM
    [ $outcome = 0 ] || cat "build/$1/build.log"
    return $outcome
}

under=
if [ "$quick" = no ]; then
    # The sanitizers of g++ 12 and 13 may fail to start where the kernel randomises addresses by more
    # than 28 bits.  Building runs programs too, to list their tests.  A container may forbid this.
    if setarch -R true 2>/dev/null; then under="setarch -R"; fi
    with_clang prepare tsan tests/shm/all tests/core/all tests/net/all tests/process/all
    with_clang configure_tests asan
    build_meanwhile asan
    # What takes two nodes is not built, what hunts for minutes left out.  A label nobody carries is
    # a failure, but a choice on the command line may leave no such test.
    judged="-L unit|process"
    if [ $# = 0 ]; then check tsan $judged --no-tests=error; else check tsan $judged "$@"; fi
    await_build asan
    configure_tests release
    build_meanwhile release
    check asan --no-tests=error "$@"
    if [ $# = 0 ]; then
        echo "== fuzz: build"
        (CXX=clang++ && export CXX && configure fuzz -DPLACES_TESTS=ON -DPLACES_EXAMPLES=OFF)
        build fuzz fuzz_ring fuzz_datum
        echo "== fuzz: ring and datum"
        # Each has a core's worth of work; a log of its own keeps their lines apart.
        fuzz ring >build/fuzz/ring.log 2>&1 &
        ring=$!
        outcome=0
        fuzz datum || outcome=$?
        wait $ring || outcome=$?
        cat build/fuzz/ring.log
        [ $outcome = 0 ] || exit $outcome
    fi
    await_build release
else
    prepare release
fi
under=
check release --no-tests=error "$@"
