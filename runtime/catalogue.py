"""Typed catalogues: a service declares its events once, and everybody may rely on them.

An event is an API. From the declaration come the documented table, the span prefixes that metrics bind to, the checks
that run off the emitter's path (`telemetry.event.invalid`), and what the shell lists. Declarations are data: nothing
here emits, and an undeclared event is emitted like any other.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import msgspec.inspect

from runtime._events import Event, canonical
from runtime.errors import AlreadyExists, expected, shown

__all__ = ["INVALID", "Catalogue", "Declared"]

INVALID = "telemetry.event.invalid"
_START = {"monotonic_time": "ns", "system_time": "ns"}
_STOP = {"duration": "ns", "monotonic_time": "ns"}
"""Measurements of every span's start, and of its stop and exception."""

_EXCEPTION = {"kind": str, "reason": Any, "stacktrace": Any}
_SPAN_CONTEXT = "telemetry_span_context"


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """One event, or one span: `metadata` is then that of the start, `stop` what is added by its end.

    `measurements` maps keys to units; `metadata` and `stop` map keys to types (a type that admits None may be absent).
    `version` is bumped when the event's shape changes.
    """

    name: str
    description: str
    measurements: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    is_span: bool = False
    stop: dict[str, Any] = {}
    version: int = 1

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "name", canonical(self.name))
        for field, kind in (("description", str), ("is_span", bool), ("version", int)):
            if type(getattr(self, field)) is not kind:
                raise expected(f"{field} of {self.name} to be of type {kind.__name__}", getattr(self, field))
        _check_fields(f"measurements of {self.name} to map keys to units", self.measurements, _is_unit)
        for field in ("metadata", "stop"):
            _check_fields(f"{field} of {self.name} to map keys to types", getattr(self, field), _is_type)
        if self.stop and not self.is_span:
            raise expected(f"stop metadata only on spans, and {self.name} to be one", self.stop, "Say is_span=True")
        if self.is_span and (standard := _STOP.keys() & self.measurements):
            raise expected(f"measurements of the span {self.name} without those that every span has", sorted(standard))

    def names(self) -> tuple[str, ...]:
        """Return the names under which it can be heard.

        >>> Declared(name="shop.order", description="An order.", is_span=True).names()
        ('shop.order.start', 'shop.order.stop', 'shop.order.exception')
        """
        if not self.is_span:
            return (self.name,)
        return tuple(f"{self.name}.{phase}" for phase in ("start", "stop", "exception"))

    def shape(self, name: str) -> tuple[dict[str, str], dict[str, Any]]:
        """Return measurements (key → unit) and metadata (key → type) under one of its names."""
        if not self.is_span:
            return self.measurements, self.metadata
        match name.rpartition(".")[2]:
            case "start":
                return _START, self.metadata
            case "stop":
                return {**_STOP, **self.measurements}, {**self.metadata, **self.stop}
            case _:
                optional = {key: kind if _admits_none(kind) else kind | None for key, kind in self.stop.items()}
                return _STOP, {**self.metadata, **optional, **_EXCEPTION}


