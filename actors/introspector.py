"""The introspector actor: lets a shell look into the node, over a Unix socket of the user's own.

It owns the socket and the ring of incidents. Its sessions answer from the process table, each in a native thread of its
own, so a node can be looked into while its hub or any of its actors is stuck; only what must ask an actor waits, and
never longer than the shell said. Nothing is changed from a shell unless the node was told to allow it.

`Introspection` is the declaration that an application keeps; it outlives the actor's incarnations.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from loguru import logger

from actors._actor import Actor
from actors._introspection_answers import Answers
from actors._introspection_crashes import EVENTS
from actors._introspection_server import Server
from actors._ref import ActorRef
from runtime import _scheduler, subscribe
from runtime._events import Event
from runtime._mailbox import Mailbox
from runtime._table import table
from runtime._watchdog import BLOCKED_NS
from runtime.catalogue import Catalogue
from runtime.errors import ExitReason, expected
from runtime.shell import _places
from runtime.shell._places import UnsafePlace
from runtime.shell.protocol import NodeId

__all__ = ["NAME", "Introspection", "Introspector", "forget"]

NAME = "introspector"
_CAPACITY = 1_000
_LOOK_EVERY_S = 5.0


class Introspection:
    """Declare how a node may be looked into; `path` of the socket (default: in the user's runtime directory).

    `allow_control`: whether a shell may stop, restart, detach, reattach and emit. `catalogue`: the declared events.

    >>> Introspection("shop", path="shop.sock")
    Traceback (most recent call last):
        ...
    runtime.errors.InvalidValue: expected the path of the socket to be absolute, got: 'shop.sock'
    """

    def __init__(
        self,
        name: str,
        *,
        path: str | os.PathLike[str] | None = None,
        allow_control: bool = False,
        catalogue: Catalogue | None = None,
    ) -> None:
        if path is not None and not os.path.isabs(os.fspath(path)):
            raise expected("the path of the socket to be absolute", os.fspath(path))
        self.name = name
        self.mailbox = Mailbox(_CAPACITY, "drop_oldest")
        self.problem = ""
        self._asked_for = None if path is None else Path(path)
        self._server: Server | None = None
        self.answers = Answers(
            self.node, allow_control=allow_control, catalogue=catalogue, where=lambda: str(self.path)
        )

    def start_link(self) -> ActorRef[Any]:
        """Start the actor, linked to the calling one."""
        return Introspector.options(name=NAME, mailbox=self.mailbox).start_link(self)

    @property
    def path(self) -> Path | None:
        """The socket that is listened on now."""
        return self._server.path if self._server is not None else None

    @property
    def sessions(self) -> int:
        """How many shells are connected."""
        return self._server.sessions if self._server is not None else 0

    def open(self) -> None:
        """Listen, unless that is so already. What stands in the way is kept as `problem` and logged, never raised."""
        if self._server is not None and self._server.is_in_place():
            return
        self.close()
        try:
            path = self._asked_for or _places.socket_path(self.name, os.getpid())
            server = Server(path, self.answers.answer, self.node)
            server.open()
        except (UnsafePlace, OSError) as error:
            if str(error) != self.problem:
                logger.warning("no shell can look into {}: {}", self.name, error)
            self.problem = str(error)
            return
        self._server, self.problem = server, ""
        logger.info("a shell can look into {} at {}", self.name, server.path)

    def close(self) -> None:
        """Listen no more and end every session."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def node(self) -> NodeId:
        """Say who answers, and for how long the hub has been stuck."""
        scheduler = _scheduler._scheduler
        blocked_ns = scheduler.statistics().blocked_ns if scheduler is not None else 0
        return NodeId(self.name, os.getpid(), blocked_ns if blocked_ns >= BLOCKED_NS else 0)


class Introspector(Actor):
    """Keep the socket open and take note of what goes wrong; see the module."""

    carrier: ClassVar[str] = "thread"

    def __init__(self, declared: Introspection) -> None:
        super().__init__()
        self._declared = declared
        self._look = object()
        self._timer: Any = None

    def on_start(self) -> None:
        declared = self._declared
        declared.answers.own_id = self._id
        subscribe(NAME, EVENTS, self._mailbox)
        declared.open()
        self._look_later()

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Event):
            self._declared.answers.incidents.hear(message)
        elif message is self._look:
            self._declared.open()
            self._declared.answers.rate.look()
            self._look_later()
        elif type(message) is not object:  # an earlier incarnation's look
            return super().on_receive(message)
        return None

    def on_stop(self, reason: ExitReason = "normal") -> None:
        self._timer.cancel()
        forget(self._declared)

    def get_state(self) -> dict[str, Any]:
        """Tell about the socket."""
        declared = self._declared
        return {"socket": str(declared.path), "sessions": declared.sessions, "problem": declared.problem}

    def _look_later(self) -> None:
        self._timer = self.send_after(_LOOK_EVERY_S, self._look)


def forget(declared: Introspection) -> None:
    """Close the socket and hear no more events; for the end of the actor, or of an application that killed it."""
    declared.close()
    table.remove_sink(NAME)
    if table.router is not None:
        table.router.changed(wait=False)
