#!/bin/sh
# `make run` and `make shell`: choose a root file system, become root where that can be had, and say so first.
set -u
cd "$(dirname "$0")/.." || exit 1
. make/shared.sh
action=$1
trap 'give_back' EXIT
trap 'exit 130' INT TERM

# The newest release of Alpine beside this clone, if there is one.
found_beside() {
    for each in ../shared/rootfs/alpine-minirootfs-[0-9]*.[0-9]*-"$(uname -m)".tar.gz; do
        [ -e "$each" ] && printf '%s\n' "$each"
    done | sort -V | tail -n 1
}

source=${ROOTFS:-$(found_beside)}
if [ -z "$source" ]; then
    rootfs=@host
elif [ -d "$source" ]; then
    rootfs=$(cd "$source" && pwd)
elif [ -f "$source" ]; then
    rootfs=$(cd "$(dirname "$source")" && pwd)/$(basename "$source")
elif [ "$source" = @host ] || [ "$source" = @venv ]; then
    rootfs=$source
else
    say "ROOTFS=$source is neither a directory nor a tarball" >&2
    exit 1
fi

python=$(readlink .build/python)
if [ "$action" = shell ]; then
    set -- bin/dolium run -i -e 'PS1=dolium# ' ${ARGS:-} "$rootfs" sh -i
else
    set -- "$python" -IS demo/main.py "$rootfs"
fi
prefix=
if [ "$user" != 0 ]; then
    if ! has_sudo; then
        say "Running as you, $(id -un): without root there are no limits on memory and CPU to show."
    else
        say "Limits on memory and CPU take root, so this runs: $SUDO $*"
        say "($SUDO may ask for your password; \`make $action SUDO=\` does without it)"
        if can_be_root; then
            prefix=$SUDO
        else
            say "$SUDO is refused: running as you, $(id -un), without limits on memory and CPU."
        fi
    fi
fi
${prefix:+"$prefix"} env DOLIUM_PYTHON="$python" "$@"
