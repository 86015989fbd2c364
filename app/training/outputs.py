"""The structures that a custom loss reports, and their JSON, which is the contract with other programs.

Owns `RegularizerOutput`, `CustomLossOutput` and the parts they nest. Anybody may build, write and read them:
`msgspec.json.encode(output)` is the contract already, `to_json` checks once more that nothing was put in since.
NaN and infinity are refused when a structure is made, because JSON has no such numbers (msgspec would write `null`).
A change of any field here is a change of the published schema: see `app.training.schema`.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Self, SupportsFloat, TypeVar

import msgspec

from runtime.errors import expected

__all__ = ["BaseLossOutput", "CustomLossOutput", "RegularizerMetrics", "RegularizerOutput", "Scalar"]

T = TypeVar("T")

Scalar = str | int | float | bool | None
"""What `custom` may hold: any JSON scalar."""

Value = Annotated[float, msgspec.Meta(description="the term's value before weighting")]
Custom = Annotated[dict[str, Scalar], msgspec.Meta(description="the term's own metrics; any JSON scalar")]
GradNorm = Annotated[float | None, msgspec.Meta(description="L2 norm of the term's gradient; null when untracked")]
WeightedGradNorm = Annotated[float | None, msgspec.Meta(description="weight * grad_norm; null when untracked")]


_OPTIONAL = ("base_loss", "grad_norm", "grad_norm_weighted", "total_grad_norm")


class _Json(msgspec.Struct, frozen=True, kw_only=True):
    """Write and read one structure as JSON."""

    def to_json(self) -> bytes:
        """Return the JSON of this structure. Raises InvalidValue when `custom` was given a NaN since it was made."""
        self.__post_init__()
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Read a structure; null and absent mean the same. Raises msgspec.DecodeError for anything else."""
        return read_json(text, cls)

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            content = getattr(self, field)
            if field == "custom":
                check_custom(content)
            elif field == "name":
                check_text("the name of a regularizer", content)
            elif isinstance(content, _Json):
                content.__post_init__()
            elif isinstance(content, dict):
                for name, nested in content.items():
                    check_text("the name of a regularizer", name)
                    nested.__post_init__()
            elif content is not None or field not in _OPTIONAL:
                _check_number(field, content)


class BaseLossOutput(_Json, frozen=True, kw_only=True):
    """The base loss: its value, its own metrics and, when tracked, its gradient's norm."""

    value: Value
    grad_norm: GradNorm = None
    custom: Custom


class RegularizerMetrics(_Json, frozen=True, kw_only=True):
    """One regularizer inside a custom loss: its key there is its name, and untracked gradients are null."""

    value: Value
    weight: Annotated[float, msgspec.Meta(description="the factor of this term in the total")]
    contribution: Annotated[float, msgspec.Meta(description="weight * value")]
    grad_norm: GradNorm = None
    grad_norm_weighted: WeightedGradNorm = None
    custom: Custom

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.grad_norm is None) != (self.grad_norm_weighted is None):
            raise expected(
                "grad_norm and grad_norm_weighted to be given together",
                {"grad_norm": self.grad_norm, "grad_norm_weighted": self.grad_norm_weighted},
            )


class RegularizerOutput(RegularizerMetrics, frozen=True, kw_only=True, omit_defaults=True):
    """One regularizer on its own: it carries its name, and untracked gradients are left out."""

    name: Annotated[str, msgspec.Meta(description="unique among the regularizers of one loss")]

    @classmethod
    def compute(
        cls, name: str, value: float, weight: float, custom: Mapping[str, Scalar] = {}, grad_norm: float | None = None
    ) -> RegularizerOutput:
        """Weight a value and its gradient's norm. Raises InvalidValue when a number is not finite.

        >>> RegularizerOutput.compute("l1", 10.0, 0.1, {"sum": 100.0}, grad_norm=5.0).to_json()
        b'{"value":10.0,"weight":0.1,"contribution":1.0,"grad_norm":5.0,"grad_norm_weighted":0.5,"custom":{"sum":100.0},"name":"l1"}'
        """
        return cls(
            name=name,
            value=value,
            weight=weight,
            contribution=weight * value,
            grad_norm=grad_norm,
            grad_norm_weighted=None if grad_norm is None else weight * grad_norm,
            custom=dict(custom),
        )

    def metrics(self) -> RegularizerMetrics:
        """Return the same without the name, as it is nested in a custom loss."""
        return RegularizerMetrics(**{field: getattr(self, field) for field in RegularizerMetrics.__struct_fields__})


