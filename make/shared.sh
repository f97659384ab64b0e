# What the scripts of this directory share; read by `.`, from the top of the clone.  Needs nothing but sh and coreutils.

user=$(id -u)
tab='  %-10s %s'

# Centiseconds since the machine started: POSIX date(1) counts whole seconds only.
now() {
    read -r up _ </proc/uptime
    echo "${up%.*}${up#*.}"
}

# since TIME: "1.2 s"
since() {
    passed=$(($(now) - $1))
    echo "$((passed / 100)).$((passed % 100 / 10)) s"
}

say() { printf '%s\n' "$*"; }

# Where root works in somebody else's clone (sudo make ...): what we made belongs to the clone's owner.
give_back() {
    [ "$user" = 0 ] || return 0
    owner=$(stat -c %u:%g .)
    [ "${owner%:*}" = 0 ] && return 0
    find .build dist src/dolium/programs .hypothesis -xdev -user 0 -exec chown -h "$owner" {} + 2>/dev/null
    find src tests demo make docs -xdev -name __pycache__ -prune -exec chown -hR "$owner" {} + 2>/dev/null
    return 0
}

# How to become root for one command: nothing for root, empty and false where it cannot be done.  SUDO= does without.
SUDO=${SUDO-sudo}
has_sudo() { [ -n "$SUDO" ] && command -v "$SUDO" >/dev/null 2>&1; }
can_be_root() {
    [ "$user" = 0 ] && SUDO='' && return 0
    has_sudo || return 1
    "$SUDO" -n true 2>/dev/null && return 0
    [ -t 0 ] && "$SUDO" -v
}

version_of() { "$1" -IS -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }

is_new_enough() { "$1" -IS -c 'import sys, os, _socket; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The Python that Dolium is to run with: sets `python` and `why`, or returns 1 and sets `refused`.
choose_python() {
    if [ -n "${DOLIUM_PYTHON:-}" ]; then
        is_new_enough "$DOLIUM_PYTHON" || { say "DOLIUM_PYTHON=$DOLIUM_PYTHON is no Python of 3.11 or newer." >&2; exit 1; }
        python=$DOLIUM_PYTHON why="DOLIUM_PYTHON says so"
        return 0
    fi
    refused=
    for each in /usr/bin/python3 /usr/local/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        each=$(command -v "$each") || continue
        if is_new_enough "$each"; then
            python=$each why="the system's own"
            [ "$each" = /usr/bin/python3 ] || why="the first of 3.11 or newer, after ${refused:-no /usr/bin/python3}"
            return 0
        fi
        refused="$refused${refused:+, }$each ($(version_of "$each"))"
    done
    return 1
}
