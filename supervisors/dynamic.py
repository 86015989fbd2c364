"""The dynamic supervisor: any number of children, started on demand, each on its own.

    from supervisors import ChildSpec, DynamicSupervisor

    sessions = DynamicSupervisor.start(max_children=10_000, name="sessions")
    session = ChildSpec("session", Session, restart="temporary")    # one spec serves them all
    ref = sessions.start_child(session, "alice")
    sessions.terminate_child(ref)

It is OTP's `simple_one_for_one` in the shape of Elixir's `DynamicSupervisor`: children go by their refs, have no order,
and are forgotten when they end and are not restarted. When it stops, all children are told at once, and those with the
same `shutdown` share one deadline.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from actors import ActorRef
from runtime.errors import ExitReason, NotFound, expected
from supervisors._core import Child, SupervisorCore
from supervisors._flags import FlagOptions, check_count
from supervisors.child_spec import ChildSpec, check_significant
from supervisors.refs import DynamicSupervisorRef, MaxChildren

__all__ = ["DynamicSupervisor"]


class DynamicSupervisor(SupervisorCore[DynamicSupervisorRef]):
    """Supervise children that go by their refs, each of them one_for_one.

    Options, as arguments of `start` or as attributes of a subclass:

    max_children: children there may be at a time, restarting ones included; None (the default): any number.
    max_restarts, max_seconds, auto_shutdown, backoff, name: as for `Supervisor`. `strategy` can only be "one_for_one".

    `start` raises `InvalidValue` for bad options.
    """

    ref_class = DynamicSupervisorRef

    max_children: int | None = None

    def __init__(self, *, max_children: int | None = None, **options: Unpack[FlagOptions]) -> None:
        super().__init__(**options)
        if self._flags.strategy != "one_for_one":
            raise expected("strategy of a dynamic supervisor to be 'one_for_one'", self._flags.strategy)
        if max_children is not None:
            self.max_children = max_children
        if self.max_children is not None:
            check_count("max_children", self.max_children)

    def on_stop(self, reason: ExitReason = "normal") -> None:
        running = [child for child in self._all() if child.running]
        for child in running:
            self._signal(child)
        # Shortest patience first: whoever has a later deadline uses the same time.
        running.sort(key=lambda child: child.patience_s)
        begun_ns = self.clock.monotonic_ns()
        for child in running:
            self._end_child(child, child.patience_s - (self.clock.monotonic_ns() - begun_ns) / 1e9)

    # -- calls, see DynamicSupervisorRef -----------------------------------------------------------------------------

    def _call_start_child(self, spec: ChildSpec, args: tuple[Any, ...]) -> ActorRef[Any] | None:
        check_significant(spec, self._flags.auto_shutdown)
        if self.max_children is not None and len(self._by_ref) >= self.max_children:
            raise MaxChildren(self.max_children)
        child = Child(spec, args)
        self._start_child(child)
        if spec.restart == "temporary":
            child.args = ()  # never needed again
        return child.ref

    def _call_terminate_child(self, ref: ActorRef[Any]) -> None:
        child = self._find(ref)
        if child is not None:
            self._stop_child(child)
        elif ref.is_alive():
            raise NotFound(f"expected the ref of a child, got: {ref}")

    def _call_get_child_spec(self, ref: ActorRef[Any]) -> ChildSpec:
        child = self._find(ref)
        if child is None:
            raise NotFound(f"expected the ref of a child, got: {ref}")
        return child.spec

    def _find(self, ref: object) -> Child | None:
        if not isinstance(ref, ActorRef):
            raise expected("the ref of a child", ref)
        return self._by_ref.get(ref)

    # -- what SupervisorCore asks ------------------------------------------------------------------------------------

    def _all(self) -> Iterable[Child]:
        return self._by_ref.values()
