"""What must not hurt who calls it: reports, and calls that somebody else has asked for.

A report goes to listeners in the very thread that reports: inline handlers, and sinks of the log that were added with
`catch=False`. What they raise is theirs: an actor that is about to end, or a supervisor, must come to its next line all
the same. For the runtime's own threads; never for a call that a service's thread makes of itself.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec

import greenlet
from loguru import logger

_P = ParamSpec("_P")


class Interrupted(greenlet.GreenletExit):
    """Raised inside an actor that is killed while it waits, or that holds the hub while the scheduler is to end."""


def harmless(call: Callable[_P, object]) -> Callable[_P, None]:
    """Contain whatever a call raises, but for the end of the actor that makes it, and log it."""

    @functools.wraps(call)
    def contained(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            call(*args, **kwargs)
        except Interrupted:
            raise
        except BaseException as error:  # noqa: BLE001  # whatever it is, see above
            # The log may be what has failed: then there is nobody left to tell.
            with contextlib.suppress(BaseException):
                logger.opt(exception=error).error("{} failed", call)

    return contained
