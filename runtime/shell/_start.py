"""`--start module:attribute`: boot a tree in this very process, to look at it from the prompt.

The application is found by its name and used by what it can do (`start`, `stop`, `socket_path`); nothing of it is known
here. It is stopped when the shell ends.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.errors import BeamstalkError
from runtime.shell._client import NO_NODE, USAGE, ShellError


@contextlib.contextmanager
def started(target: str) -> Iterator[Path]:
    """Start the application of this name, let shells look into it, and yield its socket. Raises ShellError."""
    application = load(target)
    if getattr(application, "introspect", None) is False:
        application.introspect = True
    try:
        application.start()
    except BeamstalkError as error:
        raise ShellError(f"{target} does not start: {error}", NO_NODE) from error
    try:
        path = application.socket_path
        if path is None:
            raise ShellError(f"{target} runs, but no shell can look into it: its log says why", NO_NODE)
        yield path
    finally:
        application.stop()


def load(target: str) -> Any:
    """Import an application by name; a class or function is called for one. Raises ShellError."""
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise ShellError(f"expected --start module:attribute, got: {target!r}", USAGE)
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ShellError(
            f"expected --start to name something that can be imported, got: {target!r} ({error})", USAGE
        ) from error
    if isinstance(found, type) or not hasattr(found, "start"):
        if not callable(found):
            raise ShellError(f"expected {target} to be an application, or to make one, got: {found!r}", USAGE)
        try:
            found = found()
        except TypeError as error:
            raise ShellError(f"expected {target} to need no arguments, got: {error}", USAGE) from error
    if not all(hasattr(found, name) for name in ("start", "stop", "socket_path")):
        raise ShellError(f"expected {target} to be an application, got: {found!r}", USAGE)
    return found
