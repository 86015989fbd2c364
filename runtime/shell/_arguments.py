"""The command line's grammar: argparse that says what is wrong in one sentence and never ends the process.

A mistake is a `ShellError` with the code for usage; `--help` is a `Told`. The options that every command takes may
stand before or after it.
"""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Iterable
from typing import IO, NoReturn

from runtime.shell._client import USAGE, ShellError

RawDescription = argparse.RawDescriptionHelpFormatter


class Told(Exception):
    """What was asked for (help) has been said."""


class Parser(argparse.ArgumentParser):
    """Parse one command's arguments."""

    def error(self, message: str) -> NoReturn:
        raise ShellError(f"{message}. See: {self.prog} --help", USAGE)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise Told(message or "")

    def _print_message(self, message: str, file: IO[str] | None = None) -> None:  # type: ignore[override]
        # argparse swallows the error when a reader has gone; ours ends the program.
        if message and file is not None:
            file.write(message)


def common(*, with_defaults: bool, with_node: bool = True) -> Parser:
    """Make the options of every command; `with_node`: also those that choose one."""
    options = Parser(add_help=False, allow_abbrev=False)
    add, unset = options.add_argument, None if with_defaults else argparse.SUPPRESS
    add("--json", action="store_true", default=False if with_defaults else unset, help="one JSON object a line")
    if with_node:
        add("--connect", metavar="PATH", default=unset, help="the node's socket")
        add("--node", metavar="NAME|PID", default=unset, help="which node, where several run")
    add("--timeout", metavar="S", type=seconds, default=2.0 if with_defaults else unset, help="how long to wait (2)")
    return options


def seconds(text: str) -> float:
    """Read a positive number of seconds."""
    number = _number(text)
    if not 0 < number <= 86_400 or not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0 and at most 86400, got: {text!r}")
    return number


def per_second(text: str) -> float:
    """Read a positive number of events a second."""
    number = _number(text)
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"expected a number of events a second, above 0, got: {text!r}")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def positive(text: str) -> int:
    """Read a positive whole number."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got: {text!r}")
    return int(text)


def pair(text: str) -> tuple[str, str]:
    """Read k=v."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got: {text!r}")
    return key, value


def unknown(what: str, name: str, known: Iterable[str]) -> ShellError:
    """Say that there is no such thing, and what may have been meant."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return ShellError(f"no {what} named {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""), USAGE)
