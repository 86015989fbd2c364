"""Optional dependencies: a reporter whose extra is not installed says which line installs it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from runtime.errors import BeamstalkError


class MissingExtra(BeamstalkError, ImportError):
    """Tell the line that installs what is missing."""


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an extra.

    >>> require("no_such_module", extra="prometheus")
    Traceback (most recent call last):
        ...
    reporters._extras.MissingExtra: expected the extra 'prometheus' to be installed, got: No module named \
'no_such_module'. Run: pip install 'beamstalk[prometheus]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"expected the extra {extra!r} to be installed, got: {error}. Run: pip install 'beamstalk[{extra}]'"
        ) from error
