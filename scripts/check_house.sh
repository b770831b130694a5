#!/bin/sh
# check_house.sh [DIR]
#
# Whether the C code of DIR, or of this repository, is as docs/architecture.md draws it: every file in a room,
# every include of a file of the same room or of a room that this one may see, no ring of files, no file above
# 600 lines, no function above 80.
set -eu
cd "${1:-$(dirname "$0")/..}"
LC_ALL=C
export LC_ALL

# A room, what it may include besides itself, and which libraries. It stands below those that it may include.
ROOMS='
core/base   :
core/conn   : core/base
core/stream : core/base core/conn
core/tls    : core/base core/conn core/stream                              : openssl
core/dist   : core/base core/conn core/tls                                 : openssl
core/pipe   : core/base core/conn
core/pool   : core/base core/conn core/pipe
nif         : core/base core/conn core/stream core/tls core/dist core/pipe core/pool : openssl erl_nif.h
node/base   : core/base
node/etf    : core/base node/base                                          : ei.h
node/dist   : core/base core/dist node/base node/etf
node/option : core/base core/conn core/tls core/dist core/pool node/base node/etf : openssl
node/uv     : core/base core/conn core/pool node/base node/dist            : uv.h
node/pool   : core/base core/conn core/tls core/dist core/pool node/base node/etf node/option node/uv
node/serve  : core/base core/conn core/dist core/pool node/base node/etf node/dist node/option node/uv node/pool
node/run    : core/base core/dist node/base node/etf node/dist node/option node/uv node/pool node/serve : openssl uv.h ei.h jansson.h
'

check='
function complain(text) { print text; failed = 1 }
function room_of(path) { sub(/\/[^\/]*$/, "", path); return path }
function base_of(path) { sub(/\.[ch]$/, "", path); return path }

# A file and its header are one.
function arrow(from, to) {
    if (from != to && !((from, to) in drawn)) {
        drawn[from, to] = 1
        arrows[from] = arrows[from] " " to
    }
}

function include(path, name,    to) {
    to = name ~ /\// ? name : room_of(path) "/" name
    if (name == "declarations.h" || name ~ /^(pool|tls)_rows\.h$/) # made by the build
        return
    if (name ~ /\.\./ || !(to in exists))
        complain(path ": includes " name ", which is no file from c_src/ on, nor one of its room")
    else if (room_of(to) != room_of(path) && !((room_of(path), room_of(to)) in may))
        complain(path ": includes " to ", which " room_of(path) " may not")
    else
        arrow(base_of(path), base_of(to))
}

function library(path, name,    of) {
    of = name ~ /^openssl\// ? "openssl" : name
    if ((of in guarded) && !((room_of(path), of) in may_use))
        complain(path ": includes <" name ">, which " room_of(path) " may not")
}

function walk(file, way,    list, count, i) {
    if (state[file] == "done")
        return
    if (state[file] == "open") {
        complain("a ring:" substr(way, index(way, " " file " ")))
        return
    }
    state[file] = "open"
    count = split(arrows[file], list, " ")
    for (i = 1; i <= count; i++)
        walk(list[i], way list[i] " ")
    state[file] = "done"
}

FILENAME == "-" {
    if (split($0, part, /[ \t]*:[ \t]*/) < 2)
        next
    rooms[room = part[1]] = 1
    count = split(part[2], below, " ")
    for (i = 1; i <= count; i++) {
        if (!(below[i] in rooms) || below[i] == room)
            complain("check_house.sh: " room " may not include " below[i] ", which does not stand above it")
        may[room, below[i]] = 1
    }
    count = split(part[3], libraries, " ")
    for (i = 1; i <= count; i++) {
        may_use[room, libraries[i]] = 1
        guarded[libraries[i]] = 1
    }
    next
}
FNR == 1 {
    if (files == 0) {
        for (i = 1; i < ARGC; i++)
            if (sub(/^c_src\//, "", ARGV[i])) {
                exists[ARGV[i]] = 1
                ARGV[i] = "c_src/" ARGV[i]
            }
    }
    files++
    begun = 0
    path = FILENAME
    inside = sub(/^c_src\//, "", path)
    if (inside && !(room_of(path) in rooms))
        complain(FILENAME ": is in no room")
}
FNR == 601 { complain(FILENAME ": more than 600 lines") }
inside && /^#[ \t]*include[ \t]*"/ { split($0, part, "\""); include(path, part[2]) }
inside && /^#[ \t]*include[ \t]*</ { split($0, part, /[<>]/); library(path, part[2]) }
/^\{/ { begun = FNR }
/^\}/ {
    if (begun && FNR - begun - 1 > 80)
        complain(FILENAME ":" begun ": a function of " FNR - begun - 1 " lines")
    begun = 0
}
END {
    for (file in arrows)
        walk(file, " " file " ")
    if (files == 0)
        complain("no C files found")
    exit failed
}
'

FILES=$(find c_src test/c test/nif test/fuzz bench -name '*.[ch]' 2>/dev/null | grep -v '/bin/' | sort)
echo "$ROOMS" | awk "$check" - $FILES
