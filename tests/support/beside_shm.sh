#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a command in a mount namespace of its own, where /dev/shm is not as usual.
#   beside_shm.sh small|read_only|missing COMMAND [argument…]
# Exit status: the command's; prints "skipped: …" where the kernel refuses such a namespace.
set -eu
kind=$1
shift
as_root=
[ "$(id -u)" = 0 ] || as_root=--map-root-user
# shellcheck disable=SC2086  # one word or none
unshare $as_root --mount true 2>/dev/null || { echo "skipped: no mount namespace here"; exit 77; }
# shellcheck disable=SC2016,SC2086
exec unshare $as_root --mount sh -eu -c '
    kind=$1
    shift
    case $kind in
        small) mount -t tmpfs -o size=1m none /dev/shm ;;
        read_only) mount -t tmpfs -o size=1m,ro none /dev/shm ;;
        missing)
            mount -t tmpfs -o size=1m none /mnt
            : >/mnt/null
            mount --bind /dev/null /mnt/null
            mount --rbind /mnt /dev
            ;;
    esac
    exec "$@"' sh "$kind" "$@"
