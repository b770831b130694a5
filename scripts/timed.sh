#!/usr/bin/env bash
# timed.sh TARGET...
#
# Makes one target after another, by the make in MAKE, and says how long each took. Ends at the first that fails.
for target in "$@"; do
    echo "== $target"
    began=$SECONDS
    ${MAKE:-make} --no-print-directory "$target" || { echo "== $target FAILED"; exit 1; }
    echo "== $target took $((SECONDS - began)) s"
done
