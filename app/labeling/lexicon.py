"""The real input: 7,520 tokens, each with the raw ratings of ten human raters.

Reads `vader_lexicon.txt` from the installed package `vaderSentiment` (lines of token, mean, deviation, ratings,
separated by tabs). Only the package's empty `__init__` is imported, never its analyser, which would pull in an HTTP
client. The file is data of other people: it is parsed as JSON, never evaluated, and never copied into this project.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources

import msgspec

from runtime.errors import BeamstalkError

RATERS = 10
"""Ratings per token, and so labels per sample."""

_PACKAGE = "vaderSentiment"
_FILE = "vader_lexicon.txt"


class DatasetMissing(BeamstalkError):
    """Say that the lexicon cannot be read, and how to get it."""


class Token(msgspec.Struct, frozen=True):
    """One line of the lexicon: its 1-based line number, its text, and ten ratings from -4 (most negative) to 4."""

    line: int
    text: str
    ratings: tuple[int, ...]


def load(limit: int | None = None) -> list[Token]:
    """Read the lexicon in file order, at most `limit` tokens of it.

    Blocks on one small file. Raises DatasetMissing when the package or its file is absent or not as expected.

    >>> load(1)
    [Token(line=1, text='$:', ratings=(-1, -1, -1, -1, -3, -1, -3, -1, -2, -1))]
    """
    try:
        source = importlib.resources.files(_PACKAGE).joinpath(_FILE).read_text("utf-8")
    except (ModuleNotFoundError, FileNotFoundError) as missing:
        raise DatasetMissing(
            f"expected the package {_PACKAGE} with its {_FILE}, got: {missing}. Install it: pip install {_PACKAGE}"
        ) from None
    lines = source.splitlines()[:limit]
    return [_token(number, line) for number, line in enumerate(lines, start=1)]


def version() -> str:
    """Name the data set and its version, for manifests.

    >>> version().split()[0]
    'vaderSentiment'
    """
    return f"{_PACKAGE} {importlib.metadata.version(_PACKAGE)}"


def _token(number: int, line: str) -> Token:
    columns = line.split("\t")
    try:
        ratings = msgspec.json.decode(columns[-1], type=tuple[int, ...])
    except msgspec.DecodeError:
        ratings = ()
    if len(columns) != 4 or len(ratings) != RATERS:
        raise DatasetMissing(
            f"expected line {number} of {_FILE} to hold a token and {RATERS} ratings, got: {line!r:.80}. "
            f"Reinstall the data set: pip install --force-reinstall {_PACKAGE}"
        )
    return Token(number, columns[0], ratings)
