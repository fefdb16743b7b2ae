#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a command on one of two hosts, as far as network and files can tell: two network namespaces
# joined by a veth pair, an sshd in the far one, and there an empty folder over HIDDEN.
#   with_far.sh HIDDEN COMMAND [argument…]
# FAR among the arguments becomes an alias of the far host, CONFIG the SSH configuration that knows
# it. The command finds in its environment FAR_CONFIG, FAR_ADDRESS, where sshd listens, FAR_SECOND,
# another address of that host, and FAR_LINK, the device that leads there: `ip link set $FAR_LINK down` cuts the cable.
# Exit status: the command's; where the kernel allows no namespaces 77, or 1 if the environment has
# CI, with the reason.
set -eu

. "${0%/*}/skip.sh"

if [ -z "${WITH_FAR_INSIDE:-}" ]; then
    [ -x /usr/sbin/sshd ] || skip "there is no sshd: install openssh-server"
    command -v ip >/dev/null || skip "there is no ip: install iproute2"
    why=$(unshare -m -n true 2>&1) || skip "no namespaces: $why"
    WITH_FAR_INSIDE=yes exec unshare -m -n --propagation private sh "$0" "$@"
fi
unset WITH_FAR_INSIDE

hidden=$1
shift
scratch=$(mktemp -d "${TMPDIR:-/tmp}/places-test.XXXXXX")
far=''
# shellcheck disable=SC2013,SC2317  # numbers; called by the trap
clean_up() {
    # With the namespace's first process gone, its network and mounts go; sessions are found by name.
    [ -z "$far" ] || kill "$far" 2>/dev/null || true
    for left in $(grep -lzx "PLACES_RUN=$run" /proc/[0-9]*/environ 2>/dev/null | sed 's,[^0-9],,g'); do
        kill -KILL "$left" 2>/dev/null || true
    done
    [ -z "$far" ] || wait "$far" 2>/dev/null || true
    rm -rf "$scratch"
}
run=${PLACES_RUN:+$PLACES_RUN/}far.$$.$(date +%s%N)
trap clean_up EXIT
trap 'exit 143' HUP INT TERM

near_address=10.213.7.1 far_address=10.213.7.2 far_second=10.213.7.3
ip link set lo up
mkfifo "$scratch/up" "$scratch/joined" "$scratch/listening"
mkdir "$scratch/home"
ssh-keygen -q -t ed25519 -N '' -f "$scratch/host"
ssh-keygen -q -t ed25519 -N '' -f "$scratch/user"
[ "$(id -u)" != 0 ] || [ -d /run/sshd ] || mkdir /run/sshd
cat >"$scratch/sshd_config" <<EOF
Port 22
ListenAddress $far_address
HostKey $scratch/host
AuthorizedKeysFile $scratch/user.pub
UsePAM no
StrictModes no
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
UseDNS no
Subsystem sftp internal-sftp
SetEnv HOME=$scratch/home PLACES_RUN=$run
EOF
printf '%s %s\n' "$far_address" "$(cut -d' ' -f1,2 "$scratch/host.pub")" >"$scratch/known_hosts"
cat >"$scratch/ssh_config" <<EOF
Host far
    HostName $far_address
    User $(id -un)
    IdentityFile $scratch/user
    IdentitiesOnly yes
    UserKnownHostsFile $scratch/known_hosts
EOF

# shellcheck disable=SC2016  # for the shell over there
unshare -m -n --propagation private sh -c '
    set -eu
    scratch=$1 hidden=$2 address=$3 second=$4
    mount -t tmpfs none "$hidden"
    cd /
    ip link set lo up
    echo >"$scratch/up"
    read -r _ <"$scratch/joined"
    ip address add "$address/24" dev far0
    ip address add "$second/24" dev far0
    ip link set far0 up
    until ip -o link show far0 | grep -q "state UP"; do sleep 0.05; done
    exec /usr/sbin/sshd -D -e -f "$scratch/sshd_config" 2>"$scratch/listening"
' sh "$scratch" "$hidden" "$far_address" "$far_second" &
far=$!
read -r _ <"$scratch/up"
why=$(ip link add near0 type veth peer name far0 netns "$far" 2>&1) || skip "no veth pair: $why"
ip address add "$near_address/24" dev near0
ip link set near0 up
echo >"$scratch/joined"
# Open for as long as sshd writes its log.
exec 3<"$scratch/listening"
while read -r line <&3; do
    case $line in *"Server listening"*) break ;; esac
done
cat <&3 >"$scratch/log" &
# Each side drops what is sent until the kernel has noticed that the other one is up, which it may do
# seconds later where many devices change.
until ip -o link show near0 | grep -q 'state UP'; do sleep 0.05; done

export FAR_CONFIG="$scratch/ssh_config" FAR_ADDRESS="$far_address" FAR_LINK=near0
export FAR_HIDDEN="$hidden" FAR_SECOND="$far_second"
for argument in "$@"; do
    shift
    case $argument in
        FAR) set -- "$@" far ;;
        CONFIG) set -- "$@" "$FAR_CONFIG" ;;
        *) set -- "$@" "$argument" ;;
    esac
done
got=0
"$@" 3<&- || got=$?
[ "$got" = 0 ] || sed 's/^/sshd: /' "$scratch/log" >&2
exit "$got"
