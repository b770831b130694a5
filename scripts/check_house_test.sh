#!/bin/sh
# check_house_test.sh
#
# Breaks a copy of the C code in each way that check_house.sh is to see, and looks that it does, and says so.
set -eu
cd "$(dirname "$0")/.."

COPY=$(mktemp -d)
trap 'rm -rf "$COPY"' EXIT
FAILED=0

# sees WHAT FILE TEXT...: with these lines at the end of the file, the check fails and says WHAT.
sees() {
    what=$1 file=$2
    shift 2
    rm -rf "$COPY/c_src"
    cp -R c_src "$COPY"
    printf '%s\n' "$@" >>"$COPY/$file"
    if said=$(scripts/check_house.sh "$COPY" 2>&1) || ! echo "$said" | grep -qF "$what"; then
        echo "check_house.sh does not see this in $file: $what. It says: $said"
        FAILED=1
    fi
}

cp -R c_src "$COPY"
scripts/check_house.sh "$COPY"

sees 'which core/conn may not' c_src/core/conn/sp_conn.c '#include "core/pool/sp_pool.h"'
sees 'which core/base may not' c_src/core/base/sp_list.h '#include "core/conn/sp_conn.h"'
sees 'which node/etf may not' c_src/node/etf/sn_slice.c '#include "node/serve/sn_session.h"'
sees 'which node/run may not' c_src/node/run/sn_main.c '#include "nif/sp_nif.h"'
sees 'which is no file' c_src/nif/sp_nif.c '#include "../core/pool/sp_pool.h"'
sees 'which is no file' c_src/core/pool/sp_pool.c '#include "sp_conn.h"'
sees '<erl_nif.h>, which core/base may not' c_src/core/base/sp_status.c '#include <erl_nif.h>'
sees '<uv.h>, which node/dist may not' c_src/node/dist/sn_queue.c '#include <uv.h>'
sees '<openssl/ssl.h>, which core/pool may not' c_src/core/pool/sp_pool.c '#include <openssl/ssl.h>'
sees 'a ring: core/pool/sp_' c_src/core/pool/sp_pool.c '#include "sp_control.h"'
sees 'a ring: node/' c_src/node/serve/sn_session.c '#include "sn_channel.h"'
sees 'is in no room' c_src/core/sp_stray.c 'int sp_stray;'
sees 'more than 600 lines' c_src/core/pool/sp_pool.c $(seq -f '/*%g*/' 600)
sees 'a function of 81 lines' c_src/core/pool/sp_pool.c 'int f(void)' '{' $(seq -f '/*%g*/' 81) '}'
exit $FAILED
