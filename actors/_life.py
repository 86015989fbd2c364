"""The life of an actor beside its mail: the control lane, links and monitors, and its end.

The end is a fact that exactly one thread establishes (`_finish`): it accounts for the mail, answers who asked, and
tells links, monitors and waiters. Whoever is blocked inside the actor then is fenced: nothing it does later counts.

Every `_method` named in a control message runs inside the actor; all else here may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pykka

from actors._current import current_actor
from actors._future import Ask, Future
from actors._ref import ActorRef
from runtime import _native, _process_table, _scheduler
from runtime._fork import in_child
from runtime._harmless import Interrupted, harmless
from runtime._mailbox import EMPTY, Mailbox
from runtime._waiting import Waiter
from runtime.errors import BeamstalkError, Exit, ExitReason, expected, is_normal_exit, shown

_end_lock = _native.RLock()


@in_child
def _end_with_a_new_lock() -> None:
    global _end_lock
    _end_lock = _native.RLock()


class _Killed(Interrupted):
    """Thrown into the greenlet of a killed actor that waits for something."""


class Life(pykka.Actor):
    """Be told things out of turn, be linked and monitored, and end once."""

    trap_exits: ClassVar[bool] = False

    _id: int
    _actor_ref: ActorRef[Any]
    _control: list[tuple[str, tuple[Any, ...], Future[Any] | None]]
    _mailbox: Mailbox
    _started_ns: int
    # Set on instances only when they differ: an idle actor should cost little.
    _dead: bool = False
    _exit_reason: ExitReason = None
    _name: str | None = None
    _parent: ActorRef[Any] | None = None
    _parent_linked: bool = False
    _links: dict[ActorRef[Any], None] | None = None
    _monitors: dict[int, ActorRef[Any]] | None = None
    _at_end: list[Callable[[], object]] | None = None
    _urgent: list[tuple[str, tuple[Any, ...], Future[Any] | None]] | None = None
    _starting: Future[Any] | None = None
    _worker: Any = None
    _gate: Waiter | None = None
    _current: Any = None
    _owns_mailbox: bool = True

    def on_exit(self, ref: ActorRef[Any] | None, reason: ExitReason) -> None:
        """Handle the exit signal of a linked actor (only with `trap_exits`)."""

    def on_down(self, monitor_id: int, ref: ActorRef[Any], reason: ExitReason) -> None:
        """Handle the end of a monitored actor."""

    def _wake(self) -> None:
        """Look at both lanes soon; called from any thread."""
        raise NotImplementedError

    # -- the control lane ----------------------------------------------------------------------------------------------

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

    def _forbid_asking_oneself(self) -> None:
        """Raise when the caller would wait for itself: for its own reply, or for one of who waits for its start."""
        asker = current_actor()
        if asker is self._actor_ref:
            raise BeamstalkError(
                f"expected to ask another actor, got: {self._actor_ref} asking itself. Call its method"
            )
        while asker is not None and asker._actor._starting is not None:
            asker = asker.parent
            if asker is self._actor_ref:
                raise BeamstalkError(
                    f"expected nobody to ask {asker} while it waits for them to start, got: a question in on_start. "
                    "Ask in on_continue, put off by continue_"
                )

    # -- links and monitors --------------------------------------------------------------------------------------------

    def link(self, ref: ActorRef[Any]) -> None:
        """Link both ways: when either ends, the other gets its exit signal. Linking to the dead signals at once."""
        _check_ref(ref)
        if (ref is self._parent and self._parent_linked) or ref in (self._links or ()):
            return
        self._remember_link(ref)
        ref._actor._control_send("_link_me", self._actor_ref)

    def unlink(self, ref: ActorRef[Any]) -> None:
        """Undo `link`; a signal that is under way is not delivered any more."""
        _check_ref(ref)
        if self._links is not None:
            self._links.pop(ref, None)
        if ref is self._parent:
            self._parent_linked = False
        ref._actor._control_send("_unlink_me", self._actor_ref)

    def monitor(self, ref: ActorRef[Any]) -> int:
        """Have `on_down(id, ref, reason)` called when that actor ends; at once when it has ended. Stackable."""
        _check_ref(ref)
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

    def _receive_signal(self, sender: ActorRef[Any], reason: ExitReason) -> None:
        """Get a linked actor's exit signal; any thread. Who does not trap exits dies of an abnormal one at once."""
        if self.trap_exits or is_normal_exit(reason):
            self._control_send("_exit_signal", sender, reason, True)
        else:
            # Posted, not called: a long chain of links would be as deep a recursion.
            _scheduler.scheduler().post(partial(self._kill, reason, sender))

    # -- the end -------------------------------------------------------------------------------------------------------

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
        lost = self._mailbox.release(self)
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
        if lost is not EMPTY:
            self._message_lost(lost, reason)
        for call in at_end:
            harmless(call)()
        return True

    def _message_lost(self, message: Any, reason: ExitReason) -> None:
        """Take note of what this actor, or the one before, was at when it was killed; handlers report it."""

    def _refuse_mail(self) -> None:
        if not self._owns_mailbox:
            return
        for message in self._mailbox.close():
            if message.__class__ is Ask:
                message.reply_to.fail(self._dead_error())

    def _dead_error(self) -> pykka.ActorDeadError:
        return pykka.ActorDeadError(
            f"expected {self._actor_ref} to be alive, got: ended ({shown(self._exit_reason)}). "
            "One that was restarted has a new ref, which `whereis` finds by its name"
        )

    def _call_at_end(self, call: Callable[[], object]) -> bool:
        """Have something short called at the end; False when that has been."""
        if not callable(call):
            raise expected("something to be called at the end of an actor", call)
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


def _check_ref(ref: object) -> None:
    if not isinstance(ref, ActorRef):
        raise expected("the ref of an actor", ref)
