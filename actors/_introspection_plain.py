"""Any value as plain JSON: bounded in depth, breadth and length, with what looks like a secret masked.

Values of a service are shown to whoever may open the node's socket, in a terminal, perhaps on a shared screen. What
stands under a key such as `password` or `api_key` never leaves the process, nor does what a repr says of one. Foreign
code (a repr, a property) may run here and may raise anything; it costs the value it belongs to.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import math
import re
from collections.abc import Mapping, Sequence, Set
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from runtime.errors import shown

MASK = "***"
_DEPTH = 8
_ITEMS = 200
_TEXT = 2_000
_LOOKED_AT = 20_000
_REPR = 500
_NODES = 20_000
_INT64 = 1 << 63

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORDS = frozenset(
    [
        "apikey",
        "auth",
        "authorization",
        "bearer",
        "cookie",
        "cookies",
        "credential",
        "credentials",
        "dsn",
        "jwt",
        "passphrase",
        "passwd",
        "password",
        "passwords",
        "privatekey",
        "pwd",
        "secret",
        "secrets",
        "signature",
        "token",
    ]
)
_SECRET_PAIRS = frozenset(
    {("api", "key"), ("private", "key"), ("access", "key"), ("signing", "key"), ("session", "id")}
)
# Both begin at the beginning of a word only: tried at every letter of a long one, they would take quadratic time.
_IN_TEXT = re.compile(
    r"""(?ix) (?<![\w-])
    ( [\w-]* (?: api[_-]?key | auth(?:orization)? | bearer | cookie | credentials? | dsn | jwt | passphrase
    | passw(?:or)?d | pwd | private[_-]?key | access[_-]?key | secret | signature | token ) ['"]? \s* (?: = | : ) \s* )
    ( (?:bearer\s+|basic\s+)? (?: '[^']*' | "[^"]*" | [^\s,;)}\]]+ ) )"""
)
_IN_URL = re.compile(r"\b(\w+://[^\s/:@]*:)[^\s/@]+@")


def is_secret(key: str) -> bool:
    """Tell whether what stands under a key should not be seen.

    >>> [is_secret(key) for key in ("password", "API-Key", "authToken", "db.dsn", "tokens_used", "keyboard", "author")]
    [True, True, True, True, False, False, False]
    """
    words = [word.lower() for word in _WORDS.findall(key)]
    return not _SECRET_WORDS.isdisjoint(words) or not _SECRET_PAIRS.isdisjoint(itertools.pairwise(words))


def masked(text: str) -> str:
    """Mask what a text assigns to a key that looks secret, and passwords in addresses.

    >>> masked("connect(host='db', password='hunter2') to postgres://app:hunter2@db/labels")
    "connect(host='db', password=***) to postgres://app:***@db/labels"
    """
    return _IN_URL.sub(rf"\1{MASK}@", _IN_TEXT.sub(rf"\1{MASK}", text[:_LOOKED_AT]))


def clean(text: str, longest: int = _TEXT) -> str:
    """Cut a text and make it fit for JSON: a lone surrogate has no encoding."""
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    if text.isascii():
        return text
    return text.encode(errors="backslashreplace").decode()


def text(value: object, longest: int = _REPR) -> str:
    """Show any value in one masked text, whatever its repr does."""
    try:
        return clean(masked(shown(value, longest)), longest)
    except Exception as error:  # noqa: BLE001 - a str subclass may override anything
        return f"<{type(value).__name__}, which raised {type(error).__name__}>"


def plain(value: Any) -> Any:
    """Make plain JSON of a value.

    >>> plain({"user": "ada", "token": "abc", "at": (1, float("nan")), "f": plain})["token"]
    '***'
    """
    return _Plain().make(value, _DEPTH)


class _Plain:
    """One value on its way; counts what it has made, so that a broad and deep one comes to an end."""

    def __init__(self) -> None:
        self._left = _NODES

    def make(self, value: Any, depth: int) -> Any:
        self._left -= 1
        try:
            return self._make(value, depth)
        except Exception as error:  # noqa: BLE001 - foreign code, see the module
            return f"<{type(value).__name__}, which raised {type(error).__name__}>"

    def _make(self, value: Any, depth: int) -> Any:
        match value:
            case None | bool():
                return value
            case Enum():
                return self._make(value.value, depth)
            case int():
                return int(value) if -_INT64 <= value < _INT64 else str(value)
            case float():
                return float(value) if math.isfinite(value) else str(value)
            case str():
                return clean(masked(str.__str__(value)))
            case bytes() | bytearray() | memoryview():
                return f"<{len(value)} bytes>"
            case datetime.datetime() | datetime.date() | datetime.time():
                return value.isoformat()
            case UUID() | PurePath() | datetime.timedelta():
                return clean(masked(str(value)))
        if depth == 0 or self._left <= 0:
            return "…"
        match value:
            case Mapping():
                return self._mapping(list(_first(value.items())), len(value), depth)
            case msgspec.Struct():
                return self._mapping([(f, getattr(value, f)) for f in value.__struct_fields__], 0, depth)
            case tuple() if hasattr(value, "_fields"):
                return self._mapping(list(zip(value._fields, value, strict=False)), 0, depth)
            case Sequence() | Set():
                items = [self.make(item, depth - 1) for item in _first(value)]
                return items + ([f"… {len(value) - len(items)} more"] if len(value) > len(items) else [])
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            pairs = [
                (field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value) if field.repr
            ]
            return self._mapping(pairs, 0, depth)
        return text(value)

    def _mapping(self, pairs: list[tuple[Any, Any]], length: int, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in pairs:
            name = clean(key if isinstance(key, str) else text(key, 100), 200)
            tells = value is not None and not isinstance(value, bool)
            made[name] = MASK if tells and is_secret(name) else self.make(value, depth - 1)
        if length > len(pairs):
            made["…"] = f"{length - len(pairs)} more"
        return made


def _first(items: Any) -> Any:
    """Yield as many items as are shown, of something that another thread may be changing."""
    for number, item in enumerate(items):
        if number == _ITEMS:
            return
        yield item
