#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# in_memory_group.sh MIB COMMAND…: runs it in a control group that may have so many MiB, of either
# version.  Exit status: the command's; 1 also when the kernel had to kill in the group, or when the
# command has left a process behind, which is killed; 77 where no such group can be made.
set -eu
. "$(dirname "$0")/skip.sh"
mib=$1
shift
name=places-test-$$
if [ -w /sys/fs/cgroup/memory/cgroup.procs ]; then
    group=/sys/fs/cgroup/memory/$name limit=memory.limit_in_bytes events=memory.oom_control
elif grep -qw memory /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null; then
    group=/sys/fs/cgroup/$name limit=memory.max events=memory.events
else
    skip "no control group for memory can be made here"
fi
mkdir "$group" 2>/dev/null || skip "no control group for memory can be made here"
# A file of a group has no size, so it is read.
left() { cat "$group/cgroup.procs"; }
leave() {
    while pids=$(left) && [ -n "$pids" ]; do
        # shellcheck disable=SC2086  # a list of numbers
        kill -9 $pids 2>/dev/null || true
        sleep 0.05
    done
    rmdir "$group" || true
}
trap leave EXIT
trap 'exit 1' INT TERM
echo $((mib * 1024 * 1024)) >"$group/$limit"
outcome=0
sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$@" || outcome=$?
if grep -q '^oom_kill [1-9]' "$group/$events"; then
    echo "the kernel killed in the group:" >&2
    cat "$group/$events" >&2
    outcome=1
fi
# What ends by itself has two seconds for it.
looks=0
while [ -n "$(left)" ] && [ $looks -lt 40 ]; do
    looks=$((looks + 1))
    sleep 0.05
done
for pid in $(left); do
    echo "left behind in the group: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)" >&2
    outcome=1
done
exit $outcome
