"""Records reach a real endpoint at least once, whatever it does, and every one of them is accounted for.

Most tests drive the courier step by step under a fake clock, so that they wait for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
import tenacity

from app.events import DECLARED
from reporters.delivery import Answer, Batching, Courier, HttpTransport, RetryPolicy, Verdict, wait_retry_after
from reporters.spool import Record, RecordClass, Spool, SpoolUnavailable
from runtime.clock import FakeClock
from runtime.errors import AlreadyStarted, InvalidValue
from runtime.testing import capture_events
from tests.reporters.delivery.endpoint import Behaviour, Endpoint, answer, closed_port, endpoint, reset, silence
from tests.reporters.spool.conftest import MakeSpool
from tests.runtime.meeting import PATIENCE_S, until

EXACT = RetryPolicy(wait=wait_retry_after(tenacity.wait_exponential(multiplier=1, max=60)))
"""The default without its chance: 1, 2, 4, … s."""


def encode(records: Sequence[Record], batch_id: str) -> bytes:
    return msgspec.json.encode({"batch_id": batch_id, "events": [[one.id, one.payload.decode()] for one in records]})


def courier(spool: Spool, url: str, clock: FakeClock, **options: Any) -> Courier:
    options = {"retry": EXACT, "encode": encode, **options}
    return Courier("test", spool, "default", HttpTransport(url, clock=clock), clock=clock, **options)


def arrived(there: Endpoint) -> list[str]:
    """The payloads of all requests, in their order."""
    return [payload for request in there.requests for _, payload in request.json()["events"]]


def fates(one: Courier) -> dict[str, int]:
    return {fate: number for fate, number in one.statistics().records.items() if number}


# -- batches -----------------------------------------------------------------------------------------------------------


def test_a_batch_goes_out_when_its_oldest_record_is_a_second_old(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    with endpoint() as there:
        one = courier(spool, there.url, clock)
        waits = [one.step()]
        spool.commit(b"a")
        clock.advance(0.25)
        spool.commit(b"b")
        waits.append(one.step())
        clock.advance(0.75)
        waits += [one.step(), one.step()]

    assert waits == [None, 0.75, 0, None]
    assert [len(request.json()["events"]) for request in there.requests] == [2]
    assert spool.statistics().classes["default"].delivered == 2


def test_a_clock_that_is_set_back_holds_nothing_up(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    spool.commit(b"a")
    with endpoint() as there:
        one = courier(spool, there.url, FakeClock(system_ns=clock.system_ns() - 3_600_000_000_000))

        assert one.step() == 0

    assert arrived(there) == ["a"]


@pytest.mark.parametrize(
    ("batching", "sizes"), [(Batching(max_rows=4), [4, 4]), (Batching(max_bytes=30, max_rows=100), [3, 3, 3])]
)
def test_a_batch_goes_out_at_once_when_it_is_full(make_spool: MakeSpool, batching: Batching, sizes: list[int]) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    for number in range(10):
        spool.commit(b"%010d" % number)
    with endpoint() as there:
        one = courier(spool, there.url, clock, batching=batching)
        while one.step() == 0:
            pass

    assert [len(request.json()["events"]) for request in there.requests] == sizes


def test_the_same_batch_has_the_same_id_when_it_is_sent_again(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    spool.commit(b"a")
    clock.advance(1)
    with endpoint(answer(503), answer(202)) as there:
        one = courier(spool, there.url, clock)
        one.step()
        clock.advance(60)
        one.step()

    first, second = there.requests
    assert first.unpacked() == second.unpacked()
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == first.json()["batch_id"]


# -- decisions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour", [*(answer(status) for status in (408, 425, 429, 500, 502, 503, 504)), reset, Ellipsis]
)
def test_trouble_that_may_pass_keeps_the_records_and_waits_longer_each_time(
    make_spool: MakeSpool, behaviour: Behaviour
) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    spool.commit(b"a")
    clock.advance(1)
    with endpoint(answer(503) if behaviour is Ellipsis else behaviour) as there, closed_port() as port:
        url = f"http://127.0.0.1:{port}/" if behaviour is Ellipsis else there.url
        one = courier(spool, url, clock)
        waits = []
        for _ in range(8):
            assert one.step() == 0
            wait_s = one.step()
            assert wait_s is not None
            waits.append(wait_s)
            clock.advance(wait_s)

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    told = spool.statistics().classes["default"]
    assert (told.stored, told.leased, told.delivered) == (1, 0, 0)
    assert one.statistics().answers == {"retry": 8}


@pytest.mark.parametrize("status", [400, 401, 404, 301, 501])
def test_what_is_refused_for_good_is_a_dead_letter_with_the_reason(make_spool: MakeSpool, status: int) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    spool.commit(b"a")
    spool.commit(b"b")
    clock.advance(1)
    buried = []
    with endpoint(answer(status, b"no such tenant")) as there:
        one = courier(spool, there.url, clock, on_buried=lambda *told: buried.append(told))
        one.step()

    letters = spool.dead_letters()
    assert [letter.payload for letter in letters] == [b"b", b"a"]
    assert {(letter.kind, letter.reason) for letter in letters} == {("rejected", f"{status} Said: no such tenant")}
    assert [(len(records), kind) for records, kind, _ in buried] == [(2, "rejected")]
    assert fates(one) == {"rejected": 2}
    assert one.statistics().circuit.state == "closed"


def test_retry_after_is_honoured_in_both_forms(make_spool: MakeSpool) -> None:
    clock = FakeClock(system_ns=1_445_412_360_000_000_000)  # Wed, 21 Oct 2015 07:26:00 GMT
    spool = make_spool(clock=clock)
    spool.commit(b"a")
    clock.advance(60)
    date = "Retry-After: Wed, 21 Oct 2015 07:28:40 GMT"
    with endpoint(answer(429, b"", "Retry-After: 40"), answer(503, b"", date), answer()) as there:
        one = courier(spool, there.url, clock)
        one.step()
        first = one.step()
        clock.advance(40)
        one.step()
        second = one.step()

    assert (first, second) == (40, 60)


def test_a_batch_that_is_too_large_is_halved_until_it_fits_and_grows_again(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    for number in range(100):
        spool.commit(b"%d" % number)
    clock.advance(1)
    with endpoint() as there:
        there.becomes(*(answer(413),) * 3, answer())
        one = courier(spool, there.url, clock)
        while one.step() == 0:
            pass

    sizes = [len(request.json()["events"]) for request in there.requests]
    assert sizes[:4] == [100, 50, 25, 12]
    assert sizes[4:] == [15, 18, 22, 27, 6]
    assert sorted(set(arrived(there)), key=int) == [str(number) for number in range(100)]
    assert fates(one) == {"delivered": 100}


def test_a_single_record_that_is_too_large_is_a_dead_letter_and_the_others_arrive(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    for payload in (b"a", b"x" * 5_000, b"b"):
        spool.commit(payload)
    clock.advance(1)

    class Picky:
        """An endpoint with a bound on what it takes."""

        def __init__(self) -> None:
            self.taken: list[bytes] = []

        def send(self, body: bytes, key: str) -> Answer:
            if len(body) > 1_000:
                return Answer(Verdict.SPLIT, "413", 413)
            self.taken.append(body)
            return Answer(Verdict.DELIVERED, "200", 200)

        def cut(self) -> None: ...

    one = Courier("test", spool, "default", Picky(), encode, clock=clock)
    while one.step() == 0:
        pass

    assert fates(one) == {"delivered": 2, "too_large": 1}
    assert [len(letter.payload) for letter in spool.dead_letters()] == [5_000]


def test_a_record_that_cannot_be_encoded_is_a_dead_letter_and_the_others_arrive(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    for payload in (b"a", b"b", b"\xff poison", b"c", b"d"):
        spool.commit(payload)
    clock.advance(1)
    with endpoint() as there:
        one = courier(spool, there.url, clock)
        while one.step() == 0:
            pass

    assert arrived(there) == ["a", "b", "c", "d"]
    assert fates(one) == {"delivered": 4, "poison": 1}
    assert "UnicodeDecodeError" in spool.dead_letters()[0].reason


def test_a_record_may_have_a_bounded_number_of_attempts(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    spool.commit(b"a")
    clock.advance(1)
    policy = RetryPolicy(wait=tenacity.wait_fixed(1), stop=tenacity.stop_after_attempt(3))
    with endpoint(answer(503)) as there:
        one = courier(spool, there.url, clock, retry=policy)
        for _ in range(10):
            one.step()
            clock.advance(1)

    assert len(there.requests) == 3
    assert fates(one) == {"attempts": 1}
    assert spool.dead_letters()[0].reason == "503 Said"


# -- the circuit -------------------------------------------------------------------------------------------------------


def test_the_circuit_opens_probes_and_closes_for_all_to_see(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    spool.commit(b"a")
    clock.advance(1)
    with endpoint(answer(503)) as there:
        one = courier(spool, there.url, clock, circuit_threshold=2)
        states = [one.statistics().circuit.state]
        for _ in range(2):
            one.step()
            states.append(one.statistics().circuit.state)
            clock.advance(1)
        clock.advance(1)
        states.append(one.statistics().circuit.state)
        there.becomes(answer())
        one.step()
        states.append(one.statistics().circuit.state)

    assert states == ["closed", "closed", "open", "half_open", "closed"]
    assert one.statistics().circuit.opened == 1


def test_an_endpoint_that_is_down_for_a_minute_is_left_alone_and_then_gets_everything(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    with endpoint(answer(503)) as there:
        one = courier(spool, there.url, clock)
        for second in range(60):
            for number in range(10):
                spool.commit(b"%d" % (second * 10 + number))
            clock.advance(1)
            while one.step() == 0:
                pass
        during = len(there.requests)
        there.requests.clear()
        there.becomes(answer())
        for _ in range(70):
            clock.advance(1)
            while one.step() == 0:
                pass

    assert 5 <= during <= 8  # 1, 2, 4, 8, 16, 32 s between them
    assert arrived(there) == [str(number) for number in range(600)]
    assert spool.statistics().classes["default"].delivered == 600


def test_of_an_endpoint_that_fails_seven_times_in_ten_everything_arrives(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    for number in range(500):
        spool.commit(b"%d" % number)
    with endpoint() as there:
        there.becomes(*(answer(503 if number % 10 < 7 else 202) for number in range(1_000)))
        one = courier(spool, there.url, clock, batching=Batching(max_rows=20))
        while spool.statistics().classes["default"].stored:
            clock.advance(one.step() or 0)

    assert fates(one) == {"delivered": 500}
    assert {*arrived(there)} == {str(number) for number in range(500)}


# -- trouble with the spool --------------------------------------------------------------------------------------------


def test_what_was_delivered_and_could_not_be_written_down_is_written_down_later_and_not_sent_again(
    make_spool: MakeSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    spool.commit(b"a")
    clock.advance(1)
    settle, told = spool.settle, []

    def unable(*args: Any) -> None:
        told.append(args)
        if len(told) < 3:
            raise SpoolUnavailable("disk_full")
        settle(*args)

    monkeypatch.setattr(spool, "settle", unable)
    with endpoint() as there:
        one = courier(spool, there.url, clock)
        waits = [one.step() for _ in range(4)]

    assert waits == [1.0, 1.0, 0, None]
    assert len(there.requests) == 1
    assert spool.statistics().classes["default"].delivered == 1


def test_a_courier_that_vanishes_in_the_middle_costs_nothing_but_time(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    spool.commit(b"a")
    spool.lease("default", lease_s=70)  # of a courier that is no more
    with endpoint() as there:
        one = courier(spool, there.url, clock)
        clock.advance(1)
        before = one.step()
        clock.advance(69)
        one.step()

    assert before == 1.0
    assert arrived(there) == ["a"]


# -- the thread --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(make_spool: MakeSpool) -> Callable[..., tuple[Spool, Courier]]:
    """Start a courier with its thread and the machine's clock; stop it behind the test."""

    def start(url: str, **options: Any) -> tuple[Spool, Courier]:
        spool = make_spool()
        one = Courier("test", spool, "default", HttpTransport(url, timeout_s=300), encode, **options)
        one.start()
        return spool, one

    return start


