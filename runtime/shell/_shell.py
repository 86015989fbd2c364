"""One shell: a screen, a way to the node, and what was asked for on the command line.

The connection is made when it is first needed, kept between commands, and made anew when the node has closed it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runtime.shell._client import NO_NODE, OK, TIMEOUT, USAGE, Connection, ShellError, find
from runtime.shell._screen import Screen
from runtime.shell._text import duration, printable
from runtime.shell.protocol import Reply


class Shell:
    """Ask one node, and write what it answers. Not thread-safe."""

    def __init__(
        self, screen: Screen, *, connect: str | None = None, node: str | None = None, timeout_s: float = 2.0
    ) -> None:
        self.screen = screen
        self.timeout_s = timeout_s
        self.is_interactive = False
        self.code = OK  # what it comes to where whoever reads the answer goes before its end
        self._connect = connect
        self._node = node
        self._connection: Connection | None = None
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """The socket of the node; found once. Raises ShellError."""
        if self._path is None:
            self._path = find(self._connect, self._node)
        return self._path

    def ask(
        self, verb: str, args: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> tuple[Reply, bytes]:
        """Ask the node for an answer. Raises ShellError."""
        known = self._connection
        connection = self._open(timeout_s)
        try:
            return connection.ask(verb, args)
        except ShellError as error:
            if error.code not in (NO_NODE, TIMEOUT):
                raise
            self.close()  # what it may still answer would be taken for the answer to the next question
            if error.code == TIMEOUT or known is None:
                raise
        return self._open(timeout_s).ask(verb, args)  # it was idle for too long, or the node was restarted

    def stream(self, verb: str, args: Mapping[str, Any], for_s: float) -> Iterator[tuple[Reply, bytes]]:
        """Ask the node for a stream, over a connection of its own, which ends with it."""
        with Connection(self.path, self.timeout_s) as connection:
            connection.ask("hello")  # nothing may come for as long as the stream is, so whether it is stuck shows here
            yield from connection.stream(verb, args, for_s)

    def show(self, verb: str, args: Mapping[str, Any] | None, view: Callable[[Screen, Any], None]) -> Any:
        """Ask, and write the answer in whichever form is wanted; return its data."""
        reply, line = self.ask(verb, args)
        self.write(reply, line, view)
        return reply.data

    def write(self, reply: Reply, line: bytes, view: Callable[[Screen, Any], None], *, says_stale: bool = True) -> None:
        """Write an answer: as it came, or as people like it."""
        if self.screen.json:
            self.screen.raw(line)
            return
        if says_stale:
            self.say_stale(reply)
        view(self.screen, reply.data)

    def say_stale(self, reply: Reply) -> None:
        """Remark for how long the node's hub has been blocked, if it is."""
        if reply.node.stale_ns and not self.screen.json:
            self.screen.remark(f"stale {duration(reply.node.stale_ns)}: the hub of {reply.node.name} is blocked")

    def confirm(self, what: str, yes: bool) -> bool:
        """Have a change confirmed. Raises ShellError where nobody can be asked."""
        if yes:
            return True
        reply, _ = self.ask("hello")
        if not reply.data["control"]:
            return True  # nobody need be asked for what the node will refuse
        if self.screen.json or not (sys.stdin.isatty() and self.screen.is_terminal):
            raise ShellError(f"expected a change to be confirmed: {what}. Say --yes", USAGE)
        self.screen.out.write(printable(f"{what} in {reply.node.name} (pid {reply.node.pid})? [y/N] "))
        self.screen.out.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _open(self, timeout_s: float | None) -> Connection:
        if self._connection is None:
            self._connection = Connection(self.path, self.timeout_s)
        self._connection.timeout_s = self.timeout_s if timeout_s is None else timeout_s
        return self._connection

    def close(self) -> None:
        """Part from the node."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._connect is None:
            self._path = None
