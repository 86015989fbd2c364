"""Child specifications: what a supervisor must know to start, restart and stop one child.

Anybody builds specs; supervisors read them and never change them (they are frozen, and one spec may serve many
children). A spec is checked field by field when it is built, so that a bad one is refused before anything starts;
`check_child_specs` adds what only the supervisor can know: duplicate ids and its `auto_shutdown`.
This module starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec
from tenacity.wait import wait_base

from actors import Actor, ActorRef
from runtime.errors import AlreadyExists, expected

__all__ = [
    "AutoShutdown",
    "ChildSpec",
    "ChildType",
    "HasChildSpec",
    "Restart",
    "Shutdown",
    "SpecLike",
    "StartSpec",
    "check_backoff",
    "check_child_specs",
    "check_significant",
    "one_of",
    "spec_of",
]

Restart = Literal["permanent", "transient", "temporary"]
Shutdown = int | Literal["infinity", "brutal_kill"]
ChildType = Literal["worker", "supervisor"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]

_Startable = type[Actor] | Callable[..., ActorRef[Any]]
StartSpec = _Startable | tuple[_Startable, Iterable[Any]] | tuple[_Startable, Iterable[Any], Mapping[str, Any]]

_DEFAULT_WORKER_SHUTDOWN_MS = 5_000


class ChildSpec(msgspec.Struct, frozen=True):
    """Describe one child: how to start it, when to restart it, how to stop it.

    A wrong field raises `InvalidValue` here, naming the field and the value.

    id: any hashable value, unique within its supervisor (a dynamic supervisor does not look at it).
    start: an `Actor` subclass (started with `start_link`), a callable, or a tuple (class or callable, args[, kwargs]).
        A callable runs inside the supervisor, so it must not be slow; it returns the ref of the actor it started, or
        `actors.IGNORE`; what it raises is the start's failure. The supervisor links itself to that actor.
    restart: "permanent" (always), "transient" (only after an abnormal exit), "temporary" (never). Default permanent.
    shutdown: milliseconds to wait after the exit signal `shutdown` before the child is killed, "infinity", or
        "brutal_kill" to kill at once. Default 5,000 for workers and "infinity" for supervisors.
    type: "worker" or "supervisor". Default worker.
    significant: counts for the supervisor's `auto_shutdown`. Default False; refused with restart="permanent".
    backoff: a tenacity wait policy for restarts of this child; None (the default) takes the supervisor's.

    >>> from actors import Actor
    >>> spec = ChildSpec("clock", (Actor, (), {}), restart="transient")
    >>> spec.shutdown, spec.type
    (5000, 'worker')
    >>> ChildSpec("clock", Actor, restart="sometimes")
    Traceback (most recent call last):
    runtime.errors.InvalidValue: expected restart to be 'permanent', 'transient' or 'temporary', got: 'sometimes'
    """

    id: Hashable
    start: StartSpec
    restart: Restart = "permanent"
    shutdown: Shutdown | None = None
    type: ChildType = "worker"
    significant: bool = False
    backoff: wait_base | None = None

    def __post_init__(self) -> None:
        _check_id(self.id)
        _check_start(self.start)
        one_of("restart", self.restart, ("permanent", "transient", "temporary"))
        one_of("type", self.type, ("worker", "supervisor"))
        if self.shutdown is None:
            default = _DEFAULT_WORKER_SHUTDOWN_MS if self.type == "worker" else "infinity"
            msgspec.structs.force_setattr(self, "shutdown", default)
        _check_shutdown(self.shutdown)
        _check_significant(self.significant, self.restart)
        check_backoff(self.backoff)

    def replace(self, **changes: Any) -> ChildSpec:
        """Return a copy with some fields changed, checked like a new one.

        >>> from actors import Actor
        >>> ChildSpec("a", Actor).replace(id="b", restart="temporary").restart
        'temporary'
        """
        return msgspec.structs.replace(self, **changes)

    def target(self) -> tuple[_Startable, tuple[Any, ...], Mapping[str, Any]]:
        """Return what to start, its positional and its keyword arguments."""
        if not isinstance(self.start, tuple):
            return self.start, (), {}
        startable, args, *rest = self.start
        return startable, tuple(args), rest[0] if rest else {}


@runtime_checkable
class HasChildSpec(Protocol):
    """Anything that knows its own child specification."""

    def child_spec(self) -> ChildSpec:
        """Return the specification under which a supervisor starts this."""
        ...


SpecLike = ChildSpec | HasChildSpec


def check_child_specs(children: Iterable[SpecLike], auto_shutdown: AutoShutdown) -> list[ChildSpec]:
    """Check a supervisor's children before anything starts, and return their specs in order.

    Raises `InvalidValue` for what is no spec or does not go with `auto_shutdown`, and `AlreadyExists` for an id given
    twice.

    >>> from actors import Actor
    >>> check_child_specs([ChildSpec("a", Actor), ChildSpec("a", Actor)], "never")
    Traceback (most recent call last):
    runtime.errors.AlreadyExists: expected child ids to be unique, got twice: 'a'
    """
    if isinstance(children, str | bytes | Mapping) or not isinstance(children, Iterable):
        raise expected("children to be an iterable of child specs", children)
    specs = [check_significant(spec_of(child), auto_shutdown) for child in children]
    seen = set()
    for spec in specs:
        if spec.id in seen:
            raise AlreadyExists(f"expected child ids to be unique, got twice: {spec.id!r}")
        seen.add(spec.id)
    return specs


def spec_of(child: SpecLike) -> ChildSpec:
    """Return the spec of a child; runs in whoever hands it in, so that what its `child_spec()` does stays there."""
    spec = child.child_spec() if not isinstance(child, ChildSpec) and isinstance(child, HasChildSpec) else child
    if not isinstance(spec, ChildSpec):
        raise expected("a ChildSpec or an object with child_spec()", child, "Wrap it: ChildSpec(id, start)")
    return spec


def check_significant(spec: ChildSpec, auto_shutdown: AutoShutdown) -> ChildSpec:
    """Refuse a significant child where nothing would come of it; otherwise return the spec."""
    if spec.significant and auto_shutdown == "never":
        raise expected(
            f"significant of child {spec.id!r} to be False under auto_shutdown='never'",
            True,
            "Give the supervisor auto_shutdown='any_significant' or 'all_significant'",
        )
    return spec


def one_of(field: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not one of the words allowed for a field."""
    if not isinstance(value, str) or value not in allowed:
        words = ", ".join(repr(word) for word in allowed[:-1]) + f" or {allowed[-1]!r}"
        raise expected(f"{field} to be {words}", value)


