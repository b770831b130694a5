#!/usr/bin/env bash
# timed.sh [-k] TARGET...
#
# Makes one target after another, by the make in MAKE, and says how long each took. Ends at the first that fails; with -k
# after the last, and says which have failed.
go_on=
[ "${1:-}" = -k ] && go_on=1 && shift
failed=()
for target in "$@"; do
    echo "== $target"
    began=$SECONDS
    if ${MAKE:-make} --no-print-directory "$target"; then
        echo "== $target took $((SECONDS - began)) s"
    else
        echo "== $target FAILED"
        failed+=("$target")
        [ -n "$go_on" ] || break
    fi
done
[ ${#failed[@]} -eq 0 ] || { echo "== FAILED: ${failed[*]}"; exit 1; }
