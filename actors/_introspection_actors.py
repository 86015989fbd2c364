"""What the shell's listings say of actors: `ps`, `tree`, `info`, `where`, `state`.

All but `state` are answered from the process table, so they are there while every actor hangs. `state` asks the actor
itself, between two messages, and says so when it does not get there in time.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from time import monotonic_ns
from types import FrameType
from typing import Any, Literal

import msgspec
import pykka

from actors._actor import Actor
from actors._introspection_crashes import Incidents
from actors._introspection_index import Child, Index, describe, gently, running_scheduler
from actors._introspection_plain import masked, plain, text
from runtime._mailbox import MailboxStatistics
from runtime._scheduler import Worker
from runtime.errors import BeamstalkError, NotFound

_CHUNK = 200
_MEANT = {"supervisor": "supervises"}  # "supervisor" is whose child it is
_FRAMES = 50
Column = Literal[
    "id", "actor", "kind", "state", "carrier", "mailbox", "messages_per_s", "handled", "failed", "dropped", "restarts",
    "uptime_ns", "busy_ns", "supervisor",
]  # fmt: skip


class Late(BeamstalkError):
    """The actor did not answer in time."""


class ActorRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `ps`. Counts are messages; `messages_per_s` is the mean since the actor's start."""

    id: int
    actor: str
    kind: str
    state: str
    carrier: str
    mailbox: int
    capacity: int | None
    messages_per_s: float
    handled: int
    failed: int
    dropped: int
    restarts: int
    uptime_ns: int
    busy_ns: int
    supervisor: str | None


class PsArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines of `ps`, in which order: those whose actor, kind or supervisor contains `match`."""

    sort: Column = "id"
    reverse: bool = False
    match: str = ""
    limit: int = 100_000


class TreeArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the tree, and how many children of one supervisor before the rest is only counted."""

    actor: str = ""
    children: int = 50


