"""The table of decisions, to the letter."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reporters.delivery import Verdict, retry_after_s, verdict_of


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *((status, Verdict.DELIVERED) for status in (200, 201, 202, 204, 299)),
        *((status, Verdict.RETRY) for status in (408, 425, 429, 500, 502, 503, 504)),
        (413, Verdict.SPLIT),
        *((status, Verdict.REJECTED) for status in (301, 302, 304, 400, 401, 403, 404, 409, 410, 422, 501, 505, 599)),
    ],
)
def test_every_status_has_its_decision(status: int, verdict: Verdict) -> None:
    assert verdict_of(status) is verdict


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 60.0),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", 60.0),
        ("Wed Oct 21 07:28:00 2015", 60.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        *((text, None) for text in (None, "", "-1", "1.5", "soon", "1" * 400, "Wed, 99 Oct 2015 07:28:00 GMT")),
    ],
)
def test_retry_after_is_read_in_both_of_its_forms(header: str | None, seconds: float | None) -> None:
    now_ns = 1_445_412_420 * 1_000_000_000  # Wed, 21 Oct 2015 07:27:00 GMT

    assert retry_after_s(header, now_ns) == seconds


@pytest.mark.parametrize("date", ["Wed Oct 21 07:28:00 2015", "Wed, 21 Oct 2015 07:28:00 -0000"])
def test_date_without_a_zone_is_one_of_utc_wherever_we_are(date: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 1_445_412_420 * 1_000_000_000
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "UTC-9")
        time.tzset()

        seconds = retry_after_s(date, now_ns)
    time.tzset()

    assert seconds == 60.0


@given(st.text())
def test_any_text_as_retry_after_is_seconds_or_nothing(header: str) -> None:
    seconds = retry_after_s(header, 0)

    assert seconds is None or seconds >= 0
