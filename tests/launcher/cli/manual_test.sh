#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The manual page of the `places` command has the options and exit statuses that --help prints, and
# groff formats it without a warning.
#   manual_test.sh COMMAND PAGE VERSION
set -eu
command=$1 page=$2 version=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "$*"; exit 1; }

groff -man -ww -Tascii -P-cbou "$page" >"$scratch/page" 2>"$scratch/warnings"
[ ! -s "$scratch/warnings" ] || { cat "$scratch/warnings"; fail "groff warns"; }
grep -q "^places $version " "$scratch/page" || fail "the page is not that of version $version"

# described SUBCOMMAND: the options below its heading, one a line. groff indents them by 7 spaces.
described() {
    awk -v heading="   places $1" '
        /^ ? ? ?[A-Za-z]/ { inside = $0 == heading }
        inside && /^       --[a-z]/ { print $1 }' "$scratch/page" | sort
}
for subcommand in $("$command" --help | sed -n '/^Subcommands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
    "$command" "$subcommand" --help | sed -n 's/^  \(--[a-z-]*\).*/\1/p' | sort >"$scratch/offered"
    [ -s "$scratch/offered" ] || fail "$subcommand --help shows no option"
    described "$subcommand" >"$scratch/described"
    diff "$scratch/offered" "$scratch/described" ||
        fail "< is an option of $subcommand, > is described in the page"
    echo "$subcommand" >>"$scratch/subcommands"
done
[ "$(wc -l <"$scratch/subcommands")" -ge 4 ] || fail "--help shows too few subcommands"

"$command" --help | sed -n '/^Exit status/,$p' | grep -oE '(^| )[0-9]+ ' | tr -d ' ' |
    sort >"$scratch/offered"
awk '/^[A-Z]/ { inside = $0 == "EXIT STATUS" } inside && /^ +[0-9]+ / { print $1 }' "$scratch/page" |
    sort >"$scratch/described"
[ -s "$scratch/offered" ] || fail "--help shows no exit status"
diff "$scratch/offered" "$scratch/described" || fail "< is an exit status, > is described in the page"
