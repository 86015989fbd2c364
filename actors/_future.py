"""Replies: pykka's Future, waited for from threads, green actors and foreign gevent hubs alike."""

from __future__ import annotations

import sys
from typing import Any, Protocol, TypeVar

import pykka

from runtime._checks import check_timeout
from runtime._waiting import Waiter, waiter

T = TypeVar("T")


class Asked(Protocol):
    """Who is to give a reply, and must not wait for it."""

    def _forbid_asking_oneself(self) -> None:
        """Raise when it is the caller."""


class Future(pykka.Future[T]):
    """The reply to an ask. The first result counts; later ones (from a fenced actor, say) are dropped.

    >>> future = Future()
    >>> future.set(3), future.set(4), future.get()
    (None, None, 3)
    """

    # What pykka's own __init__ would set on each: no hook, and no result of it.
    _get_hook: Any = None
    _get_hook_result: Any = pykka.Future()._get_hook_result

    def __init__(self, asked: Asked | None = None) -> None:
        self._asked = asked
        # A list because `append` is one step: of two that give a reply at the same time exactly one is first.
        self._replies: list[tuple[Any, BaseException | None]] = []
        self._waiters: list[Waiter] = []

    def get(self, *, timeout: float | None = None) -> Any:
        """Wait for the reply, at most `timeout` seconds (pykka.Timeout); raise what the actor raised."""
        check_timeout(timeout)
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if self._asked is not None and not self._replies:
            self._asked._forbid_asking_oneself()
        return self.wait(timeout)

    def wait(self, timeout: float | None) -> Any:
        """Wait as `get` does, for somebody who is known not to be the one asked."""
        if not self._replies:
            waiting = waiter()
            self._waiters.append(waiting)
            if self._replies:
                waiting.wake()
            if not waiting.wait(timeout) and not self._replies:
                raise pykka.Timeout(f"expected a reply within {timeout} s, got: none")
        value, error = self._replies[0]
        if error is not None:
            raise error
        return value

    def done(self) -> bool:
        """Tell whether the reply is there."""
        return bool(self._replies)

    def set(self, value: Any = None) -> None:
        """Give the reply."""
        self._settle(value, None)

    def set_exception(self, exc_info: Any = None) -> None:
        """Give an exception as the reply: an exc_info triple, or the one being handled (pykka's call; see `fail`)."""
        kind, error, _ = exc_info or sys.exc_info()
        if error is None and kind is not None:
            error = kind()
        assert error is not None, "set_exception outside an except block"
        self._settle(None, error)

    def fail(self, error: BaseException) -> None:
        """Give an exception as the reply."""
        self._settle(None, error)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        self._replies.append((value, error))
        for waiting in self._waiters:
            waiting.wake()


class Ask:
    """A message in the load lane that somebody waits to have answered."""

    __slots__ = ("message", "reply_to")

    def __init__(self, message: Any, reply_to: Future[Any]) -> None:
        self.message = message
        self.reply_to = reply_to

    def __repr__(self) -> str:
        return f"Ask({self.message!r})"
