"""The loop of an actor: it handles control messages first, always, then its mail, one message at a time.

An actor runs on a carrier: `green`, activated on a pooled greenlet of the scheduler whenever it has mail, or `thread`,
a thread of its own. Both call `_activate`, which handles mail until none is left or the time slice is over.

Why not pykka's loop: any BaseException that leaves a pykka handler stops every actor of the process, and a stop waits
behind the mail. Nothing that a hook raises leaves this one: it ends this actor, with that as its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import Any, ClassVar

from greenlet import getcurrent
from pykka._introspection import get_attr_directly
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

from actors import _reports
from actors._current import enter_thread
from actors._future import Ask, Future
from actors._life import Life
from actors._ref import ActorRef
from actors._trace import Trace
from runtime import _native, _scheduler
from runtime._gil import YIELD_NS, Turns
from runtime._mailbox import EMPTY
from runtime.errors import Exit, ExitReason, StartError, is_normal_exit


class Ignore(Exit):
    """Raised in `on_start`: there is nothing to do; `start` returns IGNORE and no actor lives."""


IGNORE: Any = type("Ignored", (), {"__repr__": lambda self: "IGNORE", "__slots__": ()})()
"""What `start` returns for an actor whose `on_start` raised Ignore."""

# What pykka's proxies and its own `stop` send.
_PYKKAS = frozenset((ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop))
# These settle their reply themselves, because they end the actor.
_ENDING = frozenset(("_begin", "_stop_now", "_exit_signal"))


class Loop(Life):
    """Run: take messages and call hooks, until the end."""

    answer_and_live_on: ClassVar[bool] = False

    _stop_takes_reason: ClassVar[bool] = True
    _suspended: bool = False
    _continuations: list[Any] | None = None
    _tracer: Trace | None = None
    _busy_since_ns: int = 0

    def on_continue(self, x: Any) -> None:
        """Go on with what `continue_(x)` put off; runs before any queued message."""

    def on_stop(self, reason: ExitReason = "normal") -> None:
        """Clean up; runs on stop and shutdown, not on kill and not after a crash (see `on_failure`)."""

    def get_state(self) -> Any:
        """Return what `ref.get_state()` shows."""
        raise NotImplementedError

    def set_state(self, state: Any) -> None:
        """Take over a replaced state: the reverse of `get_state`."""
        raise NotImplementedError

    # -- carriers ------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._gate is not None:
            self._gate.wake()
        else:
            _scheduler.scheduler().activate(self)

    def _start_thread(self) -> None:
        try:
            _native.start_new_thread(self._run_thread, ())
        except BaseException as error:
            self._finish(error, signal_parent=False)
            raise

    def _run_thread(self) -> None:
        assert self._gate is not None
        enter_thread(self)
        turns = Turns()
        while not self._dead:
            if self._activate():
                turns.pass_on()
            elif not self._dead:
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
            asked = self._current
            self._crash(error)
            if asked.__class__ is Ask:
                asked.reply_to.fail(error)
            return False
        finally:
            self._worker = None

    def _blocks_hub(self) -> None:
        """Take note of holding the hub for too long; called from the watchdog's thread."""

    # -- messages ------------------------------------------------------------------------------------------------------

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

    # -- control messages ----------------------------------------------------------------------------------------------

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
