# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2034
# For scripts that test scripts: sourced, then run_case "$@" runs the function case_<argument>.

here=$(cd "$(dirname "$0")" && pwd)
# Under /tmp itself and by a name that unchanged.sh does not judge.
scratch=$(mktemp -d /tmp/places-test.XXXXXX) || exit 2
trap 'rm -rf "$scratch"' EXIT

# expect STATUS TEXT COMMAND…: the exit status, and a text, if any, in the output of either kind.
expect() {
    status=$1 text=$2
    shift 2
    got=0
    "$@" >"$scratch/output" 2>&1 || got=$?
    if [ "$got" != "$status" ]; then
        echo "exit status $got, not $status, from: $*"
    elif [ -n "$text" ] && ! grep -qF -e "$text" "$scratch/output"; then
        echo "the output lacks \"$text\", from: $*"
    else
        return 0
    fi
    cat "$scratch/output"
    exit 1
}

run_case() {
    case $(type "case_${1:-}" 2>/dev/null) in
        *function*) "case_$1" ;;
        *) echo "there is no case ${1:-}"; exit 2 ;;
    esac
}
