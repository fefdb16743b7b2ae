# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What examples/run.sh and tests/run.sh share; sourced from the top folder by any POSIX shell.
#   install_packages build|tests         what is missing on Debian 12 or Ubuntu 24.04; nothing when all is there
#   configure PRESET [cmake argument…]   build/PRESET, with Ninja when it is new
#   build PRESET [target…]               under the command prefix $under
# PLACES_INSTALL=no leaves the machine alone, for libraries that did not come as packages.
# CXX names another compiler; it has to be there.

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

is_installed() { dpkg-query -W -f='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }
# A name that is only mentioned by other packages has no record of its own.
is_known() { apt-cache show "$1" 2>/dev/null | grep -q '^Package:'; }

# The newest Boost 1.8x whose headers are "$1": is_installed or is_known.  Versions exclude each other.
boost_that() {
    for minor in 9 8 7 6 5 4 3 2 1 0; do
        if "$1" "libboost1.8$minor-dev"; then echo "1.8$minor"; return 0; fi
    done
    return 1
}
has_boost() { boost=$(boost_that is_installed) && is_installed "libboost-context$boost-dev"; }

# Whether clang++ can build fuzz targets; libFuzzer is a package apart from it.
has_fuzzer() {
    echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' |
        clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null 2>/dev/null
}
# libFuzzer of the version that the package clang stands for.
fuzzer_package() {
    version=$(apt-cache depends clang | sed -n 's/^ *Depends: clang-\([0-9]*\)$/\1/p')
    is_known "libclang-rt-$version-dev" && echo "libclang-rt-$version-dev"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then env DEBIAN_FRONTEND=noninteractive "$@"
    else sudo env DEBIAN_FRONTEND=noninteractive "$@"
    fi
}

# As a program for sh: runs its arguments, and of what they install nothing starts, now or with the
# machine.  A policy that is there already is whoever's who put it there.
# shellcheck disable=SC2016  # it is that sh that expands it
without_services='
policy=${PLACES_POLICY:-/usr/sbin/policy-rc.d}
made=
leave() {
    # Also what a failed installation has left behind.
    if command -v systemctl >/dev/null; then
        systemctl --quiet disable ssh.service ssh.socket 2>/dev/null
    fi
    if [ "$made" ]; then rm -f "$policy"; fi
}
trap leave EXIT
trap "exit 1" HUP INT TERM
if [ ! -e "$policy" ]; then
    made=1
    printf "%s\\n" "#!/bin/sh" "exit 101" >"$policy"
    chmod 755 "$policy"
fi
"$@"
'

install_packages() {
    [ "${PLACES_INSTALL:-yes}" != no ] || return 0
    missing=
    case ${CXX:-g++} in
        g++ | c++) command -v "${CXX:-c++}" >/dev/null || missing="$missing g++" ;;
        *) command -v "$CXX" >/dev/null || die "CXX=$CXX: there is no such compiler here." ;;
    esac
    command -v cmake >/dev/null || missing="$missing cmake"
    command -v ninja >/dev/null || missing="$missing ninja-build"
    command -v pkg-config >/dev/null || missing="$missing pkg-config"
    command -v capnp >/dev/null || missing="$missing capnproto"
    fuzzer=
    if [ "$1" = tests ]; then
        command -v spin >/dev/null || missing="$missing spin"
        command -v dpkg-shlibdeps >/dev/null || missing="$missing dpkg-dev"
        command -v groff >/dev/null || missing="$missing groff-base"
        command -v doxygen >/dev/null || missing="$missing doxygen"
        command -v file >/dev/null || missing="$missing file"
        has_fuzzer || fuzzer="clang libclang-rt-<version>-dev"
    fi
    libraries="libcapnp-dev libssl-dev libssh2-1-dev"
    [ "$1" = build ] || libraries="$libraries libgtest-dev libbenchmark-dev libcli11-dev libfmt-dev"
    [ "$1" = build ] || libraries="$libraries openssh-server openssh-client iproute2"
    for package in $libraries; do
        is_installed "$package" || missing="$missing $package"
    done
    if has_boost; then
        [ -n "$missing$fuzzer" ] || return 0
        boost_packages=
    else
        boost_packages="libboost1.8x-dev libboost-context1.8x-dev"
    fi

    lacking="$missing${fuzzer:+ $fuzzer}${boost_packages:+ $boost_packages}"
    by_hand="To install by hand:$lacking
With libraries that are not packages, set PLACES_INSTALL=no."
    command -v apt-get >/dev/null || die "Missing:$lacking
There is no apt-get here to install them. $by_hand"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "Missing:$lacking
Installing needs root, and there is no sudo here. $by_hand"

    say "Missing:$lacking"
    say "Running apt-get update…"
    as_root apt-get update -qq >&2 || say "apt-get update failed; going on with the lists at hand."
    if [ -n "$boost_packages" ]; then
        boost=$(boost_that is_installed || boost_that is_known) ||
            die "No package source knows a Boost 1.8x. Is the network reachable? $by_hand"
        missing="$missing libboost$boost-dev libboost-context$boost-dev"
    fi
    if [ -n "$fuzzer" ]; then
        runtime=$(fuzzer_package) || die "No package source knows the libFuzzer of clang. $by_hand"
        missing="$missing clang $runtime"
    fi
    # Nothing needs it, but it links in a fifth of the time.
    if [ "$1" = tests ] && ! command -v mold >/dev/null && is_known mold; then
        missing="$missing mold"
    fi
    say "Installing:$missing"
    set -- apt-get
    case $missing in
        *openssh-server*)
            say "The tests start an sshd of their own; this machine's is neither started nor enabled."
            set -- sh -c "$without_services" sh apt-get
            ;;
    esac
    # --no-remove: an older Boost that somebody put here is in the way, but not ours to take away.
    # shellcheck disable=SC2086  # a list of names
    as_root "$@" install -y -qq --no-install-recommends --no-remove \
        -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 $missing >&2 ||
        die "Could not install:$missing
Is the network reachable, or is another version (libboost1.74-dev, say) in the way? $by_hand"
}

configure() {
    preset=$1
    shift
    # CMake keeps the compiler of a configured directory whatever CXX says later.
    if [ -n "${CXX:-}" ] && [ -f "build/$preset/CMakeCache.txt" ]; then
        kept=$(sed -n 's/^CMAKE_CXX_COMPILER:[A-Z]*=//p' "build/$preset/CMakeCache.txt")
        [ "$kept" = "$(command -v "$CXX")" ] || set -- --fresh "$@"
    fi
    CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja} cmake --preset "$preset" "$@"
}

build() {
    preset=$1
    shift
    # Only Ninja knows targets by path; any other generator builds everything.
    if [ -f "build/$preset/build.ninja" ] && [ $# -gt 0 ]; then set -- --target "$@"; else set --; fi
    ${under:-} cmake --build "build/$preset" --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}" "$@"
}
