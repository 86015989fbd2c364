"""The application: the top of the tree, and what a service holds in its hands.

    from supervisors import Application
    from reporters import Statsd

    application = Application("labels", metrics=[...], children=[Statsd(host="127.0.0.1", port=8125)])

    with application.running():
        ...

The application's supervisor starts the telemetry part first and then the service's own children, and stops them in
reverse. One application runs in a process at a time, because the events of a process have one routing table.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import pykka
from loguru import logger

from actors import ActorRef, current_actor, introspector
from actors.introspector import Introspection
from actors.poller import Measurement
from runtime import _native, _process_table, _scheduler
from runtime._checks import check_seconds
from runtime._fork import in_child
from runtime._harmless import harmless
from runtime._mailbox import Mailbox
from runtime._table import table
from runtime._waiting import waiter
from runtime.catalogue import Catalogue
from runtime.clock import Clock
from runtime.errors import AlreadyStarted, BeamstalkError, ExitReason, expected, shown
from runtime.metrics import Metric
from runtime.sampling import check_rates, configure
from supervisors._flags import Strategy
from supervisors.child_spec import ChildSpec, SpecLike, one_of
from supervisors.refs import SupervisorRef
from supervisors.supervisor import Supervisor
from supervisors.telemetry import Telemetry

__all__ = ["Application"]

_T = TypeVar("_T")
_DRAIN_S = 5.0
_GRACE_S = 0.5
_running: Application | None = None
_lock = _native.RLock()


class Application:
    """Declare and run a supervision tree.

    Args: `name`; `metrics`: definitions of `runtime.metrics`; `children`: child specs or objects with `child_spec()`,
    started left to right after the telemetry part; `pollers`: periodic measurements; `sampling`: the share to keep
    of an event or span prefix (0 to 1); `catalogue`: the declared events,
    which span metrics bind to and which are checked; `strategy`, `max_restarts`,
    `max_seconds`: of the top supervisor; `on_exit(reason)`: called, in a thread of the runtime, when the tree ends by
    itself (it gave up); the process is yours, so nothing here ends it; `drain_s`: how long `stop` may take (default 5);
    `fork`: what a forked child does, `stop` (nothing runs there until it starts it) or `restart`; `introspect`: True,
    or the path of a socket, lets the user's own shells (`python -m runtime.shell`) look into the process, and
    `control` lets them change something too (default: neither).

    A subclass may override `children()`, `metrics()` or `pollers()` and `name` instead.

    >>> with Application("doc").running():
    ...     pass
    """

    name: str = ""
    drain_s: float = _DRAIN_S
    fork: Literal["stop", "restart"] = "stop"
    introspect: bool | str | os.PathLike[str] = False
    control: bool = False

    def __init__(
        self,
        name: str = "",
        *,
        metrics: Iterable[Metric] = (),
        children: Sequence[SpecLike] = (),
        pollers: Iterable[Measurement] = (),
        sampling: Mapping[str, float] | None = None,
        catalogue: Catalogue | None = None,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5,
        on_exit: Callable[[ExitReason], object] | None = None,
        drain_s: float | None = None,
        fork: Literal["stop", "restart"] | None = None,
        introspect: bool | str | os.PathLike[str] | None = None,
        control: bool | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name or self.name
        if not isinstance(self.name, str) or not self.name:
            raise expected("name to be a non-empty string", self.name)
        if on_exit is not None and not callable(on_exit):
            raise expected("on_exit to be callable with the exit reason", on_exit)
        if drain_s is not None:
            self.drain_s = drain_s
        check_seconds("drain_s", self.drain_s)
        self.fork = fork or self.fork
        one_of("fork", self.fork, ("stop", "restart"))
        self.introspect = self.introspect if introspect is None else introspect
        self.control = self.control if control is None else control
        self._introspection: Introspection | None = None
        self._metrics = _all_of("metrics", metrics, Metric, "counter(...) and the like of runtime.metrics")
        self._children = tuple(children)
        self._pollers = _all_of("pollers", pollers, Measurement, "Measurement(function, period_s=...)")
        if not isinstance(catalogue, Catalogue | None):
            raise expected("catalogue to be a Catalogue", catalogue)
        if not isinstance(clock, Clock | None):
            raise expected("clock to be a Clock", clock)
        self.catalogue = catalogue
        self._sampling = check_rates(sampling or {})
        self._options: dict[str, Any] = {
            "strategy": strategy,
            "max_restarts": max_restarts,
            "max_seconds": max_seconds,
        }
        self._on_exit = on_exit
        self._clock = clock
        self._top: SupervisorRef | None = None
        self._telemetry: Telemetry | None = None
        self._stopping = False

    # -- for subclasses ----------------------------------------------------------------------------------------------

    def metrics(self) -> Iterable[Metric]:
        """Return the metric definitions."""
        return self._metrics

    def children(self) -> Iterable[SpecLike]:
        """Return the service's own children, in start order."""
        return self._children

    def pollers(self) -> Iterable[Measurement]:
        """Return the periodic measurements."""
        return self._pollers

    # -- for the service ---------------------------------------------------------------------------------------------

    def start(self) -> Application:
        """Start the tree and return when every child runs.

        Raises StartError with the child that failed (those started before it are stopped again), and AlreadyStarted
        when an application runs in this process.
        """
        global _running
        with _lock:
            if _running is not None:
                raise AlreadyStarted(
                    f"expected no application to run in this process, got: {_running.name!r}. "
                    "Stop it first, or make both children of one application"
                )
            _running = self
        try:
            self._stopping = False
            if self._clock is not None:
                _scheduler.start(clock=self._clock)
            telemetry = self._telemetry = Telemetry(self.metrics(), self.pollers(), self.catalogue, self._clock)
            configure(self._sampling)
            telemetry.open()
            children = [telemetry, *self._introspector(), *self.children()]
            self._top = Supervisor.start(children=children, name=self.name, **self._options)
        except BaseException:
            self._clean_up(None)
            raise
        _native.start_new_thread(self._watch, (self._top,))
        atexit.register(self._stop_at_exit)
        return self

    def stop(self, timeout: float | None = None) -> bool:
        """Drain, flush and stop the tree, within `timeout` seconds (default `drain_s`).

        First the events that wait are handled, for at most half of the time; then the children are stopped in reverse
        order, reporters flushing on the way. Returns True when everything ended in order, False when something had to
        be left behind; stopping what does not run is True. Not for the tree's own actors: they would wait for
        themselves.
        """
        top = self._top
        if timeout is not None:
            check_seconds("timeout", timeout)
        if top is None:
            return True
        caller = current_actor()
        if caller is not None and _descends(caller, top):
            raise BeamstalkError(
                f"expected stop to be called outside the tree, got: {caller}, whose own end it would wait for. "
                "Call it from a thread of the service"
            )
        self._stopping = True
        timeout_s = self.drain_s if timeout is None else timeout
        deadline = time.monotonic() + timeout_s
        drained = self.drain(timeout_s / 2)
        with contextlib.suppress(pykka.Timeout):
            top.stop(reason="shutdown", timeout=max(deadline - time.monotonic(), 0.1))
        ended = not top.is_alive()
        if not ended:
            top.kill()
        self._clean_up(top)
        return drained and ended

    @contextlib.contextmanager
    def running(self) -> Iterator[Application]:
        """Run the application around a block of code."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every handler has handled what was emitted so far; False when time is over.

        The aggregator needs no waiting: it records what waits before it answers a reporter.
        """
        deadline = time.monotonic() + (self.drain_s if timeout is None else timeout)
        busy = [(a, a.mailbox.statistics().accepted) for a in table.all()]
        while True:
            busy = [(a, goal) for a, goal in busy if a.state == "running" and _is_behind(a.mailbox, goal)]
            if not busy:
                return True
            if time.monotonic() > deadline:
                return False
            waiter().wait(0.002)

    @property
    def supervisor(self) -> SupervisorRef:
        """The ref of the top supervisor; BeamstalkError when the application does not run."""
        if self._top is None:
            raise BeamstalkError(f"expected application {self.name!r} to run, got: stopped. Start it first")
        return self._top

    @property
    def is_running(self) -> bool:
        """Tell whether the tree stands."""
        return self._top is not None and self._top.is_alive()

    @property
    def socket_path(self) -> Path | None:
        """The socket at which a shell can look in now, if any."""
        return self._introspection.path if self._introspection is not None else None

    # -- inside ------------------------------------------------------------------------------------------------------

    def _introspector(self) -> list[ChildSpec]:
        if self.introspect is False:
            return []
        path = None if self.introspect is True else self.introspect
        self._introspection = Introspection(self.name, path=path, allow_control=self.control, catalogue=self.catalogue)
        return [ChildSpec(introspector.NAME, (self._introspection.start_link, ()))]

    def _watch(self, top: SupervisorRef) -> None:
        """Wait, in a thread of the runtime, for the tree to end by itself, and tell the host."""
        reason = top.wait()
        with _lock:
            if self._stopping or self._top is not top:
                return
            self._clean_up(top)
        harmless(logger.error)("application {} ended by itself: {}", self.name, shown(reason))
        if self._on_exit is not None:
            try:
                self._on_exit(reason)
            except BaseException:
                logger.exception("on_exit of application {} failed", self.name)

    def _clean_up(self, top: SupervisorRef | None) -> None:
        """Leave the process as it was before `start`; once for each, however many stop it."""
        global _running
        with _lock:
            if self._top is not top:
                return
            self._top = None
        try:
            atexit.unregister(self._stop_at_exit)
            if self._introspection is not None:
                introspector.forget(self._introspection)
                self._introspection = None
            if self._telemetry is not None:
                self._telemetry.close()
            # Killing is done by the hub; one that is blocked for good must not hold us as well.
            deadline = time.monotonic() + _GRACE_S
            while (left := self._left_behind()) and time.monotonic() < deadline:
                for ref in left:
                    ref.kill()
                for ref in left:
                    with contextlib.suppress(pykka.Timeout):
                        ref.wait(max(deadline - time.monotonic(), 0))
            if _process_table.count() == 0 or time.monotonic() > deadline:
                _scheduler.stop(_GRACE_S)
        finally:
            with _lock:
                if _running is self:
                    _running = None

    def _left_behind(self) -> list[ActorRef[Any]]:
        """List the actors of this tree, also of one whose start was interrupted, so that nobody holds its top."""
        return [ref for ref in _process_table.processes() if _top_of(ref).name == self.name]

    def _after_fork(self) -> None:
        """Begin anew in a forked child: stopped, or, by policy, started again."""
        atexit.unregister(self._stop_at_exit)
        self._top = self._telemetry = self._introspection = None
        if self.fork == "restart":
            self.start()

    def _stop_at_exit(self) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Application {self.name!r}, {'running' if self.is_running else 'stopped'}>"


@in_child
def _after_fork() -> None:
    global _running, _lock
    _lock = _native.RLock()
    inherited, _running = _running, None
    if inherited is not None:
        inherited._after_fork()


def _is_behind(mailbox: Mailbox, goal: int) -> bool:
    """Tell whether messages wait, among them some of the first `goal` that were accepted."""
    found = mailbox.statistics()
    return found.pending > 0 and found.accepted - found.pending < goal


def _all_of(what: str, given: object, kind: type[_T], fix: str) -> tuple[_T, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise expected(f"{what} to be a list", given)
    found = tuple(given)
    for one in found:
        if not isinstance(one, kind):
            raise expected(f"{what} to be made of {kind.__name__}", one, f"Write {fix}")
    return found


def _top_of(ref: ActorRef[Any]) -> ActorRef[Any]:
    while ref.parent is not None:
        ref = ref.parent
    return ref


def _descends(ref: ActorRef[Any] | None, top: ActorRef[Any]) -> bool:
    while ref is not None and ref is not top:
        ref = ref.parent
    return ref is top
