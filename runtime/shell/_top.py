"""`top`: the actors, again and again, in the whole terminal.

`Top` is what is on the screen and what a key does to it, without terminal or time, so that it can be tested. `run`
gives it a terminal, in a mode in which keys come one at a time; whatever happens, the terminal is left as it was
found. Where there is no terminal, `top` writes lists like `ps`, so many as asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from runtime.shell import _views, protocol
from runtime.shell._arguments import Parser, positive, seconds
from runtime.shell._client import OK, ShellError
from runtime.shell._screen import Column, fitting
from runtime.shell._shell import Shell
from runtime.shell._text import cut, duration, printable
from runtime.shell.protocol import Answer, Reply

_ROWS = 2_000
_KEYS = (
    "COLUMNS AND KEYS",
    "q quit        ? this help     / filter        s sort by the next column",
    "I invert      t tree          Space pause     Enter look at an actor",
    "Esc back      w window/all    1-9 sort by that column",
    "arrows, j, k  move, scroll    + - slower, faster",
)
_FOOTER = "q quit ? help / find s sort I turn t tree Space hold Enter look Esc back w 1-9"
SORTS = (
    "actor", "state", "carrier", "mailbox", "messages_per_s", "handled", "failed", "restarts", "uptime_ns",
    "supervisor",
)  # fmt: skip
_TITLES = {name: column.title for name, column in zip(SORTS, _views.PS_COLUMNS, strict=True)}
_TEXTS = frozenset({"actor", "state", "carrier", "supervisor"})
_ESCAPES = {"[A": "up", "[B": "down", "OA": "up", "OB": "down"}


def arguments(parser: Parser) -> None:
    """Declare the options of `top`."""
    parser.add_argument("--interval", type=seconds, default=1.0, metavar="S", help="look every S seconds (1)")
    parser.add_argument("--count", type=positive, metavar="N", help="end after N looks (without a terminal: 1)")


def over_window(before: Reply, after: Reply) -> None:
    """Make `messages_per_s` of the later answer what happened between the two; in place."""
    known = {row["id"]: row["handled"] + row["failed"] for row in before.data["actors"]}
    elapsed_s = max((after.at - before.at) / 1e9, 1e-9)
    for row in after.data["actors"]:
        if row["id"] in known:
            row["messages_per_s"] = max(row["handled"] + row["failed"] - known[row["id"]], 0) / elapsed_s


class Top:
    """What is on the screen."""

    def __init__(self) -> None:
        self.sort = "messages_per_s"
        self.descending = True
        self.as_tree = False
        self.windowed = True
        self.paused = False
        self.helps = False
        self.filter = ""
        self.typing: str | None = None
        self.looking_at: int | None = None
        self.looked: list[str] = []
        self.scrolled = 0
        self.marked = 0
        self.interval_s = 1.0
        self.trouble = ""
        self._rows: list[dict[str, Any]] = []
        self._head = ""
        self._total = 0
        self._reply: Reply | None = None

    def take(self, reply: Reply) -> None:
        """Show a newer answer to `ps`; rates are over the time since the one before."""
        before, self._reply = self._reply, reply
        for row in reply.data["actors"]:
            row["mean"] = row["messages_per_s"]
        if before is not None:
            over_window(before, reply)
        stale = f"STALE {duration(reply.node.stale_ns)}: the hub is blocked  " if reply.node.stale_ns else ""
        self._rows = reply.data["actors"]
        self._total = reply.data["total"]
        self._head = f"{stale}{reply.node.name} (pid {reply.node.pid})"
        self.trouble = ""

    def rows(self) -> list[dict[str, Any]]:
        """Return the actors that are shown, in order."""
        found = [
            {**row, "messages_per_s": row["messages_per_s"] if self.windowed else row["mean"]} for row in self._rows
        ]
        if self.filter:
            found = [row for row in found if self.filter in f"{row['actor']} {row['kind']} {row['supervisor']}"]
        found.sort(key=self._key, reverse=self.descending)
        return list(_by_supervisor(found)) if self.as_tree else found

    def _key(self, row: dict[str, Any]) -> Any:
        return row[self.sort] or "" if self.sort in _TEXTS else row[self.sort] or 0

    def lines(self, width: int, height: int) -> list[str]:
        """Draw: as many lines as the screen has, none wider."""
        what = "window" if self.windowed else "since the start"
        rows = self.rows()
        head = f"{self.trouble}  " if self.trouble else ""
        head += "PAUSED  " if self.paused else ""
        head += f"{self._head}  {len(rows):,} of {self._total:,} actors  {what}, by {_TITLES[self.sort]}"
        head += f"  filter {self.filter!r}" if self.filter else ""
        left_out: list[str] = []
        footer = _FOOTER if self.typing is None else f"/{self.typing}▏"
        room = max(height - 2, 1)
        if self.helps:
            body = list(_KEYS)
        elif self.looking_at is not None:
            self.scrolled = min(self.scrolled, max(len(self.looked) - room, 0))
            body = self.looked[self.scrolled :]
        else:
            body, left_out = self._table(rows, width, room)
        head += f"  no room for {', '.join(left_out)}" if left_out else ""
        body = [*body[:room], *[""] * (room - len(body))]
        return [cut(printable(line), width) for line in (head, *body, footer)]

    def _table(self, rows: list[dict[str, Any]], width: int, room: int) -> tuple[list[str], list[str]]:
        self.marked = min(self.marked, max(len(rows) - 1, 0))
        begin = max(0, min(self.marked - room // 2, len(rows) - (room - 1)))
        shown = rows[begin : begin + room - 1]
        columns = [_numbered(column, n) if n < 10 else column for n, column in enumerate(_views.PS_COLUMNS, 1)]
        cells = [[*_views.ps_row(row)] for row in shown]
        for line, row in zip(cells, shown, strict=True):
            line[0] = "  " * row.get("depth", 0) + row.get("shown", line[0])
        told = [[printable(cell) for cell in line] for line in cells]
        fit = fitting(columns, told, width - 2)
        title, *lines = fit.lines(told)
        marked = [("> " if begin + n == self.marked else "  ") + line for n, line in enumerate(lines)]
        return ["  " + title, *marked], [name.lstrip("123456789") for name in fit.left_out]

    def key(self, key: str) -> bool:
        """Do what a key says; False when it is to end."""
        if self.typing is not None:
            self._type(key)
            return True
        match key:
            case "q" | "\x03" | "\x04":
                return False
            case "?":
                self.helps = not self.helps
            case "/":
                self.typing = self.filter
            case "s":
                self._sort_by(SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)])
            case "I":
                self.descending = not self.descending
            case "t":
                self.as_tree = not self.as_tree
            case " ":
                self.paused = not self.paused
            case "w":
                self.windowed = not self.windowed
            case "\r" | "\n":
                rows = self.rows()
                self.looking_at, self.looked, self.scrolled = rows[self.marked]["id"] if rows else None, [], 0
            case "escape":
                self._back()
            case "up" | "k" | "down" | "j":
                self._move(-1 if key in ("up", "k") else 1)
            case "+" | "-":
                self.interval_s = min(max(self.interval_s * (2 if key == "+" else 0.5), 0.1), 60.0)
            case _ if key.isascii() and key.isdigit() and key != "0":
                self._sort_by(SORTS[int(key) - 1])
        return True

    def _move(self, lines: int) -> None:
        if self.looking_at is not None:
            self.scrolled = max(self.scrolled + lines, 0)
        else:
            self.marked = max(self.marked + lines, 0)

    def _sort_by(self, column: str) -> None:
        # Names are looked for from a to z, numbers from the largest down.
        self.sort, self.descending = column, column not in _TEXTS

    def _back(self) -> None:
        if self.helps or self.looking_at is not None:
            self.helps, self.looking_at = False, None
        else:
            self.filter = ""

    def _type(self, key: str) -> None:
        typed = self.typing or ""
        match key:
            case "\r" | "\n":
                self.filter, self.typing = typed, None
            case "escape" | "\x03":
                self.typing = None
            case "\x7f" | "\b":
                self.typing = typed[:-1]
            case _ if len(key) == 1 and key.isprintable():
                self.typing = typed + key


def _numbered(column: Column, n: int) -> Column:
    return msgspec.structs.replace(column, title=f"{n}{column.title}", short=f"{n}{column.short or column.title}")


def _by_supervisor(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield every actor behind its supervisor, brothers in the order they came in; `depth` is how far down it is."""
    below: dict[str | None, list[dict[str, Any]]] = {}
    names = {row["actor"] for row in rows}
    for row in rows:
        below.setdefault(row["supervisor"] if row["supervisor"] in names else None, []).append(row)
    waiting = [(row, 0) for row in reversed(below.get(None, []))]
    while waiting:
        row, depth = waiting.pop()
        # A label that only says whose child it is need not say it again in a tree.
        yield {**row, "depth": depth, "shown": row["actor"].removeprefix(f"{row['supervisor']}/")}
        waiting += [(child, depth + 1) for child in reversed(below.get(row["actor"], []))]


