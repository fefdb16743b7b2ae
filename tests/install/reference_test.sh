#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Doxygen makes the reference of the public headers without a warning.
#   reference_test.sh DOXYGEN DOXYFILE FOLDER
# FOLDER is for what Doxygen makes. The second half proves that Doxygen would complain: it gets a header
# with one wrong comment.
set -eu
doxygen=$1 file=$2 folder=$3
fail() { echo "$*"; exit 1; }
rm -rf "$folder"
mkdir -p "$folder/wrong/include"

# made [SETTING]: what the Doxyfile says, with one setting changed
made() {
    { cat "$file"; echo "OUTPUT_DIRECTORY = $folder"; echo "${1:-}"; } >"$folder/Doxyfile"
    "$doxygen" "$folder/Doxyfile" >"$folder/log" 2>&1
}
made || { cat "$folder/log"; fail "Doxygen complains"; }
for page in classplaces_1_1channel classplaces_1_1runtime classplaces_1_1async__channel; do
    [ -s "$folder/$page.html" ] || fail "the reference lacks $page.html"
done

printf '%s\n' '#pragma once' '/// @param nothing is no parameter of' 'void f(int something);' \
    >"$folder/wrong/include/wrong.hpp"
if made "INPUT = $folder/wrong/include"; then fail "Doxygen accepts a wrong comment"; fi
grep -q 'wrong.hpp:2' "$folder/log" || { cat "$folder/log"; fail "Doxygen fails for another reason"; }
