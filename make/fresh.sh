#!/bin/sh
# make test-fresh: the lines of README.md, on a Debian that has nothing but what every Debian has.
#
# As root, as a user with sudo, and as one without; what is missing there (python3-venv, above all) must be installed or named.
# Each in a root of its own below .build/fresh, in a mount namespace of its own; the clone is of what is committed.
# FRESH="root sudoer user" chooses, SUITE= the release, MIRROR= whence.
set -u
cd "$(dirname "$0")/.." || exit 1
. make/shared.sh
place=$(pwd)/.build/fresh
failed=0

missing=
for each in debootstrap unshare git ip; do
    command -v "$each" >/dev/null 2>&1 || missing="$missing, $each"
done
[ "$user" = 0 ] || missing="$missing, root"
[ -z "$missing" ] || { say "not run: missing ${missing#, }."; exit 0; }

# What this host needs to reach the network: names, mirrors, a proxy's certificate.
NETWORK='etc/resolv.conf etc/hosts etc/apt/sources.list etc/apt/sources.list.d etc/apt/apt.conf.d etc/pip.conf etc/xdg/pip
         etc/ssl/certs/ca-certificates.crt usr/local/share/ca-certificates'

base() {
    suite=${SUITE:-$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)}
    mirror=${MIRROR:-http://deb.debian.org/debian}
    [ -e "$place/base-$suite.tar" ] && return 0
    debootstrap --variant=minbase "$suite" "$place/base" "$mirror" || return 1
    rm -rf "$place/base/var/cache/apt/archives/"*.deb
    tar -C "$place/base" -cf "$place/base.tar" . && mv "$place/base.tar" "$place/base-$suite.tar"
    rm -rf "$place/base"
}

# within USER LINE: carried out in the root, by that user, in the home directory or the clone; with offline=1 without a network
# but the loopback, which everybody has
within() {
    # shellcheck disable=SC2016
    unshare --mount ${offline:+--net} --propagation private sh -c '
        set -e
        root=$1 user=$2 line=$3
        [ -z "$4" ] || ip link set lo up
        mount --bind "$root" "$root"
        cd "$root"
        mount -t proc proc proc
        mount -t sysfs sysfs sys
        mount --rbind /sys/fs/cgroup sys/fs/cgroup
        mount --rbind /dev dev
        mkdir -p .old
        pivot_root . .old
        umount -l /.old
        home=$(sed -n "s/^$user:\([^:]*:\)\{4\}\([^:]*\):.*/\2/p" /etc/passwd)
        cd "$home"
        [ ! -d dolium ] || cd dolium
        exec env -i HOME="$home" USER="$user" LOGNAME="$user" TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups sh -c "$line"
    ' sh "$place/root" "$1" "$2" "$offline" </dev/null
}

# line WORD USER LINE [CODE]: one line of output; it must end so
line() {
    began=$(now)
    within "$2" "$3" >"$place/line.log" 2>&1
    code=$?
    { printf '\n== %s: %s\n' "$2" "$3"; cat "$place/line.log"; } >>"$log"
    result="$(tail -n 1 "$place/line.log" | cut -c 1-100)"
    if [ "$code" = "${4:-0}" ]; then
        # shellcheck disable=SC2059
        printf "$tab  (%s)\n" "$1" "$2: $(printf '%s' "$3" | head -n 1 | cut -c 1-40)  $result" "$(since "$began")"
        return 0
    fi
    # shellcheck disable=SC2059
    printf "$tab  (%s)\n" "$1" "$2: $3  FAILED, exit code $code" "$(since "$began")"
    tail -n 30 "$place/line.log"
    failed=1
    return 1
}

# said PATTERN: the last line's output has it
said() {
    grep -q -- "$1" "$place/line.log" && return 0
    say "             FAILED: nothing like this was said: $1"
    failed=1
}

not_said() {
    grep -q -- "$1" "$place/line.log" || return 0
    say "             FAILED: this was said: $1"
    failed=1
}

# A line of README's first steps, by its beginning, as it stands there but for the address of the repository.
readme() {
    sed -n '/^## Try it/,/^## /s/^    //p' README.md | sed 's/  *#.*//; s|URL|file:///srv/dolium.git|' | grep -- "^$1"
}

