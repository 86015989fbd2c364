"""The suite's own rules: every test cleans up behind itself, and a missing peer is told, never passed over.

Owns the leak checks and the settings of hypothesis. Nothing here may patch, mock or slow down what is tested.
A further kind of thing that must not outlive a test is one more function in `WATCHED`.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

import runtime
from actors import processes as living_actors
from runtime import _scheduler

# A deadline per example would be a timed assertion, and shared machines have slow moments.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("suite")

# Started in the background, as some build servers do, we were told to ignore interrupts, and so would be the programs
# that tests start in order to interrupt them.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

GRACE_S = 30.0
"""How long what a test has stopped may take to be gone. Only a test that leaks waits this long."""


def pytest_xdist_auto_num_workers() -> int:
    """Run two tests per core: they wait for processes and sockets as long as they compute."""
    return min(2 * (os.cpu_count() or 1), 16)


def threads() -> dict[object, str]:
    """Every living thread that would keep the interpreter from ending."""
    return {thread: f"thread {thread.name!r}" for thread in threading.enumerate() if not thread.daemon}


def sockets() -> dict[object, str]:
    """Every socket that this process holds, by inode; nothing where the system does not tell."""
    found: dict[object, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(f"/proc/self/fd/{name}")
                if target.startswith("socket:"):
                    found[target] = f"socket {_address(int(name))}"
    return found


def processes() -> dict[object, str]:
    """Every child process, also one that has ended and was not waited for; nothing where the system does not tell."""
    found: dict[object, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(FileNotFoundError):
                for pid in Path(f"/proc/self/task/{task}/children").read_text().split():
                    found[pid] = f"process {pid}: {_command(pid)}"
    return {pid: what for pid, what in found.items() if not _is_multiprocessing_helper(what)}


def actors() -> dict[object, str]:
    """Every living actor, those of an application that was not stopped too."""
    return {ref: f"actor {ref}" for ref in living_actors()}


def handlers() -> dict[object, str]:
    """Every attached handler; an attachment outlives its application."""
    return {info.id: f"handler {info.id!r}" for info in runtime.list_handlers()}


WATCHED: tuple[Callable[[], dict[object, str]], ...] = (threads, sockets, processes, actors, handlers)
"""What must not outlive a test: each answers what is there now, as {identity: description}."""


def _address(fd: int) -> str:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
        # In a gevent host, the type of a socket is a bare number.
        return f"{sock.family.name} {socket.SocketKind(sock.type).name} {sock.getsockname()}"
    return f"fd {fd}"


def _command(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") or "(ended)"
    return "(ended)"


def _is_multiprocessing_helper(what: str) -> bool:
    # The standard library starts these once and keeps them for the life of the process.
    return "multiprocessing.resource_tracker" in what or "multiprocessing.forkserver" in what


def _left_over(before: list[dict[object, str]]) -> list[str]:
    return [
        what for watch, then in zip(WATCHED, before, strict=True) for key, what in watch().items() if key not in then
    ]


def _clear_away() -> None:
    """End what can be ended, so that one leak fails one test."""
    for ref in living_actors():
        ref.kill()
    for handler_id in handlers():
        runtime.detach(str(handler_id))


@contextlib.contextmanager
def _nothing_left_over() -> Iterator[None]:
    before = [watch() for watch in WATCHED]

    yield

    deadline = time.monotonic() + GRACE_S
    while left := _left_over(before):
        if time.monotonic() > deadline:
            _clear_away()
            pytest.fail(f"expected to leave nothing behind, got: {'; '.join(left)}", pytrace=False)
        multiprocessing.active_children()  # reaps those that have ended
        gc.collect()  # a socket that only a reference cycle holds is closed here, with a ResourceWarning that fails too
        time.sleep(0.01)


@pytest.fixture(scope="session", autouse=True)
def session_leaves_nothing_behind() -> Iterator[None]:
    """Fail the session if something outlives its last fixture."""
    with _nothing_left_over():
        yield


@pytest.fixture(autouse=True)
def test_leaves_nothing_behind() -> Iterator[None]:
    """Fail the test that leaves a thread, socket, process, actor or handler behind."""
    if not living_actors():
        _scheduler.stop()  # the one of an earlier test: in whatever order they run, each has its own
    with _nothing_left_over():
        yield


@pytest.fixture
def peer() -> Callable[[str], str]:
    """Find the program of a peer, such as "promtool": skip where it is missing, fail where REQUIRE_PEERS is set."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            reason = f"expected {name} on PATH, got: nothing. .ci/run gets it"
            if os.environ.get("REQUIRE_PEERS"):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
        return path

    return find
