"""Fixtures of the shell's tests: a home without any node, a running service in it, and the shell as a program."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.runtime.meeting import PATIENCE_S

ROOT = Path(__file__).parents[3]


PATIENT = ("--timeout", str(PATIENCE_S))
"""What is said to every shell first: that a machine may be busy."""


class Home:
    """Where sockets and the history go, and what programs started there see of the world."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sockets = path / "run" / "beamstalk"
        self.sockets.parent.mkdir(0o700)
        self.environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(self.sockets.parent),
            "XDG_STATE_HOME": str(path / "state"),
            "TMPDIR": str(path),
            "TERM": "xterm",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "COLUMNS": "160",
        }
        self.environment.pop("NO_COLOR", None)


class Node:
    """A running service, and how to make it do something."""

    def __init__(self, home: Home, *arguments: str) -> None:
        command = [sys.executable, "-X", "faulthandler", "-m", "tests.runtime.shell.demo", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=home.environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.path = Path(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def do(self, line: str) -> None:
        """Have it obey a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self._read() == "done"

    def kill(self) -> None:
        """End it as hard as it goes."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def close(self) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class Done:
    """What a run of the shell came to."""

    def __init__(self, code: int, out: str, errors: str) -> None:
        self.code = code
        self.out = out
        self.errors = errors

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The lines of its output, as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def data(self) -> Any:
        """What the only line of its output holds."""
        (frame,) = self.frames
        return frame["data"]

    def __repr__(self) -> str:
        return f"Done({self.code}, {self.out!r}, {self.errors!r})"


@pytest.fixture(scope="module")
def shared_home() -> Iterator[Home]:
    """A home for tests that change nothing in it."""
    with _new_home() as home:
        yield home


@pytest.fixture
def home() -> Iterator[Home]:
    """A home of the test's own, with a path short enough for sockets."""
    with _new_home() as home:
        yield home


@contextlib.contextmanager
def _new_home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="bs-", dir="/tmp") as directory:
        yield Home(Path(directory))


@pytest.fixture(scope="module")
def shared_node(shared_home: Home) -> Iterator[Node]:
    """A running service for tests that only look."""
    with contextlib.closing(Node(shared_home)) as node:
        yield node


@pytest.fixture
def start_node(home: Home) -> Iterator[Callable[..., Node]]:
    """Start a service that can be looked into."""
    with ExitStack() as stack:

        def start(*arguments: str) -> Node:
            node = Node(home, *arguments)
            stack.callback(node.close)
            return node

        yield start


@pytest.fixture
def node(start_node: Callable[..., Node]) -> Node:
    """A running service that may also be changed from a shell."""
    return start_node("--control")


@pytest.fixture
def look(shared_node: Node, shared_home: Home) -> Callable[..., Done]:
    """Run the shell on the service that tests only look into."""
    return lambda *arguments: _run(shared_home, *arguments)


@pytest.fixture
def shell(home: Home) -> Callable[..., Done]:
    """Run the shell to its end: `shell("ps", "--json")`."""
    return lambda *arguments, **options: _run(home, *arguments, **options)


def _run(home: Home, *arguments: str, input: str = "", cwd: Path = ROOT, program: list[str] | None = None) -> Done:
    done = subprocess.run(
        [*(program or [sys.executable, "-m", "runtime.shell"]), *PATIENT, *arguments],
        cwd=cwd,
        env=home.environment,
        input=input,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def terminal(home: Home) -> Iterator[Callable[..., Any]]:
    """Run the shell in a terminal of its own; what it shows is waited for with `expect`."""
    with ExitStack() as stack:

        def run(*arguments: str, without: tuple[str, ...] = ()) -> Any:
            arguments = (*PATIENT, *arguments)
            program = ["-m", "runtime.shell", *arguments]
            if without:
                # As if these were not installed.
                hidden = "".join(f"sys.modules[{name!r}] = None; " for name in without)
                finder = (
                    "import importlib.util as u; real = u.find_spec; "
                    f"u.find_spec = lambda name, *a: None if name in {without!r} else real(name, *a); "
                )
                main = "from runtime.shell.__main__ import main; sys.exit(main(sys.argv[1:]))"
                program = ["-c", f"import sys; {hidden}{finder}{main}", *arguments]
            child = pexpect.spawn(
                sys.executable,
                program,
                cwd=str(ROOT),
                env=home.environment,
                encoding="utf-8",
                timeout=PATIENCE_S,
                dimensions=(30, 120),
            )
            stack.callback(child.close, force=True)
            return child

        yield run
