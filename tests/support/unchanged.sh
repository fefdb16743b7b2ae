#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a command and requires that it leaves the machine as it found it.
#   unchanged.sh [option…] [--] COMMAND [argument…]
#   --port N            N has the same listener, or none, before and after; repeatable
#   --stdout FILE       standard output is exactly FILE
#   --stderr-has TEXT   standard error contains TEXT, one line; repeatable
#   --count N           …exactly N times; belongs to the --stderr-has before it
#   --status N          the command exits with N
#   --at-least SECONDS  the command takes no less
#   --timeout SECONDS   after which the command is stopped and fails
# Exit status: 97 when something is left, 1 when output or status is not as asked, 2 for a wrong
# call, else the command's own (0 when it is the one asked for).
#
# Other programs come and go meanwhile, so only what belongs to the command is judged:
# - Processes: those whose environment carries the PLACES_RUN this script sets.  Children and
#   programs they start inherit it.  Not seen: who was started with a fresh environment (by an
#   sshd, say), who wrote over it, who belongs to another user, and zombies.
# - Ports: a listener ends with its last owner, so no process left means no port left, unless its
#   socket went to a stranger.  --port proves that too, for the ports named.
# - Files: new entries of /tmp and /dev/shm, born while the command ran, of this user, and not open
#   in any process; and anything in the TMPDIR given to the command.  Not judged: entries below a
#   directory that was there, changes to old ones, and the names cc??????.*, tmp.* and
#   places-test.*, which compilers, mktemp and these tests use.  A program that makes and closes a
#   file in /tmp in these very seconds is blamed wrongly.
# - Memory without a name (memfd) ends with its last owner, so it is proven with the processes.
# All must be gone within a second of the command's end; what is left of the processes is then
# killed, so that one failure is one failure.
set -u

usage() { sed -n '4,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
wrong() { echo "unchanged: $*" >&2; exit 2; }

# A run inside a run is part of both: its marker begins with the outer one.
run=${PLACES_RUN:+$PLACES_RUN/}$$.$(date +%s%N)
processes() {
    grep -lzE "^PLACES_RUN=$run(/|\$)" /proc/[0-9]*/environ 2>/dev/null | sed 's,[^0-9],,g'
}
# shellcheck disable=SC2086,SC2317  # a list of numbers; called by the trap
clean_up() {
    rounds=0
    # Again, for what was forked meanwhile; not for ever, for what the kernel holds.
    while left=$(processes) && [ -n "$left" ] && [ $rounds -lt 100 ]; do
        kill -KILL $left 2>/dev/null
        rounds=$((rounds + 1))
        sleep 0.01
    done
    rm -rf "$scratch"
}

scratch=$(mktemp -d "${TMPDIR:-/tmp}/places-test.XXXXXX") || exit 2
trap clean_up EXIT
trap 'exit 143' HUP INT TERM
mkdir "$scratch/tmp" || exit 2
: >"$scratch/texts"

tab=$(printf '\t')
ports='' stdout='' status='' timeout='' at_least=0 text_waits=no
# A text is written once its --count, if any, is known: "count TAB text", - for any count.
flush_text() {
    [ "$text_waits" = no ] || printf '%s\t%s\n' "$1" "$text" >>"$scratch/texts"
    text_waits=no
}
while [ $# -gt 0 ]; do
    case $1 in
        --port | --stdout | --stderr-has | --count | --status | --at-least | --timeout)
            [ $# -ge 2 ] || usage
            case $1 in
                --stdout | --stderr-has) ;;
                *) case $2 in '' | *[!0-9]*) wrong "$1 needs a number, not \"$2\"" ;; esac ;;
            esac
            ;;
    esac
    case $1 in
        --port) ports="$ports $2"; shift 2 ;;
        --stdout) [ -f "$2" ] || wrong "there is no file $2"; stdout=$2; shift 2 ;;
        --stderr-has)
            [ -n "$2" ] || wrong "--stderr-has needs a text"
            flush_text -; text=$2 text_waits=yes; shift 2 ;;
        --count) [ $text_waits = yes ] || usage; flush_text "$2"; shift 2 ;;
        --status) status=$2; shift 2 ;;
        --at-least) at_least=$2; shift 2 ;;
        --timeout) timeout=$2; shift 2 ;;
        --) shift; break ;;
        -*) usage ;;
        *) break ;;
    esac
