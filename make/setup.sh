#!/bin/sh
# Make ready what `make run` needs; with the word `test` also what the tests need; with the word `helpers` the programs in C
# alone, for the processor MACHINE, and no package is installed for them.  Everything is made below .build, except
# those (src/dolium/programs), Python's own caches and system packages, which are named before they are installed.
# What is there already is left alone, so the second time nothing is done, without a network.
set -u
cd "$(dirname "$0")/.." || exit 1
. make/shared.sh
purpose=${1:-run}
log=.build/setup.log

fail() {
    [ -s "$log" ] && tail -n 20 "$log" >&2
    printf '\n' >&2
    for line in "$@"; do printf '%s\n' "$line" >&2; done
    printf 'The whole log: %s/%s\n' "$(pwd)" "$log" >&2
    exit 1
}

# phase NAME TEXT COMMAND...: one line, with its seconds; what the command prints goes into the log
phase() {
    # shellcheck disable=SC2059
    printf "$tab" "$1" "$2"
    name=$1 began=$(now)
    shift 2
    [ -z "${begun:-}" ] && begun=1 && : >"$log"
    printf '\n== %s: %s\n' "$name" "$*" >>"$log"
    if "$@" >>"$log" 2>&1; then
        say "  ($(since "$began"))"
    else
        say "  FAILED after $(since "$began")"
        return 1
    fi
}

# ---- python

settle_python() {
    if [ -z "${DOLIUM_PYTHON:-}" ] && [ -x .build/python ] && is_new_enough .build/python; then
        python=.build/python
        return 0
    fi
    if ! choose_python; then
        fail "Dolium needs Python 3.11 or newer; here is: ${refused:-none}." \
            "Install one beside it (python3.11 or later), or name one: make DOLIUM_PYTHON=/path/to/python3"
    fi
    real=$("$python" -IS -c 'import sys; print(sys.executable)')
    if [ "$(readlink .build/python)" != "$real" ]; then
        ln -sfn "$real" .build/python
        # shellcheck disable=SC2059
        printf "$tab  (%s)\n" python "$real $(version_of "$real")" "$why"
    fi
    python=.build/python
}

# ---- packages

