#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks what the compiler does not.  Prints "file:line: finding" and exits 1 if there is any.
#   tidy.sh includes|edges|top_level|files|version [ROOT]
#
# includes   shm -> core -> net -> launcher: a folder includes itself and those to its left;
#            examples include public headers, std, Asio, Describe and what lies beside them;
#            X/detail/ is for X/ and tests/X/.
# edges      in shm, an ordered atomic operation cites a named edge, a relaxed one says why; an edge
#            is declared and has two ends.  Goes by lines: it sees neither `++x` on an atomic nor
#            whether the two ends fit each other.
# top_level  the top folder holds what it should and nothing else.
# files      licence line, #pragma once, line length.
# version    the newest release in CHANGELOG.md is the version of the project.
set -eu
check=${1:-}
cd "${2:-$(dirname "$0")/../..}"
# Bytes, for every awk alike.
LC_ALL=C
export LC_ALL

# The folders' files whose names end in the pattern $1, one a line.
sources() {
    folders=
    for folder in shm core net launcher examples tests bench; do
        [ ! -d "$folder" ] || folders="$folders $folder"
    done
    [ -n "$folders" ] || return 0
    # shellcheck disable=SC2086  # a list of names
    find $folders -type f | grep -E "($1)\$" | sort
}

# report FINDINGS LOOKED_AT: a check that has looked at nothing has not passed.
report() {
    [ -z "$1" ] || printf '%s\n' "$1"
    if [ "$2" = 0 ]; then echo "tidy: $check found nothing to look at in $PWD"; return 1; fi
    [ -z "$1" ]
}

