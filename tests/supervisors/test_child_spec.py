"""Child specs: the fields, their defaults, and the refusals."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity

from actors import Actor
from runtime.errors import AlreadyExists, InvalidValue
from supervisors import ChildSpec, Supervisor, check_child_specs


class Worker(Actor):
    pass


def test_defaults_are_those_of_otp() -> None:
    spec = ChildSpec("a", Worker)

    assert (spec.restart, spec.shutdown, spec.type, spec.significant) == ("permanent", 5_000, "worker", False)


def test_shutdown_of_a_supervisor_is_infinity_unless_said() -> None:
    assert ChildSpec("a", Supervisor, type="supervisor").shutdown == "infinity"
    assert ChildSpec("a", Supervisor, type="supervisor", shutdown=10).shutdown == 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", []),
        ("start", 3),
        ("start", (3, ())),
        ("start", (Worker,)),
        ("start", (Worker, "args")),
        ("start", (Worker, (), {1: 2})),
        ("restart", "always"),
        ("restart", None),
        ("shutdown", -1),
        ("shutdown", 1.5),
        ("shutdown", True),
        ("shutdown", "never"),
        ("type", "actor"),
        ("significant", 1),
        ("backoff", 3),
    ],
)
def test_a_wrong_field_is_refused_naming_the_field_and_the_value(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"id": "a", "start": Worker, field: value}

    with pytest.raises(InvalidValue) as refusal:
        ChildSpec(**fields)

    assert f"expected {field} to be" in str(refusal.value)
    assert f"got: {value!r}" in str(refusal.value)


@pytest.mark.parametrize("start", [Worker, Worker.start_link, (Worker, ()), (Worker, [1]), (Worker, (), {"x": 1})])
def test_start_is_a_class_a_callable_or_a_tuple_with_arguments(start: Any) -> None:
    assert ChildSpec("a", start).start is start


def test_a_permanent_child_cannot_be_significant() -> None:
    with pytest.raises(InvalidValue, match="expected significant to be False with restart='permanent', got: True"):
        ChildSpec("a", Worker, significant=True)


def test_a_wait_policy_of_tenacity_is_a_backoff() -> None:
    policy = tenacity.wait_fixed(1)

    assert ChildSpec("a", Worker, backoff=policy).backoff is policy


def test_a_spec_cannot_be_changed_only_replaced() -> None:
    spec = ChildSpec("a", Worker)

    with pytest.raises(AttributeError):
        spec.restart = "temporary"  # type: ignore[misc]
    assert spec.replace(restart="temporary").restart == "temporary"
    with pytest.raises(InvalidValue, match="expected restart"):
        spec.replace(restart="rarely")


def test_an_object_with_a_child_spec_is_accepted_wherever_a_spec_is() -> None:
    class Clock:
        def child_spec(self) -> ChildSpec:
            return ChildSpec("clock", Worker)

    class Ticker(Actor):
        @classmethod
        def child_spec(cls) -> ChildSpec:
            return ChildSpec("ticker", cls)

    specs = check_child_specs([Clock(), Ticker, ChildSpec("a", Worker)], "never")

    assert [spec.id for spec in specs] == ["clock", "ticker", "a"]


@pytest.mark.parametrize("child", [Worker, {"id": "a"}, None, object()])
def test_what_is_no_spec_is_refused(child: Any) -> None:
    with pytest.raises(InvalidValue, match=r"expected a ChildSpec or an object with child_spec\(\), got: "):
        check_child_specs([child], "never")


@pytest.mark.parametrize("children", [3, "ab", {"a": 1}, None])
def test_what_is_no_list_of_specs_is_refused(children: Any) -> None:
    with pytest.raises(InvalidValue, match="expected children to be an iterable of child specs"):
        check_child_specs(children, "never")


def test_an_id_given_twice_is_refused() -> None:
    with pytest.raises(AlreadyExists, match="expected child ids to be unique, got twice: 'a'"):
        check_child_specs([ChildSpec("a", Worker), ChildSpec("b", Worker), ChildSpec("a", Worker)], "never")


def test_a_significant_child_is_refused_where_auto_shutdown_is_never() -> None:
    spec = ChildSpec("a", Worker, restart="temporary", significant=True)

    with pytest.raises(InvalidValue, match="expected significant of child 'a' to be False under auto_shutdown='never'"):
        check_child_specs([spec], "never")
    assert check_child_specs([spec], "any_significant") == [spec]