apt() {
    ${SUDO:+"$SUDO"} env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# Whether another program holds a lock of apt's, as unattended-upgrades does on a new machine.
apt_is_busy() {
    for lock in /var/lib/dpkg/lock-frontend /var/lib/apt/lists/lock; do
        [ -e "$lock" ] && grep -q ":$(stat -c %i "$lock") " /proc/locks && return 0
    done
    return 1
}

# apt-get's own waiting (DPkg::Lock::Timeout) is seen in the log only, and is not for the lists.
wait_for_apt() {
    apt_is_busy && say "another program is installing packages: this waits for it, 5 minutes at most"
    waited=0
    while apt_is_busy && [ $waited -lt 300 ]; do
        sleep 1
        waited=$((waited + 1))
    done
}

apt_install() {
    for list in /var/lib/apt/lists/*_Packages*; do
        [ -e "$list" ] || apt update || return 1
        break
    done
    # --no-remove: a package of ours must never push out one of yours, such as Docker's own.  A list that is out of date
    # names files that are gone: once more with a new one.
    apt install -y --no-remove --no-install-recommends "$@" ||
        { apt update && apt install -y --no-remove --no-install-recommends "$@"; }
}

# install_packages NAME...: 1 where that cannot be done here
install_packages() {
    if ! command -v apt-get >/dev/null 2>&1; then
        say "missing: $*, as Debian calls them. There is no apt-get here to install them with."
        return 1
    fi
    say "missing packages: $*"
    if [ "$user" != 0 ] && has_sudo; then
        say "to install them takes root: $SUDO apt-get install (it may ask for your password)"
    fi
    if ! can_be_root; then
        say "not installed: you are not root and sudo is absent or refused. Root can do it so:"
        say "    apt-get install --no-install-recommends $*"
        return 1
    fi
    wait_for_apt
    phase packages "apt-get install $*" apt_install "$@"
}

# Also in the directories that are not in everybody's PATH.
has_program() {
    for each in /usr/sbin /sbin /usr/local/sbin; do
        [ -x "$each/$1" ] && return 0
    done
    command -v "$1" >/dev/null 2>&1
}

has_library() {
    for each in /lib/*/"$1" /usr/lib/*/"$1" /usr/lib64/"$1" /usr/lib/"$1"; do
        [ -e "$each" ] && return 0
    done
    return 1
}

machine=$(uname -m)
[ "$purpose" = helpers ] && machine=${MACHINE:-$machine}
programs=src/dolium/programs
[ "$machine" = "$(uname -m)" ] || programs=.build/programs-$machine

programs_are_built() {
    [ -e "$programs/dolium-init" ] && [ -e "$programs/dolium-keep" ] && [ -e "$programs/dolium-verbs" ] &&
        [ -z "$(find init make/setup.sh -newer "$programs/dolium-init" -type f)" ]
}

can_make_venv() { "$1" -IS -c 'import ensurepip, venv' 2>/dev/null; }

# All that is missing, in one go; what cannot be installed is missed, and said, where it is needed.
settle_packages() {
    wanted=
    choose_python || [ -n "$refused" ] || wanted=python3
    if [ "$purpose" = test ] || ! programs_are_built; then
        command -v musl-gcc >/dev/null 2>&1 || wanted="$wanted musl-tools"
    fi
    if [ "$purpose" = test ]; then
        [ -e .build/venv/complete ] || can_make_venv "${python:-python3}" || wanted="$wanted python3-venv"
        command -v strace >/dev/null 2>&1 || wanted="$wanted strace"
        command -v setpriv >/dev/null 2>&1 || wanted="$wanted util-linux"
        command -v tmux >/dev/null 2>&1 || wanted="$wanted tmux"
        if [ "$user" = 0 ]; then # networks are tested by root only, in namespaces of the tests' own
            has_program nft || wanted="$wanted nftables"
            has_program ip || wanted="$wanted iproute2"
            has_program iptables || wanted="$wanted iptables"
            has_program sysctl || wanted="$wanted procps"
            has_program ping || wanted="$wanted iputils-ping"
            command -v skopeo >/dev/null 2>&1 || wanted="$wanted skopeo"
            command -v htpasswd >/dev/null 2>&1 || wanted="$wanted apache2-utils"
            command -v openssl >/dev/null 2>&1 || wanted="$wanted openssl"
            command -v zstd >/dev/null 2>&1 || wanted="$wanted zstd"
        fi
        echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1 || wanted="$wanted gcc libc6-dev"
        has_library libseccomp.so.2 || wanted="$wanted libseccomp2"
    fi
    # shellcheck disable=SC2086
    [ -z "$wanted" ] || install_packages $wanted || say "going on without them"
}

# Debian's registry of images, which the tests start themselves: taken out of its package, for to install it starts a service.
settle_registry() {
    [ "$user" = 0 ] || return 0
    [ -x .build/registry/usr/bin/docker-registry ] || command -v docker-registry >/dev/null 2>&1 && return 0
    command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || return 0
    phase registry "docker-registry, out of its package" fetch_registry || say "going on without it"
}

fetch_registry() {
    rm -rf .build/registry .build/registry.new
    mkdir -p .build/registry.new
    (cd .build/registry.new && apt-get -q download docker-registry && dpkg-deb -x docker-registry_*.deb . && rm docker-registry_*.deb) &&
        mv .build/registry.new .build/registry
}

# ---- the programs in C

FLAGS='-std=c11 -static -Os -Wall -Wextra -Werror'

# Sets `compiler`: musl's, which makes helpers of a few kilobytes, else any that can link statically.
choose_compiler() {
    if [ "$machine" != "$(uname -m)" ]; then
        for compiler in "$machine-linux-musl-gcc" "$machine-linux-gnu-gcc"; do
            command -v "$compiler" >/dev/null 2>&1 && return 0
        done
        fail "No compiler for $machine here ($machine-linux-musl-gcc or $machine-linux-gnu-gcc;" \
            "Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross)."
    fi
    compiler=musl-gcc
    command -v musl-gcc >/dev/null 2>&1 && return 0
    echo 'int main(void) { return 0; }' >.build/try.c
    for compiler in cc gcc clang; do
        if command -v "$compiler" >/dev/null 2>&1 && "$compiler" -static -o .build/try .build/try.c >>"$log" 2>&1; then
            say "no musl-gcc: built with $compiler and the system's C library instead; the helpers are larger so"
            return 0
        fi
    done
    fail "Dolium needs a C compiler that links statically: musl-gcc (Debian: musl-tools; Fedora: musl-gcc; Arch: musl)," \
         "or cc with a static C library."
}

compile() {
    mkdir -p "$programs"
    # shellcheck disable=SC2086
    "$compiler" $FLAGS -o "$programs/.init.new" init/init.c init/steps_*.c &&
        "$compiler" $FLAGS -o "$programs/.keep.new" init/keep.c &&
        "$compiler" $FLAGS -o "$programs/.verbs.new" init/verbs.c init/exec_again.c init/words.c &&
        mv "$programs/.verbs.new" "$programs/dolium-verbs" &&
        mv "$programs/.keep.new" "$programs/dolium-keep" && mv "$programs/.init.new" "$programs/dolium-init"
}

# dolium-oci as `make install` puts it below a prefix, for the tests: dolium-verbs, and the Python program where it looks for that.
lay_out() {
    mkdir -p .build/oci/bin .build/oci/lib/dolium
    ln -sfn ../../../../bin/dolium-oci .build/oci/lib/dolium/dolium-oci
    ln -sfn ../../../../src/dolium .build/oci/lib/dolium/dolium
    [ .build/oci/bin/dolium-oci -nt "$programs/dolium-verbs" ] || cp "$programs/dolium-verbs" .build/oci/bin/dolium-oci
}

settle_programs() {
    programs_are_built && return 0
    choose_compiler
    phase helpers "$compiler: dolium-init, dolium-keep, dolium-verbs" compile || fail "The helpers do not compile."
}

# ---- what a start need not do itself: compile Dolium's modules, compile the default system call filter

prepare() {
    "$python" -IS -m compileall -q src && "$python" -IS make/prepare.py
}

settle_bytecode() {
    stamp=.build/bytecode-$(version_of "$python")
    [ -e "$stamp" ] && [ -e "$programs/modules" ] && [ -e "$programs/filters" ] &&
        [ -z "$(find src make/prepare.py -name '*.py' -newer "$stamp")" ] && return 0
    touch "$stamp.new"
    phase bytecode "modules and the default filter, compiled" prepare || fail "Dolium's own modules do not compile."
    rm -f .build/bytecode-*[0-9]
    mv "$stamp.new" "$stamp"
}

# ---- the tests' environment; its stamp is written last, so one half made is thrown away

make_venv() {
    rm -rf .build/venv
    "$(readlink .build/python)" -m venv .build/venv &&
        env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX -u PYTHONPATH -u PYTHONHOME .build/venv/bin/python -m pip install \
            --require-hashes --no-deps --only-binary :all: --disable-pip-version-check --cache-dir .build/pip-cache \
            -r make/requirements.txt
}

settle_venv() {
    [ -e .build/venv/complete ] || can_make_venv "$python" ||
        fail "The tests need venv and ensurepip of $(readlink .build/python) (Debian: python3-venv). \`make run\` does not."
    key="$(readlink .build/python) $(version_of "$python") $(cksum <make/requirements.txt) $(pwd)"
    [ -e .build/venv/complete ] && [ "$(cat .build/venv/complete)" = "$key" ] && return 0
    phase venv "pytest hypothesis mypy ruff pyroute2 from PyPI into .build/venv" make_venv ||
        fail "The tests' environment could not be made; if PyPI cannot be reached, pip's own settings (a proxy, a mirror) apply."
    printf '%s\n' "$key" >.build/venv/complete
}

# ----

case $(uname -s)/$(uname -m) in
Linux/x86_64) ;;
*) say "Dolium runs on Linux x86_64 only so far; this is $(uname -s) $(uname -m)." >&2; exit 1 ;;
esac
case $(uname -r) in
[0-4].* | 5.[0-9].* | 5.[0-9]-*) say "Dolium needs Linux 5.10 or newer; this is $(uname -r)." >&2; exit 1 ;;
esac
if ! mkdir -p .build 2>/dev/null || ! [ -w .build ]; then
    say "$(pwd) is not yours to write in (it belongs to $(stat -c %U .)); clone Dolium as $(id -un), or work as its owner." >&2
    exit 1
fi
if ! [ -x bin/dolium ]; then
    say "$(pwd)/bin/dolium may not be executed: is this directory mounted noexec? Clone Dolium elsewhere, or: chmod +x bin/*" >&2
    exit 1
fi
trap 'give_back' EXIT
exec 3>&2 # what runs when a signal comes may have its own redirected into the log
trap 'printf "\ninterrupted; the next time goes on where this one was\n" >&3; exit 130' INT TERM
[ "$purpose" = helpers ] && { settle_programs; exit 0; }
settle_packages
settle_python
settle_programs
settle_bytecode
[ "$purpose" = test ] && lay_out && settle_venv && settle_registry
exit 0