# -- the terminal ----------------------------------------------------------------------------------------------------


def run(shell: Shell, options: argparse.Namespace) -> int:
    """Show the actors until somebody has seen enough."""
    if shell.screen.json or not (shell.screen.is_terminal and sys.stdin.isatty()):
        return _run_without_terminal(shell, options)
    top = Top()
    top.interval_s = options.interval
    looks = 0
    with _keys() as keys, _whole_screen(shell.screen.out) as draw:
        looked_at = -float("inf")
        while True:
            now = time.monotonic()
            if not top.paused and now - looked_at >= top.interval_s:
                looked_at, looks = now, looks + 1
                _look(shell, top)
            draw(top)
            if looks == options.count:
                return OK
            left_s = 60.0 if top.paused else max(looked_at + top.interval_s - time.monotonic(), 0.0)
            for key in keys(left_s):
                if not top.key(key):
                    return OK
                if top.looking_at is not None and not top.looked:
                    _look_at_one(shell, top)


def _look(shell: Shell, top: Top) -> None:
    try:
        reply, _ = shell.ask("ps", {"limit": _ROWS, "sort": "handled", "reverse": True, "match": top.filter})
        top.take(reply)
        if top.looking_at is not None:
            _look_at_one(shell, top)
    except ShellError as error:
        top.trouble = str(error)


