#!/bin/sh
# make test | test-long | test-live | test-v2 | test-systemd | lint | types | golden | bench | conformance | clients | clients-v2,
# after the set-up.
set -u
cd "$(dirname "$0")/.." || exit 1
. make/shared.sh
venv=.build/venv/bin
export HYPOTHESIS_STORAGE_DIRECTORY=.build/hypothesis
DOLIUM_PYTHON=${DOLIUM_PYTHON:-$(readlink .build/python)}
export DOLIUM_PYTHON
[ -z "${ROOTFS:-}" ] && unset ROOTFS
[ -z "${ARGS:-}" ] && ARGS=
spread=  # pytest's words for several processes
network= # what runs pytest
FAST='unit golden property house'
LIVE='live security api faults conformance'
# Kills at every call, other people's programs, a wheel and a registry for each test, packages from PyPI: what `make test` has no time for.
LONG='faults/test_oci_verbs.py faults/test_kills.py faults/test_images_killed.py conformance/test_beside_others.py
    conformance/test_checkpoint.py conformance/test_checkpoint_fails.py conformance/test_checkpoint_flags.py
    conformance/test_mounts.py conformance/test_process.py conformance/test_races.py conformance/test_storm.py conformance/test_seccomp.py
    live/test_wheel.py live/test_set_up.py live/test_nested.py live/test_run_from_registries.py api/test_jupyter.py api/test_numpy.py
    api/test_storms.py api/test_interrupted.py'

# Of the OCI runtime on cgroup v2 alone: `make test-v2` with ARGS=smoke, in less than 20 minutes.
SMOKE='conformance/test_resources.py conformance/test_delegated.py conformance/test_rootless.py::test_cgroup_ownership
    conformance/test_config.py::test_read_only_root conformance/test_config.py::test_devices
    conformance/test_config.py::test_devices_without_a_dev_of_its_own conformance/test_config.py::test_device_rules
    conformance/test_config.py::test_user_namespace conformance/test_config.py::test_namespaces_by_path
    conformance/test_config.py::test_masked_and_read_only_paths conformance/test_config.py::test_seccomp
    conformance/test_config.py::test_resources conformance/test_config.py::test_a_program_under_half_a_megabyte
    conformance/test_mounts.py::test_each_option_is_what_it_says conformance/test_mounts.py::test_mounts_are_listed_in_their_order
    conformance/test_lifecycle.py::test_create_start_delete conformance/test_lifecycle.py::test_kill_all
    conformance/test_lifecycle.py::test_delete_removes_what_create_made conformance/test_lifecycle.py::test_pause_and_resume
    conformance/test_events.py conformance/test_lifecycle.py::test_run_returns_the_exit_code
    conformance/test_process.py::test_each_rlimit conformance/test_process.py::test_each_namespace_is_joined_by_its_path
    conformance/test_hooks.py::test_hooks_run_in_their_order_and_place conformance/test_exec.py::test_exec_is_in_all_that_is_the_containers
    conformance/test_races.py::test_two_creates_of_one_id'

# Of the engines on cgroup v2 alone: `make clients-v2`, in half an hour.
CLIENTS_V2='clients/test_podman.py::test_it_is_the_one_below clients/test_podman.py::test_logs_that_are_followed
    clients/test_podman.py::test_exec clients/test_podman.py::test_stats_and_top clients/test_podman.py::test_pause
    clients/test_podman.py::test_limits_and_update clients/test_podman.py::test_out_of_memory
    clients/test_podman_rootless.py::test_limits_in_a_group_of_his_own clients/test_podman_rootless.py::test_a_life
    clients/test_containerd.py::test_run clients/test_containerd.py::test_task
    clients/test_docker.py::test_exec clients/test_docker.py::test_limits_and_update clients/test_docker.py::test_healthcheck
    clients/test_docker.py::test_out_of_memory'

# The directories out of those named that have tests.
present() {
    for each in "$@"; do
        [ -n "$(find "tests/$each" -name 'test_*.py' 2>/dev/null | head -n 1)" ] && printf 'tests/%s ' "$each"
    done
}

# step NAME COMMAND...: silent and one line when all is well
step() {
    name=$1 began=$(now)
    shift
    # shellcheck disable=SC2059
    if "$@" >.build/step.log 2>&1; then
        printf "$tab  (%s)\n" "$name" "$(tail -n 1 .build/step.log)" "$(since "$began")"
    else
        printf "$tab  (%s)\n" "$name" FAILED "$(since "$began")"
        cat .build/step.log
        return 1
    fi
}

