"""Single options are checked the same way everywhere."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from runtime._checks import LONGEST_S, check_count, check_seconds, check_timeout
from runtime.errors import InvalidValue


@pytest.mark.parametrize("value", [1, 0.001, 1e9])
def test_a_positive_number_of_seconds_is_taken(value: Any) -> None:
    check_seconds("for_s", value)


@pytest.mark.parametrize("value", [0, -1, True, None, "1", float("nan"), float("inf"), [1]])
def test_what_is_no_positive_number_of_seconds_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_seconds("for_s", value)

    assert str(caught.value) == f"expected for_s to be a positive number of seconds, got: {value!r}"


def test_what_no_lock_and_no_timer_can_wait_for_is_refused() -> None:
    with pytest.raises(InvalidValue, match=f"expected for_s to be at most {LONGEST_S} seconds, got: 1e[+]300"):
        check_seconds("for_s", 1e300)


@pytest.mark.parametrize("value", [None, 0, -1, 2.5, threading.TIMEOUT_MAX])
def test_a_timeout_is_taken(value: Any) -> None:
    check_timeout(value)


@pytest.mark.parametrize("value", [True, "1", float("nan"), float("inf"), 10**12, [1]])
def test_what_nobody_can_wait_for_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_timeout(value)

    assert str(caught.value) == f"expected timeout to be a number of seconds, or None for ever, got: {value!r}"


@pytest.mark.parametrize("value", [0, 1, 10**20])
def test_a_count_is_taken(value: Any) -> None:
    check_count("limit", value)


@pytest.mark.parametrize("value", [-1, True, 1.0, None, "1"])
def test_what_is_no_count_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_count("limit", value)

    assert str(caught.value) == f"expected limit to be a whole number from 0 up, got: {value!r}"
