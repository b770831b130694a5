#!/usr/bin/env bash
# long_schedule.sh [DIR]
#
# Runs test/sockpool_long_schedule.erl in a VM: how long one call keeps a scheduler. DIR is another build
# of sockpool (one that has ebin and priv), to compare with.
set -u
cd "$(dirname "$0")/.." || exit 1

BUILD=_build/default/lib/sockpool
DIR=_build/long_schedule
${REBAR3:-rebar3} compile || exit 1
mkdir -p "$DIR"
for module in long_schedule test_server test_util tls_peers scripts; do
    erlc -o "$DIR" "test/sockpool_$module.erl" || exit 1
done
ulimit -n 20000
exec erl +P 500000 -noshell -noinput -pa "$DIR" "${1:-$BUILD}/ebin" -run sockpool_long_schedule main