# fresh NAME: an empty root, a user of that name, a repository to clone from
fresh() {
    name=$1
    log=$place/$name.log
    rm -rf "$place/root"
    mkdir -p "$place/root"
    tar -C "$place/root" -xf "$place/base-$suite.tar" && : >"$log" || exit 1
    for each in $NETWORK; do
        [ -e "/$each" ] && mkdir -p "$place/root/${each%/*}" && rm -rf "$place/root/$each" && cp -aL "/$each" "$place/root/$each"
    done
    [ "$name" = root ] || within root "useradd --create-home --shell /bin/sh $name" || exit 1
    git clone -q --bare . "$place/root/srv/dolium.git" || exit 1
    within root "chown -R $name /srv/dolium.git" || exit 1
    say ""
    say "$name, on a fresh $suite ($log):"
}

# Twice, and the second time without a network and without delay.
run_again() {
    began=$(now)
    offline=1
    line again "$1" "$(readme 'make run')" && not_said apt-get
    offline=
    [ $(($(now) - began)) -lt 1500 ] || { say "             FAILED: the second time took $(since "$began")"; failed=1; }
}

# pasted LINE: what was said to paste, pasted by root
pasted() {
    line pasted root "$(sed -n 's/^ *\(apt-get install .*\)/\1 -y/p' "$place/line.log" | head -n 1)"
}

installed() {
    within root "find /usr/local ! -path '*/__pycache__*' | sort" >"$place/local.before"
    line install "$1" "make install" && said '^dolium [0-9]'
    line start "$1" "cd / && env -i /usr/local/bin/dolium --version" && said '^dolium [0-9]'
    [ "$1" = root ] || line sudo "$1" "sudo dolium run --rm --memory 64m --network none @host true"
    line uninstall "$1" "make uninstall"
    within root "find /usr/local ! -path '*/__pycache__*' | sort" | cmp -s "$place/local.before" - ||
        { say "             FAILED: /usr/local is not as it was"; failed=1; }
}

# The set-up of the tests, then the tests, which need no network any more and get one of their own: so nobody else's doings on
# this host's are taken for theirs.
tested() {
    line set-up "$1" "make lint"
    offline=1
    line test "$1" "$(readme 'make test')"
    offline=
    said ' passed'
    not_said ' failed'
    said 'The host is as it was'
}

offline=
mkdir -p "$place"
trap 'rm -rf "$place/root" "$place/base"; give_back' EXIT
trap 'exit 130' INT TERM
say "about 20 minutes on 2 cores; needs a Debian mirror and PyPI"
[ -z "$(git status --porcelain)" ] || say "note: what is not committed is not in the clone that is tested"
# shellcheck disable=SC2059
began=$(now) && base >"$place/base.log" 2>&1 || { tail -n 20 "$place/base.log"; say "no base system: $place/base.log"; exit 1; }
# shellcheck disable=SC2059
printf "$tab  (%s)\n" base "minbase of $suite" "$(since "$began")"

for who in ${FRESH:-root sudoer user}; do
    case $who in
    root)
        fresh root
        line start root 'apt-get update'
        line packages root "$(readme 'sudo apt-get' | sed 's/^sudo //')"
        line clone root "$(readme 'git clone')"
        line run root "$(readme 'make run')" && said 'apt-get install' && said 'ok     memory'
        run_again root
        installed root
        tested root
        ;;
    sudoer)
        fresh sudoer
        within root "apt-get -q update && apt-get -qy install --no-install-recommends sudo &&
            echo 'sudoer ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/sudoer" >>"$log" 2>&1 || exit 1
        line packages sudoer "$(readme 'sudo apt-get')"
        line clone sudoer "$(readme 'git clone')"
        line run sudoer "$(readme 'make run')" && said 'takes root: sudo apt-get install' && said 'ok     memory'
        line sudo-make sudoer "sudo make run"
        line owner sudoer 'find . ! -user sudoer | grep .' 1
        run_again sudoer
        installed sudoer
        tested sudoer && said 'not run: need root'
        ;;
    user)
        fresh user
        within root "apt-get -q update && $(readme 'sudo apt-get' | sed 's/^sudo //')" >>"$log" 2>&1 || exit 1
        line clone user "$(readme 'git clone')"
        line run user "$(readme 'make run')" 2 && said 'Root can do it so' && pasted
        line run user "$(readme 'make run')" && said 'without root there are no limits'
        run_again user
        line test user "$(readme 'make test')" 2 && said 'python3-venv' && pasted
        tested user && said 'not run: need root'
        ;;
    esac
    say "             $(grep -h -E '^(=+ )?[0-9]+ passed' "$log" | tail -n 1)"
done
[ $failed = 0 ] || say "failed; what was said is in $place/*.log"
exit $failed
