"""What the command line of the main job means, and what it answers to what makes no sense.

Every mistake is one sentence on stderr, `expected …, got: …` and the fix, and exit code 2. Nothing is started here; a
host name is looked up, because a name that nobody knows is a mistake of the command line.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
import socket
from pathlib import Path
from typing import NoReturn

import msgspec

from app.config import DEFAULT as DEFAULT_CONFIG
from runtime.errors import shown

DEFAULT_SAMPLES = 1000
DEFAULT_RATE = 500.0
DEFAULT_ABANDON = 0.002
DEFAULT_TRAIN_STEPS = 3


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `python -m app`; None of samples and rate: all, and as fast as it goes."""

    samples: int | None
    rate: float | None
    statsd: tuple[str, int] | None
    export: Path | None
    duration_s: float | None
    abandon: float
    chaos: bool
    json: bool
    log: Path | None
    train: int
    config: Path = DEFAULT_CONFIG


_REWORDED = (
    (re.compile("expected one argument"), "expected a value, got: nothing"),
    (re.compile("ignored explicit argument "), "expected no value, got: "),
    (re.compile("unrecognized arguments: (.*)"), r"expected options that there are, got: '\1'"),
)


class Parser(argparse.ArgumentParser):
    """Argparse that says what is wrong in one sentence, without the usage text."""

    def error(self, message: str) -> NoReturn:
        for theirs, ours in _REWORDED:
            message = theirs.sub(ours, message)
        self.exit(2, f"{self.prog}: {message}{'' if message.endswith('?') else '.'} See {self.prog} --help\n")


def parse(arguments: list[str]) -> Options:
    """Read the command line. SystemExit(2) for a mistake, SystemExit(0) after --help."""
    parser = _parser()
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unknown(parser, unknown[0]))
    return Options(
        samples=known.samples,
        rate=known.rate,
        statsd=known.statsd,
        export=known.export,
        duration_s=known.duration,
        abandon=known.abandon,
        chaos=known.chaos,
        json=known.json,
        log=known.log,
        train=known.train,
        config=known.config,
    )


def _parser() -> Parser:
    parser = Parser(
        prog="python -m app",
        allow_abbrev=False,
        description="Label the VADER lexicon with its ten human raters, watched by beamstalk. "
        "`python -m app train` trains alone, `python -m app --sink` receives what durable reporters send.",
    )
    add = parser.add_argument
    add(
        "--samples",
        type=_samples,
        default=DEFAULT_SAMPLES,
        metavar="N|all",
        help="tokens to label, by ten raters each (default: 1000)",
    )
    add("--rate", type=_rate, default=DEFAULT_RATE, metavar="R|max", help="labels per second (default: 500)")
    add(
        "--statsd",
        type=address,
        metavar="HOST:PORT",
        help="where to send metrics (default: a listener in this process that says what it receives)",
    )
    add(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help="settings of sampling and reporters, in TOML (default: the ones in app/config.toml)",
    )
    add(
        "--export",
        type=Path,
        metavar="DIR",
        help="keep the exported files in DIR (default: they are written and thrown away)",
    )
    add("--duration", type=_duration, metavar="S", help="stop labelling after S seconds")
    add(
        "--abandon",
        type=_share,
        default=DEFAULT_ABANDON,
        metavar="F",
        help="share of assignments that raters walk away from, so that they time out (default: 0.002)",
    )
    add(
        "--train",
        type=_count,
        default=DEFAULT_TRAIN_STEPS,
        metavar="STEPS",
        help="training steps after the labelling, 0 for none (default: 3)",
    )
    add(
        "--chaos",
        action="store_true",
        help="attach a handler that sleeps 200 ms per event and one that raises on every third",
    )
    add("--json", action="store_true", help="print the summary as one JSON object, and nothing else")
    add(
        "--log",
        type=Path,
        metavar="FILE",
        help="write the log to FILE: crashes, restarts, lost endpoints, and each training step as JSON",
    )
    return parser


def _unknown(parser: argparse.ArgumentParser, argument: str) -> str:
    options = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    close = difflib.get_close_matches(argument.split("=")[0], options, n=1)
    meant = f". Did you mean {close[0]}?" if close else ""
    return f"expected one of {', '.join(options)}, got: {argument!r}{meant}"


def _samples(text: str) -> int | None:
    return None if text == "all" else whole(text, 1, "a number of samples from 1, or 'all'")


def _count(text: str) -> int:
    return whole(text, 0, "a number of steps from 0")


def whole(text: str, least: int, what: str) -> int:
    """Read a whole number for argparse; `what` says which."""
    if text.isascii() and text.isdigit() and len(text) < 100 and int(text) >= least:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected {what}, got: {shown(text, 100)}")


def _rate(text: str) -> float | None:
    return None if text == "max" else _positive(text, "labels per second above 0, or 'max'")


def _duration(text: str) -> float:
    return _positive(text, "a number of seconds above 0")


def _positive(text: str, what: str) -> float:
    number = _number(text)
    if number is None or number <= 0:
        raise argparse.ArgumentTypeError(f"expected {what}, got: {text!r}")
    return number


def _share(text: str) -> float:
    number = _number(text)
    if number is None or not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to below 1, got: {text!r}")
    return number


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def address(text: str) -> tuple[str, int]:
    """Read HOST:PORT for argparse, and look the host up."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT with a port from 1 to 65535, got: {text!r}")
    try:
        socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise argparse.ArgumentTypeError(f"expected a host that can be found, got: {host!r} ({reason})") from None
    return host, int(port)
