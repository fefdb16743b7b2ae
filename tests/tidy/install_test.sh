#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Proves what tests/install.sh does about missing packages, on a machine made of stand-ins.
#   install_test.sh CASE
set -eu
. "$(dirname "$0")/expect.sh"
top=$here/../..

# stand_in NAME LINE…: a program that is the machine's only one of that name.
mkdir "$scratch/bin"
stand_in() {
    name=$1
    shift
    printf '%s\n' '#!/bin/sh' "$@" >"$scratch/bin/$name"
    chmod +x "$scratch/bin/$name"
}
machine() {
    for tool in sh env grep sed cat; do ln -s "$(command -v $tool)" "$scratch/bin/$tool"; done
    for tool in g++ clang++ cmake ninja pkg-config capnp spin mold \
        dpkg-shlibdeps file groff doxygen; do stand_in $tool 'cat >/dev/null'; done
    : >"$scratch/log"
    : >"$scratch/absent"
    stand_in dpkg-query "for name; do :; done" \
        "case \$name in libboost1.8[^1]-dev) exit 1 ;; esac" \
        "grep -qx \"\$name\" '$scratch/absent' || echo installed"
    stand_in apt-cache 'case $1 in show) echo "Package: $2" ;; *) echo " Depends: clang-14" ;; esac'
    stand_in apt-get "echo \"apt-get \$* by \$DEBIAN_FRONTEND\" >>'$scratch/log'"
    stand_in id 'echo 0'
}
is_user() {
    stand_in id 'echo 1000'
    stand_in sudo "echo \"sudo \$*\" >>'$scratch/log'" 'exec "$@"'
}
install() { env "PATH=$scratch/bin" sh -c '. "$0"; install_packages "$1"' "$top/tests/install.sh" "$1"; }
logged() {
    grep -qF -e "$1" "$scratch/log" && return
    echo "nothing like \"$1\" was run, but:"
    cat "$scratch/log"
    exit 1
}

case_nothing_is_run_where_all_is_there() {
    machine
    for what in build tests; do expect 0 '' install $what; done
    [ ! -s "$scratch/log" ]
    [ ! -s "$scratch/output" ]
}
case_what_is_missing_is_said_and_installed() {
    machine
    echo libcapnp-dev >"$scratch/absent"
    rm "$scratch/bin/spin" "$scratch/bin/ninja"
    expect 0 'Installing: ninja-build spin libcapnp-dev' install tests
    logged 'apt-get update'
    logged 'ninja-build spin libcapnp-dev by noninteractive'
}
case_a_faster_linker_comes_along_and_is_never_missed() {
    machine
    rm "$scratch/bin/mold"
    expect 0 '' install tests
    [ ! -s "$scratch/log" ]
    rm "$scratch/bin/spin"
    expect 0 'Installing: spin mold' install tests
    logged 'spin mold by noninteractive'
}
case_an_example_needs_no_test_package() {
    machine
    echo libgtest-dev >"$scratch/absent"
    rm "$scratch/bin/spin"
    expect 0 '' install build
    [ ! -s "$scratch/log" ]
}
case_an_sshd_for_the_tests_is_neither_started_nor_enabled() {
    machine
    echo openssh-server >"$scratch/absent"
    for tool in chmod rm; do ln -s "$(command -v $tool)" "$scratch/bin/$tool"; done
    PLACES_POLICY=$scratch/policy-rc.d
    export PLACES_POLICY
    stand_in apt-get "[ \$1 != install ] || { '$PLACES_POLICY'; echo policy: \$? >>'$scratch/log'; }"
    stand_in systemctl "echo systemctl \$* >>'$scratch/log'"
    expect 0 'neither started nor enabled' install tests
    logged 'policy: 101'
    logged 'systemctl --quiet disable ssh.service ssh.socket'
    [ ! -e "$PLACES_POLICY" ]
    stand_in apt-get '[ $1 != install ]'
    : >"$scratch/log"
    expect 1 'Could not install: openssh-server' install tests
    logged 'systemctl --quiet disable ssh.service ssh.socket'
    [ ! -e "$PLACES_POLICY" ]
}
case_a_policy_of_the_machine_is_left_alone() {
    machine
    echo openssh-server >"$scratch/absent"
    PLACES_POLICY=$scratch/policy-rc.d
    export PLACES_POLICY
    echo mine >"$PLACES_POLICY"
    expect 0 'Installing: openssh-server' install tests
    [ "$(cat "$PLACES_POLICY")" = mine ]
}
case_a_user_installs_through_sudo() {
    machine
    is_user
    echo libcapnp-dev >"$scratch/absent"
    expect 0 'Installing: libcapnp-dev' install build
    logged 'sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y'
    logged 'libcapnp-dev by noninteractive'
}
case_a_user_without_sudo_is_told_what_to_install() {
    machine
    is_user
    rm "$scratch/bin/sudo"
    echo libcapnp-dev >"$scratch/absent"
    expect 1 'To install by hand: libcapnp-dev' install build
    [ ! -s "$scratch/log" ]
}
case_a_failed_installation_ends_it_naming_the_packages() {
    machine
    echo libcapnp-dev >"$scratch/absent"
    stand_in apt-get 'case $1 in install) exit 100 ;; esac'
    expect 1 'Could not install: libcapnp-dev' install build
}
case_a_machine_without_apt_is_told_what_it_lacks() {
    machine
    echo libcapnp-dev >"$scratch/absent"
    rm "$scratch/bin/apt-get"
    expect 1 'There is no apt-get here' install build
}
case_one_may_look_after_the_packages_oneself() {
    machine
    echo libcapnp-dev >"$scratch/absent"
    PLACES_INSTALL=no expect 0 '' install build
    [ ! -s "$scratch/log" ]
}
case_a_compiler_that_is_not_there_is_named() {
    machine
    CXX=nothing++ expect 1 'CXX=nothing++: there is no such compiler' install build
}
case_an_unknown_example_is_refused_with_the_list() {
    expect 2 'There is no example "nope"' sh "$top/examples/run.sh" nope
    grep -qx 02_named "$scratch/output"
}

run_case "$@"
