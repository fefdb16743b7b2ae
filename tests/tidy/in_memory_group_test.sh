#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Proves that tests/support/in_memory_group.sh ends what a command leaves behind, and says so.
#   in_memory_group_test.sh CASE
set -eu
. "$(dirname "$0")/expect.sh"
. "$here/../support/skip.sh"
group=$here/../support/in_memory_group.sh

got=0
sh "$group" 64 true >"$scratch/output" 2>&1 || got=$?
[ "$got" != 77 ] || skip "$(cat "$scratch/output")"

# The group has the number of the shell that runs the script.
expect_no_group() {
    for path in /sys/fs/cgroup/memory/places-test-$1 /sys/fs/cgroup/places-test-$1; do
        [ ! -e "$path" ] || { echo "$path is left"; exit 1; }
    done
}
is_running() { grep -q '^State:[[:space:]]*[A-WYa-z]' "/proc/$1/status" 2>/dev/null; }
# in_group COMMAND…: with the number of that shell in $scratch/pid
in_group() { sh -c 'echo $$ >"$0" && exec sh "$@"' "$scratch/pid" "$group" 64 "$@"; }

case_the_status_is_the_commands_own() {
    expect 0 'hello' in_group echo hello
    expect_no_group "$(cat "$scratch/pid")"
    expect 3 '' in_group sh -c 'exit 3'
    expect_no_group "$(cat "$scratch/pid")"
}
case_what_is_left_behind_is_named_and_ended() {
    expect 1 'sleep 300' in_group sh -c 'sleep 300 & echo $! >"$0"' "$scratch/left"
    expect_no_group "$(cat "$scratch/pid")"
    if is_running "$(cat "$scratch/left")"; then echo "it still runs"; exit 1; fi
}
case_what_ends_by_itself_is_no_failure() {
    expect 0 '' in_group sh -c 'sleep 0.3 &'
    expect_no_group "$(cat "$scratch/pid")"
}
run_case "$@"
