#!/usr/bin/env bash
# asan_vm.sh
#
# Runs test/nif/sockpool_exercise.erl in a VM with AddressSanitizer preloaded and the NIF built with it
# and with UndefinedBehaviorSanitizer. Sees overruns of the C stack and use after return of a
# function, which valgrind does not; but no leaks, which valgrind does. Fails when the exercise does
# or at the first report. Reports are logs/asan.log.*.
set -u
cd "$(dirname "$0")/.." || exit 1
. scripts/exercise_vm.sh

DIR=_build/asan/sockpool
LOG=logs/asan.log

# The options: leaks are searched by valgrind; the VM brings its own signal stacks, and checks for
# itself what malloc returns.
run_sanitized() {
    LD_PRELOAD="$(gcc -print-file-name=libasan.so)" \
    ASAN_OPTIONS="detect_leaks=0:use_sigaltstack=0:allocator_may_return_null=1:halt_on_error=1:abort_on_error=0:exitcode=99:log_path=$PWD/$LOG" \
    UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:exitcode=99:log_path=$PWD/$LOG" \
        "$EMULATOR" "${EMULATOR_ARGS[@]}"
}

mkdir -p logs
rm -f "$LOG".*
build_exercise "$DIR" CC=gcc CFLAGS="-O1 -g" SANITIZE=address,undefined || exit 1
set_emulator "$DIR" || exit 1

run_sanitized
status=$?
reports=$(find logs -name "$(basename "$LOG").*" -size +0)
if [ -n "$reports" ]; then
    cat $reports >&2
    exit 1
fi
if [ "$status" -ne 0 ]; then
    echo "asan: the exercise failed (exit status $status)" >&2
    exit 1
fi
echo "asan: no error"
