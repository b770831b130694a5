# For valgrind_vm.sh and asan_vm.sh, which source this: a build of sockpool in a directory of its
# own, with test/nif/sockpool_exercise.erl, and how to start the emulator on it without erlexec.
#
# SOCKPOOL_TLS_CONNECTS=N in the environment: instead of the exercise, N connects to the benchmark's
# TLS server.
# SOCKPOOL_STRESS_SECONDS=N: instead of the exercise, test/pool/sockpool_stress.erl for so long.

EXERCISE_MODULES="sockpool_exercise sockpool_exercise_util sockpool_exercise_leases \
    sockpool_exercise_bytes sockpool_exercise_pools sockpool_exercise_nif sockpool_exercise_pipes sockpool_exercise_tls sockpool_exercise_workers sockpool_exercise_node sockpool_fake_node \
    sockpool_scripted_peer sockpool_test_port sockpool_stress sockpool_test_util sockpool_test_server"

# build_exercise DIR [MAKE_VARIABLE...]    DIR must end in /sockpool, by which code:priv_dir knows it
build_exercise() {
    local dir=$1 module
    shift
    mkdir -p "$dir/ebin" "$dir/priv"
    "${REBAR3:-rebar3}" compile || return 1
    cp _build/default/lib/sockpool/ebin/* "$dir/ebin/" || return 1
    for module in $EXERCISE_MODULES; do
        erlc -Werror +debug_info -o "$dir/ebin" test/*/"$module.erl" || return 1
    done
    if [ -n "${SOCKPOOL_TLS_CONNECTS:-}" ]; then
        make -s -C bench bin/tls_echo_server || return 1
    fi
    make -s -C c_src TARGET="$PWD/$dir/priv/sockpool_nif.so" OUT="$PWD/$dir/obj" "$@"
}

# Sets EMULATOR and EMULATOR_ARGS to run the exercise from DIR, and the variables that erlexec would
# set. Only with the system's malloc (+Mea min) is a block of the NIF a block to the tools. Schedulers
# sleep when they have nothing to do (+sbwt none): valgrind runs one thread at a time, and one that
# spins keeps the others from running, for half a minute at times. Stacks of 8 MB for the schedulers
# (+sss): the JIT moves the stack pointer between such a stack and Erlang's, in the heap, and memcheck
# takes moves of less than 2 MB for calls and returns. It forgets all that lies in between then, and
# finds leaks that are none.
# Heaps of 400 KB (+hms): a process's stack grows down to its heap, and the JIT keeps three words between them free for
# what it calls on that stack. Under memcheck those calls need more, as of memcpy, which is memcheck's own there: in a heap
# that is nearly full they wrote into terms, and the collector crashed.
# usage: set_emulator DIR
set_emulator() {
    local main=sockpool_exercise
    [ -z "${SOCKPOOL_STRESS_SECONDS:-}" ] || main=sockpool_stress
    mapfile -t EMULATOR_ARGS < <(
        erl +S 2 +hms 50000 +Mea min +sbwt none +sbwtdcpu none +sbwtdio none +sss 1024 +sssdcpu 1024 +sssdio 1024 \
            -noshell -noinput -pa "$1/ebin" -run "$main" main -emu_args_exit
    )
    ROOTDIR=$(value_after -root)
    BINDIR=$(value_after -bindir)
    EMU=beam
    PROGNAME=erl
    export ROOTDIR BINDIR EMU PROGNAME
    EMULATOR=$BINDIR/beam.smp
    [ -x "$EMULATOR" ] || { echo "no emulator at $EMULATOR" >&2; return 1; }
}

value_after() { # FLAG among EMULATOR_ARGS
    local i
    for ((i = 0; i < ${#EMULATOR_ARGS[@]} - 1; i++)); do
        if [ "${EMULATOR_ARGS[$i]}" = "$1" ]; then
            echo "${EMULATOR_ARGS[$((i + 1))]}"
            return
        fi
    done
}
