"""A child interpreter that runs a handler: starting it, talking to it over two pipes, and ending it for certain.

Owned by the one thread that made it (the actor's, see `_process_handler.py`); only `wake` may be called by others. It
is spawned, never forked, in a session of its own, so that the terminal's signals are the parent's to decide about, and
with no file of ours but its two pipes. The wire format is described in `_process_child.py`.

What travels is msgpack: None, bool, numbers, str, bytes, lists, dicts and aware datetimes arrive as they are; tuples,
sets and deques as lists; enumerations as their value; UUID, Decimal, naive datetimes and dates as str; dataclasses and
structs as dicts. Anything else (and integers above 64 bits, broken text, what lies deeper than 32) arrives as the text
"repr: " and its repr.
"""

from __future__ import annotations

import contextlib
import linecache
import numbers
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from select import POLLIN, POLLOUT
from typing import Any

import msgspec

from runtime import _native
from runtime._events import Event
from runtime._fork import in_child
from runtime._spans import Stacktrace
from runtime._waiting import ThreadWaiter
from runtime.errors import BeamstalkError

_PROGRAM = str(Path(__file__).with_name("_process_child.py"))
_DEATH_S = 5.0
_MAX_DEPTH = 32
_SHOWN = 10_000


class ProcessFailure(BeamstalkError):
    """A handler failed in its process, or the process ended: `kind`, `stack`; the child's traceback is in the notes."""

    def __init__(self, kind: str, reason: str, text: str = "", frames: Any = ()) -> None:
        super().__init__(reason)
        self.kind = kind
        self.stack = RemoteStacktrace(frames)
        if text:
            self.add_note(text)

    def describe(self) -> dict[str, Any]:
        """Metadata of an exception event, as `runtime._spans.describe` makes it of an exception of this process."""
        return {"kind": self.kind, "reason": self, "stacktrace": self.stack}


class RemoteStacktrace(Stacktrace):
    """Where an exception of another process came from: (file, line number, function), outermost first."""

    __slots__ = ("_frames",)

    def __init__(self, frames: Any) -> None:
        super().__init__(None)
        self._frames = frames

    def __str__(self) -> str:
        summary = [(file, line, name, linecache.getline(file, line).strip()) for file, line, name in self._frames]
        return "".join(traceback.StackSummary.from_list(summary).format())

    def places(self) -> str:
        return " > ".join(f"{file}:{line} {name}" for file, line, name in self._frames)


