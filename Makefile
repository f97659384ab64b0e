# make            build the helpers          make run     a container, its world and its limits, shown
# make test       lint and all tests         make shell   a shell in a container (ARGS="-m 64m --cpus 0.5")
# make help       the others
#
# ROOTFS=DIR|TARBALL is what runs (default: Alpine from ../shared/rootfs if that is there, else @host);
# DOLIUM_PYTHON=/path/to/python3 chooses the interpreter, SUDO= does without sudo.

PREFIX ?= /usr/local
.PHONY: all help run shell test test-long test-live test-v2 test-systemd test-fresh lint types golden bench conformance clients clients-v2 install uninstall wheel sdist clean
export ROOTFS DOLIUM_PYTHON ARGS PREFIX DESTDIR MACHINE RUNTIME_TOOLS RUNTIMES

all:
	@sh make/setup.sh run

help:
	@sed -n 's/^# //p; /^$$/q' Makefile
	@echo 'make lint       ruff, mypy --strict, the C compiler'"'"'s warnings'
	@echo 'make test-long  the tests that `make test` has no time for'
	@echo 'make test-live  only the tests that start containers      make golden  write the golden plans anew'
	@echo 'make test-v2    those again in a machine with cgroup v2    make bench   measure, and write the table in README.md'
	@echo 'make test-systemd    --systemd-cgroup in a machine whose init is systemd'
	@echo 'make conformance RUNTIME_TOOLS=DIR   the validation suite of opencontainers/runtime-tools, built in DIR'
	@echo 'make clients    Podman, containerd, Docker and Slurm drive dolium-oci, each in namespaces of its own (15 minutes)'
	@echo 'make clients-v2  some of that in a machine with cgroup v2 (30 minutes)'
	@echo 'make test-fresh README.md on a Debian with nothing on it, as root and not (20 minutes)'
	@echo 'make install    below PREFIX=/usr/local, DESTDIR= before it   make uninstall  take exactly that away again'
	@echo 'make wheel      into dist/, for users without a compiler (MACHINE=aarch64: for that)  make sdist  the sources'
	@echo 'make clean      take everything away again'

run shell: all
	@sh make/run.sh $@

test test-long test-live test-v2 test-systemd lint types golden bench conformance clients clients-v2:
	@sh make/setup.sh test
	@sh make/test.sh $@

test-fresh:
	@sh make/fresh.sh

install: all
	@sh make/install.sh $@

uninstall:
	@sh make/install.sh $@

wheel: all
	@sh make/setup.sh helpers
	@.build/python -IS make/distributions.py wheel $(MACHINE)

sdist: all
	@.build/python -IS make/distributions.py sdist

clean:
	@sh make/clean.sh
