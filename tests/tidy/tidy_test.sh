#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Proves that each check of tidy.sh and headers.cmake can fail, on a small tree with one fault.
#   tidy_test.sh CASE
set -eu
. "$(dirname "$0")/expect.sh"

tree=$scratch/tree
# put FILE LINE…: a source file with its licence, and #pragma once in a header.
put() {
    file=$tree/$1
    shift
    mkdir -p "$(dirname "$file")"
    echo "// SPDX-License-Identifier: Apache-2.0" >"$file"
    case $file in *.hpp) echo "#pragma once" >>"$file" ;; esac
    [ $# = 0 ] || printf '%s\n' "$@" >>"$file"
}
# A tree that every check passes.
good_tree() {
    put shm/include/places/shm/ring.hpp '#include <atomic>' \
        '// Edges (grep a name to see both ends):' \
        '//   [publish]  tag  producer release -> consumer acquire  the bytes are complete' \
        'inline std::atomic<int> tag;'
    put shm/include/places/shm/detail/bits.hpp
    put shm/ring.cpp '#include <places/shm/ring.hpp>' '#include "shm/detail/hidden.hpp"' \
        'void write() {' \
        '    // release [publish]: all is copied.' \
        '    tag.store(1, std::memory_order_release);' \
        '    // relaxed: only this side writes it.' \
        '    tag.load(std::memory_order_relaxed);' \
        '    tag.load(std::memory_order_acquire);  // acquire [publish]' \
        '}'
    put shm/detail/hidden.hpp
    put core/include/places/core/place.hpp '#include <places/shm/ring.hpp>'
    put core/detail/encode.hpp
    put core/place.cpp '#include <places/core/place.hpp>' '#include "core/detail/encode.hpp"'
    put net/bridge.hpp '#include <places/core/place.hpp>' '#include <boost/asio.hpp>'
    put launcher/include/places/places.hpp '#include <places/core/place.hpp>'
    put launcher/node.cpp '#include "net/bridge.hpp"'
    put examples/bank.hpp
    put examples/01_hello.cpp '#include <places/places.hpp>' '#include "bank.hpp"' '#include <string>' \
        '#include <boost/asio/co_spawn.hpp>' '#include <boost/describe.hpp>'
    put tests/core/encode_test.cpp '#include "core/detail/encode.hpp"' '#include "net/bridge.hpp"'
    put bench/ring.cpp '#include <places/shm/ring.hpp>'
    for name in CMakeLists.txt CMakePresets.json LICENSE README.md; do
        echo "SPDX-License-Identifier: Apache-2.0" >"$tree/$name"
    done
    echo 'project(places VERSION 1.2.3 LANGUAGES CXX)' >>"$tree/CMakeLists.txt"
    printf '%s\n' '## [Unreleased]' '## [1.2.3] - 2026-01-02' '## [1.2.2] - 2026-01-01' \
        >"$tree/CHANGELOG.md"
}
finds() { expect 1 "$2" sh "$here/tidy.sh" "$1" "$tree"; }
passes() { expect 0 '' sh "$here/tidy.sh" "$1" "$tree"; }

case_a_good_tree_passes() {
    good_tree
    mkdir -p "$tree/build" "$tree/.ci"
    for check in includes edges top_level files version; do passes $check; done
}
case_an_empty_tree_does_not_pass() {
    mkdir -p "$tree"
    finds includes "nothing to look at"
    finds edges "nothing to look at"
    finds files "nothing to look at"
    finds top_level "missing"
    finds version "missing"
}
case_a_version_without_a_changelog_entry_is_found() {
    good_tree
    sed -i 's/1\.2\.3/1.3.0/' "$tree/CMakeLists.txt"
    finds version 'CHANGELOG.md:0: the newest release is "1.2.3", the project has "1.3.0"'
}

case_an_include_to_the_right_is_found() {
    good_tree
    put shm/wrong.cpp '' '#include <places/core/place.hpp>'
    finds includes "shm/wrong.cpp:3: places/core/place.hpp: shm includes core"
    rm "$tree/shm/wrong.cpp"
    put core/wrong.hpp '#  include "net/bridge.hpp"'
    finds includes "core includes net, which is to its right"
    rm "$tree/core/wrong.hpp"
    put net/wrong.hpp '#include <places/places.hpp>'
    finds includes "net includes launcher, which is to its right"
    rm "$tree/net/wrong.hpp"
    put core/wrong.capnp 'using Wire = import "/net/wire.capnp";'
    finds includes "core includes net, which is to its right"
}
case_a_library_that_includes_a_test_is_found() {
    good_tree
    put net/wrong.cpp '#include "tests/support/pair.hpp"'
    finds includes "net includes tests"
}
case_a_path_upward_is_found() {
    good_tree
    put shm/wrong.cpp '#include "../core/detail/encode.hpp"'
    finds includes "hides which folder"
}
case_a_detail_of_another_folder_is_found() {
    good_tree
    put core/wrong.cpp '#include "shm/detail/hidden.hpp"'
    finds includes "shm/detail is for shm/ and tests/shm/"
    put core/wrong.cpp '#include <places/shm/detail/bits.hpp>'
    finds includes "shm/detail is for shm/ and tests/shm/"
    rm "$tree/core/wrong.cpp"
    put tests/net/wrong_test.cpp '#include "core/detail/encode.hpp"'
    finds includes "core/detail is for core/ and tests/core/"
    rm "$tree/tests/net/wrong_test.cpp"
    put bench/wrong.cpp '#include <places/shm/detail/bits.hpp>'
    finds includes "shm/detail is for shm/ and tests/shm/"
}
case_an_example_with_other_than_public_headers_is_found() {
    good_tree
    for include in '"net/bridge.hpp"' '<boost/asio.hpp>' '<unistd.h>' '"hidden.hpp"' \
        '<places/shm/detail/bits.hpp>'; do
        put examples/02_wrong.cpp "#include $include"
        finds includes "examples/02_wrong.cpp:2: "
    done
}

