#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# in_memory_group.sh MIB COMMAND…: runs it in a control group that may have so many MiB, of either
# version.  Exit status: the command's; 1 also when the kernel had to kill in the group; 77 where no
# such group can be made.
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
# What the command has left behind is ended with it.
leave() {
    while [ -s "$group/cgroup.procs" ] && [ -n "$(cat "$group/cgroup.procs")" ]; do
        xargs -r kill -9 <"$group/cgroup.procs" 2>/dev/null || true
    done
    rmdir "$group"
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
exit $outcome
