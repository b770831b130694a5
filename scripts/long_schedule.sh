#!/usr/bin/env bash
# long_schedule.sh [DIR]
#
# Runs test/nif/sockpool_long_schedule.erl in a VM: how long one call keeps a scheduler. With a library that measures
# each call (test/nif/timed_nif.c), where the linker can put it together. DIR is another build of
# sockpool (one that has ebin and priv), to compare with; that one does not measure.
set -eu
cd "$(dirname "$0")/.."

DIR=_build/long_schedule
BUILD=$DIR/sockpool
${REBAR3:-rebar3} compile
rm -rf "$BUILD"
mkdir -p "$BUILD/priv"
cp -RL _build/default/lib/sockpool/ebin "$BUILD"
if [ "$(uname -s)" = Linux ]; then
    INCLUDE=$(erl -noshell -noinput -eval 'io:format("~ts/usr/include", [code:root_dir()]), halt().')
    ${CC:-cc} -std=c11 -D_GNU_SOURCE -O2 -fPIC -Wall -Wextra -Werror -Ic_src -isystem "$INCLUDE" -c \
        -o "$DIR/timed_nif.o" test/nif/timed_nif.c
    make -s -C c_src OUT="../$DIR/c_src" TARGET="../$BUILD/priv/sockpool_nif.so" \
        CFLAGS='-O2 -g -Dnif_init=sockpool_nif_init' \
        LDFLAGS="-Wl,--wrap=sp_nif_charge -Wl,--wrap=enif_open_resource_type_x ../$DIR/timed_nif.o" \
        "../$BUILD/priv/sockpool_nif.so"
else
    cp priv/sockpool_nif.so "$BUILD/priv"
fi
for module in nif/sockpool_long_schedule kit/sockpool_test_server kit/sockpool_test_util kit/sockpool_tls_peers; do
    erlc -o "$DIR" "test/$module.erl"
done
ulimit -n 20000
exec erl +P 500000 -noshell -noinput -pa "$DIR" "${1:-$BUILD}/ebin" -run sockpool_long_schedule main
