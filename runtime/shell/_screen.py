"""Where the shell writes: data to stdout, remarks to stderr, plain or, with rich and somebody looking, coloured.

Everything that is written goes through `printable`, so no view has to think of it. A reader that has gone (`| head`)
raises BrokenPipeError, which only the program's entry answers.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TextIO

import msgspec

from runtime.shell._text import cells, cut, plainer, printable, safe_json

MORE = "for colours and completion: pip install 'beamstalk[shell]'"

Align = Literal["left", "right"]
_GAP = "  "
_LEAST = 8
_LEAST_NAME = 24
_STYLES = {
    "running": "green",
    "waiting": "",
    "restarting": "yellow",
    "suspended": "yellow",
    "down": "red",
    "gave_up": "red",
    "ok": "green",
    "warn": "yellow",
    "fail": "red bold",
    "healthy": "green",
    "unhealthy": "red bold",
}
"""Words that stand alone in a cell and have a colour."""


class Column(msgspec.Struct, frozen=True):
    """A table's column; when the terminal is narrow, `how` it gives way: at its end, in its middle, into more lines."""

    title: str
    align: Align = "left"
    how: Literal["never", "end", "middle", "wrap"] = "never"

    @property
    def least(self) -> int:
        """How narrow it may become."""
        return max(_LEAST_NAME if self.how == "middle" else _LEAST, len(self.title))


class Screen:
    """Write for one command, or for a whole prompt."""

    def __init__(self, out: TextIO | None = None, errors: TextIO | None = None, *, json: bool = False) -> None:
        self.out = out or sys.stdout
        self.errors = errors or sys.stderr
        self.json = json
        self.is_terminal = self.out.isatty()
        self.is_rich = self.is_terminal and importlib.util.find_spec("rich") is not None
        self._console: Any = None  # rich's, once there is something to colour

    @property
    def width(self) -> int | None:
        """How wide a line may be; None where nobody looks, so that nothing is cut."""
        return shutil.get_terminal_size().columns if self.is_terminal else None

    def raw(self, line: bytes) -> None:
        """Write an answer as it came: one JSON object on a line."""
        self.line(safe_json(line), escaped=True)

    def line(self, text: str = "", *, escaped: bool = False) -> None:
        """Write a line of data."""
        self.out.write(plainer(text if escaped else printable(text), self.out.encoding) + "\n")
        self.out.flush()

    def block(self, text: str) -> None:
        """Write lines of data, such as a stacktrace."""
        for line in text.rstrip("\n").split("\n"):
            self.line(line)

    def remark(self, text: str) -> None:
        """Write what is no data: hints, warnings, errors."""
        self.out.flush()
        told = "\n".join(printable(line) for line in text.split("\n"))
        self.errors.write(plainer(told, self.errors.encoding) + "\n")
        self.errors.flush()

    def fields(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Write names and values, one pair a line."""
        self.table([Column(""), Column("", how="wrap")], pairs)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]], empty: str = "") -> None:
        """Write a table; where there are no rows, say `empty` as a remark."""
        told = [[printable(cell) for cell in row] for row in rows]
        if not told and empty:
            self.remark(empty)
            return
        widths = fitting(columns, told, self.width)
        if any(column.title for column in columns):
            self._row(next(cells_of([column.title for column in columns], columns, widths)), ["bold"] * len(widths))
        for row in told:
            styles = [_STYLES.get(cell, "") for cell in row[: len(widths)]]
            for line in cells_of(row, columns, widths):
                self._row(line, styles)

    def _row(self, row: Sequence[str], styles: Sequence[str]) -> None:
        """Write a row of cells that are padded and printable already."""
        if not (self.is_rich and any(styles)):
            self.line(_GAP.join(row).rstrip(), escaped=True)
            return
        from rich.console import Console
        from rich.text import Text

        if self._console is None:
            colourless = bool(os.environ.get("NO_COLOR"))
            self._console = Console(file=self.out, no_color=colourless, highlight=False, markup=False, emoji=False)
        # Text, not str: what looks like markup in a name must be shown, not obeyed.
        shown = zip(row, styles, strict=True)
        text = Text(_GAP).join(Text(plainer(cell, self.out.encoding), style=style) for cell, style in shown)
        text.rstrip()
        self._console.print(text, soft_wrap=True)


def layout(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Lay a table out in lines; None of width: nothing is cut.

    >>> layout([Column("ACTOR", how="end"), Column("MBOX", "right")], [["telemetry.aggregator", "7"]], 18)
    ['ACTOR         MBOX', 'telemetry.a…     7']
    """
    widths = fitting(columns, rows, width)
    titled = [[column.title for column in columns], *rows]
    return [_GAP.join(line).rstrip() for row in titled for line in cells_of(row, columns, widths)]


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """Say how wide each column is.

    Where that is too much, the widest of those that may give way do so first. When none may any more, the last columns
    are left out: whom a line is about stands in the first.
    """
    widths = [max([len(column.title), *(cells(row[n]) for row in rows)]) for n, column in enumerate(columns)]
    if width is None:
        return widths
    flexible = [column.how != "never" for column in columns]
    least = [min(one, c.least) if gives else one for one, c, gives in zip(widths, columns, flexible, strict=True)]
    while len(widths) > 1 and sum(least[: len(widths)]) + len(_GAP) * (len(widths) - 1) > width:
        widths.pop()
    for _ in range(sum(widths) + len(_GAP) * (len(widths) - 1) - width):
        widest = max(range(len(widths)), key=lambda n: (widths[n] > least[n], widths[n]))
        widths[widest] -= 1
    return widths


def cells_of(row: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> Iterator[list[str]]:
    """Yield a row's line, every cell as wide as its column; more than one where a cell goes on below itself."""
    stacks = [_stack(cell, width, column) for cell, width, column in zip(row, widths, columns, strict=False)]
    for n in range(max(map(len, stacks))):
        line = [stack[n] if n < len(stack) else "" for stack in stacks]
        yield [_pad(cell, width, column.align) for cell, width, column in zip(line, widths, columns, strict=False)]


def _stack(text: str, width: int, column: Column) -> list[str]:
    if column.how == "wrap" and cells(text) > width:
        return textwrap.wrap(text, width, break_on_hyphens=False)
    return [cut(text, width, middle=column.how == "middle")]


def _pad(text: str, width: int, align: Align) -> str:
    space = " " * (width - cells(text))
    return space + text if align == "right" else text + space
