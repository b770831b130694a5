#!/usr/bin/env bash
# node_checked.sh asan | valgrind [SUITE...]
#
# Runs the suites of pools, or those that are named (such as: stress), against the daemon priv/sockpool_node as built with AddressSanitizer and
# UndefinedBehaviorSanitizer, or under valgrind's memcheck, with its asserts on. Fails when a case does, at
# the first error, and on memory that was lost when the daemon has ended orderly. Reports are
# logs/node_asan.* or logs/node_valgrind.*.
set -u
cd "$(dirname "$0")/.." || exit 1

REBAR3=${REBAR3:-rebar3}
KIND=${1:?asan or valgrind}
shift
DIR=$PWD/_build/node_$KIND
LOG=$PWD/logs/node_$KIND
POOLS="c_node_pools c_node_connect c_node_stress node_config node"

build() {
    make -s -C c_src "$@" TARGET="$DIR/sockpool_nif.so" OUT="$DIR/obj" "$DIR/sockpool_node"
}

mkdir -p logs "$DIR"
rm -f "$LOG".*
case $KIND in
asan)
    build CC=gcc CFLAGS="-O1 -g" SANITIZE=address,undefined || exit 1
    export SOCKPOOL_NODE=$DIR/sockpool_node
    SUITES=${*:-c_ops c_node c_node_limits $POOLS}
    export ASAN_OPTIONS="halt_on_error=1:exitcode=99:log_path=$LOG"
    export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:exitcode=99:log_path=$LOG"
    ;;
valgrind)
    build CFLAGS="-O1 -g -fno-omit-frame-pointer -UNDEBUG" || exit 1
    export SOCKPOOL_NODE=$DIR/checked_node
    cat >"$SOCKPOOL_NODE" <<WRAPPER
#!/bin/sh
exec valgrind -q --error-exitcode=99 --log-file=$LOG.%p --leak-check=full \\
    --show-leak-kinds=definite,possible --errors-for-leak-kinds=definite,possible --num-callers=20 "$DIR/sockpool_node" "\$@"
WRAPPER
    chmod +x "$SOCKPOOL_NODE"
    # Of those of the daemon's operation others start too many of them, or look at what is valgrind's there.
    [ $# -gt 0 ] || $REBAR3 ct --suite test/sockpool_c_ops_SUITE --case without_port,stop_timeout || exit 1
    SUITES=${*:-$POOLS}
    ;;
*)
    echo "usage: $0 asan | valgrind" >&2
    exit 2
    ;;
esac

status=0
[ $# -gt 0 ] || for suite in remote remote_ends remote_node; do
    $REBAR3 ct --suite "test/sockpool_${suite}_SUITE" --group c || status=1
done
# All of them in one run: each start of rebar3 takes seconds.
# shellcheck disable=SC2086 # a list of names
$REBAR3 ct --suite "$(printf ',test/sockpool_%s_SUITE' $SUITES | cut -c 2-)" || status=1
reports=$(find logs -name "$(basename "$LOG").*" -size +0)
if [ -n "$reports" ]; then
    cat $reports >&2
    exit 1
fi
if [ "$status" -ne 0 ]; then
    echo "node_checked: a suite failed" >&2
    exit 1
fi
echo "node_checked $KIND: no error"
