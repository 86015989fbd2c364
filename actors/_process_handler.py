"""The actor of a process handler: feeds events to a child interpreter and accounts for each as it is answered.

The actor lives on a thread that only ever waits for its child or for its own mail, so unlike a handler in a thread it
can always be stopped and killed. Its child gets events ahead, a batch at a time, while the mailbox keeps them until
they are answered: of a batch whose process dies, what was answered is handled, what was being handled has failed, and
the next incarnation begins with the rest. So each event is handled at most once, and accounted for exactly once.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import Any

import msgspec

from actors._handler import DeadlineExceeded, HandlerActor
from actors._process import ChildProcess, ProcessFailure, encode_batch
from actors._ref import ActorRef
from runtime import Event, _scheduler
from runtime._harmless import harmless
from runtime._process_table import ProcessInfo
from runtime._table import Attachment
from runtime.errors import ExitReason

STOP_GRACE_S = 2.0
"""How long a child that is stopped may take for the event it handles; half of that more after SIGTERM."""
EXIT_GRACE_S = 0.5
BEGIN_S = 60.0
"""How long a child may take to start and to import its handler."""
KILL_S = 1.0
"""How long the actor's thread may take to end the child and itself when it is killed, before it is fenced."""
LOOK_S = 1.0
"""How often to look at the clock while a child is to begin."""

_HANDLED = object()
_RETURNED = object()


class ProcessHandler(HandlerActor):
    """Run an attached handler in a process of its own."""

    carrier = "thread"

    def __init__(self, attachment: Attachment) -> None:
        super().__init__(attachment)
        self._child: ChildProcess | None = None
        self._ahead: deque[Event] = deque()
        self._sent_ns = 0
        self._begun = False
        self._ending = False
        self._doom: ExitReason = None
        self._overdue: Event | None = None
        self._verdict: BaseException | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        super().on_start()
        self.continue_("spawn")  # not here: a process that cannot be had is a crash with back-off, not a failing attach

    def on_continue(self, x: Any) -> None:
        self._child = self._gate = ChildProcess(self.attachment.target, self.attachment.config)

    def on_stop(self, reason: ExitReason = "normal") -> None:
        super().on_stop(reason)
        self._end_child(STOP_GRACE_S)
        if self._doom is not None:  # killed meanwhile: it is late for an end in order
            self._finish(self._doom)

    def on_failure(self, *_: Any) -> None:
        self._end_child(EXIT_GRACE_S)

    def _kill(self, reason: ExitReason = "killed", linked_to: ActorRef[Any] | None = None) -> None:
        # Our thread can do it, and then it knows what the child has handled. The usual way is for when it cannot: a
        # foreign `repr` that does not return.
        scheduler = _scheduler.scheduler()
        if not scheduler.on_hub_thread():
            scheduler.post(partial(self._kill, reason, linked_to))
        elif not self._dead and (linked_to is None or self._forget_link(linked_to)):
            self._doom = reason
            if self._child is not None:
                self._child.hurry()
            scheduler.call_after(KILL_S, partial(super()._kill, reason))
            self._control_send("_die")

    def _die(self) -> None:
        self._end_child(0)
        self._finish(self._doom)

    def _thread_ended(self) -> None:
        super()._thread_ended()
        if self._child is not None:
            self._child.end()
            self._child.close()

    def _end_child(self, grace_s: float) -> None:
        """End the child and account for what it still did."""
        self._ending = True
        if self._child is not None:
            self._child.end(grace_s)
            while self._ahead:
                self._handle_answer(self._child)

    # -- mail --------------------------------------------------------------------------------------------------------

    def _put_control(self, entry: Any) -> None:
        super()._put_control(entry)
        if self._child is not None:
            self._child.wake()  # also while it waits for an answer, where other carriers would be in the handler

    def _suspend(self) -> None:
        super()._suspend()
        if self._child is not None and self._ahead:
            self._child.send(b"")

    def _handle_load(self) -> bool:
        child = self._child
        if child is None:
            return False
        if not self._ahead:
            if child.over:
                self._crash(self._last_word(child))
                return True
            self._send_batch(child)
        if not self._ahead:
            return False
        self._handle_answer(child)
        return True

    def _send_batch(self, child: ChildProcess) -> None:
        events = self._mailbox.lend(self)
        if events:
            child.send(encode_batch(events))
            self._ahead.extend(events)
            self._begun = False
            self._sent_ns = time.monotonic_ns()

    def _handle_answer(self, child: ChildProcess) -> None:
        """Account for the first event that the child has, when it answers."""
        event = self._current = self._ahead[0]
        self._busy_since_ns = _scheduler.now_ns() if self._begun else 0
        outcome = self._await_answer(child)
        begun = self._begun and outcome is not _RETURNED
        if outcome is _HANDLED:
            self._ahead.popleft()
        else:
            self._ahead.clear()  # the mailbox has them: they were not begun
        if begun:
            self._mailbox.take(self)
        if outcome is _HANDLED:
            self._mailbox.settle(self)
        elif isinstance(outcome, BaseException):
            if begun and not self._ending:
                self._failed(outcome, event)
            elif begun and self._mailbox.settle(self, failed=True):
                self._message_failed(outcome, event)
            elif not self._ending:
                self._crash(outcome)
        if begun and self._tracer is not None:
            self._tracer.add(event, self._busy_since_ns, outcome is not _HANDLED)
        self._current = None
        self._busy_since_ns = 0

    def _await_answer(self, child: ChildProcess) -> object:
        while True:
            match child.answer():
                case ["began"]:
                    self._begun = True
                    self._busy_since_ns = _scheduler.now_ns()
                case ["handled"]:
                    return _HANDLED
                case ["returned"]:
                    return _RETURNED
                case ["failed" | "unready", *what]:
                    return ProcessFailure(*what)
                case _:
                    if child.over:
                        return self._last_word(child)
                    self._wait_or_end(child)

    def _wait_or_end(self, child: ChildProcess) -> None:
        if self._doom is not None:
            self._ending = True
            child.end()
        elif self._stop_is_pending():
            self._ending = True
            child.end(STOP_GRACE_S)
        elif self._overdue is self._current:
            deadline_s = self.attachment.options.deadline_s
            self._verdict = DeadlineExceeded(
                f"expected the handler to return within {deadline_s} s, got: still running; {child.end()}"
            )
        elif not self._begun and time.monotonic_ns() - self._sent_ns > BEGIN_S * 1e9:
            self._verdict = ProcessFailure("exit", f"process did not begin within {BEGIN_S} s; {child.end()}")
        else:
            child.wait(LOOK_S)

    def _last_word(self, child: ChildProcess) -> BaseException:
        """Say why a child is over that has not said so itself."""
        answer = child.answer()
        if answer is not None and answer[0] == "unready":
            return ProcessFailure(*answer[1:])
        return self._verdict or ProcessFailure("exit", child.end(EXIT_GRACE_S))

    def _stop_is_pending(self) -> bool:
        return any(
            method == "_stop_now" or (method == "_exit_signal" and args[1] != "normal")
            for method, args, _ in [*self._control, *(self._urgent or ())]
        )

    def _past_deadline(self, event: Event, deadline_s: float) -> None:
        # This runs on the hub's own greenlet; our thread does the rest.
        self._overdue = event
        self._watch_deadline(deadline_s)
        if self._child is not None:
            self._child.wake()

    @harmless
    def _message_failed(self, error: BaseException, event: Event) -> None:
        self.attachment.failed(event, error, error.describe() if isinstance(error, ProcessFailure) else None)

    def _info(self) -> ProcessInfo:
        return msgspec.structs.replace(super()._info(), carrier="process")
