"""One owner per file, across processes and forks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from reporters.spool import Spool
from runtime.clock import FakeClock
from tests.reporters.spool.conftest import MakeSpool
from tests.runtime.meeting import until

HOLDER = """
import sys
from reporters.spool import Spool
spool = Spool(sys.argv[1]); spool.start()
spool.commit(b"of the first owner")
print(spool.statistics().state, flush=True)
sys.stdin.read()
"""


def hold(directory: Path) -> subprocess.Popen[str]:
    """Start another process that owns the spool until its stdin is closed, or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_second_owner_starts_and_refuses_and_names_the_first(make_spool: MakeSpool, directory: Path) -> None:
    with hold(directory) as first:
        second = make_spool()

        told = second.statistics()
        assert told.state == "unavailable"
        assert told.reason.startswith("second_owner")
        assert f"process {first.pid}" in told.reason
        assert second.put(b"x").reason == told.reason
        assert second.statistics().classes["default"].refused == {"unavailable": 1}
        first.kill()


def test_a_second_owner_takes_over_when_the_first_is_killed(make_spool: MakeSpool, directory: Path) -> None:
    clock = FakeClock()
    with hold(directory) as first:
        second = make_spool(clock=clock)
        assert second.statistics().state == "unavailable"
        first.kill()

    until(lambda: (clock.advance(1), second.statistics().state)[1] == "ready")

    assert [one.payload for one in second.lease("default").records] == [b"of the first owner"]


def in_child(check: str) -> str:
    """Fork under load, run `check` in the child while the parent goes on, and return what the child printed."""
    return f"""
import os, sys, threading
from reporters.spool import NotCommitted, Spool, SpoolUnavailable
spool = Spool(sys.argv[1]); spool.start()
stop = threading.Event()
def load():
    while not stop.is_set():
        for _ in range(10):
            spool.offer(b"x" * 100)
        spool.flush(60)  # so many at a time that the spool is never full
loader = threading.Thread(target=load); loader.start()
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(read)
    try:
{check}
        os.write(write, repr(result).encode())
    except BaseException as error:
        os.write(write, repr(error).encode())
    sys.exit(0)  # runs the interpreter's whole end, which must leave the parent's database alone
os.close(write)
print(os.read(read, 10_000).decode())
os.waitpid(pid, 0)
try:
    spool.commit(b"the parent goes on", timeout_s=60)  # behind all that the loader has offered
finally:
    stop.set(); loader.join()
assert spool.close(30)
assert spool.statistics().balanced
again = Spool(sys.argv[1]); again.start()
told = again.statistics()
assert told.set_aside == 0, told
assert told.classes["default"].recovered == spool.statistics().classes["default"].stored
assert again.close()
"""


def fork(directory: Path, check: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", in_child(check), str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout.strip()


def test_a_forked_child_is_refused_by_its_parents_spool(directory: Path) -> None:
    check = """
        ticket = spool.put(b"from the child")
        try:
            spool.lease("default")
        except SpoolUnavailable as error:
            reason = error.reason
        result = (spool.offer(b"x"), ticket.reason, reason, spool.close(), spool.statistics().reason)
"""

    assert fork(directory, check) == (
        "(False, 'forked', 'forked: a spool belongs to the process that started it', True, 'forked')"
    )


def test_a_forked_child_can_use_a_spool_of_its_own(directory: Path) -> None:
    check = """
        own = Spool(sys.argv[1] + "-child"); own.start()
        own.commit(b"x")
        result = (own.statistics().state, own.close())
"""

    for _ in range(5):
        assert fork(directory, check) == "('ready', True)"


def test_a_forked_child_does_not_keep_the_lock_when_the_parent_is_gone(make_spool: MakeSpool, directory: Path) -> None:
    program = """
import os, sys
from reporters.spool import Spool
spool = Spool(sys.argv[1]); spool.start()
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    os.write(write, b"x")
    sys.stdin.read()
    os._exit(0)
os.read(read, 1)
print("forked", flush=True)
os._exit(0)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "forked\n"
        os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)

        spool = make_spool()

        assert spool.statistics().state == "ready"


def test_the_spools_of_two_directories_are_independent(make_spool: MakeSpool, tmp_path: Path) -> None:
    first, second = make_spool(tmp_path / "first"), make_spool(tmp_path / "second")
    first.commit(b"x")

    assert first.statistics().state == second.statistics().state == "ready"
    assert second.statistics().classes["default"].stored == 0
    assert isinstance(first, Spool)