class Catalogue:
    """A service's declared events.

    >>> catalogue = Catalogue([Declared(name="shop.order", description="An order.", metadata={"shop": str})])
    >>> catalogue.check(Event("shop.order", {}, {"shop": 7}, 0))
    ['metadata shop: Expected `str`, got `int`']
    """

    def __init__(self, declared: Iterable[Declared]) -> None:
        self.declared = tuple(declared) if isinstance(declared, Iterable) else (declared,)
        self._by_name: dict[str, Declared] = {}
        self._models: dict[str, tuple[type, type]] = {}
        for one in self.declared:
            if not isinstance(one, Declared):
                raise expected("a list of Declared", one)
            for name in one.names():
                if name in self._by_name:
                    raise AlreadyExists(f"expected every event to be declared once, got twice: {name!r}")
                self._by_name[name] = one

    @property
    def names(self) -> tuple[str, ...]:
        """Every event name, in the order of declaration."""
        return tuple(self._by_name)

    @property
    def span_prefixes(self) -> frozenset[str]:
        """The prefixes of the declared spans."""
        return frozenset(one.name for one in self.declared if one.is_span)

    def get(self, name: str) -> Declared | None:
        """Return the declaration under which an event of this name falls."""
        return self._by_name.get(name)

    def check(self, event: Event) -> list[str]:
        """Say what is wrong with an event; an empty list when nothing is, or when it is not declared."""
        declared = self._by_name.get(event.name)
        if declared is None or self._is_sound(declared, event):
            return []
        measurements, metadata = declared.shape(event.name)
        problems = [
            f"measurement {key}: expected a number, got: {shown(value, 100)}"
            for key, value in event.measurements.items()
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float))
        ]
        problems += _undeclared("measurement", event.measurements, measurements)
        problems += [problem for key, kind in metadata.items() if (problem := _check(event.metadata, key, kind))]
        problems += _undeclared("metadata", {k: v for k, v in event.metadata.items() if k != _SPAN_CONTEXT}, metadata)
        return problems

    def _is_sound(self, declared: Declared, event: Event) -> bool:
        """Check a whole event in C; what is wrong with one that is not sound is found out field by field."""
        known = self._models.get(event.name)
        if known is None:
            known = self._models[event.name] = _models(*declared.shape(event.name))
        measured, told = known
        try:
            msgspec.convert(event.measurements, measured, strict=True)
            msgspec.convert(event.metadata, told, strict=True)
        except msgspec.ValidationError:
            return False
        return True

    def markdown(self) -> str:
        """Write the event table."""
        lines = ["| event | measurements | metadata | what it tells |", "| --- | --- | --- | --- |"]
        for one in self.declared:
            for name in one.names():
                measurements, metadata = one.shape(name)
                cells = (
                    f"`{name}`",
                    ", ".join(f"{key} ({unit})" for key, unit in measurements.items()) or "–",
                    ", ".join(f"{key}: {_type_name(kind)}" for key, kind in metadata.items()) or "–",
                    one.description,
                )
                lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
        return "\n".join(lines) + "\n"


def _check_fields(what: str, fields: object, is_good: Callable[[object], bool]) -> None:
    if not isinstance(fields, Mapping):
        raise expected(what, fields)
    for key, value in fields.items():
        if not isinstance(key, str) or not key or not is_good(value):
            raise expected(what, {key: value})


def _is_unit(unit: object) -> bool:
    return isinstance(unit, str)


def _is_type(kind: object) -> bool:
    try:
        msgspec.inspect.type_info(kind)
    except TypeError:  # among others the name of a type, which cannot be looked up here
        return False
    return True


def _models(measurements: Mapping[str, str], metadata: Mapping[str, Any]) -> tuple[type, type]:
    """Build the struct types that measurements and metadata of an event must convert to."""
    number: Any = int | float | None
    return _model([(key, number) for key in measurements]), _model(list({_SPAN_CONTEXT: Any, **metadata}.items()))


def _model(fields: list[tuple[str, Any]]) -> type:
    # Keys need not be identifiers ("async" is one of ours), so the fields get names of their own.
    optional = {key: {"default": None} if _admits_none(kind) else {} for key, kind in fields}
    return msgspec.defstruct(
        "Model",
        [(f"f{n}", kind, msgspec.field(name=key, **optional[key])) for n, (key, kind) in enumerate(fields)],
        forbid_unknown_fields=True,
        kw_only=True,
    )


def _check(metadata: Mapping[str, Any], key: str, kind: Any) -> str:
    if key not in metadata:
        return "" if _admits_none(kind) else f"metadata {key}: missing"
    try:
        msgspec.convert(metadata[key], kind, strict=True)
    except msgspec.ValidationError as error:
        return f"metadata {key}: {error}"
    return ""


def _undeclared(what: str, given: Mapping[str, Any], declared: Mapping[str, Any]) -> list[str]:
    problems = []
    for key in given:
        if key not in declared:
            near = difflib.get_close_matches(str(key), declared, n=1)
            problems.append(f"{what} {key}: not declared" + (f", did you mean {near[0]}?" if near else ""))
    return problems


def _admits_none(kind: Any) -> bool:
    return kind is Any or kind is None or type(None) in typing.get_args(kind)


def _type_name(kind: Any) -> str:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is not None:
        return str(kind).replace("typing.", "")
    return getattr(kind, "__name__", str(kind))