warnings() {
    compiler=musl-gcc
    command -v musl-gcc >/dev/null 2>&1 || compiler=cc
    for each in init/*.c; do
        "$compiler" -std=c11 -Os -Wall -Wextra -Wshadow -Werror -fsyntax-only "$each" || return 1
    done
    echo "$compiler: no warnings"
}

lint() {
    failed=0
    step ruff "$venv/ruff" check --output-format concise . || failed=1
    step mypy "$venv/mypy" || failed=1
    step C warnings || failed=1
    return $failed
}

# Root's tests have a network of their own: there `dolium run` makes its bridge, and with it that goes.
on_own_network() {
    if [ "$user" = 0 ] && unshare --net ip link show lo >/dev/null 2>&1; then
        # shellcheck disable=SC2016
        unshare --net sh -c 'ip link set lo up && exec "$@"' sh "$@"
    else
        "$@"
    fi
}

# shellcheck disable=SC2046,SC2086
run_pytest() {
    directories=$(present "$@")
    [ -n "$directories" ] || { say "no tests in: $*"; return 0; }
    $network "$venv/python" -m pytest $spread $directories $ARGS
    code=$?
    [ $code = 5 ] && [ -n "$ARGS" ] && code=0 # ARGS chose none of these
    return $code
}

# Run the tests, and see that the host is afterwards as it was before.
whole() {
    rm -f .build/not-run
    "$venv/python" make/host_state.py >.build/host.before
    run_pytest "$@"
    code=$?
    "$venv/python" make/host_state.py .build/host.before || code=1
    [ -e .build/not-run ] && cat .build/not-run
    return $code
}

took=.build/test-seconds-$user
case $1 in
lint) lint ;;
test)
    expected="about 15 minutes on 2 cores"
    [ -e "$took" ] && expected="$(cat "$took") s the last time"
    say "lint, then the tests that start nothing ($FAST), then those that start containers ($LIVE): $expected"
    start=$(now)
    lint
    linted=$?
    # What starts nothing runs on all processors, what starts containers alone: it looks at what the host has afterwards.
    # shellcheck disable=SC2086
    spread='-n auto --maxprocesses 4' && run_pytest $FAST
    fast=$?
    spread=
    for each in $LONG; do
        ARGS="--ignore tests/$each $ARGS"
    done
    network=on_own_network
    # shellcheck disable=SC2086
    whole $LIVE
    code=$?
    [ $fast = 0 ] || code=$fast
    [ $linted = 0 ] || { say "lint failed, see above"; code=1; }
    [ $code = 0 ] && echo $((($(now) - start) / 100)) >"$took"
    exit $code
    ;;
test-long)
    # shellcheck disable=SC2086
    whole $LONG
    ;;
test-live)
    network=on_own_network
    # shellcheck disable=SC2086
    whole $LIVE
    ;;
test-v2 | test-systemd | clients-v2)
    machine=../shared/tools/vmtest
    missing=
    [ -x "$machine" ] || missing="$missing, $machine"
    needed='qemu-system-x86_64 busybox'
    [ "$1" = test-systemd ] && needed="$needed systemctl dbus-daemon"
    for each in $needed; do
        command -v "$each" >/dev/null 2>&1 || missing="$missing, $each"
    done
    if [ -n "$missing" ]; then
        say "not run: missing ${missing#, } (Debian: qemu-system-x86 busybox-static; for systemd: systemd dbus libpam-systemd" \
            "dbus-user-session). On a host with cgroup v2 alone, and systemd, \`make test\` is this test."
        exit 0
    fi
    case $(pwd) in
    /tmp/* | /var/tmp/* | /var/lib/*)
        say "not run: the machine has a /tmp, a /var/tmp and a /var/lib of its own, and this clone lies below: move it." >&2
        exit 1 ;;
    esac
    if [ "$1" = test-systemd ]; then
        say "about 15 minutes under emulation, in a machine whose init is systemd"
        chosen='--systemd' directories=tests/conformance/test_systemd.py
    elif [ "$1" = clients-v2 ]; then
        say "about 30 minutes under emulation, which has no network to install packages from"
        chosen='' directories=$(printf ' tests/%s' $CLIENTS_V2)
    else
        expected="about 15 minutes" directories=$(present live security api conformance)
        [ "$ARGS" = smoke ] && expected="about 10 minutes" directories=$(printf ' tests/%s' $SMOKE) ARGS=
        say "$expected under emulation; TEST_V2_USER=NAME runs them as that user, in a cgroup that is delegated to it"
        chosen="${TEST_V2_USER:+--user $TEST_V2_USER}"
    fi
    [ -n "$directories" ] || { say "no tests in: live security api conformance"; exit 0; }
    # A machine under emulation is some 20 times slower, and its user cannot reach an interpreter in root's home.  Its `/`
    # is an overlay, which cannot hold the upper directory of another.
    # shellcheck disable=SC2086
    exec "$machine" --mem 3G --tmpfs /tmp --tmpfs /var/tmp --tmpfs /var/lib --timeout "${TEST_V2_TIMEOUT:-7200}" \
        $chosen --env DOLIUM_TEST_SLOW=20 \
        --env DOLIUM_PYTHON=/usr/bin/python3 ${ROOTFS:+--env ROOTFS} -- \
        sh -c "cd '$(pwd)' && exec .build/venv/bin/python -m pytest -o cache_dir=/tmp/pytest-cache $directories $ARGS"
    ;;
golden)
    DOLIUM_GOLDEN=write "$venv/python" -m pytest -q tests/golden
    git diff --stat -- tests/golden 2>/dev/null
    ;;
conformance)
    # shellcheck disable=SC2086
    "$venv/python" make/conformance.py $ARGS
    ;;
clients)
    if [ "$user" != 0 ]; then
        say "not run: the engines take root"
        exit 1
    fi
    run_pytest clients # each ends its machine, which fails where something of it stays; host_state.py would see the neighbours
    ;;
types)
    "$venv/python" make/public_types.py
    ;;
bench)
    # shellcheck disable=SC2086
    "$(readlink .build/python)" tests/bench/bench.py ${ARGS:---write}
    ;;
esac
code=$?
give_back
exit $code
