"""After a fork: the child starts clean.

A forked child has none of its parent's threads, but all of its memory: locks that nobody will release, mailboxes whose
consumers are gone, sockets that belong to somebody else. Each module that keeps such things registers here how to begin
anew; nothing inherited is used, closed or flushed. What the child's application does then is its own policy.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from loguru import logger

_resets: list[Callable[[], None]] = []


def in_child(reset: Callable[[], None]) -> Callable[[], None]:
    """Register a function to be called in every forked child, in the order of registration."""
    _resets.append(reset)
    return reset


def _begin_anew() -> None:
    for reset in _resets:
        try:
            reset()
        except Exception:
            logger.exception("{} failed in a forked child", reset)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
