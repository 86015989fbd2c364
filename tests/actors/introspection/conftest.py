"""Fixtures of the introspector's tests: an application with a socket, handlers that are detached again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import runtime
from supervisors import Application


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a path short enough for a socket's."""
    with tempfile.TemporaryDirectory(prefix="bs-", dir="/tmp") as directory:
        yield Path(directory) / "sockets"


@pytest.fixture
def start(place: Path) -> Iterator[Callable[..., Application]]:
    """Start an application that can be looked into; it is stopped after the test."""
    with ExitStack() as stack:

        def start(**options: Any) -> Application:
            options = {"introspect": place / "node.sock", "control": True, "drain_s": 2.0} | options
            application = Application("demo", **options)
            application.start()
            stack.callback(application.stop)
            return application

        yield start


@pytest.fixture
def attach() -> Iterator[Callable[..., None]]:
    """Attach handlers that are detached after the test."""
    attached: list[str] = []

    def attach(handler_id: str, *args: Any, **options: Any) -> None:
        runtime.attach(handler_id, *args, **options)
        attached.append(handler_id)

    yield attach
    left = {info.id for info in runtime.list_handlers()}
    for handler_id in attached:
        if handler_id in left:
            runtime.detach(handler_id)
