"""Who is calling: the actor whose code runs in the calling greenlet or thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent

from runtime._scheduler import Worker

if TYPE_CHECKING:
    from actors._ref import ActorRef

_thread = threading.local()


def enter_thread(actor: Any) -> None:
    """Tell that the calling thread belongs to an actor from now on."""
    _thread.actor = actor


def current_actor() -> ActorRef[Any] | None:
    """Return the ref of the actor whose code is calling, or None outside actors."""
    running = getcurrent()
    actor = running.activity if isinstance(running, Worker) else getattr(_thread, "actor", None)
    ref: ActorRef[Any] | None = getattr(actor, "_actor_ref", None)
    return ref
