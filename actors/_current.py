"""Who is calling: the actor whose code runs in the calling greenlet or thread."""

from __future__ import annotations

import threading
from typing import Any

from greenlet import getcurrent

from runtime._scheduler import Worker

_thread = threading.local()


def enter_thread(actor: Any) -> None:
    """Tell that the calling thread belongs to an actor from now on."""
    _thread.actor = actor


def current_ref() -> Any:
    """Return the ref of the calling actor, or None outside actors."""
    running = getcurrent()
    actor = running.activity if isinstance(running, Worker) else getattr(_thread, "actor", None)
    return getattr(actor, "_actor_ref", None)