def test_records_arrive_without_anybody_asking(run: Callable[..., tuple[Spool, Courier]]) -> None:
    with endpoint() as there:
        spool, one = run(there.url, batching=Batching(max_rows=10, max_age_s=0.05))
        for number in range(105):
            spool.offer(b"%d" % number)
        until(lambda: one.statistics().records.get("delivered") == 105)
        assert one.stop(PATIENCE_S)

    assert arrived(there) == [str(number) for number in range(105)]
    assert one.statistics().state == "stopped"


def test_stopping_delivers_what_waits_without_waiting_for_its_age(run: Callable[..., tuple[Spool, Courier]]) -> None:
    with endpoint() as there:
        spool, one = run(there.url, batching=Batching(max_rows=10, max_age_s=3_600))
        for number in range(25):
            spool.commit(b"%d" % number)

        assert one.stop(PATIENCE_S)

    assert {*arrived(there)} == {str(number) for number in range(25)}


def test_stopping_does_not_wait_for_an_endpoint_that_hangs_and_the_rest_stays(
    run: Callable[..., tuple[Spool, Courier]],
) -> None:
    with endpoint(silence) as there:
        spool, one = run(there.url, batching=Batching(max_rows=1))
        spool.commit(b"a")
        spool.commit(b"b")
        there.wait_for(lambda seen: seen.requests)

        one.stop(0.5)
        until(lambda: one.statistics().state == "stopped")  # long before the 300 seconds that a request may take

    told = spool.statistics().classes["default"]
    assert (told.stored, told.leased, told.delivered) == (2, 0, 0)


