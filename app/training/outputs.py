"""The structures that a custom loss reports, and their JSON, which is the contract with other programs.

Owns `RegularizerOutput`, `CustomLossOutput` and the parts they nest. Anybody may build, write and read them:
`msgspec.json.encode(output)` is the contract already, `to_json` checks once more that nothing was put in since.
NaN and infinity are refused when a structure is made, because JSON has no such numbers (msgspec would write `null`).
A change of any field here is a change of the published schema: see `app.training.schema`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Self

import msgspec

from runtime.errors import expected

__all__ = ["BaseLossOutput", "CustomLossOutput", "RegularizerMetrics", "RegularizerOutput", "Scalar"]

Scalar = str | int | float | bool | None
"""What `custom` may hold: any JSON scalar."""

Value = Annotated[float, msgspec.Meta(description="the term's value before weighting")]
Custom = Annotated[dict[str, Scalar], msgspec.Meta(description="the term's own metrics; any JSON scalar")]
GradNorm = Annotated[float | None, msgspec.Meta(description="L2 norm of the term's gradient; null when untracked")]
WeightedGradNorm = Annotated[float | None, msgspec.Meta(description="weight * grad_norm; null when untracked")]


class _Json(msgspec.Struct, frozen=True, kw_only=True):
    """Write and read one structure as JSON."""

    def to_json(self) -> bytes:
        """Return the JSON of this structure. Raises InvalidValue when `custom` was given a NaN since it was made."""
        self.__post_init__()
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Read a structure; null and absent mean the same. Raises msgspec.ValidationError for anything else."""
        return msgspec.json.decode(text, type=cls)

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            content = getattr(self, field)
            if field == "custom":
                for key, scalar in content.items():
                    if type(key) is not str:
                        raise expected("the keys of custom to be strings", key)
                    _check_scalar(f"{field}[{key!r}]", scalar)
            elif isinstance(content, _Json):
                content.__post_init__()
            elif isinstance(content, dict):
                for nested in content.values():
                    nested.__post_init__()
            else:
                _check_scalar(field, content)


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


def check_unique_names(names: Iterable[str]) -> None:
    """Raise InvalidValue that lists the names given more than once.

    >>> check_unique_names(["l1", "l2", "l1"])
    Traceback (most recent call last):
    runtime.errors.InvalidValue: expected regularizer names to be unique, got: ['l1']
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise expected("regularizer names to be unique", twice)


def _check_scalar(field: str, scalar: object) -> None:
    # Exact types: a numpy number passes isinstance(…, float) but has no JSON.
    if type(scalar) is float:
        if not math.isfinite(scalar):
            raise expected(f"{field} to be a finite number", scalar, "JSON has neither NaN nor infinity.")
    elif scalar is not None and type(scalar) not in (str, int, bool):
        raise expected(f"{field} to be a JSON scalar", scalar, "Turn numpy numbers into Python's with .item().")
