#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a command in a mount namespace of its own, where /dev/shm is not as usual.
#   beside_shm.sh small|read_only|missing COMMAND [argument…]
# Exit status: the command's; where the kernel allows no such namespace 77, or 1 if the environment
# has CI, with the reason.
set -eu
. "${0%/*}/skip.sh"

if [ -z "${BESIDE_SHM_INSIDE:-}" ]; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root=--map-root-user
    # shellcheck disable=SC2086  # one word or none
    why=$(unshare $as_root --mount true 2>&1) || skip "no mount namespace: $why"
    # shellcheck disable=SC2086
    BESIDE_SHM_INSIDE=yes exec unshare $as_root --mount sh "$0" "$@"
fi
unset BESIDE_SHM_INSIDE

kind=$1
shift
why=$(mount -t tmpfs -o size=1m none /mnt 2>&1) || skip "no mount: $why"
case $kind in
    small) mount -t tmpfs -o size=1m none /dev/shm ;;
    read_only) mount -t tmpfs -o size=1m,ro none /dev/shm ;;
    missing)
        : >/mnt/null
        mount --bind /dev/null /mnt/null
        mount --rbind /mnt /dev
        ;;
esac
exec "$@"
