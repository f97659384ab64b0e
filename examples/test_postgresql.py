"""A test against a real PostgreSQL, of Debian's packages, in a box of its own: nothing on the host is started, configured or left.

    apt install --no-install-recommends postgresql-15
    python3 -m pytest -p dolium.pytest_plugin examples/test_postgresql.py     # where Dolium is installed, without -p

POSTGRESQL=DIR names what `pg_config --bindir` does, where it is elsewhere.
"""

import glob
import os
import time

import pytest

FOUND = [os.environ["POSTGRESQL"]] if "POSTGRESQL" in os.environ else sorted(glob.glob("/usr/lib/postgresql/*/bin"))
BIN = FOUND[-1] if FOUND else ""
TOP = BIN.partition("/usr/lib/postgresql/")[0]
"""Empty, or where the packages have been unpacked."""
WHO = "65534"
"""PostgreSQL does not run as root."""

pytestmark = [
    pytest.mark.skipif(not BIN, reason="postgresql is not installed (Debian: postgresql-15)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a plain user's box has one user, root, as whom PostgreSQL does not run"),
    pytest.mark.dolium(image="@host", memory="512M", mounts=[f"{TOP}:{TOP}:ro"] if TOP else [],
                       env={"LD_LIBRARY_PATH": f"{TOP}/usr/lib/x86_64-linux-gnu"} if TOP else {}),
]


@pytest.fixture
def database(dolium_box):
    """A box with a server that answers on a socket in its /tmp."""
    make = [f"{BIN}/initdb", "-D", "/tmp/data", "-U", "test", "--locale=C", "-E", "UTF8", "--no-sync"]
    dolium_box.run(make, user=WHO, check=True)
    serve = [f"{BIN}/postgres", "-D", "/tmp/data", "-k", "/tmp", "-c", "listen_addresses=", "-c", "fsync=off"]
    server = dolium_box.popen(serve, user=WHO)
    deadline = time.monotonic() + 60
    while dolium_box.run([f"{BIN}/pg_isready", "-h", "/tmp", "-q"]).exit_code:
        assert server.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    yield dolium_box
    server.terminate()
    server.wait()


def query(box, statement: str) -> str:
    words = ["-h", "/tmp", "-U", "test", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-Atc", statement]
    done = box.run([f"{BIN}/psql", *words], text=True)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


def test_a_transaction_that_is_rolled_back_leaves_nothing(database) -> None:
    query(database, "CREATE TABLE jar (litres int)")
    query(database, "BEGIN; INSERT INTO jar VALUES (1000); ROLLBACK")
    query(database, "INSERT INTO jar VALUES (26)")
    assert query(database, "SELECT sum(litres) FROM jar") == "26"


def test_a_fresh_server_for_each_test(database) -> None:
    assert query(database, "SELECT count(*) FROM pg_tables WHERE tablename = 'jar'") == "0"


def test_nobody_outside_can_reach_it(database) -> None:
    assert query(database, "SHOW listen_addresses") == ""
    assert not os.path.exists("/tmp/.s.PGSQL.5432")
