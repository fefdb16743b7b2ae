# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# For scripts that run tests: sourced, then `skip WHY` leaves one out whose machine has not what it
# needs; where the environment has CI, which is to run all, it fails.
skip() {
    [ -z "${CI:-}" ] || { echo "not left out in CI: $*" >&2; exit 1; }
    echo "skipped: $*" >&2
    exit 77
}