class OfActor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which actor: its name, label or process id."""

    actor: str


def rows(index: Index) -> Iterable[ActorRow]:
    """Make a line for every actor. All ages are of one moment, or two of nearly the same age could change places."""
    at_ns = monotonic_ns()
    for ref, info in index.infos():
        box = info.mailbox
        done = box.handled + box.failed
        uptime_ns = max(at_ns - info.started_ns, 0)
        yield ActorRow(
            id=info.id,
            actor=index.label(ref),
            kind=info.kind,
            state=info.state,
            carrier=info.carrier,
            mailbox=box.pending,
            capacity=box.capacity,
            messages_per_s=done * 1e9 / uptime_ns if uptime_ns else 0.0,
            handled=box.handled,
            failed=box.failed,
            dropped=sum(box.dropped.values()),
            restarts=info.restarts,
            uptime_ns=uptime_ns,
            busy_ns=max(info.busy_ns, 0),
            supervisor=index.supervisor_label(ref),
        )


def ps(args: PsArgs) -> dict[str, Any]:
    """List actors."""
    found = list(rows(Index()))
    total = len(found)
    if args.match:
        found = [row for row in found if args.match in f"{row.actor}\n{row.kind}\n{row.supervisor}"]
    matching = len(found)
    if args.sort != "id" or args.reverse:
        found.sort(key=lambda row: _orderable(getattr(row, args.sort)), reverse=args.reverse)
    return {"actors": gentle_list(found[: max(args.limit, 0)]), "matching": matching, "total": total}


def _orderable(value: Any) -> Any:
    return value if value is not None else ""


def gentle_list(items: list[Any]) -> msgspec.Raw:
    """Encode a long list in pieces: one call would hold the GIL for milliseconds."""
    pieces = (items[begin : begin + _CHUNK] for begin in range(0, len(items), _CHUNK))
    return msgspec.Raw(b"[" + b",".join(gently(msgspec.json.encode(piece)[1:-1] for piece in pieces)) + b"]")


# -- tree --------------------------------------------------------------------------------------------------------------


def tree(args: TreeArgs) -> list[dict[str, Any]]:
    """List the supervision tree, depth first; each line has its `depth`, and a supervisor what it supervises by."""
    index = Index()
    started: dict[int, list[Any]] = {}
    for ref in index.refs.values():
        if ref.parent is not None and index.child(ref) is None:
            started.setdefault(ref.parent.id, []).append(ref)
    most = max(args.children, 1)
    tops = [index.find(args.actor, as_tree=True)] if args.actor else sorted(index.roots(), key=lambda ref: ref.id)
    lines: list[dict[str, Any]] = []
    # A stack of our own: a chain of actors may be longer than Python's.
    waiting: list[tuple[int, Child | int, dict[str, Any] | None]] = []

    def wait(depth: int, children: list[Child], failures: dict[str, Any]) -> None:
        if len(children) > most:
            waiting.append((depth, len(children) - most, None))
        waiting.extend((depth, one, failures.get(str(one.id))) for one in reversed(children[:most]))

    wait(0, [index.child(ref) or _unsupervised(ref) for ref in tops], {})
    while waiting:
        depth, child, failure = waiting.pop()
        if isinstance(child, int):
            lines.append({"depth": depth, "more": child})
            continue
        ref = child.ref
        if ref is None:
            down = {"id": None, "actor": child.label, "kind": None, "state": child.state, "restarts": child.restarts}
            lines.append({"depth": depth, **down, "last_failure": plain(failure)})
            continue
        supervisor = describe(ref).get("supervisor")
        lines.append({"depth": depth, **_tree_line(index, ref, child, supervisor), "last_failure": plain(failure)})
        failures = {one["child"]: one for one in (supervisor or {}).get("last_restarts", ())}
        below = [*index.children.get(ref.id, ()), *map(_unsupervised, started.get(ref.id, ()))]
        wait(depth + 1, below, failures)
    return lines


def _unsupervised(ref: Any) -> Child:
    return Child("", None, ref, "", 0, "", None)


def _tree_line(index: Index, ref: Any, child: Child, supervisor: dict[str, Any] | None) -> dict[str, Any]:
    info = ref.info()
    line = {
        "id": info.id,
        "actor": index.label(ref),
        "kind": info.kind,
        "carrier": info.carrier,
        "state": "restarting" if child.state == "restarting" else info.state,
        "mailbox": info.mailbox.pending,
        "restarts": max(info.restarts, child.restarts),
    }
    if supervisor is not None:
        shown = ("strategy", "restarts_in_window", "max_restarts", "max_seconds")
        line["supervisor"] = {key: supervisor[key] for key in shown}
    return line


# -- one actor ---------------------------------------------------------------------------------------------------------


def info(args: OfActor, incidents: Incidents) -> dict[str, Any]:
    """Tell everything that is known of one actor without asking it."""
    index = Index()
    child = index.find_child(args.actor)
    if child.ref is None:
        supervisor = index.label(child.supervisor)
        down = {"id": None, "actor": child.label, "state": child.state, "restarts": child.restarts}
        return {**down, "restart": child.rule, "supervisor": supervisor, "crashes": _lately(incidents, {child.label})}
    ref, actor = child.ref, child.ref._actor
    known, told = ref.info(), describe(child.ref)
    current = actor._current
    names = {index.label(ref), ref.name or "", child.label, str(told.get("handler", {}).get("id", ""))} - {""}
    return {
        "id": known.id,
        "actor": index.label(ref),
        "class": f"{type(actor).__module__}.{type(actor).__qualname__}",
        "state": known.state,
        "carrier": known.carrier,
        "supervisor": index.supervisor_label(ref),
        "restart": child.rule or None,
        "path": index.path(ref),
        "children": len(index.children.get(ref.id, ())),
        "restarts": known.restarts,
        "uptime_ns": known.uptime_ns,
        "busy_ns": max(known.busy_ns, 0),
        "message": None if current is None else text(current),
        "mailbox": _mailbox(known.mailbox),
        "links": len(actor._links or ()) + bool(actor._parent_linked),
        "trap_exits": actor.trap_exits,
        **{_MEANT.get(key, key): plain(value) for key, value in told.items()},
        "crashes": _lately(incidents, names),
    }


def _lately(incidents: Incidents, names: set[str]) -> list[dict[str, Any]]:
    found = [one for name in sorted(names) for one in incidents.of(name)]
    return [msgspec.structs.asdict(one) for one in sorted(found, key=lambda one: one.number)[-5:]]


def _mailbox(box: MailboxStatistics) -> dict[str, Any]:
    return {**msgspec.structs.asdict(box), "offered": box.offered}


def state(args: OfActor, timeout_s: float) -> Any:
    """Ask an actor for its state. Raises Late when it is too busy to answer."""
    index = Index()
    ref = index.find(args.actor)
    try:
        return plain(ref.get_state(timeout=timeout_s))
    except pykka.Timeout:
        label, why = index.label(ref), busy_with(ref, timeout_s)
        raise Late(f"{label} did not answer within {timeout_s:g} s: {why}. See: where {label}") from None
    except pykka.ActorDeadError:
        raise NotFound(f"no actor named {args.actor!r}: it has just ended") from None


def busy_with(ref: Any, waited_s: float) -> str:
    """Say why an actor has not answered."""
    known = ref.info()
    blocked_ns = running_scheduler().statistics().blocked_ns if known.carrier == "green" else 0
    if blocked_ns > waited_s * 1e9:
        return f"the hub has been blocked for {blocked_ns / 1e9:.1f} s"
    return f"it has been on its current message for {known.busy_ns / 1e9:.1f} s" if known.busy_ns else "it is busy"


def where(args: OfActor) -> dict[str, Any]:
    """Tell where in the tree an actor is, and where in the code."""
    index = Index()
    ref = index.find(args.actor)
    frame, doing = _frame_of(ref._actor)
    stack = traceback.extract_stack(frame, _FRAMES) if frame is not None else []
    since_ns = ref.info().busy_ns
    return {
        "actor": index.label(ref),
        "path": index.path(ref),
        "doing": doing,
        "busy_ns": max(since_ns, 0),
        "stack": [
            {"file": one.filename, "line": one.lineno, "function": one.name, "code": masked(one.line or "")}
            for one in stack
        ],
    }


def _frame_of(actor: Actor) -> tuple[FrameType | None, str]:
    worker = actor._worker
    if worker is None and actor.carrier == "green":
        return None, "waiting for mail; an idle actor has no stack"
    if isinstance(worker, Worker):
        if worker.gr_frame is not None:
            return worker.gr_frame, "waiting inside a message"
        return sys._current_frames().get(running_scheduler()._thread_id or -1), "running on the hub"
    for frame in sys._current_frames().values():
        outer: FrameType | None = frame
        while outer is not None:
            if outer.f_code is Actor._run_thread.__code__ and outer.f_locals.get("self") is actor:
                return frame, "running in its thread" if worker is not None else "waiting for mail, in its thread"
            outer = outer.f_back
    return None, "its thread has no frame"
