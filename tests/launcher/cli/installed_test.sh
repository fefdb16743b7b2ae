#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The `places` command where `cmake --install` puts it, and its unit.
#   installed_test.sh CMAKE BUILD_FOLDER
set -eu
cmake=$1
build=$2
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

"$cmake" --install "$build" --prefix "$prefix" --component places_tools >"$prefix/log"
"$prefix/bin/places" --help | grep -q '^Runs nodes by hand'
unit=$prefix/lib/systemd/system/places-node.service
if ! grep -qx "ExecStart=\"$prefix/bin/places\" node .*" "$unit"; then
    echo "The unit starts something else:"
    grep ExecStart "$unit"
    exit 1
fi
if ! command -v systemd-analyze >/dev/null; then
    echo "There is no systemd-analyze here: nobody has verified the unit."
    exit 0
fi
# It wants units of the system's own, which a container may not have.
systemd-analyze verify --recursive-errors=no "$unit" 2>"$prefix/said" || { cat "$prefix/said"; exit 1; }
if grep -F places-node.service "$prefix/said"; then exit 1; fi
