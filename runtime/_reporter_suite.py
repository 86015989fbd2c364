"""What every reporter must keep to: one set of cases, for ours and for anybody's.

A reporter's author writes a small harness (`ReporterUnderTest`): how to run the reporter in an application, and how to
read what it has sent. The cases do the rest through the public face: they define metrics, emit events, have the
reporter send, and compare totals. They need no test framework; each is a callable that raises AssertionError.

    from runtime.testing import reporter_suite

    @pytest.mark.parametrize("case", reporter_suite.CASES, ids=str)
    def test_acme_reporter_conforms(case):
        case(AcmeUnderTest())
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

import msgspec

from runtime import metrics as m
from runtime._dispatch import execute
from runtime._handlers import attach, detach
from runtime._waiting import waiter
from runtime.metrics import Metric, counter, distribution, last_value, summary

__all__ = ["CASES", "Case", "NotApplicable", "Received", "ReporterUnderTest", "RunningReporter"]

EVENT = "conformance.thing.done"
LONG = "x" * 190
WAIT_S = 10.0


class NotApplicable(Exception):
    """Tell that a case says nothing about this reporter: it has no endpoint that could be away, say."""


class Received(msgspec.Struct, frozen=True):
    """What came out of a reporter for one series, in all.

    `name` is the name of the definition; `tags` as far as the reporter says them; `value` the total: of a counter the
    events, of a sum the sum, of a last_value the newest value, of a summary or distribution how many measurements.
    """

    name: str
    tags: Mapping[str, str]
    value: float


class RunningReporter(Protocol):
    """A reporter in a running application."""

    resolution: float
    """How far a sum may be off because of the reporter's format; 0 for most, 0.5 where it takes integers only."""

    def flush(self) -> object:
        """Have the reporter send what happened, and wait until that is done or has failed."""

    def received(self) -> Sequence[Received]:
        """Answer what came out since the start, at whatever the reporter sends to."""

    def malformed(self) -> int:
        """Answer how much came out that the receiving side could not read."""

    def crash(self) -> None:
        """Kill the reporter's actor, best while it sends, and wait until its supervisor has restarted it."""

    def break_endpoint(self, how: Literal["dead", "slow"]) -> None:
        """Let the receiving side be away or dawdle; raise NotApplicable where there is none."""

    def mend_endpoint(self) -> None:
        """Let the receiving side be well again."""


class ReporterUnderTest(Protocol):
    """What the suite needs of a reporter's author."""

    def running(self, metrics: Sequence[Metric]) -> AbstractContextManager[RunningReporter]:
        """Run an application with these metrics and the reporter, which sends only when asked to."""


class Case(msgspec.Struct, frozen=True):
    """One rule, as a sentence, and the check of it."""

    name: str
    check: Callable[[ReporterUnderTest], None]

    def __call__(self, reporter: ReporterUnderTest) -> None:
        """Check the rule; AssertionError, or NotApplicable."""
        self.check(reporter)

    def __str__(self) -> str:
        return self.name


_CASES: list[Case] = []


def _case(check: Callable[[ReporterUnderTest], None]) -> Callable[[ReporterUnderTest], None]:
    _CASES.append(Case(check.__name__.lstrip("_").replace("_", " "), check))
    return check


def _emit(measurements: Mapping[str, Any] | None = None, **metadata: Any) -> None:
    execute(EVENT, measurements or {}, metadata)


def _thing(name: str) -> str:
    return f"{EVENT}.{name}"


def _total(run: RunningReporter, name: str) -> float:
    return math.fsum(each.value for each in run.received() if each.name == _thing(name))


def _expect(run: RunningReporter, **totals: float) -> None:
    """Compare the totals of metrics, and that all that came out could be read."""
    got = {name: _total(run, name) for name in totals}
    assert got == totals, f"expected totals {totals}, got: {got}"
    assert run.malformed() == 0, f"expected everything to be readable, got: {run.malformed()} that was not"


def _expect_near(run: RunningReporter, name: str, value: float) -> None:
    got = _total(run, name)
    assert abs(got - value) <= run.resolution + 1e-9, f"expected {name} near {value}, got: {got}"
    assert run.malformed() == 0, f"expected everything to be readable, got: {run.malformed()} that was not"


# -- what happened comes out -----------------------------------------------------------------------------------------


@_case
def _every_kind_comes_out(reporter: ReporterUnderTest) -> None:
    metrics = [
        counter(_thing("count")),
        m.sum(_thing("amount")),
        last_value(_thing("level")),
        summary(_thing("weight")),
        distribution(_thing("duration"), unit=("native", "millisecond")),
    ]
    with reporter.running(metrics) as run:
        for n in range(1, 5):
            _emit({"amount": n, "level": n, "weight": n, "duration": n * 10**6})
        run.flush()

        _expect(run, count=4, amount=10, level=4, weight=4, duration=4)