includes() {
    sources '\.(hpp|cpp|h|capnp)' | awk '
        function exists(path,   line, there) {
            there = (getline line < path) >= 0
            close(path)
            return there
        }
        # The folder that owns an included name, "" for a library or a file beside the includer.
        function owner(name,   i, part) {
            if (sub(/^places\//, "", name))
                for (i = 1; i <= 4; ++i)
                    if (exists(order[i] "/include/places/" name)) return order[i]
            split(name, part, "/")
            return (part[1] in known && name ~ /\//) ? part[1] : ""
        }
        function found(text) { printf "%s:%d: %s: %s\n", file, number, name, text }
        BEGIN {
            split("shm core net launcher", order, " ")
            for (i = 1; i <= 4; ++i) { rank[order[i]] = i; known[order[i]] = 1 }
            known["examples"] = known["tests"] = known["bench"] = 1
        }
        {
            file = $0
            split(file, at, "/")
            own = at[1]
            beside = file
            sub(/[^\/]*$/, "", beside)
            number = 0
            while ((getline line < file) > 0) {
                ++number
                if (line ~ /^[ \t]*#[ \t]*include[ \t]*[<"]/) {
                    sub(/^[^<"]*/, "", line)
                } else if (file ~ /\.capnp$/ && line ~ /import[ \t]*"/) {
                    sub(/^.*import[ \t]*/, "", line)
                } else {
                    continue
                }
                quoted = substr(line, 1, 1) == "\""
                name = substr(line, 2)
                sub(/[>"].*/, "", name)
                if (file ~ /\.capnp$/) sub(/^\//, "", name)
                target = owner(name)

                if (name ~ /(^|\/)\.\.(\/|$)/) {
                    found("a path with .. hides which folder it means")
                } else if (own in rank && target != "" && !(target in rank)) {
                    found(own " includes " target)
                } else if (own in rank && target in rank && rank[target] > rank[own]) {
                    found(own " includes " target ", which is to its right")
                } else if (target in rank && name ~ /\/detail\// && own != target \
                           && !(own == "tests" && at[2] == target)) {
                    found(target "/detail is for " target "/ and tests/" target "/")
                } else if (own == "examples" && !(name ~ /^places\// && name !~ /\/detail\//) \
                           && !(!quoted && name ~ /^[a-z0-9_]+$/) \
                           && !(!quoted && name ~ /^boost\/(asio\/.*|describe\.hpp)$/) \
                           && !(quoted && name !~ /\// && exists(beside name))) {
                    found("examples include public headers, std, Asio and Describe only")
                }
            }
            close(file)
        }'
}

edges() {
    find shm -type f | grep -E '\.(hpp|cpp)$' | sort | awk '
        function comment(line) { return match(line, /\/\//) ? substr(line, RSTART + 2) : "" }
        function code(line) { return match(line, /\/\//) ? substr(line, 1, RSTART - 1) : line }
        function found(place, text) { printf "%s: %s\n", place, text }
        # Sets the first [edge] of text and cuts text behind it; a subscript such as [0] is none.
        function next_edge() {
            if (!match(text, /\[[a-z][a-z0-9_]+\]/)) return 0
            edge = substr(text, RSTART, RLENGTH)
            text = substr(text, RSTART + RLENGTH)
            return 1
        }
        # Whether an atomic call that begins in line n carries no order among its arguments.
        function has_unordered_call(n,   rest, own, begin, i, depth, c) {
            own = length(rest = code(lines[n]))
            if (rest !~ call) return 0
            for (i = n + 1; i <= count && i < n + 6; ++i) rest = rest " " code(lines[i])
            while (match(rest, call) && RSTART <= own) {
                begin = i = RSTART + RLENGTH
                for (depth = 1; depth > 0 && i <= length(rest); ++i) {
                    c = substr(rest, i, 1)
                    depth += (c == "(") - (c == ")")
                }
                if (substr(rest, begin, i - begin) !~ /memory_order|__ATOMIC_/) return 1
                rest = substr(rest, begin)
                own -= begin - 1
            }
            return 0
        }
        BEGIN {
            call = "(\\.|->)(load|store|exchange|fetch_[a-z]+|compare_exchange_[a-z]+|" \
                   "test_and_set)[ \t]*\\("
            strong = "memory_order(_|::)(acquire|release|acq_rel|seq_cst|consume)|" \
                     "__ATOMIC_(ACQUIRE|RELEASE|ACQ_REL|SEQ_CST|CONSUME)"
            weak = "memory_order(_|::)relaxed|__ATOMIC_RELAXED"
        }
        {
            file = $0
            count = 0
            while ((getline line < file) > 0) lines[++count] = line
            close(file)
            declaring = 0
            for (n = 1; n <= count; ++n) {
                line = lines[n]
                at = file ":" n
                if (line ~ /^[ \t]*\/\/+[ \t]*Edges/) declaring = 1
                else if (line !~ /^[ \t]*\/\//) declaring = 0
                if (declaring && line ~ /^[ \t]*\/\/+  +\[[a-z][a-z0-9_]+\] /) {
                    text = line
                    next_edge()
                    if (edge in declared)
                        found(at, edge " is declared twice, first at " declared[edge])
                    declared[edge] = at
                    continue
                }
                near = comment(line)
                if (n > 1) near = near " " comment(lines[n - 1])
                if (n > 2) near = near " " comment(lines[n - 2])
                is_strong = code(line) ~ strong
                is_weak = code(line) ~ weak
                is_unordered = has_unordered_call(n)

                if ((is_strong || is_unordered) && near !~ /\[[a-z][a-z0-9_]+\]/)
                    found(at, "an atomic operation " (is_strong ? "with" : "without") \
                              " an order names no [edge] here or in the 2 lines above")
                if (is_weak && near !~ /relaxed/)
                    found(at, "a relaxed operation does not say why here or in the 2 lines above")
                # Only beside an operation is a bracketed word surely an edge.
                if (is_strong || is_weak || is_unordered)
                    for (text = near; next_edge();) is_edge[edge] = 1
                for (text = comment(line); next_edge();) {
                    ++cited[edge]
                    if (!(edge in first)) first[edge] = at
                }
            }
        }
        END {
            for (edge in declared) is_edge[edge] = 1
            for (edge in is_edge) {
                at = (edge in first) ? first[edge] : declared[edge]
                if (!(edge in declared)) found(at, edge " is not declared in any block \"Edges\"")
                if (cited[edge] < 2)
                    found(at, edge " is cited " (cited[edge] + 0) \
                              " times beside its declaration: an edge has two ends")
            }
        }' | sort -t: -k1,1 -k2,2n
}

top_level() {
    wanted="CHANGELOG.md CMakeLists.txt CMakePresets.json LICENSE README.md"
    wanted="$wanted shm core net launcher examples tests bench"
    for entry in $wanted; do
        [ -e "$entry" ] || echo "$entry:0: missing"
    done
    for entry in *; do
        case " $wanted build " in
            *" $entry "*) ;;
            *) echo "$entry:0: does not belong into the top folder" ;;
        esac
    done
}

files() {
    # Columns are characters: in UTF-8 a byte 10xxxxxx begins none.
    {
        sources '\.(hpp|cpp|h|capnp|sh|cmake)|/CMakeLists\.txt'
        for file in CMakeLists.txt .ci/run; do [ ! -f "$file" ] || echo "$file"; done
    } | awk '
        {
            file = $0
            licence = once = number = 0
            while ((getline line < file) > 0) {
                ++number
                if (number <= 3 && line ~ /SPDX-License-Identifier: Apache-2\.0/) licence = 1
                if (line ~ /^#pragma once/) once = 1
                if (file ~ /\.[hc]pp$/ && length(line) > 100) {
                    gsub(/[\200-\277]/, "", line)
                    if (length(line) > 100)
                        printf "%s:%d: %d columns, 100 are allowed\n", file, number, length(line)
                }
            }
            close(file)
            if (!licence)
                printf "%s:1: no SPDX-License-Identifier: Apache-2.0 in lines 1 to 3\n", file
            if (file ~ /\.(hpp|h)$/ && !once) printf "%s:1: no #pragma once\n", file
        }'
}

version() {
    project=$(sed -n 's/^project(places VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt 2>/dev/null) || true
    released=$(sed -n 's/^## \[\([0-9][0-9.]*\)\].*/\1/p' CHANGELOG.md 2>/dev/null | head -n 1) || true
    [ -n "$project" ] || echo "CMakeLists.txt:0: project(places VERSION …) is missing"
    [ "$project" = "$released" ] ||
        echo "CHANGELOG.md:0: the newest release is \"$released\", the project has \"$project\""
}

case $check in
    version) report "$(version)" 1 ;;
    includes) report "$(includes)" "$(sources '\.(hpp|cpp|h)' | wc -l)" ;;
    edges) report "$(edges)" "$(find shm -name '*.[hc]pp' 2>/dev/null | wc -l)" ;;
    top_level) report "$(top_level)" 1 ;;
    files) report "$(files)" "$(sources '\.(hpp|cpp|h)' | wc -l)" ;;
    *) sed -n '3,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
