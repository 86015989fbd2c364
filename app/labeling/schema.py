"""What a label may say: fields, their types, and the sentence a labeler reads when a value does not fit.

A schema is immutable and has a version id; changing a queue's schema is a migration (`Queue.migrate`). Checking a
payload never raises for what a labeler typed: the answer is a list of errors, empty when all is well. Definitions, by
contrast, are a programmer's: a bad one raises at once.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from runtime.errors import expected

FieldType = Literal["text", "select", "multiselect", "range", "number", "boolean", "date", "datetime"]
Scale = Literal["nominal", "ordinal", "interval"]
"""How far apart two different values are: just different, apart in rank, or apart by their difference."""

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with one field of a payload."""

    field: str
    message: str


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One question of a label.

    - `type`: text, select, multiselect (of `options`), range (an integer), number, boolean, date, datetime (with an
      offset).
    - `required` (default True): None and an absent value are errors.
    - `options`: the choices of select and multiselect.
    - `min`, `max`: inclusive bounds of range and number.
    - `pattern`: a regular expression that must be found in a text.
    - `scale`: how agreement measures distance; default interval for range and number, nominal for the others.

    >>> Field(name="stars", type="range", min=1, max=5).check(7)
    'must be at most 5'
    """

    name: str
    type: FieldType
    required: bool = True
    options: tuple[str, ...] = ()
    min: int | float | None = None
    max: int | float | None = None
    pattern: str | None = None
    scale: Scale | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise expected("a field name that is not empty", self.name)
        if self.type not in _CHECKS:
            raise expected(f"the type of field {self.name!r} to be one of {', '.join(_CHECKS)}", self.type)
        if self.type in ("select", "multiselect") and not self.options:
            raise expected(f"field {self.name!r} of type {self.type} to have options", self.options)
        if self.min is not None and self.max is not None and self.min > self.max:
            raise expected(f"min of field {self.name!r} to be at most its max", (self.min, self.max))
        if self.scale == "interval" and self.type not in ("range", "number"):
            raise expected(f"the scale of field {self.name!r} of type {self.type} to be nominal or ordinal", self.scale)
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as fault:
                raise expected(
                    f"pattern of field {self.name!r} to be a regular expression", self.pattern, f"{fault}"
                ) from None

    @property
    def distance(self) -> Scale:
        """The scale that agreement uses for this field."""
        return self.scale or ("interval" if self.type in ("range", "number") else "nominal")

    def check(self, value: Any) -> str | None:
        """Return what is wrong with a value, or None."""
        if value is None:
            return "is required" if self.required else None
        return _CHECKS[self.type](self, value)


class Schema(msgspec.Struct, frozen=True):
    """A version of the questions: a version id and the fields, in order.

    >>> schema = Schema("v1", (Field(name="coherence", type="range", min=1, max=5),))
    >>> schema.validate({"coherence": 0})
    [FieldError(field='coherence', message='must be at least 1')]
    >>> schema.validate({"coherence": 3})
    []
    """

    version_id: str
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if not names:
            raise expected(f"schema {self.version_id!r} to have at least one field", self.fields)
        if len(set(names)) < len(names):
            raise expected(f"the field names of schema {self.version_id!r} to differ", names)

    def validate(self, values: Mapping[str, Any]) -> list[FieldError]:
        """Return every error of a payload, in the order of the fields, then those of names that are no field."""
        errors = []
        for field in self.fields:
            message = field.check(values.get(field.name))
            if message is not None:
                errors.append(FieldError(field.name, message))
        known = {field.name for field in self.fields}
        errors += [FieldError(str(name), "is not a field of this schema") for name in values if name not in known]
        return errors

    def definition_hash(self) -> str:
        """Return the SHA-256 (hex) of the fields' canonical JSON: the same for the same questions."""
        return hashlib.sha256(msgspec.json.encode(self.fields, order="sorted")).hexdigest()


def _bounds(field: Field, value: int | float) -> str | None:
    if field.min is not None and value < field.min:
        return f"must be at least {field.min}"
    if field.max is not None and value > field.max:
        return f"must be at most {field.max}"
    return None


def _text(field: Field, value: Any) -> str | None:
    if not isinstance(value, str):
        return "must be text"
    if field.pattern is not None and not re.search(field.pattern, value):
        return "does not match required pattern"
    return None


def _select(field: Field, value: Any) -> str | None:
    if not isinstance(value, str):
        return "must be a string"
    return None if value in field.options else f"must be one of: {', '.join(field.options)}"


def _multiselect(field: Field, value: Any) -> str | None:
    if not isinstance(value, list | tuple):
        return "must be a list"
    unknown = [str(item) for item in value if item not in field.options]
    return f"invalid options: {', '.join(unknown)}" if unknown else None


def _range(field: Field, value: Any) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return "must be an integer"
    return _bounds(field, value)


def _number(field: Field, value: Any) -> str | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return "must be a number"
    return _bounds(field, value)


def _boolean(field: Field, value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _date(field: Field, value: Any) -> str | None:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return None
    if not isinstance(value, str):
        return "must be a date"
    try:
        # fromisoformat alone would also take the basic and the week form.
        valid = _ISO_DATE.fullmatch(value) is not None and bool(datetime.date.fromisoformat(value))
    except ValueError:
        valid = False
    return None if valid else "must be a valid date (YYYY-MM-DD)"


def _datetime(field: Field, value: Any) -> str | None:
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            return "must be a valid datetime (ISO8601)"
        # Without an offset it names no instant.
        return "must be a valid datetime (ISO8601)" if value.tzinfo is None else None
    return None if isinstance(value, datetime.datetime) else "must be a datetime"


_CHECKS = {
    "text": _text,
    "select": _select,
    "multiselect": _multiselect,
    "range": _range,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
}
