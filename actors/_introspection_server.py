"""The introspector's socket: who may connect, how much they may say, and how long anything may take.

Native threads throughout: one accepts, one per session answers, so that a shell is served while the hub, or every
actor, is stuck. Sessions touch nothing of each other's. What a session's request means is not known here: `answer`
says it.

A hostile or broken client costs its own session: lines are bounded, so are the time that a line may take, the size of
an answer, the time to send it, and the number of sessions.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket as _socket
import stat
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from loguru import logger

from runtime import _native
from runtime._fork import in_child
from runtime.clock import Clock
from runtime.errors import BeamstalkError
from runtime.shell import _places, protocol
from runtime.shell._places import UnsafePlace
from runtime.shell.protocol import Answer, End, Failure, NodeId, Refusal, Request

Message: TypeAlias = Answer | Refusal | End
Answering: TypeAlias = Callable[[Request, "Session"], Iterator[Message]]

_IDLE_S = 600.0
_LINE_S = 10.0
_SEND_S = 10.0
_GRACE_S = 0.5
_BACKLOG = 128
_CHUNK = 1 << 14


class _Over(Exception):
    """The session ends; `kind` and the message are told to the client, if it still listens."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class Session:
    """One connected shell; used by its own thread alone."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._received = bytearray()

    def lines(self) -> Iterator[bytes]:
        """Yield what the client says, line by line, until it leaves."""
        while True:
            line = self._line()
            if line is None:
                return
            if line.strip():
                yield line

    def _line(self) -> bytes | None:
        received = self._received
        deadline = time.monotonic() + (_LINE_S if received else _IDLE_S)
        searched = 0
        while (end := received.find(b"\n", searched)) < 0:
            searched = len(received)
            if searched > protocol.REQUEST_BYTES:
                raise _Over(f"expected a request of at most {protocol.REQUEST_BYTES} bytes, got: more")
            self._connection.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                chunk = self._connection.recv(_CHUNK)
            except TimeoutError:
                if not received:
                    return None  # idle; in silence, or the shell would take it for the answer to its next question
                raise _Over(f"expected a whole request within {_LINE_S:g} s, got: a part of one") from None
            if not chunk:
                return None
            if not received:
                deadline = time.monotonic() + _LINE_S
            received += chunk
        line = bytes(received[:end])
        del received[: end + 1]
        return line

    def is_gone(self, timeout_s: float) -> bool:
        """Wait that long, and tell whether the client has left or wants something else meanwhile."""
        if b"\n" in self._received:
            return True
        poller = _native.poll()
        poller.register(self._connection.fileno(), select.POLLIN)
        return bool(poller.poll(max(timeout_s, 0.001) * 1000))

    def send(self, line: bytes) -> None:
        """Send a line; a client that does not read it in time is left."""
        self._connection.settimeout(_SEND_S)
        self._connection.sendall(line)


class Server:
    """Listen on a Unix socket and serve shells."""

    def __init__(self, path: Path, answer: Answering, node: Callable[[], NodeId]) -> None:
        self.path = path
        self._answer = answer
        self._node = node
        self._listener: Any = None
        self._identity = (0, 0)
        self._pipe: tuple[int, int] | None = None
        self._connections: set[Any] = set()
        self._lock = _native.allocate_lock()
        self._is_open = False
        self._pid = os.getpid()

    # -- opening and closing: the introspector -------------------------------------------------------------------------

    def open(self) -> None:
        """Bind, listen and start to accept. Raises UnsafePlace or OSError, and then has left nothing behind."""
        _places.check_length(self.path)
        _places.make_directory(self.path.parent)
        if os.path.lexists(self.path) and not _places.remove_if_stale(self.path):
            raise UnsafePlace(f"expected {self.path} to be free, got: something is there already. Choose another path")
        listener = _places.new_socket()
        try:
            # Between bind and chmod anybody could connect: the mode has to be right from the start.
            mask = os.umask(0o177)
            try:
                listener.bind(str(self.path))
            finally:
                os.umask(mask)
            found = os.lstat(self.path)
            self._identity = found.st_dev, found.st_ino
            if stat.S_IMODE(found.st_mode) != 0o600:
                os.chmod(self.path, 0o600)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            self._pipe = os.pipe()
            self._listener, self._is_open = listener, True
            _native.start_new_thread(self._accept, (listener, self._pipe[0]))
        except BaseException:
            self._is_open = False
            self._release(listener)
            if self._path_is_ours():
                os.unlink(self.path)
            raise
        _servers.add(self)

    def close(self) -> None:
        """Stop listening, end the sessions, remove the socket if it is still ours. Waits half a second at most."""
        was_open, self._is_open = self._is_open, False
        if not was_open or self._pid != os.getpid():
            return
        if self._path_is_ours():
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        with self._lock:
            if self._pipe is not None:
                os.write(self._pipe[1], b"x")
            connections = list(self._connections)
        for connection in connections:
            # Their threads close them, once they have noticed.
            with contextlib.suppress(OSError):
                connection.shutdown(_socket.SHUT_RDWR)
        deadline = time.monotonic() + _GRACE_S
        while (self._connections or self._listener is not None) and time.monotonic() < deadline:
            _native.sleep(0.001)

    def is_in_place(self) -> bool:
        """Tell whether shells find us; cleaners of temporary directories may have taken the socket away."""
        return self._is_open and self._path_is_ours()

    def _path_is_ours(self) -> bool:
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    @property
    def sessions(self) -> int:
        """Count the shells that are connected."""
        return len(self._connections)

    def forget(self) -> None:
        """Let go of the parent's descriptors in a forked child; the socket and its sessions are the parent's."""
        self._lock = _native.allocate_lock()  # a thread that is not here may have held it
        for connection in self._connections:
            connection.close()
        self._connections = set()
        self._is_open = False
        if self._listener is not None:
            self._release(self._listener)

    def _release(self, listener: Any) -> None:
        listener.close()
        with self._lock:
            pipe, self._pipe = self._pipe, None
        for descriptor in pipe or ():
            os.close(descriptor)
        self._listener = None

    # -- the accepting thread ------------------------------------------------------------------------------------------

    def _accept(self, listener: Any, wake: int) -> None:
        poller = _native.poll()
        poller.register(listener.fileno(), select.POLLIN)
        poller.register(wake, select.POLLIN)
        try:
            while self._is_open:
                poller.poll()
                if self._is_open:
                    self._take(listener)
        finally:
            self._release(listener)

    def _take(self, listener: Any) -> None:
        try:
            # `accept` would make a socket of whatever kind the host has patched in.
            descriptor, _ = listener._accept()
        except OSError:
            _native.sleep(0.01)  # the client has gone again, or there are no descriptors left
            return
        connection = _native.socket(fileno=descriptor)
        try:
            uid = _places.peer_uid(connection)
            if not _places.is_trusted(uid):
                logger.warning("user {} was refused at {}", uid, self.path)
                connection.close()
                return
            with self._lock:
                room = len(self._connections) < protocol.SESSIONS
                if room:
                    self._connections.add(connection)
            if room:
                _native.start_new_thread(self._serve, (connection,))
                return
            connection.settimeout(0.1)
            busy = Failure("busy", f"{protocol.SESSIONS} shells are connected to this node already. Close one of them")
            connection.sendall(protocol.encode(self._refusal(busy)))
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread could be started
            logger.warning("a shell could not be served at {}: {}", self.path, error)
        self._part(connection)

    def _part(self, connection: Any) -> None:
        connection.close()
        with self._lock:
            self._connections.discard(connection)

    # -- a session's thread --------------------------------------------------------------------------------------------

    def _serve(self, connection: Any) -> None:
        session = Session(connection)
        try:
            for line in session.lines():
                for message in self._replies(line, session):
                    session.send(self._encoded(message))
        except _Over as over:
            with contextlib.suppress(OSError):
                session.send(protocol.encode(self._refusal(Failure("usage", str(over)))))
        except OSError:
            logger.debug("a shell has left {}", self.path)
        except Exception:  # noqa: BLE001 - a defect of ours must not cost more than this session
            logger.exception("a session at {} failed", self.path)
        finally:
            self._part(connection)

    def _replies(self, line: bytes, session: Session) -> Iterator[Message]:
        try:
            request = protocol.decode_request(line)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            yield self._refusal(Failure("usage", f"expected a request, got: {error}"))
            return
        if request.v != protocol.VERSION:
            what = f"expected a shell that speaks protocol {protocol.VERSION}, got: {request.v}"
            yield self._refusal(Failure("version", what))
            return
        try:
            yield from self._answer(request, session)
        except (BeamstalkError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - it is told, here and there
            logger.exception("the answer to {} failed", request.verb)
            yield self._refusal(
                Failure("failed", f"{request.verb} failed in the node: {type(error).__name__}: {error}")
            )

    def _encoded(self, message: Message) -> bytes:
        try:
            line = protocol.encode(message)
        except (UnicodeError, TypeError, ValueError, OverflowError, RecursionError) as error:
            logger.exception("an answer cannot be written as JSON")
            return protocol.encode(self._refusal(Failure("failed", f"the answer cannot be written: {error!a}")))
        if len(line) <= protocol.ANSWER_BYTES:
            return line
        what = f"the answer is longer than {protocol.ANSWER_BYTES} bytes. Ask for less: a prefix, or --limit"
        return protocol.encode(self._refusal(Failure("failed", what)))

    def _refusal(self, failure: Failure) -> Refusal:
        return Refusal(protocol.VERSION, Clock.system_ns(), self._node(), failure)


_servers: weakref.WeakSet[Server] = weakref.WeakSet()


@in_child
def _forget_in_child() -> None:
    for server in list(_servers):
        server.forget()
