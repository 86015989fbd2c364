"""The supervisor: starts its children in order, restarts those that fail, stops them in reverse.

    from supervisors import ChildSpec, Supervisor

    shop = Supervisor.start(
        children=[
            ChildSpec("stock", Stock),
            ChildSpec("tills", (Tills, (3,)), restart="transient"),
            Supervisor.child("reports", children=[ChildSpec("daily", Daily)]),
        ],
        strategy="rest_for_one",
        max_restarts=3,
        max_seconds=5,
        name="shop",
    )
    shop.which_children()

or, where the children depend on arguments or the supervisor deserves a name of its own, a subclass:

    class Shop(Supervisor):
        strategy = "rest_for_one"

        def children(self):
            return [ChildSpec("stock", Stock), ChildSpec("tills", (Tills, (3,)))]

The rules are those of OTP's `supervisor`. It runs as a green actor and does one thing at a time: while it starts or
stops a child it answers nobody, so children should start fast (`continue_`) and stop in time.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Unpack

from actors import ActorRef
from runtime.errors import AlreadyExists, ExitReason, NotFound, expected
from supervisors._core import Child, SupervisorCore
from supervisors._flags import FlagOptions
from supervisors.child_spec import ChildSpec, SpecLike, check_child_specs, check_significant
from supervisors.refs import ChildRestarting, ChildRunning, SupervisorRef

__all__ = ["Supervisor"]


class Supervisor(SupervisorCore[SupervisorRef]):
    """Supervise children that go by their ids.

    Options, as arguments of `start` or as attributes of a subclass:

    children: child specs, or objects with `child_spec()`, in start order. A subclass overrides `children()` instead.
    strategy: "one_for_one" restarts the child that ended; "one_for_all" stops all others in reverse and starts all in
        order; "rest_for_one" does so with those started after it. Default "one_for_one".
    max_restarts, max_seconds: restarts granted within that many seconds, over all children; one more and the supervisor
        gives up: it stops its children and exits with reason "shutdown". Default 3 in 5 s.
    auto_shutdown: "any_significant" or "all_significant" stops the supervisor, with reason "shutdown", once any or all
        of its significant children ended for good. Default "never".
    backoff: a tenacity wait policy between restarts, for instance `tenacity.wait_random_exponential(max=30)`; the child
        is "restarting" meanwhile. Default None: restart at once.
    name: the name under which `whereis` finds it.

    `start` returns when all children are started. It raises `InvalidValue` for bad flags and specs before it starts
    anything, and `StartError` if a child fails to start; the children before it are stopped again then.
    """

    ref_class = SupervisorRef

    def __init__(self, children: Sequence[SpecLike] = (), **options: Unpack[FlagOptions]) -> None:
        super().__init__(**options)
        if not isinstance(children, list | tuple):
            # An iterator would be empty when the supervisor itself is restarted from its spec.
            raise expected("children to be a list or tuple of child specs", children)
        self._given = children
        self._by_id: dict[Hashable, Child] = {}

    def children(self) -> Iterable[SpecLike]:
        """Return the children to start with; a subclass says here what it supervises."""
        return self._given

    def on_start(self) -> None:
        specs = check_child_specs(self.children(), self._flags.auto_shutdown)
        self._given = ()
        self._by_id = {spec.id: Child(spec) for spec in specs}
        failure = self._start_all(list(self._by_id.values()))
        if failure is not None:
            self._stop_all()
            raise failure[1]

    def on_stop(self, reason: ExitReason = "normal") -> None:
        self._stop_all()

    def _stop_all(self) -> None:
        for child in reversed(list(self._by_id.values())):
            self._stop_child(child)

    # -- calls, see SupervisorRef ------------------------------------------------------------------------------------

    def _call_start_child(self, spec: ChildSpec) -> ActorRef[Any] | None:
        check_significant(spec, self._flags.auto_shutdown)
        known = self._by_id.get(spec.id)
        if known is not None:
            if known.running:
                raise _running(known)
            raise AlreadyExists(f"expected an id that no child has, got: {spec.id!r}. Restart or delete that child")
        child = Child(spec)
        if self._start_child(child) or spec.restart != "temporary":
            self._by_id[spec.id] = child
        return child.ref

    def _call_terminate_child(self, child_id: Hashable) -> None:
        self._stop_child(self._find(child_id))

    def _call_restart_child(self, child_id: Hashable) -> ActorRef[Any] | None:
        child = self._find_down(child_id)
        self._start_child(child)
        return child.ref

    def _call_delete_child(self, child_id: Hashable) -> None:
        self._find_down(child_id)
        del self._by_id[child_id]

    def _call_get_child_spec(self, child_id: Hashable) -> ChildSpec:
        return self._find(child_id).spec

    def _find(self, child_id: Hashable) -> Child:
        try:
            return self._by_id[child_id]
        except (KeyError, TypeError):
            raise NotFound(f"expected the id of a child, got: {child_id!r}") from None

    def _find_down(self, child_id: Hashable) -> Child:
        child = self._find(child_id)
        if child.retry is not None:
            raise ChildRestarting(child_id)
        if child.running:
            raise _running(child)
        return child

    # -- what SupervisorCore asks ------------------------------------------------------------------------------------

    def _all(self) -> Iterable[Child]:
        return self._by_id.values()

    def _group(self, child: Child) -> Sequence[Child]:
        strategy = self._flags.strategy
        if strategy == "one_for_one":
            return (child,)
        if strategy == "one_for_all":
            return list(self._by_id.values())
        later = itertools.takewhile(lambda other: other is not child, reversed(self._by_id.values()))
        return [child, *reversed(list(later))]

    def _retire(self, child: Child) -> None:
        super()._retire(child)
        if child.spec.restart == "temporary":
            del self._by_id[child.spec.id]


def _running(child: Child) -> ChildRunning:
    assert child.ref is not None
    return ChildRunning(child.spec.id, child.ref)
