"""The registry actor: routes events, sole writer of the routing snapshot.

The handler table belongs to the kernel and outlives this actor; emitters keep the last snapshot while it is being
restarted, and the new incarnation publishes the table as it is then. So its death loses no handler and no event, and so
does its orderly end: supervisors stop and start it with its siblings. Routing ends with the application.
"""

from __future__ import annotations

from typing import Any

from actors._actor import Actor
from runtime import _dispatch
from runtime._table import table

NAME = "telemetry.registry"


class Publish:
    """Ask the registry to publish the handler table as it is now."""

    __slots__ = ()


class Registry(Actor):
    """Publish the routing snapshot; see the module."""

    def on_start(self) -> None:
        _dispatch.use_clock(self.clock)
        _dispatch.publish(table.snapshot())

    def on_receive(self, message: Any) -> Any:
        match message:
            case Publish():
                _dispatch.publish(table.snapshot())
            case _:
                super().on_receive(message)
