#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Proves that tests/support/unchanged.sh finds what a command leaves behind, and blames nobody else.
#   unchanged_test.sh CASE        LISTENER names the program of listener.cpp
set -eu
. "$(dirname "$0")/expect.sh"
unchanged=$here/../support/unchanged.sh
tag=unchanged-test.$$
strangers=''
# shellcheck disable=SC2086  # a list of numbers
clean_up() {
    [ -z "$strangers" ] || kill $strangers 2>/dev/null || true
    rm -rf "$scratch" "/tmp/$tag"* "/dev/shm/$tag"*
}
trap clean_up EXIT

# By its number: a zombie, whose parent has not yet looked, is as good as gone.
is_running() { grep -q '^State:[[:space:]]*[A-WYa-z]' "/proc/$1/status" 2>/dev/null; }

case_a_command_that_leaves_nothing_passes() {
    expect 0 'hello' sh "$unchanged" echo hello
    expect 0 '' sh "$unchanged" sh -c ': >/tmp/$0; rm /tmp/$0' "$tag"
}
case_the_status_is_the_commands_own() {
    expect 3 '' sh "$unchanged" sh -c 'exit 3'
    expect 0 '' sh "$unchanged" --status 3 sh -c 'exit 3'
    expect 1 'exit status 0, not 3' sh "$unchanged" --status 3 true
    expect 127 '' sh "$unchanged" "$scratch/none"
}
case_arguments_stay_whole() {
    printf '[a b]\n[]\n[*]\n' >"$scratch/expected"
    expect 0 '' sh "$unchanged" --stdout "$scratch/expected" -- printf '[%s]\n' 'a b' '' '*'
}
case_a_wrong_call_is_refused() {
    expect 2 '--port' sh "$unchanged"
    expect 2 'number' sh "$unchanged" --port x true
    expect 2 'there is no file' sh "$unchanged" --stdout "$scratch/none" true
    expect 2 '--port' sh "$unchanged" --count 1 true
}

case_a_process_left_behind_is_found_and_ended() {
    expect 97 'process left: ' sh "$unchanged" sh -c 'sleep 60 & echo $! >"$0"' "$scratch/pid"
    ! is_running "$(cat "$scratch/pid")"
}
case_a_process_left_by_a_detached_child_is_found() {
    expect 97 'sleep 60' sh "$unchanged" setsid sh -c '(sleep 60 &) &'
}
case_a_process_left_by_a_failing_command_is_found() {
    expect 97 'sleep 60' sh "$unchanged" --status 3 sh -c 'sleep 60 & exit 3'
}
case_a_process_of_a_run_inside_a_run_is_found() {
    # The inner run is killed before it can look for itself.
    expect 97 'sleep 60' sh "$unchanged" sh -c \
        'sh "$0" sh -c "sleep 60 & kill -KILL \$PPID"; true' "$unchanged"
}
case_a_process_that_ends_soon_after_passes() {
    expect 0 '' sh "$unchanged" sh -c 'sleep 0.3 & exit 0'
}
case_a_process_of_somebody_else_is_not_blamed() {
    expect 0 '' sh "$unchanged" sh -c 'env -u PLACES_RUN sleep 60 & echo $! >"$0"' "$scratch/pid"
    strangers=$(cat "$scratch/pid")
    is_running "$strangers"
}

