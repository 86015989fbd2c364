"""The flags of a supervisor: its strategy, its restart intensity, its automatic shutdown.

Supervisors build one `Flags` from what their caller passed; a wrong flag raises `InvalidValue` naming the field and the
value, before anything starts. Nothing changes flags afterwards.
"""

from __future__ import annotations

import math
from typing import Literal, TypedDict

import msgspec
from tenacity.wait import wait_base

from runtime.errors import expected
from supervisors.child_spec import AutoShutdown, check_backoff, one_of

__all__ = ["FlagOptions", "Flags", "Strategy", "check_count"]

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


class FlagOptions(TypedDict, total=False):
    """The keyword arguments by which a caller gives flags."""

    strategy: Strategy
    max_restarts: int
    max_seconds: float
    auto_shutdown: AutoShutdown
    backoff: wait_base | None


class Flags(msgspec.Struct, frozen=True):
    """Hold the checked flags of one supervisor.

    strategy: which children a restart takes along: none, all, or those started later.
    max_restarts: restarts granted within `max_seconds`; 0 means that the first restart-worthy exit is the end.
    max_seconds: length of the window in seconds, a positive number.
    auto_shutdown: "never", or stop once any / all of the significant children ended.
    backoff: tenacity wait policy between restarts; None restarts at once, as OTP does.

    >>> Flags(max_seconds=0)
    Traceback (most recent call last):
    runtime.errors.InvalidValue: expected max_seconds to be a positive number, got: 0
    """

    strategy: Strategy = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 5
    auto_shutdown: AutoShutdown = "never"
    backoff: wait_base | None = None

    def __post_init__(self) -> None:
        one_of("strategy", self.strategy, ("one_for_one", "one_for_all", "rest_for_one"))
        check_count("max_restarts", self.max_restarts)
        seconds = self.max_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not (0 < seconds < math.inf):
            raise expected("max_seconds to be a positive number", seconds)
        one_of("auto_shutdown", self.auto_shutdown, ("never", "any_significant", "all_significant"))
        check_backoff(self.backoff)


def check_count(field: str, value: object) -> None:
    """Refuse what is not an integer of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise expected(f"{field} to be an int >= 0", value)
