"""A node to look into, in the test's own process, and how its shells talk to it."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from actors import Actor
from runtime.shell import protocol
from runtime.shell._client import Connection, ShellError
from supervisors import Application, ChildSpec, Supervisor
from tests.runtime.meeting import Gate

WAIT_S = 30.0
"""How long an answer may take before the test fails; none should take a hundredth of it."""


class Worker(Actor):
    """Does what it is told, also what it should not."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.api_key = "s3cr3t"

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise ValueError("no good, password='hunter2'")
        if isinstance(message, Gate):
            message.pass_through()
        if callable(message):
            message()
        self.seen += 1
        return self.seen


class Threaded(Worker):
    carrier = "thread"


def workers(**options: Any) -> ChildSpec:
    children = [
        ChildSpec("ingest", Worker.options(name="ingest").start_link),
        ChildSpec("spare", Threaded),
    ]
    return Supervisor.child("workers", children, name="workers", **options)


def path_of(application: Application) -> Path:
    assert application.socket_path is not None
    return application.socket_path


def ask(application: Application, verb: str, **args: Any) -> Any:
    with Connection(path_of(application), WAIT_S) as connection:
        return connection.ask(verb, args)[0].data


def crashes(application: Application) -> Any:
    """What went wrong, without the moments in which a busy machine gave the hub no time."""
    return [one for one in ask(application, "crashes") if one["what"] != "hub blocked"]


def refused(application: Application, verb: str, timeout_s: float = WAIT_S, **args: Any) -> ShellError:
    """Ask for something that is to be refused. `timeout_s` is the node's; we wait until it has said why."""
    with Connection(path_of(application), WAIT_S) as connection, pytest.raises(ShellError) as caught:
        connection._send(verb, args, timeout_s)
        connection._read(time.monotonic() + WAIT_S)
    return caught.value


def say(application: Application, *lines: bytes) -> list[dict[str, Any]]:
    """Send raw bytes and read what comes back until the node closes or has answered each line."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(WAIT_S)
        raw.connect(str(path_of(application)))
        raw.sendall(b"".join(lines))
        raw.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := raw.recv(65536):
            received += chunk
    return [json.loads(line) for line in received.splitlines()]


STATUS = protocol.encode(protocol.Request(protocol.VERSION, "status"))
