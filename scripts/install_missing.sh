#!/usr/bin/env bash
# install_missing.sh GROUP...    (groups: build test gleam bench fuzz debian13)
#
# Installs the Debian packages that the named groups need and this machine lacks, and
# nothing else. Where there is no apt-get it only checks. Exit status 0 means that
# everything needed is there.
set -u
cd "$(dirname "$0")/.." || exit 1

LOG=logs/apt.log

# One line per requirement: group, Debian package, and how to tell that it is there
# already, from a package or otherwise.
REQUIREMENTS='
build  gcc                 command gcc
build  libc6-dev           header  stdio.h
build  make                command make
build  erlang-base         command erl
build  erlang-dev          erlang_header erl_nif.h
build  rebar3              command rebar3
build  libssl-dev          header  openssl/ssl.h
build  libuv1-dev          header  uv.h
build  libjansson-dev      header  jansson.h
build  pkgconf             command pkg-config
test   erlang-eunit        erlang_app eunit
test   erlang-common-test  erlang_app common_test
test   erlang-dialyzer     erlang_app dialyzer
test   erlang-tools        erlang_app tools
test   erlang-proper       erlang_app proper
test   libcriterion-dev    header  criterion/criterion.h
test   clang-format        command clang-format
test   spin                command spin
test   valgrind            command valgrind
test   openssl             command openssl
test   erlang-ssl          erlang_app ssl
test   stunnel4            command stunnel4
test   nginx-light         command nginx
test   iproute2           command ip
test   elixir              command mix
test   erlang-p1-pgsql     erlang_app p1_pgsql
test   postgresql          server  postgres
test   erlang-redis-client erlang_app redis_client
test   redis-server        command redis-server
test   memcached           command memcached
test   snapserver          command snapserver
test   python3-aiosmtpd    command aiosmtpd
test   erlang-jiffy        erlang_app jiffy
test   git                 command git
test   erlang-poolboy      erlang_app poolboy
test   prometheus          command promtool
gleam  nodejs              gleam_or  node
gleam  npm                 gleam_or  npm
debian13 debootstrap        command debootstrap
fuzz   clang               command clang
fuzz   libclang-rt-14-dev  fuzzer  -
bench  erlang-poolboy      erlang_app poolboy
bench  erlang-jiffy        erlang_app jiffy
bench  erlang-redis-client erlang_app redis_client
bench  redis-server        command redis-server
bench  redis-tools         command redis-benchmark
bench  erlang-ssl          erlang_app ssl
bench  gnuplot-nox         command gnuplot
bench  iproute2            command ip
'

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

has_command() {
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null
}

has_server() { # a program that Debian keeps out of PATH
    compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null
}

has_header() {
    echo "#include <$1>" | cc -E -x c - >/dev/null 2>&1
}

has_fuzzer() {
    echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }' |
        clang -fsanitize=fuzzer -x c - -o /dev/null 2>/dev/null
}

erlang_says_true() {
    local answer
    answer=$(erl -noinput -eval "io:format(\"~p\", [$1]), halt()." 2>/dev/null)
    [ "$answer" = true ]
}

has_erlang_app() {
    erlang_says_true "is_list(code:lib_dir($1))"
}

has_erlang_header() {
    erlang_says_true "filelib:is_regular(code:root_dir() ++ \"/usr/include/$1\")"
}

# Node.js runs a compiler of Gleam where there is no gleam program.
has_gleam_or() {
    has_command gleam || has_command "$1"
}

missing_packages() { # GROUP
    local group package kind probe
    while read -r group package kind probe; do
        if [ "$group" = "$1" ] && ! is_installed "$package" && ! "has_$kind" "$probe"; then
            echo "$package"
        fi
    done <<<"$REQUIREMENTS"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

may_become_root() {
    [ "$(id -u)" -eq 0 ] || has_command sudo
}

install_packages() { # PACKAGE...
    mkdir -p "$(dirname "$LOG")"
    {
        as_root apt-get update &&
            as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y --no-install-recommends "$@"
    } >"$LOG" 2>&1
}

groups=("$@")
[ "${#groups[@]}" -gt 0 ] || { echo "usage: $0 build|test|gleam|bench|fuzz|debian13 ..." >&2; exit 2; }
for group in "${groups[@]}"; do
    case "$group" in
    build | test | gleam | bench | fuzz | debian13) ;;
    *) echo "$0: no such group: $group (there are build, test, gleam, bench, fuzz and debian13)" >&2; exit 2 ;;
    esac
done

mapfile -t missing < <(for group in "${groups[@]}"; do missing_packages "$group"; done)
[ "${#missing[@]}" -gt 0 ] || exit 0

if ! has_command apt-get; then
    echo "Missing here: ${missing[*]} (names of Debian packages). Please install them." >&2
    exit 1
fi
if ! may_become_root; then
    echo "Missing here: ${missing[*]}. Run as root or install sudo, or install them yourself." >&2
    exit 1
fi
echo "Installing ${missing[*]} (log: $LOG)"
if ! install_packages "${missing[@]}"; then
    echo "apt-get failed. The end of $LOG:" >&2
    tail -n 20 "$LOG" >&2
    exit 1
fi