def test_stopping_does_not_try_an_endpoint_that_is_down(run: Callable[..., tuple[Spool, Courier]]) -> None:
    with endpoint(answer(503, b"", "Retry-After: 3000")) as there:
        spool, one = run(there.url, batching=Batching(max_rows=1))
        spool.commit(b"a")
        until(lambda: one.statistics().circuit.failures)

        assert one.stop(PATIENCE_S)

    assert len(there.requests) == 1


def test_a_listener_or_transport_that_fails_does_not_end_the_delivery(make_spool: MakeSpool) -> None:
    spool = make_spool()
    answers = [RuntimeError("a defect"), Answer(Verdict.DELIVERED, "200", 200)]

    class Broken:
        def send(self, body: bytes, key: str) -> Answer:
            next_one = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(next_one, Exception):
                raise next_one
            return next_one

        def cut(self) -> None: ...

    def fail(records: Sequence[Record]) -> None:
        raise RuntimeError("another defect")

    policy = RetryPolicy(wait=tenacity.wait_none())
    one = Courier(
        "test", spool, "default", Broken(), encode, retry=policy, batching=Batching(max_rows=1), on_delivered=fail
    )
    one.start()
    spool.commit(b"a")
    spool.commit(b"b")

    until(lambda: one.statistics().records.get("delivered") == 2)
    assert one.stop(PATIENCE_S)