def check_backoff(value: object) -> None:
    """Refuse what is neither None nor a tenacity wait policy."""
    if value is not None and not isinstance(value, wait_base):
        raise expected("backoff to be None or a tenacity wait policy", value, "For example tenacity.wait_exponential()")


def _check_id(value: object) -> None:
    try:
        hash(value)
    except TypeError:
        raise expected("id to be hashable", value) from None


def _check_start(value: object) -> None:
    what = "start to be an Actor class, a callable or a tuple (class or callable, args[, kwargs])"
    if not isinstance(value, tuple):
        if not callable(value):
            raise expected(what, value)
        return
    if len(value) not in (2, 3) or not callable(value[0]) or not isinstance(value[1], tuple | list):
        raise expected(what, value)
    if len(value) == 3 and not (isinstance(value[2], Mapping) and all(isinstance(key, str) for key in value[2])):
        raise expected(what, value)


def _check_shutdown(value: object) -> None:
    if value in ("infinity", "brutal_kill"):
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise expected("shutdown to be a number of milliseconds >= 0 (int), 'infinity' or 'brutal_kill'", value)


def _check_significant(value: object, restart: Restart) -> None:
    if not isinstance(value, bool):
        raise expected("significant to be a bool", value)
    if value and restart == "permanent":
        raise expected(
            "significant to be False with restart='permanent'", value, "Use restart='transient' or 'temporary'"
        )
