"""Configuration from a TOML file: typed, and strict about what it does not know.

A service declares its settings as frozen msgspec structs with `forbid_unknown_fields=True`; `load` reads a file into
them. Whatever is wrong in the file is one `InvalidValue` that names the file, the place inside it and what was
expected there: a typo is never taken for a setting, and no setting is silently left out. `TelemetryConfig` is the part
that every service shares. Nothing here keeps anything; what is read is handed to whoever starts the application.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec

from runtime.errors import InvalidValue, expected, shown
from runtime.sampling import check_rates

__all__ = ["TelemetryConfig", "load", "place"]

_T = TypeVar("_T", bound=msgspec.Struct)
_Path = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_MISMATCH = re.compile(r"Expected (?P<what>.*?)(, got .*)?( - at `\$.*`)?", re.DOTALL)
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
}
_QUOTE_IT = 'Put a name with dots in quotes: "a.b" = …'


class TelemetryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of an application's telemetry: the table `[telemetry]`.

    `sampling` maps event names and span prefixes to the share to keep, 0 to 1; see `runtime.sampling`.

    >>> TelemetryConfig(sampling={"anvil.label.submit": 0.1}).sampling
    {'anvil.label.submit': 0.1}
    """

    sampling: dict[str, Annotated[float, msgspec.Meta(ge=0, le=1)]] = {}

    def __post_init__(self) -> None:
        check_rates(self.sampling)


def load(file: str | os.PathLike[str], schema: type[_T]) -> _T:
    """Read a TOML file into a struct type. Any thread; blocks on the disk.

    Raises InvalidValue, in one sentence, for a file that cannot be read or is no TOML, and for the first setting that
    is unknown, missing, of the wrong type or out of range.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "c.toml"
    >>> _ = path.write_text('[sampling]\\n"anvil.label.submit" = "all"')
    >>> load(path, TelemetryConfig)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    runtime.errors.InvalidValue: .../c.toml: expected a number at sampling."anvil.label.submit", got: 'all'
    """
    try:
        data = tomllib.loads(Path(file).read_bytes().decode())
    except OSError as fault:
        raise expected("a configuration file that can be read", f"{os.fspath(file)} ({fault.strerror})") from None
    except UnicodeDecodeError as fault:
        raise InvalidValue(f"{os.fspath(file)}: expected text in UTF-8, got: {fault.reason}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as fault:
        raise InvalidValue(f"{os.fspath(file)}: expected TOML, got: {fault}") from None
    try:
        return msgspec.convert(data, schema)
    except msgspec.ValidationError as fault:
        problem = _problem(data, schema, ()) or str(fault)
        raise InvalidValue(f"{os.fspath(file)}: {problem}") from None


def place(*path: str | int) -> str:
    """Name a place inside a TOML file as one would write it there.

    >>> place("telemetry", "sampling", "anvil.label.submit")
    'telemetry.sampling."anvil.label.submit"'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            quoted = part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            text += f".{quoted}" if text else quoted
    return text or "the top"


# msgspec stops at the first problem but does not say under which key of a mapping it is, nor what else could have been
# meant. So what it refuses is looked through again, part by part; this is not in the way of a file that is fine.


def _problem(value: Any, kind: Any, path: _Path) -> str:
    """Say what is wrong with a value, at the deepest place that is to blame; "" if nothing is."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as fault:
        return _inside(value, _narrow(kind), path) or _sentence(str(fault), value, kind, path)
    return ""


def _inside(value: Any, kind: Any, path: _Path) -> str:
    if isinstance(value, dict):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return _inside_struct(value, kind, path)
        if get_origin(kind) is dict:
            _, of = get_args(kind)
            return _first(_problem(each, of, (*path, key)) for key, each in value.items())
    if isinstance(value, list) and get_origin(kind) in (list, tuple):
        of = get_args(kind)[0]
        return _first(_problem(each, of, (*path, number)) for number, each in enumerate(value))
    return ""


def _inside_struct(value: Mapping[str, Any], kind: type[msgspec.Struct], path: _Path) -> str:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key in value:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            fix = f". Did you mean {near[0]}?" if near else ""
            return f"expected one of {', '.join(fields)} at {place(*path)}, got: {key!r}{fix}"
    for key, field in fields.items():
        if key not in value and field.required:
            return f"expected {place(*path, key)}, got: nothing"
    return _first(_problem(value[key], field.type, (*path, key)) for key, field in fields.items() if key in value)


def _sentence(fault: str, value: Any, kind: Any, path: _Path) -> str:
    where = place(*path)
    if fault.startswith("expected "):  # a struct's own check
        what, comma, got = fault.partition(" - at `$")[0].partition(", got: ")
        return f"{what} at {where}{comma}{got}"
    if choices := [repr(one) for one in get_args(_narrow(kind)) if isinstance(one, str | int)]:
        what = f"one of {', '.join(choices)}"
    else:
        match = _MISMATCH.fullmatch(fault)
        what = _in_words(match["what"]) if match else f"what msgspec takes ({fault})"
    fix = f". {_QUOTE_IT}" if isinstance(value, dict) and "a table" not in what else ""
    return f"expected {what} at {where}, got: {shown(value, 200)}{fix}"


def _in_words(types: str) -> str:
    """Say msgspec's names of types for people.

    >>> _in_words("`int | null` >= 1"), _in_words("`str | bool`")
    ('a whole number >= 1', 'a string or true or false')
    """

    def said(match: re.Match[str]) -> str:
        names = [name for name in match[1].split(" | ") if name != "null"]
        return " or ".join(_WORDS.get(name, name) for name in names)

    return re.sub(r"`([^`]*)`", said, types)


def _narrow(kind: Any) -> Any:
    """Take the annotation and `| None` off a type."""
    if get_origin(kind) is Annotated:
        return _narrow(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        others = [one for one in get_args(kind) if one is not types.NoneType]
        if len(others) == 1:
            return _narrow(others[0])
    return kind


def _first(problems: Any) -> str:
    return next(filter(None, problems), "")