case_an_ordered_operation_without_an_edge_is_found() {
    good_tree
    for order in memory_order_acquire memory_order_release memory_order_acq_rel \
        memory_order_seq_cst memory_order::acquire; do
        put shm/wrong.cpp '// acquire [publish]: three lines above is too far.' '' '' \
            "int a = tag.load(std::$order);"
        finds edges "shm/wrong.cpp:5: an atomic operation with an order names no [edge]"
    done
}
case_an_operation_without_an_order_is_found() {
    good_tree
    for operation in 'tag.load();' 'p->tag.store(1);' 'tag.fetch_add(f(1, 2),' \
        'a.load(std::memory_order_relaxed) + b.load();  // relaxed: alone'; do
        put shm/wrong.cpp "$operation" '3);'
        finds edges "shm/wrong.cpp:2: an atomic operation without an order names no [edge]"
    done
}
case_an_order_on_the_next_line_is_seen() {
    good_tree
    put shm/right.cpp 'tag.fetch_add(f(1, 2),' '// release [publish]: as above.' \
        '    std::memory_order_release);'
    passes edges
}
case_a_relaxed_operation_without_a_reason_is_found() {
    good_tree
    put shm/wrong.cpp '// [publish]: not the reason' 'tag.load(std::memory_order_relaxed);'
    finds edges "shm/wrong.cpp:3: a relaxed operation does not say why"
}
case_an_undeclared_edge_is_found() {
    good_tree
    put shm/wrong.cpp 'tag.load(std::memory_order_acquire);  // acquire [reclaim]' \
        'tag.store(0, std::memory_order_release);  // release [reclaim]' \
        '//   [reclaim]  looks like a declaration, outside the block'
    finds edges "[reclaim] is not declared"
}
case_an_edge_with_one_end_is_found() {
    good_tree
    put shm/wrong.cpp '// Edges:' '//   [bell]  word  one -> other  it rang' 'int x;' \
        'tag.load(std::memory_order_acquire);  // acquire [bell]'
    finds edges "[bell] is cited 1 times"
    put shm/wrong.cpp '// Edges:' '//   [bell]  word  one -> other  it rang'
    finds edges "[bell] is cited 0 times"
}
case_an_edge_declared_twice_is_found() {
    good_tree
    put shm/wrong.cpp '// Edges:' '//   [publish]  again'
    finds edges "[publish] is declared twice"
}

case_a_stray_or_missing_top_level_entry_is_found() {
    good_tree
    mkdir "$tree/util"
    finds top_level "util:0: does not belong"
    rmdir "$tree/util"
    rm "$tree/LICENSE"
    finds top_level "LICENSE:0: missing"
}

case_a_file_without_licence_is_found() {
    for bare in core/a.hpp core/a.cpp core/a.capnp core/CMakeLists.txt tests/a.sh CMakeLists.txt; do
        good_tree
        echo "one line" >"$tree/$bare"
        finds files "$bare:1: no SPDX-License-Identifier"
        rm "$tree/$bare"
    done
}
case_a_header_without_pragma_once_is_found() {
    good_tree
    echo "// SPDX-License-Identifier: Apache-2.0" >"$tree/core/a.hpp"
    finds files "core/a.hpp:1: no #pragma once"
}
case_a_line_over_100_columns_is_found() {
    good_tree
    long=$(printf '//%098d' 0)
    put core/a.cpp "$long" "${long%00}→→"
    passes files
    put core/a.cpp "$long" "${long}→"
    finds files "core/a.cpp:3: 101 columns"
}

# Builds the headers of $tree/include, each alone, with the compiler in CXX.
build_headers() {
    cat >"$tree/CMakeLists.txt" <<CMAKE
cmake_minimum_required(VERSION 3.25)
project(headers LANGUAGES CXX)
include($here/headers.cmake)
places_check_headers(headers \${CMAKE_CURRENT_SOURCE_DIR}/include)
CMAKE
    "${CMAKE:-cmake}" -S "$tree" -B "$tree/build" || return 2
    # What failure is called differs between make and ninja.
    "${CMAKE:-cmake}" --build "$tree/build" || return 1
}
case_a_header_that_needs_another_does_not_build() {
    put include/places/a.hpp '#include <string>'
    put include/places/sub/b.hpp '#include <places/a.hpp>' 'inline std::string b;'
    expect 0 '' build_headers
    put include/places/sub/c.hpp 'inline std::string c;'
    expect 1 "places/sub/c.hpp" build_headers
}

run_case "$@"
