"""What all supervisors share: one child's life under OTP's rules, without knowing how children are kept or grouped.

`SupervisorCore` is the actor behind `Supervisor`, `DynamicSupervisor` and `PartitionSupervisor`: it starts and stops
one child, decides what an exit means, counts restarts, retries, gives up, reports, and answers calls. A subclass says
which children there are, which of them a restart takes along, and how all of them are stopped. Everything runs inside
the supervisor's own actor, one message at a time; nothing here may be touched from outside.

A child is in one of three places: *running* (it has a ref), *restarting* (a start failed or its back-off runs: a
`Retry` is on its way), or *down*. `_place` is the only function that moves it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, TypeVar, Unpack, cast

import pykka
from tenacity.wait import wait_base

from actors import IGNORE, Actor, ActorRef
from runtime import _scheduler
from runtime.errors import (
    AlreadyStarted,
    BeamstalkError,
    Exit,
    ExitReason,
    StartError,
    expected,
    is_normal_exit,
    shown,
)
from supervisors import _reports
from supervisors._flags import FlagOptions, Flags, Strategy
from supervisors._restart import Backoff, RestartHistory, RestartRecord, RestartWindow
from supervisors.child_spec import AutoShutdown, ChildSpec, Restart, Shutdown
from supervisors.refs import AnySupervisorRef, Call, ChildCounts, ChildEntry, Refused, SupervisorStatistics

__all__ = ["Child", "SupervisorCore"]

R = TypeVar("R", bound=AnySupervisorRef)


class Retry:
    """Tell a supervisor, from itself, at once or later, to try a restart; void once its child points to another."""

    __slots__ = ("child", "reason")

    def __init__(self, child: Child, reason: ExitReason) -> None:
        self.child = child
        self.reason = reason


class Child:
    """One child of a supervisor; `ref` is its last one while restarting. Small: there may be 100,000."""

    __slots__ = ("args", "backoff", "ref", "retry", "spec", "starts")

    def __init__(self, spec: ChildSpec, args: tuple[Any, ...] = ()) -> None:
        self.spec = spec
        self.args = args
        self.ref: ActorRef[Any] | None = None
        self.retry: Retry | None = None
        self.backoff: Backoff | None = None
        self.starts = 0

    @property
    def running(self) -> bool:
        return self.ref is not None and self.retry is None

    @property
    def down(self) -> bool:
        return self.ref is None and self.retry is None

    @property
    def patience_s(self) -> float:
        """How long the child may take to stop; a brutal kill needs no limit."""
        shutdown = self.spec.shutdown
        return shutdown / 1000 if isinstance(shutdown, int) else math.inf


class SupervisorCore(Actor, Generic[R]):
    """Supervise children; see the subclasses."""

    trap_exits = True
    ref_class: ClassVar[type[AnySupervisorRef]] = AnySupervisorRef

    strategy: Strategy = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 5
    auto_shutdown: AutoShutdown = "never"
    backoff: wait_base | None = None

    def __init__(self, **options: Unpack[FlagOptions]) -> None:
        super().__init__()
        given: dict[str, Any] = {name: getattr(self, name) for name in Flags.__struct_fields__}
        given.update(options)
        flags = self._flags = Flags(**given)
        self._window = RestartWindow(flags.max_restarts, flags.max_seconds)
        self._history = RestartHistory()
        self._by_ref: dict[ActorRef[Any], Child] = {}
        self._significant_up = 0
        self._restarted = False

    @classmethod
    def start(cls, *args: Any, name: str | None = None, **options: Any) -> R:
        """Start the supervisor and return its ref once all its children are started; see the class for the options."""
        return cast(R, cls.options(name=name).start(*args, **options))

    @classmethod
    def start_link(cls, *args: Any, name: str | None = None, **options: Any) -> R:
        """Start the supervisor linked to the calling actor; see `start`."""
        return cast(R, cls.options(name=name).start_link(*args, **options))

    @classmethod
    def child(
        cls,
        id: Hashable,
        *args: Any,
        restart: Restart = "permanent",
        shutdown: Shutdown = "infinity",
        significant: bool = False,
        **options: Any,
    ) -> ChildSpec:
        """Return the spec of a supervisor like this as a child of another; `args` and `options` are those of `start`.

        >>> from supervisors import Supervisor
        >>> Supervisor.child("pollers", children=[], strategy="one_for_all").type
        'supervisor'
        """
        return ChildSpec(id, (cls, args, options), restart, shutdown, "supervisor", significant)

    # -- what a subclass says ----------------------------------------------------------------------------------------

    def _all(self) -> Iterable[Child]:
        """Return all children, in start order where there is one."""
        raise NotImplementedError

    def _group(self, child: Child) -> Sequence[Child]:
        """Return the children that a restart of this one takes along, itself included, in start order."""
        return (child,)

    def _retire(self, child: Child) -> None:
        """Take note that a child is down for now; forget it if its kind is not kept."""
        self._place(child, None)

    def get_state(self) -> SupervisorStatistics:
        """Show what `supervision` answers."""
        return self._call_supervision()

    # -- messages ----------------------------------------------------------------------------------------------------

    def on_receive(self, message: Any) -> Any:
        self._restarted = False
        if isinstance(message, Call):
            try:
                return getattr(self, f"_call_{message.name}")(*message.args)
            except BeamstalkError as error:
                return Refused(error)
        if not isinstance(message, Retry):
            _reports.unexpected_message(self._label(), message)
        elif message.child.retry is message:
            self._restart(message.child, message.reason)
        return None

    def on_exit(self, ref: ActorRef[Any] | None, reason: ExitReason) -> None:
        """Apply the table of restarts to a child that ended; anybody else's signal does not matter here."""
        child = self._by_ref.get(ref) if ref is not None and not ref.is_alive() else None
        if child is None or not child.running:
            return
        restart = child.spec.restart
        abnormal = not is_normal_exit(reason)
        if restart == "permanent" or abnormal:
            self._report("child_terminated", reason, child)
        if restart == "permanent" or (restart == "transient" and abnormal):
            self._restart_or_wait(child, reason)
        else:
            self._retire(child)
            self._shut_down_if_significant(child)

    def _call_which_children(self) -> list[ChildEntry]:
        return [
            ChildEntry(child.spec.id, "restarting" if child.retry is not None else child.ref, child.spec.type)
            for child in self._all()
        ]

    def _call_count_children(self) -> ChildCounts:
        specs = active = supervisors = 0
        for child in self._all():
            specs += 1
            supervisors += child.spec.type == "supervisor"
            active += child.running
        return ChildCounts(specs, active, supervisors, specs - supervisors)

    def _call_supervision(self) -> SupervisorStatistics:
        return SupervisorStatistics(
            children=self._call_count_children(),
            restarting=sum(child.retry is not None for child in self._all()),
            restarts=self._history.total,
            restarts_in_window=self._window.used(self.clock.monotonic_ns()),
            max_restarts=self._flags.max_restarts,
            max_seconds=self._flags.max_seconds,
            last_restarts=self._history.last(),
        )

    # -- starting ----------------------------------------------------------------------------------------------------

    def _start_child(self, child: Child) -> bool:
        """Start a child that is not running: True when it runs, False when it said ignore; StartError otherwise."""
        spec = child.spec
        startable, args, kwargs = spec.target()
        try:
            ref: object
            if isinstance(startable, type) and issubclass(startable, Actor):
                ref = startable.start_link(*args, *child.args, **kwargs)
            else:
                ref = startable(*args, *child.args, **kwargs)
            if ref is IGNORE:
                return False
            ref = self._adopt(spec, ref)
        except BaseException as error:
            # Whatever leaves a child's start is that child's failure, unless it is our own end, thrown into our wait.
            if not self.actor_ref.is_alive():
                raise
            raise StartError(spec.id, error.reason if isinstance(error, Exit) else error) from error
        self._place(child, ref)
        ref._actor.restarts = child.starts
        child.starts += 1
        _reports.progress(self._label(), spec, ref)
        return True

    def _adopt(self, spec: ChildSpec, ref: object) -> ActorRef[Any]:
        """Link to what a child's start returned, which must be an actor that is nobody's child yet."""
        if not isinstance(ref, ActorRef):
            raise expected(f"the start of child {spec.id!r} to return an ActorRef or IGNORE", ref)
        if ref in self._by_ref:
            raise AlreadyStarted(f"expected child {spec.id!r} to be an actor of its own, got: {ref}, a child already")
        self.link(ref)
        return ref

    def _start_all(self, children: Iterable[Child]) -> tuple[Child, StartError] | None:
        """Start children in order; stop at the first that fails, report it and return it."""
        for child in children:
            try:
                started = self._start_child(child)
            except StartError as error:
                self._report("start_error", error.reason, child)
                return child, error
            if not started:
                self._retire(child)
        return None

    # -- stopping ----------------------------------------------------------------------------------------------------

    def _stop_child(self, child: Child) -> None:
        """Stop a child, if it runs, and do not try it again."""
        if child.running:
            self._signal(child)
            self._end_child(child, child.patience_s)
        self._retire(child)

    def _signal(self, child: Child) -> None:
        # The link stays until the child is dead: if we are killed while we wait for it, it must die with us.
        assert child.ref is not None
        if child.spec.shutdown == "brutal_kill":
            child.ref.kill()
        else:
            child.ref.exit("shutdown")

    def _end_child(self, child: Child, timeout_s: float) -> None:
        """Wait for the end of a child that was told to stop, kill it when its time is over, report an unclean end."""
        assert child.ref is not None
        try:
            reason = child.ref.wait(None if timeout_s == math.inf else max(timeout_s, 0))
        except pykka.Timeout:
            child.ref.kill()
            reason = child.ref.wait()
        spec = child.spec
        asked_for = "killed" if spec.shutdown == "brutal_kill" else "shutdown"
        if reason != asked_for and (spec.restart == "permanent" or not is_normal_exit(reason)):
            self._report("shutdown_error", reason, child)

    # -- restarting --------------------------------------------------------------------------------------------------

    def _restart_or_wait(self, child: Child, reason: ExitReason) -> None:
        """Restart a child now, or after its back-off."""
        delay_s = self._next_delay_s(child, reason)
        # Exit signals go before messages. A child that crashes as fast as it is started must not keep callers waiting
        # for ever, so of two restarts in a row the second goes behind the messages that wait.
        if delay_s > 0 or self._restarted:
            self._retry_later(child, child.ref, reason, delay_s)
        else:
            self._restart(child, reason)

    def _restart(self, child: Child, reason: ExitReason) -> None:
        """Make one restart attempt: count it, give up if it is one too many, restart what the strategy says."""
        self._restarted = True
        now_ns = self.clock.monotonic_ns()
        self._history.add(RestartRecord(child.spec.id, shown(reason), now_ns))
        if not self._window.grant(now_ns):
            self._report("shutdown", "reached_max_restart_intensity", child)
            self._retire(child)
            raise Exit("shutdown")
        last_ref = child.ref
        group = self._group(child)
        self._place(child, None)
        for other in reversed(group):
            if other is not child:
                self._stop_child(other)
        # Temporary children that were stopped on the way are forgotten by now, and never come back.
        failure = self._start_all(other for other in group if other.spec.restart != "temporary")
        if failure is not None:
            failed, error = failure
            ref = last_ref if failed is child else None
            self._retry_later(failed, ref, error.reason, self._next_delay_s(failed, error.reason))

    def _retry_later(self, child: Child, ref: ActorRef[Any] | None, reason: ExitReason, delay_s: float) -> None:
        # Even without a delay the retry is a message behind those that wait, so that the supervisor stays responsive.
        retry = Retry(child, reason)
        self._place(child, ref, retry)
        if delay_s > 0:
            self.send_after(delay_s, retry)
        else:
            self.actor_ref.tell(retry)

    def _next_delay_s(self, child: Child, reason: ExitReason) -> float:
        policy = child.spec.backoff or self._flags.backoff
        if policy is None:
            return 0
        if child.backoff is None:
            child.backoff = Backoff(policy, reset_after_s=self._flags.max_seconds)
        return child.backoff.next_delay_s(self.clock.monotonic_ns(), reason)

    def _shut_down_if_significant(self, child: Child) -> None:
        if not child.spec.significant:
            return
        if self._flags.auto_shutdown == "any_significant" or self._significant_up == 0:
            raise Exit("shutdown")

    # -- state -------------------------------------------------------------------------------------------------------

    def _place(self, child: Child, ref: ActorRef[Any] | None, retry: Retry | None = None) -> None:
        """Move a child: (ref, None) is running, (last ref or None, retry) is restarting, (None, None) is down."""
        was_down = child.down
        if child.ref is not None and child.ref is not ref:
            del self._by_ref[child.ref]
        child.ref, child.retry = ref, retry
        if ref is not None:
            self._by_ref[ref] = child
        if child.spec.significant:
            self._significant_up += was_down - child.down

    # -- for the introspector: read from its threads ----------------------------------------------------------------

    def _describe(self) -> dict[str, Any]:
        flags, now_ns = self._flags, _scheduler.now_ns()
        last = [
            {"child": str(one.child_id), "reason": one.reason, "ago_ns": now_ns - one.time_ns}
            for one in self._history.last()
        ]
        supervisor = {
            "strategy": flags.strategy,
            "restarts": self._history.total,
            "restarts_in_window": self._window.inside(now_ns),
            "max_restarts": flags.max_restarts,
            "max_seconds": flags.max_seconds,
            "last_restarts": last,
        }
        return {"supervisor": supervisor}

    def _describe_children(self) -> Iterator[tuple[Hashable, ActorRef[Any] | None, str, int, str]]:
        for child in list(self._all()):
            state = "restarting" if child.retry is not None else "down" if child.ref is None else "running"
            yield (
                child.spec.id,
                child.ref if child.running else None,
                state,
                max(0, child.starts - 1),
                child.spec.restart,
            )

    def _label(self) -> str:
        return self._name or str(self)

    def _report(self, context: _reports.Context, reason: ExitReason, child: Child) -> None:
        _reports.supervisor_report(self._label(), context, reason, child.spec, child.ref)
