#!/bin/sh
# Take away all that `make` has made, and the empty directories that Dolium has left on this host.
set -u
cd "$(dirname "$0")/.." || exit 1
. make/shared.sh

host_directories() {
    while read -r _ _ _ _ point rest; do
        case $rest in
        *" - cgroup2 "* | *" - cgroup "*)
            find "$point" -xdev -depth -type d \( -name dolium -o -name dolium.caller \) 2>/dev/null ;;
        esac
    done </proc/self/mountinfo
    for top in /run/dolium /var/lib/dolium "/tmp/dolium-$user" "/var/tmp/dolium-$user" \
        ${XDG_RUNTIME_DIR:+"$XDG_RUNTIME_DIR/dolium"} "${XDG_DATA_HOME:-${HOME:-}/.local/share}/dolium"; do
        for each in "$top/leases" "$top/running" "$top/containers" "$top/names" "$top/rootfs/seen" "$top/rootfs" "$top"; do
            [ -d "$each" ] && printf '%s\n' "$each"
        done
    done
    return 0
}

# Unpacked tarballs that no container uses are this clone's, and nobody misses them.
[ -e src/dolium/programs/dolium-init ] && bin/dolium prune --rootfs >/dev/null 2>&1

# Only rmdir, which refuses what is not empty: a container that lives keeps its groups and its lease.
for each in $(host_directories); do rmdir "$each" 2>/dev/null; done
left=$(host_directories)
if [ -n "$left" ] && [ "$user" != 0 ]; then
    say "Root's containers have left these directories on this host:" $left
    if has_sudo; then
        say "to remove them takes root, so this runs: $SUDO rmdir (make clean SUDO= leaves them)"
        # shellcheck disable=SC2086
        can_be_root && "$SUDO" rmdir $left 2>/dev/null
        left=$(host_directories)
    fi
fi
[ -n "$left" ] && say "Not removed, because not empty (a container lives?) or not yours:" $left

# A container's files that belong to others stay where the one who cleans may not remove them; that is said.
rm -rf .build dist src/dolium/programs .hypothesis .pytest_cache .mypy_cache .ruff_cache || exit 1
find src tests demo make examples docs -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null
exit 0
