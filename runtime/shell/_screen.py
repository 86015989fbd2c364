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
_TIGHT_GAP = " "
_LEAST = 8
_LEAST_NAME = 24
_LEAST_TIGHT_NAME = 16
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
    """A table's column; when the terminal is narrow, `how` it gives way: at its end, in its middle, into more lines.

    `short` is its title then, and `least` how narrow it may become (0: as is usual for its kind). Where even that is
    too much, columns are left out: those of the most `spare` first, of equal ones the last.
    """

    title: str
    align: Align = "left"
    how: Literal["never", "end", "middle", "wrap"] = "never"
    short: str = ""
    least: int = 0
    spare: int = 0

    @property
    def narrowest(self) -> int:
        """How narrow it may become."""
        if self.how == "never":
            return sys.maxsize
        return max(self.least or (_LEAST_NAME if self.how == "middle" else _LEAST), len(self.title))


class Fit(msgspec.Struct, frozen=True):
    """What of a table is shown: which columns (`shown` says where they stand in a row), how wide, how far apart."""

    columns: list[Column]
    shown: list[int]
    widths: list[int]
    gap: str
    left_out: list[str]

    @property
    def titles(self) -> Iterator[list[str]]:
        """Yield the line of titles."""
        return self._stacked([column.title for column in self.columns])

    def cells(self, row: Sequence[str]) -> Iterator[list[str]]:
        """Yield a row's line, every cell as wide as its column; more than one where a cell goes on below itself."""
        return self._stacked([row[n] for n in self.shown])

    def lines(self, rows: Iterable[Sequence[str]]) -> list[str]:
        """Lay out titles and rows."""
        lines = [*self.titles, *(line for row in rows for line in self.cells(row))]
        return [self.gap.join(line).rstrip() for line in lines]

    def _stacked(self, row: Sequence[str]) -> Iterator[list[str]]:
        as_shown = list(zip(row, self.widths, self.columns, strict=True))
        stacks = [_stack(cell, width, column) for cell, width, column in as_shown]
        for n in range(max(map(len, stacks))):
            yield [
                _pad(stack[n] if n < len(stack) else "", width, column.align)
                for stack, (_, width, column) in zip(stacks, as_shown, strict=True)
            ]


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
        fit = fitting(columns, told, self.width)
        if any(column.title for column in columns):
            self._row(next(fit.titles), ["bold"] * len(fit.shown), fit.gap)
        for row in told:
            styles = [_STYLES.get(row[n], "") for n in fit.shown]
            for line in fit.cells(row):
                self._row(line, styles, fit.gap)
        if any(fit.left_out):
            self.remark(f"no room for {', '.join(fit.left_out)}: shown by a wider terminal, a pipe and --json")

    def _row(self, row: Sequence[str], styles: Sequence[str], gap: str) -> None:
        """Write a row of cells that are padded and printable already."""
        if not (self.is_rich and any(styles)):
            self.line(gap.join(row).rstrip(), escaped=True)
            return
        from rich.console import Console
        from rich.text import Text

        if self._console is None:
            colourless = bool(os.environ.get("NO_COLOR"))
            self._console = Console(file=self.out, no_color=colourless, highlight=False, markup=False, emoji=False)
        # Text, not str: what looks like markup in a name must be shown, not obeyed.
        shown = zip(row, styles, strict=True)
        text = Text(gap).join(Text(plainer(cell, self.out.encoding), style=style) for cell, style in shown)
        text.rstrip()
        self._console.print(text, soft_wrap=True)


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Fit:
    """Say what is shown, and how wide; None of width: nothing is cut.

    >>> rows = [["telemetry.aggregator", "7"]]
    >>> fitting([Column("ACTOR", how="end"), Column("MBOX", "right")], rows, 18).lines(rows)
    ['ACTOR         MBOX', 'telemetry.a…     7']

    Where that is too much, the widest of those that may give way do so first. Where that does not do, titles are
    shortened, columns move together and names are cut further, as long as they can be told apart; only then is a column
    left out, and never the first: it says whom a line is about.
    """
    shown = list(range(len(columns)))
    widest = [max((cells(row[n]) for row in rows), default=0) for n in shown]
    widths = _widths(columns, widest, width, _GAP, _LEAST_NAME)
    if widths is not None:
        return Fit(list(columns), shown, widths, _GAP, [])
    tight = [msgspec.structs.replace(column, title=column.short or column.title) for column in columns]
    while True:
        kept = [tight[n] for n in shown]
        widths = _widths(kept, [widest[n] for n in shown], width, _TIGHT_GAP, _LEAST_TIGHT_NAME)
        if len(shown) == 1 or (widths is not None and _are_told_apart(rows, tight[0], widths[0])):
            left_out = [column.title for n, column in enumerate(columns) if n not in shown]
            return Fit(kept, shown, widths or [width or 1], _TIGHT_GAP, left_out)
        shown.remove(max(shown[1:], key=lambda n: (columns[n].spare, n)))


def _are_told_apart(rows: Sequence[Sequence[str]], column: Column, width: int) -> bool:
    if column.how != "middle" or width >= _LEAST_NAME:
        return True
    names = {row[0] for row in rows}
    return len({cut(name, width, middle=True) for name in names}) == len(names)


def _widths(
    columns: Sequence[Column], widest: Sequence[int], width: int | None, gap: str, least_name: int
) -> list[int] | None:
    """Give each column its width; None where there is no room for all of them. The first shrinks to `least_name`."""
    widths = [max(len(column.title), most) for column, most in zip(columns, widest, strict=True)]
    if width is None:
        return widths
    room = width - len(gap) * (len(widths) - 1)
    least = [min(most, column.narrowest) for column, most in zip(columns, widths, strict=True)]
    if columns[0].how == "middle":
        least[0] = max(min(least[0], room - sum(least[1:])), min(least[0], least_name))
    if sum(least) > room:
        return None
    for _ in range(sum(widths) - room):
        widths[max(range(len(widths)), key=lambda n: (widths[n] > least[n], widths[n]))] -= 1
    return widths


def _stack(text: str, width: int, column: Column) -> list[str]:
    if column.how == "wrap" and cells(text) > width:
        return textwrap.wrap(text, width, break_on_hyphens=False)
    return [cut(text, width, middle=column.how == "middle")]


def _pad(text: str, width: int, align: Align) -> str:
    space = " " * (width - cells(text))
    return space + text if align == "right" else text + space
