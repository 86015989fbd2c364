"""beamstalk's kernel: emit events, attach handlers.

>>> import runtime
>>> runtime.execute("shop.order.placed", {"amount": 12.5}, {"currency": "EUR"})
"""

from loguru import logger as _logger

from runtime._dispatch import Emitter, commit, event, execute
from runtime._events import Event
from runtime._handler_options import HandlerOptions
from runtime._handlers import (
    HandlerInfo,
    attach,
    attach_many,
    dead_letters,
    detach,
    list_handlers,
    reattach,
    subscribe,
    unsubscribe,
)
from runtime._spans import Span, span
from runtime._table import DeadLetter

__all__ = [
    "DeadLetter",
    "Emitter",
    "Event",
    "HandlerInfo",
    "HandlerOptions",
    "Span",
    "attach",
    "attach_many",
    "commit",
    "dead_letters",
    "detach",
    "event",
    "execute",
    "list_handlers",
    "reattach",
    "span",
    "subscribe",
    "unsubscribe",
]

_logger.disable("runtime")
