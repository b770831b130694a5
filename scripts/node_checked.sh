#!/usr/bin/env bash
# node_checked.sh asan | valgrind [SUITE...]
#
# Runs the suites of the daemon priv/sockpool_node, or those that are named (such as: stress), against it as
# built with AddressSanitizer and UndefinedBehaviorSanitizer, or under valgrind's memcheck, with its asserts
# on; under valgrind fewer cases of them (below). Fails when a case does, at
# the first error, and on memory that was lost when the daemon has ended orderly. Reports are
# logs/node_asan.* or logs/node_valgrind.*.
set -u
cd "$(dirname "$0")/.." || exit 1

REBAR3=${REBAR3:-rebar3}
KIND=${1:?asan or valgrind}
shift
DIR=$PWD/_build/node_$KIND
# Where all users may write, for a daemon may run as another one: the sanitizers of GCC 14 end it at its start
# where they cannot.
REPORTS=$(mktemp -d) && chmod 1777 "$REPORTS" || exit 1
trap 'rm -rf "$REPORTS"' EXIT
LOG=$REPORTS/node_$KIND
# Its own, for the two kinds may run at the same time.
export REBAR_BASE_DIR=$PWD/_build/rebar_$KIND

# Each daemon takes seconds under valgrind: to start, to run what it has not run before, and to be looked
# through at its end. All cases run under AddressSanitizer, which sees the same overruns and nearly the same
# leaks; what valgrind sees more is what was never written, and what a thread took with it. For that each path
# is taken once here: not again under load, with data that is only larger, by another Erlang program, or up to
# a refusal of the command line.
run_few() {
    run test/sockpool_c_node_pools_SUITE --group c
    run test/sockpool_c_node_pools_SUITE --case drained_at_sigterm,second_sigterm
    run test/sockpool_c_node_stress_SUITE
    run test/sockpool_framing_SUITE --group c_node --case as_options_of_a_connection,info_says_which,refused
    run test/sockpool_c_node_pipeline_SUITE --case a_node_goes,cancelled,drained_at_sigterm,of_a_file
    run test/sockpool_pipeline_SUITE --group c_tcp --case "each_gets_its_own,large_and_small,given_up,too_many_wait,\
closed_under_way,unwritten_goes_elsewhere,too_big,stopped"
    run test/sockpool_pipeline_SUITE --group c_tls --case each_gets_its_own
    run test/sockpool_c_node_connect_SUITE --case "ticks_while_leased,killed_under_calls,wrong_cookie,\
not_a_node,tls,plain_to_tls,hostile_frames,replies_to_nobody,cut_frame,clients_die"
    run test/sockpool_node_config_SUITE --case "same_errors,same_errors_of_tls,options_in_any_order,changed_pool,\
files_of_tls,broken_files_of_tls,without_a_file,needs_restart,all_of_the_file,broken_file"
    run test/sockpool_node_SUITE --case serves,tls_pool,killed_without_a_file,stop_timeouts
    run test/sockpool_c_ops_SUITE --case without_port,stop_timeout
    run test/sockpool_c_metrics_SUITE --case many_pools,requests,slow_reader,silent_ones,garbage,unix_socket,draining
}

build() {
    make -s -C c_src "$@" TARGET="$DIR/sockpool_nif.so" OUT="$DIR/obj" "$DIR/sockpool_node"
}

mkdir -p logs "$DIR"
rm -f logs/node_"$KIND".*
case $KIND in
asan)
    build CC=gcc CFLAGS="-O1 -g" SANITIZE=address,undefined || exit 1
    export SOCKPOOL_NODE=$DIR/sockpool_node
    SUITES=${*:-c_ops c_metrics c_node c_node_limits c_node_pools c_node_connect c_node_pipeline c_node_stress node_config node}
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
    SUITES=$*
    ;;
*)
    echo "usage: $0 asan | valgrind" >&2
    exit 2
    ;;
esac

status=0
# Those of a suite that follow, or all of several suites: each start of rebar3 takes seconds.
run() {
    $REBAR3 ct --logdir "logs/ct_$KIND" --suite "$@" || status=1
}

# shellcheck disable=SC2086 # a list of names
[ -z "$SUITES" ] || run "$(printf ',test/sockpool_%s_SUITE' $SUITES | cut -c 2-)"
if [ $# -eq 0 ]; then
    for suite in remote remote_ends remote_node; do
        run "test/sockpool_${suite}_SUITE" --group c
    done
    if [ "$KIND" = asan ]; then
        run test/sockpool_framing_SUITE --group c_node
        run test/sockpool_update_SUITE --group c
        run test/sockpool_ageing_SUITE --group c_tcp,c_tls,c_node
        run test/sockpool_pipeline_SUITE --group c_tcp,c_unix,c_tls
    else
        run_few
    fi
fi
find "$REPORTS" -type f -size +0 -exec mv {} logs/ \;
reports=$(find logs -name "node_$KIND.*")
if [ -n "$reports" ]; then
    cat $reports >&2
    exit 1
fi
if [ "$status" -ne 0 ]; then
    echo "node_checked: a suite failed" >&2
    exit 1
fi
echo "node_checked $KIND: no error"
