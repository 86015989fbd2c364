"""Where the shell writes: data to stdout, remarks to stderr, plain or, with rich and somebody looking, coloured.

Everything that is written goes through `printable`, so no view has to think of it. A reader that has gone (`| head`)
raises BrokenPipeError, which only the program's entry answers.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TextIO

import msgspec

from runtime.shell._text import printable, safe_json

MORE = "for colours, completion and better tables: pip install 'beamstalk[shell]'"

Align = Literal["left", "right"]
_GAP = "  "
_LEAST = 8
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
    """A table's column; one that may be `cut` gives way when the terminal is narrow."""

    title: str
    align: Align = "left"
    cut: bool = False


class Screen:
    """Write for one command, or for a whole prompt."""

    def __init__(self, out: TextIO | None = None, errors: TextIO | None = None, *, json: bool = False) -> None:
        self.out = out or sys.stdout
        self.errors = errors or sys.stderr
        self.json = json
        self.is_terminal = self.out.isatty()
        self.is_rich = self.is_terminal and importlib.util.find_spec("rich") is not None

    @property
    def width(self) -> int | None:
        """How wide a line may be; None where nobody looks, so that nothing is cut."""
        return shutil.get_terminal_size().columns if self.is_terminal else None

    def raw(self, line: bytes) -> None:
        """Write an answer as it came: one JSON object on a line."""
        self.line(safe_json(line), escaped=True)

    def line(self, text: str = "", *, escaped: bool = False) -> None:
        """Write a line of data."""
        self.out.write((text if escaped else printable(text)) + "\n")
        self.out.flush()

    def block(self, text: str) -> None:
        """Write lines of data, such as a stacktrace."""
        for line in text.rstrip("\n").split("\n"):
            self.line(line)

    def remark(self, text: str) -> None:
        """Write what is no data: hints, warnings, errors."""
        self.out.flush()
        self.errors.write("\n".join(printable(line) for line in text.split("\n")) + "\n")
        self.errors.flush()

    def fields(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Write names and values, one pair a line."""
        told = list(pairs)
        longest = max((len(name) for name, _ in told), default=0)
        if self.is_rich:
            self._rich_table([Column(""), Column("", cut=True)], told, header=False)
            return
        for name, value in told:
            self.line(f"{name:<{longest}}{_GAP}{value}".rstrip())

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[str]], empty: str = "") -> None:
        """Write a table; where there are no rows, say `empty` as a remark."""
        told = [[printable(cell) for cell in row] for row in rows]
        if not told and empty:
            self.remark(empty)
        elif self.is_rich:
            self._rich_table(columns, told)
        else:
            for line in layout(columns, told, self.width):
                self.line(line)

    def _rich_table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], header: bool = True) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=header, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            flexible: dict[str, Any] = {"overflow": "ellipsis"} if column.cut else {"min_width": len(column.title)}
            table.add_column(Text(column.title), justify=column.align, no_wrap=header, **flexible)
        for row in rows:
            # Text, not str: what looks like markup in a name must be shown, not obeyed.
            table.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
        colourless = bool(os.environ.get("NO_COLOR"))
        Console(file=self.out, no_color=colourless, highlight=False, markup=False, emoji=False).print(table)


def layout(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Lay a table out in lines; None of width: nothing is cut.

    >>> layout([Column("ACTOR", cut=True), Column("MBOX", "right")], [["telemetry.aggregator", "7"]], 18)
    ['ACTOR         MBOX', 'telemetry.a…     7']
    """
    widths = [max([len(column.title), *(len(row[n]) for row in rows)]) for n, column in enumerate(columns)]
    if width is not None:
        over = sum(widths) + len(_GAP) * (len(columns) - 1) - width
        for n in sorted((n for n, column in enumerate(columns) if column.cut), key=lambda n: -widths[n]):
            less = min(max(over, 0), max(widths[n] - max(_LEAST, len(columns[n].title)), 0))
            widths[n] -= less
            over -= less
    lines = []
    for row in ([column.title for column in columns], *rows):
        cells = [_cell(cell, widths[n], columns[n].align) for n, cell in enumerate(row)]
        lines.append(_GAP.join(cells).rstrip())
    return lines if width is None else [line[:width] for line in lines]


def _cell(text: str, width: int, align: Align) -> str:
    text = text if len(text) <= width else text[: width - 1] + "…"
    return text.rjust(width) if align == "right" else text.ljust(width)
