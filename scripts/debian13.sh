#!/usr/bin/env bash
# debian13.sh COMMAND...      such as: debian13.sh make test
#
# Runs the command on a copy of this tree in a Debian 13 of its own, a folder that debootstrap fills the first
# time (a minute or two) and that is kept, with what was installed and built there. Needs root.
# SOCKPOOL_DEBIAN13 names the folder; the default is in the user's cache.
set -eu
cd "$(dirname "$0")/.."

DIR=${SOCKPOOL_DEBIAN13:-${XDG_CACHE_HOME:-$HOME/.cache}/sockpool/debian13}
TREE=/root/sockpool
[ $# -gt 0 ] || { echo "usage: $0 COMMAND..." >&2; exit 2; }
[ "$(id -u)" -eq 0 ] || { echo "$0: only root can make a Debian in a folder" >&2; exit 1; }

# Whole or not there: a folder that was left half made is no Debian.
make_debian() {
    local half=$DIR.half
    scripts/install_missing.sh debian13
    echo "Making a Debian 13 in $DIR (log: logs/debootstrap.log)"
    rm -rf "$half"
    mkdir -p "$half" logs
    debootstrap --variant=minbase --include=ca-certificates,git,make,iproute2,procps trixie "$half" >logs/debootstrap.log 2>&1 ||
        { tail -n 20 logs/debootstrap.log >&2; exit 1; }
    mv "$half" "$DIR"
}

# What this machine needs to reach its registries.
copy_settings() {
    cp /etc/hosts /etc/resolv.conf "$DIR/etc/"
    cp -r /etc/apt/apt.conf.d/. "$DIR/etc/apt/apt.conf.d/"
    cp -r /usr/local/share/ca-certificates "$DIR/usr/local/share/"
    chroot "$DIR" update-ca-certificates >/dev/null 2>&1
}

# What git tracks or would track. What was built there stays, and what is gone here goes there.
copy_tree() {
    mkdir -p "$DIR$TREE"
    find "$DIR$TREE" -mindepth 1 -maxdepth 1 ! -name _build ! -name logs -exec rm -rf {} +
    git ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' file; do [ -e "$file" ] && printf '%s\0' "$file"; done |
        tar -c --null -T - | tar -x -C "$DIR$TREE"
    cp -r .git "$DIR$TREE/"
}

[ -d "$DIR" ] || make_debian
copy_settings
copy_tree

# The mounts end with the command.
export DIR TREE
exec unshare --mount --pid --fork --kill-child bash -eu -c '
    # Tests make mount namespaces, which needs a root that is mounted.
    mount --rbind "$DIR" "$DIR"
    mount -t proc proc "$DIR/proc"
    mount --rbind /dev "$DIR/dev"
    mount --rbind /sys "$DIR/sys"
    mount -t tmpfs tmpfs "$DIR/tmp"
    mount -t tmpfs tmpfs "$DIR/run"
    mkdir -p "$DIR/run/netns"
    exec chroot "$DIR" /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt NPM_CONFIG_CAFILE=/etc/ssl/certs/ca-certificates.crt \
        bash -c "cd $TREE && exec \"\$@\"" bash "$@"' bash "$@"
