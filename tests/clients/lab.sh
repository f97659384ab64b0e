#!/bin/sh
# lab.sh DIRECTORY NAME: the first process of a machine of the tests' own.  It is called in fresh mount, network, PID, IPC, UTS and
# cgroup namespaces, in groups called NAME; DIRECTORY is on a disk, because an overlay cannot be the upper directory of another.
set -eu
directory=$1
mount -t tmpfs -o mode=755 lab "$directory/memory"
mkdir "$directory/memory/upper" "$directory/memory/work" "$directory/root"
mount -t overlay -o "lowerdir=/,upperdir=$directory/memory/upper,workdir=$directory/memory/work" lab "$directory/root"
cd "$directory/root"
mount --rbind /dev dev
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount --bind dev/pts/ptmx dev/ptmx 2>/dev/null || true
mount -t tmpfs -o mode=1777 lab dev/shm # Podman has its locks there
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
for each in run tmp var/tmp; do mount -t tmpfs -o mode=1777 lab "$each"; done
chmod 755 run
mkdir -p run/netns
for each in containers docker containerd dolium; do
    mkdir -p "$directory/disk/$each" "var/lib/$each"
    mount --bind "$directory/disk/$each" "var/lib/$each"
    chmod 700 "var/lib/$each"
done
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then # the group that it is in is / here, and hands its controllers on once nobody is in it
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mkdir sys/fs/cgroup/machine
    echo $$ >sys/fs/cgroup/machine/cgroup.procs
else
    mount -t tmpfs -o mode=755 cgroups sys/fs/cgroup
    while IFS=: read -r _ controllers _; do
        case $controllers in
        '') mkdir -p sys/fs/cgroup/unified; mount -t cgroup2 cgroup2 sys/fs/cgroup/unified ;;
        name=*) mkdir "sys/fs/cgroup/${controllers#name=}"; mount -t cgroup -o "none,$controllers" cgroup "sys/fs/cgroup/${controllers#name=}" ;;
        *) mkdir "sys/fs/cgroup/$controllers"; mount -t cgroup -o "$controllers" cgroup "sys/fs/cgroup/$controllers" ;;
        esac
    done </proc/self/cgroup
fi
mkdir -p "$directory/root/.old"
pivot_root . .old
umount -l /.old
rmdir /.old
cd /
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
hostname vm
exec env --ignore-signal=CHLD sleep infinity # the dead that are left to it are gone at once
