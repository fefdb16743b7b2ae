#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Proves that each mistake in a file gets the one line of error that it asks for, and no other one.
#   refusals_test.sh SOURCE COMPILER [compiler argument…]
set -eu
source=$1
shift
scratch=$(mktemp -d /tmp/places-test.XXXXXX)
trap 'rm -rf "$scratch"' EXIT

limit=
case $("$@" --version) in *clang*) limit=-ferror-limit=0 ;; esac
if "$@" $limit -fsyntax-only "$source" 2>"$scratch/all"; then
    echo "it compiles"
    exit 1
fi
grep 'error:' "$scratch/all" >"$scratch/errors" || true
sed -n 's/^ *\/\/ error: //p' "$source" >"$scratch/wanted"
outcome=0
while read -r wanted; do
    count=$(grep -E -e "${wanted% @ *}" "$scratch/errors" | grep -cE -e "${wanted#* @ }" || true)
    [ "$count" = 1 ] && continue
    echo "$count errors, not 1, match: $wanted"
    outcome=1
done <"$scratch/wanted"
got=$(wc -l <"$scratch/errors") all=$(wc -l <"$scratch/wanted")
if [ "$got" != "$all" ]; then
    echo "$got errors, not $all"
    outcome=1
fi
[ $outcome = 0 ] || cat "$scratch/errors"
exit $outcome
