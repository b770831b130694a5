#!/usr/bin/env bash
# valgrind_vm.sh
#
# Runs test/nif/sockpool_exercise.erl in a VM under valgrind's memcheck. Fails when the exercise does,
# on any memory error that is not the emulator's own doing (see valgrind_errors.awk), and on memory
# that the NIF allocated and nothing points to any more. The log is logs/valgrind.log.
set -u
cd "$(dirname "$0")/.." || exit 1
. scripts/exercise_vm.sh

DIR=_build/valgrind/sockpool
LOG=logs/valgrind.log

memcheck() {
    # smc-check: the emulator's JIT changes code in place.
    # undef-value-errors: the JIT keeps Erlang's stack in the heap and moves the stack pointer there,
    # upon which memcheck forgets what is initialised: nearly every Erlang term "is" undefined.
    # fair-sched: threads take turns, or one that never blocks starves the rest.
    # max-stackframe: nor does it take a move to a heap that happens to lie near a scheduler's stack for a call.
    # Not a longer list of freed blocks than usual: memcheck searches it from end to end for each of
    # the JIT's thousands of false errors, and all threads stand still meanwhile, with ten times the
    # usual length for up to a minute.
    valgrind --fair-sched=yes --smc-check=all --child-silent-after-fork=yes --log-file="$LOG" \
        --undef-value-errors=no --error-limit=no --num-callers=10 --max-stackframe=100000 \
        --leak-check=full --show-leak-kinds=definite \
        "$EMULATOR" "${EMULATOR_ARGS[@]}"
}

mkdir -p logs
# With asserts, and with frames that memcheck can name.
build_exercise "$DIR" CFLAGS="-O1 -g -fno-omit-frame-pointer -UNDEBUG" || exit 1
set_emulator "$DIR" || exit 1

memcheck
status=$?
[ "$status" -eq 0 ] || echo "valgrind: the exercise failed (exit status $status)" >&2
awk -v object=sockpool_nif.so -f scripts/valgrind_errors.awk "$LOG" && [ "$status" -eq 0 ]
