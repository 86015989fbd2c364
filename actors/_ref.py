"""References: how everybody else talks to an actor. Any thread may use a ref; only `ask`, `stop`, `wait` and the
control calls that answer something may wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pykka

from actors._current import current_actor
from actors._future import Ask, Future
from actors._trace import Trace
from runtime._checks import check_timeout
from runtime._process_table import ProcessInfo
from runtime._waiting import waiter
from runtime.errors import BeamstalkError, ExitReason, MailboxFull, expected

if TYPE_CHECKING:
    from actors._actor import Actor

A = TypeVar("A", bound="Actor")
ASK_TIMEOUT_S = 5.0


class ActorRef(pykka.ActorRef[Any], Generic[A]):
    """A handle on one incarnation of an actor. Dead refs stay dead; a restarted actor has a new one.

    >>> from actors import Actor
    >>> class Doubler(Actor):
    ...     def on_receive(self, message):
    ...         return 2 * message
    >>> ref = Doubler.start()
    >>> ref.ask(21)
    42
    >>> ref.stop()
    True
    >>> ref.exit_reason
    'normal'
    """

    __slots__ = ("_actor",)

    def __init__(self, actor: A) -> None:
        # pykka's own __init__ would store what the properties below derive.
        self._actor = actor

    # -- what pykka's face asks for ----------------------------------------------------------------------------------

    @property
    def actor_class(self) -> type[A]:  # type: ignore[override]
        return type(self._actor)

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        return self._actor.actor_urn

    @property
    def actor_inbox(self) -> Any:  # type: ignore[override]
        return self._actor._mailbox

    @property
    def actor_stopped(self) -> Any:  # type: ignore[override]
        return _Stopped(self._actor)

    @property
    def _actor_weakref(self) -> Callable[[], A]:  # type: ignore[override]
        return lambda: self._actor

    # -- identity ----------------------------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        """The process id, never used twice."""
        return self._actor._id

    @property
    def name(self) -> str | None:
        """The registered name, if any."""
        return self._actor._name

    @property
    def exit_reason(self) -> ExitReason:
        """Why the actor ended; None while it lives."""
        return self._actor._exit_reason

    @property
    def parent(self) -> ActorRef[Any] | None:
        """Who started it, if that was an actor."""
        return self._actor._parent

    def is_alive(self) -> bool:
        """Tell whether the actor has not ended yet."""
        return not self._actor._dead

    def __str__(self) -> str:
        label = f" {self.name}" if self.name else ""
        return f"{type(self._actor).__name__}{label} <{self.id}>"

    # -- messages ----------------------------------------------------------------------------------------------------

    def tell(self, message: Any) -> None:
        """Send a message. Errors: pykka.ActorDeadError; MailboxFull when the actor's load lane is at its capacity."""
        actor = self._actor
        if actor._dead:
            raise actor._dead_error()
        if not actor._mailbox.put(message):
            raise self._refused()

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = ASK_TIMEOUT_S) -> Any:
        """Send a message and wait for the reply, at most `timeout` seconds.

        Raises what the actor raised, pykka.ActorDeadError as soon as the actor ends without a reply, pykka.Timeout;
        asking oneself is a BeamstalkError. With `block=False` returns a Future instead.
        """
        actor = self._actor
        if timeout is not ASK_TIMEOUT_S:
            check_timeout(timeout)  # now, and not when the message is sent
        if block:
            actor._forbid_asking_oneself()
        future: Future[Any] = Future(actor)
        if actor._dead:
            future.fail(actor._dead_error())
        elif not actor._mailbox.put(Ask(message, reply_to=future)):
            future.fail(self._refused())
        elif not self.is_alive():
            actor._refuse_mail()  # it ended while we put: nobody else will answer
        return future.wait(timeout) if block else future

    def _refused(self) -> BaseException:
        actor = self._actor
        if actor._dead or actor._mailbox.closed:
            return actor._dead_error()
        return MailboxFull(f"expected room for a message to {self}, got: {actor._mailbox.capacity} waiting")

    # -- life and death ----------------------------------------------------------------------------------------------

    def stop(self, *, reason: ExitReason = "normal", block: bool = True, timeout: float | None = None) -> Any:
        """End the actor in order: after its current message, ahead of its mail; `on_stop(reason)` runs.

        True when it was alive, False when it had ended before. With `block=False` returns a Future of that.
        """
        check_timeout(timeout)
        future = self._actor._control_ask("_stop_now", reason, block=block)
        return future.get(timeout=timeout) if block else future

    def exit(self, reason: ExitReason) -> None:
        """Send an exit signal (OTP's exit/2): "kill" ends it at once, "normal" matters only to who traps exits."""
        if reason == "kill":
            self.kill()
        else:
            sender = current_actor()
            self._actor._control_send("_exit_signal", sender, reason, False)

    def kill(self) -> None:
        """End the actor at once with reason "killed", whatever it is doing.

        What cannot be interrupted (a thread, a green actor that never waits) is fenced: nothing more is delivered to
        it and what it still returns is ignored.
        """
        self._actor._kill()

    def wait(self, timeout_s: float | None = None) -> ExitReason:
        """Wait for the end of the actor and return its exit reason; pykka.Timeout when it lives on."""
        check_timeout(timeout_s)
        self._actor._forbid_asking_oneself()
        if self.is_alive():
            waiting = waiter()
            if not self._actor._call_at_end(waiting.wake):
                waiting.wake()
            if not waiting.wait(timeout_s) and self.is_alive():
                raise pykka.Timeout(f"expected {self} to end within {timeout_s} s, got: still alive")
        return self.exit_reason

    def call_at_end(self, call: Callable[[], object]) -> None:
        """Have something short called when the actor ends, in whichever thread ends it; at once when it has ended."""
        if not self._actor._call_at_end(call):
            call()

    def orphan(self) -> None:
        """Take note of a fork: in this child the actor does not live. The kernel calls it."""
        self._actor._orphan()

    # -- looking inside ----------------------------------------------------------------------------------------------

    def suspend(self) -> None:
        """Stop handling the load lane until `resume`; the control lane goes on."""
        self._actor._control_ask("_suspend").get(timeout=ASK_TIMEOUT_S)

    def resume(self) -> None:
        """Handle the load lane again."""
        self._actor._control_ask("_resume").get(timeout=ASK_TIMEOUT_S)

    def get_state(self, timeout: float | None = ASK_TIMEOUT_S) -> Any:
        """Return the actor's state (`Actor.get_state`), read between two messages."""
        check_timeout(timeout)
        return self._actor._control_ask("get_state").get(timeout=timeout)

    def replace_state(self, fn: Callable[[Any], Any], timeout: float | None = ASK_TIMEOUT_S) -> Any:
        """Replace the actor's state by `fn(state)`, between two messages; when `fn` raises, nothing changes.

        What `fn` gets is a dict of its own with the actor's own values: make new ones rather than change them.
        """
        if not callable(fn):
            raise expected("a function of the state", fn)
        check_timeout(timeout)
        return self._actor._control_ask("_replace_state", fn).get(timeout=timeout)

    def trace(self, limit: int = 10, for_s: float = 30.0) -> Trace:
        """Show the next messages the actor handles, at most `limit` of them and for `for_s` seconds. One at a time."""
        return Trace(self._actor, limit, for_s)

    def info(self) -> ProcessInfo:
        """Say what is known of the actor, without waiting for it."""
        return self._actor._info()

    statistics = info


class _Stopped:
    """What pykka's face expects in `actor_stopped`."""

    __slots__ = ("_actor",)

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def is_set(self) -> bool:
        return self._actor._dead

    def wait(self, timeout: float | None = None) -> bool:
        until = None if timeout is None else time.monotonic() + timeout
        try:
            self._actor.actor_ref.wait(None if until is None else until - time.monotonic())
        except pykka.Timeout:
            return False
        return True


__all__ = ["ASK_TIMEOUT_S", "ActorRef", "BeamstalkError"]
