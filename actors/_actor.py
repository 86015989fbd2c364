"""Actor: pykka's public face over our own loop.

Why not pykka's loop: any BaseException that leaves a pykka handler stops every actor of the process, `start` returns
before `on_start` has run, and a stop waits behind the mail. Here an actor has two lanes (control first, always),
nothing escapes it, and its end is a fact that exactly one thread establishes (`_finish`): whoever is blocked inside is
fenced.

An actor runs on a carrier: `green`, activated on a pooled greenlet of the scheduler whenever it has mail, or `thread`,
a thread of its own. Both call `_activate`, which handles mail until none is left or the time slice is over.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic_ns, perf_counter_ns
from typing import Any, ClassVar, Self

import pykka
from greenlet import GreenletExit, getcurrent
from pykka._introspection import get_attr_directly
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

from actors import _reports
from actors._current import current_ref, enter_thread
from actors._future import Ask, Future
from actors._ref import ActorRef
from actors._trace import Trace
from runtime import _native, _process_table, _scheduler
from runtime._fork import in_child
from runtime._mailbox import EMPTY, Mailbox
from runtime._process_table import ProcessInfo
from runtime._scheduler import YIELD_NS, Timer
from runtime._waiting import ThreadWaiter, Waiter
from runtime.clock import Clock
from runtime.errors import BeamstalkError, Exit, ExitReason, StartError, expected, is_normal_exit

CARRIERS = ("green", "thread")
_end_lock = _native.RLock()


@in_child
def _end_with_a_new_lock() -> None:
    global _end_lock
    _end_lock = _native.RLock()


class Ignore(Exit):
    """Raised in `on_start`: there is nothing to do; `start` returns IGNORE and no actor lives."""


class _Killed(GreenletExit):
    """Thrown into the greenlet of a killed actor that waits for something."""


IGNORE: Any = type("Ignored", (), {"__repr__": lambda self: "IGNORE", "__slots__": ()})()
"""What `start` returns for an actor whose `on_start` raised Ignore."""


def current_actor() -> ActorRef[Any] | None:
    """Return the ref of the actor whose code is calling, or None outside actors."""
    ref: ActorRef[Any] | None = current_ref()
    return ref


class Actor(pykka.Actor):
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
    trap_exits: ClassVar[bool] = False
    answer_and_live_on: ClassVar[bool] = False
    capacity: ClassVar[int | None] = None
    ref_class: ClassVar[type[ActorRef[Any]]] = ActorRef

    _stop_takes_reason: ClassVar[bool] = True
    # Set on instances only when they differ: an idle actor should cost little.
    _dead: bool = False
    _suspended: bool = False
    _exit_reason: ExitReason = None
    _parent: ActorRef[Any] | None = None
    _parent_linked: bool = False
    _links: dict[ActorRef[Any], None] | None = None
    _monitors: dict[int, ActorRef[Any]] | None = None
    _tracer: Trace | None = None
    _at_end: list[Callable[[], object]] | None = None
    _continuations: list[Any] | None = None
    _urgent: list[tuple[str, tuple[Any, ...], Future[Any] | None]] | None = None
    _starting: Future[Any] | None = None
    _worker: Any = None
    _gate: Waiter | None = None
    _current: Any = None
    _busy_since_ns: int = 0
    _name: str | None = None
    _owns_mailbox: bool = True
    restarts: int = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.carrier not in CARRIERS:
            raise expected(f"carrier to be one of {', '.join(CARRIERS)}", cls.carrier)
        if "on_stop" in cls.__dict__:
            # pykka's hook has no argument; a class written for pykka keeps working.
            cls._stop_takes_reason = len(inspect.signature(cls.on_stop).parameters) > 1

    _actor_ref: ActorRef[Any]

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

    # -- starting ----------------------------------------------------------------------------------------------------

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
        _process_table.register(self._actor_ref, self._name)
        if link and parent is not None:
            # Now, and not when it has started: if its parent is killed while it waits for that, the child dies with it.
            parent._actor._remember_link(self._actor_ref)
        started: Future[Any] = Future()
        try:
            self._control.append(("_begin", (), started))
            scheduler = _scheduler.scheduler()
            self._mailbox.adopt(self)
            if self.carrier == "thread":
                self._gate = ThreadWaiter()
                self._start_thread()
            else:
                scheduler.activate(self)
            return started.get()  # type: ignore[no-any-return]
        except BaseException:
            # What its own start raised; or our own end meanwhile, and then nobody would have a ref of it.
            self._kill()
            raise
        finally:
            if self._dead and link and parent is not None:
                parent._actor._forget_link(self._actor_ref)

    def _start_thread(self) -> None:
        try:
            _native.start_new_thread(self._run_thread, ())
        except BaseException as error:
            self._finish(error, signal_parent=False)
            raise

    # -- hooks -------------------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Prepare; runs inside the actor before `start` returns."""

    def on_receive(self, message: Any) -> Any:
        """Handle a message; the result answers an ask."""
        _reports.unexpected(self, message)

    def on_continue(self, x: Any) -> None:
        """Go on with what `continue_(x)` put off; runs before any queued message."""

    def on_exit(self, ref: ActorRef[Any] | None, reason: ExitReason) -> None:
        """Handle the exit signal of a linked actor (only with `trap_exits`)."""

    def on_down(self, monitor_id: int, ref: ActorRef[Any], reason: ExitReason) -> None:
        """Handle the end of a monitored actor."""

    def on_stop(self, reason: ExitReason = "normal") -> None:
        """Clean up; runs on stop and shutdown, not on kill and not after a crash (see `on_failure`)."""

    def get_state(self) -> Any:
        """Return what `ref.get_state()` shows: the public attributes unless overridden."""
        return {k: v for k, v in vars(self).items() if not k.startswith("_") and not hasattr(Actor, k)}

    def set_state(self, state: Any) -> None:
        """Take over a replaced state: the reverse of `get_state`."""
        if not isinstance(state, dict):
            raise expected("the new state to be a dict of attributes", state)
        for key, value in state.items():
            setattr(self, key, value)

    # -- for use inside the actor --------------------------------------------------------------------------------------

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
        return _scheduler.scheduler().clock

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
        return _scheduler.scheduler().call_after(delay_s, lambda: self._tell_if_alive(message))

    def _tell_if_alive(self, message: Any) -> None:
        if not self._dead:
            self._mailbox.put(message)

    def link(self, ref: ActorRef[Any]) -> None:
        """Link both ways: when either ends, the other gets its exit signal. Linking to the dead signals at once."""
        if (ref is self._parent and self._parent_linked) or ref in (self._links or ()):
            return
        self._remember_link(ref)
        ref._actor._control_send("_link_me", self._actor_ref)

    def unlink(self, ref: ActorRef[Any]) -> None:
        """Undo `link`; a signal that is under way is not delivered any more."""
        if self._links is not None:
            self._links.pop(ref, None)
        if ref is self._parent:
            self._parent_linked = False
        ref._actor._control_send("_unlink_me", self._actor_ref)

    def monitor(self, ref: ActorRef[Any]) -> int:
        """Have `on_down(id, ref, reason)` called when that actor ends; at once when it has ended. Stackable."""
        monitor_id = _process_table.next_id()
        ref._actor._control_send("_monitor_me", monitor_id, self._actor_ref)
        if self._monitors is None:
            self._monitors = {}
        self._monitors[-monitor_id] = ref
        return monitor_id

    def demonitor(self, monitor_id: int) -> None:
        """Undo `monitor`; no `on_down` comes any more."""
        ref = (self._monitors or {}).pop(-monitor_id, None)
        if ref is not None:
            ref._actor._control_send("_demonitor_me", monitor_id)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._gate is not None:
            self._gate.wake()
        else:
            _scheduler.scheduler().activate(self)

    def _run_thread(self) -> None:
        assert self._gate is not None
        enter_thread(self)
        while not self._dead:
            if not self._activate() and not self._dead:
                self._gate.wait()
        self._thread_ended()

    def _thread_ended(self) -> None:
        """Take note that the thread of this actor comes to its end, perhaps long after the actor."""

    def _activate(self) -> bool:
        """Handle mail until none is left (False) or the time slice is over (True)."""
        if self._worker is not None:
            return False  # a superfluous wake-up while a handler waits; its greenlet looks again by itself
        self._worker = getcurrent()
        try:
            return self._handle_mail()
        except BaseException as error:
            # Killed meanwhile, by a throw into its wait or while a foreign call ran: the end is established already.
            # Anything else is a defect of this loop, and must not cost more than this actor.
            self._crash(error)
            return False
        finally:
            self._worker = None

    def _handle_mail(self) -> bool:
        control, mailbox = self._control, self._mailbox
        slice_ends_ns = perf_counter_ns() + YIELD_NS
        while not self._dead:
            if self._continuations:
                x = self._continuations.pop(0)
                self._contained(partial(self.on_continue, x))
            elif control or self._urgent:
                self._handle_control(*self._next_control())
            elif self._suspended:
                mailbox.idle = True
                if not control:
                    return False
                mailbox.unpark(self)
            elif not self._handle_load():
                if mailbox.park(self):
                    if not control:
                        return False
                    mailbox.unpark(self)
            elif perf_counter_ns() > slice_ends_ns:
                return True
        return False

    def _handle_load(self) -> bool:
        """Handle one message of the load lane; False when there is none."""
        message = self._mailbox.take(self)
        if message is EMPTY:
            return False
        self._busy_since_ns = _scheduler.now_ns()
        self._current = message
        failed = False
        try:
            if message.__class__ is Ask:
                result = self._receive(message.message)
                # Counted before it is answered: who has the answer finds it in the statistics.
                self._mailbox.settle(self)
                message.reply_to.set(result)
            else:
                self._receive(message)
                self._mailbox.settle(self)
        except BaseException as error:
            failed = True
            self._failed(error, message)
        if self._tracer is not None:
            self._tracer.add(message, self._busy_since_ns, failed)
        self._current = None
        self._busy_since_ns = 0
        return True

    def _receive(self, message: Any) -> Any:
        return self._receive_of_pykka(message) if type(message) in _PYKKAS else self.on_receive(message)

    def _receive_of_pykka(self, message: Any) -> Any:
        match message:
            case ProxyCall():
                return get_attr_directly(self, message.attr_path)(*message.args, **message.kwargs)
            case ProxyGetAttr():
                return get_attr_directly(self, message.attr_path)
            case ProxySetAttr():
                return setattr(get_attr_directly(self, message.attr_path[:-1]), message.attr_path[-1], message.value)
            case _ActorStop():
                return self.stop()
        return None

    def _failed(self, error: BaseException, message: Any) -> None:
        reply = message.reply_to if message.__class__ is Ask else None
        failed = self._is_failure(error)
        if not self._mailbox.settle(self, failed=failed):
            return  # fenced meanwhile: whoever did that has accounted for the message and answered the asker
        if failed:
            self._message_failed(error, message)
        if reply is None:
            self._crash(error)
        elif self.answer_and_live_on and isinstance(error, Exception) and not isinstance(error, Exit):
            reply.fail(error)
        else:
            self._crash(error)  # first the end, then the answer: who has it finds the actor dead
            reply.fail(self._dead_error() if isinstance(error, Exit) else error)

    def _is_failure(self, error: BaseException) -> bool:
        """Tell whether what a message raised is a failure, and not an orderly end; for a handler everything is one."""
        return not (isinstance(error, Exit) and is_normal_exit(error.reason))

    def _message_failed(self, error: BaseException, message: Any) -> None:
        """Take note of a message of the load lane that failed; handlers report it."""

    def _blocks_hub(self) -> None:
        """Take note of holding the hub for too long; called from the watchdog's thread."""

    def _contained(self, hook: Callable[[], Any]) -> Any:
        """Run a hook that is no message; what it raises ends the actor."""
        try:
            return hook()
        except BaseException as error:
            self._crash(error)

    def _crash(self, error: BaseException) -> None:
        """End with what a hook raised: an Exit's reason, or the exception itself."""
        if self._dead:
            return
        if isinstance(error, Exit):
            if is_normal_exit(error.reason):
                self._terminate(error.reason)
                return
            reason = error.reason
        else:
            reason = error
        try:
            self.on_failure(type(error), error, error.__traceback__)
        except BaseException as second:
            _reports.crash(self, second)
        _reports.crash(self, reason)
        self._finish(reason)

    # -- the control lane --------------------------------------------------------------------------------------------

    def _control_send(self, method: str, *args: Any) -> None:
        self._put_control((method, args, None))

    def _control_ask(self, method: str, *args: Any, block: bool = True) -> Future[Any]:
        if block:
            self._forbid_asking_oneself()
        future: Future[Any] = Future(self)
        self._put_control((method, args, future))
        return future

    def _put_control(self, entry: tuple[str, tuple[Any, ...], Future[Any] | None]) -> None:
        self._control.append(entry)
        if self._dead:
            self._refuse_control()
        elif self._mailbox.idle:
            self._mailbox.wake()

    def _next_control(self) -> tuple[str, tuple[Any, ...], Future[Any] | None]:
        if self._urgent:
            return self._urgent.pop()
        control = self._control
        if len(control) < 64:
            return control.pop(0)
        # 100,000 children that end at once leave a long lane: take it whole, or each pop would move the rest.
        self._urgent = control[::-1]
        del control[: len(self._urgent)]
        return self._urgent.pop()

    def _handle_control(self, method: str, args: tuple[Any, ...], reply: Future[Any] | None) -> None:
        if method in _ENDING:
            getattr(self, method)(*args, reply=reply)
            return
        if reply is None:
            self._contained(partial(getattr(self, method), *args))
            return
        self._current = Ask(method, reply)  # who kills us in the middle answers it
        try:
            reply.set(getattr(self, method)(*args))
        except BaseException as error:
            reply.fail(self._dead_error() if self._dead else error)
        self._current = None

    def _begin(self, reply: Future[Any]) -> None:
        self._starting = reply
        try:
            self.on_start()
        except BaseException as error:
            if self._dead:
                raise  # killed while it started, and answered for
            if isinstance(error, StartError):
                reason: ExitReason = ("shutdown", error)  # a child of ours failed and was reported: we are no crash
            else:
                reason = error.reason if isinstance(error, Exit) else error
            if not is_normal_exit(reason):
                _reports.crash(self, reason)
            self._finish("normal" if isinstance(error, Ignore) else reason, signal_parent=False)
            if isinstance(error, Ignore):
                reply.set(IGNORE)
            else:
                reply.fail(error)
        else:
            reply.set(self._actor_ref)
        self._starting = None

    def _stop_now(self, reason: ExitReason, reply: Future[Any] | None = None) -> None:
        self._terminate(reason)
        if reply is not None:
            reply.set(True)

    def _exit_signal(
        self, sender: ActorRef[Any] | None, reason: ExitReason, by_link: bool, reply: Future[Any] | None = None
    ) -> None:
        from_parent = sender is not None and sender is self._parent
        if by_link and not self._forget_link(sender):
            return  # unlinked while the signal was under way
        if self.trap_exits:
            if from_parent:
                self._terminate(reason)
            else:
                self._contained(lambda: self.on_exit(sender, reason))
        elif reason != "normal":
            self._terminate(reason)

    def _receive_signal(self, sender: ActorRef[Any], reason: ExitReason) -> None:
        """Get a linked actor's exit signal; any thread. Who does not trap exits dies of an abnormal one at once."""
        if self.trap_exits or is_normal_exit(reason):
            self._control_send("_exit_signal", sender, reason, True)
        else:
            # Posted, not called: a long chain of links would be as deep a recursion.
            _scheduler.scheduler().post(partial(self._kill, reason, sender))

    def _terminate(self, reason: ExitReason) -> None:
        """End in order."""
        try:
            if self._stop_takes_reason:
                self.on_stop(reason)
            else:
                self.on_stop()
        except BaseException as error:
            if self._dead:
                raise
            reason = error.reason if isinstance(error, Exit) else error
            _reports.crash(self, reason)
        self._finish(reason)

    def _suspend(self) -> None:
        self._suspended = True

    def _resume(self) -> None:
        self._suspended = False

    def _replace_state(self, fn: Callable[[Any], Any]) -> Any:
        state = fn(self.get_state())
        self.set_state(state)
        return state

    def _remember_link(self, ref: ActorRef[Any]) -> None:
        if self._links is None:
            self._links = {}
        self._links[ref] = None

    def _forget_link(self, ref: ActorRef[Any] | None) -> bool:
        if ref is self._parent and self._parent_linked:
            self._parent_linked = False
            return True
        if self._links is not None and ref in self._links:
            del self._links[ref]
            return True
        return False

    def _link_me(self, ref: ActorRef[Any]) -> None:
        self._remember_link(ref)
        # Who linked us may have ended before we came to know of the link; its signal has passed us by then.
        if ref._actor._dead and self._actor_ref in (ref._actor._links or ()):
            self._receive_signal(ref, ref.exit_reason)

    def _unlink_me(self, ref: ActorRef[Any]) -> None:
        self._forget_link(ref)

    def _monitor_me(self, monitor_id: int, watcher: ActorRef[Any]) -> None:
        if self._monitors is None:
            self._monitors = {}
        self._monitors[monitor_id] = watcher

    def _demonitor_me(self, monitor_id: int) -> None:
        (self._monitors or {}).pop(monitor_id, None)

    def _down(self, monitor_id: int, ref: ActorRef[Any], reason: ExitReason) -> None:
        if (self._monitors or {}).pop(-monitor_id, None) is not None:
            self.on_down(monitor_id, ref, reason)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _kill(self, reason: ExitReason = "killed", linked_to: ActorRef[Any] | None = None) -> None:
        """Die at once; with `linked_to`, of that actor's exit signal, unless unlinked from it meanwhile."""
        if self._dead:
            return
        scheduler = _scheduler.scheduler()
        if not scheduler.on_hub_thread():
            scheduler.post(partial(self._kill, reason, linked_to))
            return
        if linked_to is not None and not self._forget_link(linked_to):
            return
        worker = self._worker
        starting, current = self._starting, self._current
        if not self._finish(reason, signal_parent=starting is None):
            return
        if starting is not None:
            starting.fail(Exit("killed"))
        elif current.__class__ is Ask:
            current.reply_to.fail(self._dead_error())
        if self._gate is not None:
            self._gate.wake()
        elif worker is not None:
            scheduler.post(lambda: self._interrupt(worker))

    def _interrupt(self, worker: Any) -> None:
        # It may have come to its own end since; then the greenlet serves somebody else.
        if self._worker is worker:
            worker.throw(_Killed())

    def _finish(self, reason: ExitReason, *, signal_parent: bool = True) -> bool:
        """Establish the end, once: account for the mail, answer who asked, signal links, monitors and waiters."""
        with _end_lock:
            if self._dead:
                return False
            self._exit_reason = reason
            self._dead = True
            at_end, self._at_end = self._at_end or (), None
        _process_table.unregister(self._actor_ref, self._name)
        self._mailbox.release(self)
        self._refuse_mail()
        self._refuse_control()
        if self._parent_linked and signal_parent and self._parent is not None:
            self._parent._actor._receive_signal(self._actor_ref, reason)
        for ref in list(self._links or ()):
            ref._actor._receive_signal(self._actor_ref, reason)
        for monitor_id, ref in list((self._monitors or {}).items()):
            if monitor_id > 0:
                ref._actor._control_send("_down", monitor_id, self._actor_ref, reason)
            else:
                ref._actor._control_send("_demonitor_me", -monitor_id)
        for call in at_end:
            call()
        return True

    def _refuse_mail(self) -> None:
        if not self._owns_mailbox:
            return
        for message in self._mailbox.close():
            if message.__class__ is Ask:
                message.reply_to.fail(self._dead_error())

    def _refuse_control(self) -> None:
        """Answer control messages that nobody will handle any more."""
        while self._control or self._urgent:
            try:
                method, args, reply = self._next_control()
            except IndexError:
                return  # another thread refuses them as well
            if method == "_monitor_me":
                args[1]._actor._control_send("_down", args[0], self._actor_ref, self._exit_reason or "noproc")
            elif method == "_link_me":
                args[0]._actor._control_send("_exit_signal", self._actor_ref, "noproc", True)
            elif reply is not None and method == "_stop_now":
                reply.set(False)
            elif reply is not None and method == "_begin":
                reply.fail(Exit(self._exit_reason))
            elif reply is not None:
                reply.fail(self._dead_error())

    def _dead_error(self) -> pykka.ActorDeadError:
        return pykka.ActorDeadError(f"expected {self._actor_ref} to be alive, got: ended ({self._exit_reason!r})")

    def _call_at_end(self, call: Callable[[], object]) -> bool:
        """Have something short called at the end; False when that has been."""
        with _end_lock:
            if self._dead:
                return False
            if self._at_end is None:
                self._at_end = []
            self._at_end.append(call)
            return True

    def _orphan(self) -> None:
        """Be dead in a forked child, without a word to anybody: the actor lives in the parent."""
        self._exit_reason = "noproc"
        self._dead = True

    def _forbid_asking_oneself(self) -> None:
        """Raise when the caller would wait for itself: for its own reply, or for one of who waits for its start."""
        asker = current_actor()
        if asker is self._actor_ref:
            raise BeamstalkError(f"expected to ask another actor, got: {self._actor_ref} asking itself")
        while asker is not None and asker._actor._starting is not None:
            asker = asker.parent
            if asker is self._actor_ref:
                raise BeamstalkError(
                    f"expected nobody to ask {asker} while it waits for them to start, got: a question in on_start. "
                    "Ask in on_continue, put off by continue_"
                )

    # -- telling about itself ----------------------------------------------------------------------------------------

    @property
    def _state(self) -> str:
        if self._dead:
            return "dead"
        if self._suspended:
            return "suspended"
        return "running" if self._worker is not None else "waiting"

    def _info(self) -> ProcessInfo:
        since_ns = self._busy_since_ns
        return ProcessInfo(
            id=self._id,
            name=self._name,
            kind=type(self).__name__,
            parent=self._parent.id if self._parent is not None else None,
            carrier=self.carrier,
            state=self._state,
            mailbox=self._mailbox.statistics(),
            restarts=self.restarts,
            uptime_ns=monotonic_ns() - self._started_ns,
            busy_ns=_scheduler.now_ns() - since_ns if since_ns else 0,
        )

    def _describe(self) -> dict[str, Any]:
        """Say what only this kind of actor knows of itself. For the introspector: any thread, never waits."""
        return {}

    def _describe_children(self) -> Iterable[tuple[Any, ActorRef[Any] | None, str, int, str]]:
        """List whom this actor supervises: (id, ref, state, restarts, restart rule). Any thread, never waits."""
        return ()

    def __str__(self) -> str:
        return str(self._actor_ref)

    # -- what pykka's face asks for ----------------------------------------------------------------------------------

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Mailbox()

    @staticmethod
    def _create_future() -> Future[Any]:
        return Future()

    def _start_actor_loop(self) -> None:
        raise BeamstalkError("expected Actor.start to be called, got: pykka's own loop")


# What pykka's proxies and its own `stop` send.
_PYKKAS = frozenset((ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop))
# These settle their reply themselves, because they end the actor.
_ENDING = frozenset(("_begin", "_stop_now", "_exit_signal"))


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
