"""A shell's connection to a node: find the node, ask, and never wait longer than was said.

Every failure is a `ShellError` with the exit code that stands for it. Nothing here prints.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from runtime.errors import BeamstalkError
from runtime.shell import _places, protocol
from runtime.shell.protocol import Reply, Request

OK, NOT_FOUND, USAGE, NO_NODE, TIMEOUT, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""What the process answers; NOT_FOUND stands for every failed check and every refusal too."""

_CODES = {"usage": USAGE, "timeout": TIMEOUT, "busy": TIMEOUT, "version": NO_NODE}
_MARGIN_S = 0.5
_CHUNK = 1 << 16


class ShellError(BeamstalkError):
    """Say what went wrong, and with which exit code it ends a one-shot command."""

    def __init__(self, message: str, code: int, near: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.near = near


def find(connect: str | None = None, node: str | None = None) -> Path:
    """Return the socket of the node to talk to: the one asked for by path, by name or pid, or the only one there is.

    Raises ShellError: no node (3), or several and no word which (2).
    """
    if connect is not None:
        return Path(connect)
    found = list(_places.sockets())
    if node is not None:
        known = (node, _places.safe_name(node))
        found = [path for path in found if any(str(one) in known for one in _places.owner(path) or ())]
    if len(found) == 1:
        return found[0]
    if not found:
        where = " and ".join(map(str, _places.directories()))
        named = f" named {node!r}" if node is not None else ""
        raise ShellError(
            f"no running node{named} found in {where}. Start one with Application(..., introspect=True), "
            "or name its socket with --connect PATH",
            NO_NODE,
        )
    listed = "\n".join(f"  --connect {path}" for path in found)
    raise ShellError(f"{len(found)} nodes are running; choose one (or --node NAME|PID):\n{listed}", USAGE)


class Connection:
    """Talk to one node. Not thread-safe."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._received = bytearray()
        self._socket = _places.new_socket()
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(os.fspath(path))
            self._check_peer()
        except BaseException as error:
            self._socket.close()
            if isinstance(error, TimeoutError | BlockingIOError):
                raise _too_late(path, timeout_s) from None
            if isinstance(error, OSError):
                raise ShellError(f"no node answers at {path}: {error.strerror or error}", NO_NODE) from None
            raise

    def _check_peer(self) -> None:
        uid = _places.peer_uid(self._socket)
        if not _places.is_trusted(uid) and os.geteuid() != 0:
            raise ShellError(f"expected the node at {self.path} to be user {os.geteuid()}'s, got: user {uid}", NO_NODE)

    def ask(self, verb: str, args: Mapping[str, Any] | None = None) -> tuple[Reply, bytes]:
        """Ask for one answer; return it and the line it came in. Raises ShellError for a failure of any kind."""
        deadline = self._send(verb, args, self.timeout_s)
        reply, line = self._read(deadline)
        return reply, line

    def stream(self, verb: str, args: Mapping[str, Any], for_s: float) -> Iterator[tuple[Reply, bytes]]:
        """Ask for a stream that ends by itself within `for_s` seconds; yields its answers, the end included."""
        self._send(verb, args, self.timeout_s)
        deadline = time.monotonic() + for_s + self.timeout_s + _MARGIN_S
        while True:
            reply, line = self._read(deadline)
            yield reply, line
            if reply.end is not None:
                return

    def _send(self, verb: str, args: Mapping[str, Any] | None, timeout_s: float) -> float:
        request = Request(protocol.VERSION, verb, dict(args or {}), int(timeout_s * 1e9))
        try:
            self._socket.settimeout(timeout_s)
            self._socket.sendall(protocol.encode(request))
        except UnicodeEncodeError as error:
            # Bytes of the command line that are no UTF-8 come as lone surrogates.
            raise ShellError(f"expected names and values to be UTF-8, got: {error.object!r}", USAGE) from None
        except TimeoutError:
            raise _too_late(self.path, timeout_s) from None
        except OSError as error:
            raise _gone(self.path, error) from None
        # The node keeps the time itself and says what it waited for; we are here for one that says nothing.
        return time.monotonic() + timeout_s + _MARGIN_S

    def _read(self, deadline: float) -> tuple[Reply, bytes]:
        line = self._line(deadline)
        try:
            reply = protocol.decode_reply(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ShellError(
                f"expected {self.path} to speak the introspection protocol, got: {error}", NO_NODE
            ) from None
        if reply.v != protocol.VERSION:
            raise ShellError(
                f"expected a node that speaks protocol {protocol.VERSION}, got: {reply.v}. "
                "Use the shell of the node's own version",
                NO_NODE,
            )
        if reply.error is not None:
            failure = reply.error
            raise ShellError(failure.message, _CODES.get(failure.kind, NOT_FOUND), failure.near)
        return reply, line

    def _line(self, deadline: float) -> bytes:
        received, begin = self._received, 0
        while (end := received.find(b"\n", begin)) < 0:
            begin = len(received)
            if begin > protocol.ANSWER_BYTES:
                raise ShellError(f"expected an answer of at most {protocol.ANSWER_BYTES} bytes, got: more", NO_NODE)
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                chunk = self._socket.recv(_CHUNK)
            except (TimeoutError, BlockingIOError):
                raise _too_late(self.path, self.timeout_s) from None
            except OSError as error:
                raise _gone(self.path, error) from None
            if not chunk:
                raise _gone(self.path, None)
            received += chunk
        line = bytes(received[:end])
        del received[: end + 1]
        return line

    def close(self) -> None:
        """Part from the node; a stream that runs ends."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _too_late(path: Path, timeout_s: float) -> ShellError:
    return ShellError(f"no answer from {path} within {timeout_s:g} s. Ask for more time with --timeout S", TIMEOUT)


def _gone(path: Path, error: OSError | None) -> ShellError:
    detail = (error.strerror or str(error)) if error is not None else "it closed the connection"
    return ShellError(f"the node at {path} has gone: {detail}", NO_NODE)
