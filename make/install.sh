#!/bin/sh
# make install | uninstall: below PREFIX, as root where that takes root, and says so first.
set -u
cd "$(dirname "$0")/.." || exit 1
. make/shared.sh
action=$1
trap 'give_back' EXIT
trap 'exit 130' INT TERM
PREFIX=${PREFIX:-/usr/local} DESTDIR=${DESTDIR:-}

choose_python || { say "Dolium needs Python 3.11 or newer; here is: ${refused:-none}." >&2; exit 1; }
set -- "$python" -IS make/install.py "$action" "$PREFIX" ${DESTDIR:+"$DESTDIR"}
place=$DESTDIR$PREFIX
while [ ! -e "$place" ] && [ "$place" != "${place%/*}" ]; do place=${place%/*}; done
prefix=
if [ "$user" != 0 ] && ! [ -w "${place:-/}" ]; then
    say "To change $DESTDIR$PREFIX takes root, so this runs: $SUDO $*"
    can_be_root || { say "not done: you are not root and sudo is absent or refused; PREFIX=\$HOME/.local needs no root." >&2; exit 1; }
    prefix=$SUDO
fi
[ "$action" = uninstall ] || say "python     $python $(version_of "$python")  ($why)"
${prefix:+"$prefix"} "$@" || exit 1
[ "$action" = install ] && [ -z "$DESTDIR" ] && "$PREFIX/bin/dolium" --version
for each in /var/lib/dolium /run/dolium; do
    [ "$action" = uninstall ] && [ -d "$each" ] && left="${left:-}${left:+, }$each"
done
[ -n "${left:-}" ] && say "Containers and what they need stay in $left; \`bin/dolium system reset\` of this clone, as root, removes them."
exit 0