@_case
def _what_came_out_once_does_not_come_out_again(reporter: ReporterUnderTest) -> None:
    with reporter.running([counter(_thing("count")), m.sum(_thing("amount")), summary(_thing("weight"))]) as run:
        _emit({"amount": 2, "weight": 1})
        run.flush()
        run.flush()
        _emit({"amount": 3, "weight": 1})
        run.flush()
        run.flush()

        _expect(run, count=2, amount=5, weight=2)


@_case
def _tags_tell_series_apart(reporter: ReporterUnderTest) -> None:
    with reporter.running([counter(_thing("count"), tags=["queue"])]) as run:
        for queue in ("a", "b", "a"):
            _emit(queue=queue)
        run.flush()

        _expect(run, count=3)
        values = sorted(each.value for each in run.received() if each.name == _thing("count"))
        assert values == [1, 2], f"expected one series of 1 and one of 2, got: {values}"


@_case
def _float_sums_are_added_up_over_flushes(reporter: ReporterUnderTest) -> None:
    with reporter.running([m.sum(_thing("amount")), m.sum(_thing("loss"))]) as run:
        for _ in range(10):
            _emit({"amount": 0.1, "loss": -0.4})
            run.flush()

        _expect_near(run, "amount", 1.0)
        _expect_near(run, "loss", -4.0)


@_case
def _a_sum_may_go_down(reporter: ReporterUnderTest) -> None:
    with reporter.running([m.sum(_thing("balance"))]) as run:
        for change in (7, -5, -6, 1):
            _emit({"balance": change})
            run.flush()

        _expect(run, balance=-3)


@_case
def _a_negative_last_value_is_a_value_and_not_a_change(reporter: ReporterUnderTest) -> None:
    with reporter.running([last_value(_thing("level"))]) as run:
        for level in (7, -5, -2):
            _emit({"level": level})
            run.flush()

        _expect(run, level=-2)


@_case
def _a_unit_is_converted_before_it_comes_out(reporter: ReporterUnderTest) -> None:
    with reporter.running([m.sum(_thing("time"), unit=("native", "second"))]) as run:
        _emit({"time": 3 * 10**9})
        run.flush()

        _expect(run, time=3)


# -- odd events cost their sample and nothing else -------------------------------------------------------------------


@_case
def _missing_and_non_numeric_measurements_are_left_out(reporter: ReporterUnderTest) -> None:
    metrics = [
        m.sum(_thing("amount")),
        summary(_thing("weight")),
        last_value(_thing("level")),
        counter(_thing("count")),
    ]
    with reporter.running(metrics) as run:
        for odd in ("12", None, [1], {"n": 1}, math.nan, math.inf, -math.inf, 10**400):
            _emit({"amount": odd, "weight": odd, "level": odd})
        _emit({})
        _emit({"amount": 2, "weight": 2, "level": 2})
        run.flush()

        _expect(run, amount=2, weight=1, level=2, count=10)


@_case
def _functions_that_raise_cost_their_sample(reporter: ReporterUnderTest) -> None:
    def raises(metadata: Mapping[str, Any]) -> dict[str, Any]:
        if metadata["bad"]:
            raise SystemExit("from a user's function")
        return {"queue": "a"}

    metrics = [
        counter(_thing("tags"), tags=raises),
        counter(_thing("tag_values"), tags=["queue"], tag_values=raises),
        counter(_thing("kept"), keep=raises),
        counter(_thing("dropped"), drop=raises),
        m.sum(_thing("measured"), measurement=lambda _, metadata: len(raises(metadata))),
        counter(_thing("count")),
    ]
    with reporter.running(metrics) as run:
        for bad in (True, False, True):
            _emit(bad=bad)
        run.flush()

        _expect(run, tags=1, tag_values=1, kept=1, dropped=0, measured=1, count=3)


@_case
def _keep_and_drop_may_take_two_arguments(reporter: ReporterUnderTest) -> None:
    metrics = [
        counter(_thing("kept"), keep=lambda metadata, measurements: measurements["n"] > metadata["limit"]),
        counter(_thing("dropped"), drop=lambda metadata, measurements: measurements["n"] > metadata["limit"]),
    ]
    with reporter.running(metrics) as run:
        for n in range(5):
            _emit({"n": n}, limit=2)
        run.flush()

        _expect(run, kept=2, dropped=3)


@_case
def _tags_that_are_maps_lists_or_hostile_cost_nobody_a_sample(reporter: ReporterUnderTest) -> None:
    class Hostile:
        def __hash__(self) -> int:
            raise RuntimeError("not hashable")

        def __str__(self) -> str:
            raise RuntimeError("not text")

    with reporter.running([counter(_thing("count"), tags=["odd", "queue"])]) as run:
        for odd in ({"a": 1}, ["a"], {"a"}, b"a", Hostile(), 1, 1.0, True, "1"):
            _emit(odd=odd, queue="q")
        run.flush()

        _expect(run, count=9)


