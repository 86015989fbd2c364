"""What the shell may change, where the node allows it: stop, restart, detach, reattach, emit.

Stopping and restarting go through the supervisor, by OTP's own calls, so that a stopped child stays down and a restart
does not count against the restart intensity. Each runs in a thread of its own that the session waits for only as long
as it was told; what takes longer goes on and is answered for as late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pykka
from loguru import logger

import runtime
from actors._introspection_actors import Late
from actors._introspection_events import attachment
from actors._introspection_index import Child, Index
from runtime import _native
from runtime._waiting import ThreadWaiter
from runtime.errors import BeamstalkError

_AT_ONCE = 8
_running: set[object] = set()


class Refused(BeamstalkError):
    """The node does not do that."""


class Confirmed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to change (the name of an actor or handler), and that it is meant."""

    target: str
    yes: bool = False


class Emit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event to emit."""

    event: str
    measurements: dict[str, int | float] = {}
    metadata: dict[str, Any] = {}
    yes: bool = False


def stop(args: Confirmed, timeout_s: float, own_id: int) -> dict[str, Any]:
    """Stop an actor; one that is supervised stays down until it is restarted."""
    child = _target(args.target, own_id)
    if child.ref is None:
        return {"actor": child.label, "was": child.state, "is": child.state}
    was = child.ref.info().state
    parent = child.supervisor
    if parent is None:
        _within(timeout_s, lambda: child.ref.stop(timeout=timeout_s), child.label)
    else:
        key = child.id if hasattr(parent, "restart_child") else child.ref
        _within(timeout_s, lambda: parent.terminate_child(key), child.label)
    return {"actor": child.label, "was": was, "is": "down"}


def restart(args: Confirmed, timeout_s: float, own_id: int) -> dict[str, Any]:
    """Restart an actor through its supervisor, or start one that is down."""
    child = _target(args.target, own_id)
    parent = child.supervisor
    if parent is None:
        raise Refused(f"nobody supervises {child.label}, so nobody would start it again. Use stop")
    was = child.ref.info().state if child.ref is not None else child.state
    if hasattr(parent, "restart_child"):

        def again() -> Any:
            if child.state != "down":
                parent.terminate_child(child.id)
            return parent.restart_child(child.id)

        ref = _within(timeout_s, again, child.label)
        return {"actor": child.label, "was": was, "is": "running", "id": getattr(ref, "id", None)}
    if child.rule == "temporary":
        raise Refused(f"{child.label} is temporary: its supervisor would not start it again. Use stop")
    # A dynamic supervisor has no call for it; by its rule a child that is killed is started again.
    child.ref.kill()
    _within(timeout_s, lambda: child.ref.wait(timeout_s), child.label)
    return {"actor": child.label, "was": was, "is": "restarting"}


def detach(args: Confirmed, timeout_s: float) -> dict[str, Any]:
    """Detach a handler."""
    found = attachment(args.target)
    _within(timeout_s, lambda: runtime.detach(found.id), found.id)
    return {"handler": found.id, "was": found.state, "is": "detached"}


def reattach(args: Confirmed, timeout_s: float) -> dict[str, Any]:
    """Give a parked handler another chance."""
    found = attachment(args.target)
    was = found.state
    _within(timeout_s, lambda: runtime.reattach(found.id), found.id)
    return {"handler": found.id, "was": was, "is": found.state}


def emit(args: Emit, timeout_s: float) -> dict[str, Any]:
    """Emit an event."""
    emitter = runtime.event(args.event)
    heard = emitter.has_handlers()
    _within(timeout_s, lambda: emitter.execute(args.measurements, args.metadata), args.event)
    return {"event": args.event, "measurements": args.measurements, "metadata": args.metadata, "heard": heard}


def _target(name: str, own_id: int) -> Child:
    index = Index()
    child = index.find_child(name)
    if child.ref is None:
        return child
    child = child._replace(label=index.label(child.ref))
    if child.ref.parent is None and child.ref.id in index.children:
        raise Refused(
            f"{index.label(child.ref)} is the top of the tree: ending it would end the service. Stop the process"
        )
    own = index.refs.get(own_id)
    while own is not None:
        if own is child.ref:
            raise Refused(f"{index.label(child.ref)} is, or holds, what answers this shell")
        own = own.parent
    return child


def _within(timeout_s: float, call: Callable[[], Any], label: str) -> Any:
    """Run something that may wait for ever, and wait for it for a while."""
    if len(_running) >= _AT_ONCE:
        raise Refused(f"{_AT_ONCE} earlier commands have not come to their end. See: ps --sort busy_ns -r")
    done, mark = ThreadWaiter(), object()
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))
        finally:
            _running.discard(mark)
            done.wake()

    _running.add(mark)
    _native.start_new_thread(run, ())
    done.wait(timeout_s)
    if not outcome:
        raise Late(f"{label}: not done within {timeout_s:g} s; it goes on. See: where {label}")
    result, error = outcome[0]
    if isinstance(error, pykka.Timeout):
        raise Late(f"{label}: {error}")
    if isinstance(error, pykka.ActorDeadError):
        raise BeamstalkError(f"{label}: its supervisor has just ended. Ask again")
    if error is not None:
        raise error
    logger.info("changed from the shell: {}", label)
    return result