done
flush_text -
[ $# -gt 0 ] || usage

# "port inode" of each listener on a port that was named.
listeners() {
    for port in $ports; do
        # Column 2 is address:port in hexadecimal, 4 the state (0A: listening), 10 the inode.
        awk -v hex="$(printf ':%04X' "$port")" -v port="$port" \
            '$4 == "0A" && substr($2, length($2) - 4) == hex { print port, $10 }' \
            /proc/net/tcp /proc/net/tcp6 2>/dev/null
    done | sort
}
entries() { find /tmp /dev/shm -mindepth 1 -maxdepth 1 2>/dev/null | sort; }

# Whether a live process has "$1", something below it, or a socket bound to it open.
is_held() {
    pattern=$(printf '%s' "$1" | sed 's/[][*?\\]/\\&/g')
    sockets=$(awk -v path="$1" '$NF == path || index($NF, path "/") == 1 { print $7 }' \
        /proc/net/unix 2>/dev/null)
    set -- -lname "$pattern" -o -lname "$pattern/*"
    for inode in $sockets; do set -- "$@" -o -lname "socket:\[$inode\]"; done
    [ -n "$(find /proc/[0-9]*/fd /proc/[0-9]*/cwd \( "$@" \) -print -quit 2>/dev/null)" ]
}
new_files() {
    find "$scratch/tmp" -mindepth 1 2>/dev/null
    entries | comm -13 "$scratch/entries" - | while IFS= read -r path; do
        case ${path##*/} in cc??????.* | tmp.* | places-test.*) continue ;; esac
        # Birth, where the file system knows it, else the last change of the inode.
        facts=$(stat -c '%u %W %Z' "$path" 2>/dev/null) || continue
        # shellcheck disable=SC2086  # three numbers
        set -- $facts
        born=$2
        case $born in 0 | -) born=$3 ;; esac
        if [ "$1" != "$user" ] || [ "$born" -lt "$started" ] || [ "$born" -gt "$ended" ]; then
            continue
        fi
        is_held "$path" || printf '%s\n' "$path"
    done
}

# Hundredths of a second since the machine started.
now() { read -r up _ </proc/uptime; echo "${up%.*}${up#*.}"; }

user=$(id -u)
entries >"$scratch/entries"
listeners >"$scratch/listeners"
started=$(date +%s)

set -- env "PLACES_RUN=$run" "TMPDIR=$scratch/tmp" "$@"
[ -z "$timeout" ] || set -- timeout -k 1 "$timeout" "$@"
# What is judged goes into a file, which whatever is left cannot hold up.
if [ -n "$stdout" ]; then exec 5>"$scratch/stdout"; else exec 5>&1; fi
if [ -s "$scratch/texts" ]; then exec 6>"$scratch/stderr"; else exec 6>&2; fi
begun=$(now)
"$@" >&5 2>&6 5>&- 6>&-
got=$?
taken=$(($(now) - begun))
ended=$(date +%s)
limit=$(($(now) + 100))

# Twice in a row: a process that is starting a program shows no environment for a moment.
calm=0
while :; do
    left=$(processes)
    listeners | diff "$scratch/listeners" - >"$scratch/ports"
    files=$(new_files)
    if [ -z "$left$files" ] && [ ! -s "$scratch/ports" ]; then
        calm=$((calm + 1))
        [ $calm -lt 2 ] || break
    else
        calm=0
        [ "$(now)" -lt "$limit" ] || break
    fi
    sleep 0.01
done

verdict=0
complain() { echo "unchanged: $*" >&2; }
if [ $calm -lt 2 ]; then
    verdict=97
    for pid in $left; do
        line=$(tr '\0' ' ' <"/proc/$pid/cmdline") 2>/dev/null
        complain "process left: $pid $line"
    done
    sed -n 's/^> \([0-9]*\) .*/unchanged: port left listening: \1/p
        s/^< \([0-9]*\) .*/unchanged: port no longer listening: \1/p' "$scratch/ports" >&2
    [ -z "$files" ] || printf '%s\n' "$files" | sed 's/^/unchanged: file left: /' >&2
fi

expect_failed() { [ $verdict -ne 0 ] || verdict=1; }
if [ -n "$timeout" ] && [ $got = 124 ]; then
    complain "stopped after $timeout s"
    expect_failed
elif [ -n "$status" ] && [ "$got" != "$status" ]; then
    complain "exit status $got, not $status"
    expect_failed
fi
if [ "$taken" -lt $((at_least * 100)) ]; then
    complain "took $taken hundredths of a second, not $at_least s"
    expect_failed
fi
if [ -n "$stdout" ] && ! diff -u "$stdout" "$scratch/stdout" >"$scratch/diff"; then
    complain "standard output differs from $stdout:"
    cat "$scratch/diff" >&2
    expect_failed
fi
if [ -s "$scratch/texts" ]; then
    while IFS=$tab read -r count text; do
        times=$(grep -oF -e "$text" "$scratch/stderr" | wc -l)
        case $count in
            -) [ "$times" -gt 0 ] || { complain "standard error lacks: $text"; expect_failed; } ;;
            "$times") ;;
            *) complain "standard error has $times times, not $count: $text"; expect_failed ;;
        esac
    done <"$scratch/texts"
    if [ $verdict -ne 0 ]; then complain "standard error was:"; fi
    cat "$scratch/stderr" >&2
fi
[ $verdict -eq 0 ] || exit $verdict
[ -z "$status" ] || exit 0
exit "$got"