@_case
def _nil_empty_and_missing_tags_cost_nobody_a_sample(reporter: ReporterUnderTest) -> None:
    with reporter.running(
        [counter(_thing("count"), tags=["queue"]), counter(_thing("pair"), tags=["queue", "b"])]
    ) as run:
        for metadata in ({"queue": None}, {"queue": ""}, {}, {"queue": "q"}):
            execute(EVENT, {}, metadata)
        run.flush()

        _expect(run, count=4, pair=4)


@_case
def _more_series_than_allowed_share_one_and_lose_nothing(reporter: ReporterUnderTest) -> None:
    with reporter.running([counter(_thing("count"), tags=["user"], reporter_options={"max_series": 5})]) as run:
        for n in range(50):
            _emit(user=f"u{n}")
        run.flush()

        _expect(run, count=50)
        series = sum(each.name == _thing("count") for each in run.received())
        assert series == 6, f"expected five series and the overflow series, got: {series}"


# -- hostile names and texts -----------------------------------------------------------------------------------------

_INJECTIONS = (
    "a\nconformance.fake:9|c",
    "a\r\n",
    "a|c|#b:c",
    "a,b:c",
    "a@0.1",
    'a"} 9\n',
    "\\",
    "\0",
    "\x1b[2J",
    "\u2028",
    "\ud800",
)


@_case
def _no_tag_can_forge_a_line(reporter: ReporterUnderTest) -> None:
    with reporter.running([counter(_thing("count"), tags=["text"])]) as run:
        for text in _INJECTIONS:
            _emit(text=text)
        run.flush()

        _expect(run, count=len(_INJECTIONS))
        names = {each.name for each in run.received()}
        assert names == {_thing("count")}, f"expected nothing but the counter, got: {names}"


@_case
def _no_name_can_forge_a_line(reporter: ReporterUnderTest) -> None:
    names = [f"{n}{text}".replace(".", "-") for n, text in enumerate(_INJECTIONS)]
    metrics = [counter((name, "n"), event_name=EVENT, tags=_function_that_answers({name: "v"})) for name in names]
    with reporter.running([*metrics, counter(_thing("count"))]) as run:
        _emit()
        run.flush()

        _expect(run, count=1)
        values = [each.value for each in run.received()]
        assert values == [1] * (len(names) + 1), f"expected each counter once, with 1, got: {values}"


def _function_that_answers(tags: dict[str, str]) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    return lambda metadata: tags


@_case
def _what_is_too_large_harms_no_neighbour(reporter: ReporterUnderTest) -> None:
    tags = [f"{LONG}{n}" for n in range(20)]
    with reporter.running(
        [counter(_thing("before")), counter(_thing("huge"), tags=tags), counter(_thing("after"))]
    ) as run:
        execute(EVENT, {}, dict.fromkeys(tags, "é" * 10_000))
        run.flush()

        _expect(run, before=1, after=1)
        assert _total(run, "huge") in (0, 1)


# -- crashes and endpoints that are away -----------------------------------------------------------------------------


@_case
def _a_crash_neither_loses_nor_repeats_anything(reporter: ReporterUnderTest) -> None:
    with reporter.running(
        [counter(_thing("count"), tags=["n"]), m.sum(_thing("amount")), summary(_thing("weight"))]
    ) as run:
        for round_ in range(1, 4):
            for n in range(100):
                _emit({"amount": 2, "weight": 1}, n=n)
            run.crash()
            _emit({"amount": 2, "weight": 1}, n="after")
            run.flush()

            _expect(run, count=101 * round_, amount=202 * round_, weight=101 * round_)


def _endpoint_case(how: Literal["dead", "slow"]) -> Callable[[ReporterUnderTest], None]:
    def check(reporter: ReporterUnderTest) -> None:
        neighbour: list[object] = []
        with reporter.running([counter(_thing("count"), tags=["n"]), last_value(_thing("level"))]) as run:
            attach("conformance-neighbour", EVENT, lambda *event: neighbour.append(event))
            try:
                run.break_endpoint(how)
                for n in range(200):
                    _emit({"level": n}, n=n % 100)
                run.flush()
                _emit({"level": 200}, n=0)
                run.flush()
                _wait_until(lambda: len(neighbour) == 201)
                run.mend_endpoint()
                run.flush()

                _expect(run, count=201, level=200)
            finally:
                detach("conformance-neighbour")

    return check


_CASES.append(Case("a dead endpoint costs nobody anything and gets everything when it is back", _endpoint_case("dead")))
_CASES.append(Case("a slow endpoint costs nobody anything and gets everything in the end", _endpoint_case("slow")))


def _wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(int(WAIT_S / 0.002)):
        if condition():
            return
        waiter().wait(0.002)
    raise AssertionError("expected a handler beside the reporter to go on, got: it has not")


CASES: tuple[Case, ...] = tuple(_CASES)
"""Every rule; call each with a fresh `ReporterUnderTest`."""