class ChildProcess:
    """Run a handler in an interpreter of its own.

    Its answers are lists, see `_process_child.py`. `over` says that nothing more will come.
    """

    def __init__(self, target: str, config: Any) -> None:
        self.over = False
        self._hurried = False
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self._lock = _native.RLock()
        self._fds: dict[str, int] = {}
        self._status: str | None = None
        self._gone = ThreadWaiter()
        theirs: list[int] = []
        try:
            child_in, self._fds["out"] = os.pipe()
            theirs.append(child_in)
            self._fds["in"], child_out = os.pipe()
            theirs.append(child_out)
            self._fds["woken"], self._fds["wake"] = os.pipe()
            for fd in self._fds.values():
                os.set_blocking(fd, False)
            _living.add(self)
            subprocess = _native.subprocess()
            child = subprocess.Popen(
                [sys.executable, "-P", _PROGRAM, str(child_in), str(child_out), target],
                stdin=subprocess.DEVNULL,
                pass_fds=theirs,
                start_new_session=True,
            )
            self._pid: int = child.pid
            _native.start_new_thread(self._collect, ())
            child.returncode = 0  # ours to collect; or it would warn that the process still runs
        except BaseException:
            self.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self._poll = _native.poll()
        for name in ("in", "woken"):
            self._poll.register(self._fds[name], POLLIN)
        self.send("\0".join(map(str, sys.path)).encode("utf-8", "surrogateescape"))
        self.send(_encode((target, config)))

    # -- the gate of the actor's thread ------------------------------------------------------------------------------

    def wake(self) -> None:
        """End a wait; any thread, any number of times."""
        with self._lock, contextlib.suppress(BlockingIOError):  # full of wake-ups: one more says nothing new
            if "wake" in self._fds:
                os.write(self._fds["wake"], b"\0")

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the child says something or ends, or `wake` is called; False when the time is over first."""
        self._push()
        ready = self._poll.poll(None if timeout_s is None else timeout_s * 1000)
        if any(fd == self._fds["woken"] for fd, _ in ready):
            os.read(self._fds["woken"], 4096)
        ended = self._status is not None  # also when something that it has started holds its pipes open
        self._pull()
        self.over = self.over or ended
        return bool(ready)

    # -- talking -----------------------------------------------------------------------------------------------------

    def send(self, payload: bytes) -> None:
        """Put a frame on its way; `wait` sees to the rest of it."""
        self._outgoing += len(payload).to_bytes(8, "big")
        self._outgoing += payload
        self._push()

    def answer(self) -> list[Any] | None:
        """Return the next answer that has arrived."""
        size = int.from_bytes(self._incoming[:8], "big")
        if len(self._incoming) < 8 + size or not size:
            return None
        payload = bytes(self._incoming[8 : 8 + size])
        del self._incoming[: 8 + size]
        try:
            return _decode(payload)
        except msgspec.MsgspecError:
            self.end()  # somebody else writes on our pipe: nothing it says can be believed any more
            self._incoming.clear()
            return None

    def _push(self) -> None:
        fd = self._fds.get("out")
        if fd is None:
            return
        try:
            while self._outgoing:
                del self._outgoing[: os.write(fd, self._outgoing)]
        except BlockingIOError:
            self._poll.register(fd, POLLOUT)
        except BrokenPipeError:
            self._hang_up()  # the other pipe tells why
        else:
            with contextlib.suppress(KeyError):
                self._poll.unregister(fd)

    def _pull(self) -> None:
        fd = self._fds.get("in")
        if fd is None:
            return
        try:
            while piece := os.read(fd, 1 << 16):
                self._incoming += piece
        except BlockingIOError:
            return
        self.over = True
        self._poll.unregister(fd)
        os.close(self._fds.pop("in"))

    def _hang_up(self) -> None:
        fd = self._fds.pop("out", None)
        if fd is not None:
            with contextlib.suppress(KeyError):
                self._poll.unregister(fd)
            os.close(fd)

    # -- the end -----------------------------------------------------------------------------------------------------

    def end(self, grace_s: float = 0) -> str:
        """End the process and say how it ended: it may finish its event within `grace_s`, then SIGTERM, then SIGKILL.

        Returns within 1.5 × `grace_s` and however long the system takes to kill; what it still said can be read
        (`answer`).
        """
        self._hang_up()
        steps = [(grace_s, None), (grace_s / 2, signal.SIGTERM)] if grace_s else []
        for patience_s, signal_number in [*steps, (_DEATH_S, signal.SIGKILL)]:
            if self._status is None and signal_number is not None:
                # The group: with what the handler has started.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._pid, signal_number)
            self._await_end(patience_s, in_a_hurry=signal_number == signal.SIGKILL)
        self._pull()
        self.over = True
        return self._status or "process did not end when it was killed"

    def _await_end(self, patience_s: float, in_a_hurry: bool) -> None:
        until = time.monotonic() + patience_s
        while self._status is None and (in_a_hurry or not self._hurried):
            if not self._gone.wait(until - time.monotonic()):
                return

    def hurry(self) -> None:
        """Tell `end` to have no more patience; any thread."""
        self._hurried = True
        self._gone.wake()

    def close(self) -> None:
        """Give the pipes back; the process must have ended."""
        _living.discard(self)
        with self._lock:
            fds, self._fds = self._fds, {}
            for fd in fds.values():
                os.close(fd)

    def _collect(self) -> None:
        """Wait, in a thread of its own, for the end of the process.

        The only way to learn how it ended in a host that waits for every child there is, as gevent's loop does: who
        waits already is first.
        """
        try:
            _, status = _native.waitpid(self._pid, 0)
        except ChildProcessError:  # SIGCHLD is ignored, or the host was first
            self._status = "process ended; only the host knows how, it has collected our child"
        else:
            self._status = _how_it_ended(os.waitstatus_to_exitcode(status))
        self._gone.wake()
        self.wake()

    def _forget(self) -> None:
        """Let go of another process's child: called in a forked process, where this one's thread does not exist."""
        for fd in self._fds.values():
            with contextlib.suppress(OSError):
                os.close(fd)
        self._fds = {}


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"process ended with exit code {code}"
    known = {one.value: one.name for one in signal.Signals}
    return f"process ended by signal {known.get(-code, -code)}"


# -- what travels ------------------------------------------------------------------------------------------------------


def encode_batch(events: list[Event]) -> bytes:
    """Encode events one by one, so that each is decoded, and may fail, on its own."""
    return _encode([msgspec.Raw(_encode_event(event)) for event in events])


def _encode_event(event: Event) -> bytes:
    try:
        return _encode((event.name, event.measurements, event.metadata))
    except Exception:  # noqa: BLE001  # an integer above 64 bits, a cycle, an object that somebody changes meanwhile, …
        return _encode((event.name, _plain(event.measurements), _plain(event.metadata)))


def _render(value: object) -> object:
    """Stand in for a value that msgpack does not know."""
    try:
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, numbers.Real):
            return int(value) if isinstance(value, numbers.Integral) else float(value)
        if isinstance(value, Mapping):
            return dict(value)
        if isinstance(value, deque):
            return list(value)
    except Exception:  # noqa: BLE001  # not what it says it is
        return _shown(value)
    return _shown(value)


def _plain(value: Any, depth: int = _MAX_DEPTH) -> Any:
    """Replace the very parts that msgpack refuses."""
    if depth and isinstance(value, dict):
        return {_plain(key, 0): _plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset | deque):
        return [_plain(item, depth - 1) for item in value]
    try:
        _encode(value)
    except Exception:  # noqa: BLE001  # see above: this is the part
        return _shown(value)
    return value


def _shown(value: object) -> str:
    try:
        shown = repr(value)
    except BaseException as error:  # noqa: BLE001  # a repr may raise anything, and must not end the service's thread
        shown = f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return "repr: " + shown[:_SHOWN].encode("utf-8", "backslashreplace").decode()


_encode = msgspec.msgpack.Encoder(enc_hook=_render).encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode
_living: set[ChildProcess] = set()


@in_child
def _forget_all() -> None:
    # A forked process must not hold the pipes of its parent's children: they would not notice the parent's end.
    for child in _living:
        child._forget()
    _living.clear()
