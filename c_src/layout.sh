#!/bin/sh
# layout.sh DIR...
#
# Prints a number for all that two versions of the library would share in a running VM, where one takes over
# from the other: the headers in and below these directories, and every struct, union, enum and macro in the
# .c files.
# Comments and white space do not count, nor do functions in .c files. Whatever else changes gives another
# number, and so no upgrade while it runs: there is nothing that somebody has to remember.
set -eu
LC_ALL=C
export LC_ALL

# Without comments; a text with two slashes or their like in it is none of ours.
declarations='
function uncommented(line,    out, at) {
    out = ""
    while (line != "") {
        if (inside) {
            at = index(line, "*/")
            if (at == 0) return out
            line = substr(line, at + 2)
            inside = 0
        } else {
            at = match(line, /\/[*\/]/)
            if (at == 0) return out line
            out = out substr(line, 1, at - 1)
            if (substr(line, at, 2) == "//") return out
            line = substr(line, at + 2)
            inside = 1
        }
    }
    return out
}
FNR == 1 { wanted = FILENAME ~ /\.h$/ ? "file" : ""; inside = 0 }
{ line = uncommented($0) }
!wanted && line ~ /^(typedef )?(struct|union|enum)( [a-z_0-9]+)? \{/ { wanted = "type" }
!wanted && line ~ /^#[ \t]*define/ { wanted = "macro" }
wanted { text = line; gsub(/[ \t]/, "", text); printf "%s", text }
(wanted == "type" && line ~ /^\}/) || (wanted == "macro" && line !~ /\\$/) { wanted = "" }
'

for dir in "$@"; do
    find "$dir" -name '*.h' | sort
    find "$dir" -name '*.c' | sort
done | xargs awk "$declarations" | cksum | cut -d ' ' -f 1
