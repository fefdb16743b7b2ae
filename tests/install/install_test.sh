#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the library and uses it from another project, in each way that the README names.
#   install_test.sh STEP CMAKE SOURCE BUILD WORK
# BUILD is a build folder of the library. WORK keeps what the steps build on:
#   prefix             installs BUILD into WORK/prefix
#   headers            of the headers, all public ones are installed, and no others
#   find_package       a project finds WORK/prefix by CMake
#   pkg_config         a compiler line finds WORK/prefix by pkg-config
#   moved_prefix       the prefix may be moved after it was installed
#   add_subdirectory   a project compiles the sources as a part of its own, static
#   fetch_content      the same through FetchContent, shared; run after add_subdirectory
#   shared_symbols     what that shared library exports and how it is named
#   packages           the Debian packages of that build hold the right files and needs
#   shared_prefix      that shared library, installed, is found by CMake and by pkg-config
# CXX and CMAKE_GENERATOR choose compiler and generator.
set -eu
step=$1 cmake=$2 source=$3 build=$4 work=$5
consumer=$source/tests/install/consumer
mkdir -p "$work/tmp"
# A compiler's temporary files are not for /tmp, which other tests watch.
TMPDIR=$work/tmp
export TMPDIR

fail() { echo "$*"; exit 1; }