def test_two_couriers_of_one_spool_never_carry_the_same_record_at_once(make_spool: MakeSpool) -> None:
    spool = make_spool(classes=[RecordClass("default")])
    with endpoint() as there:
        couriers = [
            Courier(
                "test", spool, "default", HttpTransport(there.url, timeout_s=300), encode, batching=Batching(max_rows=7)
            )
            for _ in range(2)
        ]
        for one in couriers:
            one.start()
        for number in range(300):
            spool.offer(b"%d" % number)
        assert spool.flush()
        stopped = [one.stop(PATIENCE_S) for one in couriers]

    assert stopped == [True, True]
    assert sorted(arrived(there), key=int) == [str(number) for number in range(300)]


def test_dead_letters_and_circuit_changes_are_events(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    spool.commit(b"a")
    clock.advance(1)
    with endpoint(answer(503), answer(404)) as there, capture_events("telemetry.delivery.*") as captured:
        one = courier(spool, there.url, clock, circuit_threshold=1)
        one.step()
        clock.advance(1)
        one.step()

    told = [(event.name, event.metadata.get("state") or event.metadata.get("kind")) for event in captured.events]
    assert told == [
        ("telemetry.delivery.circuit", "open"),
        ("telemetry.delivery.circuit", "closed"),
        ("telemetry.delivery.dead_letter", "rejected"),
    ]
    assert [DECLARED.check(event) for event in captured.events] == [[]] * 3


def test_a_circuit_that_opens_without_a_pause_is_told_as_well(make_spool: MakeSpool) -> None:
    clock = FakeClock()
    spool = make_spool(clock=clock)
    spool.commit(b"a")
    clock.advance(1)
    impatient = RetryPolicy(wait=tenacity.wait_none())
    with endpoint(answer(503), answer(503), answer()) as there:
        with capture_events("telemetry.delivery.circuit") as captured:
            one = courier(spool, there.url, clock, circuit_threshold=1, retry=impatient)
            while one.step() == 0:
                pass

    assert [event.metadata["state"] for event in captured.events] == ["open", "closed"]


def test_misuse_is_an_error_at_the_call(make_spool: MakeSpool) -> None:
    with pytest.raises(InvalidValue, match="expected max_rows to be a positive number, got: 0"):
        Batching(max_rows=0)
    with pytest.raises(InvalidValue, match="expected wait to be a tenacity wait policy, got: 5"):
        RetryPolicy(wait=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="expected threshold to be a positive number of failures, got: 0"):
        courier(make_spool(), "http://h/", FakeClock(), circuit_threshold=0)
    one = courier(make_spool(), "http://h/", FakeClock())
    assert one.stop(PATIENCE_S)
    with pytest.raises(AlreadyStarted):
        one.start()
