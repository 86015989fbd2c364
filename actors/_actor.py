"""Actor: pykka's public face over our own loop.

What a user subclasses and starts. The machinery is below: `_loop` handles messages, `_life` knows the control lane,
links, monitors and the end. Unlike pykka's, `start` returns when `on_start` has run, and raises what it raised.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from time import monotonic_ns
from typing import Any, ClassVar, Self

from actors import _reports
from actors._current import current_actor
from actors._future import Future
from actors._loop import Loop
from actors._ref import ActorRef
from runtime import _process_table, _scheduler
from runtime._mailbox import EMPTY, Mailbox
from runtime._process_table import ProcessInfo
from runtime._timers import NEVER, Timer
from runtime._waiting import ThreadWaiter
from runtime.clock import Clock
from runtime.errors import BeamstalkError, ExitReason, expected

CARRIERS = ("green", "thread")


class Actor(Loop):
    """Something that lives on its own: it handles one message at a time and shares nothing.

    Subclass it, implement hooks, `start` it. `on_start` runs inside the actor and has finished when `start` returns;
    a failure there is the failure of `start`. A raise while handling a message ends the actor with that reason (its
    supervisor restarts it), also when somebody asked: the asker gets the same exception. `answer_and_live_on = True`
    is pykka's rule instead.

    Class options: `carrier` ("green" cooperative on the runtime's hub, "thread" a thread of its own), `trap_exits`
    (exit signals of linked actors become `on_exit` calls), `capacity` (bound of the load lane, None: unbounded).

    >>> class Counter(Actor):
    ...     def __init__(self, count=0):
    ...         super().__init__()
    ...         self.count = count
    ...
    ...     def on_receive(self, message):
    ...         self.count += message
    ...         return self.count
    >>> counter = Counter.start(10)
    >>> counter.tell(1)
    >>> counter.ask(1)
    12
    >>> counter.stop()
    True
    """

    carrier: ClassVar[str] = "green"
    capacity: ClassVar[int | None] = None
    ref_class: ClassVar[type[ActorRef[Any]]] = ActorRef

    restarts: int = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.carrier not in CARRIERS:
            raise expected(f"carrier to be one of {', '.join(CARRIERS)}", cls.carrier)
        if "on_stop" in cls.__dict__:
            # pykka's hook has no argument; a class written for pykka keeps working.
            cls._stop_takes_reason = len(inspect.signature(cls.on_stop).parameters) > 1

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # pykka's own __init__ costs a uuid4 and a threading.Event per actor.
        self._id = _process_table.next_id()
        self._control: list[tuple[str, tuple[Any, ...], Future[Any] | None]] = []
        self._mailbox = Mailbox(self.capacity)
        self._actor_ref = self.ref_class(self)
        self._started_ns = monotonic_ns()
        # Set here although they are the class's defaults: an attribute that an instance gains later costs it a dict of
        # its own, 400 bytes, and these every actor gains with its first message.
        self._parent = None
        self._parent_linked = False
        self._worker = None
        self._current = None
        self._busy_since_ns = 0

    # -- starting ------------------------------------------------------------------------------------------------------

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> ActorRef[Self]:
        """Start an actor and return its ref once `on_start` has finished.

        Waits for `on_start`. Raises what `on_start` raised; returns IGNORE when it raised Ignore.
        """
        return Starter(cls).start(*args, **kwargs)

    @classmethod
    def start_link(cls, *args: Any, **kwargs: Any) -> ActorRef[Self]:
        """Start an actor linked to the calling one: when either ends, the other gets its exit signal."""
        return Starter(cls).start_link(*args, **kwargs)

    @classmethod
    def options(cls, *, name: str | None = None, carrier: str | None = None, mailbox: Mailbox | None = None) -> Starter:
        """Choose a registered name, another carrier or a mailbox that outlives the actor, then `.start(...)`."""
        return Starter(cls, name=name, carrier=carrier, mailbox=mailbox)

    def _start(self, starter: Starter, link: bool) -> ActorRef[Any]:
        if starter.carrier is not None and starter.carrier != self.carrier:
            self.carrier = starter.carrier  # type: ignore[misc]  # the class's default, overridden for this one
        self._parent = parent = current_actor()
        if link:
            if parent is None:
                raise BeamstalkError("expected start_link to be called inside an actor, got: a plain thread")
            self._parent_linked = True
        if starter.mailbox is not None:
            self._mailbox = starter.mailbox
            self._owns_mailbox = False
        if starter.name is not None:
            self._name = starter.name
        scheduler = _scheduler.scheduler()  # first of all: without a thread for its hub there is nothing to clean up
        _process_table.register(self._actor_ref, self._name)
        if link and parent is not None:
            # Now, and not when it has started: if its parent is killed while it waits for that, the child dies with it.
            parent._actor._remember_link(self._actor_ref)
        started: Future[Any] = Future()
        try:
            self._control.append(("_begin", (), started))
            lost = self._mailbox.adopt(self)
            if self.carrier == "thread":
                self._gate = ThreadWaiter()
                self._start_thread()
            else:
                scheduler.activate(self)
            if lost is not EMPTY:
                self._message_lost(lost, "killed")  # it was with one that is about to be killed
            return started.get()  # type: ignore[no-any-return]
        except BaseException:
            # What its own start raised; or our own end meanwhile, and then nobody would have a ref of it.
            self._kill()
            raise
        finally:
            if self._dead and link and parent is not None:
                parent._actor._forget_link(self._actor_ref)

    # -- hooks; further ones are on_continue, on_stop, on_exit and on_down ---------------------------------------------

    def on_start(self) -> None:
        """Prepare; runs inside the actor before `start` returns."""

    def on_receive(self, message: Any) -> Any:
        """Handle a message; the result answers an ask."""
        _reports.unexpected(self, message)

    def get_state(self) -> Any:
        """Return what `ref.get_state()` shows: the public attributes unless overridden."""
        return {k: v for k, v in vars(self).items() if not k.startswith("_") and not hasattr(Actor, k)}

    def set_state(self, state: Any) -> None:
        """Take over a replaced state: the reverse of `get_state`."""
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise expected("the new state to be a dict of attributes", state)
        before = dict(vars(self))
        try:
            for key, value in state.items():
                setattr(self, key, value)
        except BaseException:
            for key in state:  # all of it or nothing
                if key in before:
                    vars(self)[key] = before[key]
                else:
                    vars(self).pop(key, None)
            raise

    # -- for use inside the actor; further ones are link, unlink, monitor and demonitor --------------------------------

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        return f"urn:beamstalk:{self._id}"

    @property
    def actor_ref(self) -> ActorRef[Self]:
        """This actor's own ref, to hand to others."""
        return self._actor_ref

    @property
    def parent(self) -> ActorRef[Any] | None:
        """Who started this actor, if that was an actor."""
        return self._parent

    @property
    def clock(self) -> Clock:
        """The clock of the scheduler: the machine's, or a test's."""
        return _scheduler.running_clock()

    def stop(self, reason: ExitReason = "normal") -> None:
        """End after the current message, ahead of the mail."""
        self._control_send("_stop_now", reason)

    def continue_(self, x: Any) -> None:
        """Have `on_continue(x)` called after the current hook, before any queued message."""
        if self._continuations is None:
            self._continuations = []
        self._continuations.append(x)

    def send_after(self, delay_s: float, message: Any) -> Timer:
        """Send a message to oneself in `delay_s` seconds of the actor's clock."""
        if self._dead:
            # A thread that was given up long ago comes back to this line. There may be no scheduler any more, and it
            # must not start another.
            return NEVER
        return _scheduler.scheduler().call_after(delay_s, lambda: self._tell_if_alive(message))

    def _tell_if_alive(self, message: Any) -> None:
        if not self._dead:
            self._mailbox.put(message)

    # -- telling about itself ------------------------------------------------------------------------------------------

    @property
    def _state(self) -> str:
        if self._dead:
            return "dead"
        if self._suspended:
            return "suspended"
        return "running" if self._worker is not None else "waiting"

    def _info(self) -> ProcessInfo:
        since_ns = self._busy_since_ns
        # Read before the age is, or who was held up in between would have worked for longer than it has lived.
        busy_ns = _scheduler.now_ns() - since_ns if since_ns else 0
        return ProcessInfo(
            id=self._id,
            name=self._name,
            kind=type(self).__name__,
            parent=self._parent.id if self._parent is not None else None,
            carrier=self.carrier,
            state=self._state,
            mailbox=self._mailbox.statistics(),
            restarts=self.restarts,
            started_ns=self._started_ns,
            uptime_ns=monotonic_ns() - self._started_ns,
            busy_ns=busy_ns,
        )

    def _describe(self) -> dict[str, Any]:
        """Say what only this kind of actor knows of itself. For the introspector: any thread, never waits."""
        return {}

    def _describe_children(self) -> Iterable[tuple[Any, ActorRef[Any] | None, str, int, str]]:
        """List whom this actor supervises: (id, ref, state, restarts, restart rule). Any thread, never waits."""
        return ()

    def __str__(self) -> str:
        return str(self._actor_ref)

    # -- what pykka's face asks for ------------------------------------------------------------------------------------

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Mailbox()

    @staticmethod
    def _create_future() -> Future[Any]:
        return Future()

    def _start_actor_loop(self) -> None:
        raise BeamstalkError("expected Actor.start to be called, got: pykka's own loop")


class Starter:
    """A way to start an actor class: with a name, on another carrier, over a mailbox that outlives it."""

    __slots__ = ("carrier", "cls", "mailbox", "name")

    def __init__(
        self,
        cls: type[Actor],
        *,
        name: str | None = None,
        carrier: str | None = None,
        mailbox: Mailbox | None = None,
    ) -> None:
        if carrier is not None and carrier not in CARRIERS:
            raise expected(f"carrier to be one of {', '.join(CARRIERS)}", carrier)
        if name is not None and (not isinstance(name, str) or not name):
            raise expected("name to be a non-empty string", name)
        if not isinstance(mailbox, Mailbox | None):
            raise expected("mailbox to be a Mailbox", mailbox)
        self.cls = cls
        self.name = name
        self.carrier = carrier
        self.mailbox = mailbox

    def start(self, *args: Any, **kwargs: Any) -> ActorRef[Any]:
        """Start the actor; see `Actor.start`."""
        return self.cls(*args, **kwargs)._start(self, link=False)

    def start_link(self, *args: Any, **kwargs: Any) -> ActorRef[Any]:
        """Start the actor linked to the calling one; see `Actor.start_link`."""
        return self.cls(*args, **kwargs)._start(self, link=True)
