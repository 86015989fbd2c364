"""Fixtures of the kernel tests: routes that are put back, a scheduler that is stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from runtime import _dispatch, _scheduler
from runtime._mailbox import Mailbox
from runtime.clock import Clock


@pytest.fixture(autouse=True)
def kernel_is_put_back() -> Iterator[None]:
    """Stop what the test started and empty the routes."""
    yield
    _dispatch.publish({})
    _dispatch.use_clock(Clock())
    assert _scheduler.stop(30)


@pytest.fixture
def routed() -> Callable[..., Mailbox]:
    """Route events, by name, into one mailbox that nobody empties: `mail = routed("a.b", "a.c")`."""

    def route(*names: str, mailbox: Mailbox | None = None) -> Mailbox:
        mailbox = mailbox or Mailbox()
        _dispatch.publish(dict.fromkeys(names, (mailbox,)))
        return mailbox

    return route
