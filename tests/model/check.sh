#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Searches the states of ring.pml with spin.  Prints one line a search; the first that is not as
# expected ends it with 1.  Without spin it ends with 77: skipped.
#   check.sh holds     no error in the model as it is
#   check.sh mutants   an error in each mutant: what a search cannot miss
set -eu
model=$(cd "$(dirname "$0")" && pwd)/ring.pml
depth=20000

if ! command -v spin >/dev/null; then
    echo "skipped: spin is not installed; tests/install.sh would do it"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
cd "$scratch"

fail() { echo "model: $*"; [ ! -f result ] || cat result; exit 1; }

# search NAME "DEFINES" "OPTIONS OF THE COMPILER" [option of pan…]: leaves result, states, seconds.
search() {
    name=$1 defines=$2 options=$3
    shift 3
    rm -f pan pan.* result
    # shellcheck disable=SC2086  # a list of defines
    spin -a $defines "$model" >result 2>&1 || fail "$name: spin refuses the model"
    # shellcheck disable=SC2086  # a list of options
    "${CC:-cc}" $options -DCOLLAPSE -w -o pan pan.c >result 2>&1 || fail "$name: does not compile"
    ./pan -m$depth -n "$@" >result 2>&1 || fail "$name: the search was broken off"
    states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' result)
    seconds=$(sed -n 's/.*elapsed time \([0-9.e-]*\) seconds.*/\1/p' result)
}

# holds NAME "DEFINES" "OPTIONS OF THE COMPILER" [option of pan…]
holds() {
    search "$@"
    # The search is complete: no depth, memory or time has cut it off, and there was something to search.
    grep -q '^Full statespace search' result || fail "$1: not a full search"
    ! grep -qiE 'not completed|too small|out of memory|truncated|aborted|warning' result || fail "$1: not complete"
    grep -q 'errors: 0$' result || fail "$1: there is an error"
    [ "$states" -gt 100000 ] || fail "$1: only $states states"
    echo "$1: holds in $states states, ${seconds:-0} s"
}

# finds NAME "DEFINES": a search stops at its first error.
finds() {
    search "$1" "$2 -DM_$1" "-O0 -DSAFETY"
    ! grep -qiE 'too small|out of memory' result || fail "$1: not complete"
    grep -q 'errors: 1$' result || fail "$1: is not found"
    echo "$1: found after ${states:-?} states: $(sed -n 's/^pan:1: *//p' result)"
}

case ${1:-} in
    holds)
        holds sleep "" "-O1 -DSAFETY"
        holds early_return "-DEARLY -DSENT=3" "-O1 -DSAFETY"
        holds death "-DDEATH -DSENT=3" "-O2 -DSAFETY"
        holds doorbell "-DDOORBELL -DSENT=3" "-O1 -DSAFETY"
        holds doorbell_death "-DDOORBELL -DDEATH -DSENT=2" "-O1 -DSAFETY"
        holds no_cycle "-DSENT=3" "-O1 -DNP" -l
        ;;
    mutants)
        # [doze]: a record, the end of the producer
        finds TAG_NOT_SEQ_CST ""
        finds BATCH_NOT_SEQ_CST ""
        finds READER_PARK_NOT_SEQ_CST ""
        finds STATE_P_NOT_SEQ_CST ""
        finds READER_LOOKS_ONCE ""
        # [stall]: room, the end of the consumer
        finds RELEASED_NOT_SEQ_CST ""
        finds WRITER_PARK_NOT_SEQ_CST ""
        finds STATE_C_NOT_SEQ_CST ""
        finds WRITER_LOOKS_ONCE ""
        finds RUNG_BEFORE_WAKE_AT ""
        # [bell], epochs
        finds BELL_UNCHANGED ""
        finds BELL_READ_AFTER_PARK ""
        finds NO_EPOCH ""
        # [publish], [reclaim], [shut]
        finds TAG_BEFORE_PAYLOAD ""
        finds RELEASED_TOO_EARLY ""
        finds NO_LAST_LOOK ""
        # [death_report]
        finds OBITUARY_BEFORE_DEATH "-DDEATH -DSENT=3"
        finds BOARD_BEFORE_OBITUARY "-DDEATH -DSENT=3"
        ;;
    *) sed -n '3,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
