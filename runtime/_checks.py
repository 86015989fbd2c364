"""Checks of single options, shared by everything that takes some. Each answers nothing, or raises InvalidValue with the
option's name, what was expected and what came. A bool is no number here: it is nearly always an argument that slipped.
"""

from __future__ import annotations

import math
from threading import TIMEOUT_MAX

from runtime.errors import expected

LONGEST_S = int(TIMEOUT_MAX)
"""What comes after that no lock of this system can wait for; mostly 292 years."""


def check_seconds(option: str, value: object) -> None:
    """Refuse what is no positive number of seconds, or more than a lock can wait for.

    >>> check_seconds("block_s", "soon")
    Traceback (most recent call last):
        ...
    runtime.errors.InvalidValue: expected block_s to be a positive number of seconds, got: 'soon'
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise expected(f"{option} to be a positive number of seconds", value)
    if value > LONGEST_S:
        raise expected(f"{option} to be at most {LONGEST_S} seconds", value)


def check_timeout(timeout: object) -> None:
    """Refuse what nobody can wait for: None (for ever) and numbers of seconds are taken, past ones as no time at all.

    >>> check_timeout(float("inf"))
    Traceback (most recent call last):
        ...
    runtime.errors.InvalidValue: expected timeout to be a number of seconds, or None for ever, got: inf
    """
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout <= LONGEST_S:
        raise expected("timeout to be a number of seconds, or None for ever", timeout)


def check_count(option: str, value: object) -> None:
    """Refuse what is no whole number, zero or more.

    >>> check_count("dead_letters", 1.5)
    Traceback (most recent call last):
        ...
    runtime.errors.InvalidValue: expected dead_letters to be a whole number from 0 up, got: 1.5
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise expected(f"{option} to be a whole number from 0 up", value)
