#!/bin/sh
# needs.sh ERLANG_INCLUDE [FLAG...]      with the compiler in CC; the flags are those for OpenSSL's headers
#
# Says which package is missing, where the compiler's own first error would only name a file.
set -u
erlang=$1
shift
status=0

compiles() { # LINES [FLAG...]
    lines=$1
    shift
    # shellcheck disable=SC2086 # a command with arguments
    printf '%b\n' "$lines" | ${CC:-cc} "$@" -x c -fsyntax-only - >/dev/null 2>&1
}

missing() { # WHAT PACKAGE
    echo "sockpool cannot be compiled: $1 (Debian: apt-get install $2)" >&2
    status=1
}

if ! compiles 'int x;'; then
    missing "there is no C compiler '${CC:-cc}'" gcc
elif ! compiles '#include <stdlib.h>'; then
    missing "the C library's headers are missing" libc6-dev
else
    compiles '#include <erl_nif.h>' -isystem "$erlang" ||
        missing "Erlang's header erl_nif.h is not in $erlang" erlang-dev
    if ! compiles '#include <openssl/ssl.h>' "$@"; then
        missing "OpenSSL's headers are missing" libssl-dev
    elif ! compiles '#include <openssl/ssl.h>\n#if OPENSSL_VERSION_NUMBER < 0x10101000L\n#error\n#endif' "$@"; then
        missing "OpenSSL is older than 1.1.1" libssl-dev
    fi
fi
exit $status