def _look_at_one(shell: Shell, top: Top) -> None:
    try:
        reply, _ = shell.ask("info", {"actor": str(top.looking_at)})
    except ShellError as error:
        top.looked = [str(error)]
        return
    data = reply.data
    top.looked = [f"{name:<14}{value}" for name, value in _views.info_fields(data)]
    top.looked += [f"{one['what']:<14}{one['reason']}" for one in data["crashes"]]


def _run_without_terminal(shell: Shell, options: argparse.Namespace) -> int:
    args = {"sort": "handled", "reverse": True, "limit": _ROWS}
    before, _ = shell.ask("ps", args)
    looks = 0
    while looks != (options.count or (None if shell.screen.json else 1)):
        time.sleep(options.interval)
        reply, _ = shell.ask("ps", args)
        over_window(before, reply)
        reply.data["actors"].sort(key=lambda row: -row["messages_per_s"])
        shell.write(reply, protocol.encode(Answer(reply.v, reply.at, reply.node, reply.data))[:-1], _views.ps)
        before, looks = reply, looks + 1
    return OK


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """Yield a function that waits for keys, at most so many seconds, and answers those that were pressed."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed(wait_s: float) -> list[str]:
        if not select.select([descriptor], [], [], wait_s)[0]:
            return []
        typed = os.read(descriptor, 1024)
        return list(split_keys(typed.decode(errors="replace"))) if typed else ["q"]

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def split_keys(typed: str) -> Iterator[str]:
    r"""Split what was read from a terminal into keys.

    >>> list(split_keys("q\x1b[A\x1b/"))
    ['q', 'up', 'escape', '/']
    """
    while typed:
        if typed[0] == "\x1b" and typed[1:3] in _ESCAPES:
            yield _ESCAPES[typed[1:3]]
            typed = typed[3:]
        else:
            yield "escape" if typed[0] == "\x1b" else typed[0]
            typed = typed[1:]


@contextlib.contextmanager
def _whole_screen(out: Any) -> Iterator[Any]:
    """Yield a function that draws; what was on the screen comes back afterwards."""

    def draw(top: Top) -> None:
        size = shutil.get_terminal_size()
        lines = top.lines(size.columns, size.lines)
        out.write("\x1b[H" + "\r\n".join(line + "\x1b[K" for line in lines) + "\x1b[J")
        out.flush()

    out.write("\x1b[?1049h\x1b[?25l")
    try:
        yield draw
    finally:
        out.write("\x1b[?25h\x1b[?1049l")
        out.flush()