class CustomLossOutput(_Json, frozen=True, kw_only=True, omit_defaults=True):
    """A base loss, its regularizers and their total; base loss and total gradient are left out when there is none."""

    loss_total: Annotated[float, msgspec.Meta(description="base loss + regularizer_total")]
    base_loss: BaseLossOutput | None = None
    regularizers: Annotated[dict[str, RegularizerMetrics], msgspec.Meta(description="by name")]
    regularizer_total: Annotated[float, msgspec.Meta(description="sum of the contributions; 0 for none")]
    total_grad_norm: Annotated[
        float | None, msgspec.Meta(description="L2 norm of the combined loss's gradient, not a sum of norms")
    ] = None

    @classmethod
    def compose(
        cls,
        base_loss: BaseLossOutput | None,
        regularizers: Iterable[RegularizerOutput] = (),
        total_grad_norm: float | None = None,
    ) -> CustomLossOutput:
        """Add up a base loss and its regularizers, in their order. Raises InvalidValue for a name given twice.

        >>> base = BaseLossOutput(value=2.5, custom={"perplexity": 12.18})
        >>> CustomLossOutput.compose(base).to_json()
        b'{"loss_total":2.5,"base_loss":{"value":2.5,"grad_norm":null,"custom":{"perplexity":12.18}},"regularizers":{},"regularizer_total":0.0}'
        """
        regularizers = list(regularizers)
        check_unique_names(output.name for output in regularizers)
        regularizer_total = sum((output.contribution for output in regularizers), start=0.0)
        return cls(
            loss_total=(0.0 if base_loss is None else base_loss.value) + regularizer_total,
            base_loss=base_loss,
            regularizers={output.name: output.metrics() for output in regularizers},
            regularizer_total=regularizer_total,
            total_grad_norm=total_grad_norm,
        )


def read_json(text: bytes | str, as_type: type[T]) -> T:
    """Read JSON. Raises msgspec.DecodeError for anything else, also for what is no UTF-8 or nested too deep.

    >>> read_json(b'{"a":1}', dict[str, int])
    {'a': 1}
    """
    try:
        return msgspec.json.decode(text, type=as_type)
    except (UnicodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def check_unique_names(names: Iterable[str]) -> None:
    """Raise InvalidValue that lists the names given more than once.

    >>> check_unique_names(["l1", "l2", "l1"])
    Traceback (most recent call last):
    runtime.errors.InvalidValue: expected regularizer names to be unique, got: ['l1']
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise expected("regularizer names to be unique", twice)


def check_text(what: str, text: object) -> None:
    """Raise InvalidValue for what is no text, or has no JSON: half a surrogate pair is no character.

    >>> check_text("the name", chr(0xD83D))
    Traceback (most recent call last):
    runtime.errors.InvalidValue: expected the name to be text that UTF-8 can hold, got: '\\ud83d'
    """
    if type(text) is not str:
        raise expected(f"{what} to be a string", text)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise expected(f"{what} to be text that UTF-8 can hold", text) from None


def check_custom(custom: Mapping[str, object], of: str = "") -> None:
    """Raise InvalidValue for metrics that have no JSON; `of` says whose they are.

    >>> check_custom({1: 1.0}, of=" of the base loss")
    Traceback (most recent call last):
    runtime.errors.InvalidValue: expected a key of custom of the base loss to be a string, got: 1
    """
    for key, scalar in custom.items():
        check_text(f"a key of custom{of}", key)
        _check_scalar(f"custom[{key!r}]{of}", scalar)


def _check_number(field: str, number: object) -> None:
    # Exact types: a numpy number passes isinstance(…, float) but has no JSON, and a bool is no number there.
    if type(number) is not float and type(number) is not int:
        raise expected(f"{field} to be a number", number, "A numpy number becomes Python's with .item().")
    if not is_finite(number):
        raise expected(f"{field} to be a finite number", number, "JSON has neither NaN nor infinity.")


def _check_scalar(field: str, scalar: object) -> None:
    if type(scalar) is str:
        check_text(field, scalar)
    elif type(scalar) is int:
        try:
            str(scalar)
        except ValueError:  # Python has a limit for what it writes and reads, against attacks
            limit = sys.get_int_max_str_digits()
            raise expected(f"{field} to be an integer of at most {limit} digits", scalar) from None
    elif type(scalar) is float:
        _check_number(field, scalar)
    elif scalar is not None and type(scalar) is not bool:
        fix = "That is text, a number, a bool or None; a numpy number becomes Python's with .item()."
        raise expected(f"{field} to be a JSON scalar", scalar, fix)


def is_finite(number: SupportsFloat) -> bool:
    """Tell whether a number is finite as a float, which a very large integer is not.

    >>> is_finite(1), is_finite(math.nan), is_finite(10**400)
    (True, False, False)
    """
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