# runs PROGRAM: it prints what consumer.cpp says.
runs() {
    said=$(timeout 60 "$1") || fail "$1 ended with status $?"
    [ "$said" = "hello!
42" ] || fail "$1 printed: $said"
}

# configures FOLDER WAY [cmake argument…]
configures() {
    folder=$work/$1 way=$2
    shift 2
    "$cmake" -S "$consumer" -B "$folder" -DCONSUMER_WAY="$way" -DCMAKE_BUILD_TYPE=Debug \
        -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DCMAKE_EXE_LINKER_FLAGS="${LINKER_FLAGS:-}" "$@"
}
builds() { nice -n 19 "$cmake" --build "$work/$1" --target consumer --parallel 2; }

by_find_package() {  # by_find_package FOLDER PREFIX
    configures "$1" find_package -DCMAKE_PREFIX_PATH="$2"
    grep -q "^places_DIR:PATH=$2/" "$work/$1/CMakeCache.txt" ||
        fail "another places was found: $(grep places_DIR "$work/$1/CMakeCache.txt")"
    builds "$1"
    runs "$work/$1/consumer"
}
by_pkg_config() {  # by_pkg_config PROGRAM PREFIX
    PKG_CONFIG_PATH=$(dirname "$(find "$2" -name places.pc)")
    export PKG_CONFIG_PATH
    # shellcheck disable=SC2046,SC2086  # lists of arguments
    nice -n 19 "${CXX:-c++}" -O0 "$consumer/consumer.cpp" -o "$work/$1" \
        $(pkg-config --cflags --libs places) ${LINKER_FLAGS:-}
    runs "$work/$1"
}
shared_library() { find "$1" -name 'libplaces.so.*.*.*' -type f | grep .; }

prefix() {
    rm -rf "$work/prefix"
    "$cmake" --install "$build" --prefix "$work/prefix" >"$work/prefix.log"
}
headers() {
    (cd "$work/prefix/include" && find . -type f | sort) >"$work/installed"
    for folder in shm core net launcher; do
        (cd "$source/$folder/include" && find . -name '*.hpp')
    done | sort >"$work/public"
    [ -s "$work/public" ] || fail "there are no public headers in $source"
    diff "$work/public" "$work/installed" || fail "< is public, > is installed"
}
find_package() { rm -rf "$work/find_package"; by_find_package find_package "$work/prefix"; }
pkg_config() {
    by_pkg_config pkg_config "$work/prefix"
    wanted=$(sed -n 's/^project(places VERSION \([0-9.]*\).*/\1/p' "$source/CMakeLists.txt")
    found=$(pkg-config --modversion places)
    [ "$found" = "$wanted" ] || fail "places.pc has version $found, the project $wanted"
}
moved_prefix() {
    rm -rf "$work/moved" "$work/moved_consumer"
    cp -R "$work/prefix" "$work/moved"
    if grep -rIF "$work/prefix" "$work/moved/lib"*/cmake "$work/moved/lib"*/pkgconfig; then
        fail "these lines name the folder of the first prefix"
    fi
    configures moved_consumer find_package -DCMAKE_PREFIX_PATH="$work/moved"
}
add_subdirectory() {
    rm -f "$work/sources/CMakeCache.txt"  # what an earlier run has set; the objects stay
    configures sources add_subdirectory -DPLACES_SOURCE="$source" -DBUILD_SHARED_LIBS=OFF
    builds sources
    runs "$work/sources/consumer"
    # A project that uses the library installs nothing of it, unless it asks for that.
    rm -rf "$work/nothing"
    "$cmake" --install "$work/sources" --prefix "$work/nothing"
    [ ! -e "$work/nothing" ] || fail "installed: $(find "$work/nothing" -type f)"
}
fetch_content() {
    configures sources fetch_content -DPLACES_SOURCE="$source" -DBUILD_SHARED_LIBS=ON \
        -DPLACES_INSTALL_RULES=ON -DPLACES_PACKAGES=ON
    builds sources
    runs "$work/sources/consumer"
    readelf -d "$work/sources/consumer" | grep -q 'NEEDED.*libplaces' ||
        fail "the program does not use the shared library"
}
shared_symbols() {
    library=$(shared_library "$work/sources")
    soname=$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
    case $(basename "$library") in
        "$soname".*) ;;
        *) fail "SONAME $soname of $library" ;;
    esac
    nm -D --defined-only "$library" | cut -d ' ' -f 3- >"$work/exported"
    c++filt <"$work/exported" | grep -vE '^(.* for )?(places|boost::asio)::' >"$work/foreign" || true
    [ ! -s "$work/foreign" ] || { cat "$work/foreign"; fail "the library exports these, too"; }
    c++filt <"$work/exported" | grep -q '^places::runtime::runtime(' ||
        fail "the library does not export places::runtime"
}
shared_prefix() {
    rm -rf "$work/shared_prefix" "$work/shared_consumer"
    "$cmake" --install "$work/sources" --prefix "$work/shared_prefix" >"$work/shared_prefix.log"
    by_find_package shared_consumer "$work/shared_prefix"
    LD_LIBRARY_PATH=$(dirname "$(shared_library "$work/shared_prefix")")
    export LD_LIBRARY_PATH
    by_pkg_config shared_pkg_config "$work/shared_prefix"
}
# holds PACKAGE FILE: the files and links of a Debian package are those that FILE names, one a line.
holds() {
    dpkg-deb --fsys-tarfile "$1" | tar -t | grep -v '/$' | sort >"$work/packed"
    sort "$2" | diff - "$work/packed" || fail "< should be in $1, > is in it"
}
# needs PACKAGE PATTERN…: each is among what the package depends on.
needs() {
    package=$1
    shift
    depends=$(dpkg-deb -f "$package" Depends)
    for pattern; do
        echo "$depends" | grep -qE "(^|, )$pattern(,|$)" ||
            fail "$package depends on \"$depends\", which lacks $pattern"
    done
}
packages() {
    configures sources fetch_content -DPLACES_CLI=ON
    nice -n 19 "$cmake" --build "$work/sources" --target places_cli --parallel 2
    rm -rf "$work/packages" "$work/root"
    (cd "$work" && "${cmake%cmake}cpack" --config "$work/sources/places/CPackConfig.cmake" \
        -B "$work/packages")
    version=$(sed -n 's/^project(places VERSION \([0-9.]*\).*/\1/p' "$source/CMakeLists.txt")
    api=${version%.*}
    machine=$(dpkg --print-architecture)
    runtime=$work/packages/libplaces${api}_${version}_$machine.deb
    dev=$work/packages/libplaces-dev_${version}_$machine.deb
    tools=$work/packages/places_${version}_$machine.deb
    [ "$(find "$work/packages" -maxdepth 1 -name '*.deb' | wc -l)" = 3 ] || fail "not three packages"

    printf './usr/lib/%s\n' "libplaces.so.$api" "libplaces.so.$version" >"$work/wanted"
    holds "$runtime" "$work/wanted"
    {
        for folder in shm core net launcher; do
            (cd "$source/$folder/include" && find . -name '*.hpp' | sed 's,^\.,./usr/include,')
        done
        printf './usr/lib/%s\n' libplaces.so pkgconfig/places.pc cmake/places/places-config.cmake \
            cmake/places/places-config-version.cmake cmake/places/places-targets.cmake \
            cmake/places/places-targets-debug.cmake
    } >"$work/wanted"
    holds "$dev" "$work/wanted"
    printf './usr/%s\n' bin/places lib/systemd/system/places-node.service \
        share/man/man1/places.1 >"$work/wanted"
    holds "$tools" "$work/wanted"

    needs "$runtime" 'libc6 .*' 'libcapnp-.*' 'libssh2-1.*'
    needs "$dev" "libplaces$api \\(= $version\\)" 'libboost-context.*-dev'
    needs "$tools" "libplaces$api \\(= $version\\)" 'libc6 .*'
    for package in "$runtime" "$tools"; do dpkg-deb -x "$package" "$work/root"; done
    LD_LIBRARY_PATH=$work/root/usr/lib "$work/root/usr/bin/places" --help >"$work/help"
    grep -qx 'ExecStart="/usr/bin/places" node .*' \
        "$work/root/usr/lib/systemd/system/places-node.service" || fail "the unit starts something else"
}

case $step in
    prefix | headers | find_package | pkg_config | moved_prefix | add_subdirectory | fetch_content | \
        shared_symbols | shared_prefix | packages) "$step" ;;
    *) fail "there is no step $step" ;;
esac