case_a_file_left_behind_is_found() {
    for folder in /tmp /dev/shm; do
        expect 97 "file left: $folder/$tag" sh "$unchanged" sh -c ': >"$0"' "$folder/$tag"
        rm "$folder/$tag"
        expect 97 "file left: $folder/$tag" sh "$unchanged" mkdir "$folder/$tag"
        rmdir "$folder/$tag"
    done
    expect 97 "/left" sh "$unchanged" sh -c ': >"$TMPDIR/left"'
    expect 97 "/tmp." sh "$unchanged" mktemp
}
case_a_file_that_was_there_is_not_blamed() {
    : >"/tmp/$tag"
    expect 0 '' sh "$unchanged" sh -c 'echo more >>"$0"' "/tmp/$tag"
}
case_a_file_open_in_somebody_elses_process_is_not_blamed() {
    mkfifo "$scratch/ready"
    for path in "/tmp/${tag}[1]" "/dev/shm/$tag"; do
        expect 0 '' sh "$unchanged" sh -c '
            env -u PLACES_RUN sh -c "exec 8>\"\$0\"; echo >\"\$1\"; exec sleep 60" "$0" "$1" &
            echo $! >"$2"
            read -r _ <"$1"' "$path" "$scratch/ready" "$scratch/pid"
        strangers="$strangers $(cat "$scratch/pid")"
        [ -f "$path" ]
    done
}

# start_listener PORT: 0 for any; sets port and adds the process to strangers.
start_listener() {
    mkfifo "$scratch/listening"
    "$LISTENER" "$1" >"$scratch/listening" &
    strangers="${strangers:+$strangers }$!"
    read -r port <"$scratch/listening"
    rm "$scratch/listening"
}
case_a_port_left_listening_is_found() {
    start_listener 0
    kill "$strangers"
    wait "$strangers" || true
    # Only the port tells: the process has lost its mark.
    mkfifo "$scratch/ready"
    leave='env -u PLACES_RUN "$0" "$1" >"$2" & echo $! >"$3"; read -r _ <"$2"'
    expect 97 "port left listening: $port" sh "$unchanged" --port 1 --port "$port" \
        sh -c "$leave" "$LISTENER" "$port" "$scratch/ready" "$scratch/pid"
    strangers=$(cat "$scratch/pid")
}
case_a_port_that_somebody_else_has_is_not_blamed() {
    start_listener 0
    expect 0 '' sh "$unchanged" --port "$port" true
}
case_a_listener_that_the_command_ended_is_missed() {
    start_listener 0
    expect 97 "port no longer listening: $port" sh "$unchanged" --port "$port" kill "$strangers"
}

case_another_output_is_found() {
    printf 'one\ntwo\n' >"$scratch/expected"
    expect 0 '' sh "$unchanged" --stdout "$scratch/expected" printf 'one\ntwo\n'
    expect 1 '+three' sh "$unchanged" --stdout "$scratch/expected" printf 'one\nthree\n'
    expect 1 '-two' sh "$unchanged" --stdout "$scratch/expected" printf 'one\n'
    # Also the last newline counts.
    expect 1 'No newline' sh "$unchanged" --stdout "$scratch/expected" printf 'one\ntwo'
}
case_a_text_missing_from_standard_error_is_found() {
    set -- sh -c 'echo "-a [b] a [b]" >&2; echo tail >&2'
    expect 0 'tail' sh "$unchanged" --stderr-has 'a [b]' --stderr-has '-a' "$@"
    expect 0 'tail' sh "$unchanged" --stderr-has 'a [b]' --count 2 --stderr-has none --count 0 "$@"
    expect 1 'lacks: a b' sh "$unchanged" --stderr-has 'a b' --stderr-has tail "$@"
    expect 1 'has 2 times, not 1: a [b]' sh "$unchanged" --stderr-has 'a [b]' --count 1 "$@"
}
case_what_is_left_weighs_more_than_the_output() {
    : >"$scratch/expected"
    expect 97 '+hello' sh "$unchanged" --stdout "$scratch/expected" sh -c 'echo hello; sleep 60 &'
}
case_a_command_that_ends_too_early_is_found() {
    expect 0 '' sh "$unchanged" --at-least 1 sleep 1.1
    expect 1 'not 1 s' sh "$unchanged" --at-least 1 true
}
case_a_command_that_hangs_is_stopped() {
    expect 1 'stopped after 1 s' sh "$unchanged" --timeout 1 sleep 60
}

run_case "$@"
