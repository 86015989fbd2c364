"""The program in which a process handler runs: it reads batches of events from one pipe and answers on another.

Owns nothing but its two pipes. Run as a script by `actors/_process.py`, never imported by anybody, and importing
nothing of ours: an interpreter with msgspec and the handler is all there is.

A frame is 8 bytes of length (big endian) and the payload. In come the parent's `sys.path`, then `[target, config]`,
then batches: arrays of `[event, measurements, metadata]`; an empty frame asks for what has not been begun. Out go
`["unready" | "failed", kind, reason, text, frames]`, `["began"]` (a batch, with its first event), `["handled"]` (an
event; the next of the batch is begun with it) and `["returned"]` (nothing more of this batch was begun).

The end of the incoming pipe, because the parent asks for it or is dead, is the end of this process: after the event
that is being handled, and by force when that takes longer than `GRACE_S`. (Native code that never lets go of the GIL
cannot notice it; the parent kills such a process, but its own sudden death leaves it running.)
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

IS_HANDLER_PROCESS = True
GRACE_S = 2.0
_TEXT_LIMIT = 64_000
_FRAMES_LIMIT = 100


class Conversation:
    """The two pipes. A thread reads, so that the parent's end is noticed while the handler runs; `main` answers."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        for fd in (incoming, outgoing):
            os.set_inheritable(fd, False)  # what the handler starts must not keep the pipes open
        self._incoming = incoming
        self._outgoing = outgoing
        self.batches: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.recalled = threading.Event()
        self._sleep = time.sleep  # the handler's module may patch it

    def receive(self) -> bytes | None:
        """Read one frame; None at the end of the pipe."""
        header = self._read(8)
        return None if header is None else self._read(int.from_bytes(header, "big"))

    def answer(self, encoded: bytes) -> None:
        """Write one frame."""
        frame = memoryview(len(encoded).to_bytes(8, "big") + encoded)
        while frame:
            frame = frame[os.write(self._outgoing, frame) :]

    def read_on(self) -> None:
        """Hand frames to `main` until the pipe ends, and then see to it that this process does."""
        while (frame := self.receive()) is not None:
            if frame:
                self.batches.put(frame)
            else:
                self.recalled.set()
        self.recalled.set()
        self.batches.put(None)
        os.close(self._incoming)
        self._sleep(GRACE_S)
        # The group is ours alone (the parent gave us a session), and whatever the handler has started is in it.
        os.killpg(os.getpid(), signal.SIGKILL)

    def _read(self, size: int) -> bytes | None:
        found = bytearray()
        while len(found) < size:
            piece = os.read(self._incoming, min(size - len(found), 1 << 20))
            if not piece:
                return None
            found += piece
        return bytes(found)


def main(incoming: int, outgoing: int) -> None:
    """Import the handler and run it on event after event, until there are no more or one fails."""
    pipes = Conversation(incoming, outgoing)
    path, setup = pipes.receive(), pipes.receive()
    if path is None or setup is None:
        return
    sys.path[:] = path.decode("utf-8", "surrogateescape").split("\0")
    threading.Thread(target=pipes.read_on, daemon=True).start()

    from msgspec import Raw, msgpack

    target, config = msgpack.decode(setup)
    try:
        handler = _imported(target)
    except BaseException as error:  # noqa: BLE001  # whatever the module raises, the parent reports it
        pipes.answer(msgpack.encode(["unready", *_described(error)]))
        return
    decode_batch = msgpack.Decoder(list[Raw]).decode
    decode_event = msgpack.Decoder(tuple[str, dict[Any, Any], dict[Any, Any]]).decode
    began, handled, returned = (msgpack.encode([what]) for what in ("began", "handled", "returned"))
    while (batch := pipes.batches.get()) is not None:
        first = True
        for encoded in decode_batch(batch):
            if pipes.recalled.is_set():
                pipes.recalled.clear()
                pipes.answer(returned)
                break
            if first:
                pipes.answer(began)
                first = False
            try:
                handler(*decode_event(encoded), config)
            except BaseException as error:  # noqa: BLE001  # whatever the handler raises, the parent reports it
                pipes.answer(msgpack.encode(["failed", *_described(error)]))
                return
            pipes.answer(handled)


def _imported(target: str) -> Callable[..., object]:
    module, _, name = target.partition(":")
    found: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    if not callable(found):
        raise TypeError(f"expected {target} to be a function, got: {found!r}")
    return found  # type: ignore[no-any-return]


def _described(error: BaseException) -> list[Any]:
    """Say what happened in values that travel: kind, reason, formatted traceback, frames."""
    if isinstance(error, getattr(sys.modules.get("asyncio"), "CancelledError", ())):
        kind = "cancelled"
    else:
        kind = "error" if isinstance(error, Exception) else "exit"
    trace = error.__traceback__.tb_next if error.__traceback__ is not None else None  # without the frame of `main`
    told = traceback.TracebackException(type(error), error, trace)
    frames = [[_clean(frame.filename), frame.lineno, frame.name] for frame in told.stack[-_FRAMES_LIMIT:]]
    return [kind, _clean(*told.format_exception_only()), _clean(*told.format()), frames]


def _clean(*text: str) -> str:
    return "".join(text).strip()[-_TEXT_LIMIT:].encode("utf-8", "backslashreplace").decode()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the parent is dead: nobody is left to answer
        main(int(sys.argv[1]), int(sys.argv[2]))
