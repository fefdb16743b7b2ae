#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# pipeline_test.sh PIPELINE: examples/03_pipeline counts the words of a text as tr, sort and uniq do.
set -eu
export LC_ALL=C
pipeline=$1
scratch=$(mktemp -d "${TMPDIR:-/tmp}/places-test.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 143' HUP INT TERM
fail() { echo "$*" >&2; exit 1; }

# Words of 1 to 12 letters between separators of all lengths: 3 MB, a dozen blocks, so that some
# word lies across the end of a block. The numbers are the same at each run.
awk 'BEGIN {
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    split(" |\n|, |. |-|\n\n|1|  |\t|9x9|_", between, "|")
    for (i = 0; i < 500000; ++i) {
        seed = (seed * 69069 + 12345) % 4294967296
        number = int(seed / 65536) % 4096
        word = ""
        for (n = number % 12; n >= 0; --n) word = word substr(letters, (number * (n + 1)) % 52 + 1, 1)
        printf "%s%s", word, between[number % 11 + 1]
    }
}' >"$scratch/text"
[ "$(wc -c <"$scratch/text")" -gt 2000000 ] || fail "the text is too short"

# check FILE COUNTERS
check() {
    tr -cs 'A-Za-z' '\n' <"$1" | sed '/^$/d' | sort | uniq -c >"$scratch/expected"
    "$pipeline" "$1" "$2" >"$scratch/output" || fail "$2 counters: exit status $?"
    diff "$scratch/expected" "$scratch/output" >&2 || fail "$2 counters: $1 is not counted as by uniq"
}
for counters in 0 1 2 5; do check "$scratch/text" "$counters"; done

# A file that ends inside a word, one that ends with a whole block, and one without words.
printf 'one two three' >"$scratch/short"
head -c 524288 "$scratch/text" >"$scratch/two_blocks"
: >"$scratch/empty"
for file in short two_blocks empty; do
    check "$scratch/$file" 0
    check "$scratch/$file" 2
done

# refused FILE TEXT: exit status 1, the reason on standard error, and no count.
refused() {
    if "$pipeline" "$1" 2 >"$scratch/output" 2>"$scratch/errors"; then fail "$1 is counted"; fi
    grep -qF "$2" "$scratch/errors" || fail "$1: no \"$2\" in: $(cat "$scratch/errors")"
    [ ! -s "$scratch/output" ] || fail "$1: there is output"
}
head -c 300000 /dev/zero | tr '\0' a >"$scratch/one_word"
refused "$scratch/one_word" "a word is longer than a block"
refused "$scratch/missing" "cannot open $scratch/missing"
refused "$scratch" "cannot read $scratch"
